//! The agent's directory: who holds it, and files that are whole or not there.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

/// A directory that this process alone uses, as long as the value lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Takes the directory, making it when it is missing.
    ///
    /// # Errors
    /// Another agent uses it, or it cannot be used.
    pub fn take(path: &Path) -> Result<Self> {
        let shown = path.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("directory {shown}"))?;
        let file = path.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&file)
            .with_context(|| format!("lock file {}", file.display()))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            lock.read_to_string(&mut holder)?;
            bail!(
                "{shown} is in use by another orch-agent (process {}); give this one another --dir",
                holder.trim()
            );
        }
        lock.set_len(0)?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file's path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Replaces a file, readable by its owner only: after a power cut there is the old one or the new one.
    ///
    /// # Errors
    /// The disk is full or fails; the old file is still there.
    pub fn replace(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        let fresh = self.join(&format!("{name}.new"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&fresh, self.join(name))?;
        File::open(&self.path)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn two_agents_never_share_a_directory() {
        let place = tempfile::tempdir().unwrap();
        let held = Directory::take(place.path()).unwrap();
        let refusal = Directory::take(place.path()).unwrap_err().to_string();
        assert!(refusal.contains(&std::process::id().to_string()), "{refusal}");
        drop(held);
        Directory::take(place.path()).unwrap();
    }

    #[test]
    fn a_replaced_file_is_for_its_owner_only() {
        let place = tempfile::tempdir().unwrap();
        let directory = Directory::take(place.path()).unwrap();
        directory.replace("secret", b"one").unwrap();
        directory.replace("secret", b"two").unwrap();
        let path = directory.join("secret");
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
