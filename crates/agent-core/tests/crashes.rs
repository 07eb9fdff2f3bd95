//! The agent dies at any point, answers are lost, the engine comes and goes: never two containers of one attempt, never
//! two of one task at once, never a healthy container stopped without a reason, and in the end what is wanted runs.

mod world;

use std::{collections::BTreeSet, time::Duration};

use agent_core::{
    engine::{EngineCall, EngineErrorKind},
    event::{EngineFacts, Event},
    stored::Stored,
};
use model::{
    id::TaskId,
    task::{DesiredState, Observed, TaskState},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use world::{World, assignment, engine::Phase};

const SEEDS: u64 = 600;
const STEPS: u32 = 120;
/// Always wanted; the others come and go.
const KEPT: [u64; 2] = [1, 2];

#[test]
fn whatever_breaks_no_container_is_doubled_and_none_is_stopped_needlessly() {
    for seed in 0..SEEDS {
        let mut story = Story::new(seed);
        for _ in 0..STEPS {
            story.step();
        }
        story.heal();
    }
}

struct Story {
    world: World,
    rng: ChaCha8Rng,
    seed: u64,
    used: u64,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        for task in KEPT {
            world.desired.insert(TaskId(task), assignment(task));
        }
        Self { world, rng: ChaCha8Rng::seed_from_u64(seed), seed, used: 10 }
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..30 => self.answer(),
            30..50 => self.world.store_one(),
            50..55 => self.lose_answer(),
            55..60 => self.world.restart(),
            60..68 if !self.world.engine_up => self.world.engine_up(),
            60..61 => self.late_list(),
            61..62 => {
                self.world.ledger = Stored::default();
                self.world.restart();
            }
            68..70 => self.world.engine_down(),
            70..74 => self.session(),
            74..80 => self.change_desired(),
            80..86 => self.crash_container(),
            86..87 => {
                self.world.engine_down();
                self.world.engine.power_off(self.world.now);
            }
            _ => self.world.advance(Duration::from_millis(self.rng.random_range(1..3_000))),
        }
        self.check();
    }

    fn answer(&mut self) {
        if let Some((_, call)) = self.world.calls.front() {
            self.check_call(&call.clone());
        }
        if self.world.engine_up {
            self.world.answer_one();
        } else {
            self.world.fail_one(EngineErrorKind::Unavailable, "connection refused", false);
        }
    }

    /// The engine's list was taken before a call was carried out, and comes after its answer.
    fn late_list(&mut self) {
        let containers = self.world.engine.list(self.world.now);
        self.answer();
        self.world.engine_down();
        self.world.engine_up = true;
        self.world.feed(Event::EngineUp(EngineFacts::default()));
        self.world.feed(Event::EngineListed { containers });
    }

    fn lose_answer(&mut self) {
        let done = self.rng.random();
        if let (true, Some((_, call))) = (done, self.world.calls.front()) {
            self.check_call(&call.clone());
        }
        let kinds = [EngineErrorKind::Timeout, EngineErrorKind::Unavailable, EngineErrorKind::Other];
        let kind = kinds[self.rng.random_range(0..kinds.len())];
        self.world.fail_one(kind, "lost", done);
    }

    fn session(&mut self) {
        self.world.close_session();
        self.world.open_session();
        self.world.assign();
    }

    /// Task ids are never used again, and what is to be stopped never runs again.
    fn change_desired(&mut self) {
        let others: Vec<_> = self.world.desired.keys().copied().filter(|id| !KEPT.contains(&id.0)).collect();
        let chosen = others.get(self.rng.random_range(0..others.len().max(1))).copied();
        match (self.rng.random_range(0..3), chosen) {
            (0, Some(task)) => drop(self.world.desired.remove(&task)),
            (1, Some(task)) => {
                let wanted = self.world.desired.get_mut(&task).expect("chosen from what is there");
                wanted.desired = DesiredState::Stopped;
            }
            _ => {
                self.used += 1;
                self.world.desired.insert(TaskId(self.used), assignment(self.used));
            }
        }
        self.world.assign();
    }

    fn crash_container(&mut self) {
        let task = KEPT[self.rng.random_range(0..KEPT.len())];
        if let Some(container) = self.world.container_of(task) {
            self.world.engine.end(&container, 1, self.world.now);
            self.world.deliver_events();
        }
    }

    /// A running container of a task that was always wanted is never stopped or removed.
    fn check_call(&self, call: &EngineCall) {
        let (EngineCall::Stop { container, .. } | EngineCall::Remove { container, .. }) = call else {
            return;
        };
        let Some(container) = self.world.engine.containers.get(container) else { return };
        let needless =
            KEPT.contains(&container.labels.task.0) && matches!(container.phase, Phase::Running { .. });
        assert!(!needless, "seed {}: {call:?} of {}", self.seed, container.name);
    }

    fn check(&self) {
        let mut running = BTreeSet::new();
        for container in self.world.engine.containers.values() {
            if matches!(container.phase, Phase::Running { .. }) {
                assert!(
                    running.insert(container.labels.task),
                    "seed {}: two of {}",
                    self.seed,
                    container.name
                );
            }
        }
        let mut started = BTreeSet::new();
        for name in &self.world.engine.started {
            assert!(started.insert(name), "seed {}: {name} was started twice", self.seed);
        }
    }

    /// All faults end: soon what is wanted runs, and nothing else is left.
    fn heal(&mut self) {
        if !self.world.engine_up {
            self.world.engine_up();
        }
        self.session();
        for _ in 0..100 {
            while !self.world.calls.is_empty() || !self.world.writes.is_empty() {
                self.world.store_all();
                self.answer();
                self.check();
            }
            self.world.advance(Duration::from_secs(2));
        }
        for (task, wanted) in &self.world.desired {
            let observed = self.world.agent.tasks().find(|(id, _)| id == task).map(|(_, o)| o.clone());
            let running = self
                .world
                .container_of(task.0)
                .is_some_and(|id| matches!(self.world.engine.containers[&id].phase, Phase::Running { .. }));
            let lost = |o: &Observed| o.state == TaskState::Rejected && o.message == "lost";
            let rejected = observed.as_ref().is_some_and(lost);
            let expected = wanted.desired == DesiredState::Running && !rejected;
            assert_eq!(running, expected, "seed {}: task {task}: {observed:?}", self.seed);
        }
        for container in self.world.engine.containers.values() {
            let known = self.world.desired.contains_key(&container.labels.task);
            assert!(known, "seed {}: {} was left behind", self.seed, container.name);
        }
    }
}
