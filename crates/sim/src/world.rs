//! The world: one agenda, every host, the network between them, and what the checks have seen.
//!
//! One thread, one clock. An event is taken from the agenda, handed to the process it is meant for, and what the process
//! wants done is done at once or put on the agenda. The files beside this one carry that out: `manager_side`,
//! `agent_side`, `engine_side`, `client_side`, `setup` and `faults`.

use std::collections::BTreeMap;

use model::{
    id::{ClusterId, MemberId, TokenId},
    request::{ApiError, Reply},
};

use crate::{
    agent::NodeHost,
    check::Checks,
    client::Clients,
    dice::Dice,
    engine::Plan,
    faults::{Fault, Faults},
    guests::Guests,
    knobs::{Knobs, Weather},
    manager::ManagerHost,
    network::{HostId, Network},
    queue::{MS, Queue, SEC, Time},
    report::{Outcome, Report, Violation},
    rotations::{Holder, Rotations},
    router::{Said, Step, Traffic},
    skip::Drawn,
    trace::Trace,
    versions::Versions,
    workload::Workload,
};

/// More events than this at one instant: a process that is woken over and over for what it cannot do yet. A daemon would
/// burn a core.
const MAX_AT_ONCE: u64 = 100_000;

/// A replica is used again so soon after the last fault: twice the longest that the mesh leaves one out.
const IN_ROTATION: Time = 16 * SEC;

/// A change of the state is known to every mesh so soon; looked at twice a second, it is so at some time.
const ROUTES_LAG: Time = 10 * SEC;

/// What can happen.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Manager {
        manager: usize,
        life: u64,
        input: ManagerInput,
    },
    Agent {
        node: usize,
        life: u64,
        input: AgentInput,
    },
    /// The next frame of a connection arrives.
    Frame {
        connection: u64,
        up: bool,
    },
    /// A dialled manager is reached, or is not.
    Dialled {
        node: usize,
        life: u64,
        local: u64,
        manager: usize,
    },
    /// An engine's call takes effect.
    Effect {
        node: usize,
        call: u64,
    },
    /// The agent's shell gives a call up.
    CallTimeout {
        node: usize,
        call: u64,
    },
    /// An application does what it planned.
    App {
        node: usize,
        plan: Plan,
    },
    /// An operator looks for something to do.
    Think {
        operator: usize,
    },
    /// A request reaches a manager.
    Ask {
        operation: usize,
        attempt: u32,
        manager: usize,
    },
    /// An answer reaches its client.
    Answer {
        operation: usize,
        attempt: u32,
        manager: usize,
        result: Box<Result<Reply, ApiError>>,
    },
    /// A client waits no longer.
    Impatient {
        operation: usize,
        attempt: u32,
    },
    /// A watcher (re)opens its watch.
    OpenWatch {
        watcher: usize,
        session: u64,
    },
    /// A piece of a watch arrives.
    Watched {
        watcher: usize,
        session: u64,
        manager: usize,
        result: Box<Result<Reply, ApiError>>,
    },
    /// Time for another fault.
    NextFault,
    /// A fault ends.
    Undo(Fault),
    /// A manager that was removed is switched off.
    Retire {
        manager: usize,
        member: MemberId,
    },
    /// A manager that was removed joins anew.
    Rejoin {
        manager: usize,
    },
    /// A manager that lost its log asks again for a new id.
    AskAgain {
        manager: usize,
    },
    /// Slow checks look at the whole.
    Probe,
    /// An agent's word reaches its mesh process.
    Router {
        node: usize,
        life: u64,
        said: Said,
    },
    /// A mesh process that was started is up.
    RouterStarts {
        node: usize,
    },
    /// A client asks for something.
    ClientAsks,
    /// Who was refused a certificate asks again.
    Paper {
        holder: Holder,
    },
    /// A client's request goes on.
    Request {
        id: u64,
        step: Step,
    },
    /// Bounds that a container's end set.
    Deadline(crate::check::Deadline),
}

/// What happens to a manager's process.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "short-lived, and boxing would cost an allocation an event")]
pub(crate) enum ManagerInput {
    Timer,
    Core(manager_core::Event),
    /// The disk has done what was begun.
    Written,
    /// Its disk was full: is there room again?
    LookForRoom,
    /// Its keyring is written.
    Kept {
        sequence: u64,
        keyring: Box<seal::Keyring>,
    },
}

/// What happens to an agent's process.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "short-lived, and boxing would cost an allocation an event")]
pub(crate) enum AgentInput {
    Timer,
    Core(agent_core::event::Event),
    /// The oldest write is durable.
    Stored,
    /// Its shell tries to reach the engine.
    Subscribe,
    /// Its shell lists the containers.
    List,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The cluster is being set up, without faults.
    Setup,
    /// Faults and work.
    Storm,
    /// Everything was healed at this time.
    Calm(Time),
    /// The end.
    Over,
}

/// A simulated cluster.
pub struct World {
    pub(crate) seed: u64,
    pub(crate) knobs: Knobs,
    pub(crate) cluster: ClusterId,
    pub(crate) queue: Queue<Event>,
    pub(crate) dice: Dice,
    pub(crate) network: Network,
    pub(crate) managers: Vec<ManagerHost>,
    pub(crate) nodes: Vec<NodeHost>,
    pub(crate) clients: Clients,
    pub(crate) workload: Workload,
    pub(crate) guests: Option<Guests>,
    pub(crate) rotations: Option<Rotations>,
    pub(crate) faults: Faults,
    pub(crate) checks: Checks,
    pub(crate) trace: Trace,
    pub(crate) phase: Phase,
    pub(crate) tokens: BTreeMap<&'static str, TokenId>,
    pub(crate) versions: Versions,
    pub(crate) traffic: Traffic,
    /// When the checks saw everything converged.
    pub(crate) converged: Option<Time>,
    pub(crate) events: u64,
    /// Of these since time last went on.
    instant: u64,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64, knobs: Knobs) -> Self {
        Self::build(seed, knobs, false)
    }

    /// As [`new`](Self::new), and remembers what happened in words, at a price.
    pub fn with_trace(seed: u64, knobs: Knobs) -> Self {
        Self::build(seed, knobs, true)
    }

    fn build(seed: u64, knobs: Knobs, trace: bool) -> Self {
        let mut dice = Dice::new(seed, "world");
        let hosts = knobs.managers + knobs.nodes;
        let network =
            Network::new(hosts, knobs.delay_us, knobs.loss, knobs.duplication, Dice::new(seed, "network"));
        let names = (0..knobs.nodes).map(|node| format!("n{node}")).collect();
        let managers = (0..knobs.managers).map(|number| crate::setup::manager(number, &mut dice)).collect();
        let nodes =
            (0..knobs.nodes).map(|number| crate::setup::node(seed, number, &knobs, &mut dice)).collect();
        Self {
            cluster: ClusterId(dice.any()),
            queue: Queue::new(),
            network,
            managers,
            nodes,
            clients: Clients::new(Dice::new(seed, "clients"), knobs.operators),
            guests: knobs.guests.then(|| Guests::new(seed)),
            rotations: knobs.rotations.then(|| Rotations::new(seed)),
            workload: Workload::new(seed, names, &knobs),
            faults: Faults::new(Dice::new(seed, "faults"), Dice::new(seed, "disk faults")),
            checks: Checks::new(),
            trace: Trace::new(trace),
            phase: Phase::Setup,
            tokens: BTreeMap::new(),
            versions: Versions::new(knobs.mixed, Dice::new(seed, "versions")),
            traffic: Traffic { dice: Dice::new(seed, "traffic"), under_way: BTreeMap::new(), next: 0 },
            converged: None,
            events: 0,
            instant: 0,
            dice,
            seed,
            knobs,
        }
    }

    /// The run ended in a panic: what it said.
    pub(crate) fn panicked(&mut self, message: String) -> Report {
        self.violate("panic", message, Vec::new());
        self.report()
    }

    /// Lives through the world: sets the cluster up, disturbs it, heals it, and waits until it has converged.
    pub fn run(&mut self) -> Report {
        self.begin();
        while self.phase != Phase::Over && self.checks.violation().is_none() {
            let before = self.now();
            let Some(event) = self.queue.next() else { break };
            self.events += 1;
            self.instant = if self.now() == before { self.instant + 1 } else { 0 };
            if self.instant > MAX_AT_ONCE {
                let what = format!("somebody spins: {MAX_AT_ONCE} events at one instant, the last {event:?}");
                self.violate("I23", what.chars().take(300).collect(), Vec::new());
            }
            self.handle(event);
        }
        if self.checks.violation().is_none() {
            self.finish();
        }
        self.report()
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Manager { manager, life, input } => self.manager_event(manager, life, input),
            Event::Agent { node, life, input } => self.agent_event(node, life, input),
            Event::Frame { connection, up } => self.frame(connection, up),
            Event::Dialled { node, life, local, manager } => self.dialled(node, life, local, manager),
            Event::Effect { node, call } => self.effect(node, call),
            Event::CallTimeout { node, call } => self.call_timeout(node, call),
            Event::App { node, plan } => self.app(node, plan),
            Event::Think { operator } => self.think(operator),
            Event::Ask { operation, attempt, manager } => self.ask(operation, attempt, manager),
            Event::Answer { operation, attempt, manager, result } => {
                self.answer(operation, attempt, manager, *result);
            }
            Event::Impatient { operation, attempt } => self.impatient(operation, attempt),
            Event::OpenWatch { watcher, session } => self.open_watch(watcher, session),
            Event::Watched { watcher, session, manager, result } => {
                self.watched(watcher, session, manager, *result);
            }
            Event::NextFault => self.next_fault(),
            Event::Undo(fault) => self.undo(&fault),
            Event::Retire { manager, member } => {
                self.retire(manager, member);
            }
            Event::Rejoin { manager } => self.join_manager(manager),
            Event::AskAgain { manager } => self.ask_again(manager),
            Event::Router { node, life, said } => self.router_hears(node, life, said),
            Event::RouterStarts { node } => self.router_starts(node),
            Event::ClientAsks => self.client_asks(),
            Event::Paper { holder } => self.ask_for_paper(holder),
            Event::Request { id, step } => self.request_goes_on(id, step),
            Event::Probe => self.probe(),
            Event::Deadline(deadline) => self.deadline(&deadline),
        }
    }

    /// The present.
    pub(crate) fn now(&self) -> Time {
        self.queue.now()
    }

    /// A node's host number.
    pub(crate) fn node_host(&self, node: usize) -> HostId {
        self.managers.len() + node
    }

    /// Something that must hold does not.
    pub(crate) fn violate(&mut self, invariant: &'static str, what: String, about: Vec<String>) {
        let at = self.now();
        self.trace.fault(at, || format!("VIOLATION {invariant}: {what}"));
        self.checks.report(Violation { invariant, what, at_ms: at / MS, about, trace: Vec::new() });
    }

    /// The slow checks, and the phases' ends.
    fn probe(&mut self) {
        self.queue.after(500 * MS, Event::Probe);
        let now = self.now();
        match self.phase {
            Phase::Setup => self.setup_probe(),
            Phase::Storm if now >= self.faults.until => self.heal(),
            Phase::Storm => self.look(),
            Phase::Calm(since) => {
                self.look();
                self.calm_probe(since, now);
            }
            Phase::Over => {}
        }
    }

    fn calm_probe(&mut self, since: Time, now: Time) {
        // An update under way is to end within its own bound (I13); all else is to be so soon after it.
        let since = since.max(self.checks.last_rollout());
        match (self.converged, self.unconverged()) {
            (None, None) => {
                self.converged = Some(now);
                self.trace.fault(now, || "converged".to_owned());
                self.final_reads();
            }
            (Some(at), None) if now >= at + self.quiet() && self.clients.is_idle() => {
                match self.not_in_rotation() {
                    None => self.phase = Phase::Over,
                    // A replica that crashes again and again has always just left, or is just about to.
                    Some((what, about)) if now >= at + self.quiet() + ROUTES_LAG => {
                        self.violate("T2", what, about);
                    }
                    Some(_) => {}
                }
            }
            (Some(_), Some(_)) => self.converged = None,
            (None, Some(what)) if now > since + self.knobs.converge_secs * SEC => {
                self.violate(
                    "I16",
                    format!("not converged in {} s: {}", self.knobs.converge_secs, what.0),
                    what.1,
                );
            }
            _ => {}
        }
        if now > since + 2 * self.knobs.converge_secs * SEC {
            self.violate("I16", "the cluster does not stay converged".to_owned(), Vec::new());
        }
    }

    /// How long all is to stay as it is: where there is traffic, longer than a replica that failed is left out.
    fn quiet(&self) -> Time {
        if self.knobs.traffic_ms.is_some() { IN_ROTATION } else { 4 * SEC }
    }

    fn report(&mut self) -> Report {
        let converge_ms = match (self.phase, self.converged, self.faults.healed_at) {
            (_, Some(at), Some(healed)) => Some(at.saturating_sub(healed) / MS),
            _ => None,
        };
        let mut violation = self.checks.take_violation();
        if let Some(violation) = &mut violation {
            violation.trace = self.trace.about(&violation.about, 60);
        }
        Report {
            seed: self.seed,
            calm: self.knobs.weather == Weather::Calm,
            simulated_ms: self.now() / MS,
            events: self.events,
            faults: self.faults.counts.clone(),
            requests: self.clients.counts(),
            observed: self.checks.counts(),
            drawn: Drawn { faults: self.faults.drawn, steps: self.workload.steps },
            converge_ms,
            trace_hash: self.trace.hash(),
            outcome: violation.map_or(Outcome::Held, Outcome::Broken),
        }
    }

    /// The whole trace, in words; empty without [`with_trace`](Self::with_trace).
    pub fn lines(&self) -> Vec<String> {
        self.trace.all()
    }
}
