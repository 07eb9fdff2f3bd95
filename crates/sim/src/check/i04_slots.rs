//! I4: per slot at most one task is desired running, two while a start-first update replaces one by the other.

use std::collections::BTreeSet;

use model::{
    id::{ServiceId, TaskId},
    service::UpdateOrder,
};
use store::Store;

use crate::world::World;

/// Tasks of one slot that were made to live side by side for a while.
#[derive(Debug, Default)]
pub(crate) struct Pairs(BTreeSet<(TaskId, TaskId)>);

impl Pairs {
    pub(crate) fn insert(&mut self, one: TaskId, other: TaskId) {
        self.0.insert((one.min(other), one.max(other)));
    }

    pub(crate) fn contains(&self, one: TaskId, other: TaskId) -> bool {
        self.0.contains(&(one.min(other), one.max(other)))
    }
}

impl World {
    /// Every task that is new stands alone in its slot, or beside one that it replaces start-first.
    pub(crate) fn check_slots(&mut self, before: &Store, store: &Store) {
        for task in store.tasks().filter(|task| task.is_active() && before.task(task.id).is_none()) {
            let others = store.tasks_of_slot(task.service, task.slot);
            let others: Vec<_> = others
                .filter(|other| other.is_active() && other.id != task.id)
                .map(|other| other.id)
                .collect();
            let [other] = others[..] else {
                if others.is_empty() {
                    continue;
                }
                let what =
                    format!("slot {} of service {} has three tasks desired running", task.slot, task.service);
                return self.violate("I4", what, vec![task.id.to_string()]);
            };
            if !is_start_first(before, task.service) && !is_start_first(store, task.service) {
                let what = format!(
                    "slot {} of service {} was filled by task {} beside task {other}",
                    task.slot, task.service, task.id
                );
                return self.violate("I4", what, vec![task.id.to_string(), other.to_string()]);
            }
            self.checks.pairs.insert(task.id, other);
        }
    }
}

fn is_start_first(store: &Store, service: ServiceId) -> bool {
    store.service(service).is_some_and(|service| service.spec.update.order != UpdateOrder::StopFirst)
}
