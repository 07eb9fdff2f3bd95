//! What must hold, each invariant in a file named after it. The world calls in here after every step of a manager, at
//! every happening in an engine, at every message to an agent, twice a second, and at the end.

mod fetched;
mod i01_linearizable;
mod i02_one_leader;
mod i03_same_state;
mod i04_slots;
mod i05_slot_doubles;
mod i06_fences;
mod i07_task_doubles;
mod i08_alone;
mod i09_no_restart;
mod i09_nodes_down;
mod i11_floor;
mod i12_rollback;
mod i13_rollouts;
mod i14_drained;
mod i15_bounds;
mod i16_converged;
mod i17_stamps;
mod i18_watch;
mod i19_logins;
mod i20_own_tasks;
mod i20_secrets;
mod i21_deployers;
mod i21_sessions;
mod i22_policies;
mod i24_audit;
mod jobs;
mod releases;
mod rotation;

pub(crate) use i08_alone::Deadline;
pub(crate) use i09_no_restart::note_health;

use std::collections::{BTreeMap, VecDeque};

use model::{
    id::{ServiceId, TaskId},
    service::Slot,
};
use store::Store;

use crate::{
    engine::Happening,
    queue::{SEC, Time},
    report::Violation,
    world::{Event, Phase, World},
};

/// What is decided now was decided on a state of the last so many seconds: a slow disk and a change of leaders may lie
/// between a decision and its commit.
const RECENT: Time = 10 * SEC;

/// What the checks remember.
pub(crate) struct Checks {
    violation: Option<Violation>,
    counts: BTreeMap<&'static str, u64>,
    /// The state at the highest index that any manager has applied.
    frontier: Option<Store>,
    began: Time,
    /// Every task that ever was.
    slots: BTreeMap<TaskId, (ServiceId, Slot)>,
    /// The states before it, of the last seconds.
    recent: VecDeque<(Time, Store)>,
    pairs: i04_slots::Pairs,
    silence: i09_nodes_down::Silence,
    stamps: i17_stamps::Stamps,
    rejections: i15_bounds::Rejections,
    leaders: i02_one_leader::Leaders,
    hashes: i03_same_state::Hashes,
    doubles: i05_slot_doubles::Doubles,
    starts: i08_alone::Starts,
    floors: i11_floor::Floors,
    courses: i13_rollouts::Courses,
    events: i18_watch::Events,
    jobs: jobs::Jobs,
    rotation: rotation::Rotation,
    audit: i24_audit::Audits,
    pub(crate) logins: i19_logins::Logins,
    pub(crate) sessions: i21_sessions::Sessions,
}

impl Checks {
    pub(crate) fn new() -> Self {
        Self {
            violation: None,
            counts: BTreeMap::new(),
            frontier: None,
            began: 0,
            slots: BTreeMap::new(),
            recent: VecDeque::new(),
            pairs: i04_slots::Pairs::default(),
            silence: i09_nodes_down::Silence::default(),
            stamps: i17_stamps::Stamps::default(),
            rejections: i15_bounds::Rejections::default(),
            leaders: i02_one_leader::Leaders::default(),
            hashes: i03_same_state::Hashes::default(),
            doubles: i05_slot_doubles::Doubles::default(),
            starts: i08_alone::Starts::default(),
            floors: i11_floor::Floors::default(),
            courses: i13_rollouts::Courses::default(),
            events: i18_watch::Events::default(),
            jobs: jobs::Jobs::default(),
            rotation: rotation::Rotation::default(),
            audit: i24_audit::Audits::default(),
            logins: i19_logins::Logins::default(),
            sessions: i21_sessions::Sessions::default(),
        }
    }

    /// The first violation counts.
    pub(crate) fn report(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    pub(crate) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    pub(crate) fn take_violation(&mut self) -> Option<Violation> {
        self.violation.take()
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.clone()
    }

    /// The newest state that is known to be committed.
    pub(crate) fn frontier(&self) -> Option<&Store> {
        self.frontier.as_ref()
    }

    /// When an update or rollback was last seen under way, where that is watched.
    pub(crate) fn last_rollout(&self) -> Time {
        self.courses.last()
    }

    /// Who leads in the highest term.
    pub(crate) fn newest_leader(&self) -> Option<usize> {
        self.leaders.newest()
    }

    /// The storm begins.
    pub(crate) fn storm_begins(&mut self, now: Time) {
        self.began = now;
        self.leaders.settle();
    }

    pub(crate) fn began(&self) -> Time {
        self.began
    }

    pub(crate) fn manager_ended(&mut self, manager: usize, _life: u64) {
        self.hashes.forget(manager);
    }

    pub(crate) fn ledger_lost(&mut self, _node: usize) {
        self.count("ledgers lost");
    }
}

impl World {
    /// A manager's state after a step.
    pub(crate) fn observe_manager(&mut self, manager: usize) {
        let Some(process) = &self.managers[manager].process else { return };
        let applied = process.core.store().applied();
        if self.phase == Phase::Setup || !self.managers.iter().all(|host| host.has_state) {
            self.managers[manager].has_state |= applied > 0;
            self.check_voters(manager);
        }
        let Some(process) = &self.managers[manager].process else { return };
        let store = process.core.store();
        if !self.checks.hashes.is_news(manager, applied) {
            return;
        }
        let store = store.clone();
        let at = self.now();
        self.trace.mark(at, 60 + manager as u64, store.hash());
        self.check_same_audit(manager, &store);
        self.check_same_state(manager, &store);
        let known = self.checks.frontier.as_ref().map_or(0, Store::applied);
        if applied > known {
            let before = self.checks.frontier.replace(store.clone());
            self.new_frontier(before.as_ref(), &store);
            self.keep_a_while(before);
            self.find_removed_managers();
        }
    }

    /// More was committed than was known before.
    fn new_frontier(&mut self, before: Option<&Store>, store: &Store) {
        self.checks.count("frontiers");
        for task in store.tasks() {
            self.checks.slots.entry(task.id).or_insert((task.service, task.slot));
        }
        self.trace_tasks(before, store);
        self.check_bounds(store);
        self.check_events(store);
        self.check_stamps(store);
        self.check_audit(store);
        if let Some(before) = before {
            self.check_slots(before, store);
            self.check_releases(before, store);
            self.check_deployers(before, store);
            self.check_sessions(before, store);
            self.check_logins(before, store);
            self.check_policies(before, store);
            self.check_jobs(before, store);
            self.check_rejections(before, store);
            self.check_stops(before, store);
            self.check_fetched(before, store);
            self.check_readiness(before, store);
            self.check_nodes_down(before, store);
            self.check_placements(before, store);
        }
        self.check_floors(store);
        self.follow_rollouts(store);
    }

    /// Members that the newest state does not know any more.
    fn find_removed_managers(&mut self) {
        for manager in 0..self.managers.len() {
            let host = &self.managers[manager];
            if host.replacing {
                continue;
            }
            let of = |store: &Store| store.member(host.member).is_some();
            let was = self.checks.recent.iter().any(|(_, store)| of(store));
            if was && !self.checks.frontier().is_some_and(of) && !host.removed {
                let member = host.member;
                // Somebody has to come and end it, should it not end by itself.
                let after = self.dice.millis(200, 3_000);
                self.queue.after(after, Event::Retire { manager, member });
            }
        }
    }

    /// Keeps a state that was the newest until now, for a while.
    fn keep_a_while(&mut self, state: Option<Store>) {
        let now = self.now();
        let recent = &mut self.checks.recent;
        recent.extend(state.map(|state| (now, state)));
        while recent.front().is_some_and(|(until, _)| until + RECENT < now) {
            recent.pop_front();
        }
    }

    fn trace_tasks(&mut self, before: Option<&Store>, store: &Store) {
        let now = self.now();
        for task in store.tasks() {
            let old = before.and_then(|before| before.task(task.id));
            if old.is_some_and(|old| old.generation == task.generation) {
                continue;
            }
            let service =
                store.service(task.service).map(|service| service.spec.name.clone()).unwrap_or_default();
            self.trace.line(now, || {
                let node =
                    task.node.and_then(|node| store.node(node)).map_or("-", |node| &node.facts.hostname);
                let state = &task.observed;
                format!(
                    "@{} task {} {service}.{} v{} on {node}: desired {:?}, {:?}/{:?} attempt {} {}",
                    store.applied(),
                    task.id,
                    task.slot,
                    task.template.0,
                    task.desired,
                    state.state,
                    state.health,
                    state.attempt,
                    state.message
                )
            });
        }
        for node in store.nodes() {
            let old = before.and_then(|before| before.node(node.id));
            if old.is_none_or(|old| {
                (old.state, &old.spec, old.facts.engine_ok) != (node.state, &node.spec, node.facts.engine_ok)
            }) {
                let (state, availability) = (node.state, node.spec.availability);
                let (name, message, ok) = (&node.facts.hostname, &node.message, node.facts.engine_ok);
                self.trace.line(now, || {
                    format!(
                        "@{} node {name}: {state:?} {availability:?} engine {ok} {message}",
                        store.applied()
                    )
                });
            }
        }
    }

    /// Something happened to a container.
    pub(crate) fn container_happened(&mut self, node: usize, happening: &Happening) {
        if happening.labels.is_none() {
            self.violate(
                "I9",
                format!("a foreign container was touched: {happening:?}"),
                vec![format!("n{node}")],
            );
            return;
        }
        match happening.change {
            agent_core::engine::Change::Started => {
                self.check_task_doubles(node, happening);
                self.check_slot_doubles(node, happening);
                self.started(node, happening);
                self.note_start(node, happening);
            }
            agent_core::engine::Change::Died { .. } => {
                self.checks.count("containers ended");
                self.died(node, happening);
                self.check_quiet(node, happening);
            }
            _ => {}
        }
        self.check_floors_now();
    }

    /// Twice a second.
    pub(crate) fn look(&mut self) {
        self.check_lasting_doubles();
        self.check_agents();
        self.check_rollouts();
        self.check_jobs_end();
    }

    /// At the end of a run that broke nothing.
    pub(crate) fn finish(&mut self) {
        if self.phase != Phase::Over {
            return;
        }
        self.check_histories();
        self.check_all_recorded();
        self.check_canaries();
        if let Some(store) = self.checks.frontier.clone()
            && let Err(error) = store.check()
        {
            self.violate("I3", error.to_string(), Vec::new());
        }
    }
}
