//! Traffic: what a node must know to reach every service that it may reach, and how a request is treated on its way.
//!
//! A manager derives a [`RouteTable`] for each node from the state; the node's mesh serves the last one for as long as no
//! newer comes, managers or not. Nothing here is stored in the log: it follows from services, tasks, nodes and networks.

use std::{net::Ipv4Addr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::id::{NetworkId, NodeId, ServiceId, TaskId};

/// Orders the tables that one node is given; of two tables the greater is the newer one. Compared in the order of the fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteVersion {
    /// The leader's term.
    pub term: u64,
    /// The leader's count of sessions.
    pub session: u64,
    /// Counts the tables of the session, from 1.
    pub sequence: u64,
}

/// Everything that one node's mesh serves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteTable {
    /// Its place in the order.
    pub version: RouteVersion,
    /// Whether this node answers on published ports.
    pub ingress: bool,
    /// The other nodes do not dial this one: it dials them.
    pub outbound: bool,
    /// Services that the node may reach, sorted by id: those with published ports on an ingress node, and those that share a
    /// network with one of the node's tasks.
    pub services: Vec<ServiceRoute>,
    /// Nodes that run one of their tasks, or that reach ours, sorted by id.
    pub peers: Vec<PeerRoute>,
    /// Networks of the node's tasks, sorted by id.
    pub networks: Vec<NetworkRoute>,
    /// Nodes that were removed lately, oldest first: their certificates are refused although they have not expired.
    pub removed: Vec<NodeId>,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRoute {
    /// Which.
    pub service: ServiceId,
    /// Its name: a DNS label.
    pub name: String,
    /// Its address in each of its networks, the same for its whole life.
    #[serde(default)]
    pub addresses: Vec<NetworkAddress>,
    /// Ports published on every ingress node.
    #[serde(default)]
    pub ports: Vec<IngressPort>,
    /// Tasks that take new connections and requests, sorted by task. A task that is not here gets none, whatever cookie a
    /// client shows; what it has under way goes on.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
}

/// An address in a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NetworkAddress {
    /// In which network.
    pub network: NetworkId,
    /// Which.
    pub address: Ipv4Addr,
}

/// A task that takes traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Which.
    pub task: TaskId,
    /// Where it runs.
    pub node: NodeId,
    /// Its container's addresses in the service's networks, for `tasks.NAME`.
    #[serde(default)]
    pub addresses: Vec<NetworkAddress>,
}

/// A port that every ingress node answers on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngressPort {
    /// On the nodes.
    pub published: u16,
    /// In the container.
    pub target: u16,
    /// Understood as HTTP, request by request; `None`: TCP, connection by connection.
    #[serde(default)]
    pub http: Option<HttpPort>,
    /// Each connection to the container begins with a PROXY protocol v2 header that names the client (TCP only).
    #[serde(default)]
    pub proxy_protocol: bool,
}

impl IngressPort {
    /// Whether both cannot be served at once: the same published port, unless both speak HTTP the same way and differ in a host or
    /// in the path.
    pub fn clashes(&self, other: &Self) -> bool {
        if self.published != other.published {
            return false;
        }
        let (Some(one), Some(two)) = (&self.http, &other.http) else { return true };
        let hosts = one.hosts == two.hosts || one.hosts.iter().any(|host| two.hosts.contains(host));
        one.tls != two.tls || (hosts && one.path == two.path)
    }
}

/// Where every node takes connections to service names; never published.
pub const VIRTUAL_PORT: u16 = 7422;

/// How HTTP requests are treated.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpPort {
    /// Only requests for one of these hosts (without port, lower case; `*.example.org` for its children); empty: any. With
    /// hosts or a path, several services may share one published port.
    pub hosts: Vec<String>,
    /// Only requests whose path lies under this one: `/` or `/ispyb`. The longest match wins.
    pub path: String,
    /// A client stays with its replica for as long as that takes requests, by a cookie of our own.
    pub sticky: bool,
    /// How long one replica may take until its answer begins; then another one is tried, if the request allows it.
    pub try_timeout: Duration,
    /// How long all tries together may take until an answer begins; then 504. WebSockets and answers that have begun may go
    /// on for as long as they move.
    pub timeout: Duration,
    /// A certificate and its key, PEM files on every ingress node; changes are picked up. `None`: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// What the replicas speak on the target port.
    pub backend: Backend,
    /// One of so many requests is written to the access log of the node that it came to; 0: none, 1: all.
    pub log: u32,
    /// What is left out of their paths: the segments that are `*` here. With `/` at its beginning a pattern is for the beginning of
    /// a path, else for any part of it.
    pub log_mask: Vec<String>,
    /// Queries are written as well; else only that there was one.
    pub log_query: bool,
}

/// What a replica speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS and from the first byte, as gRPC does; many requests share a connection.
    H2c,
}

/// What the access log leaves out of paths unless something else is said: the token of REST services that take it there.
pub const LOG_MASK: &str = "rest/*";

impl Default for HttpPort {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            path: "/".to_owned(),
            sticky: false,
            try_timeout: Duration::from_millis(2_500),
            timeout: Duration::from_millis(2_900),
            tls: None,
            backend: Backend::Http1,
            log: 0,
            log_mask: vec![LOG_MASK.to_owned()],
            log_query: false,
        }
    }
}

/// Where a published port's certificate lies on the nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TlsFiles {
    /// The certificate chain, PEM.
    pub certificate: String,
    /// The key, PEM.
    pub key: String,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRoute {
    /// Which.
    pub node: NodeId,
    /// Its host name, for people.
    pub name: String,
    /// Where its mesh is dialled, `host:port`; `None`: it only dials out itself.
    #[serde(default)]
    pub mesh: Option<String>,
}

/// A network as one node has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRoute {
    /// Which.
    pub network: NetworkId,
    /// Its name.
    pub name: String,
    /// The first address of its /16.
    pub base: Ipv4Addr,
    /// This node's /24 in it, 1 to 250: containers get `base.number.2` and up, the node itself is `base.number.1`.
    pub number: u8,
}

/// The third byte of virtual addresses: `base.255.1` to `base.255.254`.
pub const VIRTUAL: u8 = 255;
/// The highest number of a node's /24.
pub const MAX_NODE_NUMBER: u8 = 250;

impl NetworkRoute {
    /// The node's own address, where its containers find their names.
    pub fn gateway(&self) -> Ipv4Addr {
        self.host(self.number, 1)
    }

    /// Whether an address is of this network.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        self.base.octets()[..2] == address.octets()[..2]
    }

    /// Whether an address is that of one of this node's containers, or of the node.
    pub fn is_local(&self, address: Ipv4Addr) -> bool {
        self.contains(address) && address.octets()[2] == self.number
    }

    fn host(&self, third: u8, fourth: u8) -> Ipv4Addr {
        let [first, second, ..] = self.base.octets();
        Ipv4Addr::new(first, second, third, fourth)
    }
}
