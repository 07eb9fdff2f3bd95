//! What cannot wait in one slot: an empty one is filled, a task on a lost node is replaced, a surplus slot is cleared.

use model::{
    id::NodeId,
    service::{Mode, Rollout, RolloutState, Service, Share, Slot, TemplateVersion},
    task::{DesiredState, Task},
    time::ClusterTime,
};
use planted::Bug;

use super::{
    global, read, replicated,
    slot::{SlotTasks, has_engine, is_on_lost_node, node_of},
    wants,
};
use crate::{
    enforce,
    pass::{Fill, Pass},
    reap,
};

/// Brings one slot forward; returns whether something in it waits for the budget of [`update`](crate::update).
pub(crate) fn slot(pass: &mut Pass<'_>, service: &Service, slot: Slot) -> bool {
    if pass.has_acted(service.id, slot) {
        return false;
    }
    if let Some(waiting) = pass.soft.waiting.get_mut(&service.id) {
        waiting.remove(&slot);
        if waiting.is_empty() {
            pass.soft.waiting.remove(&service.id);
        }
    }
    let tasks = read(pass, service, slot);
    if !wants(pass, service, slot) {
        clear(pass, service, slot, &tasks);
        return false;
    }
    reap::trim(pass, &tasks, reap::MAX_ENDED_PER_SLOT);
    if slot == Slot::HOOK {
        return true;
    }
    if tasks.active.is_empty() {
        return fill_empty(pass, service, slot, &tasks);
    }
    for task in &tasks.active {
        keep(pass, service, &tasks, task);
    }
    tasks.active.len() > 1 || tasks.active.iter().any(|task| wants_to_move(pass, service, task))
}

/// Whether a task should be replaced when the budget allows it.
pub(crate) fn wants_to_move(pass: &Pass<'_>, service: &Service, task: &Task) -> bool {
    is_outdated(pass, service, task) || enforce::must_leave(pass.store, service, task).is_some()
}

/// Whether a task carries another template than its slot should. While a rollout is paused, or waits for its canaries, the
/// slots that it does not touch keep their own.
pub(crate) fn is_outdated(pass: &Pass<'_>, service: &Service, task: &Task) -> bool {
    !pass.store.is_current(task) && !keeps_its_own(pass, service, task.slot)
}

/// Whether the newest template is none of this slot's business now.
pub(crate) fn keeps_its_own(pass: &Pass<'_>, service: &Service, slot: Slot) -> bool {
    let paused = service.rollout.as_ref().is_some_and(|rollout| rollout.state == RolloutState::Paused);
    let awaits_hook = service.rollout.as_ref().is_some_and(|rollout| rollout.awaited_hook().is_some());
    paused || awaits_hook || awaits_canaries(pass, service, slot) || frozen(pass, service, slot).is_some()
}

fn awaits_canaries(pass: &Pass<'_>, service: &Service, slot: Slot) -> bool {
    let rollout = service.rollout.as_ref().filter(|rollout| rollout.state.is_under_way());
    match rollout.and_then(Rollout::holding) {
        Some(policy) if !planted::is(Bug::CanariesNotAwaited) => {
            !is_canary(pass, service, policy.replicas, slot)
        }
        _ => false,
    }
}

/// Until when a freeze holds a slot back: its task is on a node that is left alone, and the rollout is not one that goes on all the same.
/// A slot without a task is nobody's beam time, one whose move has begun ends it, and one that waits for the canaries waits for them.
pub(crate) fn frozen(pass: &Pass<'_>, service: &Service, slot: Slot) -> Option<ClusterTime> {
    let rollout = service.rollout.as_ref().filter(|rollout| rollout.state.is_under_way())?;
    if rollout.despite_freeze.is_some() || pass.store.freezes().is_empty() || planted::is(Bug::FreezeIgnored)
    {
        return None;
    }
    let tasks = || pass.store.tasks_of_slot(service.id, slot).filter(|task| task.is_active());
    if tasks().any(|task| task.template == service.template) || awaits_canaries(pass, service, slot) {
        return None;
    }
    let nodes = tasks().filter_map(|task| task.node);
    nodes.filter_map(|node| pass.store.freeze_of(node, pass.now)).map(|(_, until)| until).max()
}

/// Whether a slot is among the first of its service: the lowest replicas, or the first nodes that take a task. A rule without
/// memory, so that every leader means the same ones, and a lost canary comes back as one.
fn is_canary(pass: &Pass<'_>, service: &Service, share: Share, slot: Slot) -> bool {
    match (service.spec.mode, slot) {
        (Mode::Replicated(replicas), Slot::Replica(number)) => number <= share.some_of(replicas),
        (Mode::Global, Slot::Node(_)) => {
            let template = &service.spec.template;
            let takes = pass.store.nodes().filter(|node| global::wants(template, node, false));
            let nodes: Vec<NodeId> = takes.map(|node| node.id).collect();
            let some = share.some_of(u32::try_from(nodes.len()).unwrap_or(u32::MAX));
            nodes.into_iter().take(some as usize).any(|node| Slot::Node(node) == slot)
        }
        (Mode::Replicated(_) | Mode::Global, _) => false,
    }
}

/// The template for a new task of the slot: the newest one, but nothing new is started where a rollout is held.
pub(crate) fn version_for(
    pass: &Pass<'_>,
    service: &Service,
    slot: Slot,
    previous: Option<&Task>,
) -> TemplateVersion {
    let kept = |version: &TemplateVersion| service.templates.contains_key(version);
    let own = previous.map(|task| task.template);
    let from = service.rollout.as_ref().and_then(|rollout| rollout.from);
    match keeps_its_own(pass, service, slot) {
        true => own.or(from).filter(kept).unwrap_or(service.template),
        false => service.template,
    }
}

fn clear(pass: &mut Pass<'_>, service: &Service, slot: Slot, tasks: &SlotTasks<'_>) {
    for task in &tasks.active {
        let reason = match (service.spec.mode, node_of(pass.store, task)) {
            _ if slot == Slot::HOOK => "its release is not coming any more".to_owned(),
            (Mode::Global, Some(node)) => enforce::must_leave(pass.store, service, task)
                .unwrap_or_else(|| format!("node {} takes none", node.facts.hostname)),
            (Mode::Global, None) => "its node is not wanted any more".to_owned(),
            (Mode::Replicated(replicas), _) => format!("scaled down to {replicas}"),
        };
        pass.stop(task, reason);
    }
    let kept = match (service.spec.mode, slot) {
        (_, Slot::HOOK) => 1,
        (Mode::Replicated(replicas), Slot::Replica(number)) => replicated::kept_of_surplus(replicas, number),
        (_, Slot::Node(node)) => usize::from(pass.store.node(node).is_some()),
        (Mode::Global, Slot::Replica(_)) => 0,
    };
    reap::trim(pass, tasks, kept);
}

fn fill_empty(pass: &mut Pass<'_>, service: &Service, slot: Slot, tasks: &SlotTasks<'_>) -> bool {
    if let Some(occupant) = tasks.occupant() {
        return is_outdated(pass, service, occupant);
    }
    // The old container must be gone first: it may hold the port, the volume, the name.
    if tasks.stopping.is_none() {
        let version = version_for(pass, service, slot, tasks.newest);
        pass.create(Fill { service, slot, version, previous: tasks.newest, alongside: None });
    }
    false
}

/// An active task that needs attention at once: it has no node yet, or its node is lost.
pub(super) fn keep(pass: &mut Pass<'_>, service: &Service, tasks: &SlotTasks<'_>, task: &Task) {
    let Some(id) = task.node else {
        if !wants_to_move(pass, service, task) {
            pass.assign(service, task);
        }
        return;
    };
    let Some(node) = pass.store.node(id) else {
        pass.lose(task, "its node is not in the cluster any more");
        return;
    };
    if !is_on_lost_node(pass.store, task) || service.spec.mode == Mode::Global {
        return;
    }
    let reason = format!("node {} is down: {}", node.facts.hostname, node.message);
    // Of two on lost nodes the older one is kept, to go on or to be replaced as soon as it is alone.
    let is_first = tasks.active.first().is_some_and(|first| first.id == task.id);
    let heard = tasks.active.iter().any(|other| !is_on_lost_node(pass.store, other));
    if heard || !is_first {
        pass.stop(task, reason);
    } else if tasks.active.len() == 1 && !tasks.stopping.is_some_and(|old| has_engine(pass.store, old)) {
        // An engine that does not answer holds an old container for as long as it likes: nobody waits for it.
        let wanted = tasks.newest.filter(|newest| newest.desired == DesiredState::Running);
        let version = version_for(pass, service, task.slot, wanted.or(Some(task)));
        let fill = Fill { service, slot: task.slot, version, previous: None, alongside: None };
        pass.replace_if_possible(task, fill, reason);
    }
}
