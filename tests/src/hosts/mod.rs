//! N hosts on one switch, each with its own kernel namespaces and Docker Engine.
//!
//! ```no_run
//! let lab = tests::hosts::Lab::start(3)?;
//! lab.host(1).cut()?;
//! assert!(!lab.host(0).reaches(lab.host(1)));
//! # Ok::<(), anyhow::Error>(())
//! ```
//!
//! Rejected: one engine with containers as hosts (an engine in a container shares the outer one's cgroups and storage
//! driver, and killing it is not a host's death), and virtual machines (no nested virtualisation on most runners).
//!
//! Read in this order: this file, [`host`], [`switch`], [`ground`].

mod ground;
pub mod host;
pub mod namespace;
pub mod switch;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub use host::Host;

use crate::packages;
use ground::Ground;
use switch::Switch;

/// A /24 has room for more; two cores have not.
pub const MAX_HOSTS: usize = 32;

/// The machine's own last byte on the switch.
const UPLINK: usize = 254;
/// The last byte of the switch's own address, which programs in its namespace use.
const SWITCH: usize = 253;

/// Address number `number` of a laboratory's subnet; each laboratory has its own, so that two uplinks do not collide.
fn address_of(ground: &Ground, number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, ground.number(), u8::try_from(number).expect("a last byte"))
}

/// What to set up.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub hosts: usize,
    /// So many of them, the first ones, get an engine. A host without one is a place for managers: up in some 30 ms.
    pub engines: usize,
}

/// Hosts on a switch. Everything is gone when this is dropped or the process ends.
#[derive(Debug)]
pub struct Lab {
    // Order matters: processes end before their namespaces and directories go.
    hosts: Vec<Host>,
    switch: Switch,
    ground: Ground,
}

impl Lab {
    /// Sets up `hosts` hosts with an engine each.
    ///
    /// # Errors
    /// As [`Lab::with`].
    pub fn start(hosts: usize) -> Result<Lab> {
        Lab::with(Plan { hosts, engines: hosts })
    }

    /// Sets up what `plan` says; engines start at the same time.
    ///
    /// # Errors
    /// Not root, a package cannot be installed, or a daemon does not come up (the message holds its log).
    pub fn with(plan: Plan) -> Result<Lab> {
        assert!(plan.hosts <= MAX_HOSTS, "at most {MAX_HOSTS} hosts");
        packages::ensure(&packages::NETWORK)?;
        if plan.engines > 0 {
            packages::ensure(&packages::ENGINE)?;
        }
        let ground = Ground::claim()?;
        let switch = Switch::create(&ground.name("sw"), address_of(&ground, SWITCH))?;
        let mut lab = Lab { hosts: Vec::new(), switch, ground };
        for number in 1..=plan.hosts {
            let address = address_of(&lab.ground, number);
            let host = Host::create(&lab.ground, &lab.switch, number, address)?;
            lab.hosts.push(host);
        }
        lab.start_engines(plan.engines)?;
        Ok(lab)
    }

    fn start_engines(&self, engines: usize) -> Result<()> {
        let started: Vec<Result<()>> = std::thread::scope(|scope| {
            let starts: Vec<_> =
                self.hosts.iter().take(engines).map(|host| scope.spawn(|| host.engine().start())).collect();
            starts.into_iter().map(|start| start.join().expect("an engine's start does not panic")).collect()
        });
        started.into_iter().collect::<Result<()>>().context("cannot start the engines")
    }

    /// Host `index`, from 0; its name counts from 1.
    ///
    /// # Panics
    /// There is no such host.
    pub fn host(&self, index: usize) -> &Host {
        &self.hosts[index]
    }

    /// All hosts.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The switch that joins them.
    pub fn switch(&self) -> &Switch {
        &self.switch
    }

    /// The laboratory's directory, on a disk; gone with it.
    pub fn dir(&self) -> &Path {
        self.ground.dir()
    }

    /// Where every daemon's log is. Kept, and its place printed, when the test fails.
    pub fn logs(&self) -> PathBuf {
        self.ground.logs()
    }

    /// Moves the daemons' logs to where they outlive the laboratory, and says where that is. No daemon can be started
    /// afterwards.
    ///
    /// # Errors
    /// They are moved already.
    pub fn keep_logs(&self) -> Result<PathBuf> {
        self.ground.keep_logs()
    }

    /// Gives this machine itself a port on the switch, so that programs outside of the hosts reach them. Until then
    /// nothing of the laboratory can be seen from the machine's own network.
    ///
    /// # Errors
    /// The machine has such a network already.
    pub fn uplink(&self) -> Result<Ipv4Addr> {
        let address = address_of(&self.ground, UPLINK);
        self.switch.uplink(&format!("orch{}", self.ground.number()), address)?;
        Ok(address)
    }
}
