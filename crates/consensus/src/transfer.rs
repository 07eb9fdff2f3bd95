//! Snapshots travel in chunks, each acknowledged, a few at a time; the library's own message with the metadata is stepped
//! at the receiver once all bytes are there.
//!
//! Why not one message: a snapshot may be tens of megabytes, and a stream that carries it in one piece delays heartbeats
//! behind it. Why acknowledgements: the sender's window bounds what lies in queues on the way, and a lost chunk costs one
//! window, not the whole.

use bytes::Bytes;
use model::id::MemberId;
use serde::{Deserialize, Serialize};

use crate::message::{Kind, RaftMessage, Refused};

/// Bytes of one chunk: small enough that a heartbeat behind it is not late on a slow link.
pub const CHUNK: usize = 256 * 1024;
/// Chunks on the way at once: a megabyte fills a local link, and bounds the queue to one peer.
const WINDOW: usize = 4;
/// No state is larger; bounds what a faulty sender can make us keep.
pub const MAX_SNAPSHOT: u64 = 1 << 30;
/// Windows lost in a row before the attempt is given up; the library then starts anew.
const MAX_STALLS: u32 = 10;

/// A part of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The library's message, with the metadata.
    pub message: RaftMessage,
    /// Bytes in all.
    pub total: u64,
    /// Where this part begins.
    pub offset: u64,
    /// The part.
    pub bytes: Bytes,
}

/// How much has arrived in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkAck {
    /// The snapshot's index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Bytes that arrived without a gap.
    pub received: u64,
}

/// What became of a snapshot being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    Going,
    Done,
    GivenUp,
}

/// A snapshot on its way to one peer.
pub(crate) struct Sender {
    message: RaftMessage,
    bytes: Bytes,
    acknowledged: usize,
    sent: usize,
    idle: u32,
    stalls: u32,
}

impl Sender {
    pub(crate) fn new(message: RaftMessage, bytes: Bytes) -> Self {
        Self { message, bytes, acknowledged: 0, sent: 0, idle: 0, stalls: 0 }
    }

    /// The chunks that the window admits now.
    pub(crate) fn fill(&mut self) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        while self.sent < self.bytes.len() && self.sent < self.acknowledged + WINDOW * CHUNK {
            let end = (self.sent + CHUNK).min(self.bytes.len());
            chunks.push(Chunk {
                message: self.message.clone(),
                total: self.bytes.len() as u64,
                offset: self.sent as u64,
                bytes: self.bytes.slice(self.sent..end),
            });
            self.sent = end;
        }
        chunks
    }

    pub(crate) fn acknowledge(&mut self, ack: ChunkAck) -> Progress {
        let mine = self.message.snapshot.as_ref().is_some_and(|m| m.index == ack.index && m.term == ack.term);
        let received = usize::try_from(ack.received).unwrap_or(usize::MAX);
        if !mine || received <= self.acknowledged || received > self.bytes.len() {
            return Progress::Going;
        }
        self.acknowledged = received;
        self.sent = self.sent.max(received);
        (self.idle, self.stalls) = (0, 0);
        if self.acknowledged == self.bytes.len() { Progress::Done } else { Progress::Going }
    }

    /// One tick without an acknowledgement; after `patience` of them the window is sent again.
    pub(crate) fn tick(&mut self, patience: u32) -> Progress {
        self.idle += 1;
        if self.idle < patience {
            return Progress::Going;
        }
        (self.idle, self.stalls) = (0, self.stalls + 1);
        self.sent = self.acknowledged;
        if self.stalls >= MAX_STALLS { Progress::GivenUp } else { Progress::Going }
    }
}

/// A snapshot that arrived whole. The caller checks that its bytes can be read, then gives it to
/// [`Node::install`](crate::Node::install).
#[derive(Debug, Clone)]
pub struct ReceivedSnapshot {
    pub(crate) from: MemberId,
    pub(crate) message: RaftMessage,
    /// The state.
    pub bytes: Bytes,
}

impl ReceivedSnapshot {
    /// The last entry that it contains.
    pub fn index(&self) -> u64 {
        self.message.snapshot.as_ref().map_or(0, |meta| meta.index)
    }
}

/// Puts a snapshot together.
#[derive(Default)]
pub(crate) struct Receiver {
    current: Option<Incoming>,
    /// The last one completed, so that a repeated last chunk is acknowledged again.
    completed: Option<(Key, u64)>,
}

type Key = (MemberId, u64, u64, u64);

struct Incoming {
    key: Key,
    buffer: Vec<u8>,
}

impl Receiver {
    /// Takes a chunk of a leader whose term is not older than ours.
    pub(crate) fn take(
        &mut self,
        from: MemberId,
        to: MemberId,
        chunk: Chunk,
    ) -> Result<(ChunkAck, Option<ReceivedSnapshot>), Refused> {
        chunk.message.check(from, to)?;
        let Some(meta) = chunk.message.snapshot.as_ref().filter(|_| chunk.message.kind == Kind::Snapshot)
        else {
            return Err(Refused::OutOfRange { from, what: "a chunk of no snapshot" });
        };
        let end = chunk.offset.checked_add(chunk.bytes.len() as u64);
        if chunk.bytes.len() > CHUNK || chunk.total > MAX_SNAPSHOT || end.is_none_or(|end| end > chunk.total)
        {
            return Err(Refused::OutOfRange { from, what: "a chunk's size" });
        }
        let key = (from, chunk.message.term, meta.index, meta.term);
        let ack = |received| ChunkAck { index: meta.index, term: meta.term, received };
        if let Some((done, total)) = self.completed
            && done == key
            && chunk.offset > 0
        {
            return Ok((ack(total), None));
        }
        let current = match &mut self.current {
            Some(current) if current.key == key => current,
            other => other.insert(Incoming { key, buffer: Vec::new() }),
        };
        if current.buffer.len() as u64 == chunk.offset {
            current.buffer.extend_from_slice(&chunk.bytes);
        }
        let received = current.buffer.len() as u64;
        let ack = ack(received);
        if received < chunk.total {
            return Ok((ack, None));
        }
        let bytes = Bytes::from(std::mem::take(&mut current.buffer));
        self.current = None;
        self.completed = Some((key, chunk.total));
        Ok((ack, Some(ReceivedSnapshot { from, message: chunk.message, bytes })))
    }
}
