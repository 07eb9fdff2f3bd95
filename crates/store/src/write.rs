//! Every change of a table, in one place: the table, its indices, the sum of hashes and the list of changes move together.

use std::sync::Arc;

use model::{
    cluster::{Cluster, Member, Token},
    cron::Cron,
    event::{Event, EventKind, ObjectChange, Revision},
    id::{CronId, Generation, MemberId, NetworkId, NodeId, ServiceId, TaskId, TokenId},
    identity::Identity,
    item::{Item, ItemKind},
    network::Network,
    node::Node,
    service::Service,
    task::Task,
    time::ClusterTime,
};

use crate::{
    apply::Change,
    hash::{Table, object_hash},
    store::{MAX_REMOVED_NODES, Store},
};

/// Writes one entry's changes.
pub(crate) struct Writer<'a> {
    pub store: &'a mut Store,
    /// The entry's index: the generation of everything that it changes.
    pub generation: Generation,
    /// The entry's stamp, never before an earlier one.
    pub at: ClusterTime,
    /// Who asked for it.
    pub actor: &'a Identity,
    /// What changed, in order.
    pub changes: Vec<Change>,
    ordinal: u32,
}

impl<'a> Writer<'a> {
    pub fn new(store: &'a mut Store, actor: &'a Identity) -> Self {
        let (generation, at) = (Generation(store.applied), store.time);
        Self { store, generation, at, actor, changes: Vec::new(), ordinal: 0 }
    }

    pub fn put_cluster(&mut self, cluster: Cluster) {
        self.account(Table::Cluster, self.store.cluster.clone().as_deref(), Some(&cluster));
        self.store.cluster = Some(Arc::new(cluster));
        self.changed(Change::Cluster);
    }

    pub fn put_service(&mut self, service: Service) {
        let old = self.store.services.get(&service.id).cloned();
        self.account(Table::Service, old.as_deref(), Some(&service));
        self.store.index.service(old.as_deref(), Some(&service));
        let id = service.id;
        self.store.services.insert(id, Arc::new(service));
        self.changed(Change::Service(id));
    }

    pub fn remove_service(&mut self, id: ServiceId) {
        if let Some(old) = self.store.services.remove(&id) {
            self.account(Table::Service, Some(&*old), None);
            self.store.index.service(Some(&old), None);
            self.changed(Change::Service(id));
            self.detach(id);
            self.trim_items_of(&old);
        }
    }

    pub fn put_task(&mut self, task: Task) {
        let old = self.store.tasks.get(&task.id).cloned();
        self.account(Table::Task, old.as_deref(), Some(&task));
        let template =
            self.store.services.get(&task.service).and_then(|service| service.template_of(task.template));
        self.store.index.task(old.as_deref(), Some(&task), template.map(|template| &**template));
        let id = task.id;
        self.store.tasks.insert(id, Arc::new(task));
        self.changed(Change::Task(id));
    }

    pub fn remove_task(&mut self, id: TaskId) {
        let Some(old) = self.store.tasks.remove(&id) else { return };
        self.account(Table::Task, Some(&*old), None);
        let template =
            self.store.services.get(&old.service).and_then(|service| service.template_of(old.template));
        self.store.index.task(Some(&old), None, template.map(|template| &**template));
        self.changed(Change::TaskGone { id, service: old.service, slot: old.slot, node: old.node });
    }

    pub fn put_node(&mut self, node: Node) {
        let old = self.store.nodes.get(&node.id).cloned();
        self.account(Table::Node, old.as_deref(), Some(&node));
        self.store.index.node(old.as_deref(), Some(&node));
        let id = node.id;
        self.store.nodes.insert(id, Arc::new(node));
        self.changed(Change::Node(id));
    }

    /// Forgets a node and remembers its id as used.
    pub fn remove_node(&mut self, id: NodeId) {
        let Some(old) = self.store.nodes.remove(&id) else { return };
        self.account(Table::Node, Some(&*old), None);
        self.store.index.node(Some(&old), None);
        self.account(Table::RemovedNode, None, Some(&id));
        self.store.removed_nodes.push_back(id);
        if self.store.removed_nodes.len() > MAX_REMOVED_NODES
            && let Some(oldest) = self.store.removed_nodes.pop_front()
        {
            self.account(Table::RemovedNode, Some(&oldest), None);
        }
        self.changed(Change::Node(id));
    }

    pub fn put_network(&mut self, network: Network) {
        let old = self.store.networks.get(&network.id).cloned();
        self.account(Table::Network, old.as_deref(), Some(&network));
        let id = network.id;
        self.store.networks.insert(id, Arc::new(network));
        self.changed(Change::Network(id));
    }

    pub fn put_cron(&mut self, cron: Cron) {
        let old = self.store.crons.get(&cron.id).cloned();
        self.account(Table::Cron, old.as_deref(), Some(&cron));
        let id = cron.id;
        self.store.crons.insert(id, Arc::new(cron));
        self.changed(Change::Cron(id));
    }

    pub fn remove_cron(&mut self, id: CronId) {
        if let Some(old) = self.store.crons.remove(&id) {
            self.account(Table::Cron, Some(&*old), None);
            self.changed(Change::Cron(id));
        }
    }

    pub fn put_item(&mut self, item: Item) {
        let key = (item.spec.kind, item.spec.name.clone());
        let old = self.store.items.get(&key).cloned();
        self.account(Table::Item, old.as_deref(), Some(&item));
        self.store.items.insert(key, Arc::new(item));
        self.changed(Change::Items);
    }

    pub fn remove_item(&mut self, kind: ItemKind, name: &str) {
        if let Some(old) = self.store.items.remove(&(kind, name.to_owned())) {
            self.account(Table::Item, Some(&*old), None);
            self.changed(Change::Items);
        }
    }

    pub fn remove_network(&mut self, id: NetworkId) {
        if let Some(old) = self.store.networks.remove(&id) {
            self.account(Table::Network, Some(&*old), None);
            self.changed(Change::Network(id));
        }
    }

    /// A service that is gone gives its addresses back.
    fn detach(&mut self, service: ServiceId) {
        let held: Vec<Arc<Network>> = self
            .store
            .networks
            .values()
            .filter(|network| network.addresses.contains_key(&service))
            .cloned()
            .collect();
        for network in held {
            let mut network = (*network).clone();
            network.addresses.remove(&service);
            self.put_network(network);
        }
    }

    pub fn put_member(&mut self, member: Member) {
        let old = self.store.members.get(&member.id).cloned();
        self.account(Table::Member, old.as_deref(), Some(&member));
        let id = member.id;
        self.store.members.insert(id, Arc::new(member));
        self.changed(Change::Member(id));
    }

    pub fn remove_member(&mut self, id: MemberId) {
        if let Some(old) = self.store.members.remove(&id) {
            self.account(Table::Member, Some(&*old), None);
            self.changed(Change::Member(id));
        }
    }

    pub fn put_token(&mut self, token: Token) {
        let old = self.store.tokens.get(&token.id).cloned();
        self.account(Table::Token, old.as_deref(), Some(&token));
        let id = token.id;
        self.store.tokens.insert(id, Arc::new(token));
        self.changed(Change::Token(id));
    }

    pub fn remove_token(&mut self, id: TokenId) {
        if let Some(old) = self.store.tokens.remove(&id) {
            self.account(Table::Token, Some(&*old), None);
            self.changed(Change::Token(id));
        }
    }

    pub fn event(&mut self, kind: EventKind, message: impl Into<String>) {
        let revision = Revision { index: self.generation.0, ordinal: self.ordinal };
        self.ordinal = self.ordinal.saturating_add(1);
        let gain = self.store.events.push(Event { revision, at: self.at, kind, message: message.into() });
        self.store.sum = self.store.sum.wrapping_add(gain);
    }

    pub fn service_event(&mut self, service: &Service, change: ObjectChange, message: impl Into<String>) {
        let kind = EventKind::Service { id: service.id, name: service.spec.name.clone(), change };
        self.event(kind, message);
    }

    pub fn rollout_event(&mut self, service: &Service, message: impl Into<String>) {
        if let Some(rollout) = &service.rollout {
            let name = service.spec.name.clone();
            self.event(EventKind::Rollout { service: service.id, name, state: rollout.state }, message);
        }
    }

    pub fn task_event(&mut self, task: &Task, message: impl Into<String>) {
        let service = self.store.services.get(&task.service);
        let kind = EventKind::Task {
            id: task.id,
            service: task.service,
            name: service.map_or_else(String::new, |service| service.spec.name.clone()),
            slot: task.slot,
            node: task.node,
            state: task.observed.state,
            health: task.observed.health,
        };
        self.event(kind, message);
    }

    pub fn node_event(&mut self, node: &Node, change: ObjectChange, message: impl Into<String>) {
        let name = node.facts.hostname.clone();
        self.event(EventKind::Node { id: node.id, name, change, state: node.state }, message);
    }

    pub fn member_event(&mut self, member: &Member, change: ObjectChange, message: impl Into<String>) {
        self.event(EventKind::Member { id: member.id, name: member.name.clone(), change }, message);
    }

    pub fn network_event(&mut self, network: &Network, change: ObjectChange, message: impl Into<String>) {
        self.event(EventKind::Network { id: network.id, name: network.spec.name.clone(), change }, message);
    }

    pub fn token_event(&mut self, id: TokenId, change: ObjectChange, message: impl Into<String>) {
        self.event(EventKind::Token { id, change }, message);
    }

    fn account<T: serde::Serialize>(&mut self, table: Table, old: Option<&T>, new: Option<&T>) {
        let hash = |value: Option<&T>| value.map_or(0, |value| object_hash(table, value));
        self.store.sum = self.store.sum.wrapping_sub(hash(old)).wrapping_add(hash(new));
    }

    fn changed(&mut self, change: Change) {
        if self.changes.last() != Some(&change) {
            self.changes.push(change);
        }
    }
}
