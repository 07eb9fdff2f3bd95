//! I15 and I23: what is kept of a crash loop is bounded, in the state and on the node.

use std::collections::BTreeMap;

use model::task::MAX_ATTEMPTS_KEPT;
use store::Store;

use crate::world::World;

/// Ended tasks of one slot: five are kept, and a plan may be on its way that forgets some more.
const MAX_ENDED: usize = 5 + 20;
/// Containers of one task: the live one, the newest ended one, and those on their way out.
const MAX_CONTAINERS: usize = 6;

impl World {
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
            if let Some((task, count)) = many.filter(|_| self.is_undisturbed(node, 10 * crate::queue::SEC)) {
                let what = format!("task {task} has left {count} containers on n{node}");
                return self.violate("I15", what, vec![task.to_string()]);
            }
        }
    }
}
