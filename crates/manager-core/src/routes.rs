//! What every node is told about reaching services: each service's route is derived once when something about it changed, and
//! every node that may reach it is sent the difference.
//!
//! All of it is the leader's own memory. A node that reaches another leader is given the whole table again; in between its mesh
//! serves the last one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use control::routes;
use model::{
    id::{NetworkId, NodeId, ServiceId},
    node::{Node, NodeState},
    route::{NetworkRoute, PeerRoute, RouteVersion, ServiceRoute},
    session::{ManagerMessage, RouteChange},
};
use store::{Change, Store};

use crate::{
    Action, Manager, parts,
    session::{Open, State},
};

/// The first version of the agents' conversation that knows routes.
pub(crate) const SINCE: u32 = 2;
/// What a service's route takes at most beside its endpoints and ports, encoded, with its names.
const ROUTE: usize = 256;
/// What an endpoint takes at most, with two networks.
const ENDPOINT: usize = 128;
/// What a published port takes at most, without its texts.
const PORT: usize = 256;

/// Ingress nodes that a node which can be dialled is told of although nothing of theirs is wanted yet: connections in advance,
/// and few enough that a large cluster is no full mesh.
const MAX_STANDBY: usize = 32;

/// Removed nodes that all are told of. A certificate lives for days; so many nodes are not removed in that time.
const MAX_REMOVED: usize = 1_000;

/// A leader's routes.
#[derive(Default)]
pub(crate) struct Routes {
    services: BTreeMap<ServiceId, Arc<ServiceRoute>>,
    /// Services whose route may have changed.
    dirty: BTreeSet<ServiceId>,
    /// Nodes whose own view may have changed: their networks, or whether they are ingress nodes.
    nodes: BTreeSet<NodeId>,
    /// Where each node is dialled, as it was last told; a change concerns all.
    meshes: BTreeMap<NodeId, PeerRoute>,
    /// Nodes that were removed lately; a change concerns all.
    removed: Vec<NodeId>,
    /// Everything has been derived once.
    begun: bool,
}

/// What one node was sent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent {
    sequence: u64,
    services: BTreeMap<ServiceId, Arc<ServiceRoute>>,
    peers: Vec<PeerRoute>,
    networks: Vec<NetworkRoute>,
    ingress: bool,
    outbound: bool,
    removed: Vec<NodeId>,
    /// The newest version that its mesh goes by.
    pub(crate) routed: Option<RouteVersion>,
}

impl Sent {
    /// Its mesh does not go by the newest table yet.
    pub(crate) fn is_behind(&self) -> bool {
        self.sequence > self.routed.map_or(0, |version| version.sequence)
    }
}

impl Routes {
    pub(crate) fn note(&mut self, change: &Change, store: &Store) {
        match change {
            Change::Task(id) => {
                let Some(task) = store.task(*id) else { return };
                self.dirty.insert(task.service);
                self.nodes.extend(task.node);
            }
            Change::TaskGone { service, node, .. } => {
                self.dirty.insert(*service);
                self.nodes.extend(*node);
            }
            Change::Service(id) => {
                self.dirty.insert(*id);
            }
            Change::Node(id) => {
                self.nodes.insert(*id);
                self.dirty.extend(store.tasks_on_node(*id).map(|task| task.service));
            }
            Change::Network(id) => {
                let services = store.network(*id).into_iter().flat_map(|network| network.addresses.keys());
                self.dirty.extend(services);
            }
            Change::Cluster | Change::Member(_) | Change::Token(_) | Change::Cron(_) | Change::Items => {}
        }
    }

    /// A node is to be told everything.
    pub(crate) fn greet(&mut self, node: NodeId) {
        self.nodes.insert(node);
    }

    /// Derives anew what may have changed; which services and whether a node's address did.
    fn refresh(&mut self, store: &Store) -> (BTreeSet<ServiceId>, bool) {
        let begins = !std::mem::replace(&mut self.begun, true);
        if begins || self.nodes.iter().any(|id| store.node(*id).is_none()) {
            self.removed = store.removed_nodes().take(MAX_REMOVED).collect();
            self.removed.reverse();
        }
        if begins {
            self.dirty.extend(store.services().map(|service| service.id));
            self.nodes.extend(store.nodes().map(|node| node.id));
        }
        let mut changed = BTreeSet::new();
        for id in std::mem::take(&mut self.dirty) {
            let route = store.service(id).and_then(|service| routes::service_route(store, service));
            if self.services.get(&id).map(|old| &**old) == route.as_ref() {
                continue;
            }
            changed.insert(id);
            match route {
                Some(route) => self.services.insert(id, Arc::new(route)),
                None => self.services.remove(&id),
            };
        }
        let mut moved = false;
        for id in &self.nodes {
            let peer = routes::peer(store, *id);
            if self.meshes.get(id) != peer.as_ref() {
                moved = true;
                match peer {
                    Some(peer) => self.meshes.insert(*id, peer),
                    None => self.meshes.remove(id),
                };
            }
        }
        (changed, moved)
    }
}

impl Manager {
    /// Sends every node what is new for it.
    pub(crate) fn dispatch_routes(&mut self) {
        let Some(lead) = &mut self.lead else { return };
        let routes = &mut lead.routes;
        let (changed, moved) = routes.refresh(&self.store);
        let nodes = std::mem::take(&mut routes.nodes);
        if changed.is_empty() && nodes.is_empty() {
            return;
        }
        let limit = self.config.knobs.assignment_part;
        let mut messages = Vec::new();
        for (connection, session) in &mut self.sessions.by_connection {
            let State::Open(open) = &mut session.state else { continue };
            let Some(node) = self.store.node(session.node).filter(|_| open.protocol >= SINCE) else {
                continue;
            };
            let own = nodes.contains(&session.node);
            if let Some(change) = routes.change_for(&self.store, node, open, &changed, own, moved) {
                messages.extend(split(change, limit).map(|part| (*connection, part)));
            }
        }
        for (connection, part) in messages {
            self.act(Action::SendAgent { connection, message: ManagerMessage::Routes(Box::new(part)) });
        }
    }

    /// A node's mesh goes by a table from now on.
    pub(crate) fn on_routed(&mut self, connection: u64, version: RouteVersion) {
        if let Some(session) = self.sessions.by_connection.get_mut(&connection)
            && let State::Open(open) = &mut session.state
            && (version.term, version.session) == (open.fence.term, open.fence.session)
        {
            open.routes.routed = open.routes.routed.max(Some(version));
        }
    }

    /// Nodes that are connected and whose mesh does not go by their newest table yet, by name.
    pub(crate) fn routers_behind(&self) -> Vec<String> {
        let behind = self.sessions.by_connection.values().filter(|session| match &session.state {
            State::Open(open) => open.protocol >= SINCE && open.routes.is_behind(),
            _ => false,
        });
        behind.filter_map(|session| Some(self.store.node(session.node)?.facts.hostname.clone())).collect()
    }
}

impl Routes {
    /// What is new for one node since it was last told; `None` when nothing is.
    fn change_for(
        &self,
        store: &Store,
        node: &Node,
        open: &mut Open,
        changed: &BTreeSet<ServiceId>,
        own: bool,
        moved: bool,
    ) -> Option<RouteChange> {
        let first = open.routes.sequence == 0;
        let (ingress, networks) = if first || own {
            (routes::is_ingress(node), routes::networks_on(store, node))
        } else {
            (open.routes.ingress, open.routes.networks.clone())
        };
        let sent = &mut open.routes;
        let outbound = routes::dialled(node).is_none();
        let sight = (ingress, outbound, &networks) != (sent.ingress, sent.outbound, &sent.networks);
        let mut upsert = Vec::new();
        let mut remove = Vec::new();
        let mut consider = |id: ServiceId| {
            let route = self.services.get(&id).filter(|route| is_seen(route, node.id, ingress, &networks));
            let known = sent.services.get(&id);
            match route {
                Some(route) if known.is_none_or(|known| !Arc::ptr_eq(known, route)) => {
                    sent.services.insert(id, route.clone());
                    upsert.push((**route).clone());
                }
                None if known.is_some() => {
                    sent.services.remove(&id);
                    remove.push(id);
                }
                _ => {}
            }
        };
        if first || sight {
            self.services.keys().copied().for_each(&mut consider);
        }
        changed.iter().copied().for_each(&mut consider);
        let peers = if first || moved || own || !upsert.is_empty() || !remove.is_empty() {
            self.peers_of(store, node, sent)
        } else {
            sent.peers.clone()
        };
        let new_peers = peers != sent.peers;
        let struck = self.removed != sent.removed;
        if !first && !sight && !new_peers && !struck && upsert.is_empty() && remove.is_empty() {
            return None;
        }
        sent.sequence += 1;
        let change = RouteChange {
            version: RouteVersion {
                term: open.fence.term,
                session: open.fence.session,
                sequence: sent.sequence,
            },
            whole: first,
            ingress,
            outbound,
            upsert,
            remove,
            peers: (first || new_peers).then(|| peers.clone()),
            networks: (first || sight).then(|| networks.clone()),
            removed: (first || struck).then(|| self.removed.clone()),
            more: false,
        };
        (sent.ingress, sent.outbound, sent.networks, sent.peers) = (ingress, outbound, networks, peers);
        sent.removed.clone_from(&self.removed);
        Some(change)
    }

    /// The nodes that this one sends traffic to. One that cannot be dialled has to dial those that send to it: the ingress nodes
    /// and the nodes that share a network with it.
    fn peers_of(&self, store: &Store, node: &Node, sent: &Sent) -> Vec<PeerRoute> {
        let endpoints =
            sent.services.values().flat_map(|route| &route.endpoints).map(|endpoint| endpoint.node);
        let mut ids: BTreeSet<NodeId> = endpoints.collect();
        if !sent.services.is_empty() {
            let ready = store.nodes().filter(|other| {
                other.state == NodeState::Ready
                    && routes::dialled(other).is_some()
                    && routes::is_ingress(other)
            });
            let most = if routes::dialled(node).is_none() { usize::MAX } else { MAX_STANDBY };
            ids.extend(ready.map(|other| other.id).take(most));
        }
        ids.remove(&node.id);
        ids.into_iter().filter_map(|id| self.meshes.get(&id).cloned()).collect()
    }
}

/// Whether a node may reach a service: by a port that it answers on, from a task in the same network, or because it runs it.
fn is_seen(route: &ServiceRoute, node: NodeId, ingress: bool, networks: &[NetworkRoute]) -> bool {
    let shares = |network: NetworkId| networks.iter().any(|own| own.network == network);
    (ingress && !route.ports.is_empty())
        || route.endpoints.iter().any(|endpoint| endpoint.node == node)
        || route.addresses.iter().any(|address| shares(address.network))
}

/// Splits a change into parts of at most `limit` bytes each; all that is no service goes with the last one.
fn split(change: RouteChange, limit: usize) -> impl Iterator<Item = RouteChange> {
    let RouteChange {
        version,
        whole,
        ingress,
        outbound,
        upsert,
        remove,
        mut peers,
        mut networks,
        mut removed,
        more: _,
    } = change;
    let mut groups = parts::groups(upsert, limit, size);
    if groups.is_empty() {
        groups.push(Vec::new());
    }
    let last = groups.len() - 1;
    let mut remove = Some(remove);
    groups.into_iter().enumerate().map(move |(index, upsert)| RouteChange {
        version,
        whole,
        ingress,
        outbound,
        upsert,
        remove: remove.take().unwrap_or_default(),
        peers: peers.take_if(|_| index == last),
        networks: networks.take_if(|_| index == last),
        removed: removed.take_if(|_| index == last),
        more: index < last,
    })
}

fn size(route: &ServiceRoute) -> usize {
    let texts = route.ports.iter().filter_map(|port| port.http.as_ref()).map(|http| {
        let tls = http.tls.as_ref().map_or(0, |tls| tls.certificate.len() + tls.key.len());
        http.hosts.iter().map(|host| host.len() + 3).sum::<usize>() + http.path.len() + tls
    });
    ROUTE + route.endpoints.len() * ENDPOINT + route.ports.len() * PORT + texts.sum::<usize>()
}
