//! A cluster without processes: the store, the control loop, and agents that are a few lines each.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use control::{Control, IdSource, Plan};
use model::{
    cluster::{Authority, ClusterSettings, Token},
    command::{Answer, Command, Decision, Entry, Rejection},
    id::{ClusterId, MemberId, NodeId, ServiceId, TaskId, TokenId},
    identity::{Identity, JoinRole},
    node::{Facts, NodeSpec, NodeState},
    service::{Service, ServiceSpec, Slot},
    session::TaskReport,
    task::{DesiredState, Health, Observed, Task, TaskState},
    time::ClusterTime,
};
use store::Store;

/// Ids 1, 2, 3, …
#[derive(Clone)]
pub struct Counter(pub u64);

impl IdSource for Counter {
    fn next(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

/// The cluster.
pub struct World {
    pub store: Store,
    pub control: Control,
    pub now: ClusterTime,
    pub ids: Counter,
    index: u64,
    next_node: u64,
    next_service: u64,
}

const TOKEN: TokenId = TokenId(1);

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    pub fn new() -> Self {
        let mut world = Self {
            store: Store::new(),
            control: Control::new(),
            now: ClusterTime(1_000_000_000),
            ids: Counter(0),
            index: 0,
            next_node: 0,
            next_service: 0,
        };
        world.must(Command::Bootstrap {
            cluster: ClusterId(1),
            settings: ClusterSettings::default(),
            authority: Authority::default(),
            name: "m1".into(),
            address: "127.0.0.1:1".into(),
            data_key: None,
        });
        world.must(Command::CreateToken(Token {
            id: TOKEN,
            role: JoinRole::Agent,
            expires: ClusterTime(u64::MAX / 2),
            uses_left: u32::MAX,
            created: world.now,
            node_spec: NodeSpec::default(),
        }));
        world
    }

    /// Applies a command and marks what changed.
    pub fn commit(&mut self, command: Command) -> (Result<Answer, Rejection>, Vec<(usize, Rejection)>) {
        self.index += 1;
        self.now = ClusterTime(self.now.0 + 1);
        let actor = Identity::Manager(MemberId(1));
        let applied = self.store.apply(
            self.index,
            &Entry { at: self.now, request: None, actor, command, origin: Default::default() },
        );
        applied.changes.iter().for_each(|change| self.control.mark(change));
        (applied.outcome, applied.rejected)
    }

    /// Applies a command that cannot be refused.
    pub fn must(&mut self, command: Command) -> Answer {
        let shown = format!("{command:?}");
        self.commit(command).0.unwrap_or_else(|rejection| panic!("{shown}: {rejection}"))
    }

    pub fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
    }

    pub fn join(&mut self, facts: Facts, spec: NodeSpec) -> NodeId {
        self.next_node += 1;
        let id = NodeId(self.next_node);
        let serial = self.store.cluster().expect("bootstrapped").last_serial + 1;
        self.must(Command::JoinNode { id, token: TOKEN, facts, serial, key: None });
        self.must(Command::UpdateNode { id, expected: None, spec });
        self.up(id);
        id
    }

    pub fn up(&mut self, id: NodeId) {
        let node = self.store.node(id).expect("a known node").clone();
        let incarnation = model::node::Incarnation(node.incarnation.0.max(1));
        self.must(Command::NodeUp { id, incarnation, facts: node.facts });
    }

    pub fn down(&mut self, id: NodeId) {
        let expected = self.store.node(id).expect("a known node").generation;
        self.must(Command::NodeDown { id, expected, message: "silent for 1500 ms".into() });
    }

    pub fn change_node(&mut self, id: NodeId, change: impl FnOnce(&mut NodeSpec)) {
        let mut spec = self.store.node(id).expect("a known node").spec.clone();
        change(&mut spec);
        self.must(Command::UpdateNode { id, expected: None, spec });
    }

    pub fn create(&mut self, spec: ServiceSpec) -> ServiceId {
        self.next_service += 1;
        let id = ServiceId(self.next_service);
        self.must(Command::CreateService { id, spec: Arc::new(spec) });
        id
    }

    pub fn update(&mut self, id: ServiceId, change: impl FnOnce(&mut ServiceSpec)) {
        let service = self.service(id);
        let (expected, mut spec) = (service.generation, (*service.spec).clone());
        change(&mut spec);
        self.must(Command::UpdateService { id, expected, spec: Arc::new(spec), note: Default::default() });
    }

    pub fn service(&self, id: ServiceId) -> &Service {
        self.store.service(id).expect("a known service")
    }

    /// What the agent says of one task.
    pub fn report(&mut self, task: TaskId, change: impl FnOnce(&mut Observed)) {
        let task = self.store.task(task).expect("a known task");
        let node = task.node.expect("a placed task");
        let mut observed = task.observed.clone();
        change(&mut observed);
        observed.attempt = observed.attempt.max(1);
        let incarnation = self.store.node(node).expect("a known node").incarnation;
        let reports = vec![TaskReport { task: task.id, observed }];
        self.must(Command::Observe { node, incarnation, reports });
    }

    /// One plan, checked: a control loop without memory decides the same, and the kept view of the nodes is right.
    pub fn plan(&mut self) -> Plan {
        let mut twin = Control::new();
        let theirs = twin.decide(&self.store, self.now, &mut self.ids.clone());
        let ours = self.control.decide(&self.store, self.now, &mut self.ids);
        assert_eq!(normal(&ours), normal(&theirs), "noted changes and a look at everything must agree");
        if ours.decisions.is_empty() {
            assert_eq!(theirs.decisions, [], "nothing is left to decide, reasons included");
        }
        ours
    }

    /// One plan, applied; returns its decisions and those refused.
    pub fn decide(&mut self) -> (Plan, Vec<(usize, Rejection)>) {
        let plan = self.plan();
        if plan.decisions.is_empty() {
            return (plan, Vec::new());
        }
        let (_, rejected) = self.commit(Command::Decide(plan.decisions.clone()));
        if let Some(difference) = self.control.check(&self.store) {
            panic!("the view of the nodes is wrong: {difference}");
        }
        (plan, rejected)
    }

    /// Decides until there is nothing to decide.
    pub fn decide_all(&mut self) -> Vec<Decision> {
        let mut all = Vec::new();
        for _ in 0..200 {
            let (plan, rejected) = self.decide();
            assert!(rejected.is_empty(), "refused: {rejected:?} of {:?}", plan.decisions);
            if plan.decisions.is_empty() {
                return all;
            }
            all.extend(plan.decisions);
        }
        panic!("never quiet: {:?}", all.split_off(all.len() - 20));
    }

    /// Agents on ready nodes do what they are told, by what the image is called. Returns whether anything changed.
    pub fn agents(&mut self) -> bool {
        let todo: Vec<(TaskId, Observed)> = self
            .store
            .tasks()
            .filter(|task| {
                task.node.and_then(|id| self.store.node(id)).is_some_and(|n| n.state == NodeState::Ready)
            })
            .filter_map(|task| self.reaction(task).map(|observed| (task.id, observed)))
            .collect();
        let any = !todo.is_empty();
        for (task, observed) in todo {
            self.report(task, |now| *now = observed);
        }
        any
    }

    fn reaction(&self, task: &Task) -> Option<Observed> {
        if task.observed.state.is_terminal() {
            return None;
        }
        let mut next = task.observed.clone();
        if task.desired == DesiredState::Stopped {
            next.state = TaskState::Stopped;
        } else if task.observed.state == TaskState::Assigned {
            let template = self.service(task.service).template_of(task.template).expect("kept while in use");
            let hook = self.service(task.service).hook_of(task.template).filter(|_| task.slot == Slot::HOOK);
            let image = hook.map_or(&template.container.image, |hook| &hook.command[0]);
            (next.state, next.health, next.message) = match image.split(':').next().unwrap_or_default() {
                "crashes" => (TaskState::CrashLoop, Health::None, "exit code 1".into()),
                "refused" => (TaskState::Rejected, Health::None, "no such image".into()),
                "sick" => (TaskState::Running, Health::Unhealthy, "HTTP 500".into()),
                "slow" => (TaskState::Running, Health::Starting, String::new()),
                "job" => (TaskState::Completed, Health::None, String::new()),
                "fails" => (TaskState::Failed, Health::None, "exit code 3".into()),
                _ => (TaskState::Running, Health::None, String::new()),
            };
        }
        (next != task.observed).then_some(next)
    }

    /// Decisions and agents in turn until both are quiet; time stands still but for the stamps.
    pub fn settle(&mut self) -> Vec<Decision> {
        let mut all = Vec::new();
        for _ in 0..500 {
            all.extend(self.decide_all());
            if !self.agents() {
                return all;
            }
        }
        panic!("never quiet: {:?}", all.split_off(all.len() - 20));
    }

    /// Healthy tasks of a service on nodes that can be heard.
    pub fn healthy(&self, id: ServiceId) -> usize {
        let tasks = self.store.tasks_of_service(id);
        tasks.filter(|task| self.is_healthy(task)).count()
    }

    pub fn is_healthy(&self, task: &Task) -> bool {
        let ready = |id| self.store.node(id).is_some_and(|node| node.state == NodeState::Ready);
        task.desired == DesiredState::Running && task.observed.is_healthy() && task.node.is_some_and(ready)
    }

    /// The active tasks of a service by slot.
    pub fn active(&self, id: ServiceId) -> BTreeMap<model::service::Slot, Vec<&Task>> {
        let mut slots: BTreeMap<_, Vec<&Task>> = BTreeMap::new();
        for task in self.store.tasks_of_service(id).filter(|task| task.is_active()) {
            slots.entry(task.slot).or_default().push(task);
        }
        slots
    }
}

/// Decisions without the ids that were drawn, in an order of their own: which of two slots comes first in a plan does
/// not matter. Without the reasons of waiting tasks too: what another task takes in this very plan changes them one plan
/// later than a look at everything would.
fn normal(plan: &Plan) -> Vec<String> {
    let plain = |decision: &Decision| match decision.clone() {
        Decision::ExplainPending { .. } => None,
        Decision::CreateTask { service, slot, template, node, inherited, alongside, .. } => {
            Some(format!("{service} {slot} {template:?} {node:?} {inherited:?} {alongside:?}"))
        }
        other => Some(format!("{other:?}")),
    };
    let mut lines: Vec<String> = plan.decisions.iter().filter_map(plain).collect();
    lines.sort();
    lines
}

/// Facts of a node that can run things.
pub fn facts(name: &str, cpu_millis: u64, memory: u64) -> Facts {
    Facts {
        hostname: name.into(),
        os: "linux".into(),
        arch: "x86_64".into(),
        cpu_millis,
        memory,
        engine_ok: true,
        ..Facts::default()
    }
}
