//! What a replacement inherits from the task before it in the slot: the backoff after rejections.
//!
//! Restarts after a crash are the agent's business and follow the service's restart policy on the node. Only when a node
//! refuses a task altogether does the slot move on, and then ever more slowly: a template that no node accepts must not
//! spin through the cluster. All of it is stored in the task, so that no leader forgets it.

use std::time::Duration;

use model::{
    id::NodeId,
    task::{Inheritance, Task, TaskState},
    time::ClusterTime,
};

use planted::Bug;

/// The pause after the first rejection; it doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The cap of the doubling.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// Nodes remembered as having rejected the slot.
const MAX_AVOIDED: usize = 5;

/// What a new task of a slot inherits from the slot's newest one, of the same template.
pub(crate) fn inherit(previous: &Task) -> Inheritance {
    if planted::is(Bug::BackoffForgotten) {
        return Inheritance::default();
    }
    match previous.observed.state {
        TaskState::Rejected => after_rejection(previous),
        TaskState::Lost => Inheritance { not_before: ClusterTime(0), ..previous.inherited.clone() },
        // Stopped before it ever had a place: the next one is in the same position.
        _ if previous.node.is_none() => previous.inherited.clone(),
        _ => Inheritance::default(),
    }
}

fn after_rejection(previous: &Task) -> Inheritance {
    let failures = previous.inherited.failures.saturating_add(1);
    let mut avoid = previous.inherited.avoid.clone();
    avoid.retain(|node| Some(*node) != previous.node);
    avoid.extend(previous.node);
    let excess = avoid.len().saturating_sub(MAX_AVOIDED);
    Inheritance { failures, not_before: previous.since + delay(failures), avoid: avoid.split_off(excess) }
}

/// The pause after so many rejections in a row.
fn delay(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    FIRST_DELAY.saturating_mul(1 << doublings).min(LONGEST_DELAY)
}

/// Rejections in a row, this task's own included.
pub(crate) fn failures(task: &Task) -> u32 {
    task.inherited.failures + u32::from(task.observed.state == TaskState::Rejected)
}

/// The node that rejected the slot last.
pub(crate) fn last_rejected_by(inherited: &Inheritance) -> Option<NodeId> {
    inherited.avoid.last().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_from_one_second_to_a_minute() {
        let seconds: Vec<u64> = (1..=8).map(|failures| delay(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(delay(u32::MAX), LONGEST_DELAY);
    }
}
