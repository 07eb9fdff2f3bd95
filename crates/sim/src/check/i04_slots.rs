//! I4: per slot at most one task is desired running, two while a start-first update replaces one by the other.

use std::collections::BTreeMap;

use store::Store;

use crate::world::World;

impl World {
    pub(crate) fn check_slots(&mut self, store: &Store) {
        let mut active: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for task in store.tasks().filter(|task| task.is_active()) {
            active.entry((task.service, task.slot)).or_default().push(task);
        }
        for ((service, slot), tasks) in active {
            if tasks.len() < 2 {
                continue;
            }
            let both_templates = tasks.iter().any(|task| task.template != tasks[0].template);
            let may = both_templates || self.is_start_first(service);
            if tasks.len() > 2 || !may {
                let ids: Vec<String> = tasks.iter().map(|task| task.id.to_string()).collect();
                let what =
                    format!("slot {slot} of service {service} has {} tasks desired running", tasks.len());
                self.violate("I4", what, ids);
            }
        }
    }
}
