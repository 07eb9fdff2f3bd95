//! The way to this node's own tasks, shared by all connections: what it decides is decided in [`mesh::gate`], and who waits for a drain
//! is told here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mesh::gate;
use model::id::TaskId;
use tokio::sync::oneshot;

/// All gates of this node. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Gates(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    gates: gate::Gates,
    waiting: BTreeMap<TaskId, Vec<oneshot::Sender<()>>>,
}

/// One connection to a local task, for as long as it lives.
#[derive(Debug)]
pub struct Passage {
    gates: Gates,
    task: TaskId,
}

impl Gates {
    /// Lets a connection through; `None` when the task drains.
    pub fn pass(&self, task: TaskId) -> Option<Passage> {
        self.lock().gates.pass(task).then(|| Passage { gates: self.clone(), task })
    }

    /// Closes the gate of a task. The receiver hears when nothing is open.
    pub fn drain(&self, task: TaskId) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut shared = self.lock();
        shared.waiting.entry(task).or_default().push(sender);
        if shared.gates.drain(task) {
            shared.tell(task);
        }
        receiver
    }

    /// Whether a task drains.
    pub fn is_draining(&self, task: TaskId) -> bool {
        self.lock().gates.is_draining(task)
    }

    /// Forgets tasks that are not here any more and have nothing open.
    pub fn retain(&self, locals: &BTreeSet<TaskId>) {
        self.lock().gates.retain(locals);
    }

    /// A panic elsewhere cannot leave a count half-changed.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn tell(&mut self, task: TaskId) {
        // Who does not wait any more has no use for the news.
        for waiting in self.waiting.remove(&task).into_iter().flatten() {
            let _ = waiting.send(());
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let mut shared = self.gates.lock();
        if shared.gates.leave(self.task) {
            shared.tell(self.task);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: TaskId = TaskId(1);

    #[test]
    fn a_drain_is_over_when_the_last_connection_ends() {
        let gates = Gates::default();
        let passages = [gates.pass(TASK).unwrap(), gates.pass(TASK).unwrap()];
        let mut over = gates.drain(TASK);
        assert!(gates.pass(TASK).is_none() && gates.pass(TaskId(2)).is_some());
        let [first, second] = passages;
        drop(first);
        assert!(over.try_recv().is_err());
        drop(second);
        assert!(over.try_recv().is_ok());
    }

    #[test]
    fn a_task_without_connections_is_drained_at_once_and_stays_closed() {
        let gates = Gates::default();
        assert!(gates.drain(TASK).try_recv().is_ok());
        gates.retain(&BTreeSet::from([TASK]));
        assert!(gates.pass(TASK).is_none());
        gates.retain(&BTreeSet::new());
        assert!(gates.pass(TASK).is_some());
    }
}
