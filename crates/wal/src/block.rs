//! The 512-byte block: the unit in which the log can say "never written", "torn", "rotten" or "whole".
//!
//! A segment is filled with zeros before use, and no block is written twice with different contents (extent slots
//! aside). After a power cut a block of an unfinished write is therefore all zero, whole, or zero at one of its ends;
//! the first and the last byte of a written block are never zero. Decay looks different: both ends are set and the
//! checksum is wrong. That difference is what lets recovery cut a torn tail and refuse a damaged one, although both are
//! "the last batch does not check out". The checksum is seeded with log, segment and block number, so that a block
//! written to the wrong place is not whole there.

/// The smallest unit that storage writes in one piece.
pub(crate) const BLOCK: usize = 512;

/// Payload bytes in a block: all but two end marks, the sequence number and the checksum.
pub(crate) const BLOCK_DATA: usize = BLOCK - 10;

const HEAD: u8 = 0x5a;
const TAIL: u8 = 0xa5;
const DATA_AT: usize = 5;
const CRC_AT: usize = DATA_AT + BLOCK_DATA;

/// Where a block belongs.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) log_id: u64,
    pub(crate) segment: u64,
    pub(crate) block: u64,
}

impl Place {
    fn seed(self) -> u32 {
        let mixed = mix(mix(self.log_id ^ self.segment) ^ self.block);
        (mixed >> 32) as u32 ^ mixed as u32
    }
}

/// What a block of a segment turned out to be.
pub(crate) enum BlockState<'a> {
    /// All zero.
    Empty,
    /// Written in part: one end is still zero.
    Torn,
    /// Written once, and changed since.
    Rotten,
    /// As written, by the batch with this sequence number (its lower 32 bits).
    Whole { seq: u32, data: &'a [u8] },
}

/// Appends `data` to `out` as as many blocks as it takes, the first of which lies at `place`.
pub(crate) fn encode(out: &mut Vec<u8>, mut place: Place, seq: u32, data: &[u8]) {
    out.reserve(data.len().div_ceil(BLOCK_DATA) * BLOCK);
    for piece in data.chunks(BLOCK_DATA) {
        let start = out.len();
        out.push(HEAD);
        out.extend_from_slice(&seq.to_le_bytes());
        out.extend_from_slice(piece);
        out.resize(start + CRC_AT, 0);
        let crc = crc32c::crc32c_append(place.seed(), &out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.push(TAIL);
        place.block += 1;
    }
}

/// Judges one block.
pub(crate) fn decode(block: &[u8], place: Place) -> BlockState<'_> {
    if is_zero(block) {
        return BlockState::Empty;
    }
    if block[0] == 0 || block[BLOCK - 1] == 0 {
        return BlockState::Torn;
    }
    let stored = u32_at(block, CRC_AT);
    if block[0] != HEAD
        || block[BLOCK - 1] != TAIL
        || crc32c::crc32c_append(place.seed(), &block[..CRC_AT]) != stored
    {
        return BlockState::Rotten;
    }
    BlockState::Whole { seq: u32_at(block, 1), data: &block[DATA_AT..CRC_AT] }
}

/// Returns whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    bytes.chunks(BLOCK).all(|piece| *piece == ZEROS[..piece.len()])
}

/// Reads a little-endian number; the caller has checked the length.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a slice of four bytes"))
}

/// Reads a little-endian number; the caller has checked the length.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of eight bytes"))
}

/// Scatters 64 bits so that each input bit moves about half of the output bits (the finalizer of SplitMix64).
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
