//! A manager's disk: the real `wal` on a disk in memory that is exact about what a power cut keeps.
//!
//! Steps queue up while one is being written and go down together, as the daemon's writer does it. A step takes effect at
//! the end of its latency; a crash before that leaves nothing of it, all of it, or a torn part.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use manager_core::{LogRecord, Persist, Recovered, SnapshotBlob, SpaceState};
use wal::{Batch, Disk, MemDisk, OpenError, Options, Record, Space, Tended, Wal, WalError};

/// What a manager's process holds of its disk.
pub(crate) struct Writer {
    wal: Wal,
    queue: VecDeque<Persist>,
    /// How many of the queue are being written.
    writing: usize,
    /// Cut the log up to here, once idle.
    compact: Option<u64>,
    /// How much room there is, as the core was last told.
    space: SpaceState,
}

/// The log does not do what it should: the process ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DiskError {
    /// What the member vouched for may be missing: it must not go on under its id.
    Lost(String),
    /// The disk is full, the reserve used up.
    Full(String),
    /// Anything else.
    Failed(String),
}

impl From<OpenError> for DiskError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NoSpace => Self::Full(error.to_string()),
            _ if error.is_loss() => Self::Lost(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<WalError> for DiskError {
    fn from(error: WalError) -> Self {
        match error {
            WalError::NoSpace => Self::Full(error.to_string()),
            _ if error.is_loss() => Self::Lost(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl Writer {
    /// Opens the log, and reads it. `fresh`: the member has vouched for nothing yet, so that there may be none.
    ///
    /// # Errors
    /// What `wal` says.
    pub(crate) fn open(
        disk: &MemDisk,
        segment_bytes: u64,
        log_id: u64,
        fresh: bool,
    ) -> Result<(Self, Recovered), DiskError> {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let (reserve_bytes, low_water_bytes) = (segment_bytes, segment_bytes);
        let options =
            Options { create: fresh, segment_bytes, reserve_bytes, low_water_bytes, ..Options::new(log_id) };
        let (wal, found) = Wal::open(disk, options)?;
        let snapshot = match found.snapshot {
            None => None,
            Some(meta) => Some(read_snapshot(&wal, meta.index, meta.term)?),
        };
        let entries = found.entries.into_iter().map(from_record).collect();
        let recovered = Recovered { hard_state: found.hard_state, snapshot, entries };
        let space = SpaceState::Enough;
        Ok((Self { wal, queue: VecDeque::new(), writing: 0, compact: None, space }, recovered))
    }

    /// Takes a step. True when the writer was idle: it begins now.
    pub(crate) fn push(&mut self, step: Persist) -> bool {
        self.queue.push_back(step);
        self.begin()
    }

    /// Begins to write what has queued up, unless it writes already or there is nothing.
    pub(crate) fn begin(&mut self) -> bool {
        if self.writing > 0 || self.queue.is_empty() {
            return false;
        }
        self.writing = self.queue.len();
        true
    }

    pub(crate) fn compact(&mut self, index: u64) {
        self.compact = Some(self.compact.unwrap_or(0).max(index));
    }

    /// What was begun reaches the disk; returns the last sequence of it.
    ///
    /// # Errors
    /// The process must end.
    pub(crate) fn finish(&mut self) -> Result<u64, DiskError> {
        let steps: Vec<Persist> = self.queue.drain(..self.writing).collect();
        self.writing = 0;
        let mut sequence = 0;
        let mut batches = Vec::new();
        for step in steps {
            sequence = step.sequence;
            self.take(step, &mut batches)?;
        }
        self.flush(&mut batches)?;
        self.tend()?;
        Ok(sequence)
    }

    fn take(&mut self, step: Persist, batches: &mut Vec<Batch>) -> Result<(), DiskError> {
        let mut truncate_from = step.truncate_from;
        let mut hard_state = step.hard_state;
        if let Some(blob) = step.snapshot {
            self.flush(batches)?;
            let state = hard_state.take();
            let reset = match self.install(&blob, state.clone()) {
                Err(WalError::NoSpace) if self.wal.use_reserve()? => self.install(&blob, state)?,
                installed => installed?,
            };
            if step.reset_log && !reset && self.wal.last().index > blob.index {
                truncate_from = Some(blob.index + 1);
            }
        }
        let records = step.entries.into_iter().map(to_record).collect();
        let batch = Batch { hard_state, truncate_from, records, must_sync: true };
        // What a batch may take is bounded by the segment: as the daemon's writer does, stop merging before that.
        let merged = batches.iter().map(Batch::disk_bytes).sum::<usize>() + batch.disk_bytes();
        if merged > self.wal.merge_limit() {
            self.flush(batches)?;
        }
        batches.push(batch);
        Ok(())
    }

    fn install(&mut self, blob: &SnapshotBlob, hard_state: Option<Bytes>) -> Result<bool, WalError> {
        let mut writer = self.wal.begin_snapshot(blob.index, blob.term)?;
        writer.write(&encode_snapshot(blob))?;
        let finished = writer.finish()?;
        self.wal.install_snapshot(finished, hard_state)
    }

    fn flush(&mut self, batches: &mut Vec<Batch>) -> Result<(), DiskError> {
        if !batches.is_empty() {
            match self.wal.append_all(batches) {
                Err(WalError::NoSpace) if self.wal.use_reserve()? => self.wal.append_all(batches)?,
                appended => appended?,
            }
            batches.clear();
        }
        Ok(())
    }

    fn tend(&mut self) -> Result<(), DiskError> {
        if let Some(index) = self.compact.take() {
            self.wal.compact(index)?;
        }
        while self.wal.tend()? == Tended::More {}
        if self.queue.is_empty() {
            self.wal.seal()?;
        }
        Ok(())
    }

    /// How much room the core knows of.
    pub(crate) fn space(&self) -> SpaceState {
        self.space
    }

    /// Looks how much room there is; `Some` when that has changed.
    pub(crate) fn look_at_space(&mut self) -> Option<SpaceState> {
        let space = match self.wal.space() {
            Space::Ok => SpaceState::Enough,
            Space::Low => SpaceState::Low,
            Space::Reserve => SpaceState::Exhausted,
        };
        let changed = std::mem::replace(&mut self.space, space) != space;
        changed.then_some(space)
    }

    /// While there is little room and nothing to write: prepares what there may be room for again.
    ///
    /// # Errors
    /// The process must end.
    pub(crate) fn look_for_room(&mut self) -> Result<(), DiskError> {
        if self.writing == 0 {
            while self.wal.tend()? == Tended::More {}
        }
        Ok(())
    }

    /// The process ends while this was being written: some of it may reach the disk.
    pub(crate) fn break_off(&mut self, disk: &MemDisk, changes: u64) {
        disk.stop_after(changes);
        self.finish().ok();
    }
}

fn to_record(record: LogRecord) -> Record {
    let LogRecord { index, term, kind, payload } = record;
    Record { index, term, kind, payload }
}

fn from_record(record: Record) -> LogRecord {
    let Record { index, term, kind, payload } = record;
    LogRecord { index, term, kind, payload }
}

fn encode_snapshot(blob: &SnapshotBlob) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + blob.conf.len() + blob.bytes.len());
    out.put_u64(blob.conf.len() as u64);
    out.put_slice(&blob.conf);
    out.put_slice(&blob.bytes);
    out.freeze()
}

fn read_snapshot(wal: &Wal, index: u64, term: u64) -> Result<SnapshotBlob, DiskError> {
    let gone = || DiskError::Failed("the snapshot is gone".to_owned());
    let mut reader = wal.read_snapshot()?.ok_or_else(gone)?;
    let mut bytes = BytesMut::new();
    while let Some(chunk) = reader.next_chunk()? {
        bytes.put_slice(&chunk);
    }
    let mut bytes = bytes.freeze();
    let conf = bytes.get_u64() as usize;
    let conf = bytes.split_to(conf);
    Ok(SnapshotBlob { index, term, conf, bytes })
}
