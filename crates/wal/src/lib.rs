//! The managers' Raft log, hard state and snapshots on disk: checksummed, chained, group-committed.
//!
//! In: batches of opaque records with index and term, opaque hard states, streams of snapshot bytes. Out: the promise
//! that what `append` accepted is there after a power cut, or that `open` says that it is damaged. Nothing here knows
//! Raft, time, threads or the network; all I/O goes through [`Disk`], which a simulator can implement.
//!
//! # One sync per batch
//! Hard state and entries of a batch are one write and one `fdatasync` into blocks that exist already. The extent
//! record, which says how far the log is known to be durable, rides along with the *next* batch, or is written by
//! [`Wal::seal`] when the writer is idle: had it a sync of its own before each acknowledgement, every commit would cost
//! two; and were it written together with the batch that it speaks of, a power cut in the middle could leave the claim
//! without the data, and an honest torn tail would look like damage. For the one batch that it does not cover yet,
//! the format itself tells a torn write from decay: see `scan` and `block`.
//!
//! # Reading order
//! `disk` (the border), `batch` and `error` (what goes in and out), `block`, `record` and `segment` (the format, from
//! small to large), `extent`, `state`, `reader` and `scan` (recovery), `open`, `wal`, `space` and `fill`, `snapshot`, `check`.

mod batch;
mod block;
mod check;
mod disk;
mod error;
mod extent;
mod file_disk;
mod fill;
mod mem_disk;
mod open;
mod options;
mod poison;
mod reader;
mod record;
mod scan;
mod segment;
#[cfg(test)]
mod sequences;
mod snapshot;
mod space;
mod state;
mod wal;

pub use batch::{Batch, MAX_RECORD, Record, Recovered, SnapshotMeta, TruncatedTail};
pub use check::{CheckReport, check};
pub use disk::{Disk, DiskFile};
pub use error::{OpenError, WalError};
pub use file_disk::FileDisk;
pub use mem_disk::MemDisk;
pub use options::Options;
pub use segment::FORMAT_VERSION;
pub use snapshot::{FinishedSnapshot, MAX_CHUNK, SnapshotReader, SnapshotWriter};
pub use space::{RESERVE_FILE, Space, Tended};
pub use wal::Wal;
