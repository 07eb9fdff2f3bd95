//! The pre-deploy hook of a rollout: created once, waited for, judged.
//!
//! Until it has succeeded every slot keeps what it runs, as if the rollout were paused. It is never started beside another
//! hook of its service, and never a second time while nobody knows what became of the first: its node may be down, and then
//! its time runs out and the rollout fails without a replica having changed. A person who resumes the rollout starts it anew.

use model::{
    id::NodeId,
    service::{Rollout, RolloutState, Service, Slot},
    task::{Task, TaskState},
    time::ClusterTime,
};
use planted::Bug;

use super::cursor::{self, Next};
use crate::{
    explain::{node_name, with_cause},
    pass::{Fill, Key, Pass},
    reconcile::slot::is_on_lost_node,
};

/// The next step of a rollout whose hook has not succeeded yet; `None` when there is no such hook.
pub(super) fn next(pass: &mut Pass<'_>, service: &Service, slots: usize) -> Option<Next> {
    let rollout = service.rollout.as_ref()?;
    let Some(hook) = rollout.awaited_hook() else {
        // That of a release before may be changing data still.
        let mut tasks = pass.store.tasks_of_slot(service.id, Slot::HOOK);
        let lingers = |task: &Task| !task.observed.state.is_terminal() && !is_on_lost_node(pass.store, task);
        return (rollout.state == RolloutState::Updating && tasks.any(lingers)).then_some(Next::Wait(None));
    };
    if pass.has_acted(service.id, Slot::HOOK) {
        return Some(Next::Go);
    }
    let store = pass.store;
    let tasks = || store.tasks_of_slot(service.id, Slot::HOOK);
    let own = |task: &&Task| task.template == rollout.target;
    let succeeded = |task: &Task| task.observed.state == TaskState::Completed;
    if tasks().filter(own).any(succeeded) || planted::is(Bug::HookNotAwaited) {
        return Some(Next::Change(Rollout { hook: None, ..rollout.clone() }));
    }
    let live = tasks().find(|task| !task.observed.state.is_terminal());
    let failed = tasks().filter(own).filter(|task| live.is_none() && task.created >= rollout.begun());
    if let Some(task) = failed.max_by_key(|task| (task.created, task.id)) {
        let why = format!("the pre-deploy hook {}{}", task.observed.state, with_cause(task));
        return Some(cursor::give_up(service, rollout, &why, pass.now));
    }
    if live.is_none()
        && let Some(until) = frozen(pass, service, rollout)
    {
        return Some(cursor::thaw(service, rollout, slots, until));
    }
    let ours = live.filter(own).filter(|task| task.is_active());
    if let Some(other) = live.filter(|task| ours.is_none() && is_on_lost_node(pass.store, task)) {
        let why = format!("an earlier pre-deploy hook may still run{}", state(pass, Some(other)));
        return Some(cursor::give_up(service, rollout, &why, pass.now));
    }
    let over = ours.map_or(rollout.begun(), |task| task.created.max(rollout.begun())) + hook.timeout;
    if (live.is_some() && over <= pass.now) || cursor::is_late(rollout, pass.now) {
        live.into_iter().filter(|task| task.is_active()).for_each(|task| pass.stop(task, "its time is over"));
        let why = format!("the pre-deploy hook has not ended within its time{}", state(pass, live));
        return Some(cursor::give_up(service, rollout, &why, pass.now));
    }
    pass.wake(over, Key::Service(service.id));
    match (live, ours) {
        (_, Some(task)) => keep(pass, service, task),
        // The hook of a release before this one: it must be gone first.
        (Some(other), None) if other.is_active() => pass.stop(other, "another release has come"),
        (Some(_), None) => {}
        (None, None) => {
            let (slot, version) = (Slot::HOOK, rollout.target);
            pass.create(Fill { service, slot, version, previous: None, alongside: None });
        }
    }
    Some(Next::Go)
}

fn keep(pass: &mut Pass<'_>, service: &Service, task: &Task) {
    match task.node {
        None => pass.assign(service, task),
        Some(node) if pass.store.node(node).is_none() => {
            pass.lose(task, "its node is not in the cluster any more");
        }
        Some(_) => {}
    }
}

/// Until when it does not begin, since the release would wait for the end of a freeze on what it has changed.
fn frozen(pass: &Pass<'_>, service: &Service, rollout: &Rollout) -> Option<ClusterTime> {
    if rollout.despite_freeze.is_some() {
        return None;
    }
    let replicas = pass.store.replicas_of_service(service.id).filter(|task| task.is_active());
    let nodes = replicas.filter_map(|task| task.node);
    nodes.filter_map(|node| pass.store.freeze_of(node, pass.now)).map(|(_, until)| until).max()
}

/// What is known of it.
fn state(pass: &Pass<'_>, task: Option<&Task>) -> String {
    let node = |id: NodeId| node_name(pass.store, id);
    match task {
        Some(task) if is_on_lost_node(pass.store, task) => {
            format!(": node {} is down", task.node.map(node).unwrap_or_default())
        }
        Some(task) => format!(": it is {}{}", task.observed.state, with_cause(task)),
        None => String::new(),
    }
}

/// Clears the slot of a rollout that has no use for it any more; one that is paused lets it end.
pub(crate) fn is_wanted(service: &Service) -> bool {
    service.rollout.as_ref().is_some_and(|rollout| {
        let held = rollout.state == RolloutState::Paused && rollout.hook.is_some();
        rollout.awaited_hook().is_some() || held
    })
}
