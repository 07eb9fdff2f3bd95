//! What tasks hold: the room on a node, the shape of a template, the tasks of one service.

use std::collections::BTreeMap;

use model::{
    container::{Protocol, Resources},
    id::{NodeId, ServiceId},
    node::Node,
    service::{TaskTemplate, TemplateVersion},
};

/// A published port of a host.
pub(crate) type HostPort = (u16, Protocol);

/// What is free on one node: all that a placement touches, in one cache line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(super) id: NodeId,
    pub(super) cpu: u64,
    pub(super) cpu_used: u64,
    pub(super) memory: u64,
    pub(super) memory_used: u64,
    pub(super) tasks: u32,
}

impl Usage {
    pub(super) fn of(node: &Node) -> Self {
        let (cpu, memory) = (node.facts.cpu_millis, node.facts.memory);
        Self { id: node.id, cpu, cpu_used: 0, memory, memory_used: 0, tasks: 0 }
    }

    /// Whether the reservations of one more task fit.
    pub(crate) fn fits(&self, needs: &Resources) -> bool {
        self.fits_cpu(needs) && self.fits_memory(needs)
    }

    pub(crate) fn fits_cpu(&self, needs: &Resources) -> bool {
        needs.cpu_reserve_millis == 0 || self.cpu_used.saturating_add(needs.cpu_reserve_millis) <= self.cpu
    }

    pub(crate) fn fits_memory(&self, needs: &Resources) -> bool {
        needs.memory_reserve == 0 || self.memory_used.saturating_add(needs.memory_reserve) <= self.memory
    }
}

/// What the tasks of one (service, template) hold on their nodes; kept once, shared by all of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shape {
    pub(crate) service: ServiceId,
    pub(crate) template: TemplateVersion,
    pub(crate) needs: Resources,
    pub(crate) ports: Vec<HostPort>,
    pub(super) tasks: u32,
}

/// Host ports that no two tasks on a node may share.
pub(crate) fn host_ports(template: &TaskTemplate) -> Vec<HostPort> {
    let ports = template.container.ports.iter();
    ports.filter(|port| port.published != 0).map(|port| (port.published, port.protocol)).collect()
}

/// Versions from here on are those of hooks, which are no replicas.
pub(super) const HOOK: u64 = 1 << 63;

/// How many tasks of one service are on each node, by template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ServiceLoad {
    pub(super) tasks: BTreeMap<(u32, TemplateVersion), u32>,
    /// Counts the changes, so that a class notices those that others made.
    pub(crate) changes: u64,
}

impl ServiceLoad {
    /// All tasks of the service on a node.
    pub(crate) fn on(&self, number: u32) -> u32 {
        self.versions_on(number).map(|(_, tasks)| tasks).sum()
    }

    /// The tasks on a node that carry one of these templates.
    pub(crate) fn peers_on(&self, number: u32, peers: &[TemplateVersion]) -> u32 {
        self.versions_on(number).filter(|(version, _)| peers.contains(version)).map(|(_, tasks)| tasks).sum()
    }

    /// Each node with tasks that carry one of these templates, once for each of them, by number.
    pub(crate) fn peers(&self, peers: &[TemplateVersion]) -> impl Iterator<Item = (u32, u32)> {
        let of_peers = self.tasks.iter().filter(|((_, version), _)| peers.contains(version));
        of_peers.map(|((number, _), tasks)| (*number, *tasks))
    }

    /// The nodes with any task, once for each template, by number.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = u32> {
        self.tasks.keys().filter(|(_, version)| version.0 < HOOK).map(|(number, _)| *number)
    }

    fn versions_on(&self, number: u32) -> impl Iterator<Item = (TemplateVersion, u32)> {
        let all = (number, TemplateVersion(0))..=(number, TemplateVersion(HOOK - 1));
        self.tasks.range(all).map(|((_, version), tasks)| (*version, *tasks))
    }
}
