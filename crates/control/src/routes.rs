//! Who takes traffic: what every node is told about reaching a service, derived from the state alone.
//!
//! A task takes new connections and requests while it is wanted, runs, is healthy, and its node is not known to be down. The
//! moment the managers decide to stop it, it is out of every table; its own agent lets what is under way end first.

use model::{
    id::NodeId,
    network::Network,
    node::{Node, NodeClass, NodeState},
    route::{Endpoint, NetworkAddress, NetworkRoute, PeerRoute, ServiceRoute},
    service::Service,
    task::{DesiredState, Health, Task, TaskState},
};
use store::Store;

/// How a service is reached; `None` when nothing but its own node reaches it. Linear in the number of its tasks.
pub fn service_route(store: &Store, service: &Service) -> Option<ServiceRoute> {
    let addresses: Vec<NetworkAddress> = networks_of(store, service)
        .filter_map(|network| {
            Some(NetworkAddress { network: network.id, address: network.address_of(service.id)? })
        })
        .collect();
    if service.spec.ports.is_empty() && addresses.is_empty() {
        return None;
    }
    let mut endpoints: Vec<Endpoint> = store
        .replicas_of_service(service.id)
        .filter(|task| out_of_rotation(store, task).is_none())
        .filter_map(|task| {
            Some(Endpoint { task: task.id, node: task.node?, addresses: task.observed.addresses.clone() })
        })
        .collect();
    endpoints.sort_by_key(|endpoint| endpoint.task);
    Some(ServiceRoute {
        service: service.id,
        name: service.spec.name.clone(),
        addresses,
        ports: service.spec.ports.clone(),
        endpoints,
    })
}

/// Why a task takes no new connections and requests, in words; `None` when it does.
pub fn out_of_rotation(store: &Store, task: &Task) -> Option<String> {
    if task.desired == DesiredState::Stopped {
        return Some("it is being stopped".into());
    }
    let Some(node) = task.node.and_then(|id| store.node(id)) else {
        return Some("it has no node".into());
    };
    if node.state == NodeState::Down {
        return Some(format!("node {} is down", node.facts.hostname));
    }
    match (task.observed.state, task.observed.health) {
        (TaskState::Running, Health::None | Health::Healthy) => None,
        (TaskState::Running, Health::Starting) => Some("its checks have not succeeded yet".into()),
        (TaskState::Running, Health::Unhealthy) => Some("it is unhealthy".into()),
        (TaskState::Running, Health::Unready) => Some("it is not ready".into()),
        (state, _) => Some(format!("it is {state}")),
    }
}

/// The networks that a service declares, in its order.
pub fn networks_of<'a>(store: &'a Store, service: &'a Service) -> impl Iterator<Item = &'a Network> {
    service.spec.template.container.networks.iter().filter_map(|name| store.network_by_name(name))
}

/// The networks in which a node has tasks, by id, as the node has them. A node without a number has none.
pub fn networks_on(store: &Store, node: &Node) -> Vec<NetworkRoute> {
    let mut networks: Vec<NetworkRoute> = store
        .tasks_on_node(node.id)
        .filter(|task| !task.observed.state.is_terminal())
        .filter_map(|task| store.service(task.service)?.template_of(task.template))
        .flat_map(|template| &template.container.networks)
        .filter_map(|name| store.network_by_name(name))
        .map(|network| NetworkRoute {
            network: network.id,
            name: network.spec.name.clone(),
            base: network.base,
            number: node.number,
        })
        .filter(|network| network.number != 0)
        .collect();
    networks.sort_by_key(|network| network.network);
    networks.dedup_by_key(|network| network.network);
    networks
}

/// Whether a node answers on published ports: workstations do not, they come and go.
pub fn is_ingress(node: &Node) -> bool {
    node.spec.class == NodeClass::Server
}

/// Where other nodes dial a node's mesh. Not a workstation's: those are behind firewalls, and dial out themselves.
pub fn dialled(node: &Node) -> Option<&String> {
    node.facts.mesh.as_ref().filter(|_| node.spec.class == NodeClass::Server)
}

/// Another node as traffic sees it.
pub fn peer(store: &Store, id: NodeId) -> Option<PeerRoute> {
    let node = store.node(id)?;
    Some(PeerRoute { node: id, name: node.facts.hostname.clone(), mesh: dialled(node).cloned() })
}
