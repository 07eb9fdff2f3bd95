//! The way of a change: queued, stamped, proposed, and told when it is applied or lost.
//!
//! Group commit adapts by itself: while a write of entries is under way, new proposals wait in the queue and go out as
//! one batch when it is durable. An idle disk takes a proposal at once; a slow one gets larger batches. There is no timer.

use std::collections::{BTreeMap, VecDeque};

use consensus::ProposeError;
use model::{
    audit::Origin,
    command::{Answer, Command, Entry, Rejection},
    id::{MemberId, NodeId, RequestId, UserId},
    identity::Identity,
    request::{ApiError, ErrorCode, Reply, Response},
};
use store::Applied;

use planted::Bug;

use crate::{
    Manager,
    audit::{Asked, Refused},
    issue::Issue,
};

/// Clients' changes that wait or are on their way; beyond it a client is refused, because it would only wait longer.
const MAX_CLIENT_PROPOSALS: usize = 4_096;
/// Bytes of one entry: a message with it still fits the transport, and no spec comes near.
const MAX_ENTRY: usize = 1024 * 1024;
/// Entries of one batch, so that a batch is a step and not a pause.
const MAX_BATCH: usize = 1_024;

/// Who waits for an entry.
#[derive(Debug, Clone)]
pub(crate) enum Purpose {
    /// A client.
    Client { handle: u64 },
    /// A client whose request names something that is not there: perhaps because its first attempt removed it. The
    /// entry finds out whether the request was applied; if not, this is the answer.
    Probe { handle: u64, refusal: Box<ApiError> },
    /// A join or a renewal.
    Issue(Box<Issue>),
    /// A client that changes a user: until it is applied, what that user asks waits.
    ChangeUser { handle: u64, user: UserId },
    /// The control loop.
    Decide,
    /// An agent's registration.
    Register { node: NodeId },
    /// What an agent reported.
    Observe { node: NodeId },
    /// A node's facts.
    Facts { node: NodeId },
    /// A node's silence.
    Down { node: NodeId },
    /// A member's address or version.
    About { member: MemberId },
    /// The data keys.
    Keys,
    /// Nobody.
    Nobody,
    /// The audit.
    BeginAudit,
    /// Those who were refused.
    Note(Vec<Refused>),
    /// Who wants another leader, and which.
    Transfer { handle: u64, to: Option<MemberId> },
}

impl Purpose {
    fn is_client(&self) -> bool {
        matches!(
            self,
            Self::Client { .. }
                | Self::Probe { .. }
                | Self::Issue(_)
                | Self::ChangeUser { .. }
                | Self::Transfer { .. }
        )
    }
}

struct Queued {
    request: Option<RequestId>,
    actor: Identity,
    command: Command,
    purpose: Purpose,
    origin: Origin,
}

pub(crate) struct InFlight {
    pub(crate) term: u64,
    pub(crate) purpose: Purpose,
}

/// What waits to be proposed, and what was proposed.
#[derive(Default)]
pub(crate) struct Proposals {
    queue: VecDeque<Queued>,
    flight: BTreeMap<u64, InFlight>,
    clients: usize,
}

impl Proposals {
    pub(crate) fn len(&self) -> usize {
        self.queue.len() + self.flight.len()
    }

    pub(crate) fn take(&mut self, index: u64) -> Option<InFlight> {
        let flight = self.flight.remove(&index)?;
        self.clients -= usize::from(flight.purpose.is_client());
        Some(flight)
    }

    /// Whether something of this purpose waits, or is on its way into the log.
    pub(crate) fn any(&self, is: impl Fn(&Purpose) -> bool) -> bool {
        self.flight.values().any(|flight| is(&flight.purpose))
            || self.queue.iter().any(|queued| is(&queued.purpose))
    }

    /// Everything that waits, in order; nothing is left.
    fn drain(&mut self) -> Vec<Purpose> {
        self.clients = 0;
        let flight = std::mem::take(&mut self.flight).into_values().map(|flight| flight.purpose);
        flight.chain(std::mem::take(&mut self.queue).into_iter().map(|queued| queued.purpose)).collect()
    }
}

impl Manager {
    /// Queues a decision of the managers' own.
    pub(crate) fn propose_own(&mut self, command: Command, purpose: Purpose) {
        let actor = Identity::Manager(self.config.member);
        self.enqueue(Queued { request: None, actor, command, purpose, origin: Origin::default() });
    }

    /// Queues a client's change.
    ///
    /// # Errors
    /// Too many wait already, or it is too large.
    pub(crate) fn propose_for(
        &mut self,
        asked: &Asked,
        command: Command,
        purpose: Purpose,
    ) -> Result<(), ApiError> {
        if self.proposals.clients >= MAX_CLIENT_PROPOSALS {
            let message = format!("{MAX_CLIENT_PROPOSALS} changes are waiting already; retry in a moment");
            return Err(ApiError::new(ErrorCode::Exhausted, message));
        }
        let Asked { identity, request_id, origin, .. } = asked;
        let (request, origin) = (*request_id, origin.clone());
        // Notes name who asked themselves, and may be of somebody who is not welcome.
        let actor = match command {
            Command::Audit(_) => Identity::Manager(self.config.member),
            _ => identity.clone(),
        };
        self.enqueue(Queued { request, actor, command, purpose, origin });
        Ok(())
    }

    fn enqueue(&mut self, queued: Queued) {
        self.proposals.clients += usize::from(queued.purpose.is_client());
        self.proposals.queue.push_back(queued);
    }

    /// Proposes what waits, unless a write of entries is under way. Says whether anything was proposed.
    pub(crate) fn flush_proposals(&mut self) -> bool {
        if !self.is_serving() || self.node.is_writing() {
            return false;
        }
        let mut moved = false;
        for _ in 0..MAX_BATCH {
            let Some(queued) = self.proposals.queue.pop_front() else { break };
            let at = self.stamps.take(self.now);
            let Queued { request, actor, command, purpose, origin } = queued;
            let entry = Entry { at, request, actor, command, origin };
            let bytes = proto::codec::encode(&entry);
            if bytes.len() > MAX_ENTRY && purpose.is_client() {
                self.proposals.clients -= 1;
                let message =
                    format!("the change has {} bytes; at most {MAX_ENTRY} are possible", bytes.len());
                self.answer_refused(purpose, ApiError::new(ErrorCode::Invalid, message));
                continue;
            }
            match self.node.propose(bytes) {
                Ok((index, term)) => {
                    self.proposals.flight.insert(index, InFlight { term, purpose });
                    moved = true;
                }
                Err(ProposeError::Busy | ProposeError::ChangePending | ProposeError::NotLeader) => {
                    // The lead is being handed over, or too many bytes are on their way: it goes out later, or is lost
                    // with the lead.
                    let Entry { request, actor, command, origin, .. } = entry;
                    let again = Queued { request, actor, command, purpose, origin };
                    self.proposals.queue.push_front(again);
                    break;
                }
            }
        }
        moved
    }

    /// Nothing that waits will be known to happen: this member does not lead any more.
    pub(crate) fn proposals_lost(&mut self) {
        if planted::is(Bug::TermCheckDropped) {
            return;
        }
        for purpose in self.proposals.drain() {
            self.on_lost(purpose);
        }
    }

    pub(crate) fn on_lost(&mut self, purpose: Purpose) {
        let message = "the lead changed before the outcome was known; it may still happen: ask again with the same request id";
        self.answer_refused(purpose, ApiError::new(ErrorCode::Unavailable, message));
    }

    fn answer_refused(&mut self, purpose: Purpose, error: ApiError) {
        match purpose {
            Purpose::Client { handle }
            | Purpose::Probe { handle, .. }
            | Purpose::ChangeUser { handle, .. }
            | Purpose::Transfer { handle, .. } => {
                self.reply(handle, Err(error));
            }
            Purpose::Issue(issue) => self.reply(issue.handle, Err(error)),
            Purpose::Note(refused) => self.noting_lost(refused, &error),
            Purpose::Decide
            | Purpose::Register { .. }
            | Purpose::Observe { .. }
            | Purpose::Facts { .. }
            | Purpose::Down { .. }
            | Purpose::About { .. }
            | Purpose::Keys
            | Purpose::Nobody
            | Purpose::BeginAudit => {}
        }
    }

    /// An entry of ours is applied.
    pub(crate) fn on_applied(&mut self, purpose: Purpose, index: u64, entry: &Entry, applied: Applied) {
        match purpose {
            Purpose::Client { handle } | Purpose::ChangeUser { handle, .. } => {
                let result = applied.outcome.map_err(ApiError::from).map(|answer| changed(answer, index));
                self.reply(handle, result);
            }
            Purpose::Probe { handle, refusal } => {
                let result = match applied.outcome {
                    Ok(answer) if applied.replay => Ok(changed(answer, index)),
                    Ok(_) | Err(_) => Err(*refusal),
                };
                self.reply(handle, result);
            }
            Purpose::Issue(issue) => self.on_issue_applied(*issue, applied),
            Purpose::Decide => self.on_decided(&entry.command, &applied.rejected),
            Purpose::Register { node } => self.on_registered(node, applied.outcome),
            Purpose::Observe { node } => self.on_observed(node),
            Purpose::Facts { node } => self.on_facts_recorded(node),
            Purpose::Down { node } => self.on_down(node),
            Purpose::About { member } => self.on_about_recorded(member),
            Purpose::Keys => self.on_key_step_applied(),
            Purpose::Nobody => self.log_rejection(&entry.command, applied.outcome),
            Purpose::BeginAudit => {}
            Purpose::Note(refused) => self.on_noted(refused),
            Purpose::Transfer { handle, to } => {
                if let Err(error) = self.begin_transfer(handle, to) {
                    self.reply(handle, Err(error));
                }
            }
        }
    }

    fn log_rejection(&mut self, command: &Command, outcome: Result<Answer, Rejection>) {
        if let Err(rejection) = outcome {
            let name = match command {
                Command::Bootstrap { .. } => "founding the cluster",
                Command::NoteFault { .. } => "noting what routers saw",
                Command::PinImage { .. } => "recording an image's meaning",
                _ => "a decision of the managers",
            };
            self.notice(format!("{name} was rejected: {rejection}"));
        }
    }
}

fn changed(answer: Answer, index: u64) -> Reply {
    Reply { response: Response::Changed { answer, index }, index, stale: false }
}
