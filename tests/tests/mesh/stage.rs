//! A mesh process with an agent's end of its control socket, and the words to configure it.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::time::Duration;

use mesh::control::{AgentFrame, LocalTask, MeshConfig, MeshFrame, TaskStats};
use model::id::{NodeId, ServiceId, TaskId};
use model::route::{Endpoint, HttpPort, IngressPort, PeerRoute, RouteTable, ServiceRoute};
use tempfile::TempDir;
use tests::binaries::Binaries;
use tests::mesh::{self as mesh_lab, Agent};
use tests::process::Process;
use tests::wait;

/// Generous: other tests may hold both cores.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Authorities of clusters.
pub struct Authority(mesh_lab::Authority);

/// A running mesh process and its agent.
pub struct Mesh {
    pub dir: TempDir,
    pub node: NodeId,
    pub process: Process,
    agent: Agent,
}

impl Authority {
    pub fn found() -> Self {
        Self(mesh_lab::Authority::found().unwrap())
    }

    /// The authority's certificate, PEM.
    pub fn pem(&self) -> &str {
        self.0.pem()
    }

    /// A certificate for the host `orch-manager`, and its key.
    pub fn host(&self, serial: u64) -> (String, String) {
        self.0.host(serial).unwrap()
    }
}

impl Mesh {
    /// Starts one for a node of a cluster.
    pub fn start(authority: &Authority, node: u64) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), authority, node)
    }

    /// One that is alone, with more arguments.
    pub fn with(arguments: &[&str]) -> Self {
        let (dir, node) = (tempfile::tempdir().unwrap(), NodeId(1));
        Authority::found().0.enrol(dir.path(), node).unwrap();
        let process = spawn(&dir, "first", arguments);
        let agent = connect(&dir, node);
        Self { dir, node, process, agent }
    }

    /// Starts one in a directory, with the resolvers of its `resolv.conf`.
    pub fn start_in(dir: TempDir, authority: &Authority, node: u64) -> Self {
        let node = NodeId(node);
        authority.0.enrol(dir.path(), node).unwrap();
        let process = spawn(&dir, "first", &[]);
        let agent = connect(&dir, node);
        Self { dir, node, process, agent }
    }

    /// One that is alone.
    pub fn alone() -> Self {
        Self::start(&Authority::found(), 1)
    }

    /// Starts the program once more in the same directory and connects to it; the old process is returned.
    pub fn start_again(&mut self) -> Process {
        let old = std::mem::replace(&mut self.process, spawn(&self.dir, "next", &[]));
        let pid = u32::try_from(self.process.pid()).unwrap();
        wait::until_true("the new process to answer", LIMIT, || {
            self.agent = connect(&self.dir, self.node);
            self.send(&AgentFrame::Hello { version: "test".into(), node: self.node });
            matches!(self.try_receive(), Some(MeshFrame::Hello { pid: answered, .. }) if answered == pid)
        })
        .unwrap();
        old
    }

    pub fn send(&mut self, frame: &AgentFrame) {
        self.agent.send(frame);
    }

    fn try_receive(&mut self) -> Option<MeshFrame> {
        self.agent.receive().ok()
    }

    /// Whether the other end still answers.
    pub fn is_connected(&mut self) -> bool {
        self.try_receive().is_some()
    }

    pub fn receive(&mut self) -> MeshFrame {
        self.try_receive().unwrap_or_else(|| panic!("no frame:\n{}", self.process.log_text()))
    }

    /// Configures it and returns what could not be done.
    pub fn configure(&mut self, config: &MeshConfig) -> Vec<String> {
        let configured = self.agent.configure(config);
        configured.unwrap_or_else(|error| panic!("{error:#}:\n{}", self.process.log_text()))
    }

    /// Configures it; everything must be possible.
    pub fn serve(&mut self, config: &MeshConfig) {
        assert_eq!(self.configure(config), [""; 0]);
    }

    pub fn stats(&mut self, task: u64) -> Option<TaskStats> {
        self.send(&AgentFrame::Stats);
        loop {
            if let MeshFrame::Stats(all) = self.receive() {
                return all.into_iter().find(|stats| stats.task == TaskId(task));
            }
        }
    }

    /// Asks for a drain; [`Mesh::is_drained`] says whether it was answered.
    pub fn drain(&mut self, task: u64) {
        self.send(&AgentFrame::Drain { task: TaskId(task) });
    }

    /// Waits for the answer to a drain, `limit` at most.
    pub fn is_drained(&mut self, task: u64, limit: Duration) -> bool {
        self.agent.stream().set_read_timeout(Some(limit)).unwrap();
        let frame = self.try_receive();
        self.agent.stream().set_read_timeout(Some(LIMIT)).unwrap();
        frame == Some(MeshFrame::Drained { task: TaskId(task) })
    }
}

fn spawn(dir: &TempDir, name: &str, arguments: &[&str]) -> Process {
    let mut command = Command::new(Binaries::get().unwrap().agent);
    command.arg("mesh").arg("--dir").arg(dir.path());
    command.arg("--resolv-conf").arg(dir.path().join("resolv.conf"));
    command.args(arguments);
    Process::spawn(name, dir.path(), command).unwrap()
}

fn connect(dir: &TempDir, node: NodeId) -> Agent {
    Agent::connect(dir.path(), LIMIT).unwrap_or_else(|error| panic!("node {node}: {error:#}"))
}

/// Waits until something is so.
pub fn wait_for(what: &str, condition: impl FnMut() -> bool) {
    wait::until_true(what, LIMIT, condition).unwrap();
}

/// A port that nobody uses at the moment.
pub fn free_port() -> u16 {
    // On every address, as it will be opened: connections that are just over hold ports of single ones.
    TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port()
}

/// The address on loopback that stands for a task's container.
pub fn address_of(task: u64) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 77, u8::try_from(task).unwrap())
}

/// A service of one published port whose tasks all run on this node.
pub fn config(port: IngressPort, tasks: &[u64]) -> MeshConfig {
    let endpoint = |task: &u64| Endpoint { task: TaskId(*task), node: NodeId(1), addresses: Vec::new() };
    let service = ServiceRoute {
        service: ServiceId(1),
        name: "ispyb".into(),
        addresses: Vec::new(),
        ports: vec![port],
        endpoints: tasks.iter().map(endpoint).collect(),
    };
    let table = RouteTable { ingress: true, services: vec![service], ..RouteTable::default() };
    let locals = tasks.iter().map(|task| LocalTask { task: TaskId(*task), address: address_of(*task) });
    MeshConfig { table, locals: locals.collect(), listen: None }
}

/// The same service, without some of its tasks' endpoints.
pub fn withdrawn(config: &MeshConfig, task: u64) -> MeshConfig {
    let mut config = config.clone();
    config.table.services[0].endpoints.retain(|endpoint| endpoint.task != TaskId(task));
    config
}

pub fn tcp(published: u16, target: u16) -> IngressPort {
    IngressPort { published, target, http: None, proxy_protocol: false }
}

pub fn http(published: u16, target: u16) -> IngressPort {
    IngressPort { published, target, http: Some(HttpPort::default()), proxy_protocol: false }
}

pub fn sticky(published: u16, target: u16) -> IngressPort {
    let settings = HttpPort { sticky: true, ..HttpPort::default() };
    IngressPort { http: Some(settings), ..http(published, target) }
}

pub fn peer(node: u64, mesh: Option<String>) -> PeerRoute {
    PeerRoute { node: NodeId(node), name: format!("n{node}"), mesh }
}
