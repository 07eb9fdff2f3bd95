//! I14: nothing is placed on a node that takes no tasks. (That a drained node ends empty is part of I16.)

use model::node::Availability;
use store::Store;

use crate::world::World;

impl World {
    pub(crate) fn check_placements(&mut self, before: &Store, store: &Store) {
        for task in store.tasks() {
            let Some(node) = task.node else { continue };
            if before.task(task.id).is_some_and(|old| old.node.is_some()) {
                continue;
            }
            let closed = |store: &Store| {
                let node = store.node(node);
                node.is_some_and(|node| node.spec.availability != Availability::Active)
                    .then(|| node.map(|n| n.generation))
            };
            if let (Some(then), Some(now)) = (closed(before), closed(store))
                && then == now
            {
                let what = format!("task {} was placed on a node that takes no tasks", task.id);
                return self.violate("I14", what, vec![task.id.to_string()]);
            }
        }
    }
}
