//! One decision pass: what it reads, what it has decided so far, and the soft state that it keeps up to date.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    command::Decision,
    id::{CronId, NodeId, ServiceId, TaskId, TokenId},
    service::{Service, Slot, TemplateVersion},
    task::{Inheritance, PendingReason, Task},
    time::ClusterTime,
};
use store::Store;

use crate::{
    enforce, explain,
    plan::{IdSource, MAX_DECISIONS},
    restart,
    scheduler::{Batch, Want, nodes::Nodes},
    update::Fetches,
};

/// Decisions that one slot may need at once; a pass stops before its plan could overflow.
const MAX_PER_SLOT: usize = 16;
/// Up to so many waiting tasks have the exact counts of their refusal stored; of more, only a change in which filters
/// refuse is stored, or every node event would rewrite thousands of tasks.
const MAX_EXACT_REASONS: usize = 64;

/// What is looked at again when its time comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Service(ServiceId),
    Slot(ServiceId, Slot),
    Token(TokenId),
    Cron(CronId),
}

/// What is remembered between passes; all of it is found again by looking at everything once.
#[derive(Default)]
pub(crate) struct Soft {
    /// Slots that want a node and found none.
    pub(crate) waiting: BTreeMap<ServiceId, BTreeSet<Slot>>,
    /// Services with a rollout, a drain or another replacement under way: any change of a slot concerns all of it.
    pub(crate) moving: BTreeSet<ServiceId>,
    /// Global services: a node's change concerns each of them.
    pub(crate) global: BTreeSet<ServiceId>,
    pub(crate) timers: BTreeSet<(ClusterTime, Key)>,
    /// Tasks that the last plan gave a node; the state machine may have refused them.
    pub(crate) tentative: Vec<Taken>,
}

/// A place that a plan took for a task.
pub(crate) struct Taken {
    pub(crate) task: TaskId,
    pub(crate) key: Key,
    /// The plan decided nothing else for the slot.
    pub(crate) alone: bool,
}

impl Soft {
    pub(crate) fn forget_service(&mut self, id: ServiceId) {
        self.waiting.remove(&id);
        self.moving.remove(&id);
        self.global.remove(&id);
    }
}

/// The pass.
pub(crate) struct Pass<'a> {
    pub(crate) store: &'a Store,
    pub(crate) now: ClusterTime,
    pub(crate) ids: &'a mut dyn IdSource,
    pub(crate) nodes: &'a mut Nodes,
    pub(crate) soft: &'a mut Soft,
    pub(crate) fetches: &'a mut Fetches,
    pub(crate) batch: Batch,
    pub(crate) decisions: Vec<Decision>,
    /// Slots that this plan has decided something for, and how often: nothing more is decided for them on the same observation.
    pub(crate) acted: BTreeMap<(ServiceId, Slot), u32>,
    /// Services whose replacements this plan has moved forward.
    pub(crate) advanced: BTreeSet<ServiceId>,
}

/// A place that was taken for a task, or why there is none.
type Place = Result<(TaskId, NodeId), PendingReason>;

/// A new task for a slot.
pub(crate) struct Fill<'a> {
    pub(crate) service: &'a Service,
    pub(crate) slot: Slot,
    pub(crate) version: TemplateVersion,
    /// The slot's newest task, of whatever template.
    pub(crate) previous: Option<&'a Task>,
    /// Start-first: the task that stays until this one is good.
    pub(crate) alongside: Option<TaskId>,
}

impl Pass<'_> {
    /// No room for what another slot may need.
    pub(crate) fn is_full(&self) -> bool {
        self.decisions.len() + MAX_PER_SLOT > MAX_DECISIONS
    }

    /// Notes that something was, or remains to be, decided for a slot.
    pub(crate) fn act(&mut self, service: ServiceId, slot: Slot) {
        *self.acted.entry((service, slot)).or_default() += 1;
    }

    pub(crate) fn has_acted(&self, service: ServiceId, slot: Slot) -> bool {
        self.acted.contains_key(&(service, slot))
    }

    pub(crate) fn wake(&mut self, at: ClusterTime, key: Key) {
        self.soft.timers.insert((at, key));
    }

    pub(crate) fn wait(&mut self, service: ServiceId, slot: Slot) {
        self.soft.waiting.entry(service).or_default().insert(slot);
    }

    pub(crate) fn stop(&mut self, task: &Task, reason: impl Into<String>) {
        self.stop_beside(task, None, reason);
    }

    /// Stops one of two in a slot, since the other is kept. While this decision is on its way, another one may have stopped that.
    pub(crate) fn stop_beside(&mut self, task: &Task, kept: Option<&Task>, reason: impl Into<String>) {
        self.act(task.service, task.slot);
        let (id, expected) = (task.id, task.generation);
        let service = self.store.service(task.service);
        let leaves = service.is_some_and(|service| enforce::must_leave(self.store, service, task).is_some());
        let node = task.node.filter(|_| leaves).and_then(|node| self.store.node(node));
        self.decisions.push(Decision::StopTask {
            id,
            expected,
            service: service.map(|service| service.generation),
            keeps: kept.map(|kept| kept.id),
            node: node.map(|node| node.generation),
            reason: reason.into(),
        });
    }

    pub(crate) fn lose(&mut self, task: &Task, reason: impl Into<String>) {
        self.act(task.service, task.slot);
        let (id, expected) = (task.id, task.generation);
        self.decisions.push(Decision::LoseTask { id, expected, reason: reason.into() });
    }

    pub(crate) fn reap(&mut self, task: &Task) {
        self.act(task.service, task.slot);
        self.decisions.push(Decision::ReapTask { id: task.id, expected: task.generation });
    }

    /// Creates a task, with a node if one fits now, and waiting otherwise.
    pub(crate) fn create(&mut self, fill: Fill<'_>) {
        let inherited = self.inherited(&fill);
        let place = if inherited.not_before > self.now {
            self.wake(inherited.not_before, Key::Slot(fill.service.id, fill.slot));
            Err(self.backoff_reason(&inherited, fill.previous))
        } else {
            let place = self.place(None, &fill, &inherited.avoid);
            if place.is_err() {
                self.wait(fill.service.id, fill.slot);
            }
            place
        };
        self.push_create(fill, inherited, place);
    }

    /// Replaces a task on a lost node, if another node takes it; otherwise everything stays as it is, so that the task
    /// simply goes on when its node returns.
    pub(crate) fn replace_if_possible(&mut self, lost: &Task, fill: Fill<'_>, reason: String) {
        let inherited = self.inherited(&fill);
        let place = self.place(None, &fill, &inherited.avoid);
        if place.is_ok() {
            self.stop(lost, reason);
            self.push_create(fill, inherited, place);
        } else {
            self.wait(fill.service.id, fill.slot);
        }
    }

    /// Gives a waiting task its node, or says why it has none.
    pub(crate) fn assign(&mut self, service: &Service, task: &Task) {
        let key = Key::Slot(service.id, task.slot);
        if task.inherited.not_before > self.now {
            self.wake(task.inherited.not_before, key);
            return;
        }
        let fill = Fill { service, slot: task.slot, version: task.template, previous: None, alongside: None };
        match self.place(Some(task.id), &fill, &task.inherited.avoid) {
            Ok((_, node)) => {
                self.soft.tentative.push(Taken { task: task.id, key, alone: false });
                self.act(service.id, task.slot);
                let (id, expected) = (task.id, task.generation);
                self.decisions.push(Decision::AssignTask { id, expected, node });
            }
            Err(reason) => {
                self.wait(service.id, task.slot);
                if self.says_more(task.pending.as_deref(), &reason) {
                    self.act(service.id, task.slot);
                    let (id, expected) = (task.id, task.generation);
                    self.decisions.push(Decision::ExplainPending { id, expected, reason });
                }
            }
        }
    }

    /// Whether more tasks wait than can have their reasons kept exact.
    pub(crate) fn many_wait(&self) -> bool {
        self.store.pending_tasks().nth(MAX_EXACT_REASONS).is_some()
    }

    fn says_more(&self, old: Option<&PendingReason>, new: &PendingReason) -> bool {
        let Some(old) = old else { return true };
        let names = |reason: &PendingReason| -> Vec<String> {
            reason.filters.iter().map(|count| count.filter.clone()).collect()
        };
        old != new && (names(old) != names(new) || !self.many_wait())
    }

    fn inherited(&self, fill: &Fill<'_>) -> Inheritance {
        let same =
            |task: &&Task| fill.service.template_of(task.template) == fill.service.template_of(fill.version);
        // What was refused before somebody began this release is none of its business, contents or not.
        let rollout = fill.service.rollout.as_ref().filter(|_| fill.service.is_rolling());
        let rollout = rollout.filter(|rollout| rollout.target == fill.version);
        let before = |task: &&Task| rollout.is_some_and(|rollout| task.created < rollout.begun());
        let previous = fill.previous.filter(same).filter(|task| !before(task));
        previous.map(restart::inherit).unwrap_or_default()
    }

    fn backoff_reason(&self, inherited: &Inheritance, previous: Option<&Task>) -> PendingReason {
        let node = restart::last_rejected_by(inherited).map(|id| explain::node_name(self.store, id));
        let cause = previous.map(|task| task.observed.message.as_str()).unwrap_or_default();
        let message = format!(
            "rejected {} in a row, last by {}{}{cause}; waits before the next try",
            explain::times(inherited.failures),
            node.unwrap_or_default(),
            if cause.is_empty() { "" } else { ": " },
        );
        PendingReason { message, ..PendingReason::default() }
    }

    /// Takes a place for a task that exists, or for one that gets its id with the place.
    fn place(&mut self, known: Option<TaskId>, fill: &Fill<'_>, avoid: &[NodeId]) -> Place {
        let only = match fill.slot {
            Slot::Node(node) => Some(node),
            Slot::Replica(_) => None,
        };
        let hook = fill.slot == Slot::HOOK;
        let want = Want { service: fill.service, version: fill.version, only, avoid, hook };
        let ids = &mut self.ids;
        self.batch.place(self.nodes, want, || known.unwrap_or_else(|| TaskId(ids.next())))
    }

    fn push_create(&mut self, fill: Fill<'_>, inherited: Inheritance, place: Place) {
        let (id, node, pending) = match place {
            Ok((id, node)) => (id, Some(node), None),
            Err(reason) => (TaskId(self.ids.next()), None, Some(reason)),
        };
        let (service, slot) = (fill.service.id, fill.slot);
        self.soft.tentative.push(Taken { task: id, key: Key::Slot(service, slot), alone: false });
        self.act(service, slot);
        let (template, alongside) = (fill.version, fill.alongside);
        self.decisions.push(Decision::CreateTask {
            id,
            service,
            slot,
            template,
            node,
            pending,
            inherited,
            alongside,
        });
    }
}
