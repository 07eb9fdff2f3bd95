//! The way to this node's own tasks: counts what is open to each, and closes before a task is stopped.
//!
//! Every connection to a local container passes here, whether its client came to this node or to another. A task that drains is
//! opened for nobody any more, and whoever waits hears when the last connection has ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use model::id::TaskId;
use tokio::sync::oneshot;

/// All gates of this node. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Gates(Arc<Mutex<BTreeMap<TaskId, Gate>>>);

#[derive(Debug, Default)]
struct Gate {
    open: u32,
    draining: bool,
    waiting: Vec<oneshot::Sender<()>>,
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
        let mut gates = self.lock();
        let gate = gates.entry(task).or_default();
        if gate.draining {
            return None;
        }
        gate.open += 1;
        Some(Passage { gates: self.clone(), task })
    }

    /// Closes the gate of a task. The receiver hears when nothing is open.
    pub fn drain(&self, task: TaskId) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut gates = self.lock();
        let gate = gates.entry(task).or_default();
        gate.draining = true;
        gate.waiting.push(sender);
        gate.tell();
        receiver
    }

    /// Whether a task drains.
    pub fn is_draining(&self, task: TaskId) -> bool {
        self.lock().get(&task).is_some_and(|gate| gate.draining)
    }

    /// Forgets tasks that are not here any more and have nothing open.
    pub fn retain(&self, locals: &BTreeSet<TaskId>) {
        self.lock().retain(|task, gate| gate.open > 0 || locals.contains(task));
    }

    /// A panic elsewhere cannot leave a count half-changed.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, Gate>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    fn tell(&mut self) {
        if self.open == 0 {
            // Who does not wait any more has no use for the news.
            for waiting in self.waiting.drain(..) {
                let _ = waiting.send(());
            }
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        if let Some(gate) = self.gates.lock().get_mut(&self.task) {
            gate.open -= 1;
            gate.tell();
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
