//! The admin's entry in orchctl's context file (the format is orchctl's; see `cli/src/context.rs`).

use std::{
    env, fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use model::id::ClusterId;
use toml::{Table, Value};

use crate::dir::write_durably;

/// One context.
pub struct AdminContext {
    /// Its name.
    pub name: String,
    /// The cluster.
    pub cluster: ClusterId,
    /// Managers to ask.
    pub managers: Vec<String>,
    /// The authority's certificate, PEM.
    pub ca: String,
    /// The operator's certificate, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: String,
}

impl AdminContext {
    /// Writes it: alone into `out`, or into orchctl's own file beside what is there, as the current one.
    pub fn write(&self, out: Option<&Path>) -> Result<PathBuf> {
        if let Some(path) = out {
            let mut table = Table::new();
            table.insert("context".into(), Value::Array(vec![self.entry()]));
            return save(path, &table);
        }
        let path = own_file()?;
        let mut table: Table = match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).with_context(|| format!("{} is malformed", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Table::new(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let contexts = table.entry("context").or_insert_with(|| Value::Array(Vec::new()));
        let contexts =
            contexts.as_array_mut().with_context(|| format!("{}: context is no list", path.display()))?;
        contexts.retain(|c| c.get("name").and_then(Value::as_str) != Some(&self.name));
        contexts.push(self.entry());
        table.insert("current".into(), Value::String(self.name.clone()));
        save(&path, &table)
    }

    fn entry(&self) -> Value {
        let mut entry = Table::new();
        let text = |text: &str| Value::String(text.to_owned());
        entry.insert("name".into(), text(&self.name));
        entry.insert("managers".into(), self.managers.iter().map(|m| text(m)).collect::<Vec<_>>().into());
        entry.insert("ca".into(), text(&self.ca));
        entry.insert("certificate".into(), text(&self.certificate));
        entry.insert("key".into(), text(&self.key));
        entry.insert("cluster".into(), text(&self.cluster.to_string()));
        Value::Table(entry)
    }
}

fn own_file() -> Result<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(file) = variable("ORCH_CONFIG") {
        return Ok(file);
    }
    let base = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
    let base =
        base.context("neither ORCH_CONFIG nor HOME says where the context file is: use --context-out FILE")?;
    Ok(base.join("orch/config.toml"))
}

fn save(path: &Path, table: &Table) -> Result<PathBuf> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .with_context(|| format!("cannot make {}", parent.display()))?;
    }
    write_durably(path, toml::to_string(table).context("the context does not encode")?.as_bytes(), 0o600)?;
    Ok(path.to_owned())
}
