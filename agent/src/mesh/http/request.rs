//! One request: who is to answer it, the tries, the answer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version,
    header::{CONTENT_LENGTH, HOST, SET_COOKIE},
    request::Parts,
};
use http_body_util::BodyExt;
use hyper::{
    body::{Body, Incoming},
    upgrade::OnUpgrade,
};
use mesh::{
    Table,
    balance::Failure,
    http as rules, retry,
    table::{HttpRoute, Port, Replica},
};
use model::{id::TaskId, route::Backend};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    body::{Download, Progress, Upload},
    exchange::{Carrier, Line, Unanswered},
    flow::Flow,
    headers::{self, Client},
    pool::{Lease, since},
    reply::{Reply, Unrouted, in_grpc, in_words, refuse},
    serve::Arrival,
    tries::{Failed, Tries},
    upgrade,
};
use crate::mesh::{
    access::{Asked, Note},
    world::{Ticket, World},
};

/// A body up to this length is kept until it is answered, so that another replica can be asked.
pub const SMALL_BODY: u64 = 64 * 1024;
/// A request that no replica takes waits so long for newer routes: less than anybody notices, more than a route needs.
pub const NEWER: Duration = Duration::from_millis(500);
/// A client's body that does not move for this long is given up.
pub const BODY_IDLE: Duration = Duration::from_secs(30);

/// A request and the replicas of one table.
struct Exchange<'a, 'b> {
    arrival: &'a Arrival,
    world: &'a Arc<World>,
    table: &'a Table,
    route: &'a HttpRoute,
    pending: &'a mut Pending<'b>,
    deadline: Instant,
}

/// An answer that has begun; or a try that failed, and whether it says nothing about its replica.
type Tried = Result<(Response<Incoming>, Lease), (Ticket, Failure, bool)>;

/// Answers a request.
pub async fn answer(arrival: &Arrival, request: Request<Incoming>) -> Response<Reply> {
    let is_grpc = headers::is_grpc(request.headers());
    let response = answer_as_http(arrival, request).await;
    if is_grpc && response.body().is_refusal() { in_grpc(response) } else { response }
}

async fn answer_as_http(arrival: &Arrival, mut request: Request<Incoming>) -> Response<Reply> {
    let world = &arrival.world;
    let table = world.table.load_full();
    let Some(Port::Http(routes)) = table.ports.get(&arrival.port) else {
        return Unrouted::Port.refusal();
    };
    let Some(host) = host_of(&request) else {
        return refuse(StatusCode::BAD_REQUEST, "the request names no host\n");
    };
    let bare = rules::without_port(host.to_str().unwrap_or_default());
    let Some(route) = routes.find(bare, request.uri().path()) else {
        return Unrouted::Request.refusal();
    };
    let began = Instant::now();
    let note = note(arrival, route, began, &request, &host);
    if route.service.endpoints.is_empty() {
        return noted(note, Unrouted::NoReplica.refusal());
    }
    let changed = headers::upgrade(request.headers()).map(|_| hyper::upgrade::on(&mut request));
    let (mut head, body) = request.into_parts();
    let client = Client { address: arrival.client.ip(), secure: arrival.secure };
    let cookie = headers::cookie(&head.headers, &route.service.cookie).map(str::to_owned);
    let Some(uri) = origin_form(&head.uri) else {
        return noted(note, refuse(StatusCode::BAD_REQUEST, "the request names no path\n"));
    };
    (head.uri, head.version) = (uri, Version::HTTP_11);
    let takes_trailers = headers::takes_trailers(&head.headers);
    headers::towards_replica(&mut head.headers, client, &host);
    let (upload, progress) = match keep(&mut head.headers, body).await {
        Ok(kept) => kept,
        Err(refusal) => return noted(note, refusal),
    };
    world.balancer().budget(route.service.id).deposit();
    let upload = Some(upload);
    let mut pending = Pending { arrival, head, takes_trailers, upload, progress, cookie, changed, note };
    let response = pending.answer(table, bare).await;
    noted(pending.note, response)
}

fn note(
    arrival: &Arrival,
    route: &HttpRoute,
    began: Instant,
    request: &Request<Incoming>,
    host: &HeaderValue,
) -> Note {
    if route.log.is_none() {
        return Note::default();
    }
    let asked = Asked {
        client: arrival.client,
        port: arrival.port,
        method: request.method().as_str(),
        host: host.to_str().unwrap_or_default(),
        target: request.uri().path_and_query().map_or("", |target| target.as_str()),
    };
    Note::begin(&arrival.world, route, began, asked)
}

/// An answer with what is noted of it: a replica's was noted when it came.
fn noted(mut note: Note, mut response: Response<Reply>) -> Response<Reply> {
    if !note.is_answered() {
        note.refused(response.status().as_u16());
    }
    if response.body().is_end_stream() {
        note.is_whole();
    }
    response.body_mut().note = note;
    response
}

/// A request that waits for its answer.
struct Pending<'a> {
    arrival: &'a Arrival,
    head: Parts,
    takes_trailers: bool,
    /// `None` once its body may have been sent.
    upload: Option<Upload>,
    progress: Option<Arc<Progress>>,
    cookie: Option<String>,
    changed: Option<OnUpgrade>,
    note: Note,
}

impl Pending<'_> {
    /// Tries the replicas of a table; when none of them takes the request, those of the next one.
    async fn answer(&mut self, mut table: Arc<Table>, host: &str) -> Response<Reply> {
        let began = Instant::now();
        let mut failed = Failure::Unreachable;
        loop {
            let routes = match table.ports.get(&self.arrival.port) {
                Some(Port::Http(routes)) => Some(routes),
                _ => None,
            };
            let Some(route) = routes.and_then(|routes| routes.find(host, self.head.uri.path())) else {
                return in_words(failed);
            };
            let deadline = began + route.settings.timeout;
            if !route.service.endpoints.is_empty() {
                let exchange = Exchange {
                    arrival: self.arrival,
                    world: &self.arrival.world,
                    table: &table,
                    route,
                    pending: self,
                    deadline,
                };
                match exchange.run().await {
                    Ok(response) => return response,
                    Err(failure) => failed = failure,
                }
            }
            match self.arrival.world.newer(&table, deadline.min(began + NEWER)).await {
                Some(newer) => table = newer,
                None => return in_words(failed),
            }
        }
    }
}

impl Exchange<'_, '_> {
    /// The answer; or why no replica took the request, when nothing of it was sent.
    async fn run(mut self) -> Result<Response<Reply>, Failure> {
        let service = &self.route.service;
        let is_sticky = self.route.settings.sticky;
        let cookie = self.pending.cookie.clone();
        let named = cookie.as_deref().filter(|_| is_sticky).and_then(|cookie| service.named(cookie));
        let mut tries = Tries::new(self.world, service, named.map(|replica| replica.task));
        while let Some((replica, ticket)) = tries.next() {
            self.pending.note.try_begins(replica.task);
            match self.try_once(replica, ticket, tries.only_new).await {
                Ok((response, lease)) => {
                    let fresh = (is_sticky && cookie.as_deref() != Some(&replica.opaque)).then_some(replica);
                    return Ok(self.pass_on(response, lease, fresh));
                }
                Err((ticket, failure, is_stale)) => {
                    if !tries.go_on(&ticket, self.failed(failure, is_stale)) {
                        break;
                    }
                }
            }
        }
        self.give_up(tries.failed)
    }

    /// What nobody took may be offered to the replicas of a newer table.
    fn give_up(&self, failure: Failure) -> Result<Response<Reply>, Failure> {
        let unsent =
            matches!(failure, Failure::Unreachable | Failure::Withdrawn) && self.pending.upload.is_some();
        if unsent { Err(failure) } else { Ok(in_words(failure)) }
    }

    async fn try_once(&mut self, replica: &Replica, ticket: Ticket, only_new: bool) -> Tried {
        let pooled = if only_new { None } else { self.pooled(replica.task) };
        let is_pooled = pooled.is_some();
        let carrier = match pooled {
            Some(carrier) => Ok(carrier),
            None => self.dial(replica).await,
        };
        let mut carrier = match carrier {
            Ok(carrier) => carrier,
            Err(failure) => return Err((ticket, failure, false)),
        };
        let request = self.request();
        match self.patiently(&mut carrier, request).await {
            Ok(response) if headers::contradicts_itself(response.headers()) => {
                Err((ticket, Failure::Broken, is_pooled))
            }
            Ok(response) => {
                ticket.answered(response.status().as_u16());
                let (world, port) = (self.world.clone(), self.route.target);
                Ok((response, Lease { carrier, ticket, world, port }))
            }
            Err(Unanswered { failure, unsent }) => {
                if unsent.is_some() {
                    self.pending.upload = unsent;
                }
                let is_stale = is_pooled && failure != Failure::Late && carrier.had_ended();
                Err((ticket, failure, is_stale))
            }
        }
    }

    fn pooled(&self, task: TaskId) -> Option<Carrier> {
        if self.is_http2() {
            return self.world.pools.flows.take(task, self.route.target).map(Carrier::Flow);
        }
        let repeatable =
            retry::is_idempotent(self.pending.head.method.as_str()) && self.pending.progress.is_none();
        let since = since(Instant::now(), repeatable);
        let line = self.world.pools.lines.take(task, self.route.target, since);
        line.map(|line| Carrier::Line(Box::new(line)))
    }

    async fn dial(&self, replica: &Replica) -> Result<Carrier, Failure> {
        let target = self.route.target;
        let opened = self.world.open(self.table, replica, target, self.arrival.client).await?;
        if !self.is_http2() {
            return Ok(Carrier::Line(Box::new(Line::new(opened).await?)));
        }
        let flow = Flow::new(self.world, opened).await?;
        self.world.pools.flows.put(self.world, replica.task, target, &flow);
        Ok(Carrier::Flow(flow))
    }

    fn is_http2(&self) -> bool {
        self.route.settings.backend == Backend::H2c
    }

    /// The request once more, with its body if that is still here.
    fn request(&mut self) -> Request<Upload> {
        let upload = match &self.pending.upload {
            Some(Upload::Kept(bytes)) => Upload::Kept(bytes.clone()),
            _ => self.pending.upload.take().unwrap_or(Upload::Kept(None)),
        };
        let mut head = self.pending.head.clone();
        if self.is_http2() {
            headers::over_http2(&mut head, &self.route.service.name, self.pending.takes_trailers);
        }
        Request::from_parts(head, upload)
    }

    /// Waits for the answer's beginning: a replica's time counts from the end of the request's body.
    async fn patiently(
        &self,
        carrier: &mut Carrier,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let late = || Unanswered { failure: Failure::Late, unsent: None };
        let Some(progress) = &self.pending.progress else {
            let patience = self.route.settings.try_timeout.min(self.deadline - Instant::now());
            return timeout(patience, carrier.exchange(request)).await.unwrap_or_else(|_| Err(late()));
        };
        let mut exchange = std::pin::pin!(carrier.exchange(request));
        loop {
            let (moved, ended) = progress.last();
            let until = moved + if ended { self.route.settings.try_timeout } else { BODY_IDLE };
            tokio::select! {
                answered = &mut exchange => return answered,
                () = sleep_until(until) => if progress.last() == (moved, ended) {
                    return Err(late());
                },
            }
        }
    }

    fn failed(&self, failure: Failure, is_stale: bool) -> Failed {
        let body = match &self.pending.upload {
            Some(Upload::Kept(_)) => retry::Body::Kept,
            Some(Upload::Streamed(..)) => retry::Body::Streamed,
            None => retry::Body::Begun,
        };
        let idempotent = retry::is_idempotent(self.pending.head.method.as_str());
        let has_time = self.pending.progress.is_some() || Instant::now() < self.deadline;
        Failed { failure, is_stale, body, idempotent, has_time }
    }

    fn pass_on(
        &mut self,
        mut response: Response<Incoming>,
        lease: Lease,
        fresh: Option<&Replica>,
    ) -> Response<Reply> {
        let replica_changed =
            (response.status() == StatusCode::SWITCHING_PROTOCOLS).then(|| hyper::upgrade::on(&mut response));
        let (mut head, body) = response.into_parts();
        self.pending.note.answered(head.status.as_u16());
        head.version = Version::default();
        headers::towards_client(&mut head.headers);
        if let Some(replica) = fresh {
            let settings = &self.route.settings;
            let name = &self.route.service.cookie;
            let cookie = rules::set_cookie(name, &replica.opaque, &settings.path, self.arrival.secure);
            if let Ok(cookie) = HeaderValue::from_str(&cookie) {
                head.headers.append(SET_COOKIE, cookie);
            }
        }
        match (replica_changed, self.pending.changed.take()) {
            (Some(replica), Some(client)) => {
                let note = std::mem::take(&mut self.pending.note);
                upgrade::carry(self.world, client, replica, lease, note);
                Response::from_parts(head, Reply::empty())
            }
            (Some(_), None) => {
                let refusal = refuse(StatusCode::BAD_GATEWAY, "the replica changed the protocol unasked\n");
                self.pending.note.refused(refusal.status().as_u16());
                refusal
            }
            (None, _) => Response::from_parts(head, Download::new(body, Box::new(lease)).into()),
        }
    }
}

/// Reads a small body, so that it can be sent again; a long or unbounded one is passed through.
async fn keep(
    headers: &mut HeaderMap,
    mut body: Incoming,
) -> Result<(Upload, Option<Arc<Progress>>), Response<Reply>> {
    if body.is_end_stream() {
        return Ok((Upload::Kept(None), None));
    }
    let length = body.size_hint().exact();
    if length.is_none_or(|length| length > SMALL_BODY) {
        // Its length is known to the body, or it goes in chunks.
        headers.remove(CONTENT_LENGTH);
        let progress = Progress::new();
        return Ok((Upload::Streamed(body, progress.clone()), Some(progress)));
    }
    let mut kept = Vec::new();
    loop {
        match timeout(BODY_IDLE, body.frame()).await {
            Err(_late) => {
                return Err(refuse(StatusCode::REQUEST_TIMEOUT, "the request's body did not come\n"));
            }
            Ok(None) => break,
            Ok(Some(Err(_broken))) => {
                return Err(refuse(StatusCode::BAD_REQUEST, "the request's body broke off\n"));
            }
            Ok(Some(Ok(frame))) => kept.extend(frame.into_data().unwrap_or_default()),
        }
    }
    Ok((Upload::Kept(Some(Bytes::from(kept))), None))
}

/// The host that a request is for: HTTP/2 and absolute URIs say it in another place than the header.
fn host_of(request: &Request<Incoming>) -> Option<HeaderValue> {
    if let Some(authority) = request.uri().authority() {
        return HeaderValue::from_str(authority.as_str()).ok();
    }
    let host = request.headers().get(HOST).cloned();
    // HTTP/1.0 has none.
    host.or_else(|| (request.version() == Version::HTTP_10).then(|| HeaderValue::from_static("")))
}

fn origin_form(uri: &Uri) -> Option<Uri> {
    if uri.authority().is_none() && uri.path_and_query().is_some() {
        return Some(uri.clone());
    }
    Uri::builder().path_and_query(uri.path_and_query()?.clone()).build().ok()
}
