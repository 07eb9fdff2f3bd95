//! The agent as a value: inputs in, actions out, nothing else.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use model::{
    id::{ClusterId, NodeId, TaskId},
    node::Facts,
    session::{AgentMessage, Fence},
    task::Observed,
    time::Instant,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    action::Action,
    assignment::Assignments,
    event::Event,
    fetch::Fetches,
    files::Files,
    health::EngineHealth,
    labels::Labels,
    pending::Pending,
    probes::Asked,
    pulls::Leaves,
    queue::FairQueue,
    report::Reports,
    session::Session,
    stored::Stored,
    task::{Context, Task},
    traffic::Traffic,
};

/// Starts under way at once: the engine serialises them, more only makes each slower.
const MAX_STARTS: usize = 3;
/// Pulls under way at once: they share the node's line to the registry.
const MAX_PULLS: usize = 3;

/// Remembered tasks without a running container wait so long for a manager's word: after a power cut the cluster may have
/// moved them, and then starting them would double them. Without a manager they start all the same.
const FIRST_WORD: Duration = Duration::from_millis(2_500);

/// What an agent is, for its whole life.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its node.
    pub node: NodeId,
    /// Managers to dial besides the stored ones, `host:port`.
    pub managers: Vec<String>,
    /// What the machine is; the fields about the engine are ignored.
    pub facts: Facts,
    /// Where its mesh listens for other nodes, `address:port`; `None`: it only dials out.
    pub mesh: Option<String>,
    /// All of its random choices follow from this.
    pub seed: u64,
}

/// Whose call to the engine it is.
#[derive(Debug)]
pub(crate) enum Owner {
    Task(TaskId),
    Fetch(TaskId),
    Ping,
    ResolveImage { connection: u64, image: String },
}

/// An agent.
#[derive(Debug)]
pub struct Agent {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) facts: Facts,
    /// What the manager of this session was last told.
    pub(crate) told_facts: Facts,
    pub(crate) engine: EngineHealth,
    pub(crate) session: Session,
    pub(crate) assignments: Assignments,
    pub(crate) tasks: BTreeMap<TaskId, Task>,
    /// Containers with our labels of tasks that nobody told us of: left alone until a manager has said what is wanted.
    pub(crate) strangers: BTreeMap<String, Labels>,
    /// In this session the set was compared with the manager's.
    pub(crate) confirmed: bool,
    /// Until then remembered tasks are not started. Gone with the first word of a manager.
    pub(crate) hold_until: Option<Instant>,
    pub(crate) starts: FairQueue,
    pub(crate) pulls: FairQueue,
    pub(crate) leaves: Leaves,
    pub(crate) fetches: Fetches,
    pub(crate) files: Files,
    pub(crate) ops: BTreeMap<u64, Owner>,
    pub(crate) next_op: u64,
    pub(crate) dirty: BTreeSet<TaskId>,
    pub(crate) timers: BTreeSet<(Instant, TaskId)>,
    pub(crate) pending: Pending,
    pub(crate) reports: Reports,
    pub(crate) traffic: Traffic,
    /// Questions to containers that are under way.
    pub(crate) probes: BTreeMap<u64, Asked>,
    pub(crate) next_probe: u64,
    pub(crate) actions: VecDeque<Action>,
    pub(crate) rng: ChaCha8Rng,
    status: String,
}

impl Agent {
    /// An agent that begins (again) with what was stored. It dials as soon as the
    /// engine has listed what there is, or soon after; it touches no container before.
    pub fn new(config: Config, stored: Stored, now: Instant) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        let session_rng = ChaCha8Rng::seed_from_u64(rng.random());
        let mut records: BTreeMap<_, _> = stored.records.into_iter().collect();
        let tasks: BTreeMap<_, _> = stored
            .assignments
            .iter()
            .map(|a| {
                let task = Task::new(a.clone(), records.remove(&a.task), 0, now);
                (a.task, Task { resumed: true, ..task })
            })
            .collect();
        let has_managers = !stored.managers.is_empty() || !config.managers.is_empty();
        Self {
            hold_until: has_managers.then(|| now + FIRST_WORD),
            cluster: config.cluster,
            node: config.node,
            facts: EngineHealth::without_engine(config.facts),
            told_facts: Facts::default(),
            engine: EngineHealth::default(),
            session: Session::new(stored.managers, config.managers, session_rng, now),
            assignments: Assignments::new(config.cluster, config.node, stored.fence, stored.assignments),
            dirty: tasks.keys().copied().collect(),
            tasks,
            strangers: BTreeMap::new(),
            confirmed: false,
            starts: FairQueue::new(MAX_STARTS),
            pulls: FairQueue::new(MAX_PULLS),
            leaves: Leaves::default(),
            fetches: Fetches::new(),
            files: Files::new(stored.files),
            ops: BTreeMap::new(),
            next_op: 0,
            timers: BTreeSet::new(),
            pending: Pending::default(),
            reports: Reports::default(),
            traffic: Traffic::new(stored.routes, config.mesh),
            probes: BTreeMap::new(),
            next_probe: 0,
            actions: VecDeque::new(),
            rng,
            status: String::new(),
        }
    }

    /// Takes one input.
    pub fn handle_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::ManagerConnected { connection } => self.manager_connected(connection),
            Event::ManagerClosed { connection, .. } => self.manager_closed(connection, now),
            Event::ManagerMessage { connection, message } => self.manager_message(connection, *message, now),
            Event::EngineUp(facts) => self.engine_up(facts, now),
            Event::EngineDown { reason } => self.engine_down(reason, now),
            Event::EngineListed { containers } => self.engine_listed(containers, now),
            Event::EngineChanged(change) => self.engine_changed(change, now),
            Event::EngineDone { op, outcome } => self.engine_done(op, outcome, now),
            Event::Stored { sequence } => {
                let freed = self.pending.stored(sequence);
                self.dirty.extend(freed);
            }
            Event::MeshUp => self.mesh_up(),
            Event::MeshDown { reason } => self.mesh_down(&reason),
            Event::Problems { of, problems } => self.note_problems(of, problems),
            Event::MeshApplied { version } => self.mesh_applied(version),
            Event::MeshSaw(seen) => self.mesh_saw(seen),
            Event::MeshDrained { task } => self.mesh_drained(task),
            Event::Probed { probe, answer } => self.probed(probe, answer, now),
            Event::FilesKept { task, outcome } => self.files_kept(task, outcome),
            Event::Facts(facts) => self.new_facts(facts),
            Event::ShutdownRequested { hold } => {
                self.session.goodbye(hold, &mut self.actions);
                self.actions.push_back(Action::Exit);
            }
        }
        self.work(now);
    }

    /// Does what has become due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let age = self.engine.age_ms(now);
        if self.session.timeout(age, now, &mut self.actions) {
            self.session_ended(now);
        }
        while let Some((_, task)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.pop_first();
            self.dirty.insert(task);
        }
        self.ping(now);
        self.work(now);
    }

    /// The next thing to be done, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is next needed, if nothing else happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let report = self.reports.deadline().filter(|_| self.session.open().is_some());
        let task = self.timers.first().map(|(at, _)| *at);
        [self.session.deadline(), task, report, self.engine.ping_at()].into_iter().flatten().min()
    }

    /// Every assigned task and what is observed of it; for tests and people.
    pub fn tasks(&self) -> impl Iterator<Item = (TaskId, &Observed)> {
        self.tasks.values().filter(|task| !task.leaving).map(|task| (task.id, &task.observed))
    }

    /// The highest fence ever accepted.
    pub fn fence(&self) -> Option<Fence> {
        self.assignments.fence()
    }

    /// Whether a manager has welcomed it.
    pub fn is_in_session(&self) -> bool {
        self.session.open().is_some()
    }

    pub(crate) fn context<'a>(rng: &'a mut ChaCha8Rng, now: Instant) -> Context<'a> {
        Context { now, rng }
    }

    /// Says something to the manager, if there is one that listens.
    pub(crate) fn tell(&mut self, message: AgentMessage) {
        if let Some(connection) = self.session.open() {
            self.actions.push_back(Action::Send { connection, message: Box::new(message) });
        }
    }

    fn new_facts(&mut self, facts: Facts) {
        self.facts = Facts { problems: self.traffic.problems(), ..self.engine.complete(facts) };
    }

    /// The engine's own facts changed.
    pub(crate) fn refresh_facts(&mut self) {
        self.new_facts(self.facts.clone());
    }

    /// Everything that follows from what was just taken in.
    fn work(&mut self, now: Instant) {
        self.evaluate_all(now);
        self.store(now);
        self.configure_mesh();
        self.tell_facts();
        self.tell_reports(now);
        self.tell_status();
    }

    /// Facts that changed since the greeting, even before the manager said welcome.
    fn tell_facts(&mut self) {
        if self.session.open().is_some() && self.told_facts != self.facts {
            self.told_facts = self.facts.clone();
            self.tell(AgentMessage::Facts(self.facts.clone()));
        }
    }

    fn tell_reports(&mut self, now: Instant) {
        if self.session.open().is_none() {
            return;
        }
        let tasks = &self.tasks;
        let batches = self.reports.take(now, |task| tasks.get(&task).map(|task| &task.observed));
        for batch in batches {
            self.tell(AgentMessage::Report(batch));
        }
    }

    fn tell_status(&mut self) {
        let session = match self.session.open() {
            Some(_) => format!("in session with {}", self.session.address()),
            None => "no manager".to_owned(),
        };
        let status = format!("{session}; {}", self.engine.status());
        if status != self.status {
            self.status.clone_from(&status);
            self.actions.push_back(Action::Status(status));
        }
    }
}
