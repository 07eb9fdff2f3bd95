//! The configuration file; every key is optional.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::mesh::{self, AccessLogBounds};

/// What an admin may set.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the engine listens: `unix:///path`, or `http://host:port` on a machine where that is safe.
    pub engine: Option<String>,
    /// The file with `docker login`'s answers [default: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`].
    pub docker_config: Option<PathBuf>,
    /// Managers to dial besides those that the cluster names, HOST:PORT.
    pub managers: Vec<String>,
    /// Labels for placement constraints; they win over those given at joining.
    pub labels: BTreeMap<String, String>,
    /// The host name to report instead of the machine's own.
    pub hostname: Option<String>,
    /// The TCP port on which other nodes reach this one's containers [default: 7421]. 0: this node is not dialled, it dials out.
    pub mesh_port: Option<u16>,
    /// Where other nodes dial that port, HOST [default: the address that this machine has towards the managers].
    pub mesh_address: Option<String>,
    /// MiB of one file of the access log [default: 16], once the mesh process starts anew.
    pub access_log_mib: Option<u32>,
    /// Files of the access log [default: 4], once the mesh process starts anew.
    pub access_log_files: Option<u32>,
    /// Where secrets and configs of containers are kept, on a tmpfs [default: /run/orch-agent, $XDG_RUNTIME_DIR/orch-agent or
    /// /dev/shm/orch-agent, the first that is on one].
    pub memory_dir: Option<PathBuf>,
    /// error, warn, info, debug, trace, or a list of directives. `ORCH_LOG` wins.
    pub log: Option<String>,
    /// JSON lines instead of text.
    pub log_json: bool,
}

impl Config {
    /// How much of the access log is kept.
    pub fn access_log(&self) -> AccessLogBounds {
        AccessLogBounds {
            size: self.access_log_mib.map_or(mesh::ACCESS_LOG_SIZE, |mib| u64::from(mib.max(1)) << 20),
            files: self.access_log_files.unwrap_or(mesh::ACCESS_LOG_FILES),
        }
    }

    /// Reads a file. A file that was not asked for by name may be missing.
    ///
    /// # Errors
    /// It cannot be read, or holds a key that does not exist; says where.
    pub fn read(asked: Option<&Path>, default: &Path) -> Result<Self> {
        let path = asked.unwrap_or(default);
        match fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).with_context(|| format!("configuration {}", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound && asked.is_none() => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("configuration {}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_named() {
        let error = toml::from_str::<Config>("engin = \"unix:///x\"").unwrap_err().to_string();
        assert!(error.contains("engin"), "{error}");
    }

    #[test]
    fn the_commented_configuration_names_every_key_as_it_is() {
        let text = include_str!("../../deploy/systemd/agent.toml");
        let keys =
            text.lines().filter_map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')));
        let config: Config = toml::from_str(&keys.collect::<Vec<_>>().join("\n")).unwrap();
        assert!(
            config.engine.is_some() && config.docker_config.is_some() && config.labels.contains_key("rack")
        );
    }

    #[test]
    fn a_missing_default_file_is_fine_and_a_missing_named_one_is_not() {
        let nowhere = Path::new("/nonexistent/agent.toml");
        assert_eq!(Config::read(None, nowhere).unwrap(), Config::default());
        assert!(Config::read(Some(nowhere), nowhere).is_err());
    }
}
