//! What came of one world.

use std::{collections::BTreeMap, fmt};

use crate::skip::Drawn;

/// An invariant that did not hold.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Such as `I5`.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
    /// When, in simulated milliseconds.
    pub at_ms: u64,
    /// Words whose lines of the trace matter.
    pub about: Vec<String>,
    /// The trimmed trace, where one was kept.
    pub trace: Vec<String>,
}

/// Whether the invariants held.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// All of them.
    Held,
    /// This is the first that did not.
    Broken(Violation),
}

/// One run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// It was a world without faults.
    pub calm: bool,
    /// How much time passed in it.
    pub simulated_ms: u64,
    /// Steps taken.
    pub events: u64,
    /// Faults, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Requests, by how they were answered.
    pub requests: BTreeMap<&'static str, u64>,
    /// What else was counted.
    pub observed: BTreeMap<&'static str, u64>,
    /// What its seed put on the agenda.
    pub drawn: Drawn,
    /// From healing to convergence.
    pub converge_ms: Option<u64>,
    /// The hash of everything that happened: equal for equal seeds.
    pub trace_hash: u64,
    /// Whether the invariants held.
    pub outcome: Outcome,
}

impl Report {
    /// The invariant that did not hold.
    pub fn violation(&self) -> Option<&Violation> {
        match &self.outcome {
            Outcome::Held => None,
            Outcome::Broken(violation) => Some(violation),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} broken at {}.{:03} s: {}",
            self.invariant,
            self.at_ms / 1_000,
            self.at_ms % 1_000,
            self.what
        )
    }
}
