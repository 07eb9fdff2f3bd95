//! What the caller hands over and gets back: records and batches of them.

use bytes::Bytes;

/// The largest payload of one record. Raft entries are bounded far below (1 MiB); the rest is room for a caller that
/// packs, and the bound keeps a single write short enough not to look like a stalled disk.
pub const MAX_RECORD: usize = 8 << 20;

/// One Raft entry. The payload is opaque here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Raft index, counted from 1 without a gap.
    pub index: u64,
    /// Raft term of the entry.
    pub term: u64,
    /// The caller's entry type, kept as it is.
    pub kind: u8,
    /// The entry itself, at most [`MAX_RECORD`] bytes.
    pub payload: Bytes,
}

/// What one Raft `Ready` wants on disk. Applied in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The new hard state, opaque; replaces the former one.
    pub hard_state: Option<Bytes>,
    /// Drops all entries with this index or a greater one (a conflict with the leader's log). Records that start at or
    /// below the last index need it: the log never overwrites unasked.
    pub truncate_from: Option<u64>,
    /// Entries to append, in order and without a gap.
    pub records: Vec<Record>,
    /// `false` allows a hard state alone (a moved commit index) to wait for the next batch that is synced. With records
    /// or a truncation it has no effect: these are always synced.
    pub must_sync: bool,
}

impl Batch {
    /// Returns whether the batch must be on disk when `append` returns.
    pub(crate) fn syncs(&self) -> bool {
        self.must_sync || self.truncate_from.is_some() || !self.records.is_empty()
    }

    /// Returns about how many bytes the batch takes on disk: what a writer thread adds up while it merges.
    pub fn disk_bytes(&self) -> usize {
        let records: usize = self.records.iter().map(|record| record.payload.len() + 64).sum();
        records + self.hard_state.as_ref().map_or(0, Bytes::len) + 256
    }
}

/// Index and term of the last entry that a snapshot contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotMeta {
    /// Raft index.
    pub index: u64,
    /// Raft term of that entry.
    pub term: u64,
}

/// A torn tail that `open` has cut off: the remains of a batch whose sync never returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TruncatedTail {
    /// The segment file.
    pub file: String,
    /// Where the unfinished batch began.
    pub offset: u64,
    /// How many 512-byte blocks of it had been written, in whole or in part.
    pub blocks: u64,
}

/// What `open` found on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The last hard state.
    pub hard_state: Option<Bytes>,
    /// The latest snapshot; its contents come from `Wal::read_snapshot`.
    pub snapshot: Option<SnapshotMeta>,
    /// All entries after the snapshot, in order and without a gap.
    pub entries: Vec<Record>,
    /// Set when an unfinished batch was cut off. Nothing in it was ever acknowledged.
    pub truncated_tail: Option<TruncatedTail>,
}
