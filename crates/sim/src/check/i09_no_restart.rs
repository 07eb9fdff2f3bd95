//! I9, I10, I17: nothing but a change restarts a container: no reconnect, no restart of a manager, an agent or an engine, no
//! change of leaders, no clock.

use std::collections::BTreeMap;

use agent_core::{
    engine::{Change, ContainerStatus, ContainerView, EngineCall, OpOutcome},
    event::Event as Input,
};
use model::{
    node::{Availability, NodeState},
    service::{Mode, Slot},
    task::{DesiredState, Health, Task, TaskState},
};
use store::Store;

use crate::{
    engine::{Container, Happening, app::Behaviour},
    world::World,
};

impl World {
    /// An agent calls its engine: a sound container that the managers want is neither stopped nor removed.
    pub(crate) fn check_call(&mut self, node: usize, call: &EngineCall) {
        self.note_stop(node, call);
        let (EngineCall::Stop { container, .. } | EngineCall::Remove { container, .. }) = call else {
            return;
        };
        let Some(found) = self.nodes[node].engine.containers.get(container) else { return };
        let Some(labels) = found.labels else {
            return self.violate(
                "I9",
                format!("n{node} acts on a foreign container"),
                vec![format!("n{node}")],
            );
        };
        // An agent cannot know what is still on its way to it.
        let told_unhealthy = self.nodes[node].told_health.get(container) == Some(&Health::Unhealthy);
        if !found.is_live() || !found.is_healthy_or_starting() || told_unhealthy {
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
            let recent = self.checks.recent.iter().map(|(_, state)| state);
            if recent.chain([before, store]).any(|state| has_reason(old, state)) {
                continue;
            }
            let what = format!("task {} is to be stopped, and nothing about it changed", task.id);
            return self.violate("I9", what, vec![task.id.to_string()]);
        }
    }

    /// A container that its probes once found fit does not begin anew without having ended: an agent that was started anew takes
    /// nothing out of rotation.
    pub(crate) fn check_readiness(&mut self, before: &Store, store: &Store) {
        for task in store.tasks().filter(|task| task.observed.health == Health::Starting) {
            let Some(old) = before.task(task.id) else { continue };
            let same = (&old.observed.container, old.observed.attempt)
                == (&task.observed.container, task.observed.attempt);
            let fit = old.observed.is_healthy() && old.observed.health == Health::Healthy;
            let by_probes = store
                .service(task.service)
                .and_then(|service| service.template_of(task.template))
                .is_some_and(|template| template.container.healthcheck.is_none());
            if !(same && fit && by_probes && task.observed.state == TaskState::Running) {
                continue;
            }
            // An older greeting may arrive after a newer one; what its agent says at present counts.
            let is_said = self.nodes.iter().filter_map(|node| node.process.as_ref()).any(|process| {
                let now = process.core.tasks().find(|(id, _)| *id == task.id);
                now.is_some_and(|(_, now)| {
                    (&now.container, now.health) == (&task.observed.container, Health::Starting)
                })
            });
            if is_said {
                let what = format!("task {} was fit, and its same container is starting again", task.id);
                return self.violate("I9", what, vec![task.id.to_string()]);
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
        !matches!(self.status, Status::Running { health: Health::Unhealthy, .. })
    }
}

/// What an agent is told of its containers' health, by an event, an answer or a list.
pub(crate) fn note_health(told: &mut BTreeMap<String, Health>, event: &Input) {
    let mut note = |view: &ContainerView| {
        if let ContainerStatus::Running { health, .. } = view.status {
            told.insert(view.id.clone(), health);
        }
    };
    match event {
        Input::EngineDone { outcome: Ok(OpOutcome::Container(view)), .. } => note(view),
        Input::EngineListed { containers } => containers.iter().for_each(note),
        Input::EngineChanged(change) => match change.change {
            Change::Health(health) => {
                told.insert(change.id.clone(), health);
            }
            Change::Destroyed => {
                told.remove(&change.id);
            }
            Change::Created | Change::Started | Change::OutOfMemory | Change::Died { .. } => {}
        },
        _ => {}
    }
}

/// Something about the task, its service or its node explained in that state that it is stopped.
fn has_reason(task: &Task, state: &Store) -> bool {
    let Some(task) = state.task(task.id) else { return false };
    let Some(service) = state.service(task.service) else { return true };
    let scaled = match (task.slot, service.spec.mode) {
        (Slot::Replica(number), Mode::Replicated(replicas)) => number > replicas,
        _ => false,
    };
    // A hook has its time, and its release.
    let scaled = scaled || task.slot == Slot::HOOK;
    let bad_node = task.node.is_some_and(|node| {
        state.node(node).is_none_or(|node| {
            let admits = service.spec.template.placement.constraints.iter().all(|c| c.admits(node));
            node.state != NodeState::Ready || node.spec.availability != Availability::Active || !admits
        })
    });
    let ended = task.observed.state.is_terminal() || task.observed.state == TaskState::Pending;
    // Of two in one slot, one goes.
    let doubled = state.tasks_of_slot(task.service, task.slot).filter(|task| task.is_active()).count() > 1;
    // A job that is over stops; a slot that completed runs nowhere else.
    let over = service.job.as_ref().is_some_and(model::job::JobStatus::is_over);
    let mut slot = state.tasks_of_slot(task.service, task.slot);
    let done = service.job.is_some() && slot.any(|task| task.observed.state == TaskState::Completed);
    over || done || ended || service.removing || scaled || !state.is_current(task) || bad_node || doubled
}
