//! What is to be stored, and who waits for it: nothing that depends on a write happens before the write is durable.

use std::collections::{BTreeMap, BTreeSet};

use model::{id::TaskId, session::Assignment};

/// Writes that are collected during one input, and gates that wait for earlier ones.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub fence: bool,
    pub managers: bool,
    pub assignments: BTreeMap<TaskId, Assignment>,
    pub removed: BTreeSet<TaskId>,
    pub records: BTreeSet<TaskId>,
    issued: u64,
    durable: u64,
    gated: BTreeMap<u64, BTreeSet<TaskId>>,
}

impl Pending {
    /// The number that what is being collected will be written under. The task waits for it.
    pub(crate) fn gate(&mut self, task: TaskId) -> u64 {
        let gate = self.issued + 1;
        self.gated.entry(gate).or_default().insert(task);
        gate
    }

    /// Whether the write of this number is durable.
    pub(crate) fn is_durable(&self, gate: u64) -> bool {
        gate <= self.durable
    }

    /// Writes up to this number are durable; answers who waited for them.
    pub(crate) fn stored(&mut self, sequence: u64) -> BTreeSet<TaskId> {
        self.durable = self.durable.max(sequence.min(self.issued));
        let later = self.gated.split_off(&(self.durable + 1));
        std::mem::replace(&mut self.gated, later).into_values().flatten().collect()
    }

    /// Whether anything was collected.
    pub(crate) fn is_empty(&self) -> bool {
        !self.fence
            && !self.managers
            && self.assignments.is_empty()
            && self.removed.is_empty()
            && self.records.is_empty()
    }

    /// The number of the write that is issued now.
    pub(crate) fn issue(&mut self) -> u64 {
        self.issued += 1;
        self.issued
    }
}
