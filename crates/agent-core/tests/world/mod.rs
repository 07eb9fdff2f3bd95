//! An agent, its ledger, its engine and one manager, driven by hand.

#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod engine;
pub mod print;

use std::{collections::BTreeMap, collections::VecDeque, sync::Arc, time::Duration};

use agent_core::{
    action::Action,
    agent::{Agent, Config},
    engine::{EngineCall, EngineError, EngineErrorKind, OpOutcome},
    event::{EngineFacts, Event},
    probes::ProbeRequest,
    stored::{StoreWrite, Stored},
};
use model::{
    container::ContainerSpec,
    id::{ClusterId, MemberId, NodeId, ServiceId, TaskId},
    node::{Facts, Incarnation},
    probe::Check,
    service::{RestartPolicy, Slot, TemplateVersion},
    session::{Assignment, AssignmentSet, Fence, ManagerAddress, ManagerMessage, set_hash},
    task::DesiredState,
    time::Instant,
};

use engine::Engine;

pub const CLUSTER: ClusterId = ClusterId(1);
pub const NODE: NodeId = NodeId(2);

/// The world.
pub struct World {
    /// The version of the conversation that its managers speak.
    pub protocol: u32,
    pub agent: Agent,
    pub now: Instant,
    pub engine: Engine,
    pub engine_up: bool,
    /// What a restarted agent would find.
    pub ledger: Stored,
    /// Writes that are not durable yet.
    pub writes: VecDeque<(u64, StoreWrite)>,
    /// Calls that are not answered yet.
    pub calls: VecDeque<(u64, EngineCall)>,
    /// Questions to containers that are not answered yet.
    pub probes: VecDeque<(u64, ProbeRequest)>,
    /// What was carried out and not answered yet.
    pub outcomes: VecDeque<(u64, Result<OpOutcome, EngineError>)>,
    /// Calls of a former life of the agent that a hung engine has not carried out yet.
    pub late: VecDeque<EngineCall>,
    /// What was done since it was last looked at.
    pub log: Vec<Action>,
    pub connection: Option<u64>,
    pub desired: BTreeMap<TaskId, Assignment>,
    pub fence: Fence,
    /// The manager answers no heartbeat.
    pub mute: bool,
    seed: u64,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let fence = Fence { cluster: CLUSTER, incarnation: Incarnation(1), term: 1, session: 0, sequence: 0 };
        let mut world = Self {
            protocol: 1,
            agent: agent(seed, Stored::default(), Instant::ZERO),
            now: Instant::ZERO,
            engine: Engine::default(),
            engine_up: false,
            ledger: Stored::default(),
            writes: VecDeque::new(),
            calls: VecDeque::new(),
            probes: VecDeque::new(),
            outcomes: VecDeque::new(),
            late: VecDeque::new(),
            log: Vec::new(),
            connection: None,
            desired: BTreeMap::new(),
            fence,
            mute: false,
            seed,
        };
        world.agent.handle_timeout(world.now);
        world.drain();
        world
    }

    pub fn feed(&mut self, event: Event) {
        self.agent.handle_event(event, self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(action) = self.agent.poll_action() {
            match &action {
                Action::Connect { connection, .. } => self.connection = Some(*connection),
                Action::Disconnect { .. } => self.connection = None,
                Action::Engine { op, call } => self.calls.push_back((*op, call.clone())),
                Action::CancelEngine { op } => self.calls.retain(|(other, _)| other != op),
                Action::Probe { probe, request } => self.probes.push_back((*probe, (**request).clone())),
                Action::Store { sequence, write } => self.writes.push_back((*sequence, (**write).clone())),
                Action::Send { .. }
                | Action::OpenLogs { .. }
                | Action::Authority { .. }
                | Action::Mesh(_)
                | Action::DrainTask { .. }
                | Action::KeepFiles { .. }
                | Action::WipeFiles { .. }
                | Action::Status(_)
                | Action::Exit => {}
            }
            self.log.push(action);
        }
    }

    /// The agent's process ends at once and begins again; the engine goes on with what it was asked.
    pub fn restart(&mut self) {
        for (_, call) in std::mem::take(&mut self.calls) {
            let _unheard = self.engine.call(&call, self.now);
        }
        self.begin_anew();
    }

    /// The same while the engine hangs: it does what it was asked when it [awakes](Self::engine_awakes).
    pub fn restart_while_hung(&mut self) {
        self.late.extend(std::mem::take(&mut self.calls).into_iter().map(|(_, call)| call));
        self.begin_anew();
    }

    pub fn engine_awakes(&mut self) {
        for call in std::mem::take(&mut self.late) {
            let _unheard = self.engine.call(&call, self.now);
        }
        self.deliver_events();
    }

    fn begin_anew(&mut self) {
        self.seed += 1;
        self.writes.clear();
        self.probes.clear();
        self.connection = None;
        self.engine.events.clear();
        self.engine_up = false;
        self.agent = agent(self.seed, self.ledger.clone(), self.now);
        self.agent.handle_timeout(self.now);
        self.drain();
    }

    pub fn engine_up(&mut self) {
        self.engine_up = true;
        self.engine.events.clear();
        self.feed(Event::EngineUp(EngineFacts { version: "20".into(), ..Default::default() }));
        self.feed(Event::EngineListed { containers: self.engine.list(self.now) });
    }

    pub fn engine_down(&mut self) {
        self.engine_up = false;
        self.engine.events.clear();
        self.feed(Event::EngineDown { reason: "connection refused".into() });
    }

    /// Makes the oldest write durable.
    pub fn store_one(&mut self) {
        let Some((sequence, write)) = self.writes.pop_front() else { return };
        apply(&mut self.ledger, write);
        self.feed(Event::Stored { sequence });
    }

    pub fn store_all(&mut self) {
        while !self.writes.is_empty() {
            self.store_one();
        }
    }

    /// Carries out the oldest call and answers it.
    pub fn answer_one(&mut self) {
        let Some((op, call)) = self.calls.pop_front() else { return };
        let outcome = self.engine.call(&call, self.now);
        self.deliver_events();
        self.feed(Event::EngineDone { op, outcome });
    }

    /// Carries out the oldest call; its answer is on its way.
    pub fn carry_out_one(&mut self) {
        let Some((op, call)) = self.calls.pop_front() else { return };
        self.outcomes.push_back((op, self.engine.call(&call, self.now)));
        self.deliver_events();
    }

    /// The answers that were on their way arrive.
    pub fn hear_answers(&mut self) {
        for (op, outcome) in std::mem::take(&mut self.outcomes) {
            self.feed(Event::EngineDone { op, outcome });
        }
    }

    /// Answers the oldest call with an error; `done`: it was carried out all the same.
    pub fn fail_one(&mut self, kind: EngineErrorKind, message: &str, done: bool) {
        let Some((op, call)) = self.calls.pop_front() else { return };
        if done {
            let _lost = self.engine.call(&call, self.now);
            self.deliver_events();
        }
        self.feed(Event::EngineDone { op, outcome: Err(engine::error(kind, message)) });
    }

    pub fn deliver_events(&mut self) {
        for change in std::mem::take(&mut self.engine.events) {
            if self.engine_up {
                self.feed(Event::EngineChanged(change));
            }
        }
    }

    /// Answers the oldest question that asks this.
    pub fn answer_probe(&mut self, word: &str, answer: Result<(), String>) {
        let asks = |(_, request): &(u64, ProbeRequest)| request.check == Check::Exec(vec![word.to_owned()]);
        let position = self.probes.iter().position(asks).expect("nothing asks this");
        let (probe, _) = self.probes.remove(position).expect("just found");
        self.feed(Event::Probed { probe, answer });
    }

    /// Answers everything until nothing is left to answer.
    pub fn run(&mut self) {
        while !self.calls.is_empty() || !self.writes.is_empty() {
            self.store_all();
            self.answer_one();
        }
    }

    /// Lets time pass, waking the agent when it wants to be woken.
    pub fn advance(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.agent.poll_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.agent.handle_timeout(self.now);
            self.drain();
            self.acknowledge_beats();
        }
        self.now = end;
    }

    fn acknowledge_beats(&mut self) {
        let Some(connection) = self.connection.filter(|_| self.agent.is_in_session() && !self.mute) else {
            return;
        };
        let message = Box::new(ManagerMessage::HeartbeatAck { number: 0 });
        self.feed(Event::ManagerMessage { connection, message });
    }

    /// A manager takes the call that the agent makes next, and welcomes it.
    pub fn open_session(&mut self) {
        self.connect();
        self.welcome();
    }

    /// A manager takes the call that the agent makes next.
    pub fn connect(&mut self) {
        while self.connection.is_none() {
            self.advance(Duration::from_millis(100));
        }
        let connection = self.connection.expect("just made");
        self.feed(Event::ManagerConnected { connection });
    }

    pub fn welcome(&mut self) {
        self.fence = Fence { session: self.fence.session + 1, sequence: 0, ..self.fence };
        self.say(ManagerMessage::Welcome {
            protocol: self.protocol,
            fence: self.fence,
            heartbeat: Duration::from_secs(1),
            managers: vec![ManagerAddress { id: MemberId(1), address: "m1:1".into() }],
        });
    }

    pub fn close_session(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.feed(Event::ManagerClosed { connection, reason: "reset".into() });
        }
    }

    pub fn say(&mut self, message: ManagerMessage) {
        if let Some(connection) = self.connection {
            self.feed(Event::ManagerMessage { connection, message: Box::new(message) });
        }
    }

    /// Sends the whole desired set.
    pub fn assign(&mut self) {
        let set = self.whole_set();
        self.say(ManagerMessage::Assign(set));
    }

    /// The whole desired set under the next fence.
    pub fn whole_set(&mut self) -> AssignmentSet {
        self.fence.sequence += 1;
        let upsert: Vec<_> = self.desired.values().cloned().collect();
        let hash = set_hash(&upsert);
        AssignmentSet { fence: self.fence, base: None, upsert, remove: vec![], hash, part: 0, more: false }
    }

    /// The newest container of a task.
    pub fn container_of(&self, task: u64) -> Option<String> {
        let of_task = self.engine.containers.values().filter(|c| c.labels.task == TaskId(task));
        of_task.max_by_key(|c| c.labels.attempt).map(|c| c.id.clone())
    }
}

fn agent(seed: u64, stored: Stored, now: Instant) -> Agent {
    let facts = Facts { hostname: "host".into(), ..Default::default() };
    let managers = vec!["m1:1".to_owned()];
    Agent::new(Config { cluster: CLUSTER, node: NODE, managers, facts, mesh: None, seed }, stored, now)
}

fn apply(ledger: &mut Stored, write: StoreWrite) {
    ledger.fence = write.fence.or(ledger.fence);
    if let Some(managers) = write.managers {
        ledger.managers = managers;
    }
    for assignment in write.assignments {
        ledger.assignments.retain(|a| a.task != assignment.task);
        ledger.assignments.push(assignment);
    }
    for (task, record) in write.records {
        ledger.records.retain(|(other, _)| *other != task);
        ledger.records.push((task, record));
    }
    ledger.assignments.retain(|a| !write.removed.contains(&a.task));
    ledger.records.retain(|(task, _)| !write.removed.contains(task));
}

/// A plain task of the service `web`.
pub fn assignment(task: u64) -> Assignment {
    Assignment {
        task: TaskId(task),
        service: ServiceId(3),
        service_name: "web".into(),
        slot: Slot::Replica(u32::try_from(task).expect("small")),
        template: TemplateVersion(1),
        desired: DesiredState::Running,
        container: Arc::new(ContainerSpec { image: "app:1".into(), ..Default::default() }),
        restart: RestartPolicy::default(),
        pin: None,
        node: NODE,
        node_name: "host".into(),
    }
}
