//! The services on the managers' one port: [`control`] for clients and joiners, [`agents`] for nodes, [`peers`] for members.
//!
//! They decode, take the identity from the connection, hand over to the core's loop and encode its answers. Whether an
//! identity may do something is the core's decision.

pub mod agents;
pub mod control;
pub mod forward;
pub mod peers;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use model::{
    identity::Identity,
    request::{ApiError, ErrorCode},
};
use rpc::identity::Peer;
use tokio::sync::mpsc;
use tonic::{Request, Status};

use crate::{
    core_loop::{Input, Shared},
    streams::LogStreams,
};

/// The largest message on any service. Lists and full assignment sets are the large ones; a bound against exhaustion,
/// not a target.
pub const MAX_MESSAGE: usize = 32 << 20;

/// What every service needs.
#[derive(Clone)]
pub struct Context {
    /// The core's queue.
    pub inputs: mpsc::Sender<Input>,
    /// What the loop shares.
    pub shared: Shared,
    /// Log streams between agents and clients.
    pub streams: LogStreams,
    numbers: Arc<AtomicU64>,
}

impl Context {
    /// Puts it together.
    pub fn new(inputs: mpsc::Sender<Input>, shared: Shared, streams: LogStreams) -> Self {
        Self { inputs, shared, streams, numbers: Arc::new(AtomicU64::new(1)) }
    }

    /// A number never given before in this process: a request's handle or a connection.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Who sends a request, unless it is revoked.
    pub fn identity<T>(&self, request: &Request<T>) -> Result<Identity, Status> {
        let identity = Peer::of(request)?.identity();
        if self.shared.revoked.load().contains(&identity) {
            return Err(Status::unauthenticated(format!("{identity} was removed from this cluster")));
        }
        Ok(identity)
    }
}

/// A refusal by this daemon while it ends.
pub fn ending() -> ApiError {
    ApiError::new(ErrorCode::Unavailable, "this manager is shutting down: ask another one")
}
