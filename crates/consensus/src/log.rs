//! The library's view of our log: everything since the last compaction, in memory. The disk is the shell's; what lies
//! here is written by it before anything vouches for it.

use std::{cell::Cell, collections::VecDeque};

use bytes::Bytes;
use raft::{
    GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{Entry, HardState, Snapshot},
};

use crate::message::SnapshotMeta;

/// See the module's head.
pub(crate) struct Log {
    /// The newest durable snapshot; index 0 when there is none.
    meta: SnapshotMeta,
    bytes: Bytes,
    /// Index and term of the entry before the first one kept.
    before: (u64, u64),
    entries: VecDeque<Entry>,
    size: u64,
    /// The state at start; the library reads it once.
    initial: HardState,
    /// A peer needs a newer snapshot than the one at hand.
    wanted: Cell<bool>,
}

fn entry_size(entry: &Entry) -> u64 {
    entry.get_data().len() as u64 + 32
}

impl Log {
    pub(crate) fn new(meta: SnapshotMeta, bytes: Bytes, entries: Vec<Entry>, initial: HardState) -> Self {
        let before = (meta.index, meta.term);
        let size = entries.iter().map(entry_size).sum();
        Self { meta, bytes, before, entries: entries.into(), size, initial, wanted: Cell::new(false) }
    }

    fn first(&self) -> u64 {
        self.before.0 + 1
    }

    pub(crate) fn last(&self) -> u64 {
        self.before.0 + self.entries.len() as u64
    }

    /// Bytes of the entries kept.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn snapshot_meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    pub(crate) fn snapshot_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether a peer asked for a snapshot that we do not have; asks once.
    pub(crate) fn take_wanted(&self) -> bool {
        self.wanted.replace(false)
    }

    /// Appends, replacing what conflicts. Returns the first index that was replaced.
    pub(crate) fn append(&mut self, entries: &[Entry]) -> Option<u64> {
        let first = entries.first()?.get_index();
        assert!(
            self.first() <= first && first <= self.last() + 1,
            "the library appends at {first} to a log of {}..={}",
            self.first(),
            self.last()
        );
        let replaced = (first <= self.last()).then_some(first);
        while self.last() >= first {
            let gone = self.entries.pop_back().expect("the log reaches past the first new entry");
            self.size -= entry_size(&gone);
        }
        self.size += entries.iter().map(entry_size).sum::<u64>();
        self.entries.extend(entries.iter().cloned());
        replaced
    }

    /// A snapshot from the leader replaces everything.
    pub(crate) fn restore(&mut self, meta: SnapshotMeta, bytes: Bytes) {
        self.before = (meta.index, meta.term);
        self.entries.clear();
        self.size = 0;
        self.meta = meta;
        self.bytes = bytes;
    }

    /// A snapshot of our own is durable: it is offered to peers, and entries up to `compact` go. Returns the last index
    /// that went.
    pub(crate) fn compact(&mut self, meta: SnapshotMeta, bytes: Bytes, compact: u64) -> Option<u64> {
        if meta.index <= self.meta.index {
            return None;
        }
        let upto = compact.min(meta.index);
        self.meta = meta;
        self.bytes = bytes;
        let mut gone = None;
        while self.before.0 < upto
            && let Some(entry) = self.entries.pop_front()
        {
            self.size -= entry_size(&entry);
            self.before = (entry.get_index(), entry.get_term());
            gone = Some(self.before.0);
        }
        gone
    }

    /// The term of an entry that is kept, or of the one before.
    pub(crate) fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.before.0 {
            return Some(self.before.1);
        }
        let offset = index.checked_sub(self.first())?;
        self.entries.get(usize::try_from(offset).ok()?).map(Entry::get_term)
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.initial.clone(), self.meta.membership.to_raft()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first() {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        assert!(
            high <= self.last() + 1,
            "the library reads up to {high} of a log that ends at {}",
            self.last()
        );
        let max = max_size.into().unwrap_or(u64::MAX);
        let from = (low - self.first()) as usize;
        let mut total = 0u64;
        let mut out = Vec::new();
        for entry in self.entries.range(from..from + (high - low) as usize) {
            total = total.saturating_add(entry_size(entry));
            if total > max && !out.is_empty() {
                break;
            }
            out.push(entry.clone());
        }
        Ok(out)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.before.0 {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        self.term_of(index).ok_or(raft::Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    /// The newest durable snapshot, if it serves: it must know the member that is to get it, because a member refuses a
    /// membership that it is not in. Otherwise a newer one is wanted, and the library asks again with the next heartbeat.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let knows = self.meta.membership.members().contains(&model::id::MemberId(to));
        if !knows || self.meta.index < request_index || self.meta.index + 1 < self.first() {
            self.wanted.set(true);
            return Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(self.meta.to_raft())
    }
}
