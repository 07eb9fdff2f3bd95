//! A whole cluster of real processes: managers, agents, an operator's `orchctl`, and ways to hurt each of them.
//!
//! ```no_run
//! use tests::cluster::{Cluster, Plan};
//! let cluster = Cluster::start(Plan::lab(3, 3))?;
//! cluster.ctl().ok(&["service", "create", "--name", "web", "--replicas", "3", "orch/mimic:1"])?;
//! cluster.manager(cluster.leader()?).kill()?;
//! cluster.wait_healthy("web", 3, std::time::Duration::from_secs(30))?;
//! # Ok::<(), anyhow::Error>(())
//! ```
//!
//! On loopback a cluster needs neither root nor an engine; its managers have a 127/8 address that no other test
//! process has. In a laboratory every node is a host with an engine and every manager a host without one, so that
//! links can be cut and hosts switched off.
//!
//! Read in this order: this file, [`daemon`], [`ctl`], [`view`], [`containers`], [`seat`], then [`boot`].

pub mod boot;
pub mod containers;
pub mod ctl;
pub mod daemon;
pub mod seat;
pub mod view;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::engine::Engine;
use crate::hosts::Lab;
use crate::wait;
pub use containers::Container;
use ctl::{Ctl, Said};
use daemon::Daemon;
use view::{Member, Task};

/// Between two questions that cost a process each.
pub const ASK: Duration = Duration::from_millis(40);
/// For what happens in a second or two on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where the daemons run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// This machine's loopback. Nodes, if any, share this machine's engine.
    Loopback,
    /// Hosts of a laboratory of its own.
    Lab {
        /// Whether this machine gets an address there, for a person who wants to type `orchctl`.
        uplink: bool,
    },
}

/// What to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// One, three or five.
    pub managers: usize,
    pub nodes: usize,
    pub place: Place,
    /// Programs with optimisation, for figures.
    pub release: bool,
}

impl Plan {
    /// Managers on loopback and no node.
    pub fn loopback(managers: usize) -> Plan {
        Plan { managers, nodes: 0, place: Place::Loopback, release: false }
    }

    /// Hosts.
    pub fn lab(managers: usize, nodes: usize) -> Plan {
        Plan { managers, nodes, place: Place::Lab { uplink: false }, release: false }
    }
}

/// A node: its agent, and its engine.
#[derive(Debug)]
pub struct Node {
    agent: Daemon,
    engine: Engine,
}

impl Node {
    /// The agent.
    pub fn agent(&self) -> &Daemon {
        &self.agent
    }

    /// The engine, to be asked. To hurt it, go through the laboratory's host.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// One HTTP request from this node.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn get(&self, address: SocketAddr, path: &str) -> Result<crate::http::Answer> {
        match self.agent.seat().host() {
            Some(host) => host.get(address, path),
            None => crate::http::get(address, path, Duration::from_secs(5)),
        }
    }

    /// Its name in the cluster.
    pub fn name(&self) -> &str {
        self.agent.name()
    }
}

/// A cluster. Everything is gone when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    // Order matters: processes end before the ground that they stand on goes.
    managers: Vec<Daemon>,
    nodes: Vec<Node>,
    ctl: Ctl,
    plan: Plan,
    first_port: u16,
    programs: crate::binaries::Binaries,
    lab: Option<Arc<Lab>>,
    home: Home,
}

/// The directory of a cluster without a laboratory: kept, and its place printed, when the test fails.
#[derive(Debug)]
struct Home {
    dir: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(temporary) = self.temporary.take()
        {
            eprintln!("the daemons' data and logs: {}", temporary.keep().display());
        }
    }
}

impl Drop for Cluster {
    /// What ran on this machine's own engine goes too: no laboratory takes it away.
    fn drop(&mut self) {
        if self.lab.is_some() || self.nodes.is_empty() {
            return;
        }
        let daemons = self.managers.iter().chain(self.nodes.iter().map(Node::agent));
        daemons.for_each(|daemon| drop(daemon.kill()));
        if let Err(error) = boot::cluster_of(self.ctl.config())
            .and_then(|cluster| containers::remove_all(self.nodes[0].engine(), &cluster))
        {
            eprintln!("containers may be left behind: {error:#}");
        }
    }
}

impl Cluster {
    /// Starts it, and waits until every manager votes and every node is ready.
    ///
    /// # Errors
    /// Something does not come up; the message holds the end of its log.
    pub fn start(plan: Plan) -> Result<Cluster> {
        boot::start(plan)
    }

    /// The operator's `orchctl`.
    pub fn ctl(&self) -> &Ctl {
        &self.ctl
    }

    /// The laboratory.
    ///
    /// # Panics
    /// The cluster is on loopback.
    pub fn lab(&self) -> &Lab {
        self.lab.as_deref().expect("the plan has a laboratory")
    }

    /// What `orchctl` says when it knows manager `index` only.
    ///
    /// # Panics
    /// There is no such manager.
    pub fn manager_says(&self, index: usize, args: &[&str]) -> Said {
        let file = self.home.dir.join(format!("only-m{}.toml", index + 1));
        std::fs::copy(self.ctl.config(), &file).expect("the context file is there");
        boot::set_managers(&file, &[self.address(index)]).expect("it holds a context");
        self.ctl.with_config(file).say(args)
    }

    /// The cluster's own directory, for files that a test needs.
    pub fn dir(&self) -> &std::path::Path {
        &self.home.dir
    }

    /// Manager `index`, from 0.
    ///
    /// # Panics
    /// There is none.
    pub fn manager(&self, index: usize) -> &Daemon {
        &self.managers[index]
    }

    /// All managers.
    pub fn managers(&self) -> &[Daemon] {
        &self.managers
    }

    /// Where manager `index` listens.
    pub fn address(&self, index: usize) -> String {
        boot::address(self.first_port, index, self.managers[index].seat())
    }

    /// Node `index`, from 0.
    ///
    /// # Panics
    /// There is none.
    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The index of the node of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn index_of(&self, node: &str) -> Result<usize> {
        self.nodes.iter().position(|n| n.name() == node).with_context(|| format!("no node {node:?}"))
    }

    /// The managers as the leader sees them.
    ///
    /// # Errors
    /// No leader answers.
    pub fn members(&self) -> Result<Vec<Member>> {
        let rows = self.ctl.json(&["manager", "ls"])?;
        rows.as_array().context("a list")?.iter().map(Member::read).collect()
    }

    /// The index of the manager that leads, by its own word.
    ///
    /// # Errors
    /// None does within a minute.
    pub fn leader(&self) -> Result<usize> {
        self.ask("a leader", PATIENCE, || {
            let leader = self.members().ok()?.into_iter().find(|member| member.leader)?;
            self.managers.iter().position(|manager| manager.name() == leader.name)
        })
    }

    /// The row of a service in `service ls`.
    ///
    /// # Errors
    /// There is none.
    pub fn service(&self, name: &str) -> Result<Value> {
        let rows = self.ctl.json(&["service", "ls"])?;
        let found = rows
            .as_array()
            .and_then(|rows| rows.iter().find(|row| row["service"]["spec"]["name"] == name).cloned());
        found.with_context(|| format!("no service {name}"))
    }

    /// The tasks of a service that have not ended.
    ///
    /// # Errors
    /// There is no such service.
    pub fn tasks(&self, service: &str) -> Result<Vec<Task>> {
        self.rows(&["ps", "--service", service])
    }

    /// The tasks of a service, ended ones included.
    ///
    /// # Errors
    /// There is no such service.
    pub fn history(&self, service: &str) -> Result<Vec<Task>> {
        self.rows(&["ps", "--service", service, "--all"])
    }

    fn rows(&self, args: &[&str]) -> Result<Vec<Task>> {
        self.ctl.json(args)?.as_array().context("a list")?.iter().map(Task::read).collect()
    }

    /// Waits until exactly `count` tasks of the service are active and all of them healthy; returns them.
    ///
    /// # Errors
    /// Not within `limit`; the message holds the tasks.
    pub fn wait_healthy(&self, service: &str, count: usize, limit: Duration) -> Result<Vec<Task>> {
        self.wait_tasks(&format!("{count} healthy tasks of {service}"), service, limit, |tasks| {
            let active: Vec<&Task> = tasks.iter().filter(|task| task.is_active()).collect();
            active.len() == count && active.iter().all(|task| task.is_healthy())
        })
    }

    /// Waits until `condition` holds for the tasks of a service that have not ended; returns them.
    ///
    /// # Errors
    /// Not within `limit`; the message holds the tasks.
    pub fn wait_tasks(
        &self,
        what: &str,
        service: &str,
        limit: Duration,
        condition: impl Fn(&[Task]) -> bool,
    ) -> Result<Vec<Task>> {
        let waited = self.ask(what, limit, || self.tasks(service).ok().filter(|tasks| condition(tasks)));
        waited.with_context(|| format!("{:#?}", self.tasks(service)))
    }

    /// Waits until a node is in a state (`ready`, `down`).
    ///
    /// # Errors
    /// Not within `limit`.
    pub fn wait_node(&self, name: &str, state: &str, limit: Duration) -> Result<()> {
        self.ask(&format!("{name} to be {state}"), limit, || {
            (self.node_state(name).ok()? == state).then_some(())
        })
    }

    /// The state of a node.
    ///
    /// # Errors
    /// There is none.
    pub fn node_state(&self, name: &str) -> Result<String> {
        let rows = self.ctl.json(&["node", "ls"])?;
        let views = rows.as_array().context("a list")?;
        let view = views.iter().find(|view| view["node"]["facts"]["hostname"] == name);
        let state = view.and_then(|view| view["node"]["state"].as_str());
        state.map(str::to_owned).with_context(|| format!("no node {name} in {rows}"))
    }

    /// The containers of `service` on all engines that answer, straight from these.
    pub fn containers(&self, service: &str) -> Vec<Container> {
        let mut engines: Vec<&Engine> = self.nodes.iter().map(Node::engine).collect();
        engines.dedup_by_key(|engine| engine.socket().to_owned());
        engines.into_iter().filter_map(|engine| containers::on(engine, service).ok()).flatten().collect()
    }

    /// Running containers by slot, straight from the engines.
    pub fn per_slot(&self, service: &str) -> BTreeMap<String, usize> {
        containers::per_slot(&self.containers(service))
    }

    /// Waits until the engines run exactly one container for each of `slots` slots and none beside them.
    ///
    /// # Errors
    /// Not within `limit`; the message holds what they run.
    pub fn wait_one_per_slot(&self, service: &str, slots: usize, limit: Duration) -> Result<()> {
        let waited = self.ask(&format!("one container for each slot of {service}"), limit, || {
            let found = self.per_slot(service);
            (found.len() == slots && found.values().all(|count| *count == 1)).then_some(())
        });
        waited.with_context(|| format!("{:#?}", self.containers(service)))
    }

    /// Asks `probe`, which costs a process, until it gives a value.
    ///
    /// # Errors
    /// `limit` passed first; the message holds the ends of the daemons' logs.
    pub fn ask<T>(&self, what: &str, limit: Duration, probe: impl FnMut() -> Option<T>) -> Result<T> {
        wait::until_every(ASK, what, limit, probe).with_context(|| self.last_words())
    }

    /// How long until `probe` gives true, counted from `since`.
    ///
    /// # Errors
    /// As [`Cluster::ask`].
    pub fn took(&self, since: Instant, what: &str, mut probe: impl FnMut() -> bool) -> Result<Duration> {
        self.ask(what, PATIENCE, || probe().then(|| since.elapsed()))
    }

    /// The ends of all daemons' logs.
    pub fn last_words(&self) -> String {
        let daemons = self.managers.iter().chain(self.nodes.iter().map(Node::agent));
        daemons.map(Daemon::last_words).collect::<Vec<_>>().join("\n")
    }

    /// Loads the mimic's images into every engine.
    ///
    /// # Errors
    /// They do not build, or an engine is away.
    pub fn load_mimic(&self) -> Result<()> {
        let archive = crate::image::mimic_archive()?;
        let loaded: Vec<Result<()>> = std::thread::scope(|scope| {
            let loads: Vec<_> =
                self.nodes.iter().map(|node| scope.spawn(|| node.engine().load(&archive))).collect();
            loads.into_iter().map(|load| load.join().expect("loading does not panic")).collect()
        });
        loaded.into_iter().collect()
    }

    /// Asks path `path` of a running container, from its own host.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn get(&self, container: &Container, path: &str) -> Result<crate::http::Answer> {
        let (node, address) = self.locate(container)?;
        node.get(address, path)
    }

    /// The node that runs a container, and where it serves there.
    ///
    /// # Errors
    /// It runs nowhere.
    pub fn locate(&self, container: &Container) -> Result<(&Node, SocketAddr)> {
        let found = self.nodes.iter().find_map(|node| {
            let address = node.engine().address(&container.id).ok()?;
            Some((node, (address, crate::image::MIMIC_PORT).into()))
        });
        found.with_context(|| format!("{} runs nowhere", container.name))
    }
}
