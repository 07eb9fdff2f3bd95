//! Where a daemon runs: on this machine's loopback, or on a host of a laboratory.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::Result;

use crate::hosts::{Host, Lab};
use crate::process::Process;

/// A place for a daemon.
#[derive(Debug, Clone)]
pub enum Seat {
    /// This machine, at a loopback address.
    Here { address: Ipv4Addr, logs: PathBuf },
    /// Host `index` of a laboratory, which lives as long as anybody sits in it.
    Host { lab: Arc<Lab>, index: usize },
}

impl Seat {
    /// The address that others reach it by.
    pub fn address(&self) -> Ipv4Addr {
        match self {
            Seat::Here { address, .. } => *address,
            Seat::Host { .. } => self.host().expect("a host's seat").address(),
        }
    }

    /// The host, if it is one.
    pub fn host(&self) -> Option<&Host> {
        match self {
            Seat::Here { .. } => None,
            Seat::Host { lab, index } => Some(lab.host(*index)),
        }
    }

    /// A command that runs there.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.host().map_or_else(|| Command::new(program.as_ref()), |host| host.command(program.as_ref()))
    }

    /// Starts a daemon there.
    ///
    /// # Errors
    /// As [`Process::spawn`].
    pub fn spawn(&self, name: &str, command: Command) -> Result<Process> {
        match self {
            Seat::Here { logs, .. } => Process::spawn(name, logs, command),
            Seat::Host { .. } => self.host().expect("a host's seat").spawn(name, command),
        }
    }

    /// A directory for a daemon's data, on a disk that survives the host.
    pub fn data(&self, root: &Path, name: &str) -> PathBuf {
        self.host().map_or_else(|| root.join(name), |host| host.disk().join(name))
    }
}
