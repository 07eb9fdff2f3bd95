//! Records and the batch that carries them, as bytes.
//!
//! A batch is a 16-byte header (length, number of records, sequence number) and its records, cut into blocks. A record
//! is 36 bytes and the payload: length u32, type u8, entry kind u8, two zero bytes, index u64, term u64, CRC32C over
//! all of these and the payload, chain u64. Little-endian throughout.
//!
//! The chain of a record is a 64-bit mix of its predecessor's chain, its CRC and its length. It pins the whole history
//! since the log's creation to one number: a record from an earlier life of the file has a valid CRC but no valid
//! chain. A CRC over the former CRC would not do: 32 bits are few for a number that the extent record vouches for, and
//! a CRC is linear, so that two changes can cancel out further down the chain.

use bytes::Bytes;

use crate::batch::{Record, SnapshotMeta};
use crate::block::{mix, u32_at, u64_at};

const RECORD_HEADER: usize = 36;
pub(crate) const BATCH_HEADER: usize = 16;
const CRC_AT: usize = 24;
const CHAIN_AT: usize = 28;

const ENTRY: u8 = 1;
const HARD_STATE: u8 = 2;
const TRUNCATE: u8 = 3;
const SNAPSHOT: u8 = 4;
const BASE: u8 = 5;

/// One step of the log's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Entry(Record),
    HardState(Bytes),
    /// Drop all entries from this index on.
    Truncate(u64),
    /// This snapshot is durable and takes the place of all entries up to its own index; with `reset` also of those
    /// after it.
    Snapshot {
        mark: SnapshotMark,
        reset: bool,
    },
    /// First record of a segment: the last entry before it, so that older segments may be removed.
    Base {
        index: u64,
        term: u64,
    },
}

/// A snapshot as the log remembers it: enough to tell that the file is the very one that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotMark {
    pub(crate) meta: SnapshotMeta,
    pub(crate) bytes: u64,
    pub(crate) digest: u64,
}

/// Returns the chain value that a new log starts from.
pub(crate) fn chain_start(log_id: u64) -> u64 {
    mix(log_id)
}

fn chain_next(chain: u64, crc: u32, length: u32) -> u64 {
    mix(chain ^ u64::from(crc) ^ (u64::from(length) << 32))
}

/// Returns how many bytes of a batch an operation takes.
pub(crate) fn encoded_len(op: &Op) -> usize {
    RECORD_HEADER
        + match op {
            Op::Entry(record) => record.payload.len(),
            Op::HardState(state) => state.len(),
            Op::Truncate(_) | Op::Base { .. } => 0,
            Op::Snapshot { .. } => 16,
        }
}

/// Encodes one batch into `out` and returns the chain value after it.
pub(crate) fn encode_batch(out: &mut Vec<u8>, seq: u64, mut chain: u64, ops: &[&Op]) -> u64 {
    let length: usize = ops.iter().map(|op| encoded_len(op)).sum();
    out.extend_from_slice(&u32::try_from(length).expect("a batch fits a segment").to_le_bytes());
    out.extend_from_slice(&u32::try_from(ops.len()).expect("a batch fits a segment").to_le_bytes());
    out.extend_from_slice(&seq.to_le_bytes());
    for op in ops {
        chain = encode_op(out, chain, op);
    }
    chain
}

fn encode_op(out: &mut Vec<u8>, chain: u64, op: &Op) -> u64 {
    match op {
        Op::Entry(record) => {
            encode_record(out, chain, (ENTRY, record.kind), record.index, record.term, &record.payload)
        }
        Op::HardState(state) => encode_record(out, chain, (HARD_STATE, 0), 0, 0, state),
        Op::Truncate(from) => encode_record(out, chain, (TRUNCATE, 0), *from, 0, &[]),
        Op::Snapshot { mark, reset } => {
            let mut payload = [0; 16];
            payload[..8].copy_from_slice(&mark.bytes.to_le_bytes());
            payload[8..].copy_from_slice(&mark.digest.to_le_bytes());
            encode_record(out, chain, (SNAPSHOT, u8::from(*reset)), mark.meta.index, mark.meta.term, &payload)
        }
        Op::Base { index, term } => encode_record(out, chain, (BASE, 0), *index, *term, &[]),
    }
}

fn encode_record(
    out: &mut Vec<u8>,
    chain: u64,
    kind: (u8, u8),
    index: u64,
    term: u64,
    payload: &[u8],
) -> u64 {
    let start = out.len();
    let length = u32::try_from(payload.len()).expect("payloads are bounded by MAX_RECORD");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[kind.0, kind.1, 0, 0]);
    out.extend_from_slice(&index.to_le_bytes());
    out.extend_from_slice(&term.to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out[start..]), payload);
    let chain = chain_next(chain, crc, length);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&chain.to_le_bytes());
    out.extend_from_slice(payload);
    chain
}

/// The header of a batch, read from its first block.
pub(crate) struct BatchHeader {
    pub(crate) length: usize,
    pub(crate) records: u32,
    pub(crate) seq: u64,
}

impl BatchHeader {
    pub(crate) fn decode(data: &[u8]) -> Self {
        Self { length: u32_at(data, 0) as usize, records: u32_at(data, 4), seq: u64_at(data, 8) }
    }
}

/// Decodes the records of a batch and returns them with the chain value after them.
///
/// # Errors
/// What is wrong, in words: the blocks were whole, so this is damage or a bug, never a torn write.
pub(crate) fn decode_batch(
    stream: &Bytes,
    records: u32,
    mut chain: u64,
) -> Result<(Vec<Op>, u64), &'static str> {
    let mut ops = Vec::new();
    let mut at = 0;
    while at < stream.len() {
        if stream.len() - at < RECORD_HEADER {
            return Err("a record is cut short");
        }
        let header = &stream[at..at + RECORD_HEADER];
        let length = u32_at(header, 0);
        let end = at + RECORD_HEADER + length as usize;
        if end > stream.len() {
            return Err("a record reaches beyond its batch");
        }
        let payload = stream.slice(at + RECORD_HEADER..end);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..CRC_AT]), &payload);
        if crc != u32_at(header, CRC_AT) {
            return Err("the checksum of a record is wrong");
        }
        chain = chain_next(chain, crc, length);
        if chain != u64_at(header, CHAIN_AT) {
            return Err("a record does not follow from its predecessor");
        }
        ops.push(decode_op(header, payload)?);
        at = end;
    }
    if ops.len() != records as usize {
        return Err("a batch has another number of records than its header says");
    }
    Ok((ops, chain))
}

fn decode_op(header: &[u8], payload: Bytes) -> Result<Op, &'static str> {
    let (index, term) = (u64_at(header, 8), u64_at(header, 16));
    match header[4] {
        ENTRY => Ok(Op::Entry(Record { index, term, kind: header[5], payload })),
        HARD_STATE => Ok(Op::HardState(payload)),
        TRUNCATE => Ok(Op::Truncate(index)),
        BASE => Ok(Op::Base { index, term }),
        SNAPSHOT if payload.len() == 16 => Ok(Op::Snapshot {
            mark: SnapshotMark {
                meta: SnapshotMeta { index, term },
                bytes: u64_at(&payload, 0),
                digest: u64_at(&payload, 8),
            },
            reset: header[5] != 0,
        }),
        _ => Err("a record has an unknown type"),
    }
}
