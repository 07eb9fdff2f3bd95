//! Reading a data directory without changing it: what `Wal::open` starts from and what `check` reports on.
//!
//! # How a torn tail is told from damage
//! A batch is written and synced before the next one begins, so at most the last batch of the log may be unfinished.
//! Let N be the first batch that is not whole. It is a torn tail, never acknowledged, if all of these hold, and damage
//! otherwise:
//! - the extent record ends before N (it is written together with N + 1, or by `seal`, so it vouches only for batches
//!   whose sync has returned);
//! - no block of a later batch lies behind it;
//! - within N some block was never written, or in part only, as `block` can tell; no block has decayed;
//! - it lies in the last segment in use.
//!
//! So any decay of written bytes is found, in the very last batch too. What one sync per batch cannot tell is a last
//! batch of which the device lost whole sectors *after* it had reported them durable, from one that it never finished;
//! `seal` closes that gap as soon as the writer is idle.

use std::collections::BTreeMap;

use bytes::Bytes;
use planted::Bug;

use crate::batch::{Record, SnapshotMeta, TruncatedTail};
use crate::block::{self, BLOCK, BlockState, Place};
use crate::disk::{Disk, read_all, read_full};
use crate::error::OpenError;
use crate::extent::{self, EXTENT_FILE, EXTENT_MAGIC, Extent, ExtentFileState, Slots};
use crate::reader::SegmentReader;
use crate::record::{Op, decode_batch};
use crate::segment::{
    DATA_BLOCK, MIN_SEGMENT, PREFIX, SEGMENT_MAGIC, SegmentHeader, check_prefix, file_name, parse_name,
};
use crate::snapshot;
use crate::space::RESERVE_FILE;
use crate::state::LogState;

/// Suffix of files that were not finished; `open` removes them.
pub(crate) const UNFINISHED: &str = ".part";

/// A segment in use.
#[derive(Clone, Debug)]
pub(crate) struct SegmentInfo {
    pub(crate) number: u64,
    /// The greatest index of an entry in it that a reader may still need.
    pub(crate) max_index: u64,
}

/// The last segment in use.
pub(crate) struct ActiveScan {
    pub(crate) header: SegmentHeader,
    /// The block after the last whole batch.
    pub(crate) next_block: u64,
    /// The last whole batch, which the extent record may not cover yet: its first block and its bytes.
    pub(crate) last_batch: Option<(u64, Vec<u8>)>,
    /// What lies behind it.
    pub(crate) torn: Option<TruncatedTail>,
    /// The block after the last one that is not zero.
    pub(crate) torn_end: u64,
}

/// What a data directory holds.
#[derive(Default)]
pub(crate) struct Scan {
    pub(crate) log_id: u64,
    pub(crate) segments: Vec<SegmentInfo>,
    pub(crate) active: Option<ActiveScan>,
    /// The closing extent that the predecessor of the active segment lacks.
    pub(crate) unclosed: Option<Extent>,
    /// What the extent file says.
    pub(crate) sealed: Slots,
    /// A segment that is prepared and not in use: its number and length.
    pub(crate) spare: Option<(u64, u64)>,
    pub(crate) reserve: Option<u64>,
    /// Files that a crash left behind.
    pub(crate) junk: Vec<String>,
    pub(crate) state: LogState,
    pub(crate) entries: Vec<Record>,
    /// Sequence number and chain value of the last whole batch.
    pub(crate) seq: u64,
    pub(crate) chain: u64,
}

/// Reads a data directory.
pub(crate) fn scan(disk: &dyn Disk) -> Result<Scan, OpenError> {
    let names = disk.list().map_err(OpenError::io("list", "the data directory"))?;
    refuse_newer_formats(disk, &names)?;
    let mut scan = Scan::default();
    let mut numbers = Vec::new();
    let mut snapshots = BTreeMap::new();
    for name in names {
        if let Some(number) = parse_name(&name) {
            numbers.push(number);
        } else if let Some(meta) = snapshot::parse_name(&name) {
            snapshots.insert(meta, name);
        } else if name.ends_with(UNFINISHED) {
            scan.junk.push(name);
        } else if name == RESERVE_FILE {
            let file = disk.open(&name).map_err(OpenError::io("open", &name))?;
            scan.reserve = Some(file.len().map_err(OpenError::io("read", &name))?);
        }
    }
    scan.read_extent_file(disk, numbers.is_empty())?;
    scan.read_segments(disk, &numbers)?;
    scan.settle_snapshots(disk, snapshots)?;
    Ok(scan)
}

fn refuse_newer_formats(disk: &dyn Disk, names: &[String]) -> Result<(), OpenError> {
    for name in names {
        let magic = match (parse_name(name), snapshot::parse_name(name)) {
            (Some(_), _) => SEGMENT_MAGIC,
            (_, Some(_)) => snapshot::SNAPSHOT_MAGIC,
            _ if name == EXTENT_FILE => EXTENT_MAGIC,
            _ => continue,
        };
        let file = disk.open(name).map_err(OpenError::io("open", name))?;
        let mut prefix = [0; PREFIX];
        let filled = read_full(&*file, 0, &mut prefix).map_err(OpenError::io("read", name))?;
        check_prefix(&prefix[..filled], magic, name)?;
    }
    Ok(())
}

impl Scan {
    fn damaged(&self, file: &str, block: u64, what: impl Into<String>) -> OpenError {
        OpenError::Damaged {
            what: what.into(),
            file: file.to_owned(),
            offset: block * BLOCK as u64,
            index: (self.state.last > 0).then_some(self.state.last),
        }
    }

    /// Reads how far the log must reach. A log without this file was not created to its end.
    fn read_extent_file(&mut self, disk: &dyn Disk, new: bool) -> Result<(), OpenError> {
        match extent::read_file(disk)? {
            ExtentFileState::Missing if new => Ok(()),
            ExtentFileState::Missing => Err(self.damaged(EXTENT_FILE, 0, "the extent record is missing")),
            ExtentFileState::Wrong => Err(self.damaged(EXTENT_FILE, 0, "the extent record is wrong")),
            ExtentFileState::Read { slots, .. } if new && slots.latest.is_some() => {
                Err(self.damaged(&file_name(1), 0, "the log is missing"))
            }
            ExtentFileState::Read { log_id, slots } => {
                self.log_id = log_id;
                self.sealed = slots;
                Ok(())
            }
        }
    }

    fn read_segments(&mut self, disk: &dyn Disk, numbers: &[u64]) -> Result<(), OpenError> {
        let mut former: Option<(Extent, bool)> = None;
        for (position, number) in numbers.iter().copied().enumerate() {
            let name = file_name(number);
            if position > 0 && number != numbers[position - 1] + 1 {
                return Err(self.damaged(&file_name(numbers[position - 1] + 1), 0, "the segment is missing"));
            }
            let file = disk.open(&name).map_err(OpenError::io("open", &name))?;
            let bytes = read_all(&*file).map_err(OpenError::io("read", &name))?;
            let header = if check_prefix(&bytes, SEGMENT_MAGIC, &name)? {
                SegmentHeader::decode(&bytes)
            } else {
                None
            };
            let Some(header) = header else {
                let last = position + 1 == numbers.len();
                self.accept_spare(&name, number, &bytes, last && former.is_some_and(|former| !former.1))?;
                break;
            };
            if self.active.as_ref().is_some_and(|active| active.torn.is_some()) {
                let torn = self.active.take().and_then(|active| active.torn).expect("just seen");
                return Err(self.damaged(
                    &torn.file,
                    torn.offset / BLOCK as u64,
                    "a batch in a full segment is torn",
                ));
            }
            self.check_header(&name, &header, number, bytes.len() as u64, position == 0)?;
            let closed = self.read_segment(&name, header, &bytes)?;
            self.unclosed = former.filter(|former| !former.1).map(|former| former.0);
            let active = self.active.as_ref().expect("read_segment sets it");
            let closing = Extent {
                segment: number,
                seq: self.seq,
                end_block: active.next_block,
                last_index: self.state.last,
                chain: self.chain,
                continued: true,
            };
            former = Some((closing, closed));
        }
        match (&self.active, former) {
            (Some(_), Some((closing, true))) => {
                Err(self.damaged(&file_name(closing.segment + 1), 0, "the segment is missing"))
            }
            (Some(active), _) if self.misses(self.sealed.latest) => {
                let name = file_name(active.header.number);
                Err(self.damaged(&name, active.next_block, "durable batches are missing"))
            }
            _ => Ok(()),
        }
    }

    /// Decides whether a file without a valid header is a prepared segment. A segment gets a batch only after both its
    /// header and the closing extent of its predecessor are durable; so without either nothing was acknowledged in it,
    /// and what it holds does not matter unless it is a block of a batch after all.
    fn accept_spare(&mut self, name: &str, number: u64, bytes: &[u8], unused: bool) -> Result<(), OpenError> {
        let whole = |(block, piece): (usize, &[u8])| {
            let place = Place { log_id: self.log_id, segment: number, block: block as u64 };
            piece.len() == BLOCK && matches!(block::decode(piece, place), BlockState::Whole { .. })
        };
        if !unused || bytes.chunks(BLOCK).enumerate().any(whole) {
            return Err(self.damaged(name, 0, "the header of a segment in use is wrong"));
        }
        if block::is_zero(bytes) {
            self.spare = Some((number, bytes.len() as u64));
        } else {
            self.junk.push(name.to_owned());
        }
        Ok(())
    }

    fn check_header(
        &mut self,
        name: &str,
        header: &SegmentHeader,
        number: u64,
        length: u64,
        first: bool,
    ) -> Result<(), OpenError> {
        if first {
            self.seq = header.base_seq;
            self.chain = header.base_chain;
        }
        if header.log_id != self.log_id || header.number != number {
            return Err(self.damaged(name, 0, "the segment belongs to another log or place"));
        }
        if header.blocks.checked_mul(BLOCK as u64) != Some(length) || length < MIN_SEGMENT {
            return Err(self.damaged(name, 0, format!("the segment has {length} bytes, not its own length")));
        }
        if header.base_seq != self.seq || header.base_chain != self.chain {
            return Err(self.damaged(name, 0, "batches are missing before this segment"));
        }
        Ok(())
    }

    /// Reads one segment; returns whether it is closed.
    fn read_segment(&mut self, name: &str, header: SegmentHeader, bytes: &[u8]) -> Result<bool, OpenError> {
        let extent = Slots::read(bytes, self.log_id, header.number)
            .map_err(|()| self.damaged(name, DATA_BLOCK, "both extent records are wrong"))?
            .latest;
        self.segments.push(SegmentInfo { number: header.number, max_index: 0 });
        let mut reader = SegmentReader::new(bytes, header);
        let mut last_batch = None;
        self.check_extent(name, &reader, extent)?;
        loop {
            let start = reader.block;
            let batch = match reader.next_batch(self.seq + 1) {
                Err(_) if planted::is(Bug::DamageCutOff) => None,
                read => read.map_err(|(block, what)| self.damaged(name, block, what))?,
            };
            match batch {
                Some((stream, records)) => {
                    self.replay(&stream, records).map_err(|what| self.damaged(name, start, what))?;
                    last_batch = Some((start, reader.raw(start, reader.block)));
                    self.check_extent(name, &reader, extent)?;
                }
                None => break,
            }
        }
        if self.misses(extent) {
            return Err(self.damaged(name, reader.block, "durable batches are missing"));
        }
        let (written, torn_end) = match reader.judge_tail(self.seq + 1) {
            Err(_) if planted::is(Bug::DamageCutOff) => (1, reader.header.blocks),
            judged => judged.map_err(|(block, what)| self.damaged(name, block, what))?,
        };
        let offset = reader.block * BLOCK as u64;
        let torn = (written > 0).then(|| TruncatedTail { file: name.to_owned(), offset, blocks: written });
        self.active = Some(ActiveScan { header, next_block: reader.block, last_batch, torn, torn_end });
        Ok(extent.is_some_and(|extent| extent.continued))
    }

    /// Whether an extent vouches for batches that were not read.
    fn misses(&self, extent: Option<Extent>) -> bool {
        extent.is_some_and(|extent| extent.seq > self.seq) && !planted::is(Bug::DamageCutOff)
    }

    /// Compares what is read so far with the extents that end just here.
    fn check_extent(
        &self,
        name: &str,
        reader: &SegmentReader<'_>,
        extent: Option<Extent>,
    ) -> Result<(), OpenError> {
        let here = (reader.header.number, reader.block, self.chain);
        let differs = |extent: &Extent| {
            extent.seq == self.seq && (extent.segment, extent.end_block, extent.chain) != here
        };
        // A new segment begins where its predecessor ends: the sequence number alone does not tell the two apart.
        let sealed = self.sealed.latest.filter(|extent| extent.segment == reader.header.number);
        if extent.iter().chain(&sealed).any(differs) {
            return Err(self.damaged(name, reader.block, "the log does not match its extent record"));
        }
        Ok(())
    }

    fn replay(&mut self, stream: &Bytes, records: u32) -> Result<(), &'static str> {
        let (ops, chain) = decode_batch(stream, records, self.chain)?;
        for op in ops {
            self.state.apply(&op)?;
            match op {
                Op::Entry(record) => {
                    let segment = self.segments.last_mut().expect("a segment is being read");
                    segment.max_index = segment.max_index.max(record.index);
                    self.entries.push(record);
                }
                Op::Truncate(from) => {
                    let keep = self.entries.partition_point(|record| record.index < from);
                    self.entries.truncate(keep);
                }
                Op::Snapshot { reset: true, .. } => {
                    self.entries.clear();
                    self.segments.iter_mut().for_each(|segment| segment.max_index = 0);
                }
                Op::Snapshot { mark, reset: false } => {
                    let covered = self.entries.partition_point(|record| record.index <= mark.meta.index);
                    self.entries.drain(..covered);
                }
                Op::Base { .. } | Op::HardState(_) => {}
            }
        }
        self.seq += 1;
        self.chain = chain;
        Ok(())
    }

    fn settle_snapshots(
        &mut self,
        disk: &dyn Disk,
        mut snapshots: BTreeMap<SnapshotMeta, String>,
    ) -> Result<(), OpenError> {
        if self.segments.is_empty() {
            return match snapshots.into_values().next() {
                Some(name) => Err(self.damaged(&name, 0, "there is a snapshot and no log")),
                None => Ok(()),
            };
        }
        if let Some(what) = self.state.gap() {
            return Err(self.damaged(&file_name(self.segments[0].number), DATA_BLOCK, what));
        }
        if let Some(mark) = self.state.snapshot {
            snapshots.remove(&mark.meta);
            snapshot::verify(disk, self.log_id, mark)?;
            self.entries.retain(|record| record.index > mark.meta.index);
        }
        self.junk.extend(snapshots.into_values());
        Ok(())
    }
}
