//! How a cluster comes up, in the order in which an administrator would type it.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, ensure};

use super::ctl::{Ctl, Said};
use super::daemon::Daemon;
use super::seat::Seat;
use super::{Cluster, Home, Node, PATIENCE, Place, Plan};
use crate::binaries::Binaries;
use crate::engine;
use crate::hosts::{self, Lab};

/// The product's own default.
const PORT: u16 = 7420;
/// More managers than a cluster has, so that clusters of one process do not meet.
const PORTS: u16 = 16;

pub(super) fn start(plan: Plan) -> Result<Cluster> {
    let mut cluster = ground(plan)?;
    cluster.found()?;
    for _ in 1..plan.managers {
        cluster.add_manager()?;
    }
    if plan.managers > 1 {
        cluster.wait_voters(plan.managers)?;
    }
    cluster.write_context()?;
    cluster.join_nodes()?;
    Ok(cluster)
}

/// Where manager `index` listens.
pub(super) fn address(first_port: u16, index: usize, seat: &Seat) -> String {
    let port = match seat {
        Seat::Here { .. } => first_port + u16::try_from(index).expect("a few managers"),
        Seat::Host { .. } => PORT,
    };
    format!("{}:{port}", seat.address())
}

/// The place, and nothing on it.
fn ground(plan: Plan) -> Result<Cluster> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let programs = if plan.release { Binaries::release()? } else { Binaries::get()? };
    let hosts = hosts::Plan { hosts: plan.nodes + plan.managers, engines: plan.nodes };
    let lab = match plan.place {
        Place::Loopback => None,
        Place::Lab { .. } => Some(Arc::new(Lab::with(hosts)?)),
    };
    let outside = matches!(plan.place, Place::Lab { uplink: true });
    if let Some(lab) = lab.as_ref().filter(|_| outside) {
        lab.uplink()?;
    }
    let home = home(lab.as_deref())?;
    let ctl = Ctl {
        program: programs.ctl.clone(),
        config: home.dir.join("context.toml"),
        lab: lab.clone().filter(|_| !outside),
    };
    let first_port = PORT + PORTS * NEXT.fetch_add(1, Ordering::Relaxed);
    Ok(Cluster { managers: Vec::new(), nodes: Vec::new(), ctl, plan, first_port, programs, lab, home })
}

fn home(lab: Option<&Lab>) -> Result<Home> {
    if let Some(lab) = lab {
        let dir = lab.dir().join("cluster");
        std::fs::create_dir_all(&dir)?;
        return Ok(Home { dir, temporary: None });
    }
    let temporary = tempfile::Builder::new().prefix("orch-cluster-").tempdir()?;
    Ok(Home { dir: temporary.path().to_owned(), temporary: Some(temporary) })
}

/// An address of this machine's loopback that only this process uses: 22 bits hold every pid.
fn own_loopback() -> Ipv4Addr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 64 | high, middle, low)
}

impl Cluster {
    fn seat(&self, host: usize) -> Seat {
        match &self.lab {
            Some(lab) => Seat::Host { lab: Arc::clone(lab), index: host },
            None => Seat::Here { address: own_loopback(), logs: self.home.dir.join("logs") },
        }
    }

    /// A manager that has not joined: its directory, seat and address.
    fn new_manager(&self) -> (Daemon, String) {
        let index = self.managers.len();
        let name = format!("m{}", index + 1);
        let seat = self.seat(self.plan.nodes + index);
        let address = address(self.first_port, index, &seat);
        let dir = seat.data(&self.home.dir, &name);
        (Daemon::new(&name, &self.programs.manager, dir, seat), address)
    }

    fn found(&mut self) -> Result<()> {
        let (manager, address) = self.new_manager();
        let context = self.ctl.config().to_string_lossy().into_owned();
        let args = place_of(&manager, &address);
        let words: Vec<&str> =
            ["init", "--context-out", &context].into_iter().chain(args.iter().map(String::as_str)).collect();
        done(&manager, &manager.call(&words)?)?;
        manager.start()?;
        self.managers.push(manager);
        self.ask("the first manager to answer", PATIENCE, || self.ctl.ok(&["status"]).ok())?;
        Ok(())
    }

    /// Joins one more manager and starts it; it is a learner at first. Its index is returned.
    ///
    /// # Errors
    /// It is refused, or does not start.
    ///
    /// # Panics
    /// In a laboratory beyond the plan's hosts.
    pub fn add_manager(&mut self) -> Result<usize> {
        let (manager, address) = self.new_manager();
        let token = self.token("manager", 1)?;
        let first = self.address(0);
        let args = place_of(&manager, &address);
        let words: Vec<&str> = ["join", "--manager", &first, "--token", &token]
            .into_iter()
            .chain(args.iter().map(String::as_str))
            .collect();
        done(&manager, &manager.call(&words)?)?;
        manager.start()?;
        self.managers.push(manager);
        Ok(self.managers.len() - 1)
    }

    /// Waits until exactly `count` managers vote.
    ///
    /// # Errors
    /// Not within a minute.
    pub fn wait_voters(&self, count: usize) -> Result<()> {
        self.ask(&format!("{count} managers to vote"), PATIENCE, || {
            let members = self.members().ok()?;
            (members.iter().filter(|member| member.voter).count() == count).then_some(())
        })
    }

    /// A join token.
    ///
    /// # Errors
    /// No leader answers.
    pub fn token(&self, role: &str, uses: usize) -> Result<String> {
        self.ctl.ok(&["token", "create", "--quiet", "--role", role, "--uses", &uses.to_string()])
    }

    /// Names all managers in the operator's context, as an administrator would after joining them.
    fn write_context(&self) -> Result<()> {
        let addresses: Vec<String> = (0..self.managers.len()).map(|index| self.address(index)).collect();
        set_managers(self.ctl.config(), &addresses)
    }

    fn join_nodes(&mut self) -> Result<()> {
        if self.plan.nodes == 0 {
            return Ok(());
        }
        let token = self.token("agent", self.plan.nodes)?;
        for index in 0..self.plan.nodes {
            let node = self.new_node(index)?;
            self.nodes.push(node);
        }
        let joined: Vec<Result<()>> = std::thread::scope(|scope| {
            let joins: Vec<_> =
                self.nodes.iter().map(|node| scope.spawn(|| self.join(node, &token))).collect();
            joins.into_iter().map(|join| join.join().expect("joining does not panic")).collect()
        });
        joined.into_iter().collect::<Result<()>>()?;
        self.nodes.iter().try_for_each(|node| self.wait_node(node.name(), "ready", PATIENCE))
    }

    fn new_node(&self, index: usize) -> Result<Node> {
        let seat = self.seat(index);
        let name = format!("h{}", index + 1);
        let engine = match seat.host() {
            Some(host) => (**host.engine()).clone(),
            None => engine::system()?,
        };
        let dir = seat.data(&self.home.dir, "agent").with_file_name(format!("agent-{name}"));
        Ok(Node { agent: Daemon::new(&name, &self.programs.agent, dir, seat), engine })
    }

    fn join(&self, node: &Node, token: &str) -> Result<()> {
        let managers =
            (0..self.managers.len()).map(|index| self.address(index)).collect::<Vec<_>>().join(",");
        let agent = node.agent();
        std::fs::create_dir_all(agent.dir())?;
        std::fs::write(agent.dir().join("agent.toml"), format!("engine = {:?}\n", node.engine().url()))?;
        let words = ["join", "--manager", &managers, "--token", token, "--hostname", agent.name()];
        done(agent, &agent.call(&words)?)?;
        agent.start()
    }
}

fn place_of(manager: &Daemon, address: &str) -> [String; 6] {
    let words = ["--name", manager.name(), "--address", address, "--listen", address];
    words.map(str::to_owned)
}

fn done(daemon: &Daemon, said: &Said) -> Result<()> {
    ensure!(said.code == 0, "{}: exit {}\n{}", daemon.name(), said.code, said.all());
    Ok(())
}

/// The id of the cluster that the only context in a file names.
pub(super) fn cluster_of(file: &Path) -> Result<String> {
    let table: toml::Table = toml::from_str(&std::fs::read_to_string(file)?)?;
    let id = table["context"].get(0).and_then(|context| context.get("cluster")?.as_str());
    id.map(str::to_owned).context("the context names no cluster")
}

/// Rewrites the managers of the only context in a file.
///
/// # Errors
/// It is no context file.
pub fn set_managers(file: &Path, managers: &[String]) -> Result<()> {
    let mut table: toml::Table = toml::from_str(&std::fs::read_to_string(file)?)?;
    let context = table["context"].get_mut(0).and_then(toml::Value::as_table_mut).context("a context")?;
    context.insert("managers".into(), managers.to_vec().into());
    std::fs::write(file, toml::to_string(&table)?)?;
    Ok(())
}
