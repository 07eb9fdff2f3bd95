//! What must hold of every reachable state. The simulator and the tests ask after each step; a manager never does.

use std::collections::BTreeSet;

use model::{
    access::MAX_USERS,
    container::ContainerSpec,
    login::MAX_METHODS,
    service::{Mode, Service, Slot},
    task::{DesiredState, TaskState},
};

use crate::{
    Store,
    hash::{Table, object_hash},
    index::Index,
};

/// Something that cannot be: a defect of the state machine, or a damaged snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the replicated state is inconsistent: {0}")]
pub struct Inconsistency(pub String);

impl Store {
    /// Compares everything derived with what the tables say, and checks every reference and rule; of the audit the newest
    /// records, since whoever loads a snapshot checks them all. Linear in the size of the rest of the state.
    ///
    /// # Errors
    /// The first [`Inconsistency`] found.
    pub fn check(&self) -> Result<(), Inconsistency> {
        self.check_references()?;
        self.check_rules()?;
        self.check_slots()?;
        let rebuilt = self.rebuilt_index();
        ensure(rebuilt.service_names == self.index.service_names, || "service names differ".into())?;
        ensure(rebuilt.node_names == self.index.node_names, || "node names differ".into())?;
        ensure(rebuilt.slots == self.index.slots, || "tasks by slot differ".into())?;
        ensure(rebuilt.on_node == self.index.on_node, || "tasks by node differ".into())?;
        ensure(rebuilt.pending == self.index.pending, || "pending tasks differ".into())?;
        ensure(rebuilt.template_uses == self.index.template_uses, || "template uses differ".into())?;
        ensure(rebuilt.usage == self.index.usage, || "reservations or ports differ".into())?;
        self.audit.verify_newest().map_err(|broken| Inconsistency(broken.to_string()))?;
        ensure(self.rebuilt_sum() == self.sum, || "the sum of hashes differs".into())
    }

    /// Every task's service, template and node exist. A snapshot that fails this is not loaded.
    pub(crate) fn check_references(&self) -> Result<(), Inconsistency> {
        for task in self.tasks() {
            let service = self.services.get(&task.service);
            let service = service
                .ok_or_else(|| Inconsistency(format!("task {} has no service {}", task.id, task.service)))?;
            ensure(service.templates.contains_key(&task.template), || {
                format!("task {} has no template {}", task.id, task.template.0)
            })?;
            ensure(
                task.node.is_none_or(|node| self.nodes.contains_key(&node)) || !task.may_have_container(),
                || format!("task {} may run on a node that is gone", task.id),
            )?;
        }
        for service in self.services() {
            let newest = service.templates.get(&service.template);
            ensure(newest.is_some_and(|newest| **newest == service.spec.template), || {
                format!("the newest template of service {} is not the declared one", service.id)
            })?;
        }
        Ok(())
    }

    pub(crate) fn rebuilt_index(&self) -> Index {
        let mut index = Index::of_tasks(self.tasks().map(|task| {
            let service = self.services.get(&task.service);
            (task, service.and_then(|service| service.template_of(task.template)).map(|template| &**template))
        }));
        for service in self.services() {
            index.service(None, Some(service));
        }
        for node in self.nodes() {
            index.node(None, Some(node));
        }
        index
    }

    pub(crate) fn rebuilt_sum(&self) -> u64 {
        let mut sum = self.events.sum().wrapping_add(self.requests.sum()).wrapping_add(self.audit.sum());
        let mut add = |hash: u64| sum = sum.wrapping_add(hash);
        self.cluster.iter().for_each(|cluster| add(object_hash(Table::Cluster, &**cluster)));
        self.services.values().for_each(|service| add(object_hash(Table::Service, &**service)));
        self.tasks.values().for_each(|task| add(object_hash(Table::Task, &**task)));
        self.nodes.values().for_each(|node| add(object_hash(Table::Node, &**node)));
        self.members.values().for_each(|member| add(object_hash(Table::Member, &**member)));
        self.tokens.values().for_each(|token| add(object_hash(Table::Token, &**token)));
        self.networks.values().for_each(|network| add(object_hash(Table::Network, &**network)));
        self.crons.values().for_each(|cron| add(object_hash(Table::Cron, &**cron)));
        self.items.values().for_each(|item| add(object_hash(Table::Item, &**item)));
        self.removed_nodes.iter().for_each(|node| add(object_hash(Table::RemovedNode, node)));
        sum
    }

    /// No two networks share addresses, no two services of a network one, no two nodes a number; and who is in a network has an
    /// address there.
    fn check_networks(&self) -> Result<(), Inconsistency> {
        let mut bases = BTreeSet::new();
        for network in self.networks() {
            let name = &network.spec.name;
            ensure(bases.insert(network.base), || format!("two networks have {}", network.base))?;
            let distinct: BTreeSet<u8> = network.addresses.values().copied().collect();
            ensure(distinct.len() == network.addresses.len(), || {
                format!("two services share an address in {name}")
            })?;
            for service in network.addresses.keys() {
                let known = self.services.contains_key(service);
                ensure(known, || format!("service {service} is gone and keeps its address in {name}"))?;
            }
        }
        for service in self.services() {
            for name in &service.spec.template.container.networks {
                let network = self.network_by_name(name);
                let attached = network.is_some_and(|network| network.addresses.contains_key(&service.id));
                ensure(attached, || format!("service {} has no address in network {name}", service.id))?;
            }
        }
        let mut numbers = BTreeSet::new();
        for node in self.nodes().filter(|node| node.number != 0) {
            ensure(numbers.insert(node.number), || format!("two nodes have number {}", node.number))?;
        }
        Ok(())
    }

    /// Users are in order, within their bound, and none is there twice.
    fn check_users(&self) -> Result<(), Inconsistency> {
        let users = self.users();
        ensure(users.len() <= MAX_USERS, || format!("there are {} users", users.len()))?;
        ensure(users.is_sorted_by(|a, b| a.spec.name < b.spec.name), || "users are out of order".into())?;
        let ids: BTreeSet<_> = users.iter().map(|user| user.id).collect();
        ensure(ids.len() == users.len(), || "two users have one id".into())?;
        let methods = self.login_methods();
        ensure(methods.len() <= MAX_METHODS, || format!("there are {} login methods", methods.len()))?;
        ensure(methods.is_sorted_by(|a, b| a.spec.name < b.spec.name), || {
            "login methods are out of order".into()
        })?;
        let whole = methods.iter().all(|method| method.spec.account().is_some() == method.password.is_some());
        ensure(whole, || "an account that searches has no password, or a password no account".into())?;
        let origins: Vec<_> = users.iter().filter_map(|user| user.origin.as_ref()).collect();
        let whole = origins.iter().all(|origin| self.login_method(&origin.method).is_some());
        ensure(whole, || "a user has outlived its login method".into())?;
        let people: BTreeSet<_> = origins.iter().map(|origin| (&origin.method, &origin.subject)).collect();
        ensure(people.len() == origins.len(), || "two users are one person".into())
    }

    /// Every version that something mounts is there, and the key that it is sealed with is known.
    fn check_items(&self) -> Result<(), Inconsistency> {
        let services = self.services().flat_map(Service::containers);
        let crons = self.crons().map(|cron| &cron.spec.job.template.container);
        for (kind, mount) in services.chain(crons).flat_map(ContainerSpec::files) {
            let name = &mount.name;
            let held = mount.version.and_then(|number| self.item(kind, name)?.version(number));
            ensure(held.is_some(), || {
                format!("version {:?} of {kind} {name} is gone although it is mounted", mount.version)
            })?;
        }
        let known =
            |key| self.data_keys().is_some_and(|keys| key <= keys.active && keys.record(key).is_some());
        for item in self.items() {
            ensure(!item.versions.is_empty(), || format!("{} has no version", item.spec.name))?;
            ensure(item.versions.is_sorted_by(|a, b| a.number < b.number), || {
                format!("the versions of {} are out of order", item.spec.name)
            })?;
            ensure(item.versions.iter().all(|version| known(version.value.key)), || {
                format!("{} is sealed with a key that nobody knows", item.spec.name)
            })?;
        }
        Ok(())
    }

    fn check_rules(&self) -> Result<(), Inconsistency> {
        for task in self.tasks() {
            let id = task.id;
            let ended = task.observed.state.is_terminal();
            let waits = task.observed.state == TaskState::Pending;
            ensure(waits == (task.node.is_none() && !ended), || format!("task {id} is pending on a node"))?;
            ensure(task.pending.is_some() == waits, || format!("task {id} gives a reason for not waiting"))?;
            ensure(!waits || task.desired == DesiredState::Running, || {
                format!("task {id} waits to be stopped")
            })?;
            ensure(task.healthy_since.is_some() == task.observed.is_healthy(), || {
                format!("task {id} is healthy since never, or sick since ever")
            })?;
        }
        self.check_networks()?;
        self.check_items()?;
        for id in &self.removed_nodes {
            ensure(!self.nodes.contains_key(id), || format!("node {id} came back"))?;
        }
        self.check_users()?;
        let last = self.cluster.as_ref().map(|cluster| cluster.last_member);
        for id in self.members.keys() {
            ensure(Some(*id) <= last, || format!("member {id} is beyond the last id given out"))?;
        }
        ensure(self.index.service_names.len() == self.services.len(), || "two services of one name".into())?;
        ensure(self.events.is_ordered(), || "the events are out of order".into())?;
        ensure(self.requests.is_consistent(), || "the remembered requests are torn".into())
    }

    /// At most one active task in a slot, two while one replaces the other (invariant I4); a slot of the service's kind.
    fn check_slots(&self) -> Result<(), Inconsistency> {
        let mut run: Option<(model::id::ServiceId, Slot, u32)> = None;
        for (service, slot, id) in &self.index.slots {
            let active = u32::from(self.task(*id).is_some_and(model::task::Task::is_active));
            run = match run {
                Some((of, place, count)) if (of, place) == (*service, *slot) => {
                    Some((of, place, count + active))
                }
                _ => Some((*service, *slot, active)),
            };
            ensure(run.is_none_or(|(_, _, count)| count <= 2), || {
                format!("slot {slot} of service {service} has more than two active tasks")
            })?;
            let global = self.service(*service).is_some_and(|service| service.spec.mode == Mode::Global);
            ensure(*slot == Slot::HOOK || global == matches!(slot, Slot::Node(_)), || {
                format!("service {service} has a slot {slot} of the other mode")
            })?;
        }
        Ok(())
    }
}

fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<(), Inconsistency> {
    if holds { Ok(()) } else { Err(Inconsistency(message())) }
}
