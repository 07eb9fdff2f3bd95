//! One HTTP/2 connection to a replica, which many requests share: gRPC, and whatever else speaks it without TLS (h2c).
//!
//! It is driven by a task of its own, since no single request could. A connection lives until its replica leaves or closes it; more are
//! made when one has as many requests as servers usually take at a time.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use mesh::balance::Failure;
use model::id::TaskId;

use super::{
    body::Upload,
    exchange::{Unanswered, unanswered},
    serve::MAX_HEAD,
};
use crate::mesh::{
    dial::{Backend, Hold},
    world::World,
};

/// Requests at a time on one connection: the least that common servers allow.
const MOST_REQUESTS: usize = 100;
/// Idle connections to one port of a replica; more are made and not kept.
const MOST_KEPT: usize = 8;
/// Bytes of an answer on their way before the client has taken them: of one, and of all on a connection.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// A use of a connection: by the pool, or by a request.
#[derive(Clone)]
pub struct Flow {
    sender: SendRequest<Upload>,
    /// Counts the uses, and holds what the connection rests on.
    hold: Arc<Hold>,
    users: Arc<()>,
}

/// Connections that take requests.
#[derive(Debug, Default)]
pub struct Flows(Mutex<BTreeMap<(TaskId, u16), Vec<Flow>>>);

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow").field("users", &Arc::strong_count(&self.users)).finish_non_exhaustive()
    }
}

impl Flow {
    /// Speaks HTTP/2 over a connection, in a task that is waited for at the end of the process.
    ///
    /// # Errors
    /// It broke.
    pub async fn new(world: &World, backend: Backend) -> Result<Self, Failure> {
        let Backend { wire, hold } = backend;
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(MAX_HEAD).expect("64 KiB"));
        let shaken = builder.handshake(TokioIo::new(wire)).await;
        let (sender, connection) = shaken.map_err(|_| Failure::Unreachable)?;
        let hold = Arc::new(hold);
        let held = hold.clone();
        world.connections.spawn(async move {
            // What goes wrong shows on the requests.
            drop(connection.await);
            drop(held);
        });
        Ok(Self { sender, hold, users: Arc::default() })
    }

    /// Sends a request and waits until its answer begins. Dropping it takes the request back.
    ///
    /// # Errors
    /// The connection or this request broke first.
    pub async fn exchange(&mut self, request: Request<Upload>) -> Result<Response<Incoming>, Unanswered> {
        self.sender.try_send_request(request).await.map_err(unanswered)
    }

    /// Whether it takes no request any more.
    pub fn is_over(&self) -> bool {
        self.sender.is_closed() || self.hold.is_retired()
    }
}

impl Flows {
    /// A connection that has room for a request.
    pub fn take(&self, task: TaskId, port: u16) -> Option<Flow> {
        let mut flows = self.lock();
        let known = flows.get_mut(&(task, port))?;
        known.retain(|flow| !flow.is_over());
        known.iter().find(|flow| Arc::strong_count(&flow.users) <= MOST_REQUESTS).cloned()
    }

    /// Keeps a connection for others, unless its task is on its way out; asked under the lock, as for those of one request each.
    pub fn put(&self, world: &World, task: TaskId, port: u16, flow: &Flow) {
        let mut flows = self.lock();
        if !world.welcomes(task) {
            return;
        }
        let known = flows.entry((task, port)).or_default();
        if known.len() < MOST_KEPT {
            known.push(flow.clone());
        }
    }

    /// Forgets connections to other tasks than these: each ends with its last request.
    pub fn keep(&self, is_kept: impl Fn(&TaskId) -> bool) {
        self.lock().retain(|(task, _), _| is_kept(task));
    }

    /// Forgets those that have ended.
    pub fn sweep(&self) {
        self.lock().retain(|_, known| {
            known.retain(|flow| !flow.is_over());
            !known.is_empty()
        });
    }

    /// A panic elsewhere cannot leave it half-changed.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(TaskId, u16), Vec<Flow>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
