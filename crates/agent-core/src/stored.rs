//! What the agent remembers across its own end, so that it needs no manager to go on.

use std::{collections::BTreeSet, time::Duration};

use model::{
    id::TaskId,
    route::RouteTable,
    session::{Assignment, Fence, ManagerAddress},
    task::Observed,
};
use serde::{Deserialize, Serialize};

/// Everything that was stored. All of it may be lost: then the managers send it again and containers are adopted by label.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stored {
    /// The highest fence ever accepted; `None` in a new or lost ledger.
    pub fence: Option<Fence>,
    /// The managers as last heard.
    pub managers: Vec<ManagerAddress>,
    /// The desired set.
    pub assignments: Vec<Assignment>,
    /// What is known of its tasks.
    pub records: Vec<(TaskId, TaskRecord)>,
    /// The routes that the node's mesh last went by.
    pub routes: Option<RouteTable>,
    /// Tasks whose secrets and configs the shell still has in memory.
    pub files: BTreeSet<TaskId>,
}

/// What is remembered of one task: enough that no backoff, attempt number or final state is forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskRecord {
    /// As last observed.
    pub observed: Observed,
    /// Ends in a row, without a stable period between them.
    pub failures: u32,
    /// How long before this record was written each counted restart was, oldest first. The time that the agent itself
    /// was down does not count.
    pub restarts: Vec<Duration>,
}

/// One durable change; all of it or nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoreWrite {
    /// The new fence.
    pub fence: Option<Fence>,
    /// The managers.
    pub managers: Option<Vec<ManagerAddress>>,
    /// Assignments that are new or changed.
    pub assignments: Vec<Assignment>,
    /// Assignments that are gone, and their tasks' records with them.
    pub removed: Vec<TaskId>,
    /// Records that are new or changed.
    pub records: Vec<(TaskId, TaskRecord)>,
}

impl StoreWrite {
    /// Nothing to write.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
