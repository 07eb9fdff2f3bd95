//! The control loop's memory between two decisions: what changed, what waits, what falls due.
//!
//! Level-triggered: [`Control::mark`] only notes keys; [`Control::decide`] reads the store as it is. Everything here can be
//! dropped and found again by [`Control::mark_all`], which reaches the same decisions.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    id::{CronId, NodeId, ServiceId, TaskId, TokenId},
    service::Slot,
    task::{Task, TaskState},
    time::ClusterTime,
};
use store::{Change, Store};

use crate::{
    cron,
    pass::{Key, Pass, Soft},
    plan::{IdSource, Plan},
    reap, reconcile,
    scheduler::{Batch, Want, bits::Bits, hook_template, nodes::Nodes, of_hook},
    update::Fetches,
};

/// The control loop of a leader.
pub struct Control {
    nodes: Nodes,
    soft: Soft,
    /// Look at everything once, and build the view of the nodes anew.
    all: bool,
    changed_nodes: BTreeSet<NodeId>,
    changed_tasks: BTreeSet<TaskId>,
    /// Services to look at, each with the replica to begin with.
    services: BTreeMap<ServiceId, u32>,
    slots: BTreeSet<(ServiceId, Slot)>,
    tokens: BTreeSet<TokenId>,
    crons: BTreeSet<CronId>,
    /// The cluster's own record changed.
    cluster: bool,
    room: Room,
    fetches: Fetches,
}

impl Default for Control {
    fn default() -> Self {
        Self::new()
    }
}

impl Control {
    /// A control loop that has seen nothing: its first decision looks at everything.
    pub fn new() -> Self {
        Self {
            nodes: Nodes::default(),
            soft: Soft::default(),
            all: true,
            changed_nodes: BTreeSet::new(),
            changed_tasks: BTreeSet::new(),
            services: BTreeMap::new(),
            slots: BTreeSet::new(),
            tokens: BTreeSet::new(),
            crons: BTreeSet::new(),
            cluster: false,
            room: Room::default(),
            fetches: Fetches::default(),
        }
    }

    /// The same, for somebody who carries out what [`fetches`](Self::fetches) wants.
    pub fn with_fetches() -> Self {
        Self { fetches: Fetches::carried_out(), ..Self::new() }
    }

    /// Images that rollouts wait for. What becomes of one is noted here, with [`mark`](Self::mark) for its service.
    pub fn fetches(&mut self) -> &mut Fetches {
        &mut self.fetches
    }

    /// Notes one change of the store. Cheap, idempotent; to be called for every change of every entry applied.
    pub fn mark(&mut self, change: &Change) {
        match change {
            Change::Service(id) => {
                self.services.insert(*id, 0);
            }
            Change::Task(id) => {
                self.changed_tasks.insert(*id);
            }
            Change::TaskGone { id, service, slot, .. } => {
                self.changed_tasks.insert(*id);
                self.slots.insert((*service, *slot));
            }
            Change::Node(id) => {
                self.changed_nodes.insert(*id);
            }
            Change::Token(id) => {
                self.tokens.insert(*id);
            }
            Change::Cron(id) => {
                self.crons.insert(*id);
            }
            // Freezes are the cluster's.
            Change::Cluster => self.cluster = true,
            Change::Member(_) | Change::Network(_) | Change::Items => {}
        }
    }

    /// Forgets everything: the next decision looks at all of the store. For a new leader, and after a lost batch.
    pub fn mark_all(&mut self) {
        let fetches = std::mem::take(&mut self.fetches);
        *self = Self { fetches, ..Self::new() };
    }

    /// The next batch of decisions.
    ///
    /// To be called only when every entry of the previous plan has been applied or is known to be lost (then
    /// [`mark_all`](Self::mark_all) first). `now` is the stamp that the batch will carry at the earliest. Returns at most
    /// [`MAX_DECISIONS`](crate::MAX_DECISIONS); what is left stays noted, so call again after the batch was applied.
    pub fn decide(&mut self, store: &Store, now: ClusterTime, ids: &mut dyn IdSource) -> Plan {
        if self.all || self.nodes.is_sparse() {
            self.rebuild(store);
        }
        self.settle(store);
        self.take_changes(store);
        self.take_timers(now);
        let mut pass = Pass {
            store,
            now,
            ids,
            nodes: &mut self.nodes,
            soft: &mut self.soft,
            fetches: &mut self.fetches,
            batch: Batch::default(),
            decisions: Vec::new(),
            acted: BTreeMap::new(),
            advanced: BTreeSet::new(),
        };
        while let Some(id) = self.tokens.pop_first() {
            reap::token(&mut pass, id);
            if pass.is_full() {
                break;
            }
        }
        while !pass.is_full()
            && let Some(id) = self.crons.pop_first()
        {
            cron::look(&mut pass, id);
        }
        let room = std::mem::take(&mut self.room);
        room.retry(&mut pass, &mut self.slots);
        look(&mut pass, &mut self.services, &mut self.slots);
        let (decisions, acted) = (pass.decisions, pass.acted);
        for taken in &mut self.soft.tentative {
            taken.alone =
                matches!(taken.key, Key::Slot(service, slot) if acted.get(&(service, slot)) == Some(&1));
        }
        let wake_at = self.soft.timers.first().map(|(at, _)| *at);
        Plan { decisions, wake_at }
    }

    /// Compares the view of the nodes that was kept by changes with one built anew: `None` when they agree. For the
    /// simulator and for tests, between a batch's application and the next decision. Linear in tasks and nodes.
    pub fn check(&mut self, store: &Store) -> Option<String> {
        if self.all {
            return None;
        }
        self.settle(store);
        self.take_changes(store);
        self.nodes.difference(&built(store))
    }

    fn rebuild(&mut self, store: &Store) {
        self.all = false;
        self.nodes = built(store);
        self.soft = Soft::default();
        self.changed_nodes.clear();
        self.changed_tasks.clear();
        self.slots.clear();
        self.room = Room::default();
        self.services = store.services().map(|service| (service.id, 0)).collect();
        self.tokens = store.tokens().map(|token| token.id).collect();
        self.crons = store.crons().map(|cron| cron.id).collect();
    }

    /// Gives back what the last plan took and the state machine refused.
    fn settle(&mut self, store: &Store) {
        for taken in std::mem::take(&mut self.soft.tentative) {
            self.room.taken = true;
            let kept = store.task(taken.task);
            let assigned = kept.filter(|task| {
                task.is_active() && task.node.is_some() && task.observed.state == TaskState::Assigned
            });
            if assigned.is_some_and(|task| taken.alone && !self.soft.moving.contains(&task.service)) {
                // Exactly what was decided: nothing to look at again for that.
                self.changed_tasks.remove(&taken.task);
                continue;
            }
            follow(&mut self.nodes, store, taken.task, kept);
            // An accepted decision is noted as a change of the task; a refused one must be made anew.
            if kept.is_none_or(|task| task.node.is_none()) {
                self.note(taken.key);
            }
        }
    }

    fn take_changes(&mut self, store: &Store) {
        if std::mem::take(&mut self.cluster) {
            let rolling = store.services().filter(|service| service.is_rolling());
            self.services.extend(rolling.map(|service| (service.id, 0)));
        }
        let mut new: Vec<NodeId> = Vec::new();
        for id in std::mem::take(&mut self.changed_nodes) {
            match store.node(id) {
                Some(_) if self.nodes.number(id).is_none() => new.push(id),
                _ => self.node_changed(store, id),
            }
        }
        new.sort_by_key(|id| store.node(*id).map(|node| (node.joined, *id)));
        new.into_iter().for_each(|id| self.node_changed(store, id));
        for id in std::mem::take(&mut self.changed_tasks) {
            let task = store.task(id);
            if let Some(number) = follow(&mut self.nodes, store, id, task) {
                self.room.freed.insert(number);
            }
            if let Some(task) = task {
                self.slots.insert((task.service, task.slot));
            }
        }
    }

    fn node_changed(&mut self, store: &Store, id: NodeId) {
        match store.node(id) {
            None => self.nodes.remove(id),
            Some(node) if self.nodes.upsert(node) => {}
            Some(_) => return,
        }
        self.room.nodes_differ = true;
        self.slots.extend(store.tasks_on_node(id).map(|task| (task.service, task.slot)));
        self.slots.extend(self.soft.global.iter().map(|service| (*service, Slot::Node(id))));
    }

    fn take_timers(&mut self, now: ClusterTime) {
        while let Some((at, key)) = self.soft.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.soft.timers.remove(&(at, key));
            self.note(key);
        }
    }

    fn note(&mut self, key: Key) {
        match key {
            Key::Service(id) => {
                self.services.insert(id, 0);
            }
            Key::Slot(service, slot) => {
                self.slots.insert((service, slot));
            }
            Key::Token(id) => {
                self.tokens.insert(id);
            }
            Key::Cron(id) => {
                self.crons.insert(id);
            }
        }
    }
}

/// Looks at what was noted, service by service in the order of their ids, until the plan is full.
fn look(
    pass: &mut Pass<'_>,
    services: &mut BTreeMap<ServiceId, u32>,
    slots: &mut BTreeSet<(ServiceId, Slot)>,
) {
    while !pass.is_full() {
        let by_service = services.first_key_value().map(|(id, _)| *id);
        let by_slot = slots.first().map(|(id, _)| *id);
        let Some(id) = by_service.into_iter().chain(by_slot).min() else { return };
        let mut resume = services.remove(&id);
        while resume != Some(0)
            && !pass.is_full()
            && let Some((_, slot)) = slots.first().copied().filter(|(service, _)| *service == id)
        {
            if pass.soft.moving.contains(&id) || reconcile::slot(pass, id, slot) {
                resume = Some(0);
            }
            slots.remove(&(id, slot));
        }
        if resume == Some(0) {
            // All of the service is looked at, these slots included.
            let others = slots.split_off(&(id, Slot::Replica(0)));
            slots.extend(others.into_iter().filter(|(service, _)| *service != id));
        }
        if let Some(resume) = resume
            && let Some(rest) = reconcile::service(pass, id, resume)
        {
            services.insert(id, rest);
        }
    }
}

/// What may have helped, or changed the refusals of, the slots that wait for a node.
#[derive(Default)]
struct Room {
    /// Nodes where a task made room.
    freed: Bits,
    /// A node changed in a way that placement looks at.
    nodes_differ: bool,
    /// Some task took a place.
    taken: bool,
}

impl Room {
    /// Notes the waiting slots that must be looked at again. Few of them are looked at whenever anything changed, which
    /// keeps their reasons exact; many only when a node changed or room was made on a node that could take them.
    fn retry(self, pass: &mut Pass<'_>, slots: &mut BTreeSet<(ServiceId, Slot)>) {
        let any = self.nodes_differ || self.taken || !self.freed.is_empty();
        if !any || (self.taken && !self.nodes_differ && self.freed.is_empty() && pass.many_wait()) {
            return;
        }
        let all = self.nodes_differ || !pass.many_wait();
        let waiting: Vec<(ServiceId, Slot)> =
            pass.soft.waiting.iter().flat_map(|(id, slots)| slots.iter().map(|slot| (*id, *slot))).collect();
        let mut last: Option<(ServiceId, bool)> = None;
        for (id, slot) in waiting {
            let helped = match (all, last, slot) {
                (true, _, _) => true,
                (_, Some((service, helped)), Slot::Replica(_)) if service == id => helped,
                _ => self.helps(pass, id, slot),
            };
            last = Some((id, helped));
            if helped {
                slots.insert((id, slot));
            }
        }
    }

    fn helps(&self, pass: &mut Pass<'_>, id: ServiceId, slot: Slot) -> bool {
        let Some(service) = pass.store.service(id) else { return false };
        let only = match slot {
            Slot::Node(node) => Some(node),
            Slot::Replica(_) => None,
        };
        let hook = slot == Slot::HOOK;
        let want = Want { service, version: service.template, only, avoid: &[], hook };
        pass.batch.concerns(pass.nodes, want, &self.freed)
    }
}

/// Brings what a task holds in line with the store; returns the node where that made room.
fn follow(nodes: &mut Nodes, store: &Store, id: TaskId, task: Option<&Task>) -> Option<u32> {
    let wanted = task.filter(|task| task.may_have_container()).and_then(|task| nodes.number(task.node?));
    let held = nodes.holder(id);
    if held == wanted {
        return None;
    }
    nodes.release(id);
    if let (Some(number), Some(task)) = (wanted, task)
        && let Some(service) = store.service(task.service)
        && let Some(template) = service.template_of(task.template)
    {
        let shape = match task.slot {
            Slot::HOOK => {
                let template = hook_template(service, task.template, template);
                nodes.shape_for(task.service, of_hook(task.template), &template)
            }
            _ => nodes.shape_for(task.service, task.template, template),
        };
        nodes.hold(id, number, shape);
    }
    held
}

/// The view of the nodes as the store gives it.
fn built(store: &Store) -> Nodes {
    let mut nodes = Nodes::default();
    let mut order: Vec<_> = store.nodes().collect();
    order.sort_by_key(|node| (node.joined, node.id));
    order.into_iter().for_each(|node| {
        nodes.upsert(node);
    });
    for task in store.tasks() {
        follow(&mut nodes, store, task.id, Some(task));
    }
    nodes
}

/// A manager runs on a thread of its own, and takes this along.
const _: () = {
    const fn can_move<T: Send>() {}
    can_move::<Control>();
};
