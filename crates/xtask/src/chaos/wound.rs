//! Doing a fault, and healing it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use tests::cluster::containers;
use tests::cluster::daemon::Daemon;
use tests::command::run;
use tests::hosts::Host;
use tests::proxy::{Proxy, Slowness};
use tests::wait;

use super::fault::{Fault, Kind, MANAGERS, SMALL_DISK, Target};
use super::site::{BUSY, Site};

/// Where managers listen.
const PORT: u16 = 7420;
/// A pulse of resets: long enough that every connection sends something.
const PULSE: Duration = Duration::from_millis(400);
/// Slow, and enough for a cluster without load.
const BYTES_PER_SECOND: u32 = 128 << 10;
/// A manager that cannot sync ends at its next write.
const END: Duration = Duration::from_secs(3);

/// A fault that was done and has to be healed.
pub struct Wound {
    pub fault: Fault,
    /// The manager or node that it hit.
    pub victim: usize,
    proxy: Option<Proxy>,
    /// When it is to be healed, if before the end.
    until: Option<Instant>,
}

/// What the wounds of a round have hit.
#[derive(Debug, Default, Clone)]
pub struct Hit {
    pub managers: BTreeSet<usize>,
    pub nodes: BTreeSet<usize>,
}

impl Hit {
    /// Of some wounds.
    pub fn by(wounds: &[Wound]) -> Hit {
        let mut hit = Hit::default();
        for wound in wounds {
            match wound.fault.kind.target() {
                Target::Manager => drop(hit.managers.insert(wound.victim)),
                Target::Managers => hit.managers.extend(0..MANAGERS),
                Target::Node => drop(hit.nodes.insert(wound.victim)),
                Target::Replica => {}
            }
        }
        hit
    }
}

impl Site {
    /// Does it. `hit` is what the round has hit before: a manager that is hit already is spared for the next one, and the
    /// fault left out when only that one will do.
    ///
    /// # Errors
    /// It cannot be done.
    pub fn hurt(&self, fault: Fault, hit: &Hit) -> Result<Option<Wound>> {
        let taken = match fault.kind.target() {
            Target::Manager => hit.managers.len() == MANAGERS,
            Target::Managers => !hit.managers.is_empty(),
            Target::Node => hit.nodes.contains(&fault.victim),
            Target::Replica => false,
        };
        if taken {
            return Ok(None);
        }
        let mut victim = fault.victim;
        // Nobody leads while a majority is hit.
        if fault.leader && fault.kind.target() == Target::Manager && hit.managers.len() <= MANAGERS / 2 {
            victim = self.cluster.leader()?;
        }
        while fault.kind.target() == Target::Manager && hit.managers.contains(&victim) {
            if fault.kind == Kind::DiskFull {
                return Ok(None);
            }
            victim = (victim + 1) % MANAGERS;
        }
        let mut wound = Wound { fault, victim, proxy: None, until: None };
        match fault.kind.target() {
            Target::Manager | Target::Managers => wound.hurt_manager(self)?,
            Target::Node => wound.hurt_node(self)?,
            Target::Replica => self.misbehave(fault),
        }
        wound.until = fault.lasts.map(|lasts| Instant::now() + lasts);
        Ok(Some(wound))
    }

    /// Makes every replica of the busy service that answers misbehave.
    fn misbehave(&self, fault: Fault) {
        let path = if fault.kind == Kind::ReplicaCrash { "/crash?code=1" } else { "/hang" };
        for node in self.cluster.nodes() {
            let running = containers::running(node.engine()).unwrap_or_default();
            for replica in running.iter().filter(|container| container.service == BUSY).take(1) {
                // It dies before it can answer.
                drop(self.cluster.get(replica, path));
            }
        }
    }
}

impl Wound {
    fn hurt_manager(&mut self, site: &Site) -> Result<()> {
        let (manager, host) = (site.manager(self.victim), site.manager_host(self.victim));
        let shim = || manager.shim().expect("every daemon has one");
        match self.fault.kind {
            Kind::ManagerKill => manager.kill(),
            Kind::ManagersKill => site.cluster.managers().iter().try_for_each(|manager| manager.kill()),
            Kind::ManagerFreeze => manager.freeze(),
            Kind::ManagerPower => host.power_off(),
            Kind::ManagerCut => host.cut(),
            Kind::ManagerOneWay => host.cut_one_way(self.fault.way),
            Kind::Resets => reset(host),
            Kind::SlowLink => {
                let slowness = Slowness { delay: self.fault.delay, bytes_per_second: BYTES_PER_SECOND };
                let proxy = self.proxy.insert(Proxy::start(host, PORT, slowness)?);
                host.redirect(PORT, proxy.port())?;
                reset(host)
            }
            Kind::SyncFailure => shim().fail_syncs(true),
            Kind::DiskFull => site.small.fill(host),
            Kind::ManagerClock => shim().set_clock(self.fault.leap_s),
            Kind::LogDamage => manager.kill().and_then(|()| decay(host, manager)),
            other => unreachable!("{other} hits no manager"),
        }
    }

    fn hurt_node(&self, site: &Site) -> Result<()> {
        let (node, host) = (site.node(self.victim), site.node_host(self.victim));
        match self.fault.kind {
            Kind::AgentKill => node.agent().kill(),
            Kind::AgentFreeze => node.agent().freeze(),
            Kind::AgentClock => {
                node.agent().shim().expect("every daemon has one").set_clock(self.fault.leap_s)
            }
            Kind::EngineKill => host.engine().kill(),
            Kind::EngineFreeze => host.engine().freeze(),
            Kind::ContainerdKill => host.engine().kill_containerd(),
            Kind::ContainerdFreeze => host.engine().freeze_containerd(),
            Kind::NodePower => host.power_off(),
            Kind::NodeCut => host.cut(),
            Kind::NodeOneWay => host.cut_one_way(self.fault.way),
            other => unreachable!("{other} hits no node"),
        }
    }

    /// Whether it is time to heal it before the others.
    pub fn is_due(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    /// Takes the cause away, as a person or a supervisor would; what follows is the cluster's own work.
    ///
    /// # Errors
    /// It cannot be done.
    pub fn heal(self, site: &Site) -> Result<()> {
        match self.fault.kind.target() {
            Target::Manager | Target::Managers => self.heal_manager(site),
            Target::Node => self.heal_node(site),
            Target::Replica => Ok(()),
        }
    }

    fn heal_manager(self, site: &Site) -> Result<()> {
        let (manager, host) = (site.manager(self.victim), site.manager_host(self.victim));
        let shim = || manager.shim().expect("every daemon has one");
        match self.fault.kind {
            Kind::ManagerKill | Kind::LogDamage => manager.start(),
            Kind::ManagersKill => site.cluster.managers().iter().try_for_each(|manager| manager.start()),
            Kind::ManagerFreeze => manager.thaw(),
            Kind::ManagerPower => {
                host.power_on()?;
                if self.victim == SMALL_DISK {
                    site.small.mount(host)?;
                }
                manager.start()
            }
            Kind::ManagerCut | Kind::ManagerOneWay => host.restore(),
            Kind::Resets => Ok(()),
            Kind::SlowLink => {
                host.end_redirect()?;
                drop(self.proxy);
                Ok(())
            }
            Kind::SyncFailure => {
                // One that had nothing to write meanwhile has met no failure.
                let ended = manager.wait_exit(END).is_ok();
                shim().fail_syncs(false)?;
                if ended { manager.start() } else { Ok(()) }
            }
            Kind::DiskFull => site.small.empty(host),
            Kind::ManagerClock => shim().set_clock(0),
            other => unreachable!("{other} hits no manager"),
        }
    }

    fn heal_node(self, site: &Site) -> Result<()> {
        let (node, host) = (site.node(self.victim), site.node_host(self.victim));
        match self.fault.kind {
            Kind::AgentKill => node.agent().start(),
            Kind::AgentFreeze => node.agent().thaw(),
            Kind::AgentClock => node.agent().shim().expect("every daemon has one").set_clock(0),
            Kind::EngineKill | Kind::ContainerdKill => host.engine().start(),
            Kind::EngineFreeze => host.engine().thaw(),
            Kind::ContainerdFreeze => host.engine().thaw_containerd(),
            Kind::NodePower => {
                host.power_on()?;
                host.engine().start()?;
                node.agent().start()
            }
            Kind::NodeCut | Kind::NodeOneWay => host.restore(),
            other => unreachable!("{other} hits no node"),
        }
    }
}

/// Overwrites a few bytes of the oldest segment's first batch. On the host, where a disk of its own is mounted.
fn decay(host: &Host, manager: &Daemon) -> Result<()> {
    let script = "file=$(ls \"$1\"/raft/log-* | head -n1); printf decay | \
                  dd of=\"$file\" bs=1 seek=12388 conv=notrunc status=none";
    run(host.command("sh").args(["-c", script, "decay"]).arg(manager.dir())).map(drop)
}

fn reset(host: &Host) -> Result<()> {
    host.resetting(PORT, || wait::steadily("the resets", PULSE, || true))
}
