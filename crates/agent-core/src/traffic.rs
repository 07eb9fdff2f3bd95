//! The node's part in traffic: the newest table of routes, the addresses of its own containers, and the wait for what is under way
//! before a container is stopped.
//!
//! The mesh is a process of its own. It is given a whole configuration whenever something in it changed; it answers when it goes by
//! it, and the managers are told. Without a mesh nothing waits for it.

use std::{collections::BTreeMap, net::Ipv4Addr};

use mesh::control::{LocalTask, MeshConfig};
use model::{
    id::{NodeId, ServiceId, TaskId},
    route::{NetworkAddress, NetworkRoute, PeerRoute, RouteTable, RouteVersion, ServiceRoute},
    session::{AgentMessage, Assignment, RouteChange, Seen},
    task::DesiredState,
    time::Instant,
};

use planted::Bug;

use crate::{
    action::Action,
    agent::Agent,
    container::{Container, Phase},
    event::Part,
    task::Task,
};

/// More services than this in one table are not taken: it would be larger than the mesh takes.
const MAX_SERVICES: usize = 100_000;

/// The version of the conversation that knows what meshes saw.
const SEEN_SINCE: u32 = 3;

/// Problems told, and bytes of one: they are part of the node's record.
const MAX_PROBLEMS: usize = 8;
const MAX_PROBLEM: usize = 240;

/// How far the wait before a stop has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Drain {
    /// It takes traffic.
    #[default]
    NotBegun,
    /// The mesh was asked; at this time the stop goes on all the same.
    Until(Instant),
    /// Nothing is under way.
    Done,
}

/// What is known of routes, and what the mesh was last given.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    version: RouteVersion,
    ingress: bool,
    outbound: bool,
    services: BTreeMap<ServiceId, ServiceRoute>,
    peers: Vec<PeerRoute>,
    networks: Vec<NetworkRoute>,
    removed: Vec<NodeId>,
    /// Parts of a change whose last one has not come.
    parts: Vec<RouteChange>,
    /// In this session a whole table has come: the next ones may be differences.
    in_session: bool,
    given: Option<MeshConfig>,
    /// The mesh process listens to us.
    up: bool,
    changed: bool,
    /// Where this node's mesh listens for others; fixed by the configuration.
    listen: Option<String>,
    problems: BTreeMap<Part, Vec<String>>,
}

impl Traffic {
    pub(crate) fn new(table: Option<RouteTable>, listen: Option<String>) -> Self {
        let table = table.unwrap_or_default();
        Self {
            version: table.version,
            ingress: table.ingress,
            outbound: table.outbound,
            services: table.services.into_iter().map(|route| (route.service, route)).collect(),
            peers: table.peers,
            networks: table.networks,
            removed: table.removed,
            changed: true,
            listen,
            ..Self::default()
        }
    }

    /// What the node cannot do at the moment, for its facts.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.problems.values().flatten().take(MAX_PROBLEMS).cloned().collect()
    }

    /// A network by its name, if a task of this node may be in it.
    pub(crate) fn network(&self, name: &str) -> Option<&NetworkRoute> {
        self.networks.iter().find(|network| network.name == name)
    }

    fn apply(&mut self, change: RouteChange) -> bool {
        if !change.whole && !self.in_session {
            return false;
        }
        if self.parts.first().is_some_and(|first| first.version != change.version) {
            self.parts.clear();
        }
        let more = change.more;
        let services: usize = self.parts.iter().map(|part| part.upsert.len()).sum();
        if services + change.upsert.len() > MAX_SERVICES {
            self.parts.clear();
            return false;
        }
        self.parts.push(change);
        if more {
            return false;
        }
        for part in std::mem::take(&mut self.parts) {
            if part.whole && !std::mem::replace(&mut self.in_session, true) {
                self.services.clear();
            }
            for id in part.remove {
                self.services.remove(&id);
            }
            for route in part.upsert {
                let is_less = self.services.get(&route.service).is_some_and(|known| {
                    planted::is(Bug::StaleRoutes) && route.endpoints.len() < known.endpoints.len()
                });
                if !is_less {
                    self.services.insert(route.service, route);
                }
            }
            self.peers = part.peers.unwrap_or_else(|| std::mem::take(&mut self.peers));
            self.networks = part.networks.unwrap_or_else(|| std::mem::take(&mut self.networks));
            self.removed = part.removed.unwrap_or_else(|| std::mem::take(&mut self.removed));
            (self.version, self.ingress, self.outbound) = (part.version, part.ingress, part.outbound);
        }
        self.changed = true;
        true
    }

    fn table(&self) -> RouteTable {
        RouteTable {
            version: self.version,
            ingress: self.ingress,
            outbound: self.outbound,
            services: self.services.values().cloned().collect(),
            peers: self.peers.clone(),
            networks: self.networks.clone(),
            removed: self.removed.clone(),
        }
    }

    /// The session ended: the next one begins with a whole table.
    pub(crate) fn close(&mut self) {
        self.in_session = false;
        self.parts.clear();
    }
}

impl Agent {
    pub(crate) fn route(&mut self, change: RouteChange) {
        if self.traffic.apply(change) {
            // Who waited for a network's addresses has them now.
            self.dirty.extend(self.tasks.keys().copied());
        }
    }

    pub(crate) fn mesh_up(&mut self) {
        self.traffic.up = true;
        self.note_problems(Part::Mesh, Vec::new());
        self.traffic.given = None;
        self.traffic.changed = true;
    }

    pub(crate) fn note_problems(&mut self, of: Part, problems: Vec<String>) {
        let shortened = problems.into_iter().map(|mut problem| {
            problem.truncate(problem.floor_char_boundary(MAX_PROBLEM));
            problem
        });
        self.traffic.problems.insert(of, shortened.collect());
        self.refresh_facts();
    }

    /// Without a mesh there is nothing to wait for: its connections ended with it.
    pub(crate) fn mesh_down(&mut self, reason: &str) {
        self.note_problems(Part::Mesh, vec![format!("the mesh process ended: {reason}")]);
        self.traffic.up = false;
        let draining = self.tasks.iter_mut().filter(|(_, task)| matches!(task.drain, Drain::Until(_)));
        for (id, task) in draining {
            task.drain = Drain::Done;
            self.dirty.insert(*id);
        }
    }

    pub(crate) fn mesh_applied(&mut self, version: RouteVersion) {
        // A table of another session is none that this manager counts.
        if version == self.traffic.version && self.traffic.in_session {
            self.tell(AgentMessage::Routed(version));
        }
    }

    /// Managers that do not speak of it do without.
    pub(crate) fn mesh_saw(&mut self, seen: Vec<Seen>) {
        if self.session.open_with(SEEN_SINCE).is_some() {
            self.tell(AgentMessage::Seen(seen));
        }
    }

    pub(crate) fn mesh_drained(&mut self, id: TaskId) {
        if let Some(task) = self.tasks.get_mut(&id).filter(|task| matches!(task.drain, Drain::Until(_))) {
            task.drain = Drain::Done;
            self.dirty.insert(id);
        }
    }

    /// Whether a task may be stopped now; else when to look again.
    pub(crate) fn drained(&mut self, id: TaskId, now: Instant) -> Result<(), Instant> {
        let Some(task) = self.tasks.get_mut(&id) else { return Ok(()) };
        let Some(limit) = task.spec().map(model::container::ContainerSpec::drain) else { return Ok(()) };
        match task.drain {
            _ if !self.traffic.up || limit.is_zero() => Ok(()),
            Drain::Done => Ok(()),
            Drain::Until(at) if at <= now => Ok(()),
            Drain::Until(at) => Err(at),
            Drain::NotBegun => {
                task.drain = Drain::Until(now + limit);
                self.actions.push_back(Action::DrainTask { task: id });
                Err(now + limit)
            }
        }
    }

    /// Gives the mesh what changed, once per input.
    pub(crate) fn configure_mesh(&mut self) {
        let locals = self.locals();
        let traffic = &mut self.traffic;
        if !traffic.changed && traffic.given.as_ref().is_some_and(|given| given.locals == locals) {
            return;
        }
        let idle = traffic.services.is_empty() && traffic.networks.is_empty();
        if idle && traffic.given.is_none() && !traffic.up {
            return;
        }
        let config = MeshConfig {
            table: traffic.table(),
            locals,
            listen: traffic.listen.clone().filter(|_| !traffic.outbound),
        };
        traffic.changed = false;
        if traffic.given.as_ref() != Some(&config) {
            traffic.given = Some(config.clone());
            self.actions.push_back(Action::Mesh(Box::new(config)));
        }
    }

    /// This node's tasks that nobody wants stopped and whose containers run, each with the address at which this host reaches it. One that is to
    /// stop is none of them, whatever the mesh knows of its drain: a mesh process that began anew knows nothing of it.
    fn locals(&self) -> Vec<LocalTask> {
        let stays = |(_, task): &(&TaskId, &Task)| {
            let runs = |assignment: &Assignment| assignment.desired == DesiredState::Running;
            !task.leaving && task.assignment.as_ref().is_none_or(runs)
        };
        let reached = |(id, task): (&TaskId, &Task)| {
            let (_, container) = task.current().filter(|(_, container)| container.phase == Phase::Running)?;
            Some(LocalTask { task: *id, address: container.addresses.first()?.1 })
        };
        self.tasks.iter().filter(stays).filter_map(reached).collect()
    }
}

/// The addresses of a container in its service's networks.
pub(crate) fn addresses(
    container: &Container,
    assignment: &Assignment,
    traffic: &Traffic,
) -> Vec<NetworkAddress> {
    let names = &assignment.container.networks;
    let known = names.iter().filter_map(|name| traffic.network(name));
    let address_in = |network: &NetworkRoute| {
        let inside = |(_, address): &&(String, Ipv4Addr)| network.is_local(*address);
        let found = container.addresses.iter().find(inside)?;
        Some(NetworkAddress { network: network.network, address: found.1 })
    };
    known.filter_map(address_in).collect()
}
