//! The control API: any manager takes any call. What only the leader can answer is handed to it, again and again within
//! the caller's deadline, under the same request id.

use std::{pin::Pin, sync::Arc, time::Duration};

use manager_core::Event;
use model::{
    audit::Origin,
    id::{MemberId, RequestId},
    identity::Identity,
    request::{ApiError, Consistency, ErrorCode, Reply, Request as ApiRequest, Response as ApiResponse},
    session::LogFrame,
};
use pki::DeployToken;
use proto::{
    codec,
    v1::{
        CallReply, CallRequest, LogPiece, LogsReply, call_reply::Outcome, control_server, logs_reply::Item,
    },
};
use rpc::{identity::Peer, places::Place};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_stream::{Stream, StreamExt, StreamMap, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{
    Context, bearer,
    bounds::{Caller, SMALL_CALL},
    ending,
    forward::Forwarder,
};
use crate::{
    core_loop::{Input, Standing},
    inputs::Class,
    streams::LogReader,
};

/// How long a caller waits who does not say.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);
/// No caller waits longer: a bound on what a lost caller costs.
const MAX_DEADLINE: Duration = Duration::from_secs(600);
/// Between two attempts while the leadership is in motion; a change of it ends the pause at once.
const PAUSE: Duration = Duration::from_millis(100);
/// Answers that wait for a slow reader of a watch; one that is behind by more is cut and resumes from its revision.
const WATCH_QUEUE: usize = 256;
/// A plan, and the word that a log may not be read any more.
const LOGS_QUEUE: usize = 2;

/// The service.
pub struct Control {
    /// What every service needs.
    pub context: Context,
    /// The way to the other managers.
    pub forwarder: Forwarder,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A call as it came, decoded as far as this manager needs it.
struct Call {
    raw: CallRequest,
    identity: Identity,
    /// What a deployer presents.
    token: Option<Arc<DeployToken>>,
    request: ApiRequest,
    deadline: Instant,
    /// Among the caller's calls under way; a call that was handed on has its own where it came in.
    place: Option<Place<Caller>>,
    peer: Peer,
    origin: Origin,
}

#[tonic::async_trait]
impl control_server::Control for Control {
    type WatchStream = Answers<CallReply>;
    type LogsStream = Answers<LogsReply>;

    async fn call(&self, request: Request<CallRequest>) -> Result<Response<CallReply>, Status> {
        let call = self.read(request).await?;
        if matches!(call.request, ApiRequest::Watch { .. } | ApiRequest::Logs { .. }) {
            return Err(Status::invalid_argument("watches and logs have methods of their own"));
        }
        let reply = loop {
            let error = match self.here(&call).await {
                Ok(reply) => break Ok(reply),
                Err(error) => error,
            };
            let error = match self.leader(&error) {
                Some(leader) => {
                    let mut client = self.forwarder.client(leader.member, &leader.address);
                    let answer = leader.answer(&call, client.call(call.onward())).await;
                    match answer.and_then(of_reply) {
                        Ok(reply) => break Ok(reply),
                        Err(error) => error,
                    }
                }
                None => error,
            };
            if !self.may_retry(&call, &error).await {
                break Err(self.refusal(&call, error));
            }
        };
        if reply.is_ok() {
            call.peer.welcome();
        }
        Ok(Response::new(to_reply(reply)))
    }

    async fn watch(&self, request: Request<CallRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let call = self.read(request).await?;
        if !matches!(call.request, ApiRequest::Watch { .. }) {
            return Err(Status::invalid_argument("this method only watches"));
        }
        loop {
            let (mut answers, handle) = self.ask(&call, WATCH_QUEUE).await.map_err(status_of)?;
            let first = answers.recv().await.unwrap_or_else(|| Err(ending()));
            let error = match first {
                Err(error) => error,
                first => {
                    let end = self.cancel_on_drop(&call, handle);
                    let rest = ReceiverStream::new(answers).map(move |answer| {
                        let _held = &end;
                        Ok(to_reply(answer))
                    });
                    let all = tokio_stream::once(Ok(to_reply(first))).chain(rest);
                    return Ok(Response::new(call.holding(all)));
                }
            };
            let error = match self.leader(&error) {
                Some(leader) => {
                    let mut client = self.forwarder.client(leader.member, &leader.address);
                    match leader.answer(&call, client.watch(call.onward())).await {
                        Ok(answers) => return Ok(Response::new(call.holding(answers))),
                        Err(error) => error,
                    }
                }
                None => error,
            };
            if !self.may_retry(&call, &error).await {
                let refusal = to_reply(Err(self.refusal(&call, error)));
                return Ok(Response::new(Box::pin(tokio_stream::once(Ok(refusal)))));
            }
        }
    }

    async fn logs(&self, request: Request<CallRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let call = self.read(request).await?;
        if !matches!(call.request, ApiRequest::Logs { .. }) {
            return Err(Status::invalid_argument("this method only reads logs"));
        };
        loop {
            let (mut answers, handle) = self.ask(&call, LOGS_QUEUE).await.map_err(status_of)?;
            let end = self.cancel_on_drop(&call, handle);
            let error = match answers.recv().await.unwrap_or_else(|| Err(ending())) {
                Ok(reply) => {
                    let refused = async move {
                        let _held = end;
                        match answers.recv().await {
                            Some(Err(error)) => error,
                            // Nobody will take it away.
                            _ => std::future::pending().await,
                        }
                    };
                    let lines = until_refused(self.log_lines(reply), refused);
                    return Ok(Response::new(call.holding(lines)));
                }
                Err(error) => error,
            };
            let error = match self.leader(&error) {
                Some(leader) => {
                    let mut client = self.forwarder.client(leader.member, &leader.address);
                    match leader.answer(&call, client.logs(call.onward())).await {
                        Ok(lines) => return Ok(Response::new(call.holding(lines))),
                        Err(error) => error,
                    }
                }
                None => error,
            };
            if !self.may_retry(&call, &error).await {
                let plan = to_reply(Err(self.refusal(&call, error)));
                let refusal = tokio_stream::once(Ok(LogsReply { item: Some(Item::Plan(plan)) }));
                return Ok(Response::new(Box::pin(refusal)));
            }
        }
    }
}

impl Control {
    async fn read(&self, request: Request<CallRequest>) -> Result<Call, Status> {
        let admitted = self.context.identity(&request).map(drop);
        let certified = Context::named(&request)?;
        let peer = Peer::of(&request)?.clone();
        let from = peer.address().ip();
        let token = match bearer::presented(&request) {
            Ok(token) => token.map(Arc::new),
            Err(refused) => {
                self.context.offences.note(from, std::time::Instant::now());
                self.context.turn(from).await?;
                return Err(self.context.turn_away(from, certified, refused));
            }
        };
        let raw = request.into_inner();
        let handed_on = !raw.on_behalf_of.is_empty();
        let place = match &certified {
            Identity::Manager(_) if handed_on => None,
            _ => Some(self.context.bounds.enter(&certified, from).map_err(refused)?),
        };
        if certified == Identity::Anonymous && raw.request.len() > SMALL_CALL {
            let message =
                format!("{} bytes without a certificate: the bound is {SMALL_CALL}", raw.request.len());
            return Err(Status::resource_exhausted(message));
        }
        let (identity, token) = match (certified, handed_on) {
            (who @ Identity::Manager(_), true) => {
                let vouched = admitted.clone().and_then(|()| vouched(&raw.on_behalf_of, token));
                vouched.map_err(|refused| self.context.turn_away(from, who, refused))?
            }
            (who, true) => {
                let refused = Status::permission_denied("only managers speak on behalf of others");
                return Err(self.context.turn_away(from, who, refused));
            }
            (Identity::Anonymous, false) => {
                (token.as_ref().map_or(Identity::Anonymous, |token| Identity::Bearer(token.id())), token)
            }
            (who, false) if token.is_some() => {
                let why = "a call comes with a certificate or with a deploy token, not with both";
                return Err(self.context.turn_away(from, who, Status::invalid_argument(why)));
            }
            (identity, false) => (identity, None),
        };
        let source = if handed_on { raw.source.clone() } else { from.to_canonical().to_string() };
        let request: ApiRequest = codec::decode(&raw.request).map_err(malformed)?;
        // Whoever was removed may read nothing, but its changes go to the leader, whose refusals are on record.
        if request.is_read() {
            admitted?;
        }
        let wanted = match raw.deadline_ms {
            0 => DEFAULT_DEADLINE,
            millis => Duration::from_millis(millis).min(MAX_DEADLINE),
        };
        let origin = Origin::new(Some(source), Some(raw.job.clone()));
        let deadline = Instant::now() + wanted;
        let call = Call { raw, identity, token, request, deadline, place, peer, origin };
        if call.is_unproven() {
            self.context.turn(from).await?;
        }
        Ok(call)
    }

    /// The last word to a client. A proof that failed makes the next tries of its address wait.
    fn refusal(&self, call: &Call, error: ApiError) -> ApiError {
        if call.is_unproven() && call.has_failed(&error) {
            self.context.offences.note(call.peer.address().ip(), std::time::Instant::now());
        }
        error.without_referral()
    }

    /// Hands the call to the core; returns where its answers come from, and its handle.
    async fn ask(
        &self,
        call: &Call,
        queue: usize,
    ) -> Result<(mpsc::Receiver<Result<Reply, ApiError>>, u64), ApiError> {
        let (sink, answers) = mpsc::channel(queue);
        let handle = self.context.number();
        let event = Event::Request {
            handle,
            identity: call.identity.clone(),
            request_id: (call.raw.request_id != 0).then_some(RequestId(call.raw.request_id)),
            consistency: if call.raw.stale { Consistency::Stale } else { Consistency::Linearizable },
            deadline: Some(call.deadline.saturating_duration_since(Instant::now())),
            request: call.request.clone(),
            origin: call.origin.clone(),
        };
        let inputs = self.context.inputs.of(Class::of(&call.identity));
        let token = call.token.clone();
        inputs.send(Input::Request { event, sink, token }).await.map_err(|_| ending())?;
        Ok((answers, handle))
    }

    /// The core's one answer.
    async fn here(&self, call: &Call) -> Result<Reply, ApiError> {
        let (mut answers, handle) = self.ask(call, 1).await?;
        let _end = self.cancel_on_drop(call, handle);
        answers.recv().await.unwrap_or_else(|| Err(ending()))
    }

    /// Who else can answer, by the core's refusal.
    fn leader(&self, error: &ApiError) -> Option<Leader> {
        if error.code != ErrorCode::NotLeader {
            return None;
        }
        let mut changes = self.context.shared.standing.clone();
        let standing = changes.borrow_and_update();
        let member = error.leader.or(standing.leader)?;
        let address = standing.addresses.get(&member)?.clone();
        drop(standing);
        Some(Leader { member, address, changes })
    }

    /// Waits for another attempt if one can help: nobody leads yet, or the outcome is unknown and a request id makes the
    /// repetition harmless.
    async fn may_retry(&self, call: &Call, error: &ApiError) -> bool {
        let passing = match error.code {
            ErrorCode::NotLeader => true,
            // An issuer that is away stays so for a while: its callers, whom nobody knows, wait at their own cost.
            ErrorCode::Unavailable if matches!(call.request, ApiRequest::Exchange(_)) => false,
            ErrorCode::Unavailable => call.request.is_read() || call.raw.request_id != 0,
            _ => false,
        };
        let forwarded = !call.raw.on_behalf_of.is_empty();
        if !passing || forwarded || Instant::now() + PAUSE >= call.deadline {
            return false;
        }
        let mut standing = self.context.shared.standing.clone();
        standing.borrow_and_update();
        let _ = tokio::time::timeout(PAUSE, standing.changed()).await;
        true
    }

    fn cancel_on_drop(&self, call: &Call, handle: u64) -> CancelOnDrop {
        CancelOnDrop { inputs: self.context.inputs.of(Class::of(&call.identity)).clone(), handle }
    }

    /// The plan, then the frames of all its sources as they come.
    fn log_lines(&self, reply: Reply) -> Answers<LogsReply> {
        let mut readers = StreamMap::new();
        if let ApiResponse::LogPlan(sources) = &reply.response {
            for (place, source) in sources.iter().enumerate() {
                if let Some(number) = source.stream {
                    readers.insert(place, frames_of(self.context.streams.expect(number)));
                }
            }
        }
        let plan = LogsReply { item: Some(Item::Plan(to_reply(Ok(reply)))) };
        let pieces = readers.map(|(place, frame)| {
            let source = u32::try_from(place).expect("a plan has a bounded number of sources");
            let piece = LogPiece { source, frame: codec::encode(&frame) };
            Ok(LogsReply { item: Some(Item::Piece(piece)) })
        });
        Box::pin(tokio_stream::once(Ok(plan)).chain(pieces))
    }
}

/// A source's frames; one that breaks off ends with a frame that says so.
fn frames_of(reader: LogReader) -> Pin<Box<dyn Stream<Item = LogFrame> + Send>> {
    Box::pin(futures_util::stream::unfold((reader, false), |(mut reader, ended)| async move {
        if ended {
            return None;
        }
        let broken = || LogFrame::End(Some("the connection to the node broke".into()));
        let frame = reader.frames.recv().await.unwrap_or_else(broken);
        let last = matches!(frame, LogFrame::End(_));
        Some((frame, (reader, last)))
    }))
}

/// Another manager that leads, as far as this one knows.
struct Leader {
    member: MemberId,
    address: String,
    /// What changed since.
    changes: watch::Receiver<Standing>,
}

impl Leader {
    /// Waits for what it answers, no longer than it leads (a frozen one never answers) nor than the caller waits.
    async fn answer<T>(
        mut self,
        call: &Call,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, ApiError> {
        let Self { member, address, changes } = &mut self;
        let deposed = async {
            while changes.changed().await.is_ok() && changes.borrow_and_update().leader == Some(*member) {}
        };
        tokio::select! {
            answer = answer => match answer {
                Ok(answer) => Ok(answer.into_inner()),
                Err(status) => Err(unreachable_leader(*member, address, &status)),
            },
            () = deposed => {
                Err(ApiError::new(ErrorCode::Unavailable, format!("manager {member} at {address} leads no more")))
            }
            () = tokio::time::sleep_until(call.deadline) => {
                let why = format!("the leader, manager {member} at {address}, did not answer in time");
                Err(ApiError::new(ErrorCode::Deadline, why))
            }
        }
    }
}

impl Call {
    /// Answers that keep the caller's place until the last one was read or nobody reads any more.
    fn holding<T: 'static>(
        self,
        answers: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Answers<T> {
        self.peer.welcome();
        Box::pin(answers.map(move |answer| {
            let _held = &self.place;
            answer
        }))
    }

    /// The call as it is handed on.
    fn onward(&self) -> Request<CallRequest> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let mut raw = self.raw.clone();
        raw.on_behalf_of = codec::encode(&self.identity);
        raw.source = self.origin.source.clone().unwrap_or_default();
        raw.deadline_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
        let mut onward = Request::new(raw);
        if let Some(token) = &self.token {
            bearer::present(&mut onward, token);
        }
        onward
    }

    /// Whether its sender has no certificate, so that what the call itself holds is all the proof there is.
    fn is_unproven(&self) -> bool {
        matches!(self.identity, Identity::Anonymous | Identity::Bearer(_)) && self.raw.on_behalf_of.is_empty()
    }

    /// Whether a refusal means that what the call holds proves nothing.
    fn has_failed(&self, refusal: &ApiError) -> bool {
        match refusal.code {
            ErrorCode::Unauthenticated => true,
            // A join token is all that one who joins is asked about; a deploy token may be right and allow less than was asked, and
            // whoever logs in with the right password may have no role.
            ErrorCode::Denied => {
                self.identity == Identity::Anonymous && !matches!(self.request, ApiRequest::LogIn(_))
            }
            _ => false,
        }
    }
}

/// For whom another manager speaks. What it cannot vouch for, the leader verifies itself.
fn vouched(
    encoded: &[u8],
    token: Option<Arc<DeployToken>>,
) -> Result<(Identity, Option<Arc<DeployToken>>), Status> {
    match codec::decode(encoded).map_err(malformed)? {
        Identity::Deployer { .. } => {
            Err(Status::permission_denied("only the leader says whose a deploy token is"))
        }
        Identity::Bearer(id) if token.as_ref().is_none_or(|token| token.id() != id) => {
            Err(Status::unauthenticated(bearer::REFUSED))
        }
        identity @ Identity::Bearer(_) => Ok((identity, token)),
        identity => Ok((identity, None)),
    }
}

/// Log lines until there are no more, or until they may not be read any more.
fn until_refused(
    lines: Answers<LogsReply>,
    refused: impl Future<Output = ApiError> + Send + 'static,
) -> Answers<LogsReply> {
    let refused: Pin<Box<dyn Future<Output = ApiError> + Send>> = Box::pin(refused);
    Box::pin(futures_util::stream::unfold(Some((lines, refused)), |open| async move {
        let (mut lines, mut refused) = open?;
        tokio::select! {
            biased;
            error = &mut refused => Some((Err(refused_status(error)), None)),
            line = lines.next() => line.map(|line| (line, Some((lines, refused)))),
        }
    }))
}

/// Tells the core that nobody waits any more.
struct CancelOnDrop {
    inputs: mpsc::Sender<Input>,
    handle: u64,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        // A full queue only means that an answer will find nobody.
        let _ = self.inputs.try_send(Input::Core(Event::Cancel { handle: self.handle }));
    }
}

fn unreachable_leader(member: MemberId, address: &str, status: &Status) -> ApiError {
    let why = rpc::tls::TlsError::in_chain(status).map_or(status.message().to_owned(), |e| e.to_string());
    ApiError::new(
        ErrorCode::Unavailable,
        format!("the leader, manager {member} at {address}, does not answer: {why}"),
    )
}

fn malformed(error: codec::CodecError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// Why a stream that was open ends.
fn refused_status(error: ApiError) -> Status {
    match error.code {
        ErrorCode::Denied => Status::permission_denied(error.message),
        ErrorCode::Unauthenticated => Status::unauthenticated(error.message),
        _ => Status::unavailable(error.message),
    }
}

fn refused(error: ApiError) -> Status {
    Status::resource_exhausted(error.message)
}

fn status_of(error: ApiError) -> Status {
    Status::unavailable(error.message)
}

fn to_reply(result: Result<Reply, ApiError>) -> CallReply {
    let outcome = match result {
        Ok(reply) => Outcome::Reply(codec::encode(&reply)),
        Err(error) => Outcome::Error(codec::encode(&error)),
    };
    CallReply { outcome: Some(outcome) }
}

fn of_reply(reply: CallReply) -> Result<Reply, ApiError> {
    let internal = |error: codec::CodecError| ApiError::new(ErrorCode::Internal, error.to_string());
    match reply.outcome {
        Some(Outcome::Reply(bytes)) => codec::decode(&bytes).map_err(internal),
        Some(Outcome::Error(bytes)) => Err(codec::decode(&bytes).map_err(internal)?),
        None => Err(ApiError::new(ErrorCode::Internal, "an empty answer")),
    }
}

/// Says it in words for a client, who cannot use a member's id.
trait WithoutReferral {
    fn without_referral(self) -> Self;
}

impl WithoutReferral for ApiError {
    fn without_referral(self) -> Self {
        if self.code != ErrorCode::NotLeader {
            return self;
        }
        let message = "no manager leads right now (no quorum, or an election is under way): retry, or read with --stale";
        Self::new(ErrorCode::Unavailable, message)
    }
}
