//! Slots of a global service: one for every node that its constraints admit.
//!
//! A node that cannot be heard keeps its task: nothing else could do that node's work. A paused node keeps its task and
//! gets no new one; a drained one loses it.

use model::{
    node::{Availability, Node, NodeState},
    service::TaskTemplate,
};

/// Whether the node should have a task of the template; `has_task`: it has one now.
pub(crate) fn wants(template: &TaskTemplate, node: &Node, has_task: bool) -> bool {
    let admitted = template.placement.constraints.iter().all(|constraint| constraint.admits(node));
    let open = node.state == NodeState::Ready && node.spec.availability == Availability::Active;
    admitted && node.spec.availability != Availability::Drain && (open || has_task)
}
