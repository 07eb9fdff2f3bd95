//! I9, I10, I17: nothing but a change restarts a container: no reconnect, no restart of a manager, an agent or an engine, no
//! change of leaders, no clock.

use agent_core::engine::EngineCall;
use model::{
    node::{Availability, NodeState},
    service::{Mode, Slot},
    task::{DesiredState, Task, TaskState},
};
use store::Store;

use crate::{
    engine::{Container, Happening, app::Behaviour},
    knobs::Weather,
    queue::{SEC, Time},
    world::World,
};

/// A node that nothing touched for so long, with managers that nothing touched, is never taken for lost.
const QUIET: Time = 20 * SEC;

/// A change so many entries ago may explain what is decided now.
const LATELY: u64 = 20;

impl World {
    /// An agent calls its engine: a sound container that the managers want is neither stopped nor removed.
    pub(crate) fn check_call(&mut self, node: usize, call: &EngineCall) {
        let (EngineCall::Stop { container, .. } | EngineCall::Remove { container }) = call else { return };
        let Some(found) = self.nodes[node].engine.containers.get(container) else { return };
        let Some(labels) = found.labels else {
            return self.violate(
                "I9",
                format!("n{node} acts on a foreign container"),
                vec![format!("n{node}")],
            );
        };
        if !found.is_live() || !found.is_healthy_or_starting() {
            return;
        }
        let Some(store) = self.checks.frontier() else { return };
        let wanted = store.task(labels.task).is_some_and(Task::is_active);
        if wanted && found.id == *container {
            let what = format!(
                "n{node} stops container {container} of task {}, which is wanted and sound",
                labels.task
            );
            self.violate("I9", what, vec![labels.task.to_string(), container.clone()]);
        }
    }

    /// Tasks that the managers want stopped, and why.
    pub(crate) fn check_stops(&mut self, before: &Store, store: &Store) {
        for task in store.tasks().filter(|task| task.desired == DesiredState::Stopped) {
            let Some(old) = before.task(task.id).filter(|old| old.desired == DesiredState::Running) else {
                continue;
            };
            if has_reason(old, before, store) {
                continue;
            }
            let what = format!("task {} is to be stopped, and nothing about it changed", task.id);
            return self.violate("I9", what, vec![task.id.to_string()]);
        }
    }

    /// Nodes that are taken for lost.
    pub(crate) fn check_nodes_down(&mut self, before: &Store, store: &Store) {
        for (number, host) in self.nodes.iter().enumerate() {
            let state = |store: &Store| store.node(host.node).map(|node| node.state);
            if state(before) != Some(NodeState::Ready) || state(store) != Some(NodeState::Down) {
                continue;
            }
            self.checks.count("nodes down");
            let calm = self.knobs.weather == Weather::Calm;
            if calm || (host.is_awake() && self.is_undisturbed(number, QUIET)) {
                let invariant = if calm { "I17" } else { "I9" };
                let what = format!("n{number} is taken for lost, and nothing touched it");
                return self.violate(invariant, what, vec![format!("n{number}"), "leader".to_owned()]);
            }
        }
    }

    /// After all has converged, and in calm weather, sound containers end only when they are told to.
    pub(crate) fn check_quiet(&mut self, node: usize, happening: &Happening) {
        if self.converged.is_none() {
            return;
        }
        let task = happening.labels.map(|labels| labels.task);
        let told = self
            .checks
            .frontier()
            .is_some_and(|store| !task.and_then(|task| store.task(task)).is_some_and(Task::is_active));
        if told {
            return;
        }
        let found = self.nodes[node].engine.containers.get(&happening.container);
        if found.is_some_and(|container| Behaviour::of(&container.spec).0.is_sound()) {
            let what = format!("container {} on n{node} ended after all had converged", happening.container);
            let task = happening.labels.map(|labels| labels.task.to_string()).unwrap_or_default();
            self.violate("I9", what, vec![task, happening.container.clone()]);
        }
    }
}

impl Container {
    fn is_healthy_or_starting(&self) -> bool {
        use crate::engine::Status;
        use model::task::Health;
        !matches!(self.status, Status::Running { health: Health::Unhealthy, .. })
    }
}

/// Something about the task, its service or its node explains that it is stopped.
fn has_reason(old: &Task, before: &Store, store: &Store) -> bool {
    if old.observed.state.is_terminal() || old.observed.state == TaskState::Pending {
        return true;
    }
    let Some(service) = store.service(old.service) else { return true };
    // Several changes may lie between what was decided on and what is seen now.
    let lately = |generation: model::id::Generation| store.applied() < generation.0 + LATELY;
    let node = old.node.and_then(|node| store.node(node));
    if lately(service.generation) || node.is_some_and(|node| lately(node.generation)) {
        return true;
    }
    let scaled = match (old.slot, service.spec.mode) {
        (Slot::Replica(number), Mode::Replicated(replicas)) => number > replicas,
        _ => false,
    };
    if service.removing || scaled || !store.is_current(old) {
        return true;
    }
    let node = |store: &Store| old.node.and_then(|node| store.node(node).cloned());
    let bad = |node: Option<model::node::Node>| {
        node.is_none_or(|node| {
            let admits = service.spec.template.placement.constraints.iter().all(|c| c.admits(&node));
            node.state != NodeState::Ready || node.spec.availability != Availability::Active || !admits
        })
    };
    if bad(node(before)) || bad(node(store)) {
        return true;
    }
    // Of two in one slot, one goes.
    before.tasks_of_slot(old.service, old.slot).filter(|task| task.is_active()).count() > 1
        || store.task(old.id).is_some_and(|new| new.observed.state.is_terminal())
}
