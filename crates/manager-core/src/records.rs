//! Between consensus and the disk: hard state, entries and snapshots as the shell's opaque records.

use bytes::Bytes;
use consensus::{Body, ConfChange, HardState, LogEntry, Membership, SnapshotMeta, Start, Write};
use proto::codec::{CodecError, decode, encode};
use store::Store;

use crate::{LogRecord, Persist, Recovered, SnapshotBlob};

const NORMAL: u8 = 0;
const CONF: u8 = 1;

/// What was recovered cannot be read: refuse to start.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A record is damaged or of a newer version.
    #[error("{what} cannot be read: {source}")]
    Unreadable {
        /// Which.
        what: String,
        /// Why.
        source: CodecError,
    },
    /// A record of an unknown kind.
    #[error("entry {index} is of the unknown kind {kind}: a newer version wrote it")]
    UnknownKind {
        /// Which.
        index: u64,
        /// Its kind.
        kind: u8,
    },
    /// The parts contradict each other.
    #[error(transparent)]
    Contradiction(#[from] consensus::StartError),
    /// There is no cluster to recover.
    #[error("there is no state of a cluster on this disk")]
    Nothing,
    /// The disk belongs to another cluster.
    #[error("the disk holds the state of cluster {found}, not of {expected}")]
    OtherCluster {
        /// On the disk.
        found: model::id::ClusterId,
        /// Configured.
        expected: model::id::ClusterId,
    },
}

fn read<T: serde::de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, RecoverError> {
    decode(bytes).map_err(|source| RecoverError::Unreadable { what: what.to_owned(), source })
}

pub(crate) fn encode_state(store: &Store) -> Bytes {
    encode(store)
}

pub(crate) fn decode_state(bytes: &[u8]) -> Result<Store, CodecError> {
    decode(bytes)
}

pub(crate) fn record(entry: &LogEntry) -> LogRecord {
    let (kind, payload) = match &entry.body {
        Body::Normal(bytes) => (NORMAL, bytes.clone()),
        Body::Conf(change) => (CONF, encode(change)),
    };
    LogRecord { index: entry.index, term: entry.term, kind, payload }
}

fn entry(record: &LogRecord) -> Result<LogEntry, RecoverError> {
    let LogRecord { index, term, kind, payload } = record;
    let body = match *kind {
        NORMAL => Body::Normal(payload.clone()),
        CONF => Body::Conf(read::<ConfChange>(&format!("entry {index}"), payload)?),
        kind => return Err(RecoverError::UnknownKind { index: *index, kind }),
    };
    Ok(LogEntry { index: *index, term: *term, body })
}

pub(crate) fn blob(meta: &SnapshotMeta, bytes: Bytes) -> SnapshotBlob {
    SnapshotBlob { index: meta.index, term: meta.term, conf: encode(&meta.membership), bytes }
}

pub(crate) fn persist(write: &Write) -> Persist {
    Persist {
        sequence: write.sequence,
        hard_state: write.hard_state.as_ref().map(encode),
        truncate_from: write.truncate_from,
        entries: write.entries.iter().map(record).collect(),
        snapshot: write.snapshot.as_ref().map(|(meta, bytes)| blob(meta, bytes.clone())),
        reset_log: write.reset_log,
        must_sync: true,
    }
}

/// Reads what was recovered: consensus' part, and the state at the snapshot.
pub(crate) fn start(recovered: &Recovered) -> Result<(Start, Store), RecoverError> {
    let mut start = Start::default();
    let mut state = Store::new();
    if let Some(bytes) = &recovered.hard_state {
        start.hard_state = read::<HardState>("the hard state", bytes)?;
    }
    if let Some(snapshot) = &recovered.snapshot {
        let membership = read::<Membership>("the snapshot's membership", &snapshot.conf)?;
        start.snapshot = SnapshotMeta { index: snapshot.index, term: snapshot.term, membership };
        start.snapshot_bytes = snapshot.bytes.clone();
        state = read("the snapshot", &snapshot.bytes)?;
    }
    start.entries = recovered.entries.iter().map(entry).collect::<Result<_, _>>()?;
    Ok((start, state))
}
