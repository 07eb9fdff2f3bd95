//! The way to a node's own tasks: counts what is open to each, and closes before a task is stopped.
//!
//! Every connection to a local container passes here, whether its client came to this node or to another. A task that drains is
//! opened for nobody any more, and has drained when the last connection has ended.

use std::collections::{BTreeMap, BTreeSet};

use model::id::TaskId;
use planted::Bug;

/// All gates of a node.
#[derive(Debug, Default)]
pub struct Gates(BTreeMap<TaskId, Gate>);

#[derive(Debug, Default)]
struct Gate {
    open: u32,
    draining: bool,
}

impl Gates {
    /// Lets a connection through, unless the task drains. To be followed by one [`Gates::leave`].
    pub fn pass(&mut self, task: TaskId) -> bool {
        let gate = self.0.entry(task).or_default();
        if gate.draining {
            return false;
        }
        gate.open += 1;
        true
    }

    /// A connection has ended; whether its task drains and that was the last one.
    pub fn leave(&mut self, task: TaskId) -> bool {
        let Some(gate) = self.0.get_mut(&task) else { return false };
        gate.open = gate.open.saturating_sub(1);
        gate.draining && gate.open == 0
    }

    /// Closes the gate of a task; whether nothing is open.
    pub fn drain(&mut self, task: TaskId) -> bool {
        let gate = self.0.entry(task).or_default();
        gate.draining = true;
        gate.open == 0 || planted::is(Bug::DrainedAtOnce)
    }

    /// Whether a task drains.
    pub fn is_draining(&self, task: TaskId) -> bool {
        self.0.get(&task).is_some_and(|gate| gate.draining)
    }

    /// Forgets tasks that are not here any more and have nothing open.
    pub fn retain(&mut self, locals: &BTreeSet<TaskId>) {
        self.0.retain(|task, gate| gate.open > 0 || locals.contains(task));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: TaskId = TaskId(1);

    #[test]
    fn a_drain_is_over_when_the_last_connection_ends() {
        let mut gates = Gates::default();
        assert!(gates.pass(TASK) && gates.pass(TASK));
        assert!(!gates.drain(TASK));
        assert!(!gates.pass(TASK) && gates.pass(TaskId(2)));
        assert!(!gates.leave(TASK) && gates.leave(TASK));
        assert!(!gates.leave(TaskId(2)), "it does not drain");
    }

    #[test]
    fn a_task_without_connections_is_drained_at_once_and_stays_closed_while_it_is_here() {
        let mut gates = Gates::default();
        assert!(gates.drain(TASK));
        gates.retain(&BTreeSet::from([TASK]));
        assert!(!gates.pass(TASK) && gates.is_draining(TASK));
        gates.retain(&BTreeSet::new());
        assert!(gates.pass(TASK));
    }
}
