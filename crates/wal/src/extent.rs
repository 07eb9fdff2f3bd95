//! The extent record: how far the log is known to be durable, and the file of its own that it is kept in.
//!
//! The record lives in two places. A slot in the active segment is written together with the *next* batch, so it costs
//! nothing and lags by one batch. The file `extent` is written by `seal`, off the path of an acknowledgement, and at
//! open; it names the segment, so that it also notices a segment that is gone, or emptied, as a whole. Either place has
//! two slots that are written in turn, 4 KiB apart, so that a torn write of one leaves the other.

use std::io;
use std::sync::Arc;

use crate::block::{self, BLOCK, BlockState, Place, u64_at};
use crate::disk::{Disk, DiskFile, read_all};
use crate::error::OpenError;
use crate::scan::UNFINISHED;
use crate::segment::{PREFIX, check_prefix, encode_prefix};

/// Blocks of the two slots, in a segment and in the extent file alike.
pub(crate) const SLOT_BLOCKS: [u64; 2] = [8, 16];

/// Name of the extent file.
pub(crate) const EXTENT_FILE: &str = "extent";

/// Magic number of the extent file.
pub(crate) const EXTENT_MAGIC: [u8; 8] = *b"ORCHEXT\n";

const FILE_BLOCKS: usize = 24;
const HEADER: usize = PREFIX + 12;

/// Up to where the log is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Number of the segment that holds the batch.
    pub(crate) segment: u64,
    /// Sequence number of the last durable batch.
    pub(crate) seq: u64,
    /// The block after it.
    pub(crate) end_block: u64,
    /// Last index of the log at that point.
    pub(crate) last_index: u64,
    /// Chain value after it.
    pub(crate) chain: u64,
    /// No batch follows in this segment; the next one is in use.
    pub(crate) continued: bool,
}

impl Extent {
    /// Returns which slot of its segment takes this extent: batches alternate, and the closing extent, which repeats
    /// the sequence number of the last one, takes the other slot.
    pub(crate) fn slot(&self) -> usize {
        ((self.seq + u64::from(self.continued)) % 2) as usize
    }

    /// Writes the extent to its slot in the segment. The caller syncs.
    pub(crate) fn write_to_segment(&self, file: &dyn DiskFile, log_id: u64) -> io::Result<()> {
        self.write(file, Place { log_id, segment: self.segment, block: SLOT_BLOCKS[self.slot()] })
    }

    fn write(&self, file: &dyn DiskFile, place: Place) -> io::Result<()> {
        let mut data = Vec::with_capacity(48);
        let fields =
            [self.segment, self.seq, self.end_block, self.last_index, self.chain, u64::from(self.continued)];
        for field in fields {
            data.extend_from_slice(&field.to_le_bytes());
        }
        let mut out = Vec::with_capacity(BLOCK);
        block::encode(&mut out, place, self.seq as u32, &data);
        file.write_at(place.block * BLOCK as u64, &out)
    }

    fn decode(data: &[u8]) -> Self {
        Self {
            segment: u64_at(data, 0),
            seq: u64_at(data, 8),
            end_block: u64_at(data, 16),
            last_index: u64_at(data, 24),
            chain: u64_at(data, 32),
            continued: u64_at(data, 40) != 0,
        }
    }
}

/// Both slots of a segment or of the extent file.
#[derive(Default)]
pub(crate) struct Slots {
    /// The later of the two.
    pub(crate) latest: Option<Extent>,
    /// The slot that it is in.
    at: usize,
}

impl Slots {
    /// Reads both slots. `Err` when both were written and neither is whole: they are never written at the same time, so
    /// one of them has decayed.
    pub(crate) fn read(bytes: &[u8], log_id: u64, segment: u64) -> Result<Self, ()> {
        let mut slots = Self { latest: None, at: 1 };
        let mut broken = 0;
        for (at, block) in SLOT_BLOCKS.into_iter().enumerate() {
            let start = block as usize * BLOCK;
            match block::decode(&bytes[start..start + BLOCK], Place { log_id, segment, block }) {
                BlockState::Empty => {}
                BlockState::Torn | BlockState::Rotten => broken += 1,
                BlockState::Whole { data, .. } => {
                    let extent = Extent::decode(data);
                    let order = |extent: &Extent| (extent.seq, extent.continued);
                    if slots.latest.is_none_or(|latest| order(&extent) > order(&latest)) {
                        slots = Self { latest: Some(extent), at };
                    }
                }
            }
        }
        if broken == SLOT_BLOCKS.len() { Err(()) } else { Ok(slots) }
    }
}

/// What the extent file says.
pub(crate) enum ExtentFileState {
    Missing,
    /// It was written and does not check out.
    Wrong,
    Read {
        log_id: u64,
        slots: Slots,
    },
}

/// Reads the extent file.
pub(crate) fn read_file(disk: &dyn Disk) -> Result<ExtentFileState, OpenError> {
    let file = match disk.open(EXTENT_FILE) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ExtentFileState::Missing),
        Err(error) => return Err(OpenError::io("open", EXTENT_FILE)(error)),
    };
    let bytes = read_all(&*file).map_err(OpenError::io("read", EXTENT_FILE))?;
    let valid = check_prefix(&bytes, EXTENT_MAGIC, EXTENT_FILE)?
        && bytes.len() == FILE_BLOCKS * BLOCK
        && crc32c::crc32c(&bytes[..HEADER - 4]) == block::u32_at(&bytes, HEADER - 4);
    if !valid {
        return Ok(ExtentFileState::Wrong);
    }
    let log_id = u64_at(&bytes, PREFIX);
    Ok(match Slots::read(&bytes, log_id, 0) {
        Ok(slots) => ExtentFileState::Read { log_id, slots },
        Err(()) => ExtentFileState::Wrong,
    })
}

/// The extent file of an open log.
pub(crate) struct ExtentFile {
    file: Arc<dyn DiskFile>,
    log_id: u64,
    next_slot: usize,
}

impl ExtentFile {
    /// Creates the file for a new log, durably and in one piece; replaces what an unfinished creation left.
    pub(crate) fn create(disk: &dyn Disk, log_id: u64) -> io::Result<Self> {
        let mut bytes = vec![0; FILE_BLOCKS * BLOCK];
        bytes[..PREFIX].copy_from_slice(&encode_prefix(EXTENT_MAGIC));
        bytes[PREFIX..PREFIX + 8].copy_from_slice(&log_id.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..HEADER - 4]);
        bytes[HEADER - 4..HEADER].copy_from_slice(&crc.to_le_bytes());
        let part = format!("{EXTENT_FILE}{UNFINISHED}");
        let file = disk.create(&part)?;
        file.write_at(0, &bytes)?;
        file.sync()?;
        disk.rename(&part, EXTENT_FILE)?;
        disk.sync_dir()?;
        Ok(Self { file, log_id, next_slot: 0 })
    }

    /// Opens the file of an existing log, whose slots have been read.
    pub(crate) fn open(disk: &dyn Disk, log_id: u64, slots: &Slots) -> io::Result<Self> {
        Ok(Self { file: disk.open(EXTENT_FILE)?, log_id, next_slot: 1 - slots.at })
    }

    /// Writes and syncs an extent.
    pub(crate) fn record(&mut self, extent: &Extent) -> io::Result<()> {
        let block = SLOT_BLOCKS[self.next_slot];
        extent.write(&*self.file, Place { log_id: self.log_id, segment: 0, block })?;
        self.file.sync()?;
        self.next_slot = 1 - self.next_slot;
        Ok(())
    }
}
