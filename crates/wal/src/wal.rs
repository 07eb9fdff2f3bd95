//! The log itself: append, seal, tend, compact, snapshots.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use planted::Bug;

use crate::batch::{Batch, MAX_RECORD, SnapshotMeta};
use crate::block::{self, BLOCK, BLOCK_DATA, Place};
use crate::disk::{Disk, DiskFile};
use crate::error::WalError;
use crate::extent::{EXTENT_FILE, Extent, ExtentFile};
use crate::poison::Poison;
use crate::record::{BATCH_HEADER, Op, encode_batch, encoded_len};
use crate::scan::SegmentInfo;
use crate::segment::{DATA_BLOCK, SegmentHeader, file_name};
use crate::snapshot::{self, FinishedSnapshot, SnapshotReader, SnapshotWriter};
use crate::space::{Room, Space, Tended};
use crate::state::LogState;

/// The segment that batches go to.
pub(crate) struct Active {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) name: String,
    pub(crate) number: u64,
    pub(crate) blocks: u64,
    /// Where the next batch goes.
    pub(crate) next_block: u64,
}

impl Active {
    pub(crate) fn is_empty(&self) -> bool {
        self.next_block == DATA_BLOCK
    }
}

/// Holds the directory for this process, and gives it back.
pub(crate) struct Lock(pub(crate) Arc<dyn Disk>);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.unlock();
    }
}

/// A Raft log, hard state and snapshots in one data directory.
///
/// # Flow
/// One thread owns it. It merges what has queued up while the last sync ran, calls [`append_all`](Self::append_all),
/// reports the batches as durable, and calls [`tend`](Self::tend) once; when nothing is queued it calls
/// [`seal`](Self::seal), and `tend` until that is idle.
///
/// # Guarantees
/// - When `append` returns `Ok`, hard state and entries of the batch are durable, both or neither after a crash before.
/// - After any crash, `open` returns all that was acknowledged and at most one batch more, in order.
/// - Damage to what was acknowledged is reported by `open` as `Damaged`, never cut off. One case needs a `seal`: whole
///   sectors of the *last* batch that read as never written, after the device had reported them durable.
///
/// # Errors
/// After a failed write or sync every call returns `Poisoned`; the process must end.
pub struct Wal {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) poison: Poison,
    pub(crate) log_id: u64,
    /// All segments in use, the active one last.
    pub(crate) segments: VecDeque<SegmentInfo>,
    pub(crate) active: Active,
    pub(crate) room: Room,
    pub(crate) state: LogState,
    /// Sequence number and chain value of the last batch.
    pub(crate) seq: u64,
    pub(crate) chain: u64,
    pub(crate) extents: ExtentFile,
    /// The last batch is durable, and the next one will say so in the segment.
    pub(crate) unsaid: Option<Extent>,
    /// The extent file says so already.
    pub(crate) sealed: bool,
    /// A hard state was accepted without a sync and is not in the log yet.
    pub(crate) deferred: bool,
    pub(crate) snapshot_attempts: u64,
    pub(crate) stream: Vec<u8>,
    pub(crate) blocks: Vec<u8>,
    pub(crate) _lock: Lock,
}

impl Wal {
    /// Returns index and term of the newest entry, or of the snapshot when there is none after it.
    pub fn last(&self) -> SnapshotMeta {
        self.state.tail()
    }

    /// Returns index and term of the latest snapshot.
    pub fn snapshot(&self) -> Option<SnapshotMeta> {
        self.state.snapshot.map(|mark| mark.meta)
    }

    /// Returns how many records' bytes one `append_all` may take at most, by the measure of `Batch::disk_bytes`: what a
    /// writer thread merges up to. Half a segment, so that segments are used well.
    pub fn merge_limit(&self) -> usize {
        (self.room.segment_bytes() / 2) as usize
    }

    /// Appends one batch: see `append_all`.
    pub fn append(&mut self, batch: &Batch) -> Result<(), WalError> {
        self.append_all(std::slice::from_ref(batch))
    }

    /// Appends the batches, in order, with one write and one sync for all of them; after a crash all or none are there.
    /// The last hard state wins. When no batch must be synced, nothing is written: a lone hard state waits for the next
    /// batch that must, or for `seal`.
    ///
    /// # Errors
    /// Reject: `NoSpace`, `TooLarge`, `OutOfOrder`; nothing was written. Stop: `Io`, `Poisoned`.
    pub fn append_all(&mut self, batches: &[Batch]) -> Result<(), WalError> {
        self.poison.check()?;
        let mut ops = Vec::new();
        for batch in batches {
            ops.extend(batch.truncate_from.map(Op::Truncate));
            ops.extend(batch.records.iter().cloned().map(Op::Entry));
        }
        let hard_state = batches.iter().rev().find_map(|batch| batch.hard_state.clone());
        if batches.iter().any(Batch::syncs) {
            let hard_state =
                hard_state.or_else(|| self.deferred.then(|| self.state.hard_state.clone()).flatten());
            if planted::is(Bug::HardStateTorn) {
                self.commit(hard_state.into_iter().map(Op::HardState).collect())?;
                return self.commit(ops);
            }
            ops.extend(hard_state.map(Op::HardState));
            self.commit(ops)
        } else if let Some(hard_state) = hard_state {
            bounded(hard_state.len())?;
            self.state.hard_state = Some(hard_state);
            self.deferred = true;
            Ok(())
        } else {
            Ok(())
        }
    }

    /// Writes down that the last batch is durable, with a sync of its own. Off the path of an acknowledgement: the next
    /// batch would carry it along. Also writes a deferred hard state. Does nothing when there is nothing to say.
    pub fn seal(&mut self) -> Result<(), WalError> {
        self.poison.check()?;
        if self.deferred {
            let hard_state = self.state.hard_state.clone().expect("deferred implies a hard state");
            self.commit(vec![Op::HardState(hard_state)])?;
        }
        if let (false, Some(extent)) = (self.sealed, self.unsaid) {
            let result = self.extents.record(&extent);
            self.must("write", EXTENT_FILE, result)?;
            self.sealed = true;
        }
        Ok(())
    }

    /// Does one bounded step of preparing the next segment or the reserve (at most 256 KiB written and synced).
    pub fn tend(&mut self) -> Result<Tended, WalError> {
        self.poison.check()?;
        let result = self.room.tend(self.active.number);
        self.must("prepare", "the next segment", result)
    }

    /// Says how much room there is.
    pub fn space(&self) -> Space {
        self.room.space()
    }

    /// Gives the reserve's space back to the file system, so that what cannot be refused can be written. `false`: there
    /// was none left. `tend` lays it down again when there is room.
    pub fn use_reserve(&mut self) -> Result<bool, WalError> {
        self.poison.check()?;
        let result = self.room.release_reserve();
        self.must("remove", "the reserve", result)
    }

    /// Begins a snapshot of all entries up to `index`. Any thread may write it; several may be under way.
    ///
    /// # Errors
    /// `OutOfOrder` when it would not be newer than the latest one.
    pub fn begin_snapshot(&mut self, index: u64, term: u64) -> Result<SnapshotWriter, WalError> {
        self.poison.check()?;
        self.is_newer(index)?;
        self.snapshot_attempts += 1;
        let meta = SnapshotMeta { index, term };
        SnapshotWriter::create(
            self.disk.clone(),
            self.poison.clone(),
            self.log_id,
            meta,
            self.snapshot_attempts,
        )
    }

    /// Records a finished snapshot, with the hard state that belongs to it, and removes the former one. Entries up to
    /// its index are no longer recovered. When the log does not hold the snapshot's last entry (it came from a leader
    /// that is ahead, or from another history), the log restarts after it; `true` says so.
    pub fn install_snapshot(
        &mut self,
        finished: FinishedSnapshot,
        hard_state: Option<bytes::Bytes>,
    ) -> Result<bool, WalError> {
        self.poison.check()?;
        let mark = finished.mark;
        self.is_newer(mark.meta.index)?;
        let former = self.state.snapshot;
        let reset = self.state.term_at(mark.meta.index) != Some(mark.meta.term)
            || planted::is(Bug::SnapshotOverNewerLog);
        let hard_state =
            hard_state.or_else(|| self.deferred.then(|| self.state.hard_state.clone()).flatten());
        let mut ops = vec![Op::Snapshot { mark, reset }];
        ops.extend(hard_state.map(Op::HardState));
        self.commit(ops)?;
        self.seal()?;
        if reset {
            self.segments.iter_mut().for_each(|segment| segment.max_index = 0);
        }
        if let Some(former) = former {
            let name = snapshot::file_name(former.meta);
            self.remove(&name)?;
        }
        Ok(reset)
    }

    /// Opens the latest snapshot for reading; `None` when there is none.
    pub fn read_snapshot(&self) -> Result<Option<SnapshotReader>, WalError> {
        self.poison.check()?;
        self.state.snapshot.map(|mark| SnapshotReader::open(&*self.disk, self.log_id, mark)).transpose()
    }

    /// Removes segments that hold nothing but entries up to `up_to` which the latest snapshot contains. Returns how many.
    /// Each removal is durable before the next, oldest first, so that no crash leaves a hole.
    pub fn compact(&mut self, up_to: u64) -> Result<usize, WalError> {
        self.poison.check()?;
        let limit = up_to.min(self.state.snapshot_index());
        // The segment that stays first must begin with a base record: it has a batch.
        let keep = if self.active.is_empty() { 2 } else { 1 };
        let mut removed = 0;
        while self.segments.len() > keep && self.segments[0].max_index <= limit {
            let name = file_name(self.segments[0].number);
            self.remove(&name)?;
            self.segments.pop_front();
            removed += 1;
        }
        Ok(removed)
    }

    fn is_newer(&self, index: u64) -> Result<(), WalError> {
        if self.state.snapshot.is_some() && index <= self.state.snapshot_index() {
            return Err(WalError::OutOfOrder("a snapshot is not newer than the latest one"));
        }
        Ok(())
    }

    /// Checks, writes and syncs one batch.
    fn commit(&mut self, ops: Vec<Op>) -> Result<(), WalError> {
        if ops.is_empty() {
            return Ok(());
        }
        let mut state = self.state.clone();
        for op in &ops {
            if let Op::Entry(record) = op {
                bounded(record.payload.len())?;
            }
            if let Op::HardState(hard_state) = op {
                bounded(hard_state.len())?;
            }
            state.apply(op).map_err(WalError::OutOfOrder)?;
        }
        self.make_room(&ops)?;
        let preamble = if self.active.is_empty() { self.preamble() } else { Vec::new() };
        let all: Vec<&Op> = preamble.iter().chain(&ops).collect();
        self.write_batch(&all, state.last)?;
        let greatest =
            ops.iter().filter_map(|op| if let Op::Entry(record) = op { Some(record.index) } else { None });
        let segment = self.segments.back_mut().expect("the active segment is there");
        segment.max_index = greatest.fold(segment.max_index, u64::max);
        self.state = state;
        self.deferred = false;
        Ok(())
    }

    /// What makes a segment readable without its predecessors.
    fn preamble(&self) -> Vec<Op> {
        let last = self.state.tail();
        let mut ops = vec![Op::Base { index: last.index, term: last.term }];
        ops.extend(self.state.snapshot.map(|mark| Op::Snapshot { mark, reset: false }));
        ops.extend(self.state.hard_state.clone().map(Op::HardState));
        ops
    }

    /// Moves on to the next segment when the batch does not fit into this one.
    fn make_room(&mut self, ops: &[Op]) -> Result<(), WalError> {
        let bytes: usize = ops.iter().map(encoded_len).sum();
        let with_preamble = bytes + self.preamble().iter().map(encoded_len).sum::<usize>();
        let fits = |bytes: usize, from: u64, to: u64| from + blocks_for(bytes) <= to;
        let needed = if self.active.is_empty() { with_preamble } else { bytes };
        if fits(needed, self.active.next_block, self.active.blocks) {
            return Ok(());
        }
        let next = self.room.segment_bytes() / BLOCK as u64;
        if self.active.is_empty() || !fits(with_preamble, DATA_BLOCK, next) {
            let limit = (next - DATA_BLOCK) as usize * BLOCK_DATA;
            return Err(WalError::TooLarge { bytes: with_preamble, limit });
        }
        self.rotate()
    }

    /// Begins the next segment. Its header is durable before its predecessor says `continued`, and both are before its
    /// first batch: at no point does a crash leave a segment that looks lost.
    fn rotate(&mut self) -> Result<(), WalError> {
        let result = self.room.take_segment(self.active.number + 1);
        let Some(spare) = self.must("prepare", "the next segment", result)? else {
            return Err(WalError::NoSpace);
        };
        let header = SegmentHeader {
            log_id: self.log_id,
            number: spare.number,
            blocks: spare.blocks,
            base_seq: self.seq,
            base_chain: self.chain,
        };
        let result = spare.file.write_at(0, &header.encode()).and_then(|()| spare.file.sync());
        self.must("begin", &spare.name, result)?;
        let closing = Extent { continued: true, ..self.extent(self.state.last) };
        self.write_extent(&closing)?;
        self.sync_active()?;
        self.unsaid = None;
        self.sealed = true;
        self.segments.push_back(SegmentInfo { number: spare.number, max_index: 0 });
        self.active = Active {
            file: spare.file,
            name: spare.name,
            number: spare.number,
            blocks: spare.blocks,
            next_block: DATA_BLOCK,
        };
        Ok(())
    }

    /// One write for the batch, one for the extent of the batch before it, one sync for both.
    pub(crate) fn write_batch(&mut self, ops: &[&Op], last_index: u64) -> Result<(), WalError> {
        let seq = self.seq + 1;
        self.stream.clear();
        self.blocks.clear();
        let chain = encode_batch(&mut self.stream, seq, self.chain, ops);
        let place = Place { log_id: self.log_id, segment: self.active.number, block: self.active.next_block };
        block::encode(&mut self.blocks, place, seq as u32, &self.stream);
        if let Some(extent) = self.unsaid {
            self.write_extent(&extent)?;
        }
        let result = self.active.file.write_at(self.active.next_block * BLOCK as u64, &self.blocks);
        self.must("write", &self.active.name, result)?;
        if !planted::is(Bug::SyncSkipped) {
            self.sync_active()?;
        }
        self.seq = seq;
        self.chain = chain;
        self.active.next_block += (self.blocks.len() / BLOCK) as u64;
        self.unsaid = Some(self.extent(last_index));
        self.sealed = false;
        Ok(())
    }

    fn extent(&self, last_index: u64) -> Extent {
        Extent {
            segment: self.active.number,
            seq: self.seq,
            end_block: self.active.next_block,
            last_index,
            chain: self.chain,
            continued: false,
        }
    }

    fn write_extent(&self, extent: &Extent) -> Result<(), WalError> {
        let result = extent.write_to_segment(&*self.active.file, self.log_id);
        self.must("write", &self.active.name, result)
    }

    fn sync_active(&self) -> Result<(), WalError> {
        self.must("sync", &self.active.name, self.active.file.sync())
    }

    fn remove(&self, name: &str) -> Result<(), WalError> {
        let result = self.disk.remove(name).and_then(|()| self.disk.sync_dir());
        self.must("remove", name, result)
    }

    /// A failure here leaves the disk in a state that is not known: it closes the log.
    fn must<T>(&self, action: &'static str, file: &str, result: io::Result<T>) -> Result<T, WalError> {
        result.map_err(|source| self.poison.fail(action, file, source))
    }
}

fn bounded(bytes: usize) -> Result<(), WalError> {
    if bytes > MAX_RECORD { Err(WalError::TooLarge { bytes, limit: MAX_RECORD }) } else { Ok(()) }
}

fn blocks_for(record_bytes: usize) -> u64 {
    (BATCH_HEADER + record_bytes).div_ceil(BLOCK_DATA) as u64
}
