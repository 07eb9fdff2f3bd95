//! The filters in their order, each with the number of nodes that it removed: a refusal that explains itself.

use std::sync::Arc;

use model::{
    container::Protocol,
    id::ServiceId,
    placement::{Attribute, Constraint},
    service::TaskTemplate,
    task::{FilterCount, PendingReason},
};

use super::{
    bits::Bits,
    load::{HostPort, host_ports},
    nodes::Nodes,
};

/// Nodes that are candidates for a template, and how the others fell away.
pub(crate) struct Filtered {
    pub(crate) nodes: Bits,
    looked_at: u32,
    counts: Vec<FilterCount>,
}

impl Filtered {
    fn new(nodes: Bits) -> Self {
        Self { looked_at: nodes.count(), nodes, counts: Vec::new() }
    }

    fn keep(&mut self, name: impl FnOnce() -> String, passing: &Bits) {
        let before = self.nodes.count();
        self.nodes.keep(passing);
        let removed = before - self.nodes.count();
        if removed > 0 {
            self.counts.push(FilterCount { filter: name(), nodes: removed });
        }
    }

    fn reject(&mut self, name: impl FnOnce() -> String, failing: impl Fn(u32) -> bool) {
        let gone: Vec<u32> = self.nodes.iter().filter(|number| failing(*number)).collect();
        if !gone.is_empty() {
            self.counts.push(FilterCount { filter: name(), nodes: gone.len() as u32 });
            gone.into_iter().for_each(|number| self.nodes.remove(number));
        }
    }

    /// The refusal in words and counts.
    pub(crate) fn into_reason(self) -> PendingReason {
        let list: Vec<String> = self.counts.iter().map(|c| format!("{} {}", c.nodes, c.filter)).collect();
        let message = match (self.looked_at, list.is_empty()) {
            (0, _) => "the cluster has no node yet".to_owned(),
            (nodes, true) => format!("no room on any of {nodes} nodes"),
            (1, _) => format!("the only node does not fit: {}", self.counts[0].filter),
            (nodes, _) => format!("none of {nodes} nodes fits: {}", list.join(", ")),
        };
        PendingReason { message, nodes: self.looked_at, filters: self.counts }
    }
}

/// The filters that do not depend on load: ready, availability, platform, constraints one by one, engine reachable.
/// With `only`, that node alone is looked at.
pub(crate) fn lasting(nodes: &mut Nodes, template: &TaskTemplate, only: Option<u32>) -> Filtered {
    let mut start = nodes.present.clone();
    if let Some(number) = only {
        let mut alone = Bits::default();
        alone.insert(number);
        start.keep(&alone);
    }
    let mut filtered = Filtered::new(start);
    filtered.keep(|| "not ready".into(), &nodes.ready);
    filtered.keep(|| "paused or drained".into(), &nodes.active);
    let (platform, others): (Vec<&Constraint>, Vec<_>) =
        template.placement.constraints.iter().partition(|constraint| is_platform(constraint));
    for constraint in platform {
        filtered.keep(|| format!("fail platform {constraint}"), nodes.admitted(constraint));
    }
    for constraint in others {
        filtered.keep(|| format!("fail constraint {constraint}"), nodes.admitted(constraint));
    }
    filtered.keep(|| "with no reachable engine".into(), &nodes.engine);
    filtered
}

/// The nodes that [`lasting`] leaves, without the counts; kept from one class to the next.
pub(crate) fn candidates(nodes: &mut Nodes, template: &TaskTemplate) -> Arc<Bits> {
    nodes.lasting(&template.placement.constraints, |nodes| lasting(nodes, template, None).nodes)
}

/// Removes the nodes that secrets, a signed image, a published port or the maximum per node exclude; reservations are checked node by node.
pub(crate) fn narrow(nodes: &Nodes, candidates: &mut Bits, service: ServiceId, template: &TaskTemplate) {
    if template.container.has_files() {
        candidates.keep(&nodes.files);
    }
    if !template.container.signatures.is_empty() {
        candidates.keep(&nodes.signatures);
    }
    for port in host_ports(template) {
        candidates.drop_all(&nodes.with_port(&port));
    }
    let most = template.placement.max_per_node;
    if let (1.., Some(load)) = (most, nodes.service(service)) {
        let full = load.nodes().filter(|number| load.on(*number) >= most);
        full.for_each(|number| candidates.remove(number));
    }
}

/// The filters that depend on what runs, and on what few templates need: memory for secrets, an agent that verifies, published port, maximum per node, CPU and memory reservations.
pub(crate) fn passing(nodes: &Nodes, filtered: &mut Filtered, service: ServiceId, template: &TaskTemplate) {
    if template.container.has_files() {
        filtered.keep(|| "without memory for secrets".into(), &nodes.files);
    }
    if !template.container.signatures.is_empty() {
        filtered.keep(|| "whose agents do not verify signatures yet".into(), &nodes.signatures);
    }
    for port in host_ports(template) {
        let taken = nodes.with_port(&port);
        filtered.reject(|| format!("with port {} taken", port_text(port)), |number| taken.contains(number));
    }
    let most = template.placement.max_per_node;
    if let (1.., Some(load)) = (most, nodes.service(service)) {
        let full = |number| load.on(number) >= most;
        filtered.reject(|| format!("with {most} replicas already (max per node)"), full);
    }
    let needs = &template.container.resources;
    filtered.reject(|| "short of CPU to reserve".into(), |number| !nodes.usage(number).fits_cpu(needs));
    filtered.reject(|| "short of memory to reserve".into(), |number| !nodes.usage(number).fits_memory(needs));
}

fn is_platform(constraint: &Constraint) -> bool {
    matches!(constraint.attribute, Attribute::Os | Attribute::Arch)
}

fn port_text((port, protocol): HostPort) -> String {
    match protocol {
        Protocol::Tcp => format!("{port}/tcp"),
        Protocol::Udp => format!("{port}/udp"),
    }
}
