//! The one loop around the core: waits for an input or the core's own deadline, feeds it, carries out what it says.
//!
//! It has a thread of its own, so that no socket's work delays a heartbeat. It decides nothing about services, tasks or
//! nodes; it only knows where an action goes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use idtoken::KeySet;
use manager_core::{Action, Event, Manager, Notice};
use model::{
    command::Answer,
    id::MemberId,
    identity::Identity,
    issuer::IssuerSpec,
    request::{ApiError, ErrorCode, ReenrolRequest, Reply, Request, Response, Successor},
    sealed::Clear,
    session::ManagerMessage,
    time::{Instant, Now, WallTime},
};
use pki::{ClusterCa, DeployToken};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    edge,
    inputs::{Class, Inputs, Queues},
    issuers::{self, Issuers, Judged},
    keyring::KeyFile,
    login,
    peers::Peers,
    registry,
    storage::{Storage, Written},
};

/// Certificates of managers and nodes live so long; they are renewed at half of it.
pub const CERTIFICATE_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Serial numbers of certificates that managers sign for themselves, drawn: far above those that the log counts, and above those of
/// `init` and `recover`.
const OWN_SERIALS: u64 = (1 << 62) + (1 << 61);

/// Where a request's answers go.
pub type ReplySink = mpsc::Sender<Result<Reply, ApiError>>;

/// What reaches the loop.
pub enum Input {
    /// For the core as it is.
    Core(Event),
    /// A client's request: an [`Event::Request`], and where its answers go.
    Request {
        /// Always an [`Event::Request`].
        event: Event,
        /// For its answers.
        sink: ReplySink,
        /// What proves an [`Identity::Bearer`]; the core never sees it.
        token: Option<Arc<DeployToken>>,
    },
    /// An agent connected.
    AgentOpened {
        /// The connection.
        connection: u64,
        /// From its certificate.
        identity: Identity,
        /// Where its messages go.
        sink: mpsc::Sender<ManagerMessage>,
    },
    /// The keys of an issuer were fetched, or could not be.
    Keys {
        /// As it was declared when they were asked for.
        issuer: Box<IssuerSpec>,
        /// Them, or why there are none.
        fetched: Result<KeySet, String>,
    },
    /// A certificate for this manager over a key that it has, because its own has run out and nobody lets it in to ask.
    OwnCertificate {
        /// Who it is.
        member: MemberId,
        /// The certificate request, PEM.
        csr: String,
        /// Where the certificate, PEM, goes.
        answer: oneshot::Sender<Result<String, ApiError>>,
    },
    /// From the log's thread.
    Written(Written),
    /// Hand over the lead if there is any, then end.
    Stop,
}

/// What the rest of the daemon may know at any time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// This manager leads.
    pub is_leader: bool,
    /// The term.
    pub term: u64,
    /// Who leads.
    pub leader: Option<MemberId>,
    /// Where the other managers are.
    pub addresses: BTreeMap<MemberId, String>,
}

/// What the loop shares with the sockets.
#[derive(Clone)]
pub struct Shared {
    /// The newest standing, and its changes.
    pub standing: watch::Receiver<Standing>,
    /// Identities that are refused.
    pub revoked: Arc<ArcSwap<BTreeSet<Identity>>>,
    /// What the authority is, and its changes; `None` before the state says it.
    pub authority: watch::Receiver<Option<AuthorityNews>>,
}

/// What the state says of the authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityNews {
    /// Whom to trust, and what to present beside the own certificate, PEM.
    pub bundle: String,
    /// This manager's certificate is of an authority that is being replaced.
    pub renew: bool,
}

/// Cuts the connections of these identities.
pub type Cutter = Box<dyn Fn(&[Identity]) + Send>;

/// The loop with what it needs to carry out actions.
pub struct CoreLoop {
    manager: Manager,
    storage: Storage,
    peers: Peers,
    inputs: Queues,
    own: mpsc::Sender<Input>,
    standing: watch::Sender<Standing>,
    revoked: Arc<ArcSwap<BTreeSet<Identity>>>,
    authority_news: watch::Sender<Option<AuthorityNews>>,
    cut: Cutter,
    replies: HashMap<u64, ReplySink>,
    agents: HashMap<u64, mpsc::Sender<ManagerMessage>>,
    /// Its key is opened once and stays in memory.
    authority: Option<Arc<ClusterCa>>,
    issuers: Issuers,
    sockets: tokio::runtime::Handle,
    key_file: Arc<KeyFile>,
    issuer_keys: login::Keys,
    origin: std::time::Instant,
    stopping: Option<std::time::Instant>,
}

/// How the loop ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// As asked.
    Stopped,
    /// It must not go on.
    Halted(String),
    /// It was removed: it has no place to come back to.
    Retired(String),
}

/// A planned stop waits so long for another manager to take the lead.
const HAND_OVER: Duration = Duration::from_secs(1);
/// The handle of the loop's own request to hand the lead over; clients' handles count from 1.
const HAND_OVER_HANDLE: u64 = 0;

/// What a loop is made of.
pub struct Parts {
    /// The core.
    pub manager: Manager,
    /// The log's thread.
    pub storage: Storage,
    /// The other members.
    pub peers: Peers,
    /// Where inputs come in, and where the loop takes them.
    pub inputs: (Inputs, Queues),
    /// Cuts the connections of these identities.
    pub cut: Cutter,
    /// Where work with sockets runs.
    pub sockets: tokio::runtime::Handle,
    /// Where the data keys are kept.
    pub key_file: Arc<KeyFile>,
    /// The origin of the core's monotonic clock.
    pub origin: std::time::Instant,
}

/// Both clocks, read once.
pub fn now(origin: std::time::Instant) -> Now {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now {
        mono: Instant(u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX)),
        wall: WallTime(u64::try_from(wall.as_micros()).unwrap_or(u64::MAX)),
    }
}

impl CoreLoop {
    /// Puts the loop together.
    pub fn new(parts: Parts) -> (Self, Shared) {
        let (standing, watch) = watch::channel(Standing::default());
        let revoked = Arc::new(ArcSwap::from_pointee(BTreeSet::new()));
        let (authority_news, heard) = watch::channel(None);
        let shared = Shared { standing: watch, revoked: revoked.clone(), authority: heard };
        let core_loop = Self {
            manager: parts.manager,
            storage: parts.storage,
            peers: parts.peers,
            own: parts.inputs.0.of(Class::Raft).clone(),
            inputs: parts.inputs.1,
            standing,
            revoked,
            authority_news,
            cut: parts.cut,
            replies: HashMap::new(),
            agents: HashMap::new(),
            authority: None,
            issuers: Issuers::default(),
            sockets: parts.sockets,
            key_file: parts.key_file,
            issuer_keys: login::Keys::default(),
            origin: parts.origin,
            stopping: None,
        };
        (core_loop, shared)
    }

    /// Runs until asked to stop, or until the core or the log says that it must not go on.
    pub async fn run(mut self) -> Ended {
        loop {
            if let Some(ended) = self.carry_out().await {
                return ended;
            }
            if self.stopping.is_some_and(|since| !self.leads() || since.elapsed() > HAND_OVER) {
                return Ended::Stopped;
            }
            let deadline = self.manager.poll_timeout().map(|at| self.origin + Duration::from_nanos(at.0));
            tokio::select! {
                biased;
                () = sleep_until(deadline) => {
                    let now = now(self.origin);
                    self.manager.handle_timeout(now);
                }
                input = self.inputs.next() => {
                    let Some(input) = input else { return Ended::Stopped };
                    if let Some(ended) = self.take(input) {
                        return ended;
                    }
                    for input in self.inputs.turn() {
                        if let Some(ended) = self.take(input) {
                            return ended;
                        }
                    }
                }
            }
        }
    }

    fn leads(&self) -> bool {
        self.standing.borrow().is_leader && !self.standing.borrow().addresses.is_empty()
    }

    fn take(&mut self, input: Input) -> Option<Ended> {
        let event = match input {
            Input::Core(event) => event,
            Input::Written(Written::Persisted(sequence)) => Event::Persisted { sequence },
            Input::Written(Written::Space(space)) => Event::Space(space),
            Input::Written(Written::Failed(reason)) => return Some(Ended::Halted(reason)),
            Input::AgentOpened { connection, identity, sink } => {
                self.agents.insert(connection, sink);
                Event::AgentOpened { connection, identity }
            }
            Input::Request { event, sink, token } => self.request(event, sink, token.as_deref())?,
            Input::Keys { issuer, fetched } => {
                let waiting = self.issuers.fetched(&issuer, fetched, std::time::Instant::now());
                return waiting
                    .into_iter()
                    .find_map(|(event, sink)| self.take(Input::Request { event, sink, token: None }));
            }
            Input::OwnCertificate { member, csr, answer } => {
                // Whoever asked may have gone.
                let _ = answer.send(self.own_certificate(member, &csr));
                return None;
            }
            Input::Stop => {
                self.stopping = Some(std::time::Instant::now());
                if !self.leads() {
                    return None;
                }
                hand_over()
            }
        };
        if let Event::AgentClosed { connection } = &event {
            self.agents.remove(connection);
        }
        self.manager.handle_event(event, now(self.origin));
        None
    }

    /// Registers a request, or its refusal; `None`: it waits for an issuer's keys.
    fn request(&mut self, event: Event, sink: ReplySink, token: Option<&DeployToken>) -> Option<Event> {
        let Event::Request { handle, identity, request_id, consistency, deadline, request, origin } = event
        else {
            return Some(event);
        };
        let about = model::audit::about::about(&request);
        let verified = match request {
            Request::Join(join) => {
                self.verify(identity.clone(), *join).map(|(i, join)| (i, Request::Join(join.into())))
            }
            Request::Exchange(exchange) if self.standing.borrow().is_leader => {
                match self.issuers.judge(&self.manager, *exchange, std::time::Instant::now()) {
                    Judged::Proven(proven) => Ok((identity.clone(), Request::Exchange(proven))),
                    Judged::Refused(error) => Err(error),
                    Judged::Waits { exchange, issuer, fetch } => {
                        let request = Request::Exchange(exchange);
                        let event = Event::Request {
                            handle,
                            identity,
                            request_id,
                            consistency,
                            deadline,
                            request,
                            origin,
                        };
                        self.issuers.wait(&issuer.name, event, sink);
                        if fetch {
                            self.fetch_keys(issuer);
                        }
                        return None;
                    }
                }
            }
            Request::Reenrol(reenrol) => self
                .verify_reenrol(identity.clone(), *reenrol)
                .map(|(identity, reenrol)| (identity, Request::Reenrol(reenrol.into()))),
            other => self
                .prove(identity.clone(), token)
                .and_then(|identity| Ok((identity, self.completed(other)?))),
        };
        self.replies.insert(handle, sink);
        Some(match verified {
            Ok((identity, request)) => {
                Event::Request { handle, identity, request_id, consistency, deadline, request, origin }
            }
            Err(error) => Event::Refused { handle, identity, request_id, origin, about, error },
        })
    }

    fn fetch_keys(&self, issuer: Box<IssuerSpec>) {
        let own = self.own.clone();
        self.sockets.spawn(async move {
            let fetched = issuers::fetch::keys(&issuer).await;
            let _ = own.send(Input::Keys { issuer, fetched }).await;
        });
    }

    /// Checks a joiner's secret where this manager leads; elsewhere the core refers to the leader.
    fn verify(
        &mut self,
        identity: Identity,
        join: model::request::JoinRequest,
    ) -> Result<(Identity, model::request::JoinRequest), ApiError> {
        if !self.standing.borrow().is_leader {
            return Ok((identity, join));
        }
        let authority = self.authority()?;
        edge::verify_join(&authority, join)
    }

    /// Checks a returning node's proof where this manager leads; elsewhere the core refers to the leader. Whatever the caller proved
    /// otherwise does not count here.
    fn verify_reenrol(
        &mut self,
        identity: Identity,
        reenrol: ReenrolRequest,
    ) -> Result<(Identity, ReenrolRequest), ApiError> {
        if !self.standing.borrow().is_leader {
            return Ok((Identity::Anonymous, reenrol));
        }
        if !matches!(identity, Identity::Anonymous | Identity::Node(_)) {
            let message = format!("{identity} cannot re-enrol: that is for nodes");
            return Err(ApiError::new(ErrorCode::Denied, message));
        }
        edge::verify_reenrol(&self.manager, reenrol)
    }

    /// Puts in what only the shell knows, where this manager leads.
    fn completed(&mut self, request: Request) -> Result<Request, ApiError> {
        if !self.standing.borrow().is_leader {
            return Ok(request);
        }
        Ok(match request {
            Request::RenewCertificate { csr, .. } => {
                let key = edge::key_of(&csr);
                Request::RenewCertificate { csr, key }
            }
            Request::RotateAuthority { current, .. } => {
                let successor = Some(Box::new(self.successor()?));
                Request::RotateAuthority { current, successor }
            }
            other => other,
        })
    }

    /// The authority that takes the present one's place if the request is admitted.
    fn successor(&mut self) -> Result<Successor, ApiError> {
        let made = self.authority()?.successor(now(self.origin).wall);
        let (next, bridge) = made.map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
        let (certificate, key) = (next.certificate_pem().to_owned(), Clear::new(next.key_pem()));
        Ok(Successor { certificate, bridge, key })
    }

    /// Verifies a deploy token where this manager leads; elsewhere the core refers to the leader.
    fn prove(&mut self, identity: Identity, token: Option<&DeployToken>) -> Result<Identity, ApiError> {
        if !matches!(identity, Identity::Bearer(_)) || !self.standing.borrow().is_leader {
            return Ok(identity);
        }
        let authority = self.authority()?;
        edge::verify_bearer(&authority, &self.manager, token)
    }

    /// Every manager holds the authority, and signs for itself when all certificates of the managers may have run out. One that was removed
    /// gains nothing: the others refuse its id.
    fn own_certificate(&mut self, member: MemberId, csr: &str) -> Result<String, ApiError> {
        let identity = Identity::Manager(member);
        if self.manager.store().cluster().is_none() || self.manager.store().is_revoked(&identity) {
            let message = format!(
                "the state on this disk does not know manager {member}: join it again with a fresh token"
            );
            return Err(ApiError::new(ErrorCode::Denied, message));
        }
        let authority = self.authority()?;
        let internal = |error: &dyn std::fmt::Display| ApiError::new(ErrorCode::Internal, error.to_string());
        let serial = OWN_SERIALS + (crate::entropy::number().map_err(|error| internal(&error))? >> 4);
        let name = model::identity::CertName { cluster: authority.cluster(), identity };
        let wall = now(self.origin).wall;
        let issued = authority.issue(csr.as_bytes(), &name, CERTIFICATE_LIFE, wall, serial);
        issued.map_err(|error| internal(&error))
    }

    fn authority(&mut self) -> Result<Arc<ClusterCa>, ApiError> {
        let cluster = self.manager.store().cluster();
        let cluster = cluster
            .ok_or_else(|| ApiError::new(ErrorCode::Unavailable, "the cluster is not founded yet: retry"))?;
        let certificate = &cluster.authority.certificate;
        if let Some(known) = self.authority.as_ref().filter(|known| known.certificate_pem() == certificate) {
            return Ok(known.clone());
        }
        let broken = |why: String| ApiError::new(ErrorCode::Internal, format!("the authority: {why}"));
        let key = self.manager.authority_key()?;
        let key = std::str::from_utf8(key.reveal()).map_err(|error| broken(error.to_string()))?;
        let read = ClusterCa::from_pem(certificate, key);
        let read = read.map_err(|error| broken(error.to_string()))?;
        Ok(self.authority.insert(Arc::new(read)).clone())
    }

    async fn carry_out(&mut self) -> Option<Ended> {
        while let Some(action) = self.manager.poll_action() {
            match action {
                Action::Persist(persist) => self.storage.persist(persist),
                Action::Compact { index } => self.storage.compact(index),
                Action::EncodeSnapshot { index, state, .. } => self.in_background(move || {
                    Event::SnapshotEncoded { index, bytes: proto::codec::encode(&state) }
                }),
                Action::SendPeer { to, bytes } => self.send_peer(to, bytes),
                Action::Peers(peers) => self.set_peers(peers),
                Action::Reply { handle, result, more } => self.reply(handle, result, more),
                Action::SendAgent { connection, message } => self.send_agent(connection, message),
                Action::CloseAgent { connection, reason } => {
                    tracing::debug!(connection, reason, "closing an agent's session");
                    self.agents.remove(&connection);
                }
                Action::Sign { job, csr, identity, serial, life } => {
                    self.sign(job, csr, identity, serial, life.unwrap_or(CERTIFICATE_LIFE));
                }
                Action::AskRegistry { job, question } => self.ask_registry(job, *question),
                Action::AskLogin { job, question } => self.ask_login(job, *question),
                Action::KeepKeys { sequence, keyring } => self.keep_keys(sequence, keyring),
                Action::Revoked(identities) => {
                    (self.cut)(&identities);
                    self.revoked
                        .rcu(|known| known.iter().chain(&identities).cloned().collect::<BTreeSet<_>>());
                }
                Action::Authority { bundle, renew } => {
                    self.authority_news.send_replace(Some(AuthorityNews { bundle, renew }));
                }
                Action::Leader { is_leader, term, leader } => {
                    tracing::info!(is_leader, term, leader = ?leader, "leadership");
                    self.standing.send_modify(|s| {
                        (s.is_leader, s.term, s.leader) = (is_leader, term, leader);
                    });
                }
                Action::Notice(Notice { warning: true, text }) => tracing::warn!("{text}"),
                Action::Notice(Notice { warning: false, text }) => tracing::info!("{text}"),
                Action::Halt { reason } => return Some(Ended::Halted(reason)),
                Action::Retire { reason } => return Some(Ended::Retired(reason)),
            }
        }
        None
    }

    fn send_peer(&mut self, to: MemberId, bytes: Bytes) {
        self.peers.send(to, bytes);
    }

    fn set_peers(&mut self, peers: Vec<(MemberId, String)>) {
        self.standing.send_modify(|s| s.addresses = peers.iter().cloned().collect());
        self.peers.set(peers);
    }

    fn reply(&mut self, handle: u64, result: Result<Reply, ApiError>, more: bool) {
        let result = self.compose(result);
        let Some(sink) = self.replies.get(&handle) else { return };
        // A client that does not read its watch loses it; it resumes from its last revision.
        let gone = sink.try_send(result).is_err();
        if gone && more {
            self.manager.handle_event(Event::Cancel { handle }, now(self.origin));
        }
        if gone || !more {
            self.replies.remove(&handle);
        }
    }

    /// Puts in what only the shell knows: the text of a new token.
    fn compose(&mut self, result: Result<Reply, ApiError>) -> Result<Reply, ApiError> {
        let Ok(Reply {
            response: Response::Changed { answer: Answer::Token { id, expires }, .. },
            index,
            stale,
        }) = result
        else {
            return result;
        };
        let authority = self.authority()?;
        let gone = || ApiError::new(ErrorCode::NotFound, "the token ended before its answer was sent");
        let role = self.manager.store().token(id).ok_or_else(gone)?.role;
        let text = authority.join_token(role, id).reveal();
        Ok(Reply { response: Response::Token { text, expires }, index, stale })
    }

    fn send_agent(&mut self, connection: u64, message: ManagerMessage) {
        let Some(sink) = self.agents.get(&connection) else { return };
        if sink.try_send(message).is_err() {
            // It does not read, or it is gone: dropping the sink ends the stream, and the agent comes back afresh.
            self.agents.remove(&connection);
            self.manager.handle_event(Event::AgentClosed { connection }, now(self.origin));
        }
    }

    fn sign(&mut self, job: u64, csr: String, identity: Identity, serial: u64, life: Duration) {
        let authority = self.authority();
        let wall = now(self.origin).wall;
        self.in_background(move || {
            let certificate = authority.map_err(|e| e.message).and_then(|authority| {
                let name = model::identity::CertName { cluster: authority.cluster(), identity };
                let issued = authority.issue(csr.as_bytes(), &name, life, wall, serial);
                issued.map_err(|e| e.to_string())
            });
            Event::Signed { job, certificate }
        });
    }

    fn ask_registry(&self, job: u64, question: manager_core::RegistryQuestion) {
        let own = self.own.clone();
        self.sockets.spawn(async move {
            let answer = registry::ask(question).await;
            let _ = own.send(Input::Core(Event::RegistryAnswered { job, answer })).await;
        });
    }

    fn ask_login(&self, job: u64, question: manager_core::LoginQuestion) {
        let (own, keys) = (self.own.clone(), self.issuer_keys.clone());
        self.sockets.spawn(async move {
            let answer = login::judge(question, keys).await;
            let _ = own.send(Input::Core(Event::LoginAnswered { job, answer })).await;
        });
    }

    /// A keyring that cannot be kept ends the process, as a log does that cannot be written.
    fn keep_keys(&self, sequence: u64, keyring: seal::Keyring) {
        let (own, file) = (self.own.clone(), self.key_file.clone());
        tokio::task::spawn_blocking(move || {
            let input = match file.keep(sequence, &keyring) {
                Ok(()) => Input::Core(Event::KeysKept { sequence }),
                Err(error) => {
                    Input::Written(Written::Failed(format!("the keyring cannot be kept: {error:#}")))
                }
            };
            let _ = own.blocking_send(input);
        });
    }

    /// Runs work that takes long on another thread; its event comes back as an input.
    fn in_background(&self, work: impl FnOnce() -> Event + Send + 'static) {
        let own = self.own.clone();
        tokio::task::spawn_blocking(move || {
            let _ = own.blocking_send(Input::Core(work()));
        });
    }
}

fn hand_over() -> Event {
    Event::Request {
        handle: HAND_OVER_HANDLE,
        identity: Identity::Operator { name: "shutdown".into(), role: model::identity::Role::Admin },
        request_id: None,
        consistency: model::request::Consistency::Stale,
        deadline: Some(HAND_OVER),
        request: Request::TransferLeader { to: None },
        origin: Default::default(),
    }
}

async fn sleep_until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
