//! The cluster under test: three managers and three nodes on hosts, with a shim under every daemon and a small disk under
//! one of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::cluster::containers::{self, Container};
use tests::cluster::daemon::Daemon;
use tests::cluster::{Cluster, Node, PATIENCE, Plan};
use tests::hosts::Host;
use tests::image::{MIMIC_1, MIMIC_CHECKED};
use tests::shim::Shim;
use tests::small_disk::SmallDisk;
use tests::wait;

use super::fault::{MANAGERS, NODES, SMALL_DISK};

/// Nobody touches it: whatever happens to its containers on a node that was not hurt is a violation.
pub const STEADY: &str = "steady";
/// Scaled, updated, crashed and hung meanwhile.
pub const BUSY: &str = "busy";
const STEADY_REPLICAS: usize = 3;
const SMALL_BYTES: u64 = 320 << 20;
/// Between two looks, each of which costs four processes.
const LOOK: Duration = Duration::from_millis(400);
/// It has to stay so for longer than a new leader waits before it judges a node that has not come back.
const CALM: Duration = Duration::from_secs(4);

/// The cluster, and what hurts it.
pub struct Site {
    pub cluster: Cluster,
    pub small: SmallDisk,
}

impl Site {
    /// Sets everything up.
    ///
    /// # Errors
    /// Something does not come up.
    pub fn start() -> Result<Site> {
        let cluster = Cluster::start(Plan::lab(MANAGERS, NODES))?;
        cluster.load_mimic()?;
        let library = Shim::compile(cluster.dir())?;
        let shim = |daemon: &Daemon| -> Result<()> {
            daemon.stop()?;
            let orders = cluster.dir().join(format!("{}.orders", daemon.name()));
            daemon.set_shim(Shim::new(&library, orders)?);
            Ok(())
        };
        let mut small = None;
        for (index, manager) in cluster.managers().iter().enumerate() {
            shim(manager)?;
            if index == SMALL_DISK {
                let host = manager.seat().host().expect("a laboratory");
                small = Some(SmallDisk::under(host, manager.dir(), SMALL_BYTES)?);
            }
            manager.start()?;
            cluster.wait_voters(MANAGERS)?;
        }
        for node in cluster.nodes() {
            shim(node.agent())?;
            node.agent().start()?;
            cluster.wait_node(node.name(), "ready", PATIENCE)?;
        }
        let site = Site { cluster, small: small.expect("one of three") };
        site.create(STEADY, STEADY_REPLICAS, MIMIC_1)?;
        site.create(BUSY, 2, MIMIC_CHECKED)?;
        Ok(site)
    }

    fn create(&self, name: &str, replicas: usize, image: &str) -> Result<()> {
        let replicas = replicas.to_string();
        let args = ["service", "create", "--name", name, "--replicas", &replicas, "--restart-delay", "0s"];
        self.cluster.ctl().ok(&[&args[..], &["--detach", image]].concat()).map(drop)
    }

    /// Manager `index`.
    pub fn manager(&self, index: usize) -> &Daemon {
        self.cluster.manager(index)
    }

    /// Node `index`.
    pub fn node(&self, index: usize) -> &Node {
        self.cluster.node(index)
    }

    /// The host of manager `index`.
    pub fn manager_host(&self, index: usize) -> &Host {
        self.manager(index).seat().host().expect("a laboratory")
    }

    /// The host of node `index`.
    pub fn node_host(&self, index: usize) -> &Host {
        self.node(index).agent().seat().host().expect("a laboratory")
    }

    /// The ids of the untouched service's containers, by node.
    ///
    /// # Errors
    /// An engine does not answer.
    pub fn steady(&self) -> Result<Vec<Vec<String>>> {
        let nodes = self.cluster.nodes().iter();
        nodes
            .map(|node| {
                let running = containers::running(node.engine())?;
                let ours = running.into_iter().filter(|container| container.service == STEADY);
                let mut ids: Vec<String> = ours.map(|container| container.id).collect();
                ids.sort();
                Ok(ids)
            })
            .collect()
    }

    /// Waits until everything that was declared is so and stays so: managers, nodes, replicas, containers. Returns how
    /// long it took until it was so.
    ///
    /// # Errors
    /// Not within `limit`; the message says what was missing last.
    pub fn converge(
        &self,
        busy: u32,
        limit: Duration,
        mut meanwhile: impl FnMut() -> Result<()>,
    ) -> Result<Duration> {
        let begun = Instant::now();
        let mut missing = String::new();
        let mut since: Option<(Instant, Vec<Vec<String>>)> = None;
        let waited = wait::until_every(LOOK, "the cluster to be as declared", limit, || {
            let steady = meanwhile().and_then(|()| self.as_declared(busy)).and_then(|()| self.steady());
            let steady = match steady {
                Ok(steady) => steady,
                Err(error) => {
                    missing = format!("{error:#}");
                    since = None;
                    return None;
                }
            };
            let (calm, same) = since.get_or_insert_with(|| (Instant::now(), steady.clone()));
            if *same != steady {
                since = None;
                return None;
            }
            (calm.elapsed() > CALM).then(|| *calm - begun)
        });
        waited.map_err(|error| error.context(missing).context(self.cluster.last_words()))
    }

    fn as_declared(&self, busy: u32) -> Result<()> {
        let members = self.cluster.members()?;
        ensure!(
            members.len() == MANAGERS && members.iter().all(|member| member.voter && member.reachable),
            "{members:#?}"
        );
        for node in self.cluster.nodes() {
            let state = self.cluster.node_state(node.name())?;
            ensure!(state == "ready", "{} is {state}", node.name());
        }
        self.whole(STEADY, STEADY_REPLICAS)?;
        self.whole(BUSY, busy as usize)
    }

    fn whole(&self, service: &str, replicas: usize) -> Result<()> {
        let mut tasks = self.cluster.tasks(service)?;
        tasks.retain(|task| task.is_active());
        ensure!(tasks.len() == replicas && tasks.iter().all(|task| task.is_healthy()), "{tasks:#?}");
        let mut running = Vec::new();
        for node in self.cluster.nodes() {
            running.extend(containers::running(node.engine())?.into_iter().filter(|c| c.service == service));
        }
        let slots = containers::per_slot(&running);
        let one_each = slots.len() == replicas && slots.values().all(|count| *count == 1);
        ensure!(one_each, "{service}: {running:#?}");
        Ok(())
    }
}

/// Running containers by service and slot.
pub fn by_slot<'a>(
    running: impl Iterator<Item = &'a Container>,
) -> BTreeMap<(String, String), Vec<&'a Container>> {
    let mut slots: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for container in running {
        slots.entry((container.service.clone(), container.slot.clone())).or_default().push(container);
    }
    slots
}
