//! The connection to a cluster: any of its managers, over mutual TLS, until one answers.
//!
//! A request goes to the manager that answered last, then to the others in turn, also while one of them is silent. A change
//! carries one request id over all its attempts, so that an attempt whose answer was lost is not applied twice. A manager
//! that cannot be reached and one without a leader are tried again for a while: an election takes less than a second.

pub mod bearer;
mod hedge;
pub mod id_token;
pub mod random;
mod stream;
mod unreachable;

use std::{
    cell::Cell,
    path::Path,
    time::{Duration, Instant},
};

use model::{
    command::Answer,
    event::Revision,
    id::RequestId,
    request::{ApiError, ErrorCode, Reply, Request, Response},
    validate::validate_request,
};
use pki::Fingerprint;
use proto::{
    codec,
    v1::{CallReply, CallRequest, call_reply::Outcome, control_client::ControlClient},
};
use rpc::tls::{CertReloader, ClientTls, Credentials};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

pub use stream::{LogItem, LogStream, WatchItem, WatchStream};
use unreachable::Attempts;

use crate::{
    context::Context,
    exit::{Code, Failure},
    output,
};

/// Where GitLab tells a job its own URL.
const JOB_VARIABLE: &str = "CI_JOB_URL";
/// For one call without `--timeout`.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(15);
/// While no manager at all can be reached: long enough for a restart, short enough for a person.
const REACH_PATIENCE: Duration = Duration::from_secs(4);
/// While a change is waited for: long enough for a manager's machine to start anew.
const WAITING_PATIENCE: Duration = Duration::from_secs(120);
/// A manager that is there answers within this time, or the next one is asked; also what the server is told to observe.
/// As long as dialling may take: a manager whose host lost its power is as silent on a connection that was open.
const ATTEMPT_LIMIT: Duration = rpc::tls::CONNECT_TIMEOUT;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A list of thousands of services is larger than tonic's default of 4 MiB.
const MESSAGE_LIMIT: usize = 256 << 20;

/// A client of one cluster.
pub struct Client {
    managers: Vec<Manager>,
    /// Which manager answered last.
    preferred: Cell<usize>,
    context: String,
    /// The deploy token, as it goes with every call.
    token: Option<MetadataValue<Ascii>>,
    stale: bool,
    deadline: Option<Instant>,
    /// While no manager can be reached.
    patience: Cell<Duration>,
    stale_said: Cell<bool>,
    /// For the audit: the CI job that this runs in.
    job: String,
}

struct Manager {
    address: String,
    channel: Channel,
}

/// How one attempt ended.
enum Attempt {
    Answered(Reply),
    /// Final: another manager would say the same.
    Refused(ApiError),
    /// There, but cannot decide right now.
    Busy(ApiError),
    /// Not there, or not understood.
    Failed(tonic::Status),
}

impl Client {
    /// Prepares the connections; nothing is dialled yet.
    ///
    /// # Errors
    /// The context's certificates are not usable.
    pub fn new(
        context: &Context,
        file: &Path,
        stale: bool,
        timeout: Option<Duration>,
    ) -> Result<Self, Failure> {
        let unusable = |error: rpc::tls::TlsError| {
            Failure::new(Code::DENIED, format!("context \"{}\" is not usable: {error}", context.name))
        };
        let (tls, token) = match context.token(file)? {
            Some(text) => {
                let token = bearer::token(&text)?;
                let tls = ClientTls::pinned(*token.fingerprint().as_bytes()).map_err(unusable)?;
                (tls, Some(bearer::metadata(&token)))
            }
            None => {
                let pem = context.credentials(file)?;
                let own = Credentials::from_pem(&pem.certificate, &pem.ca, &pem.key).map_err(unusable)?;
                let tls = ClientTls::mutual(&pem.ca, CertReloader::new(own)).map_err(unusable)?;
                (tls, None)
            }
        };
        let manager = |address: &String| Manager {
            address: address.clone(),
            channel: rpc::tls::channel(address, tls.clone()),
        };
        Ok(Self {
            managers: context.managers.iter().map(manager).collect(),
            preferred: Cell::new(0),
            context: context.name.clone(),
            token,
            stale,
            deadline: timeout.map(|timeout| Instant::now() + timeout),
            patience: Cell::new(REACH_PATIENCE),
            stale_said: Cell::new(false),
            job: job(),
        })
    }

    /// A client that has nothing to show of itself, of managers that have to prove to be of an authority.
    ///
    /// # Errors
    /// TLS is not usable.
    pub fn unnamed(
        managers: Vec<String>,
        authority: Fingerprint,
        timeout: Option<Duration>,
    ) -> Result<Self, Failure> {
        let tls = ClientTls::pinned(*authority.as_bytes());
        let tls = tls.map_err(|error| Failure::new(Code::DENIED, error.to_string()))?;
        Ok(Self::nobody("ORCH_MANAGERS", &managers, &tls, timeout))
    }

    /// A client that has nothing to show of itself; `context` is what messages call it.
    pub fn nobody(context: &str, managers: &[String], tls: &ClientTls, timeout: Option<Duration>) -> Self {
        let manager = |address: &String| Manager {
            address: address.clone(),
            channel: rpc::tls::channel(address, tls.clone()),
        };
        Self {
            managers: managers.iter().map(manager).collect(),
            preferred: Cell::new(0),
            context: context.to_owned(),
            token: None,
            stale: false,
            deadline: timeout.map(|timeout| Instant::now() + timeout),
            patience: Cell::new(REACH_PATIENCE),
            stale_said: Cell::new(false),
            job: job(),
        }
    }

    /// A client of the manager on this machine, through its local socket.
    pub fn local(socket: &Path, stale: bool, timeout: Option<Duration>) -> Self {
        let address = socket.display().to_string();
        Self {
            managers: vec![Manager { address: address.clone(), channel: rpc::local::channel(socket) }],
            preferred: Cell::new(0),
            context: address,
            token: None,
            stale,
            deadline: timeout.map(|timeout| Instant::now() + timeout),
            patience: Cell::new(REACH_PATIENCE),
            stale_said: Cell::new(false),
            job: job(),
        }
    }

    /// When the user wants an end of everything.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// From here on the caller waits for something that takes its time: a manager that is away for a while is no failure.
    pub fn wait_longer(&self) {
        self.patience.set(WAITING_PATIENCE);
    }

    /// Whether it shows a deploy token.
    pub fn is_bearer(&self) -> bool {
        self.token.is_some()
    }

    /// The address of a manager, for other machines to begin with.
    pub fn manager(&self) -> &str {
        &self.current().address
    }

    /// Asks, and asks again until somebody can answer. A manager that is silent for a while is not waited for alone: the
    /// next one is asked beside it, and whoever answers first is right, since a change applies once.
    ///
    /// # Errors
    /// The refusal, or that nobody could be asked.
    pub async fn call(&self, request: Request) -> Result<Reply, Failure> {
        let problems = validate_request(&request);
        if !problems.is_empty() {
            return Err(problems.into());
        }
        let id = if request.is_read() { 0 } else { random::id() };
        let deadline =
            self.deadline.unwrap_or_else(|| Instant::now() + self.patience.get().max(DEFAULT_DEADLINE));
        let reply = hedge::Call::new(self, &request, RequestId(id), deadline).run().await?;
        Ok(self.mark(reply))
    }

    /// Sends a change; returns what it answered and the log index at which it holds.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    pub async fn change(&self, request: Request) -> Result<(Answer, u64), Failure> {
        match self.call(request).await?.response {
            Response::Changed { answer, index } => Ok((answer, index)),
            _ => Err(unexpected()),
        }
    }

    /// Follows events after a revision, or from now. It resumes by itself when a manager goes away.
    pub fn watch(&self, after: Option<Revision>) -> WatchStream<'_> {
        WatchStream::new(self, after, None)
    }

    /// Reads events after a revision, until all up to an index of the log were told.
    pub fn read_events(&self, after: Option<Revision>, until: u64) -> WatchStream<'_> {
        WatchStream::new(self, after, Some(until))
    }

    /// Opens log streams.
    ///
    /// # Errors
    /// The refusal, or that nobody could be asked.
    pub async fn logs(&self, request: Request) -> Result<LogStream, Failure> {
        let mut attempts = Attempts::new(&self.context, self.managers.len(), self.patience.get());
        let payload = codec::encode(&request);
        loop {
            for _ in 0..self.managers.len() {
                let envelope = self.envelope(payload.clone(), RequestId(0), Duration::ZERO);
                let opening = stream::open_logs(self.stub(self.current()), self.signed(envelope));
                let opened = tokio::time::timeout(attempts.opening_limit(), opening).await;
                match opened {
                    Err(_) => attempts.failed(self.current().address.clone(), &silent())?,
                    Ok(Ok(stream)) => return Ok(stream),
                    Ok(Err(Attempt::Busy(error))) => attempts.busy(error),
                    Ok(Err(Attempt::Failed(status))) => {
                        attempts.failed(self.current().address.clone(), &status)?
                    }
                    Ok(Err(Attempt::Refused(error))) => return Err(error.into()),
                    Ok(Err(Attempt::Answered(_))) => return Err(unexpected()),
                }
                self.rotate();
            }
            attempts.round()?;
            tokio::time::sleep(FIRST_PAUSE).await;
        }
    }

    async fn attempt(&self, manager: &Manager, envelope: CallRequest) -> Attempt {
        let limit = Duration::from_millis(envelope.deadline_ms) + Duration::from_secs(1);
        match tokio::time::timeout(limit, self.stub(manager).call(self.signed(envelope))).await {
            Ok(Ok(reply)) => read_reply(reply.into_inner()),
            Ok(Err(status)) => read_status(status),
            Err(_) => Attempt::Failed(silent()),
        }
    }

    /// Says once that answers may be outdated.
    fn mark(&self, reply: Reply) -> Reply {
        if reply.stale && !self.stale_said.replace(true) {
            output::note(format!(
                "(what one manager has at index {}: newer changes may be missing)",
                reply.index
            ));
        }
        reply
    }

    fn envelope(&self, request: bytes::Bytes, id: RequestId, left: Duration) -> CallRequest {
        CallRequest {
            request,
            request_id: id.0,
            stale: self.stale,
            deadline_ms: u64::try_from(left.min(ATTEMPT_LIMIT).as_millis()).unwrap_or(u64::MAX),
            job: self.job.clone(),
            ..CallRequest::default()
        }
    }

    /// The envelope with what proves who asks, where that is not the connection.
    fn signed(&self, envelope: CallRequest) -> tonic::Request<CallRequest> {
        let mut request = tonic::Request::new(envelope);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }

    fn stub(&self, manager: &Manager) -> ControlClient<Channel> {
        ControlClient::new(manager.channel.clone()).max_decoding_message_size(MESSAGE_LIMIT)
    }

    fn current(&self) -> &Manager {
        &self.managers[self.preferred.get()]
    }

    fn rotate(&self) {
        self.preferred.set((self.preferred.get() + 1) % self.managers.len());
    }
}

fn job() -> String {
    std::env::var(JOB_VARIABLE).unwrap_or_default()
}

/// What is said of a manager that says nothing.
fn silent() -> tonic::Status {
    tonic::Status::deadline_exceeded("it does not answer")
}

/// Sorts an answer by what can be done about it.
fn read_reply(reply: CallReply) -> Attempt {
    let malformed =
        |error: codec::CodecError| Attempt::Refused(ApiError::new(ErrorCode::Internal, error.to_string()));
    match reply.outcome {
        Some(Outcome::Reply(bytes)) => codec::decode(&bytes).map_or_else(malformed, Attempt::Answered),
        Some(Outcome::Error(bytes)) => codec::decode::<ApiError>(&bytes).map_or_else(malformed, |error| {
            if matches!(error.code, ErrorCode::Unavailable | ErrorCode::NotLeader) {
                Attempt::Busy(error)
            } else {
                Attempt::Refused(error)
            }
        }),
        None => Attempt::Refused(ApiError::new(ErrorCode::Internal, "the manager answered with nothing")),
    }
}

/// Sorts a failed call: what the manager itself refuses is refused by every manager; anything else may be the way there.
fn read_status(status: tonic::Status) -> Attempt {
    let code = match status.code() {
        tonic::Code::PermissionDenied => ErrorCode::Denied,
        tonic::Code::Unauthenticated => ErrorCode::Unauthenticated,
        tonic::Code::InvalidArgument | tonic::Code::Unimplemented => ErrorCode::Invalid,
        tonic::Code::ResourceExhausted | tonic::Code::OutOfRange => ErrorCode::Exhausted,
        _ => return Attempt::Failed(status),
    };
    Attempt::Refused(ApiError::new(code, status.message()))
}

/// The manager answered something that does not belong to the question.
pub fn unexpected() -> Failure {
    Failure::error(
        "the manager answered another question than the one that was asked: is it of another version?",
    )
}

#[cfg(test)]
mod tests {
    use model::request::Response;

    use super::*;

    fn outcome_of(outcome: Option<Outcome>) -> Attempt {
        read_reply(CallReply { outcome })
    }

    #[test]
    fn only_a_missing_leader_or_quorum_is_worth_another_try() {
        let error = |code| outcome_of(Some(Outcome::Error(codec::encode(&ApiError::new(code, "x")))));
        assert!(matches!(error(ErrorCode::Unavailable), Attempt::Busy(_)));
        assert!(matches!(error(ErrorCode::NotLeader), Attempt::Busy(_)));
        assert!(matches!(error(ErrorCode::Conflict), Attempt::Refused(_)));
        assert!(matches!(error(ErrorCode::Deadline), Attempt::Refused(_)));
        assert!(matches!(outcome_of(None), Attempt::Refused(_)));
        let reply = Reply { response: Response::Nodes(Vec::new()), index: 1, stale: false };
        assert!(matches!(outcome_of(Some(Outcome::Reply(codec::encode(&reply)))), Attempt::Answered(_)));
    }
}
