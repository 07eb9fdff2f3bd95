//! What the log says at one point of its history: applied when records are appended and, alike, when they are read.

use bytes::Bytes;

use crate::batch::{Record, SnapshotMeta};
use crate::record::{Op, SnapshotMark};

/// The state after some record.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogState {
    pub(crate) hard_state: Option<Bytes>,
    pub(crate) snapshot: Option<SnapshotMark>,
    /// The lowest index that the retained segments account for; entries from here to `last` are there. 0 before the
    /// first base record.
    first: u64,
    pub(crate) last: u64,
    /// Runs of equal terms, as (first index, term), ascending. The first run may begin below `first`.
    terms: Vec<(u64, u64)>,
}

impl LogState {
    /// Returns the index and term of the newest entry, or of the snapshot that took its place.
    pub(crate) fn tail(&self) -> SnapshotMeta {
        SnapshotMeta { index: self.last, term: self.term_at(self.last).unwrap_or(0) }
    }

    pub(crate) fn snapshot_index(&self) -> u64 {
        self.snapshot.map_or(0, |mark| mark.meta.index)
    }

    /// Returns the term of an entry, of the snapshot or of the base; `None` when the log does not reach there.
    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        if index > self.last {
            return None;
        }
        let run = self.terms.partition_point(|(first, _)| *first <= index).checked_sub(1)?;
        Some(self.terms[run].1)
    }

    /// Applies one step.
    ///
    /// # Errors
    /// What is out of order, in words; the state is unchanged then.
    pub(crate) fn apply(&mut self, op: &Op) -> Result<(), &'static str> {
        match op {
            // The sums below are safe for every other one.
            Op::Base { index: u64::MAX, .. }
            | Op::Entry(Record { index: u64::MAX, .. })
            | Op::Snapshot {
                mark: SnapshotMark { meta: SnapshotMeta { index: u64::MAX, .. }, .. }, ..
            } => Err("an index is greater than any that is written"),
            Op::Base { index, term } => self.base(*index, *term),
            Op::HardState(state) => {
                self.hard_state = Some(state.clone());
                Ok(())
            }
            Op::Entry(record) => self.entry(record.index, record.term),
            Op::Truncate(from) => self.truncate(*from),
            Op::Snapshot { mark, reset } => self.take_snapshot(*mark, *reset),
        }
    }

    /// Returns what is missing between the snapshot and the first retained entry, in words.
    pub(crate) fn gap(&self) -> Option<&'static str> {
        (self.first > self.snapshot_index() + 1).then_some("entries after the snapshot are missing")
    }

    fn base(&mut self, index: u64, term: u64) -> Result<(), &'static str> {
        if self.first == 0 {
            if self.last != 0 {
                return Err("an entry comes before the first base record");
            }
            self.first = index + 1;
            self.last = index;
            self.terms = vec![(index, term)];
        } else if self.tail() != (SnapshotMeta { index, term }) {
            return Err("a segment does not begin where its predecessor ended");
        }
        Ok(())
    }

    fn entry(&mut self, index: u64, term: u64) -> Result<(), &'static str> {
        if index != self.last + 1 {
            return Err("an entry does not follow the last index");
        }
        let last_term = self.terms.last().map_or(0, |run| run.1);
        if term < last_term {
            return Err("an entry has a lower term than its predecessor");
        }
        if term > last_term || self.terms.is_empty() {
            self.terms.push((index, term));
        }
        self.last = index;
        Ok(())
    }

    fn truncate(&mut self, from: u64) -> Result<(), &'static str> {
        if from <= self.snapshot_index() {
            return Err("a truncation reaches into the snapshot");
        }
        if from > self.last {
            return Ok(());
        }
        self.last = from - 1;
        self.first = self.first.min(from);
        self.terms.retain(|(first, _)| *first < from);
        Ok(())
    }

    fn take_snapshot(&mut self, mark: SnapshotMark, reset: bool) -> Result<(), &'static str> {
        let meta = mark.meta;
        if meta.index < self.snapshot_index() {
            return Err("a snapshot is older than the one before it");
        }
        if reset {
            self.first = meta.index + 1;
            self.last = meta.index;
            self.terms = vec![(meta.index, meta.term)];
        } else if meta.index > self.last {
            return Err("a snapshot is ahead of the log");
        } else {
            let run = self.terms.partition_point(|(first, _)| *first <= meta.index).saturating_sub(1);
            self.terms.drain(..run);
        }
        self.snapshot = Some(mark);
        Ok(())
    }
}
