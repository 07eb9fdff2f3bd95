//! One slot as the store shows it: who fills it, who is on the way out, who was there before.

use model::{
    id::ServiceId,
    node::{Node, NodeState},
    service::Slot,
    task::{DesiredState, Task, TaskState},
};
use planted::Bug;
use store::Store;

/// The tasks of one slot by their part in it.
pub(crate) struct SlotTasks<'a> {
    /// Wanted and not ended, oldest first; two during a start-first replacement.
    pub(crate) active: Vec<&'a Task>,
    /// On its way out on a node that can be heard: its container may still run.
    pub(crate) stopping: Option<&'a Task>,
    /// Ended ones, oldest first.
    pub(crate) ended: Vec<&'a Task>,
    /// The last one created, whatever became of it.
    pub(crate) newest: Option<&'a Task>,
}

impl<'a> SlotTasks<'a> {
    pub(crate) fn read(store: &'a Store, service: ServiceId, slot: Slot) -> Self {
        let mut tasks = Self { active: Vec::new(), stopping: None, ended: Vec::new(), newest: None };
        for task in store.tasks_of_slot(service, slot) {
            if tasks.newest.is_none_or(|newest| age(newest) < age(task)) {
                tasks.newest = Some(task);
            }
            if task.is_active() {
                tasks.active.push(task);
            } else if task.observed.state.is_terminal() {
                tasks.ended.push(task);
            } else if !is_on_lost_node(store, task) {
                tasks.stopping = Some(task);
            }
        }
        tasks.active.sort_unstable_by_key(|task| age(task));
        tasks.ended.sort_unstable_by_key(|task| age(task));
        tasks
    }

    /// The task that ended for good and keeps the slot: its policy is exhausted or it completed.
    pub(crate) fn occupant(&self) -> Option<&'a Task> {
        self.newest.filter(|task| {
            self.active.is_empty()
                && task.desired == DesiredState::Running
                && matches!(task.observed.state, TaskState::Completed | TaskState::Failed)
        })
    }
}

/// Orders a slot's tasks; the id decides between tasks of one log entry.
fn age(task: &Task) -> impl Ord + use<> {
    (task.created, task.id)
}

/// Where a task is.
pub(crate) fn node_of<'a>(store: &'a Store, task: &Task) -> Option<&'a Node> {
    task.node.and_then(|node| store.node(node))
}

/// Whether the task's node cannot be heard; false for a task without a node.
pub(crate) fn is_on_lost_node(store: &Store, task: &Task) -> bool {
    task.node.is_some() && node_of(store, task).is_none_or(|node| node.state == NodeState::Down)
}

/// Whether the engine of the task's node answers, as far as the node last said.
pub(crate) fn has_engine(store: &Store, task: &Task) -> bool {
    node_of(store, task).is_some_and(|node| node.facts.engine_ok)
}

/// Whether the task is known to be fit for work: what a lost node last said does not count.
pub(crate) fn is_healthy(store: &Store, task: &Task) -> bool {
    let known = task.observed.is_healthy() && !is_on_lost_node(store, task);
    known || planted::is(Bug::UnknownIsHealthy)
}
