//! What members say to each other and what lies in the log, as our own serde values; checked before the library sees it.

use bytes::Bytes;
use model::id::MemberId;
use protobuf::Message as _;
use raft::eraftpb::{self, ConfChangeV2, EntryType, MessageType};
use serde::{Deserialize, Serialize};

use crate::membership::{ConfChange, Membership};

/// The library's contexts are a counter of ours or its own short words.
const MAX_CONTEXT: usize = 64;

/// What an entry carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// A proposal; empty for the entry with which a leader begins its term.
    Normal(Bytes),
    /// A change of the membership.
    Conf(ConfChange),
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// From 1, without a gap.
    pub index: u64,
    /// The leader's term.
    pub term: u64,
    /// The contents.
    pub body: Body,
}

impl LogEntry {
    /// Roughly its size in memory and on disk.
    pub fn size(&self) -> u64 {
        let body = match &self.body {
            Body::Normal(bytes) => bytes.len(),
            Body::Conf(change) => 16 * change.changes.len(),
        };
        body as u64 + 32
    }

    pub(crate) fn to_raft(&self) -> eraftpb::Entry {
        let mut entry = eraftpb::Entry::default();
        entry.set_index(self.index);
        entry.set_term(self.term);
        match &self.body {
            Body::Normal(bytes) => entry.set_data(bytes.clone()),
            Body::Conf(change) => {
                entry.set_entry_type(EntryType::EntryConfChangeV2);
                let data =
                    change.to_raft().write_to_bytes().expect("a conf change always encodes into memory");
                entry.set_data(data.into());
            }
        }
        entry
    }

    pub(crate) fn from_raft(entry: &eraftpb::Entry) -> Self {
        let body = match entry.get_entry_type() {
            EntryType::EntryNormal => Body::Normal(entry.data.clone()),
            EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
                // Only entries that we or the library encoded ourselves reach this point.
                let mut change = ConfChangeV2::default();
                change.merge_from_bytes(entry.get_data()).expect("a conf change of our own making decodes");
                Body::Conf(ConfChange::from_raft(&change))
            }
        };
        Self { index: entry.get_index(), term: entry.get_term(), body }
    }
}

/// What a snapshot is of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// The last entry that it contains.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The membership there.
    pub membership: Membership,
}

impl SnapshotMeta {
    pub(crate) fn to_raft(&self) -> eraftpb::Snapshot {
        let mut snapshot = eraftpb::Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.set_index(self.index);
        metadata.set_term(self.term);
        metadata.set_conf_state(self.membership.to_raft());
        snapshot
    }

    pub(crate) fn from_raft(snapshot: &eraftpb::Snapshot) -> Self {
        let metadata = snapshot.get_metadata();
        Self {
            index: metadata.get_index(),
            term: metadata.get_term(),
            membership: Membership::from_raft(metadata.get_conf_state()),
        }
    }
}

/// The kinds of the library's messages that cross the wire. Proposals and reads are never forwarded by the library: the
/// shells forward whole requests instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Entries.
    Append,
    /// Its answer.
    AppendResponse,
    /// A candidate asks.
    RequestVote,
    /// Its answer.
    RequestVoteResponse,
    /// A snapshot's metadata; its bytes came before, in chunks.
    Snapshot,
    /// The leader is alive.
    Heartbeat,
    /// Its answer.
    HeartbeatResponse,
    /// Campaign at once: the lead is handed over.
    TimeoutNow,
    /// Would you vote for me?
    RequestPreVote,
    /// Its answer.
    RequestPreVoteResponse,
}

/// One of the library's messages. Sender and receiver are those of the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftMessage {
    /// What it is.
    pub kind: Kind,
    /// The sender's term (a pre-vote speaks of the next one).
    pub term: u64,
    /// The term of the entry at `index`.
    #[serde(default)]
    pub log_term: u64,
    /// What the message speaks of.
    #[serde(default)]
    pub index: u64,
    /// Entries after `index`.
    #[serde(default)]
    pub entries: Vec<LogEntry>,
    /// What is committed.
    #[serde(default)]
    pub commit: u64,
    /// The term of the committed entry, in votes.
    #[serde(default)]
    pub commit_term: u64,
    /// Of which snapshot.
    #[serde(default)]
    pub snapshot: Option<SnapshotMeta>,
    /// The answer is no.
    #[serde(default)]
    pub reject: bool,
    /// Where the sender's log ends.
    #[serde(default)]
    pub reject_hint: u64,
    /// A read's number, or the word that forces a vote.
    #[serde(default)]
    pub context: Bytes,
}

/// What members say to each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// One of the library's messages.
    Raft(RaftMessage),
    /// A part of a snapshot.
    Chunk(crate::transfer::Chunk),
    /// How much of a snapshot has arrived.
    ChunkAck(crate::transfer::ChunkAck),
}

/// Why a peer's message is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It breaks the rules; drop it. The sender is faulty or of another version.
    #[error("the message of member {from} is out of range: {what}")]
    OutOfRange {
        /// Who sent it.
        from: MemberId,
        /// What is wrong.
        what: &'static str,
    },
    /// This member's disk lost entries that it had acknowledged. It must never vote again: stop, wipe it and let it join
    /// as a new member.
    #[error(
        "the cluster has committed entry {committed}, which this member acknowledged, but its log ends at {last}: its disk \
         lost acknowledged data. Remove this member, wipe its data directory and let it join again"
    )]
    LostEntries {
        /// What the leader knows that we had.
        committed: u64,
        /// What we have.
        last: u64,
    },
}

impl Kind {
    fn to_raft(self) -> MessageType {
        match self {
            Self::Append => MessageType::MsgAppend,
            Self::AppendResponse => MessageType::MsgAppendResponse,
            Self::RequestVote => MessageType::MsgRequestVote,
            Self::RequestVoteResponse => MessageType::MsgRequestVoteResponse,
            Self::Snapshot => MessageType::MsgSnapshot,
            Self::Heartbeat => MessageType::MsgHeartbeat,
            Self::HeartbeatResponse => MessageType::MsgHeartbeatResponse,
            Self::TimeoutNow => MessageType::MsgTimeoutNow,
            Self::RequestPreVote => MessageType::MsgRequestPreVote,
            Self::RequestPreVoteResponse => MessageType::MsgRequestPreVoteResponse,
        }
    }

    fn from_raft(kind: MessageType) -> Option<Self> {
        Some(match kind {
            MessageType::MsgAppend => Self::Append,
            MessageType::MsgAppendResponse => Self::AppendResponse,
            MessageType::MsgRequestVote => Self::RequestVote,
            MessageType::MsgRequestVoteResponse => Self::RequestVoteResponse,
            MessageType::MsgSnapshot => Self::Snapshot,
            MessageType::MsgHeartbeat => Self::Heartbeat,
            MessageType::MsgHeartbeatResponse => Self::HeartbeatResponse,
            MessageType::MsgTimeoutNow => Self::TimeoutNow,
            MessageType::MsgRequestPreVote => Self::RequestPreVote,
            MessageType::MsgRequestPreVoteResponse => Self::RequestPreVoteResponse,
            MessageType::MsgHup
            | MessageType::MsgBeat
            | MessageType::MsgPropose
            | MessageType::MsgUnreachable
            | MessageType::MsgSnapStatus
            | MessageType::MsgCheckQuorum
            | MessageType::MsgTransferLeader
            | MessageType::MsgReadIndex
            | MessageType::MsgReadIndexResp => return None,
        })
    }
}

impl RaftMessage {
    /// The library's message; `None` for a kind that never crosses the wire.
    pub(crate) fn from_raft(message: &eraftpb::Message) -> Option<Self> {
        let kind = Kind::from_raft(message.get_msg_type())?;
        Some(Self {
            kind,
            term: message.get_term(),
            log_term: message.get_log_term(),
            index: message.get_index(),
            entries: message.get_entries().iter().map(LogEntry::from_raft).collect(),
            commit: message.get_commit(),
            commit_term: message.get_commit_term(),
            snapshot: (kind == Kind::Snapshot).then(|| SnapshotMeta::from_raft(message.get_snapshot())),
            reject: message.get_reject(),
            reject_hint: message.get_reject_hint(),
            context: message.context.clone(),
        })
    }

    pub(crate) fn to_raft(&self, from: MemberId, to: MemberId) -> eraftpb::Message {
        let mut message = eraftpb::Message::default();
        message.set_msg_type(self.kind.to_raft());
        message.set_from(from.0);
        message.set_to(to.0);
        message.set_term(self.term);
        message.set_log_term(self.log_term);
        message.set_index(self.index);
        message.set_entries(self.entries.iter().map(LogEntry::to_raft).collect::<Vec<_>>().into());
        message.set_commit(self.commit);
        message.set_commit_term(self.commit_term);
        if let Some(meta) = &self.snapshot {
            message.set_snapshot(meta.to_raft());
        }
        message.set_reject(self.reject);
        message.set_reject_hint(self.reject_hint);
        message.set_context(self.context.clone());
        message
    }

    /// Everything that the library would answer with a panic, as far as the message alone shows it.
    ///
    /// # Errors
    /// Drop the message.
    pub(crate) fn check(&self, from: MemberId, to: MemberId) -> Result<(), Refused> {
        let wrong = |what| Err(Refused::OutOfRange { from, what });
        if from.0 == 0 || from == to {
            return wrong("its sender is nobody or this member");
        }
        if self.term == 0 {
            return wrong("term 0 marks local messages");
        }
        if self.context.len() > MAX_CONTEXT {
            return wrong("the context is too long");
        }
        if self.kind != Kind::Append && !self.entries.is_empty() {
            return wrong("entries outside of an append");
        }
        if self.snapshot.is_some() != (self.kind == Kind::Snapshot) {
            return wrong("a snapshot where none belongs, or none where one does");
        }
        if let Some(meta) = &self.snapshot
            && (meta.index == 0 || meta.term == 0 || meta.term > self.term || !meta.membership.is_sound())
        {
            return wrong("the snapshot's metadata");
        }
        let mut before = (self.index, self.log_term);
        for entry in &self.entries {
            if before.0.checked_add(1) != Some(entry.index) {
                return wrong("the entries have a gap");
            }
            if entry.term < before.1 || entry.term == 0 || entry.term > self.term {
                return wrong("an entry's term");
            }
            if matches!(&entry.body, Body::Conf(change) if !change.is_sound()) {
                return wrong("a membership change");
            }
            before = (entry.index, entry.term);
        }
        Ok(())
    }
}
