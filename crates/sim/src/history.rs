//! What clients asked and were answered, for the linearizability check.

use crate::queue::Time;

/// A declaration as far as the check looks at it: the tag that its author gave it, and its replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Value {
    pub(crate) tag: u64,
    pub(crate) replicas: u32,
}

impl Value {
    /// An update to it that fails is rolled back without anybody asking: its author gave it an odd tag.
    pub(crate) fn rolls_back_alone(self) -> bool {
        self.tag % 2 == 1
    }
}

/// What a read saw of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Seen {
    Absent,
    Present(Value),
    Removing,
}

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Create(Value),
    /// A new declaration in place of the one seen.
    Update {
        saw: Value,
        value: Value,
    },
    Scale(u32),
    Rollback,
    Remove,
    Read,
}

/// How it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is done.
    Done,
    /// What a read saw.
    Saw(Seen),
    /// The name is taken.
    Exists,
    /// There is no such service.
    Missing,
    /// Its state forbids it, or it has changed.
    Conflict,
    /// No answer: it may have happened, may yet happen, or never.
    Unknown,
}

/// One request on one service.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) ask: Ask,
    pub(crate) invoked: Time,
    /// `None`: no answer ever came.
    pub(crate) returned: Option<Time>,
    pub(crate) outcome: Outcome,
}
