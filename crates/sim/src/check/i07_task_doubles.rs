//! I7 and I10: a task never has two live containers, whatever crashed between a create and its record, and whatever
//! restarted.

use crate::{engine::Happening, world::World};

impl World {
    pub(crate) fn check_task_doubles(&mut self, node: usize, happening: &Happening) {
        let Some(labels) = happening.labels else { return };
        self.checks.count("containers started");
        let live = self.nodes.iter().enumerate().flat_map(|(number, host)| {
            host.engine
                .live()
                .filter(|c| c.labels.is_some_and(|l| l.task == labels.task))
                .map(move |c| (number, &c.id))
        });
        let others: Vec<_> = live.filter(|(_, id)| **id != happening.container).collect();
        if let Some((other, id)) = others.first() {
            let what = format!(
                "task {} has two live containers: {} on n{node} was started while {id} runs on n{other}",
                labels.task, happening.container
            );
            self.violate("I7", what, vec![labels.task.to_string(), happening.container.clone()]);
        }
    }
}
