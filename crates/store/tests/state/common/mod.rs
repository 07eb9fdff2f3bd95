//! A store with a log behind it, and short words for what tests do to it.
#![allow(dead_code, reason = "the bench uses a part of it")]

use std::sync::Arc;

use model::{
    cluster::{Authority, ClusterSettings, Token},
    command::{Command, Decision, Entry, Rejection},
    id::{ClusterId, Generation, NodeId, RequestId, ServiceId, TaskId, TokenId},
    identity::{Identity, JoinRole},
    node::{Facts, Incarnation, NodeSpec},
    service::{Mode, ServiceSpec, Slot, TemplateVersion},
    session::TaskReport,
    task::{Inheritance, Observed, Task, TaskState},
    time::ClusterTime,
};
use store::{Applied, Store};

/// Microseconds between two entries.
pub const STEP: u64 = 1_000;
pub const SERVICE: ServiceId = ServiceId(100);
pub const TOKEN: TokenId = TokenId(7);

pub struct World {
    pub store: Store,
    pub now: ClusterTime,
}

impl World {
    /// A cluster with a node token of many uses.
    pub fn new() -> Self {
        let mut world = Self { store: Store::new(), now: ClusterTime(1_000_000) };
        world.done(bootstrap());
        world.done(Command::CreateToken(token(TOKEN, JoinRole::Agent)));
        world
    }

    /// A cluster with these ready nodes.
    pub fn with_nodes(nodes: &[u64]) -> Self {
        let mut world = Self::new();
        for id in nodes {
            world.join(NodeId(*id), &format!("h{id}"));
        }
        world
    }

    pub fn entry(&self, command: Command) -> Entry {
        Entry { at: self.now, request: None, actor: Identity::Anonymous, command, origin: Default::default() }
    }

    pub fn apply(&mut self, command: Command) -> Applied {
        let entry = self.entry(command);
        self.apply_entry(&entry)
    }

    pub fn apply_entry(&mut self, entry: &Entry) -> Applied {
        self.now = ClusterTime(self.now.0 + STEP);
        let applied = self.store.apply(self.store.applied() + 1, entry);
        self.store.check().expect("the state is consistent");
        applied
    }

    pub fn done(&mut self, command: Command) -> Applied {
        let applied = self.apply(command);
        applied.outcome.clone().expect("the command is accepted");
        applied
    }

    /// Refused, and nothing changed.
    pub fn refused(&mut self, command: Command) -> Rejection {
        let before = self.store.objects_hash();
        let applied = self.apply(command);
        assert_eq!(self.store.objects_hash(), before, "a refusal changed something");
        assert_eq!(applied.changes, []);
        applied.outcome.expect_err("the command is refused")
    }

    pub fn retry(&mut self, request: u64, command: Command) -> Applied {
        let entry = Entry { request: Some(RequestId(request)), ..self.entry(command) };
        self.apply_entry(&entry)
    }

    pub fn decide(&mut self, decision: Decision) -> Result<(), Rejection> {
        let mut applied = self.apply(Command::Decide(vec![decision]));
        applied.rejected.pop().map_or(Ok(()), |(_, rejection)| Err(rejection))
    }

    pub fn serial(&self) -> u64 {
        self.store.cluster().expect("a cluster").last_serial + 1
    }

    pub fn join(&mut self, id: NodeId, host: &str) {
        let serial = self.serial();
        self.done(Command::JoinNode { id, token: TOKEN, facts: facts(host), serial, key: None });
        self.up(id, 1);
    }

    pub fn up(&mut self, id: NodeId, incarnation: u64) {
        let facts = self.store.node(id).expect("a node").facts.clone();
        self.done(Command::NodeUp { id, incarnation: Incarnation(incarnation), facts });
    }

    pub fn down(&mut self, id: NodeId) {
        let expected = self.store.node(id).expect("a node").generation;
        self.done(Command::NodeDown { id, expected, message: "silent".into() });
    }

    pub fn create(&mut self, spec: ServiceSpec) {
        self.done(Command::CreateService { id: SERVICE, spec: Arc::new(spec) });
    }

    pub fn update(&mut self, spec: ServiceSpec) {
        let expected = self.generation();
        self.done(Command::UpdateService {
            id: SERVICE,
            expected,
            spec: Arc::new(spec),
            note: Default::default(),
        });
    }

    pub fn service(&self) -> &model::service::Service {
        self.store.service(SERVICE).expect("the service")
    }

    pub fn generation(&self) -> Generation {
        self.service().generation
    }

    pub fn task(&self, id: u64) -> &Task {
        self.store.task(TaskId(id)).expect("the task")
    }

    /// A task of the newest template in a slot, on a node if one is named.
    pub fn fill(&mut self, id: u64, slot: u32, node: Option<u64>) -> Result<(), Rejection> {
        let template = self.service().template;
        self.decide(create_task(id, Slot::Replica(slot), template, node, None))
    }

    pub fn stop(&mut self, id: u64) {
        self.decide(self.stop_decided_now(id)).expect("stops");
    }

    /// What a leader that sees the present state decides.
    pub fn stop_decided_now(&self, id: u64) -> Decision {
        let (expected, service) = (self.task(id).generation, Some(self.generation()));
        Decision::StopTask {
            id: TaskId(id),
            expected,
            service,
            keeps: None,
            node: None,
            reason: "scaled away".into(),
        }
    }

    pub fn reap(&mut self, id: u64) -> Result<(), Rejection> {
        let expected = self.task(id).generation;
        self.decide(Decision::ReapTask { id: TaskId(id), expected })
    }

    /// The agent of the task's node reports on it.
    pub fn report(&mut self, id: u64, observed: Observed) {
        let node = self.task(id).node.expect("a node");
        let incarnation = self.store.node(node).expect("known").incarnation;
        self.observe(node, incarnation, id, observed);
    }

    pub fn observe(&mut self, node: NodeId, incarnation: Incarnation, id: u64, observed: Observed) {
        let reports = vec![TaskReport { task: TaskId(id), observed }];
        self.done(Command::Observe { node, incarnation, reports });
    }
}

pub fn bootstrap() -> Command {
    Command::Bootstrap {
        cluster: ClusterId(1),
        settings: ClusterSettings::default(),
        authority: Authority::default(),
        name: "m1".into(),
        address: "m1:4400".into(),
        data_key: None,
    }
}

pub fn token(id: TokenId, role: JoinRole) -> Token {
    Token {
        id,
        role,
        expires: ClusterTime(u64::MAX),
        uses_left: 1000,
        created: ClusterTime(0),
        node_spec: NodeSpec::default(),
    }
}

pub fn facts(host: &str) -> Facts {
    Facts { hostname: host.into(), engine_ok: true, cpu_millis: 4000, memory: 8 << 30, ..Facts::default() }
}

pub fn spec(name: &str, image: &str, replicas: u32) -> ServiceSpec {
    let mut spec =
        ServiceSpec { name: name.into(), mode: Mode::Replicated(replicas), ..ServiceSpec::default() };
    spec.template.container.image = image.into();
    spec
}

pub fn create_task(
    id: u64,
    slot: Slot,
    template: TemplateVersion,
    node: Option<u64>,
    alongside: Option<u64>,
) -> Decision {
    Decision::CreateTask {
        id: TaskId(id),
        service: SERVICE,
        slot,
        template,
        node: node.map(NodeId),
        pending: None,
        inherited: Inheritance::default(),
        alongside: alongside.map(TaskId),
    }
}

pub fn observed(state: TaskState, attempt: u32) -> Observed {
    Observed { state, attempt, ..Observed::default() }
}

pub fn encode(store: &Store) -> Vec<u8> {
    rmp_serde::to_vec_named(store).expect("a store encodes")
}

pub fn load(bytes: &[u8]) -> Store {
    rmp_serde::from_slice(bytes).expect("a store loads")
}
