//! A node's host: the real agent core, its ledger, its engine.

use std::collections::{BTreeMap, VecDeque};

use agent_core::{
    action::KeptFile,
    agent::{Agent, Config},
    engine::ContainerChange,
    stored::{StoreWrite, Stored},
};
use model::{
    id::{ClusterId, NodeId, TaskId},
    node::Facts,
    session::{Assignment, Fence, ManagerMessage},
    task::Health,
    time::Instant,
};

use crate::{clock::HostClock, engine::Engine, queue::Time, router::Router, world::Event};

/// A write under way, and the fence that the agent held when it issued it.
pub(crate) struct Write {
    pub(crate) sequence: u64,
    pub(crate) contents: StoreWrite,
    pub(crate) fence: Option<Fence>,
}

/// The process.
pub(crate) struct Process {
    pub(crate) core: Agent,
    pub(crate) life: u64,
    pub(crate) armed: Option<Time>,
    /// Writes on their way to the disk, oldest first.
    pub(crate) writes: VecDeque<Write>,
    /// The world's number of each connection, by the agent's.
    pub(crate) connections: BTreeMap<u64, u64>,
}

/// The agent's view of the engine's event stream.
#[derive(Debug, Default)]
pub(crate) struct Subscription {
    /// The list was taken; events go straight to the agent.
    pub(crate) listed: bool,
    /// Events between the subscription and the list.
    pub(crate) held: Vec<ContainerChange>,
    /// Nothing is told before what was told before it.
    pub(crate) last: Time,
}

/// The host.
pub(crate) struct NodeHost {
    pub(crate) node: NodeId,
    pub(crate) name: String,
    pub(crate) clock: HostClock,
    pub(crate) process: Option<Process>,
    pub(crate) lives: u64,
    pub(crate) paused: Option<Vec<Event>>,
    pub(crate) crash_in: Option<u32>,
    /// What is durable.
    pub(crate) ledger: Stored,
    /// What its shell keeps in memory for containers; gone with a reboot.
    pub(crate) files: BTreeMap<TaskId, Vec<KeptFile>>,
    pub(crate) engine: Engine,
    pub(crate) subscription: Option<Subscription>,
    /// The highest fence that it has had time to write down.
    pub(crate) promised: Option<Fence>,
    /// What managers have told it lately.
    pub(crate) told: VecDeque<ManagerMessage>,
    /// Its program.
    pub(crate) version: &'static str,
    /// Of its engine's containers: the health that the agent last heard of.
    pub(crate) told_health: BTreeMap<String, Health>,
    /// Its mesh process.
    pub(crate) router: Router,
    /// The last time that a fault touched this host or its links.
    pub(crate) disturbed: Time,
    /// It said goodbye and ended by itself.
    pub(crate) left: bool,
    pub(crate) paper: crate::rotations::Paper,
}

impl NodeHost {
    /// Starts the agent with what its ledger has.
    pub(crate) fn start(&mut self, cluster: ClusterId, managers: Vec<String>, seed: u64, now: Instant) {
        let facts = Facts {
            hostname: self.name.clone(),
            os: "linux".into(),
            arch: "x86_64".into(),
            kernel: "6.1".into(),
            agent: "sim".into(),
            files: crate::versions::keeps_files(self.version),
            ..Facts::default()
        };
        let config = Config { cluster, node: self.node, managers, facts, mesh: None, seed };
        let routes = self.router.stored.as_ref().map(|config| config.table.clone());
        let core = Agent::new(
            config,
            Stored { routes, files: self.files.keys().copied().collect(), ..self.ledger.clone() },
            now,
        );
        self.lives += 1;
        self.paper.restart();
        self.left = false;
        self.subscription = None;
        self.told_health.clear();
        self.process = Some(Process {
            core,
            life: self.lives,
            armed: None,
            writes: VecDeque::new(),
            connections: BTreeMap::new(),
        });
    }

    /// It runs and is not stopped.
    pub(crate) fn is_awake(&self) -> bool {
        self.process.is_some() && self.paused.is_none()
    }

    pub(crate) fn life(&self) -> u64 {
        self.process.as_ref().map_or(0, |process| process.life)
    }
}

impl NodeHost {
    /// A write becomes durable.
    pub(crate) fn write_down(&mut self, write: Write) {
        self.promised = self.promised.max(write.fence);
        write_down(&mut self.ledger, write.contents);
    }
}

fn write_down(ledger: &mut Stored, write: StoreWrite) {
    let mut assignments: BTreeMap<TaskId, Assignment> =
        std::mem::take(&mut ledger.assignments).into_iter().map(|a| (a.task, a)).collect();
    let mut records: BTreeMap<_, _> = std::mem::take(&mut ledger.records).into_iter().collect();
    if write.fence.is_some() {
        ledger.fence = write.fence;
    }
    if let Some(managers) = write.managers {
        ledger.managers = managers;
    }
    for assignment in write.assignments {
        assignments.insert(assignment.task, assignment);
    }
    for (id, record) in write.records {
        records.insert(id, record);
    }
    for id in write.removed {
        assignments.remove(&id);
        records.remove(&id);
    }
    ledger.assignments = assignments.into_values().collect();
    ledger.records = records.into_iter().collect();
}
