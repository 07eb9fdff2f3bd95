//! I15 and I23: what is kept of a crash loop is bounded, in the state and on the node.

use std::collections::BTreeMap;

use model::{
    id::ServiceId,
    service::{Slot, TemplateVersion},
    task::{MAX_ATTEMPTS_KEPT, TaskState},
};
use store::Store;

use crate::{
    queue::{SEC, Time},
    world::World,
};

/// Ended tasks of one slot: five are kept, and a plan may be on its way that forgets some more.
const MAX_ENDED: usize = 5 + 5;
/// Rejections of one slot under one template within [`WINDOW`]: after 1, 2, 4, 8… s it is tried again, and a node that was
/// lost in between counts once more.
const MAX_REJECTIONS: usize = 8;
const WINDOW: Time = 10 * SEC;
/// Containers of one task: the live one, the newest ended one, and those on their way out.
const MAX_CONTAINERS: usize = 6;

/// When a slot's tasks were rejected.
#[derive(Debug, Default)]
pub(crate) struct Rejections {
    by_slot: BTreeMap<(ServiceId, Slot, TemplateVersion), Vec<Time>>,
}

impl World {
    /// A template that no node accepts does not spin through the cluster.
    pub(crate) fn check_rejections(&mut self, before: &Store, store: &Store) {
        let now = self.now();
        for task in store.tasks().filter(|task| task.observed.state == TaskState::Rejected) {
            if before.task(task.id).is_none_or(|old| old.observed.state == TaskState::Rejected) {
                continue;
            }
            self.checks.count("tasks rejected");
            let key = (task.service, task.slot, task.template);
            let times = self.checks.rejections.by_slot.entry(key).or_default();
            times.retain(|at| at + WINDOW >= now);
            times.push(now);
            let count = times.len();
            if count > MAX_REJECTIONS {
                let what = format!(
                    "slot {} of service {} was rejected {count} times in 10 s",
                    task.slot, task.service
                );
                return self.violate("I15", what, vec![task.service.to_string()]);
            }
        }
    }

    pub(crate) fn check_bounds(&mut self, store: &Store) {
        let mut ended: BTreeMap<_, usize> = BTreeMap::new();
        for task in store.tasks() {
            if task.observed.attempts.len() > MAX_ATTEMPTS_KEPT {
                let what = format!("task {} keeps {} attempts", task.id, task.observed.attempts.len());
                return self.violate("I15", what, vec![task.id.to_string()]);
            }
            if task.observed.state.is_terminal() {
                *ended.entry((task.service, task.slot)).or_default() += 1;
            }
        }
        if let Some(((service, slot), count)) = ended.into_iter().find(|(_, count)| *count > MAX_ENDED) {
            let what = format!("slot {slot} of service {service} keeps {count} ended tasks");
            self.violate("I15", what, vec![service.to_string()]);
        }
    }

    /// Twice a second: what is left on the nodes.
    pub(crate) fn check_agents(&mut self) {
        for node in 0..self.nodes.len() {
            let mut of_task: BTreeMap<_, usize> = BTreeMap::new();
            let containers = self.nodes[node].engine.containers.values();
            for labels in containers.filter_map(|container| container.labels) {
                *of_task.entry(labels.task).or_default() += 1;
            }
            let many = of_task.into_iter().find(|(_, count)| *count > MAX_CONTAINERS);
            if let Some((task, count)) = many.filter(|_| self.is_undisturbed(node, WINDOW)) {
                let what = format!("task {task} has left {count} containers on n{node}");
                return self.violate("I15", what, vec![task.to_string()]);
            }
        }
    }
}
