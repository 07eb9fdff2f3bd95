//! The labels and the name that make a container ours: one container per attempt, found again by anyone.

use std::collections::BTreeMap;

use model::{
    hash::Fnv,
    id::{ClusterId, NodeId, ServiceId, TaskId},
    service::TemplateVersion,
    session::Assignment,
};

/// The label that names the cluster; together with [`NODE`] it selects this node's containers.
pub const CLUSTER: &str = "orch.cluster";
/// The label that names the node.
pub const NODE: &str = "orch.node";
const SERVICE: &str = "orch.service";
const SERVICE_NAME: &str = "orch.service.name";
const SLOT: &str = "orch.slot";
const TASK: &str = "orch.task";
const ATTEMPT: &str = "orch.attempt";
const TEMPLATE: &str = "orch.template";
const SPEC: &str = "orch.spec";

/// Whose container it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Labels {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The service.
    pub service: ServiceId,
    /// The task.
    pub task: TaskId,
    /// From 1.
    pub attempt: u32,
    /// The template that it was made from.
    pub template: TemplateVersion,
}

impl Labels {
    /// Reads a container's labels; `None` when it is not one of ours, or not whole.
    pub fn parse<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        Some(Self {
            cluster: get(CLUSTER)?.parse().ok()?,
            node: get(NODE)?.parse().ok()?,
            service: get(SERVICE)?.parse().ok()?,
            task: get(TASK)?.parse().ok()?,
            attempt: get(ATTEMPT)?.parse().ok()?,
            template: TemplateVersion(get(TEMPLATE)?.parse().ok()?),
        })
    }

    /// The labels of one attempt of an assignment.
    pub fn of(cluster: ClusterId, assignment: &Assignment, attempt: u32) -> Self {
        Self {
            cluster,
            node: assignment.node,
            service: assignment.service,
            task: assignment.task,
            attempt,
            template: assignment.template,
        }
    }

    /// All labels of the container: the user's, and ours over them.
    pub fn render(&self, assignment: &Assignment) -> BTreeMap<String, String> {
        let mut labels = assignment.container.labels.clone();
        let ours = [
            (CLUSTER, self.cluster.to_string()),
            (NODE, self.node.to_string()),
            (SERVICE, self.service.to_string()),
            (SERVICE_NAME, assignment.service_name.clone()),
            (SLOT, assignment.slot.to_string()),
            (TASK, self.task.to_string()),
            (ATTEMPT, self.attempt.to_string()),
            (TEMPLATE, self.template.0.to_string()),
            (SPEC, spec_hash(assignment)),
        ];
        labels.extend(ours.map(|(key, value)| (key.to_owned(), value)));
        labels
    }
}

/// The name of one attempt's container. A second create of the same attempt conflicts in the engine.
pub fn container_name(assignment: &Assignment, attempt: u32) -> String {
    format!("orch-{}.{}.{}.{attempt}", assignment.service_name, assignment.slot, assignment.task)
}

/// Tells people whether two containers were made from the same declaration. Nothing is decided on it: a task never
/// changes its template, so adoption goes by task.
fn spec_hash(assignment: &Assignment) -> String {
    let mut hash = Fnv::new();
    hash.write(format!("{:?}", assignment.container).as_bytes());
    format!("{:016x}", hash.finish())
}
