//! Most requests, without the library: HTTP/1.1 with a short body or none, answered by a replica that speaks HTTP/1.1.
//!
//! The library makes a map of every head and a message between tasks of every request, and keeps buffers for every connection. A proxy
//! needs none of that: here a head is read where it lies in the thread's buffer, written anew for the other side, and an idle
//! connection has no buffer at all. What [`mesh::http1`] does not take (uploads, changes of protocol, HTTP/2, anything that may
//! be read in two ways) goes on in the library from the request's first byte, and stays there until its connection ends.
//!
//! What a request is worth is decided by the same [`super::tries`] in both.
//!
//! Reading order: this file, [`client`] (a client's connection), [`cable`] (a replica's), [`answer`] (what comes back), [`pump`] (the
//! rest of a long body), [`patience`] and [`date`].

mod answer;
mod cable;
mod client;
mod date;
mod patience;
mod pump;

use std::cell::RefCell;

use http::{Response, StatusCode};
use hyper::body::Body as _;
use mesh::{
    Table,
    balance::Failure,
    http as rules,
    retry::Body,
    table::{HttpRoute, Port, Replica},
};
use model::route::Backend;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use super::{
    pool::{Reusable, since},
    reply::{Reply, Unrouted, in_words, refuse},
    request::NEWER,
    resumed::Resumed,
    serve::Arrival,
    tries::{Failed, Tries},
};
use crate::mesh::{
    access::{self, Note},
    world::Ticket,
};
use answer::{Answer, Terms};
pub use cable::Cable;
use cable::Unanswered;
use client::{Asked, Client, Next};

/// A thread's buffer: a head fits, and so does a page.
const SCRATCH: usize = 64 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// Serves a connection until it ends, or until something comes on it that the library is to read.
pub async fn serve<S>(arrival: &Arrival, stream: S) -> Option<Resumed<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut client = Client::new(arrival, stream);
    loop {
        let goes_on = match client.next().await {
            Next::Asked(asked) => match Box::pin(serve_one(arrival, &mut client, &asked)).await {
                Served::Ours { goes_on } => goes_on,
                Served::Not => return Some(client.into_resumed_before(&asked)),
            },
            Next::Late => client.refuse(refuse(StatusCode::REQUEST_TIMEOUT, LATE), None).await,
            Next::Foreign => return Some(client.into_resumed()),
            Next::Over => false,
        };
        if !goes_on {
            client.close().await;
            return None;
        }
    }
}

const LATE: &str = "the request's body did not come\n";

/// What became of a request.
enum Served {
    /// It was answered, or cannot be.
    Ours {
        /// The connection takes another one.
        goes_on: bool,
    },
    /// Its replicas speak something else: it is the library's. Nothing of it was sent.
    Not,
}

/// Has one request answered.
async fn serve_one<S>(arrival: &Arrival, client: &mut Client<'_, S>, asked: &Asked) -> Served
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let world = &arrival.world;
    let mut table = world.table.load_full();
    let (service, mut note) = match find(&table, arrival.port, asked) {
        Ok(route) if !is_ours(route) => return Served::Not,
        Ok(route) => {
            let mut note = note(arrival, route, asked);
            if route.service.endpoints.is_empty() {
                let goes_on = refuse_noted(client, Unrouted::NoReplica.refusal(), asked, &mut note).await;
                return Served::Ours { goes_on };
            }
            (route.service.id, note)
        }
        Err(why) => {
            let goes_on = client.refuse(why.refusal(), Some(asked)).await;
            return Served::Ours { goes_on };
        }
    };
    world.balancer().budget(service).deposit();
    let mut failed = Failure::Unreachable;
    // Tries the replicas of a table; when none of them takes the request, those of the next one.
    while let Ok(route) = find(&table, arrival.port, asked) {
        if !is_ours(route) {
            return Served::Not;
        }
        let deadline = asked.began + route.settings.timeout;
        if !route.service.endpoints.is_empty() {
            let exchange = Exchange { arrival, table: &table, route, asked, deadline };
            match exchange.run(client, &mut note).await {
                Ran::Answered { goes_on } => return Served::Ours { goes_on },
                Ran::Failed(failure) => {
                    failed = failure;
                    break;
                }
                Ran::Untaken(failure) => failed = failure,
            }
        }
        match world.newer(&table, deadline.min(asked.began + NEWER)).await {
            Some(newer) => table = newer,
            None => break,
        }
    }
    let goes_on = refuse_noted(client, in_words(failed), asked, &mut note).await;
    Served::Ours { goes_on }
}

fn is_ours(route: &HttpRoute) -> bool {
    route.settings.backend == Backend::Http1
}

fn note(arrival: &Arrival, route: &HttpRoute, asked: &Asked) -> Note {
    if route.log.is_none() {
        return Note::default();
    }
    let request = &asked.request;
    let asked_for = access::Asked {
        client: arrival.client,
        port: arrival.port,
        method: request.method(),
        host: request.host(),
        target: request.target(),
    };
    Note::begin(&arrival.world, route, asked.began, asked_for)
}

async fn refuse_noted<S>(
    client: &mut Client<'_, S>,
    refusal: Response<Reply>,
    asked: &Asked,
    note: &mut Note,
) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    note.refused(refusal.status().as_u16());
    if !asked.to_head {
        note.passed(refusal.body().size_hint().exact().unwrap_or_default() as usize);
    }
    note.is_whole();
    client.refuse(refusal, Some(asked)).await
}

fn find<'a>(table: &'a Table, port: u16, asked: &Asked) -> Result<&'a HttpRoute, Unrouted> {
    let Some(Port::Http(routes)) = table.ports.get(&port) else { return Err(Unrouted::Port) };
    let host = rules::without_port(asked.request.host());
    routes.find(host, asked.request.path()).ok_or(Unrouted::Request)
}

/// A request and the replicas of one table.
struct Exchange<'a> {
    arrival: &'a Arrival,
    table: &'a Table,
    route: &'a HttpRoute,
    asked: &'a Asked,
    deadline: Instant,
}

/// What came of a request.
enum Ran {
    /// The client has its answer; or nobody can give it one any more.
    Answered { goes_on: bool },
    /// No replica answered, and it may not be tried again.
    Failed(Failure),
    /// Nothing of it was sent: replicas of a newer table may be asked.
    Untaken(Failure),
}

impl Exchange<'_> {
    async fn run<S>(&self, client: &mut Client<'_, S>, note: &mut Note) -> Ran
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let world = &self.arrival.world;
        let service = &*self.route.service;
        let cookie = if self.route.settings.sticky {
            rules::cookie(self.asked.request.cookies(), &service.cookie)
        } else {
            None
        };
        let named = cookie.and_then(|cookie| service.named(cookie));
        let mut tries = Tries::new(world, service, named.map(|replica| replica.task));
        let mut now = self.asked.began;
        while let Some((replica, ticket)) = tries.next() {
            note.try_begins(replica.task);
            let pooled = if tries.only_new { None } else { self.pooled(&ticket) };
            let is_pooled = pooled.is_some();
            let asked = match pooled {
                Some(cable) => Ok(cable),
                None => {
                    let dialled = self.dial(replica).await;
                    now = Instant::now();
                    dialled
                }
            };
            let until = self.deadline.min(now + self.route.settings.try_timeout);
            let answered = match asked {
                Ok(cable) => cable.ask(client, self.asked, self.terms(replica, cookie), until).await,
                Err(failure) => Err(Unanswered::Failed(failure)),
            };
            let failure = match answered {
                Ok(answer) => {
                    ticket.answered(answer.status);
                    return Ran::Answered { goes_on: self.pass_on(client, answer, ticket, note).await };
                }
                Err(Unanswered::Failed(failure)) => failure,
                Err(Unanswered::Changed) => {
                    let refusal =
                        refuse(StatusCode::BAD_GATEWAY, "the replica changed the protocol unasked\n");
                    let goes_on = refuse_noted(client, refusal, self.asked, note).await;
                    return Ran::Answered { goes_on };
                }
                Err(Unanswered::ClientGone) => return Ran::Answered { goes_on: false },
            };
            now = Instant::now();
            let failed = Failed {
                failure,
                is_stale: is_pooled && failure != Failure::Late,
                body: Body::Kept,
                idempotent: self.asked.idempotent,
                has_time: now < self.deadline,
            };
            if !tries.go_on(&ticket, failed) {
                break;
            }
        }
        match tries.failed {
            failure @ (Failure::Unreachable | Failure::Withdrawn) => Ran::Untaken(failure),
            failure => Ran::Failed(failure),
        }
    }

    fn pooled(&self, ticket: &Ticket) -> Option<Cable> {
        let since = since(self.asked.began, self.asked.idempotent);
        self.arrival.world.pools.cables().take(ticket.task(), self.route.target, since)
    }

    async fn dial(&self, replica: &Replica) -> Result<Cable, Failure> {
        let world = &self.arrival.world;
        let opened = world.open(self.table, replica, self.route.target, self.arrival.client);
        Ok(Cable::new(opened.await?))
    }

    fn terms(&self, replica: &Replica, cookie: Option<&str>) -> Terms {
        let settings = &self.route.settings;
        let is_fresh = settings.sticky && cookie != Some(&replica.opaque);
        Terms {
            cookie: is_fresh.then(|| {
                let name = &self.route.service.cookie;
                rules::set_cookie(name, &replica.opaque, &settings.path, self.arrival.secure)
            }),
            closes: self.asked.closes || self.arrival.world.retiring.is_cancelled(),
            to_head: self.asked.to_head,
        }
    }

    /// Passes an answer on; whether the client's connection takes another request.
    async fn pass_on<S>(
        &self,
        client: &mut Client<'_, S>,
        answer: Answer,
        ticket: Ticket,
        note: &mut Note,
    ) -> bool
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Answer { status, out, data, body, cable, is_kept, closes } = answer;
        note.answered(status);
        note.passed(data);
        let passed = match body {
            None => {
                // Free for the next request before the client has this answer.
                self.give_back(is_kept.then_some(cable), ticket);
                client.send(&out).await
            }
            Some(body) => match pump::pump(client, cable, body, out, note).await {
                Ok((cable, is_whole)) => {
                    self.give_back((is_kept && is_whole).then_some(cable), ticket);
                    client.flush().await
                }
                Err(error) => Err(error),
            },
        };
        if passed.is_ok() {
            note.is_whole();
        }
        passed.is_ok() && !closes
    }

    fn give_back(&self, cable: Option<Cable>, ticket: Ticket) {
        let Some(mut cable) = cable else { return };
        if cable.is_ready() {
            let world = &self.arrival.world;
            world.pools.cables().put(world, ticket.task(), self.route.target, cable);
        }
    }
}
