//! Snapshot files: streamed in checksummed chunks, renamed into place when whole, then recorded in the log.
//!
//! ```text
//! header   magic, format version, checksum of both; log id, index, term, CRC32C
//! chunk    length u32 (1 to 256 KiB), CRC32C over number and data, data
//! trailer  length 0, CRC32C, number of chunks, bytes, digest over all chunks
//! ```
//!
//! Writer and reader hold the disk, not the log: a snapshot is written or sent on another thread while batches go on.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::SnapshotMeta;
use crate::block::{mix, u32_at, u64_at};
use crate::disk::{Disk, DiskFile, is_no_space, read_full};
use crate::error::{OpenError, WalError};
use crate::poison::Poison;
use crate::record::SnapshotMark;
use crate::scan::UNFINISHED;
use crate::segment::{PREFIX, check_prefix, encode_prefix};

/// The largest chunk: the bound that the wire has too, so that a chunk read here is a chunk sent.
pub const MAX_CHUNK: usize = 256 << 10;

/// Magic number of a snapshot file.
pub(crate) const SNAPSHOT_MAGIC: [u8; 8] = *b"ORCHSNP\n";

const HEADER: usize = PREFIX + 28;
const CHUNK_HEADER: usize = 8;
const TRAILER: usize = CHUNK_HEADER + 24;

/// Returns the file name of a snapshot.
pub(crate) fn file_name(meta: SnapshotMeta) -> String {
    format!("snap-{:020}-{:020}", meta.index, meta.term)
}

/// Returns index and term from the file name of a snapshot.
pub(crate) fn parse_name(name: &str) -> Option<SnapshotMeta> {
    let (index, term) = name.strip_prefix("snap-")?.split_once('-')?;
    let meta = SnapshotMeta { index: index.parse().ok()?, term: term.parse().ok()? };
    (file_name(meta) == name).then_some(meta)
}

fn chunk_crc(number: u64, data: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), data)
}

/// Counts what went through, for the trailer and the mark in the log.
#[derive(Clone, Copy)]
struct Tally {
    chunks: u64,
    bytes: u64,
    digest: u64,
}

impl Tally {
    fn start(log_id: u64, meta: SnapshotMeta) -> Self {
        Self { chunks: 0, bytes: 0, digest: mix(mix(log_id ^ meta.index) ^ meta.term) }
    }

    fn add(&mut self, crc: u32, length: usize) {
        self.chunks += 1;
        self.bytes += length as u64;
        self.digest = mix(self.digest ^ u64::from(crc) ^ ((length as u64) << 32));
    }

    fn encode(&self) -> [u8; 24] {
        let mut out = [0; 24];
        out[..8].copy_from_slice(&self.chunks.to_le_bytes());
        out[8..16].copy_from_slice(&self.bytes.to_le_bytes());
        out[16..].copy_from_slice(&self.digest.to_le_bytes());
        out
    }
}

/// A snapshot that is being written. Dropped before `finish`, it leaves nothing behind.
pub struct SnapshotWriter {
    disk: Arc<dyn Disk>,
    poison: Poison,
    file: Arc<dyn DiskFile>,
    part: String,
    meta: SnapshotMeta,
    offset: u64,
    tally: Tally,
    finished: bool,
}

/// A snapshot that is whole and durable under its name, and not yet part of the log: hand it to
/// `Wal::install_snapshot`.
#[derive(Debug)]
#[must_use = "a finished snapshot counts once the log has recorded it"]
pub struct FinishedSnapshot {
    pub(crate) mark: SnapshotMark,
}

impl FinishedSnapshot {
    /// Returns index and term of the last entry in it.
    pub fn meta(&self) -> SnapshotMeta {
        self.mark.meta
    }

    /// Returns the size of its contents in bytes.
    pub fn bytes(&self) -> u64 {
        self.mark.bytes
    }
}

impl SnapshotWriter {
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        poison: Poison,
        log_id: u64,
        meta: SnapshotMeta,
        attempt: u64,
    ) -> Result<Self, WalError> {
        let part = format!("{}-{attempt}{UNFINISHED}", file_name(meta));
        let file = disk.create(&part).map_err(|source| refuse(&poison, "create", &part, source))?;
        let tally = Tally::start(log_id, meta);
        let mut writer = Self { disk, poison, file, part, meta, offset: 0, tally, finished: false };
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(&encode_prefix(SNAPSHOT_MAGIC));
        for field in [log_id, meta.index, meta.term] {
            header.extend_from_slice(&field.to_le_bytes());
        }
        header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
        writer.put(&header)?;
        Ok(writer)
    }

    /// Appends contents, as chunks of at most [`MAX_CHUNK`] bytes. Nothing is durable before `finish`.
    ///
    /// # Errors
    /// `NoSpace`: give this snapshot up and try later; the log is intact. `Io`: the log is poisoned.
    pub fn write(&mut self, data: &[u8]) -> Result<(), WalError> {
        self.poison.check()?;
        for piece in data.chunks(MAX_CHUNK) {
            let crc = chunk_crc(self.tally.chunks, piece);
            let mut chunk = Vec::with_capacity(CHUNK_HEADER + piece.len());
            chunk.extend_from_slice(&(piece.len() as u32).to_le_bytes());
            chunk.extend_from_slice(&crc.to_le_bytes());
            chunk.extend_from_slice(piece);
            self.put(&chunk)?;
            self.tally.add(crc, piece.len());
        }
        Ok(())
    }

    /// Makes the snapshot durable under its name: sync, rename, directory sync.
    ///
    /// # Errors
    /// As for `write`.
    pub fn finish(mut self) -> Result<FinishedSnapshot, WalError> {
        self.poison.check()?;
        let tally = self.tally.encode();
        let mut trailer = vec![0; CHUNK_HEADER];
        trailer[4..].copy_from_slice(&chunk_crc(self.tally.chunks, &tally).to_le_bytes());
        trailer.extend_from_slice(&tally);
        self.put(&trailer)?;
        let name = file_name(self.meta);
        self.file.sync().map_err(|source| refuse(&self.poison, "sync", &self.part, source))?;
        self.disk
            .rename(&self.part, &name)
            .map_err(|source| refuse(&self.poison, "rename", &self.part, source))?;
        self.finished = true;
        self.disk
            .sync_dir()
            .map_err(|source| refuse(&self.poison, "sync the directory of", &name, source))?;
        let mark = SnapshotMark { meta: self.meta, bytes: self.tally.bytes, digest: self.tally.digest };
        Ok(FinishedSnapshot { mark })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), WalError> {
        self.file
            .write_at(self.offset, bytes)
            .map_err(|source| refuse(&self.poison, "write", &self.part, source))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if !self.finished {
            self.disk.remove(&self.part).ok();
        }
    }
}

/// A full disk is clean here, because the unfinished file is thrown away whole; anything else is not.
fn refuse(poison: &Poison, action: &'static str, file: &str, source: io::Error) -> WalError {
    if is_no_space(&source) { WalError::NoSpace } else { poison.fail(action, file, source) }
}

/// Streams the contents of the latest snapshot, each chunk checked. It stays readable when a newer snapshot takes its
/// place meanwhile.
pub struct SnapshotReader {
    file: Arc<dyn DiskFile>,
    name: String,
    mark: SnapshotMark,
    offset: u64,
    tally: Tally,
    done: bool,
}

impl SnapshotReader {
    pub(crate) fn open(disk: &dyn Disk, log_id: u64, mark: SnapshotMark) -> Result<Self, WalError> {
        let name = file_name(mark.meta);
        let file = disk.open(&name).map_err(|source| WalError::io("open", &name, source))?;
        let tally = Tally::start(log_id, mark.meta);
        let mut reader = Self { file, name, mark, offset: 0, tally, done: false };
        let header = reader.take(HEADER)?;
        let fields = [log_id, mark.meta.index, mark.meta.term];
        let valid = matches!(check_prefix(&header, SNAPSHOT_MAGIC, &reader.name), Ok(true))
            && crc32c::crc32c(&header[..HEADER - 4]) == u32_at(&header, HEADER - 4)
            && fields.iter().enumerate().all(|(at, field)| u64_at(&header, PREFIX + at * 8) == *field);
        if valid { Ok(reader) } else { Err(reader.damaged("the header is wrong")) }
    }

    /// Returns index and term of the last entry in the snapshot.
    pub fn meta(&self) -> SnapshotMeta {
        self.mark.meta
    }

    /// Returns the size of the contents in bytes.
    pub fn bytes(&self) -> u64 {
        self.mark.bytes
    }

    /// Returns the next chunk, at most [`MAX_CHUNK`] bytes; `None` once all of it was read and the whole is right.
    ///
    /// # Errors
    /// `DamagedSnapshot` or `Io`: what was read so far must not be used.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, WalError> {
        if self.done {
            return Ok(None);
        }
        let header = self.take(CHUNK_HEADER)?;
        let (length, crc) = (u32_at(&header, 0) as usize, u32_at(&header, 4));
        if length == 0 {
            return self.end(crc).map(|()| None);
        }
        if length > MAX_CHUNK {
            return Err(self.damaged("a chunk is longer than any is written"));
        }
        let data = self.take(length)?;
        if chunk_crc(self.tally.chunks, &data) != crc {
            return Err(self.damaged("the checksum of a chunk is wrong"));
        }
        self.tally.add(crc, length);
        Ok(Some(Bytes::from(data)))
    }

    fn end(&mut self, crc: u32) -> Result<(), WalError> {
        let trailer = self.take(TRAILER - CHUNK_HEADER)?;
        if trailer != self.tally.encode() || chunk_crc(self.tally.chunks, &trailer) != crc {
            return Err(self.damaged("the trailer is wrong"));
        }
        if (self.tally.bytes, self.tally.digest) != (self.mark.bytes, self.mark.digest) {
            return Err(self.damaged("the file is not the one that the log recorded"));
        }
        self.done = true;
        Ok(())
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>, WalError> {
        let mut bytes = vec![0; length];
        let filled = read_full(&*self.file, self.offset, &mut bytes)
            .map_err(|source| WalError::io("read", &self.name, source))?;
        if filled < length {
            return Err(self.damaged("the file is cut short"));
        }
        self.offset += length as u64;
        Ok(bytes)
    }

    fn damaged(&self, what: &'static str) -> WalError {
        WalError::DamagedSnapshot { what, file: self.name.clone(), offset: self.offset }
    }
}

/// Reads a whole snapshot and compares it with what the log recorded.
pub(crate) fn verify(disk: &dyn Disk, log_id: u64, mark: SnapshotMark) -> Result<(), OpenError> {
    let result = SnapshotReader::open(disk, log_id, mark).and_then(|mut reader| {
        while reader.next_chunk()?.is_some() {}
        Ok(())
    });
    let index = Some(mark.meta.index);
    match result {
        Ok(()) => Ok(()),
        Err(WalError::Io { file, source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Err(OpenError::Damaged {
                what: "the snapshot is missing".to_owned(),
                file,
                offset: 0,
                index: None,
            })
        }
        Err(WalError::DamagedSnapshot { what, file, offset }) => Err(OpenError::Damaged {
            what: what.to_owned(),
            file,
            offset,
            index: index.map(|index| index - 1),
        }),
        Err(WalError::Io { action, file, source }) => Err(OpenError::Io { action, file, source }),
        Err(error) => Err(OpenError::Io {
            action: "verify",
            file: file_name(mark.meta),
            source: io::Error::other(error),
        }),
    }
}
