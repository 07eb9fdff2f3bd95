//! What goes out: everything that the shell is to carry out, in order, one closed list.

use std::time::Duration;

use bytes::Bytes;
use model::{
    id::MemberId,
    identity::Identity,
    request::{ApiError, Reply},
    session::ManagerMessage,
};
use seal::Keyring;
use store::Store;

use crate::{logins::LoginQuestion, registries::RegistryQuestion};

/// One record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// From 1, without a gap.
    pub index: u64,
    /// The leader's term.
    pub term: u64,
    /// What the payload is; opaque to the shell.
    pub kind: u8,
    /// The contents; opaque to the shell.
    pub payload: Bytes,
}

/// A snapshot of the state at an index, with the membership there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotBlob {
    /// The last entry that it contains.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The membership, encoded; opaque to the shell.
    pub conf: Bytes,
    /// The state, encoded.
    pub bytes: Bytes,
}

/// One step of the disk, all or in order: snapshot, truncation, entries, hard state. Answered by
/// [`Event::Persisted`](crate::Event::Persisted) with this sequence or a later one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Persist {
    /// Counts up by one.
    pub sequence: u64,
    /// Replaces the hard state.
    pub hard_state: Option<Bytes>,
    /// Drop every record from this index on before appending.
    pub truncate_from: Option<u64>,
    /// To be appended.
    pub entries: Vec<LogRecord>,
    /// Replaces the older snapshot. When it comes with `reset_log`, no record of the log survives it.
    pub snapshot: Option<SnapshotBlob>,
    /// The snapshot came from the leader and replaces the whole log: drop every record before appending `entries`.
    pub reset_log: bool,
    /// Whether it must be durable before it is reported; always true at present (what needs no sync is folded into the
    /// next step that does).
    pub must_sync: bool,
}

/// One output.
#[derive(Debug, Clone)]
pub enum Action {
    /// Write and sync, then report [`Event::Persisted`](crate::Event::Persisted). In order.
    Persist(Persist),
    /// Records up to and including `index` are no longer needed.
    Compact {
        /// The last record that may go.
        index: u64,
    },
    /// Encode `state` with `proto::codec::encode` off this thread, then report
    /// [`Event::SnapshotEncoded`](crate::Event::SnapshotEncoded). Not to be written yet: a `Persist` follows.
    EncodeSnapshot {
        /// The state's index.
        index: u64,
        /// That entry's term.
        term: u64,
        /// A constant-time clone.
        state: Box<Store>,
    },
    /// Send to a member; at most a little over 256 KiB unless one log entry alone is larger. May be lost.
    SendPeer {
        /// To whom.
        to: MemberId,
        /// The message.
        bytes: Bytes,
    },
    /// Whom to keep connections to (all other members); replaces the previous list.
    Peers(Vec<(MemberId, String)>),
    /// Answer a request. A new token is answered `Changed` with `Answer::Token`; the shell composes its text.
    Reply {
        /// Which.
        handle: u64,
        /// The answer.
        result: Result<Reply, ApiError>,
        /// The stream goes on (watch); otherwise the handle is free again.
        more: bool,
    },
    /// Send to an agent.
    SendAgent {
        /// Which.
        connection: u64,
        /// What.
        message: ManagerMessage,
    },
    /// End an agent's connection (after what was sent before); no `AgentClosed` is needed for it.
    CloseAgent {
        /// Which.
        connection: u64,
        /// For the log.
        reason: String,
    },
    /// Sign a certificate with the cluster's authority (`Manager::store().cluster()`), then report
    /// [`Event::Signed`](crate::Event::Signed).
    Sign {
        /// Names the answer.
        job: u64,
        /// The request, PEM; only its key is used.
        csr: String,
        /// Whom the certificate names.
        identity: Identity,
        /// Its serial number.
        serial: u64,
        /// How long it lives; `None` = as long as those of machines do.
        life: Option<Duration>,
    },
    /// Ask a registry, with a limit on time and on what is read, then report
    /// [`Event::RegistryAnswered`](crate::Event::RegistryAnswered).
    AskRegistry {
        /// Names the answer.
        job: u64,
        /// Which registry, and what.
        question: Box<RegistryQuestion>,
    },
    /// Have a proof judged by a directory or an issuer, with a limit on time and on what is read, then report
    /// [`Event::LoginAnswered`](crate::Event::LoginAnswered).
    AskLogin {
        /// Names the answer.
        job: u64,
        /// By whom, and which proof.
        question: Box<LoginQuestion>,
    },
    /// Keep this keyring durably, in place of the one before, where nobody else can read it; then report
    /// [`Event::KeysKept`](crate::Event::KeysKept). A later one may overtake it.
    KeepKeys {
        /// Names the answer.
        sequence: u64,
        /// The keys.
        keyring: Keyring,
    },
    /// The authority's [`bundle`](model::cluster::Authority::bundle), at the start and whenever it changes: trust it and nobody else, and cut
    /// whoever presented a certificate of another one.
    Authority {
        /// PEM.
        bundle: String,
        /// This member's own certificate is of an authority that is being replaced: ask the leader for another one.
        renew: bool,
    },
    /// These identities too are refused from now on: cut their connections. Each is told once, removed members again after a
    /// restart; whether an identity is refused says `Manager::store().is_revoked()` at any time.
    Revoked(Vec<Identity>),
    /// Who leads changed, for the status line and as the target of forwarding.
    Leader {
        /// This member leads and serves.
        is_leader: bool,
        /// The term.
        term: u64,
        /// Who leads, as far as known.
        leader: Option<MemberId>,
    },
    /// Something worth a line in the log, not an answer to anybody.
    Notice(Notice),
    /// The process must end: going on could damage the cluster.
    Halt {
        /// Why, and what to do.
        reason: String,
    },
    /// This member was removed: the process must end, and starting it again is of no use.
    Retire {
        /// What to do.
        reason: String,
    },
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Someone should look at it.
    pub warning: bool,
    /// The line.
    pub text: String,
}
