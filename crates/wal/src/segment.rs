//! The layout of a segment file, and its header.
//!
//! ```text
//! byte 0      header: magic, format version, checksum of both (this much never changes), log id, segment number,
//!             length, and where it starts: sequence number and chain value of the batch before it
//! byte 4096   extent slot 0     each in a 4 KiB sector of its own, so that writing one cannot harm the other or a batch
//! byte 8192   extent slot 1
//! byte 12288  batches, each from a block of its own, then zeros
//! ```
//!
//! A segment that is full ends with an extent that says `continued`; its successor must exist, and starts from the same
//! chain value.

use crate::block::{BLOCK, u32_at, u64_at};
use crate::error::OpenError;

/// The newest storage format that this release reads, and the one that it writes.
pub const FORMAT_VERSION: u32 = 1;

/// Magic number of a segment file.
pub(crate) const SEGMENT_MAGIC: [u8; 8] = *b"ORCHWAL\n";

/// Bytes of magic, version and their checksum, the same in all formats.
pub(crate) const PREFIX: usize = 16;

/// First block that holds batches.
pub(crate) const DATA_BLOCK: u64 = 24;

/// The smallest segment: room for a few batches.
pub(crate) const MIN_SEGMENT: u64 = 32 << 10;

const HEADER_CRC_AT: usize = 56;

/// Returns the file name of a segment.
pub(crate) fn file_name(number: u64) -> String {
    format!("log-{number:012}")
}

/// Returns the number of a segment from its file name.
pub(crate) fn parse_name(name: &str) -> Option<u64> {
    let number = name.strip_prefix("log-")?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

/// Encodes the part of a file header that never changes.
pub(crate) fn encode_prefix(magic: [u8; 8]) -> [u8; PREFIX] {
    let mut prefix = [0; PREFIX];
    prefix[..8].copy_from_slice(&magic);
    prefix[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    let crc = crc32c::crc32c(&prefix[..12]);
    prefix[12..].copy_from_slice(&crc.to_le_bytes());
    prefix
}

/// Checks the part of a file header that never changes.
///
/// # Errors
/// `UnsupportedVersion` for a format newer than ours. A prefix that does not check out is `Ok(false)`: the caller
/// knows whether the file may be unfinished.
pub(crate) fn check_prefix(bytes: &[u8], magic: [u8; 8], file: &str) -> Result<bool, OpenError> {
    if bytes.len() < PREFIX || bytes[..8] != magic || crc32c::crc32c(&bytes[..12]) != u32_at(bytes, 12) {
        return Ok(false);
    }
    match u32_at(bytes, 8) {
        FORMAT_VERSION => Ok(true),
        0 => Ok(false),
        found => {
            Err(OpenError::UnsupportedVersion { file: file.to_owned(), found, supported: FORMAT_VERSION })
        }
    }
}

/// What stands in the first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log_id: u64,
    pub(crate) number: u64,
    pub(crate) blocks: u64,
    /// Sequence number of the last batch before this segment; 0 at the start of a log.
    pub(crate) base_seq: u64,
    /// Chain value after that batch.
    pub(crate) base_chain: u64,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; BLOCK] {
        let mut out = [0; BLOCK];
        out[..PREFIX].copy_from_slice(&encode_prefix(SEGMENT_MAGIC));
        let fields = [self.log_id, self.number, self.blocks, self.base_seq, self.base_chain];
        for (position, field) in fields.iter().enumerate() {
            out[PREFIX + position * 8..PREFIX + position * 8 + 8].copy_from_slice(&field.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[..HEADER_CRC_AT]);
        out[HEADER_CRC_AT..HEADER_CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Decodes a header whose prefix has been checked; `None` when it does not check out.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < BLOCK || crc32c::crc32c(&bytes[..HEADER_CRC_AT]) != u32_at(bytes, HEADER_CRC_AT) {
            return None;
        }
        let field = |position: usize| u64_at(bytes, PREFIX + position * 8);
        Some(Self {
            log_id: field(0),
            number: field(1),
            blocks: field(2),
            base_seq: field(3),
            base_chain: field(4),
        })
    }
}
