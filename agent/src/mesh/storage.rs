//! The last configuration, kept for the case that the mesh starts again before its agent does.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use mesh::control::MeshConfig;

/// The file; replaced as a whole. Not synced: after a power cut the agent configures the mesh anyway.
#[derive(Debug)]
pub struct Storage(PathBuf);

impl Storage {
    /// In an agent's directory.
    pub fn new(directory: &Path) -> Self {
        Self(directory.join("mesh.table"))
    }

    /// Reads it; `None` when there is none.
    ///
    /// # Errors
    /// It cannot be read or understood.
    pub fn load(&self) -> Result<Option<MeshConfig>> {
        let shown = self.0.display();
        match fs::read(&self.0) {
            Ok(bytes) => {
                rmp_serde::from_slice(&bytes).map(Some).with_context(|| format!("{shown} is damaged"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{shown}")),
        }
    }

    /// Replaces it.
    ///
    /// # Errors
    /// The disk is full or fails; the old one is still there.
    pub fn save(&self, config: &MeshConfig) -> Result<()> {
        let bytes = rmp_serde::to_vec_named(config).context("the configuration has no encoding")?;
        let fresh = self.0.with_extension("table.new");
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)
            .and_then(|mut file| file.write_all(&bytes))
            .and_then(|()| fs::rename(&fresh, &self.0));
        written.with_context(|| format!("{}", self.0.display()))
    }
}
