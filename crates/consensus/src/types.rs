//! What goes into a [`Node`](crate::Node) and comes out of it, as plain values.

use bytes::Bytes;
use model::id::MemberId;
use serde::{Deserialize, Serialize};

use crate::message::{LogEntry, Message, SnapshotMeta};

/// Timers and the seed.
#[derive(Debug, Clone, Copy)]
pub struct RaftSettings {
    /// Ticks between heartbeats.
    pub heartbeat_ticks: u32,
    /// The shortest election timeout.
    pub election_ticks: u32,
    /// How much longer it may be drawn.
    pub election_spread: u32,
    /// Entries kept behind a snapshot.
    pub keep_entries: u64,
    /// Of the generator that draws election timeouts.
    pub seed: u64,
}

/// What must survive besides the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// The term.
    pub term: u64,
    /// Whom this member voted for in it; 0 = nobody.
    pub vote: u64,
    /// What is known to be committed; may lag.
    pub commit: u64,
}

/// What a member starts with.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// As last written.
    pub hard_state: HardState,
    /// As last written; index 0 = none.
    pub snapshot: SnapshotMeta,
    /// The snapshot's bytes.
    pub snapshot_bytes: Bytes,
    /// In order; what the snapshot contains is skipped.
    pub entries: Vec<LogEntry>,
}

/// What was recovered contradicts itself: refuse to start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// A record is missing.
    #[error("the log has a gap: entry {found} follows {last}")]
    Gap {
        /// The last good one.
        last: u64,
        /// What follows.
        found: u64,
    },
    /// Committed entries are missing.
    #[error("entry {commit} is committed, but the log ends at {last}")]
    CutOff {
        /// Known to be committed.
        commit: u64,
        /// The last one present.
        last: u64,
    },
    /// The membership cannot be.
    #[error("the snapshot's membership is damaged")]
    Membership,
    /// The library refuses.
    #[error("the recovered state is not accepted: {0}")]
    Library(String),
}

/// A write, in order; report it with [`Node::persisted`](crate::Node::persisted).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Counts up by one.
    pub sequence: u64,
    /// When it changed.
    pub hard_state: Option<HardState>,
    /// Drop from here on first.
    pub truncate_from: Option<u64>,
    /// Then append.
    pub entries: Vec<LogEntry>,
    /// A snapshot, before everything else.
    pub snapshot: Option<(SnapshotMeta, Bytes)>,
    /// The snapshot came from the leader: the whole log goes.
    pub reset_log: bool,
}

/// A snapshot of the leader took the state's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The last entry that it contains.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
}

/// What one step asks for, in this order: replace the state, apply, write, send.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Replace the state.
    pub restored: Option<Restored>,
    /// Apply, in order. Changes of the membership are already in force.
    pub committed: Vec<LogEntry>,
    /// Write.
    pub write: Option<Write>,
    /// Send; may be lost.
    pub messages: Vec<(MemberId, Message)>,
    /// Reads that may be answered once the index is applied: (number, index).
    pub reads: Vec<(u64, u64)>,
    /// Records up to this index are no longer needed.
    pub compact: Option<u64>,
}

/// What a member is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Follows, or learns.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// Why a proposal is not taken now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Ask the leader.
    #[error("this member does not lead")]
    NotLeader,
    /// Too much is on its way, or the lead is being handed over: retry.
    #[error("too much is on its way already")]
    Busy,
    /// Another change of the membership is not finished: retry later.
    #[error("another change of the membership is not finished")]
    ChangePending,
}
