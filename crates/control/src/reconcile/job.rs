//! Jobs: which slots run now, and when a job has come to its end.
//!
//! Looked at as a whole: which slot may run depends on how many others do, and the end on all of them. In order: a job that is over has its
//! tasks stopped, and is forgotten when its time has come; a slot that failed for good, or the deadline, ends it; otherwise the lowest
//! slots that have not completed run, as many at a time as it allows.
//!
//! At least once: a slot whose node fell silent runs again elsewhere, although its container may still run there or may just have
//! ended well. What that node reports later counts: a slot with any task that completed has completed.

use model::{
    command::Decision,
    job::{JobPolicy, JobState, JobStatus, OnLost},
    service::{Service, Slot},
    task::{DesiredState, Task, TaskState},
};
use planted::Bug;

use super::{
    fill, read,
    slot::{SlotTasks, is_on_lost_node},
    wanted, wants,
};
use crate::{
    enforce, explain,
    pass::{Fill, Key, Pass},
    reap, restart,
};

/// Refusals of a slot in a row, by as many nodes as there are, that end a job: half a minute of tries, after which an image that does not
/// exist will not appear.
const MAX_REJECTIONS: u32 = 5;

/// Looks at a whole job; returns whether the plan was full before the end.
pub(crate) fn job(pass: &mut Pass<'_>, service: &Service, policy: &JobPolicy, status: &JobStatus) -> bool {
    if status.is_over() {
        return clear(pass, service, policy, status);
    }
    let slots = slots(pass, service);
    if let Some((state, message)) = end(pass, &slots, policy, status) {
        let (service, expected) = (service.id, service.generation);
        pass.decisions.push(Decision::EndJob { service, expected, state, message });
        return false;
    }
    if pass.now < status.deadline {
        pass.wake(status.deadline, Key::Service(service.id));
    }
    let mut running = slots.iter().filter(|(_, tasks)| runs(tasks)).count();
    for (slot, tasks) in &slots {
        if pass.is_full() {
            return true;
        }
        if pass.has_acted(service.id, *slot) {
            continue;
        }
        forget_waiting(pass, service, *slot);
        reap::trim(pass, tasks, reap::MAX_ENDED_PER_SLOT);
        if completed(tasks) && !planted::is(Bug::CompletedRunsAgain) {
            for task in &tasks.active {
                pass.stop(task, "its slot has completed elsewhere");
            }
        } else if !tasks.active.is_empty() {
            for task in &tasks.active {
                keep(pass, service, tasks, task);
            }
        } else if tasks.stopping.is_none()
            && (policy.has_room(running) || planted::is(Bug::ConcurrencyIgnored))
        {
            running += 1;
            let version = service.template;
            pass.create(Fill { service, slot: *slot, version, previous: tasks.newest, alongside: None });
        }
    }
    clear_unwanted(pass, service);
    false
}

/// The slots that must complete, as they are: those of the nodes that take one now, and those that have completed.
fn slots<'a>(pass: &Pass<'a>, service: &Service) -> Vec<(Slot, SlotTasks<'a>)> {
    let mut slots = wanted(pass, service, 0);
    // A node that left, or takes no task any more, has done what it did.
    let done = pass.store.tasks_of_service(service.id).filter(|task| is_done(task)).map(|task| task.slot);
    slots.extend(done);
    slots.sort_unstable();
    slots.dedup();
    slots.into_iter().map(|slot| (slot, read(pass, service, slot))).collect()
}

/// How a job that is not over yet has come to its end.
fn end(
    pass: &Pass<'_>,
    slots: &[(Slot, SlotTasks<'_>)],
    policy: &JobPolicy,
    status: &JobStatus,
) -> Option<(JobState, String)> {
    if !slots.is_empty() && slots.iter().all(|(_, tasks)| completed(tasks)) {
        return Some((JobState::Complete, String::new()));
    }
    for (slot, tasks) in slots {
        if let Some(why) = failed(pass, tasks, policy) {
            return Some((JobState::Failed, format!("slot {} {why}", explain::slot_name(pass.store, *slot))));
        }
    }
    if pass.now >= status.deadline && !planted::is(Bug::JobDeadlineIgnored) {
        let done = slots.iter().filter(|(_, tasks)| completed(tasks)).count();
        let whole = status.deadline.since(status.begun);
        let message =
            format!("its deadline of {whole:?} passed: {done} of {} slots had completed", slots.len());
        return Some((JobState::Failed, message));
    }
    None
}

/// Why a slot will not complete.
fn failed(pass: &Pass<'_>, tasks: &SlotTasks<'_>, policy: &JobPolicy) -> Option<String> {
    let newest = tasks.newest.filter(|_| !completed(tasks))?;
    if newest.desired == DesiredState::Running && newest.observed.state == TaskState::Failed {
        return Some(format!("failed{}", explain::with_cause(newest)));
    }
    if newest.observed.state == TaskState::Rejected && restart::failures(newest) >= MAX_REJECTIONS {
        let times = explain::times(restart::failures(newest));
        return Some(format!("was refused {times} in a row{}", explain::with_cause(newest)));
    }
    let lost = newest.observed.state == TaskState::Lost || is_on_lost_node(pass.store, newest);
    let asked = newest.desired == DesiredState::Running || newest.observed.state == TaskState::Lost;
    if lost && asked && policy.on_lost == OnLost::Fail {
        let node = newest.node.map(|node| explain::node_name(pass.store, node)).unwrap_or_default();
        return Some(format!("was on node {node}, which is lost"));
    }
    None
}

fn is_done(task: &Task) -> bool {
    task.observed.state == TaskState::Completed
}

fn completed(tasks: &SlotTasks<'_>) -> bool {
    tasks.ended.iter().any(|task| is_done(task))
}

/// Whether a container of the slot may run where it can be heard.
fn runs(tasks: &SlotTasks<'_>) -> bool {
    !tasks.active.is_empty() || tasks.stopping.is_some()
}

/// A task that is wanted: it is placed, replaced when its node is lost, and stopped when it may not stay where it is; its slot is then
/// filled anew.
fn keep(pass: &mut Pass<'_>, service: &Service, tasks: &SlotTasks<'_>, task: &Task) {
    match enforce::must_leave(pass.store, service, task) {
        Some(reason) => pass.stop(task, reason),
        None => fill::keep(pass, service, tasks, task),
    }
}

/// Tasks on nodes that a global job is not about any more.
fn clear_unwanted(pass: &mut Pass<'_>, service: &Service) {
    for task in pass.store.tasks_of_service(service.id).filter(|task| task.is_active()) {
        if !pass.is_full() && !pass.has_acted(service.id, task.slot) && !wants(pass, service, task.slot) {
            pass.stop(task, "its node takes no task of this job any more");
        }
    }
}

/// A job that is over: its tasks stop, and when its time has come it goes.
fn clear(pass: &mut Pass<'_>, service: &Service, policy: &JobPolicy, status: &JobStatus) -> bool {
    for task in pass.store.tasks_of_service(service.id) {
        if pass.is_full() {
            return true;
        }
        forget_waiting(pass, service, task.slot);
        if task.is_active() && !pass.has_acted(service.id, task.slot) {
            let why = if status.message.is_empty() { String::new() } else { format!(": {}", status.message) };
            pass.stop(task, format!("the job is {}{why}", status.state));
        }
    }
    // Those of a cron are kept by number, see there; a cron that is gone keeps none.
    let goes = match (status.cron, policy.keep, status.ended) {
        (Some(run), ..) => pass.store.cron(run.cron).is_none().then_some(pass.now),
        (None, Some(keep), Some(ended)) => Some(ended + keep),
        (None, ..) => None,
    };
    match goes {
        Some(at) if at <= pass.now => {
            let (service, expected) = (service.id, service.generation);
            pass.decisions.push(Decision::RemoveJob { service, expected });
        }
        Some(at) => pass.wake(at, Key::Service(service.id)),
        None => {}
    }
    false
}

fn forget_waiting(pass: &mut Pass<'_>, service: &Service, slot: Slot) {
    if let Some(waiting) = pass.soft.waiting.get_mut(&service.id) {
        waiting.remove(&slot);
        if waiting.is_empty() {
            pass.soft.waiting.remove(&service.id);
        }
    }
}
