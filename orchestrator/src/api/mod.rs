//! The services on the managers' one port: [`control`] for clients and joiners, [`agents`] for nodes, [`peers`] for members.
//!
//! They decode, take the identity from the connection, hand over to the core's loop and encode its answers. Whether an
//! identity may do something is the core's decision.

pub mod agents;
pub mod bearer;
pub mod bounds;
pub mod control;
pub mod forward;
pub mod peers;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use model::{
    identity::Identity,
    request::{ApiError, ErrorCode},
};
use rpc::{identity::Peer, offences::Offences};
use tokio::sync::{Semaphore, mpsc};
use tonic::{Request, Status};

use self::bounds::Bounds;
use crate::{core_loop::Shared, inputs::Inputs, strangers::Refused, streams::LogStreams};

/// The largest message on any service. Lists and full assignment sets are the large ones; a bound against exhaustion,
/// not a target.
pub const MAX_MESSAGE: usize = 32 << 20;

/// Calls that wait at a time because their addresses failed; each costs its message.
const WAITING: usize = 64;

/// The largest call of a client: the largest declaration is some hundred kilobytes.
pub const MAX_CALL: usize = 4 << 20;

/// What every service needs.
#[derive(Clone)]
pub struct Context {
    /// The core's queue.
    pub inputs: Inputs,
    /// What the loop shares.
    pub shared: Shared,
    /// Log streams between agents and clients.
    pub streams: LogStreams,
    /// Who failed to prove an identity lately.
    pub offences: Offences,
    /// Tells of those who were refused.
    strangers: mpsc::Sender<Refused>,
    /// Places for calls that wait because of it.
    waiting: Arc<Semaphore>,
    /// What each caller has under way.
    pub bounds: Bounds,
    numbers: Arc<AtomicU64>,
}

impl Context {
    /// Puts it together.
    pub fn new(
        inputs: Inputs,
        shared: Shared,
        streams: LogStreams,
        offences: Offences,
        strangers: mpsc::Sender<Refused>,
    ) -> Self {
        let (waiting, numbers) = (Arc::new(Semaphore::new(WAITING)), Arc::new(AtomicU64::new(1)));
        Self { inputs, shared, streams, offences, strangers, waiting, bounds: Bounds::default(), numbers }
    }

    /// A number never given before in this process: a request's handle or a connection.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Who sends a request, revoked or not: for the leader, which refuses and records it.
    pub fn named<T>(request: &Request<T>) -> Result<Identity, Status> {
        Ok(Peer::of(request)?.identity())
    }

    /// Who sends a request, unless it is revoked.
    pub fn identity<T>(&self, request: &Request<T>) -> Result<Identity, Status> {
        let identity = Peer::of(request)?.identity();
        if self.shared.revoked.load().contains(&identity) {
            return Err(Status::unauthenticated(format!("{identity} was removed from this cluster")));
        }
        Ok(identity)
    }

    /// Refuses a call before it is a request, and puts that on record.
    pub fn turn_away(&self, address: IpAddr, who: Identity, refusal: Status) -> Status {
        let _ = self.strangers.try_send(Refused::inside(address, who, &refusal));
        refusal
    }

    /// The same for a call of a service that is not for everybody.
    pub fn turn_away_from<T>(&self, request: &Request<T>, refusal: Status) -> Status {
        match Peer::of(request) {
            Ok(peer) => self.turn_away(peer.address().ip(), peer.identity(), refusal),
            Err(_) => refusal,
        }
    }

    /// Waits for the turn of a caller whose certificate proves nothing, if its address failed lately.
    pub async fn turn(&self, address: IpAddr) -> Result<(), Status> {
        let wait = self.offences.turn(address, Instant::now());
        if wait.is_zero() {
            return Ok(());
        }
        let _place = self.waiting.try_acquire().map_err(|_| {
            Status::resource_exhausted("too many calls that failed to prove who they are: try again later")
        })?;
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// A refusal by this daemon while it ends.
pub fn ending() -> ApiError {
    ApiError::new(ErrorCode::Unavailable, "this manager is shutting down: ask another one")
}
