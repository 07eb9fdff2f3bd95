//! I19 and I20: a node that was removed is not welcome, and a node is told of its own tasks only.

use model::session::ManagerMessage;

use crate::world::World;

impl World {
    pub(crate) fn watch_message(&mut self, manager: usize, node: usize, message: &ManagerMessage) {
        let id = self.nodes[node].node;
        match message {
            ManagerMessage::Welcome { .. } => {
                self.checks.count("sessions");
                self.node_heard(manager, node);
                let known = self.managers[manager]
                    .process
                    .as_ref()
                    .is_some_and(|p| p.core.store().node(id).is_some());
                // Welcomed and removed in one step: it is refused in the same breath.
                let was_known = self.checks.frontier().is_some_and(|store| store.node(id).is_some());
                if !known && !was_known {
                    let what = format!("m{manager} welcomes n{node}, which its state does not know");
                    self.violate("I19", what, vec![format!("n{node}")]);
                }
            }
            ManagerMessage::Assign(set) => {
                self.checks.count("sets sent");
                if let Some(other) = set.upsert.iter().find(|assignment| assignment.node != id) {
                    let what = format!("n{node} is sent task {} of node {}", other.task, other.node);
                    self.violate("I20", what, vec![format!("n{node}"), other.task.to_string()]);
                }
            }
            _ => self.watch_files(manager, node, message),
        }
    }
}
