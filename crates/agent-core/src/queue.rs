//! Who may start next: a bounded number at once, services in turn, failing tasks last and one at a time.
//!
//! An engine serialises starts, so more than a few at once only makes each slower. Without turns, one service with many
//! replicas, or one that dies and starts for ever, would make everybody else wait.

use std::collections::{BTreeMap, VecDeque};

use model::id::{ServiceId, TaskId};

/// Slots, and the tasks that wait for one.
#[derive(Debug)]
pub(crate) struct FairQueue {
    limit: usize,
    holders: BTreeMap<TaskId, bool>,
    /// By (failing, service). A task is in at most one of the queues.
    waiting: BTreeMap<(bool, ServiceId), VecDeque<TaskId>>,
    last: Option<ServiceId>,
}

impl FairQueue {
    /// A queue for `limit` slots.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, holders: BTreeMap::new(), waiting: BTreeMap::new(), last: None }
    }

    /// Whether the task holds a slot.
    pub(crate) fn holds(&self, task: TaskId) -> bool {
        self.holders.contains_key(&task)
    }

    /// Lines a task up, unless it waits already or holds a slot. `failing`: its last attempts ended in a row.
    pub(crate) fn request(&mut self, task: TaskId, service: ServiceId, failing: bool) {
        let waits = self.waiting.values().any(|queue| queue.contains(&task));
        if !waits && !self.holds(task) {
            self.waiting.entry((failing, service)).or_default().push_back(task);
        }
    }

    /// Gives a slot back, or leaves the line.
    pub(crate) fn release(&mut self, task: TaskId) {
        self.holders.remove(&task);
        self.waiting.retain(|_, queue| {
            queue.retain(|waiting| *waiting != task);
            !queue.is_empty()
        });
    }

    /// Gives the next free slot away.
    pub(crate) fn grant(&mut self) -> Option<TaskId> {
        if self.holders.len() >= self.limit {
            return None;
        }
        let key = self.turn(false).or_else(|| self.turn_of_failing())?;
        let queue = self.waiting.get_mut(&key).expect("turn() names a queue that is there");
        let task = queue.pop_front().expect("an empty queue is removed at once");
        if queue.is_empty() {
            self.waiting.remove(&key);
        }
        self.last = Some(key.1);
        self.holders.insert(task, key.0);
        Some(task)
    }

    fn turn_of_failing(&self) -> Option<(bool, ServiceId)> {
        let taken = self.holders.values().any(|failing| *failing);
        if taken { None } else { self.turn(true) }
    }

    /// The first service after the one that had its turn last.
    fn turn(&self, failing: bool) -> Option<(bool, ServiceId)> {
        let mut services = self.waiting.keys().filter(|(f, _)| *f == failing);
        let first = services.clone().next();
        services.find(|(_, service)| self.last.is_none_or(|last| *service > last)).or(first).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(queue: &mut FairQueue) -> Vec<u64> {
        std::iter::from_fn(|| queue.grant()).map(|task| task.0).collect()
    }

    #[test]
    fn services_take_turns_whoever_came_first() {
        let mut queue = FairQueue::new(4);
        for task in 0..10 {
            queue.request(TaskId(task), ServiceId(1), false);
        }
        queue.request(TaskId(20), ServiceId(2), false);
        queue.request(TaskId(30), ServiceId(3), false);
        assert_eq!(granted(&mut queue), [0, 20, 30, 1]);
    }

    #[test]
    fn failing_tasks_come_last_and_hold_one_slot_at_most() {
        let mut queue = FairQueue::new(3);
        for task in 0..3 {
            queue.request(TaskId(task), ServiceId(1), true);
        }
        assert_eq!(granted(&mut queue), [0]);
        queue.request(TaskId(9), ServiceId(2), false);
        assert_eq!(granted(&mut queue), [9]);
        queue.release(TaskId(0));
        assert_eq!(granted(&mut queue), [1]);
    }

    #[test]
    fn a_task_lines_up_once_and_leaves_the_line_when_released() {
        let mut queue = FairQueue::new(1);
        queue.request(TaskId(1), ServiceId(1), false);
        queue.request(TaskId(1), ServiceId(1), false);
        queue.request(TaskId(2), ServiceId(1), false);
        queue.release(TaskId(2));
        assert_eq!(granted(&mut queue), [1]);
        queue.release(TaskId(1));
        assert_eq!(granted(&mut queue), [0u64; 0]);
    }
}
