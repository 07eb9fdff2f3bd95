//! What is derived from the tables for speed: kept at every change, rebuilt after a load, compared by
//! [`Store::check`](crate::Store::check). An index holds keys only; the tables hold the truth.

use std::{collections::BTreeMap, sync::Arc};

use imbl::{OrdMap, OrdSet};
use model::{
    container::Protocol,
    id::{NodeId, ServiceId, TaskId},
    node::Node,
    service::{Service, Slot, TaskTemplate, TemplateVersion},
    task::Task,
};

/// What the tasks of one node hold there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Thousandths of a core reserved. Wide enough never to overflow: what was added must come off again exactly.
    cpu_millis: u128,
    /// Bytes reserved.
    memory: u128,
    /// Published host ports, sorted, with the number of tasks that hold each.
    pub ports: Vec<(u16, Protocol, u32)>,
}

impl Usage {
    /// Thousandths of a core and bytes reserved.
    pub fn reserved(&self) -> (u64, u64) {
        let narrow = |sum: u128| u64::try_from(sum).unwrap_or(u64::MAX);
        (narrow(self.cpu_millis), narrow(self.memory))
    }

    /// Whether a port is held.
    pub fn holds(&self, port: u16, protocol: Protocol) -> bool {
        self.find(port, protocol).is_ok()
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn hold(&mut self, template: &TaskTemplate) {
        let resources = &template.container.resources;
        self.cpu_millis += u128::from(resources.cpu_reserve_millis);
        self.memory += u128::from(resources.memory_reserve);
        for (port, protocol) in published(template) {
            match self.find(port, protocol) {
                Ok(found) => self.ports[found].2 += 1,
                Err(place) => self.ports.insert(place, (port, protocol, 1)),
            }
        }
    }

    fn release(&mut self, template: &TaskTemplate) {
        let resources = &template.container.resources;
        self.cpu_millis = self.cpu_millis.saturating_sub(resources.cpu_reserve_millis.into());
        self.memory = self.memory.saturating_sub(resources.memory_reserve.into());
        for (port, protocol) in published(template) {
            if let Ok(found) = self.find(port, protocol) {
                self.ports[found].2 -= 1;
                if self.ports[found].2 == 0 {
                    self.ports.remove(found);
                }
            }
        }
    }

    fn find(&self, port: u16, protocol: Protocol) -> Result<usize, usize> {
        self.ports.binary_search_by_key(&(port, protocol), |held| (held.0, held.1))
    }
}

fn published(template: &TaskTemplate) -> impl Iterator<Item = (u16, Protocol)> {
    let ports = template.container.ports.iter();
    ports.filter(|port| port.published != 0).map(|port| (port.published, port.protocol))
}

/// All derived tables.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Index {
    pub service_names: OrdMap<String, ServiceId>,
    pub node_names: OrdSet<(String, NodeId)>,
    pub slots: OrdSet<(ServiceId, Slot, TaskId)>,
    pub on_node: OrdSet<(NodeId, TaskId)>,
    /// Without a node and not ended.
    pub pending: OrdSet<TaskId>,
    /// How many tasks carry each template.
    pub template_uses: OrdMap<(ServiceId, TemplateVersion), u32>,
    pub usage: OrdMap<NodeId, Arc<Usage>>,
}

impl Index {
    /// Follows a service's change.
    pub fn service(&mut self, old: Option<&Service>, new: Option<&Service>) {
        if old.map(|service| &service.spec.name) == new.map(|service| &service.spec.name) {
            return;
        }
        if let Some(old) = old {
            self.service_names.remove(&old.spec.name);
        }
        if let Some(new) = new {
            self.service_names.insert(new.spec.name.clone(), new.id);
        }
    }

    /// Follows a node's change.
    pub fn node(&mut self, old: Option<&Node>, new: Option<&Node>) {
        if old.map(|node| &node.facts.hostname) == new.map(|node| &node.facts.hostname) {
            return;
        }
        if let Some(old) = old {
            self.node_names.remove(&(old.facts.hostname.clone(), old.id));
        }
        if let Some(new) = new {
            self.node_names.insert((new.facts.hostname.clone(), new.id));
        }
    }

    /// The tables of many tasks at once, each with its template: in order, so that neighbours share their way down the trees,
    /// and counted before anything is inserted.
    pub fn of_tasks<'a>(tasks: impl Iterator<Item = (&'a Task, Option<&'a TaskTemplate>)>) -> Self {
        let (mut slots, mut on_node, mut pending) = (Vec::new(), Vec::new(), Vec::new());
        let mut uses: BTreeMap<_, u32> = BTreeMap::new();
        let mut usage: BTreeMap<NodeId, Usage> = BTreeMap::new();
        for (task, template) in tasks {
            slots.push((task.service, task.slot, task.id));
            on_node.extend(task.node.map(|node| (node, task.id)));
            pending.extend(is_pending(task).then_some(task.id));
            *uses.entry((task.service, task.template)).or_default() += 1;
            if let (Some(node), Some(template)) = (holding(task), template) {
                usage.entry(node).or_default().hold(template);
            }
        }
        slots.sort_unstable();
        on_node.sort_unstable();
        usage.retain(|_, usage| !usage.is_empty());
        Self {
            slots: slots.into_iter().collect(),
            on_node: on_node.into_iter().collect(),
            pending: pending.into_iter().collect(),
            template_uses: uses.into_iter().collect(),
            usage: usage.into_iter().map(|(node, usage)| (node, Arc::new(usage))).collect(),
            ..Self::default()
        }
    }

    /// Follows a task's change. `template` is the one that the task carries: it never changes while the task lives.
    pub fn task(&mut self, old: Option<&Task>, new: Option<&Task>, template: Option<&TaskTemplate>) {
        if let (None, Some(task)) = (old, new) {
            self.slots.insert((task.service, task.slot, task.id));
            let key = (task.service, task.template);
            let uses = self.template_uses.get(&key).copied().unwrap_or(0);
            self.template_uses.insert(key, uses + 1);
        }
        if let (Some(task), None) = (old, new) {
            self.slots.remove(&(task.service, task.slot, task.id));
            let key = (task.service, task.template);
            match self.template_uses.get(&key).copied() {
                Some(uses) if uses > 1 => self.template_uses.insert(key, uses - 1),
                _ => self.template_uses.remove(&key),
            };
        }
        self.task_on_node(old, new);
        self.task_pending(old, new);
        self.task_usage(old, new, template);
    }

    fn task_on_node(&mut self, old: Option<&Task>, new: Option<&Task>) {
        let key = |task: &Task| task.node.map(|node| (node, task.id));
        let (before, after) = (old.and_then(key), new.and_then(key));
        if before != after {
            before.and_then(|key| self.on_node.remove(&key));
            after.and_then(|key| self.on_node.insert(key));
        }
    }

    fn task_pending(&mut self, old: Option<&Task>, new: Option<&Task>) {
        let key = |task: &Task| is_pending(task).then_some(task.id);
        let (before, after) = (old.and_then(key), new.and_then(key));
        if before != after {
            before.and_then(|id| self.pending.remove(&id));
            after.and_then(|id| self.pending.insert(id));
        }
    }

    fn task_usage(&mut self, old: Option<&Task>, new: Option<&Task>, template: Option<&TaskTemplate>) {
        let (before, after) = (old.and_then(holding), new.and_then(holding));
        let Some(template) = template.filter(|_| before != after) else { return };
        if let Some(node) = before
            && let Some(usage) = self.usage.get_mut(&node)
        {
            let usage = Arc::make_mut(usage);
            usage.release(template);
            if usage.is_empty() {
                self.usage.remove(&node);
            }
        }
        if let Some(node) = after {
            let mut usage = self.usage.get(&node).map_or_else(Usage::default, |usage| (**usage).clone());
            usage.hold(template);
            if !usage.is_empty() {
                self.usage.insert(node, Arc::new(usage));
            }
        }
    }
}

/// The node on which the task holds what it reserves.
fn holding(task: &Task) -> Option<NodeId> {
    task.node.filter(|_| task.may_have_container())
}

/// Without a node, and waiting for one.
fn is_pending(task: &Task) -> bool {
    task.node.is_none() && !task.observed.state.is_terminal()
}
