//! What a decision pass hands out.

use model::{command::Decision, time::ClusterTime};

/// Decisions in one plan: one log entry of about a megabyte at most. What is left stays dirty for the next plan.
pub const MAX_DECISIONS: usize = 8_192;

/// One batch of decisions, and when to look again although nothing changes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// To be proposed as one `Command::Decide`; empty when there is nothing to do.
    pub decisions: Vec<Decision>,
    /// The earliest time at which something falls due: a backoff, a deadline, a monitor window, a token's end.
    pub wake_at: Option<ClusterTime>,
}

/// Where new task ids come from: the leader's seeded generator. An id already in use is refused by the state machine
/// and chosen anew in the next plan.
pub trait IdSource {
    /// The next id.
    fn next(&mut self) -> u64;
}
