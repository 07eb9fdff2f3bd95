//! `manager.toml`: what an administrator may set. Every key has a default; an unknown one is refused.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use manager_core::Knobs;
use serde::Deserialize;

use crate::dir::DataDir;

/// The port when none is named.
pub const DEFAULT_PORT: u16 = 7420;

/// The file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileConfig {
    /// Where to listen, `address:port`; default: every address, on the port of `address`.
    pub listen: Option<String>,
    /// Where others reach this manager, `host:port`; default: what init or join was told. A change is announced to the
    /// cluster at the next start.
    pub address: Option<String>,
    /// Log level: error, warn, info, debug, trace, or a tracing filter.
    pub log: Option<String>,
    /// Log as JSON lines.
    pub log_json: bool,
    /// Raft's timing.
    pub raft: RaftConfig,
    /// Snapshots.
    pub snapshot: SnapshotConfig,
}

/// `[raft]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RaftConfig {
    /// The unit of the timers, 5-1000 ms; default 10.
    pub tick_ms: Option<u64>,
    /// The shortest election timeout in ticks, at least 5; default 15.
    pub election_ticks: Option<u32>,
}

/// `[snapshot]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SnapshotConfig {
    /// Entries between two snapshots, at least 100; default 10,000.
    pub entries: Option<u64>,
}

impl FileConfig {
    /// Reads `manager.toml`, or the defaults when there is none.
    pub fn read(dir: &DataDir) -> Result<Self> {
        let path = dir.root().join("manager.toml");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let config: Self =
            toml::from_str(&text).with_context(|| format!("{} is malformed", path.display()))?;
        config.check().with_context(|| format!("{} is not valid", path.display()))?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let tick = self.raft.tick_ms.unwrap_or(10);
        ensure!((5..=1000).contains(&tick), "raft.tick_ms: {tick} is outside of 5 to 1000");
        let election = self.raft.election_ticks.unwrap_or(15);
        ensure!((5..=1000).contains(&election), "raft.election_ticks: {election} is outside of 5 to 1000");
        let entries = self.snapshot.entries.unwrap_or(10_000);
        ensure!(entries >= 100, "snapshot.entries: {entries} is below 100");
        Ok(())
    }

    /// The core's knobs with what the file sets.
    pub fn knobs(&self) -> Knobs {
        let mut knobs = Knobs::default();
        if let Some(tick) = self.raft.tick_ms {
            knobs.tick = Duration::from_millis(tick);
        }
        if let Some(election) = self.raft.election_ticks {
            knobs.election_ticks = election;
            knobs.election_spread = election;
        }
        if let Some(entries) = self.snapshot.entries {
            knobs.snapshot_entries = entries;
        }
        knobs
    }
}

/// Adds the default port to a host without one.
pub fn with_port(address: &str) -> String {
    let has_port = address.rsplit_once(':').is_some_and(|(host, port)| {
        port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
    });
    if has_port { address.to_owned() } else { format!("{address}:{DEFAULT_PORT}") }
}

/// Where to listen for an address that others use: every address, on the same port.
pub fn listen_for(address: &str) -> String {
    let port = address.rsplit_once(':').map_or("", |(_, port)| port);
    format!("0.0.0.0:{}", port.parse().unwrap_or(DEFAULT_PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_port_gets_the_default_one() {
        assert_eq!(with_port("m1.example"), "m1.example:7420");
        assert_eq!(with_port("m1.example:99"), "m1.example:99");
        assert_eq!(with_port("[::1]:99"), "[::1]:99");
    }

    #[test]
    fn an_unknown_key_and_an_absurd_number_are_refused() {
        assert!(toml::from_str::<FileConfig>("lisen = \"x\"").is_err());
        let config: FileConfig = toml::from_str("[raft]\ntick_ms = 1").expect("parses");
        assert!(config.check().expect_err("too short").to_string().contains("raft.tick_ms"));
    }
}
