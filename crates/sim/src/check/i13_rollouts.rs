//! I13: updates and rollbacks end: done, paused or rolled back.
//!
//! While nothing is disturbed, one that is under way takes its next step within a time that follows from its policy, and it
//! is over within another, however often its tasks stumble. Each restart of it by an operator counts anew.

use std::{collections::BTreeMap, time::Duration};

use model::{
    hash::Fnv,
    id::ServiceId,
    service::{Mode, Promotion, RolloutState, Service, UpdatePolicy},
    time::ClusterTime,
};
use store::Store;

use crate::{
    knobs::Weather,
    queue::{SEC, Time},
    world::{Phase, World},
};

/// An engine at its slowest, several starts at once, a node that is lost and found: beyond what the policy says.
const SLACK: Time = 25 * SEC;
/// From a rollout's stored deadline to its end: a decision and its commit, after an election at worst.
const DEADLINE_SLACK: Time = 5 * SEC;
/// The longest freeze of the workload, from when it is known to its end. Where one is open nothing counts; when nothing else happens,
/// nobody says that it has ended.
const FREEZE: Time = 30 * SEC;
/// A task stumbles so often with its whole time anew; see `control`'s `standing`.
const TRIES: u32 = 4;

/// An update or rollback under way.
#[derive(Debug, Clone, Copy)]
struct Course {
    began: (ClusterTime, RolloutState),
    since: Time,
    /// What its tasks and its cursor looked like when they last changed, and when that was.
    look: u64,
    moved: Time,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Courses {
    by_service: BTreeMap<ServiceId, Course>,
    /// When one was last seen under way.
    last: Time,
}

impl Courses {
    /// When an update or rollback was last under way; each has a bound of its own.
    pub(crate) fn last(&self) -> Time {
        self.last
    }
}

impl World {
    /// The state has changed: who is under way, and who has moved?
    pub(crate) fn follow_rollouts(&mut self, store: &Store) {
        let now = self.now();
        let frozen = store.freezes().iter().any(|freeze| freeze.open_until(store.time()).is_some());
        let mut courses = BTreeMap::new();
        for service in store.services().filter(|service| !service.removing) {
            let Some(began) = under_way(service) else { continue };
            let known =
                self.checks.courses.by_service.get(&service.id).filter(|course| course.began == began);
            let look = look_of(store, service);
            let known = known.filter(|_| !frozen);
            let moved = known.filter(|course| course.look == look).map_or(now, |course| course.moved);
            let since = known.map_or(now, |course| course.since);
            courses.insert(service.id, Course { began, since, look, moved });
        }
        self.checks.courses.by_service = courses;
    }

    /// Twice a second: has one stood still for too long, or gone on for too long?
    pub(crate) fn check_rollouts(&mut self) {
        let now = self.now();
        // Only where nothing is disturbed, and from then on.
        let quiet = match (self.knobs.weather, self.phase) {
            (_, Phase::Calm(since)) => since,
            (Weather::Calm, _) => 0,
            (Weather::Rough, _) => return,
        };
        let Some(store) = self.checks.frontier() else { return };
        let mut late = None;
        for (id, course) in &self.checks.courses.by_service {
            let Some(service) = store.service(*id) else { continue };
            let (step, whole) = bounds(service, self.nodes.len() as u32);
            let frozen = if store.freezes().is_empty() { 0 } else { FREEZE };
            let (step, whole) = (step + frozen, whole + frozen);
            if now > course.moved.max(quiet) + step {
                late = Some((service.spec.name.clone(), course.began.1, "has not moved for", step));
            } else if now > course.since.max(quiet) + whole {
                late = Some((service.spec.name.clone(), course.began.1, "has not ended after", whole));
            } else if now > quiet + DEADLINE_SLACK && is_past_its_deadline(store, service) {
                late = Some((
                    service.spec.name.clone(),
                    course.began.1,
                    "goes on beyond its own deadline by",
                    DEADLINE_SLACK,
                ));
            }
        }
        if !self.checks.courses.by_service.is_empty() {
            self.checks.courses.last = now;
        }
        self.checks.count("rollouts watched");
        if let Some((name, state, what, bound)) = late {
            let what = format!("the rollout of {name} ({state:?}) {what} {} s", bound / SEC);
            self.violate("I13", what, vec![name]);
        }
    }
}

fn under_way(service: &Service) -> Option<(ClusterTime, RolloutState)> {
    let rollout = service.rollout.as_ref()?;
    // What waits for a person's word waits as long as that takes.
    let waits = rollout.state == RolloutState::AwaitingPromotion
        && rollout.holding().is_none_or(|canary| canary.promotion == Promotion::Manual);
    let going = rollout.state.is_under_way() && !waits;
    going.then_some((rollout.started, rollout.state))
}

fn look_of(store: &Store, service: &Service) -> u64 {
    let mut hash = Fnv::new();
    hash.write_u64(service.generation.0);
    store.tasks_of_service(service.id).for_each(|task| hash.write_u64(task.generation.0));
    hash.finish()
}

/// Judged by the cluster's own time, which stands still while nothing is committed.
fn is_past_its_deadline(store: &Store, service: &Service) -> bool {
    let rollout = service.rollout.as_ref().filter(|rollout| rollout.state != RolloutState::AwaitingPromotion);
    let deadline = rollout.and_then(|rollout| rollout.deadline);
    deadline.is_some_and(|at| at + Duration::from_nanos(DEADLINE_SLACK) < store.time())
}

/// The longest stand-still, and the longest course.
fn bounds(service: &Service, nodes: u32) -> (Time, Time) {
    let UpdatePolicy { progress_deadline, monitor, delay, .. } = service.spec.update;
    let templates = service.templates.values();
    let pause = templates.map(|template| template.restart.max_delay).max().unwrap_or_default();
    // The old container stops, the new one starts and is watched.
    let canary = service.rollout.as_ref().and_then(|rollout| rollout.canary.as_ref());
    let soak = canary.map_or(Duration::ZERO, |canary| canary.policy.soak);
    let hook = service.rollout.as_ref().and_then(|rollout| rollout.hook.as_ref());
    let hook = hook.map_or(Duration::ZERO, |hook| hook.timeout);
    let step = progress_deadline + monitor + delay + pause + soak + hook;
    let slots = match service.spec.mode {
        Mode::Replicated(replicas) => replicas,
        Mode::Global => nodes,
    };
    let batches = slots.div_ceil(service.spec.update.parallelism.max(1)).max(1);
    let whole = (progress_deadline + step * TRIES) * batches;
    (step.as_nanos() as Time + SLACK, whole.as_nanos() as Time + SLACK)
}
