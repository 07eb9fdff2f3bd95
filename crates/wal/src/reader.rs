//! Cutting a segment into batches, and judging what lies behind the last whole one.

use bytes::Bytes;

use crate::block::{self, BLOCK, BLOCK_DATA, BlockState, Place};
use crate::record::{BATCH_HEADER, BatchHeader};
use crate::segment::{DATA_BLOCK, SegmentHeader};

/// Cuts the blocks of one segment into batches.
pub(crate) struct SegmentReader<'a> {
    bytes: &'a [u8],
    pub(crate) header: SegmentHeader,
    /// The block after the last batch that was read.
    pub(crate) block: u64,
}

impl<'a> SegmentReader<'a> {
    pub(crate) fn new(bytes: &'a [u8], header: SegmentHeader) -> Self {
        Self { bytes, header, block: DATA_BLOCK }
    }

    fn state(&self, block: u64) -> BlockState<'a> {
        let place = Place { log_id: self.header.log_id, segment: self.header.number, block };
        let at = block as usize * BLOCK;
        block::decode(&self.bytes[at..at + BLOCK], place)
    }

    /// Returns blocks as they are.
    pub(crate) fn raw(&self, from: u64, to: u64) -> Vec<u8> {
        self.bytes[from as usize * BLOCK..to as usize * BLOCK].to_vec()
    }

    fn data(&self, block: u64, seq: u64) -> Option<&'a [u8]> {
        match self.state(block) {
            BlockState::Whole { seq: found, data } if found == seq as u32 => Some(data),
            _ => None,
        }
    }

    /// Returns the records of the next batch when all of its blocks are whole; the tail begins where it is not.
    pub(crate) fn next_batch(&mut self, seq: u64) -> Result<Option<(Bytes, u32)>, (u64, &'static str)> {
        if self.block >= self.header.blocks {
            return Ok(None);
        }
        let Some(first) = self.data(self.block, seq) else { return Ok(None) };
        let header = BatchHeader::decode(first);
        let end = self.block + ((BATCH_HEADER + header.length).div_ceil(BLOCK_DATA)) as u64;
        if header.seq != seq || end > self.header.blocks {
            return Err((self.block, "the header of a batch makes no sense"));
        }
        let mut stream = Vec::with_capacity((end - self.block) as usize * BLOCK_DATA);
        let mut torn = false;
        for block in self.block..end {
            match self.state(block) {
                BlockState::Whole { seq: found, data } if found == seq as u32 => {
                    stream.extend_from_slice(data)
                }
                BlockState::Empty | BlockState::Torn => torn = true,
                BlockState::Rotten | BlockState::Whole { .. } => {
                    return Err((block, "a block of a batch has changed since it was written"));
                }
            }
        }
        if torn {
            return Ok(None);
        }
        self.block = end;
        stream.truncate(BATCH_HEADER + header.length);
        Ok(Some((Bytes::from(stream).slice(BATCH_HEADER..), header.records)))
    }

    /// Judges all that follows the last whole batch; returns how many blocks are not zero, and the end of the last one.
    pub(crate) fn judge_tail(&self, seq: u64) -> Result<(u64, u64), (u64, &'static str)> {
        let (mut written, mut end) = (0, self.block);
        for block in self.block..self.header.blocks {
            match self.state(block) {
                BlockState::Empty => continue,
                BlockState::Torn => {}
                BlockState::Whole { seq: found, .. } if found == seq as u32 => {}
                BlockState::Whole { .. } => return Err((self.block, "a batch is missing before later ones")),
                BlockState::Rotten => return Err((block, "a block has changed since it was written")),
            }
            written += 1;
            end = block + 1;
        }
        Ok((written, end))
    }
}
