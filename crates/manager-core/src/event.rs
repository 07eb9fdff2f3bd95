//! What comes in: every fact that the shell tells the manager, one closed list.

use std::time::Duration;

use bytes::Bytes;
use model::{
    audit::{About, Origin},
    id::{MemberId, RequestId},
    identity::Identity,
    request::{ApiError, Consistency, Request},
    session::AgentMessage,
};

use crate::{
    action::{LogRecord, SnapshotBlob},
    logins::LoginAnswer,
    registries::RegistryAnswer,
};

/// How much room the disk of the log has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpaceState {
    /// Enough.
    #[default]
    Enough,
    /// Little: clients' changes are refused, a snapshot is taken so that the log can be cut.
    Low,
    /// Only the reserve is left: the managers' own decisions wait too.
    Exhausted,
}

/// One input.
#[derive(Debug, Clone)]
pub enum Event {
    /// A message of another member, as its [`Action::SendPeer`](crate::Action::SendPeer) gave it. `from` is the
    /// verified identity of the connection.
    Peer {
        /// Who sent it.
        from: MemberId,
        /// The message.
        bytes: Bytes,
    },
    /// The connection to a member broke or could not be made.
    PeerUnreachable {
        /// Which.
        member: MemberId,
    },
    /// A member refuses this one, because it was removed from the cluster.
    Disowned {
        /// Who says so.
        by: MemberId,
    },
    /// Everything of the [`Persist`](crate::Persist) actions up to this sequence is durable.
    Persisted {
        /// The greatest such sequence.
        sequence: u64,
    },
    /// [`Action::EncodeSnapshot`](crate::Action::EncodeSnapshot) is done.
    SnapshotEncoded {
        /// Its index.
        index: u64,
        /// `proto::codec::encode(&state)`.
        bytes: Bytes,
    },
    /// The disk's room changed.
    Space(SpaceState),
    /// A client asks. Answered by [`Action::Reply`](crate::Action::Reply) exactly once, except for `more` of a watch.
    ///
    /// For a [`Request::Join`] the leader's shell has verified the token's secret (an HMAC under the authority's key, see
    /// `pki`) and blanked it; the identity is then [`Identity::Joiner`], which must name the request's token. No secret
    /// enters the core. A member that does not lead gets it as `Anonymous` and refers to the leader.
    Request {
        /// Chosen by the shell, not in use.
        handle: u64,
        /// Who asks; for a forwarded request the client as vouched for by the forwarding manager.
        identity: Identity,
        /// So that a retry is applied once; needed for changes.
        request_id: Option<RequestId>,
        /// For reads.
        consistency: Consistency,
        /// How long the client waits; `None` = 30 s.
        deadline: Option<Duration>,
        /// What is asked.
        request: Request,
        /// Where it comes from; for a forwarded request as the forwarding manager saw it.
        origin: Origin,
    },
    /// A client asked for a change and was refused by the shell of this member, which leads. Answered as a request is, when the refusal is
    /// on record.
    Refused {
        /// Chosen by the shell, not in use.
        handle: u64,
        /// Who asked.
        identity: Identity,
        /// The request.
        request_id: Option<RequestId>,
        /// Where it comes from.
        origin: Origin,
        /// What it would have changed.
        about: Option<About>,
        /// Why not.
        error: ApiError,
    },
    /// The client of a request or watch went away; no reply is wanted.
    Cancel {
        /// Which.
        handle: u64,
    },
    /// An agent connected.
    AgentOpened {
        /// Chosen by the shell, never reused.
        connection: u64,
        /// From its certificate.
        identity: Identity,
    },
    /// An agent said something.
    AgentMessage {
        /// Which.
        connection: u64,
        /// What.
        message: AgentMessage,
    },
    /// An agent's connection ended.
    AgentClosed {
        /// Which.
        connection: u64,
    },
    /// [`Action::Sign`](crate::Action::Sign) is done.
    Signed {
        /// Which.
        job: u64,
        /// The certificate, PEM, or why there is none.
        certificate: Result<String, String>,
    },
    /// [`Action::AskRegistry`](crate::Action::AskRegistry) is done.
    RegistryAnswered {
        /// Which.
        job: u64,
        /// What it said.
        answer: RegistryAnswer,
    },
    /// [`Action::AskLogin`](crate::Action::AskLogin) is done.
    LoginAnswered {
        /// Which.
        job: u64,
        /// Who it is, or why not.
        answer: LoginAnswer,
    },
    /// [`Action::KeepKeys`](crate::Action::KeepKeys) is done.
    KeysKept {
        /// Which.
        sequence: u64,
    },
}

/// What a member found on its disk at start. Nothing at all for a new one.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// The newest durable hard state.
    pub hard_state: Option<Bytes>,
    /// The newest durable snapshot.
    pub snapshot: Option<SnapshotBlob>,
    /// The log, in order, without a gap; may begin before the snapshot's index.
    pub entries: Vec<LogRecord>,
}
