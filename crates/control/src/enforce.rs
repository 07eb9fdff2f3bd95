//! Which tasks must leave their node: it is drained, or its labels no longer meet the service's constraints.

use model::{
    node::{Availability, NodeState},
    service::Service,
    task::Task,
};
use store::Store;

use crate::reconcile::slot::node_of;

/// Why the task must leave its node; `None` when it may stay. A node that cannot be heard is not judged.
pub(crate) fn must_leave(store: &Store, service: &Service, task: &Task) -> Option<String> {
    let node = node_of(store, task)?;
    if node.state == NodeState::Down {
        return None;
    }
    if node.spec.availability == Availability::Drain {
        return Some(format!("node {} is drained", node.facts.hostname));
    }
    let template = service.template_of(task.template)?;
    let broken = template.placement.constraints.iter().find(|constraint| !constraint.admits(node))?;
    Some(format!("node {} no longer meets {broken}", node.facts.hostname))
}
