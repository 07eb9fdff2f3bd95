//! A configuration in the shape in which it is asked: by port, by host and path, by address, by name.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use model::{
    id::{NetworkId, NodeId, ServiceId, TaskId},
    route::{Endpoint, HttpPort, IngressPort, NetworkRoute, PeerRoute, RouteVersion, ServiceRoute, TlsFiles},
};

use crate::{access::AccessRules, control::MeshConfig, http};

/// Makes what a client's cookie says of a replica, out of the service's and the task's ids: it must reveal neither, and be the
/// same on every node of the cluster.
pub type Seal<'a> = &'a dyn Fn(ServiceId, TaskId) -> String;

/// What a mesh serves.
#[derive(Debug, Default)]
pub struct Table {
    /// Its place in the order of the managers' tables.
    pub version: RouteVersion,
    /// Published ports, of an ingress node.
    pub ports: BTreeMap<u16, Port>,
    /// Networks of this node's containers, with the names that are asked there.
    pub networks: Vec<Network>,
    /// Other nodes.
    pub peers: BTreeMap<NodeId, PeerRoute>,
    /// Nodes that were removed: nothing is had to do with them, whatever certificate they show.
    pub removed: BTreeSet<NodeId>,
    /// Where this node's mesh is dialled, `address:port`.
    pub listen: Option<String>,
    /// Every task that takes new connections and requests.
    pub endpoints: BTreeSet<TaskId>,
    locals: BTreeMap<TaskId, Ipv4Addr>,
    virtuals: BTreeMap<Ipv4Addr, (NetworkId, Arc<Service>)>,
    containers: BTreeMap<Ipv4Addr, (NetworkId, Arc<Service>)>,
}

/// One service, as traffic sees it.
#[derive(Debug)]
pub struct Service {
    /// Which.
    pub id: ServiceId,
    /// Its name.
    pub name: String,
    /// The name of its clients' cookie.
    pub cookie: String,
    /// Who takes new connections and requests.
    pub endpoints: Vec<Replica>,
}

/// A task of a service that takes traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Which.
    pub task: TaskId,
    /// Where it runs.
    pub node: NodeId,
    /// What a client's cookie says of it.
    pub opaque: String,
}

/// A published port.
#[derive(Debug)]
pub enum Port {
    /// Connection by connection.
    Tcp(TcpRoute),
    /// Request by request.
    Http(HttpRoutes),
}

/// Where a published port's connections go.
#[derive(Debug)]
pub struct TcpRoute {
    /// To which service.
    pub service: Arc<Service>,
    /// To which port of the container.
    pub target: u16,
    /// Whether a connection begins with a PROXY protocol header.
    pub proxy_protocol: bool,
}

/// Where a published port's requests go.
#[derive(Debug, Default)]
pub struct HttpRoutes {
    /// Each with what it answers to, the more particular first.
    pub routes: Vec<HttpRoute>,
    /// Certificates with the host names that they are for; none: plain HTTP.
    pub certificates: Vec<(Vec<String>, TlsFiles)>,
}

/// One service on a published port.
#[derive(Debug)]
pub struct HttpRoute {
    /// Which.
    pub service: Arc<Service>,
    /// To which port of the container.
    pub target: u16,
    /// How.
    pub settings: HttpPort,
    /// What of its requests the access log says; `None`: nothing.
    pub log: Option<Arc<AccessRules>>,
}

/// A network with its names.
#[derive(Debug)]
pub struct Network {
    /// Which, and this node's part of it.
    pub route: NetworkRoute,
    /// What each name means.
    pub names: BTreeMap<String, Name>,
}

/// What a service's name means in a network.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Name {
    /// The service's own address.
    pub address: Option<Ipv4Addr>,
    /// Its endpoints' addresses.
    pub tasks: Vec<Ipv4Addr>,
}

/// How a task is reached from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Its container runs here.
    Local(Ipv4Addr),
    /// Through another node's mesh.
    Remote(NodeId),
}

impl Table {
    /// Compiles a configuration; what of it contradicts itself is left out and said in words.
    pub fn compile(config: &MeshConfig, seal: Seal<'_>) -> (Self, Vec<String>) {
        let mut table = Self {
            version: config.table.version,
            peers: config.table.peers.iter().map(|peer| (peer.node, peer.clone())).collect(),
            removed: config.table.removed.iter().copied().collect(),
            listen: config.listen.clone(),
            locals: config.locals.iter().map(|local| (local.task, local.address)).collect(),
            networks: config.table.networks.iter().map(Network::new).collect(),
            ..Self::default()
        };
        let mut problems = Vec::new();
        for route in &config.table.services {
            table.add(route, config.table.ingress, seal, &mut problems);
        }
        table.ports.values_mut().for_each(Port::sort);
        (table, problems)
    }

    /// How a replica is reached; `None` when its container should run here and does not.
    pub fn reach(&self, replica: &Replica, own: NodeId) -> Option<Reach> {
        match self.locals.get(&replica.task) {
            Some(address) => Some(Reach::Local(*address)),
            None => (replica.node != own).then_some(Reach::Remote(replica.node)),
        }
    }

    /// The address of one of this node's containers.
    pub fn local(&self, task: TaskId) -> Option<Ipv4Addr> {
        self.locals.get(&task).copied()
    }

    /// Who answers at an address when somebody at `source` asks: the service of a virtual address, or the one replica of a
    /// container's address. Nobody for a source outside the network.
    pub fn at_address(&self, address: Ipv4Addr, source: Ipv4Addr) -> Option<Arc<Service>> {
        let (network, service) =
            self.virtuals.get(&address).or_else(|| self.containers.get(&address)).cloned()?;
        let network = self.networks.iter().find(|known| known.route.network == network)?;
        network.route.contains(source).then_some(service)
    }

    /// Nodes to which traffic of this one may go.
    pub fn destinations(&self) -> BTreeSet<NodeId> {
        let services = self.virtuals.values().chain(self.containers.values()).map(|(_, service)| service);
        let published = self.ports.values().flat_map(Port::services);
        services.chain(published).flat_map(|service| service.endpoints.iter().map(|r| r.node)).collect()
    }

    /// Every service that something leads to.
    pub fn services(&self) -> BTreeSet<ServiceId> {
        let named = self.virtuals.values().chain(self.containers.values()).map(|(_, service)| service.id);
        let published = self.ports.values().flat_map(Port::services).map(|service| service.id);
        named.chain(published).collect()
    }

    fn add(&mut self, route: &ServiceRoute, ingress: bool, seal: Seal<'_>, problems: &mut Vec<String>) {
        let service = Arc::new(Service::new(route, seal));
        self.endpoints.extend(route.endpoints.iter().map(|endpoint| endpoint.task));
        for own in &route.addresses {
            self.virtuals.insert(own.address, (own.network, service.clone()));
        }
        for (endpoint, replica) in route.endpoints.iter().zip(&service.endpoints) {
            self.add_containers(endpoint, replica, &service);
        }
        for network in &mut self.networks {
            network.add(route);
        }
        for port in route.ports.iter().filter(|_| ingress) {
            self.publish(port, &service, problems);
        }
    }

    fn add_containers(&mut self, endpoint: &Endpoint, replica: &Replica, service: &Service) {
        for own in &endpoint.addresses {
            let alone = Service { endpoints: vec![replica.clone()], ..service.clone_without_endpoints() };
            self.containers.insert(own.address, (own.network, Arc::new(alone)));
        }
    }

    /// Of two services that claim the same, the first has it: which of them that is does not change with their tasks.
    fn publish(&mut self, port: &IngressPort, service: &Arc<Service>, problems: &mut Vec<String>) {
        let fresh = |settings: &Option<HttpPort>| match settings {
            Some(_) => Port::Http(HttpRoutes::default()),
            None => {
                let (service, target) = (service.clone(), port.target);
                Port::Tcp(TcpRoute { service, target, proxy_protocol: port.proxy_protocol })
            }
        };
        let is_new = !self.ports.contains_key(&port.published);
        let held = self.ports.entry(port.published).or_insert_with(|| fresh(&port.http));
        let name = &service.name;
        match (held, &port.http) {
            (Port::Tcp(_), None) if is_new => {}
            (Port::Http(routes), Some(settings)) => {
                let route = HttpRoute {
                    service: service.clone(),
                    target: port.target,
                    settings: settings.clone(),
                    log: AccessRules::new(settings).map(Arc::new),
                };
                if let Err(problem) = routes.add(route) {
                    problems.push(format!("port {} of {name}: {problem}", port.published));
                }
            }
            (Port::Tcp(other), _) => {
                let other = &other.service.name;
                problems.push(format!("port {} of {name}: taken by {other}", port.published));
            }
            (Port::Http(_), None) => {
                problems.push(format!("port {} of {name}: another service has HTTP there", port.published));
            }
        }
    }
}

impl Service {
    fn new(route: &ServiceRoute, seal: Seal<'_>) -> Self {
        let replica = |endpoint: &Endpoint| Replica {
            task: endpoint.task,
            node: endpoint.node,
            opaque: seal(route.service, endpoint.task),
        };
        // No task has the id 0: what is sealed here is the service alone.
        let tag: String = seal(route.service, TaskId(0)).chars().take(8).collect();
        Self {
            id: route.service,
            name: route.name.clone(),
            cookie: format!("orch_{tag}"),
            endpoints: route.endpoints.iter().map(replica).collect(),
        }
    }

    fn clone_without_endpoints(&self) -> Self {
        Self { id: self.id, name: self.name.clone(), cookie: self.cookie.clone(), endpoints: Vec::new() }
    }

    /// The replica that a cookie names, if it still takes requests.
    pub fn named(&self, opaque: &str) -> Option<&Replica> {
        self.endpoints.iter().find(|replica| replica.opaque == opaque)
    }

    /// The replica of a task.
    pub fn replica(&self, task: TaskId) -> Option<&Replica> {
        self.endpoints.iter().find(|replica| replica.task == task)
    }
}

impl Port {
    fn sort(&mut self) {
        if let Self::Http(routes) = self {
            routes.routes.sort_by_key(|route| std::cmp::Reverse(route.settings.path.len()));
        }
    }

    fn services(&self) -> Vec<&Arc<Service>> {
        match self {
            Self::Tcp(route) => vec![&route.service],
            Self::Http(routes) => routes.routes.iter().map(|route| &route.service).collect(),
        }
    }
}

impl HttpRoutes {
    /// Who answers a request: the most particular host first, of those the longest path.
    pub fn find(&self, host: &str, path: &str) -> Option<&HttpRoute> {
        let fits = |route: &&HttpRoute| http::path_lies_under(path, &route.settings.path);
        let mut best: Option<(http::HostMatch, &HttpRoute)> = None;
        for route in self.routes.iter().filter(fits) {
            let Some(rank) = http::host_match(host, &route.settings.hosts) else { continue };
            // The longer path came first: only a more particular host displaces it.
            if best.is_none_or(|(held, _)| rank > held) {
                best = Some((rank, route));
            }
        }
        best.map(|(_, route)| route)
    }

    fn add(&mut self, route: HttpRoute) -> Result<(), String> {
        let settings = &route.settings;
        let same = |other: &&HttpRoute| {
            let theirs = &other.settings;
            theirs.path == settings.path
                && (theirs.hosts == settings.hosts
                    || theirs.hosts.iter().any(|host| settings.hosts.contains(host)))
        };
        if let Some(other) = self.routes.iter().find(same) {
            return Err(format!("{} has the same host and path", other.service.name));
        }
        if let Some(first) = self.routes.first()
            && first.settings.tls.is_some() != settings.tls.is_some()
        {
            return Err(format!("{} differs in the use of TLS", first.service.name));
        }
        if let Some(files) = &settings.tls {
            self.certificates.push((settings.hosts.clone(), files.clone()));
        }
        self.routes.push(route);
        Ok(())
    }
}

impl Network {
    fn new(route: &NetworkRoute) -> Self {
        Self { route: route.clone(), names: BTreeMap::new() }
    }

    fn add(&mut self, route: &ServiceRoute) {
        let here = |addresses: &[model::route::NetworkAddress]| {
            addresses.iter().find(|own| own.network == self.route.network).map(|own| own.address)
        };
        let name = Name {
            address: here(&route.addresses),
            tasks: route.endpoints.iter().filter_map(|endpoint| here(&endpoint.addresses)).collect(),
        };
        if name != Name::default() {
            self.names.insert(route.name.to_ascii_lowercase(), name);
        }
    }
}

#[cfg(test)]
mod tests;
