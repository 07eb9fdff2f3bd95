//! Small values for unit tests.

use std::sync::Arc;

use model::{
    container::ContainerSpec,
    id::{ClusterId, NodeId, ServiceId, TaskId},
    node::Incarnation,
    service::{RestartPolicy, Slot, TemplateVersion},
    session::{Assignment, Fence},
    task::DesiredState,
};

pub(crate) const CLUSTER: ClusterId = ClusterId(1);
pub(crate) const NODE: NodeId = NodeId(2);

pub(crate) fn fence(session: u64, sequence: u64) -> Fence {
    Fence { cluster: CLUSTER, incarnation: Incarnation(1), term: 1, session, sequence }
}

pub(crate) fn assignment(task: u64) -> Assignment {
    Assignment {
        task: TaskId(task),
        service: ServiceId(3),
        service_name: "web".into(),
        slot: Slot::Replica(u32::try_from(task).unwrap()),
        template: TemplateVersion(1),
        desired: DesiredState::Running,
        container: Arc::new(ContainerSpec { image: "app:1".into(), ..Default::default() }),
        restart: RestartPolicy::default(),
        pin: None,
        node: NODE,
        node_name: "host".into(),
    }
}
