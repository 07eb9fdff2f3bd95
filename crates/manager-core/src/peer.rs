//! What members say to each other: Raft's messages, and a few words of our own.

use bytes::Bytes;
use model::{
    id::MemberId,
    sealed::{Clear, KeyId},
};
use serde::{Deserialize, Serialize};

use crate::{Action, Manager, hashes::Report, records};

/// One message between members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PeerMessage {
    /// Raft's.
    Raft(Box<consensus::Message>),
    /// A follower's address or version is not what the state says: the leader records it.
    About {
        /// Where the sender is reached.
        address: String,
        /// Its software.
        version: String,
        /// Up to which data key it durably keeps them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<KeyId>,
    },
    /// The sender's state at an index, to the leader.
    Hash {
        /// The log index.
        index: u64,
        /// The state's hash there.
        hash: u64,
        /// The software that took it; empty from one that does not say so. What the state says of the sender may be older than
        /// its process.
        #[serde(default)]
        version: String,
    },
    /// The leader and a majority have another state there than the receiver.
    Diverged {
        /// The log index.
        index: u64,
        /// Their hash.
        hash: u64,
    },
    /// The sender lacks data keys that the state knows.
    WantKeys,
    /// The data keys that the sender has.
    Keys(Vec<(KeyId, Clear)>),
}

impl Manager {
    pub(crate) fn send_peer(&mut self, to: MemberId, message: &PeerMessage) {
        self.act(Action::SendPeer { to, bytes: proto::codec::encode(message) });
    }

    pub(crate) fn on_peer(&mut self, from: MemberId, bytes: &Bytes) {
        if self.is_gone(from) {
            return;
        }
        let message = match proto::codec::decode::<PeerMessage>(bytes) {
            Ok(message) => message,
            Err(error) => return self.warn(format!("member {from} sent what cannot be read: {error}")),
        };
        match message {
            PeerMessage::Raft(message) => self.on_raft(from, *message),
            PeerMessage::About { address, version, key } => self.on_about(from, address, version, key),
            PeerMessage::Hash { index, hash, version } => self.on_hash(from, index, Report { hash, version }),
            PeerMessage::Diverged { index, hash } => self.on_diverged(index, hash),
            PeerMessage::WantKeys => self.on_want_keys(from),
            PeerMessage::Keys(keys) => self.on_keys(&keys),
        }
    }

    fn on_raft(&mut self, from: MemberId, message: consensus::Message) {
        let outcome = match self.node.step(from, message) {
            Ok(None) => return,
            Ok(Some(snapshot)) => match records::decode_state(&snapshot.bytes) {
                Ok(state) => {
                    self.incoming = Some((snapshot.index(), state));
                    self.node.install(snapshot)
                }
                Err(error) => {
                    return self.warn(format!("the snapshot of member {from} cannot be read: {error}"));
                }
            },
            Err(refused) => Err(refused),
        };
        match outcome {
            Ok(()) => {}
            Err(refused @ consensus::Refused::LostEntries { .. }) => self.halt(refused.to_string()),
            Err(refused @ consensus::Refused::OutOfRange { .. }) => self.warn(refused.to_string()),
        }
    }
}
