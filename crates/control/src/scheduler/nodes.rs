//! What the scheduler knows of every node, by dense number: free capacity, load, and one bit set per question.
//!
//! Numbers are given in the order in which nodes joined, so that a view kept by changes and one rebuilt from the store
//! rank equal nodes alike. All of it is derived from the store; the control loop makes it anew when asked to look at everything.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use model::{
    id::{NodeId, ServiceId, TaskId},
    node::{Availability, Node, NodeState},
    placement::{Attribute, Constraint},
    service::{TaskTemplate, TemplateVersion},
};

use super::{
    bits::Bits,
    load::{HostPort, ServiceLoad, Shape, Usage, host_ports},
};

/// Bit sets of constraints and attributes are kept for so many; beyond it all are forgotten and made again on demand.
const MAX_CACHED_SETS: usize = 1_024;

/// The nodes by the value of one attribute; the absent value comes first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Values {
    pub(crate) nodes: BTreeMap<Option<String>, Bits>,
}

/// The nodes with the same number of tasks.
#[derive(Debug, Clone, Default)]
struct Level {
    nodes: Bits,
    count: u32,
}

/// The view.
#[derive(Debug, Clone, Default)]
pub(crate) struct Nodes {
    numbers: BTreeMap<NodeId, u32>,
    /// By number; `None` once removed.
    rows: Vec<Option<Node>>,
    /// By number.
    usage: Vec<Usage>,
    pub(crate) present: Bits,
    pub(crate) ready: Bits,
    pub(crate) active: Bits,
    pub(crate) engine: Bits,
    /// Whose agents keep secrets and configs in memory.
    pub(crate) files: Bits,
    /// Whose agents verify signatures of images.
    pub(crate) signatures: Bits,
    by_load: BTreeMap<u32, Level>,
    /// The nodes that pass the lasting filters of a list of constraints; forgotten when a node changes.
    lasting: BTreeMap<Vec<Constraint>, Arc<Bits>>,
    constraints: BTreeMap<Constraint, Bits>,
    attributes: BTreeMap<Attribute, Values>,
    ports: BTreeMap<HostPort, BTreeMap<u32, u32>>,
    services: BTreeMap<ServiceId, ServiceLoad>,
    shapes: Vec<Shape>,
    free_shapes: Vec<u32>,
    shape_of: BTreeMap<(ServiceId, TemplateVersion), u32>,
    held: BTreeMap<TaskId, (u32, u32)>,
}

impl Nodes {
    /// The number of a node.
    pub(crate) fn number(&self, id: NodeId) -> Option<u32> {
        self.numbers.get(&id).copied()
    }

    pub(crate) fn usage(&self, number: u32) -> &Usage {
        &self.usage[number as usize]
    }

    pub(crate) fn id(&self, number: u32) -> NodeId {
        self.usage(number).id
    }

    /// Numbers ever given; more than twice the nodes means that a rebuild would save memory.
    pub(crate) fn is_sparse(&self) -> bool {
        self.rows.len() > 64 && self.rows.len() > 2 * self.numbers.len()
    }

    /// The nodes with exactly `load` tasks or the next more, and how many that is.
    pub(crate) fn at_load(&self, load: u32) -> Option<(u32, &Bits)> {
        self.by_load.range(load..).next().map(|(load, level)| (*load, &level.nodes))
    }

    pub(crate) fn service(&self, id: ServiceId) -> Option<&ServiceLoad> {
        self.services.get(&id)
    }

    pub(crate) fn shape(&self, number: u32) -> &Shape {
        &self.shapes[number as usize]
    }

    /// Whether another task has one of these ports on the node.
    pub(crate) fn port_taken(&self, number: u32, ports: &[HostPort]) -> bool {
        ports.iter().any(|port| self.ports.get(port).is_some_and(|nodes| nodes.contains_key(&number)))
    }

    /// The nodes where one of the ports is taken.
    pub(crate) fn with_port(&self, port: &HostPort) -> Bits {
        let mut nodes = Bits::default();
        self.ports.get(port).into_iter().flat_map(BTreeMap::keys).for_each(|number| nodes.insert(*number));
        nodes
    }

    /// Takes over a node as it is now; `true` when something that placement looks at has changed.
    pub(crate) fn upsert(&mut self, node: &Node) -> bool {
        let Some(number) = self.number(node.id) else {
            self.add(node);
            return true;
        };
        let old = self.rows[number as usize].as_ref().expect("a numbered node is kept");
        let relevant = old.state != node.state || old.spec != node.spec || old.facts != node.facts;
        if relevant {
            self.classify(number, node);
        }
        self.rows[number as usize] = Some(node.clone());
        relevant
    }

    fn add(&mut self, node: &Node) {
        let number = u32::try_from(self.rows.len()).expect("fewer than four billion nodes");
        self.rows.push(Some(node.clone()));
        self.usage.push(Usage::of(node));
        self.numbers.insert(node.id, number);
        self.present.insert(number);
        self.enter_load(number, 0);
        self.classify(number, node);
    }

    fn classify(&mut self, number: u32, node: &Node) {
        self.lasting.clear();
        let usage = &mut self.usage[number as usize];
        (usage.cpu, usage.memory) = (node.facts.cpu_millis, node.facts.memory);
        self.ready.set(number, node.state == NodeState::Ready);
        self.active.set(number, node.spec.availability == Availability::Active);
        self.engine.set(number, node.facts.engine_ok);
        self.files.set(number, node.facts.files);
        self.signatures.set(number, node.facts.signatures);
        for (constraint, nodes) in &mut self.constraints {
            nodes.set(number, constraint.admits(node));
        }
        for (attribute, values) in &mut self.attributes {
            values.nodes.values_mut().for_each(|nodes| nodes.remove(number));
            values.nodes.entry(attribute.of(node)).or_default().insert(number);
        }
    }

    /// Forgets a node; whatever tasks still held there is forgotten with it.
    pub(crate) fn remove(&mut self, id: NodeId) {
        let Some(number) = self.numbers.remove(&id) else { return };
        let tasks: Vec<TaskId> =
            self.held.iter().filter(|(_, (node, _))| *node == number).map(|(task, _)| *task).collect();
        tasks.into_iter().for_each(|task| self.release(task));
        self.leave_load(number, 0);
        self.lasting.clear();
        let states = [&mut self.present, &mut self.ready, &mut self.active, &mut self.engine];
        for set in states.into_iter().chain([&mut self.files, &mut self.signatures]) {
            set.remove(number);
        }
        self.constraints.values_mut().for_each(|nodes| nodes.remove(number));
        self.attributes
            .values_mut()
            .flat_map(|v| v.nodes.values_mut())
            .for_each(|nodes| nodes.remove(number));
        self.rows[number as usize] = None;
    }

    /// The shape of a template, made on first sight.
    pub(crate) fn shape_for(
        &mut self,
        service: ServiceId,
        version: TemplateVersion,
        template: &TaskTemplate,
    ) -> u32 {
        match self.shape_of.entry((service, version)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let shape = Shape {
                    service,
                    template: version,
                    needs: template.container.resources,
                    ports: host_ports(template),
                    tasks: 0,
                };
                let number = self.free_shapes.pop().unwrap_or(self.shapes.len() as u32);
                if number as usize == self.shapes.len() {
                    self.shapes.push(shape);
                } else {
                    self.shapes[number as usize] = shape;
                }
                *new.insert(number)
            }
        }
    }

    /// Forgets the shapes of a service that is gone.
    pub(crate) fn forget_service(&mut self, service: ServiceId) {
        let versions = (service, TemplateVersion(0))..=(service, TemplateVersion(u64::MAX));
        let known: Vec<_> = self.shape_of.range(versions).map(|(key, number)| (*key, *number)).collect();
        for (key, number) in known {
            if self.shapes[number as usize].tasks == 0 {
                self.shape_of.remove(&key);
                self.free_shapes.push(number);
            }
        }
    }

    /// Whether this task holds something, and where.
    pub(crate) fn holder(&self, task: TaskId) -> Option<u32> {
        self.held.get(&task).map(|(node, _)| *node)
    }

    /// A task holds its shape on a node. Idempotent.
    pub(crate) fn hold(&mut self, task: TaskId, number: u32, shape: u32) {
        if self.held.insert(task, (number, shape)).is_some() {
            return;
        }
        let (needs, service, version) = {
            let shape = &mut self.shapes[shape as usize];
            shape.tasks += 1;
            (shape.needs, shape.service, shape.template)
        };
        let usage = &mut self.usage[number as usize];
        usage.cpu_used += needs.cpu_reserve_millis;
        usage.memory_used += needs.memory_reserve;
        usage.tasks += 1;
        let tasks = usage.tasks;
        self.leave_load(number, tasks - 1);
        self.enter_load(number, tasks);
        let load = self.services.entry(service).or_default();
        *load.tasks.entry((number, version)).or_default() += 1;
        load.changes += 1;
        for index in 0..self.shapes[shape as usize].ports.len() {
            let port = self.shapes[shape as usize].ports[index];
            *self.ports.entry(port).or_default().entry(number).or_default() += 1;
        }
    }

    /// A task holds nothing any more. Idempotent.
    pub(crate) fn release(&mut self, task: TaskId) {
        let Some((number, shape)) = self.held.remove(&task) else { return };
        let shape = {
            let shape = &mut self.shapes[shape as usize];
            shape.tasks -= 1;
            shape.clone()
        };
        let usage = &mut self.usage[number as usize];
        usage.cpu_used -= shape.needs.cpu_reserve_millis;
        usage.memory_used -= shape.needs.memory_reserve;
        usage.tasks -= 1;
        let tasks = usage.tasks;
        self.leave_load(number, tasks + 1);
        self.enter_load(number, tasks);
        let load = self.services.get_mut(&shape.service).expect("a held task counts for its service");
        count_down(&mut load.tasks, (number, shape.template));
        load.changes += 1;
        if load.tasks.is_empty() {
            self.services.remove(&shape.service);
        }
        for port in &shape.ports {
            let nodes = self.ports.get_mut(port).expect("a held port is listed");
            count_down(nodes, number);
            if nodes.is_empty() {
                self.ports.remove(port);
            }
        }
    }

    fn enter_load(&mut self, number: u32, load: u32) {
        let level = self.by_load.entry(load).or_default();
        level.nodes.insert(number);
        level.count += 1;
    }

    fn leave_load(&mut self, number: u32, load: u32) {
        let level = self.by_load.get_mut(&load).expect("every node is in the level of its load");
        level.nodes.remove(number);
        level.count -= 1;
        if level.count == 0 {
            self.by_load.remove(&load);
        }
    }

    /// The set kept for a list of constraints, or the one that `make` finds.
    pub(crate) fn lasting(
        &mut self,
        constraints: &[Constraint],
        make: impl FnOnce(&mut Self) -> Bits,
    ) -> Arc<Bits> {
        if let Some(known) = self.lasting.get(constraints) {
            return known.clone();
        }
        let made = Arc::new(make(self));
        if self.lasting.len() >= MAX_CACHED_SETS {
            self.lasting.clear();
        }
        self.lasting.insert(constraints.to_vec(), made.clone());
        made
    }

    /// The nodes that a constraint admits.
    pub(crate) fn admitted(&mut self, constraint: &Constraint) -> &Bits {
        if self.constraints.len() >= MAX_CACHED_SETS && !self.constraints.contains_key(constraint) {
            self.constraints.clear();
        }
        let rows = &self.rows;
        self.constraints.entry(constraint.clone()).or_insert_with(|| {
            let mut nodes = Bits::default();
            for (number, row) in rows.iter().enumerate() {
                if row.as_ref().is_some_and(|row| constraint.admits(row)) {
                    nodes.insert(number as u32);
                }
            }
            nodes
        })
    }

    /// The nodes by their value of an attribute.
    pub(crate) fn values(&mut self, attribute: &Attribute) -> &Values {
        if self.attributes.len() >= MAX_CACHED_SETS && !self.attributes.contains_key(attribute) {
            self.attributes.clear();
        }
        let rows = &self.rows;
        self.attributes.entry(attribute.clone()).or_insert_with(|| {
            let mut values = Values::default();
            for (number, row) in rows.iter().enumerate() {
                if let Some(row) = row {
                    values.nodes.entry(attribute.of(row)).or_default().insert(number as u32);
                }
            }
            values
        })
    }

    /// What differs from `other`, by node and task ids rather than numbers; `None` when nothing does.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let rows = |nodes: &Self| -> BTreeMap<NodeId, (Node, Usage)> {
            let both = nodes.rows.iter().zip(&nodes.usage);
            both.filter_map(|(row, usage)| Some((usage.id, (row.clone()?, usage.clone())))).collect()
        };
        let held = |nodes: &Self| -> BTreeMap<TaskId, (NodeId, ServiceId, TemplateVersion)> {
            let shape = |shape: u32| (nodes.shape(shape).service, nodes.shape(shape).template);
            let entry = |(task, (node, number)): (&TaskId, &(u32, u32))| {
                let (service, template) = shape(*number);
                (*task, (nodes.id(*node), service, template))
            };
            nodes.held.iter().map(entry).collect()
        };
        if rows(self) != rows(other) {
            return Some(format!("nodes differ: {:?} and {:?}", rows(self), rows(other)));
        }
        (held(self) != held(other)).then(|| format!("holders differ: {:?} and {:?}", held(self), held(other)))
    }
}

fn count_down<K: Ord>(counts: &mut BTreeMap<K, u32>, number: K) {
    if let Entry::Occupied(mut count) = counts.entry(number) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}
