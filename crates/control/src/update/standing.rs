//! One slot, judged: who stays, who goes, is it fit for work, has it failed.

use model::{
    service::{FailureAction, Mode, RolloutState, Service, Slot},
    task::{DesiredState, Health, Task, TaskState},
    time::ClusterTime,
};

use planted::Bug;

use super::{is_same, is_under_way, takes_new};
use crate::{
    enforce, explain,
    pass::Pass,
    reconcile::{
        self,
        fill::{frozen, is_outdated, keeps_its_own, wants_to_move},
        slot::{SlotTasks, is_healthy, is_on_lost_node, node_of},
    },
    restart,
};

/// Restarts that are stumbles, each with a time of its own to become healthy; beyond it the time counts from the start,
/// or a template that runs for a while and ends, over and over, would hold a rollout for ever.
const MAX_STUMBLES: u32 = 3;
/// So many rejections in a row mean that the template, not a node, is at fault.
const MAX_REJECTIONS: u32 = 3;

/// What a slot looks like to the updater.
pub(super) struct Standing<'a> {
    pub(super) slot: Slot,
    /// This plan has decided something here already.
    pub(super) acted: bool,
    /// The task that is where and what it should be.
    pub(super) stays: Option<&'a Task>,
    /// The task to be replaced.
    pub(super) goes: Option<&'a Task>,
    /// The slot is kept by an ended task of an older template.
    pub(super) ended_outdated: bool,
    /// The slot is kept by a task of the wanted template that failed and is not restarted.
    failed_for_good: bool,
    /// The newest task completed on the wanted template.
    pub(super) completed: bool,
    /// Tasks that lost against a better one of their slot.
    pub(super) surplus: Vec<&'a Task>,
    pub(super) newest: Option<&'a Task>,
    /// A container of the slot is still on its way out: a third one must not join it.
    stopping: bool,
    /// Some task of the slot is known to be healthy.
    pub(super) healthy: bool,
    /// The task that stays is healthy, for long enough; or it completed.
    pub(super) good: bool,
    /// Its move has begun and is not over.
    pub(super) in_flight: bool,
    /// It must leave its node.
    pub(super) leaves: bool,
    /// Not counted: see the module's head.
    pub(super) excluded: bool,
    /// The rollout waits for its canaries, and this is none.
    pub(super) held: bool,
    /// The rollout waits for the end of a freeze here.
    pub(super) frozen: Option<ClusterTime>,
    /// Not counted because its new template did not become healthy here.
    given_up: bool,
    /// The successor has had its time.
    pub(super) overdue: bool,
    /// Why the new template failed here.
    pub(super) failure: Option<String>,
    /// What is not healthy is no product of this rollout: it neither fails it nor is it in flight.
    pub(super) old_failure: bool,
    /// When to look again.
    pub(super) next_look: Option<ClusterTime>,
}

impl<'a> Standing<'a> {
    pub(super) fn judge(pass: &Pass<'a>, service: &Service, slot: Slot) -> Self {
        let acted = pass.has_acted(service.id, slot);
        let tasks = reconcile::read(pass, service, slot);
        let (goes, stays): (Vec<&Task>, Vec<&Task>) =
            tasks.active.iter().copied().partition(|task| wants_to_move(pass, service, task));
        let (stays, mut surplus) = best(pass, stays);
        let (goes, more) = best(pass, goes);
        surplus.extend(more);
        let occupant = tasks.occupant();
        let current = |task: &&Task| !is_outdated(pass, service, task);
        let arrived = stays.or_else(|| {
            let done = tasks.newest.filter(|task| task.desired == DesiredState::Running);
            done.filter(|task| task.observed.state.is_terminal()).filter(current)
        });
        let leaving = surplus.iter().any(|task| task.node.is_some());
        let mut standing = Self {
            slot,
            acted,
            stays,
            goes,
            ended_outdated: occupant.is_some_and(|task| !current(&task)),
            failed_for_good: occupant
                .is_some_and(|task| task.observed.state == TaskState::Failed && current(&task)),
            completed: arrived.is_some_and(|task| task.observed.state == TaskState::Completed),
            surplus: if acted { Vec::new() } else { surplus },
            newest: tasks.newest,
            stopping: tasks.stopping.is_some() || leaving,
            healthy: !acted && tasks.active.iter().any(|task| is_healthy(pass.store, task)),
            good: false,
            in_flight: false,
            leaves: goes.is_some_and(|task| enforce::must_leave(pass.store, service, task).is_some()),
            excluded: false,
            held: is_under_way(service) && keeps_its_own(pass, service, slot),
            frozen: frozen(pass, service, slot),
            given_up: false,
            overdue: false,
            failure: None,
            old_failure: false,
            next_look: None,
        };
        standing.watch(pass, service, &tasks, arrived);
        standing.classify(pass, service);
        standing
    }

    /// Judges the task that is to stay: good, failed, or still being watched until when.
    fn watch(&mut self, pass: &Pass<'_>, service: &Service, tasks: &SlotTasks<'_>, arrived: Option<&Task>) {
        let policy = &service.spec.update;
        let Some(task) = arrived else {
            let stuck = tasks.stopping.filter(|task| task.observed.state == TaskState::Stopping);
            if let Some(task) = stuck.filter(|_| tasks.active.is_empty()) {
                self.expect_by(pass, task.since + policy.progress_deadline);
                let slot = explain::slot_name(pass.store, self.slot);
                self.failure =
                    self.overdue.then(|| format!("the old container of slot {slot} does not stop"));
            }
            return;
        };
        if self.completed {
            self.good = true;
            return;
        }
        if is_healthy(pass.store, task) && is_same(self.stays, task) {
            // One that was there before is none that the rollout has brought.
            let brought = service.rollout.as_ref().filter(|rollout| task.created >= rollout.started);
            let monitored = match brought.filter(|_| is_under_way(service)) {
                Some(_) => task.healthy_since.unwrap_or(task.since) + policy.monitor,
                None => ClusterTime(0),
            };
            if let Some(fault) = self.fault(service, task) {
                self.failure = Some(format!("{}: {fault}", self.place(pass, task)));
                return;
            }
            self.good = monitored <= pass.now;
            self.next_look = (!self.good).then_some(monitored);
            return;
        }
        let rollout = service.rollout.as_ref().filter(|_| is_under_way(service));
        // What was paused has its whole time again when it goes on.
        let began = rollout.map(|rollout| rollout.resumed.unwrap_or(rollout.started)).unwrap_or_default();
        self.expect_by(pass, self.begun(tasks, task).max(began) + policy.progress_deadline);
        self.failure = self.failure_of(pass, service, task);
        self.old_failure = self.held || rollout.is_some_and(|rollout| task.created < rollout.started);
    }

    /// What routers saw of a replica that this rollout brought.
    fn fault<'t>(&self, service: &Service, task: &'t Task) -> Option<&'t str> {
        let seen = is_under_way(service) && !self.held && !planted::is(Bug::FaultIgnored);
        let rollout = service.rollout.as_ref().filter(|_| seen)?;
        let brought = task.template == rollout.target && rollout.state != RolloutState::RollingBack;
        Some(&task.fault_since(rollout.begun()).filter(|_| brought)?.message)
    }

    fn place(&self, pass: &Pass<'_>, task: &Task) -> String {
        let slot = explain::slot_name(pass.store, self.slot);
        match node_of(pass.store, task) {
            Some(node) => format!("slot {slot} on {}", node.facts.hostname),
            None => format!("slot {slot}"),
        }
    }

    fn expect_by(&mut self, pass: &Pass<'_>, deadline: ClusterTime) {
        self.overdue = deadline <= pass.now;
        self.next_look = (!self.overdue).then_some(deadline);
    }

    /// Since when the slot tries to become healthy on its template.
    fn begun(&self, tasks: &SlotTasks<'_>, task: &Task) -> ClusterTime {
        if task.observed.state == TaskState::CrashLoop {
            return task.created;
        }
        if (1..=MAX_STUMBLES).contains(&task.observed.restarts) {
            return task.since;
        }
        let earlier = tasks
            .ended
            .iter()
            .filter(|ended| ended.template == task.template && ended.observed.state == TaskState::Rejected);
        earlier.map(|ended| ended.created).min().unwrap_or(task.created).min(task.created)
    }

    fn failure_of(&self, pass: &Pass<'_>, service: &Service, task: &Task) -> Option<String> {
        let place = || self.place(pass, task);
        let message = explain::with_cause(task);
        let rejections = restart::failures(task);
        if rejections >= MAX_REJECTIONS {
            return Some(format!("{} was rejected {}{message}", place(), explain::times(rejections)));
        }
        match (task.observed.state, task.observed.health) {
            (TaskState::CrashLoop, _) => Some(format!("{} ends again and again{message}", place())),
            (TaskState::Failed, _) => Some(format!("{} failed{message}", place())),
            (TaskState::Running, Health::Unhealthy) => Some(format!("{} is unhealthy{message}", place())),
            (TaskState::Running, Health::Unready) => Some(format!("{} is not ready{message}", place())),
            _ if self.overdue => {
                let limit = service.spec.update.progress_deadline.as_secs();
                let state = task.observed.state;
                Some(format!("{} did not become healthy within {limit} s: it is {state}{message}", place()))
            }
            _ => None,
        }
    }

    fn classify(&mut self, pass: &Pass<'_>, service: &Service) {
        let active = self.goes.or(self.stays);
        let lost = active.is_some_and(|task| is_on_lost_node(pass.store, task)) && !self.acted;
        let unreachable = match service.spec.mode {
            Mode::Global => !takes_new(pass, service, self.slot),
            Mode::Replicated(_) => lost && (self.goes.is_none() || self.stays.is_none()),
        };
        let given_up = match is_under_way(service) {
            true => self.failure.is_some() && (continues(service) || self.old_failure && self.overdue),
            false => self.overdue || self.failed_for_good,
        };
        let homeless = self.is_homeless(service);
        self.excluded = unreachable || given_up || homeless;
        self.given_up = given_up && !unreachable && !homeless;
        let empty = active.is_none() && !self.ended_outdated && !self.completed;
        let arriving = self.stays.is_some() && !self.good && !self.old_failure && !homeless;
        let paired = self.stays.is_some() && self.goes.is_some();
        self.in_flight = self.acted || empty || arriving || paired || self.stopping;
    }

    /// Whether the rollout's template failed here, and the slot was not given up.
    pub(super) fn fails_rollout(&self) -> bool {
        self.failure.is_some() && !self.excluded && !self.old_failure
    }

    /// Leaves a slot out in which the rollout's template failed.
    pub(super) fn give_up(&mut self) {
        if self.fails_rollout() {
            (self.excluded, self.given_up) = (true, true);
        }
    }

    /// Whether its task left a node and no other can take it: to wait for it would keep a drained node full for ever.
    fn is_homeless(&self, service: &Service) -> bool {
        self.goes.is_none() && self.has_no_room(service)
    }

    /// Whether the task that is to stay has no node, because none can take it.
    pub(super) fn has_no_room(&self, service: &Service) -> bool {
        let refused = |task: &Task| task.pending.as_ref().is_some_and(|reason| !reason.filters.is_empty());
        let waits = |task: &Task| task.node.is_none() && refused(task);
        !is_under_way(service) && !self.acted && self.stays.is_some_and(waits)
    }

    /// Whether its replacement may begin. Where an update was given up the old task goes on, but not on a node that it must
    /// leave: a drain ends.
    pub(super) fn is_candidate(&self, pass: &Pass<'_>, service: &Service) -> bool {
        if self.excluded && !(self.given_up && self.leaves) {
            return false;
        }
        let outdated = self.goes.is_some() || self.ended_outdated;
        outdated
            && self.stays.is_none()
            && !self.stopping
            && !self.completed
            && !self.acted
            && takes_new(pass, service, self.slot)
    }
}

fn continues(service: &Service) -> bool {
    service.spec.update.failure_action == FailureAction::Continue
}

/// The healthiest of several, the oldest of equals, and the others.
fn best<'a>(pass: &Pass<'_>, mut tasks: Vec<&'a Task>) -> (Option<&'a Task>, Vec<&'a Task>) {
    let first = tasks.iter().position(|task| is_healthy(pass.store, task)).unwrap_or(0);
    if tasks.is_empty() {
        return (None, tasks);
    }
    (Some(tasks.remove(first)), tasks)
}
