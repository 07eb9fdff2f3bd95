//! The log's own thread: takes what the core wants durable, merges what queued up while the last sync ran, and says what
//! is durable.

use std::{
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use bytes::{BufMut, Bytes, BytesMut};
use manager_core::{LogRecord, Persist, Recovered, SnapshotBlob, SpaceState};
use wal::{Batch, FileDisk, OpenError, Options, Record, Space, Tended, Wal, WalError};

/// After so long without work the writer says that the last batch is durable and prepares the next segment.
const IDLE: Duration = Duration::from_millis(20);
/// How often a disk that was full is looked at.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(1);

/// What the thread reports.
#[derive(Debug)]
pub enum Written {
    /// Everything up to this sequence is durable.
    Persisted(u64),
    /// The disk's room changed.
    Space(SpaceState),
    /// A write or sync failed: the process must end.
    Failed(String),
}

enum Job {
    Persist(Persist),
    Compact(u64),
}

/// The handle of the thread. Dropping it finishes what is queued and joins.
pub struct Storage {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// Opens the log of a manager and reads all of it.
///
/// `fresh` allows an empty directory: only for a manager that never vouched for anything.
pub fn open(path: &Path, fresh: bool, log_id: u64) -> Result<(Wal, Recovered)> {
    let disk = FileDisk::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let options = Options { create: fresh, ..Options::new(log_id) };
    let (wal, found) = Wal::open(Arc::new(disk), options)
        .with_context(|| format!("the log in {} cannot be used", path.display()))?;
    if let Some(tail) = &found.truncated_tail {
        tracing::info!(file = %tail.file, offset = tail.offset, "cut off an unfinished write; nothing acknowledged was in it");
    }
    let snapshot = match wal.read_snapshot()? {
        None => None,
        Some(mut reader) => {
            let mut contents = BytesMut::new();
            while let Some(chunk) = reader.next_chunk()? {
                contents.put(chunk);
            }
            let meta = reader.meta();
            let (conf, bytes) = split_snapshot(contents.freeze()).context("the snapshot is malformed")?;
            Some(SnapshotBlob { index: meta.index, term: meta.term, conf, bytes })
        }
    };
    let entries = found
        .entries
        .into_iter()
        .map(|r| LogRecord { index: r.index, term: r.term, kind: r.kind, payload: r.payload })
        .collect();
    Ok((wal, Recovered { hard_state: found.hard_state, snapshot, entries }))
}

/// Whether a log was refused because what this member has acknowledged may be missing in it, and not because it cannot be
/// read right now.
pub fn is_lost(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref().is_some_and(OpenError::is_loss)
            || cause.downcast_ref().is_some_and(WalError::is_loss)
    })
}

/// Writes what a recovery gave as the only contents of an empty directory.
pub fn write_first(path: &Path, contents: Recovered, log_id: u64) -> Result<()> {
    let (wal, _) = open(path, true, log_id)?;
    let first = Persist {
        sequence: 1,
        hard_state: contents.hard_state,
        truncate_from: None,
        entries: contents.entries,
        snapshot: contents.snapshot,
        reset_log: true,
        must_sync: true,
    };
    let mut now = WriteNow::new(wal);
    now.persist(first)?;
    now.finish()
}

/// Writes on the caller's thread: for one-time commands.
pub struct WriteNow(Writer<fn(Written)>);

impl WriteNow {
    /// Takes the log.
    pub fn new(wal: Wal) -> Self {
        Self(Writer { wal, report: |_| {}, space: SpaceState::Enough })
    }

    /// Writes one step and syncs it.
    pub fn persist(&mut self, persist: Persist) -> Result<()> {
        if persist.snapshot.is_some() {
            return Ok(self.0.install(persist)?);
        }
        let sequence = persist.sequence;
        Ok(self.0.append_all(&[batch_of(persist)], sequence)?)
    }

    /// Seals the log.
    pub fn finish(mut self) -> Result<()> {
        Ok(self.0.wal.seal()?)
    }
}

impl Storage {
    /// Starts the thread. `report` is called on it.
    pub fn start(wal: Wal, report: impl FnMut(Written) + Send + 'static) -> Result<Self> {
        let (jobs, queue) = channel();
        let thread = std::thread::Builder::new()
            .name("log".into())
            .spawn(move || Writer { wal, report, space: SpaceState::Enough }.run(&queue))
            .context("cannot start the log's thread")?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Queues a step. The core bounds what is under way.
    pub fn persist(&self, persist: Persist) {
        self.send(Job::Persist(persist));
    }

    /// Queues the removal of records up to `index`.
    pub fn compact(&self, index: u64) {
        self.send(Job::Compact(index));
    }

    fn send(&self, job: Job) {
        // A writer that failed has reported so and is gone; the process is about to end.
        let _ = self.jobs.as_ref().expect("present until dropped").send(job);
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Writer<R> {
    wal: Wal,
    report: R,
    space: SpaceState,
}

impl<R: FnMut(Written)> Writer<R> {
    fn run(mut self, queue: &Receiver<Job>) {
        if let Err(error) = self.work(queue) {
            (self.report)(Written::Failed(format!("{:#}", anyhow::Error::from(error))));
        }
    }

    fn work(&mut self, queue: &Receiver<Job>) -> Result<(), WalError> {
        loop {
            let first = match queue.recv_timeout(IDLE) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => match self.idle(queue)? {
                    Some(job) => job,
                    None => return Ok(()),
                },
                Err(RecvTimeoutError::Disconnected) => return self.wal.seal(),
            };
            self.take(first, queue)?;
            // One step of preparing the next segment per turn, after the report: under steady load no append has to.
            self.wal.tend()?;
            self.look_at_space();
        }
    }

    /// Seals, prepares what is to be prepared as long as nothing else is to do, then waits. `None`: the end.
    fn idle(&mut self, queue: &Receiver<Job>) -> Result<Option<Job>, WalError> {
        self.wal.seal()?;
        while self.wal.tend()? == Tended::More {
            if let Ok(job) = queue.try_recv() {
                return Ok(Some(job));
            }
        }
        self.look_at_space();
        // While changes are refused for want of room nothing is written, so that only looking shows when there is some.
        while self.space != SpaceState::Enough {
            match queue.recv_timeout(LOOK_FOR_ROOM) {
                Ok(job) => return Ok(Some(job)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
            while self.wal.tend()? == Tended::More {
                if let Ok(job) = queue.try_recv() {
                    return Ok(Some(job));
                }
            }
            self.look_at_space();
        }
        Ok(queue.recv().ok())
    }

    /// Writes a job together with those queued behind it, as far as they fit in one write.
    fn take(&mut self, first: Job, queue: &Receiver<Job>) -> Result<(), WalError> {
        let mut next = Some(first);
        while let Some(job) = next.take() {
            match job {
                Job::Compact(index) => {
                    self.wal.compact(index)?;
                }
                Job::Persist(persist) if persist.snapshot.is_some() => self.install(persist)?,
                Job::Persist(persist) => next = self.append(persist, queue)?,
            }
        }
        Ok(())
    }

    /// Appends a step and its followers with one sync; returns the first job that did not fit.
    fn append(&mut self, first: Persist, queue: &Receiver<Job>) -> Result<Option<Job>, WalError> {
        let limit = self.wal.merge_limit();
        let mut sequence = first.sequence;
        let mut batches = vec![batch_of(first)];
        let mut size = batches[0].disk_bytes();
        let mut left = None;
        while let Ok(job) = queue.try_recv() {
            match job {
                Job::Persist(persist) if persist.snapshot.is_none() => {
                    let merged = persist.sequence;
                    let batch = batch_of(persist);
                    if size + batch.disk_bytes() > limit {
                        self.append_all(&batches, sequence)?;
                        (batches, size) = (Vec::new(), 0);
                    }
                    size += batch.disk_bytes();
                    batches.push(batch);
                    sequence = merged;
                }
                other => {
                    left = Some(other);
                    break;
                }
            }
        }
        self.append_all(&batches, sequence)?;
        Ok(left)
    }

    fn append_all(&mut self, batches: &[Batch], sequence: u64) -> Result<(), WalError> {
        match self.wal.append_all(batches) {
            Err(WalError::NoSpace) if self.wal.use_reserve()? => self.wal.append_all(batches)?,
            other => other?,
        }
        (self.report)(Written::Persisted(sequence));
        Ok(())
    }

    fn install(&mut self, persist: Persist) -> Result<(), WalError> {
        let sequence = persist.sequence;
        let Persist { hard_state, snapshot, truncate_from, entries, .. } = persist;
        let blob = snapshot.expect("checked by the caller");
        if self.wal.snapshot().is_none_or(|old| old.index < blob.index) {
            match self.write_snapshot(&blob, hard_state.clone()) {
                Err(WalError::NoSpace) if self.wal.use_reserve()? => {
                    self.write_snapshot(&blob, hard_state.clone())?;
                }
                other => other?,
            }
        }
        let rest = Persist {
            sequence,
            hard_state,
            truncate_from,
            entries,
            snapshot: None,
            reset_log: false,
            must_sync: true,
        };
        self.append_all(&[batch_of(rest)], sequence)
    }

    fn write_snapshot(&mut self, blob: &SnapshotBlob, hard_state: Option<Bytes>) -> Result<(), WalError> {
        let mut writer = self.wal.begin_snapshot(blob.index, blob.term)?;
        for chunk in join_snapshot(blob).chunks(wal::MAX_CHUNK) {
            writer.write(chunk)?;
        }
        self.wal.install_snapshot(writer.finish()?, hard_state)?;
        Ok(())
    }

    fn look_at_space(&mut self) {
        let space = match self.wal.space() {
            Space::Ok => SpaceState::Enough,
            Space::Low => SpaceState::Low,
            Space::Reserve => SpaceState::Exhausted,
        };
        if space != self.space {
            self.space = space;
            (self.report)(Written::Space(space));
        }
    }
}

fn batch_of(persist: Persist) -> Batch {
    let records = persist
        .entries
        .into_iter()
        .map(|e| Record { index: e.index, term: e.term, kind: e.kind, payload: e.payload })
        .collect();
    Batch {
        hard_state: persist.hard_state,
        truncate_from: persist.truncate_from,
        records,
        must_sync: persist.must_sync,
    }
}

/// A stored snapshot is the length of the membership, the membership, the state.
fn join_snapshot(blob: &SnapshotBlob) -> Bytes {
    let mut out = BytesMut::with_capacity(4 + blob.conf.len() + blob.bytes.len());
    out.put_u32_le(u32::try_from(blob.conf.len()).expect("a membership has a few hundred bytes"));
    out.put(blob.conf.clone());
    out.put(blob.bytes.clone());
    out.freeze()
}

fn split_snapshot(mut contents: Bytes) -> Option<(Bytes, Bytes)> {
    let length = contents.split_to_checked(4)?;
    let length = u32::from_le_bytes(length.as_ref().try_into().ok()?) as usize;
    let conf = contents.split_to_checked(length)?;
    Some((conf, contents))
}

trait SplitChecked: Sized {
    fn split_to_checked(&mut self, at: usize) -> Option<Self>;
}

impl SplitChecked for Bytes {
    fn split_to_checked(&mut self, at: usize) -> Option<Self> {
        (at <= self.len()).then(|| self.split_to(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_reads_back_and_a_cut_one_is_refused() {
        let blob = SnapshotBlob {
            index: 1,
            term: 1,
            conf: Bytes::from_static(b"conf"),
            bytes: Bytes::from_static(b"state"),
        };
        let stored = join_snapshot(&blob);
        assert_eq!(split_snapshot(stored.clone()), Some((blob.conf, blob.bytes)));
        assert_eq!(split_snapshot(stored.slice(..6)), None);
    }
}
