//! What all connections share: the table, what was seen of the replicas, the gates, and the signal to end.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use mesh::{
    Table,
    balance::{Balancer, Failure},
    table::{Replica, Service},
};
use model::id::{NodeId, TaskId};
use rpc::tls::NodeTls;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    access::AccessLog,
    dial::{self, Backend},
    gate::Gates,
    http::{Pools, secure::Certificates},
    lanes::Lanes,
    peers::Peers,
    predecessor::Predecessor,
    random::Random,
    sockets::Sockets,
};
use crate::clock::Clock;

/// Shared by everything that runs here.
#[derive(Debug)]
pub struct World {
    /// This node.
    pub node: NodeId,
    /// What is served.
    pub table: ArcSwap<Table>,
    /// The way to this node's tasks.
    pub gates: Gates,
    /// The process that served before, until it ends.
    pub predecessor: Predecessor,
    /// What is listened on.
    pub sockets: Sockets,
    /// Idle connections to replicas.
    pub pools: Pools,
    /// Certificates of published ports.
    pub certificates: Certificates,
    /// What requests are written to.
    pub access: AccessLog,
    /// Connections with other nodes.
    pub peers: Peers,
    /// How they are made.
    pub tls: NodeTls,
    /// For choices.
    pub random: Random,
    /// The process's clock.
    pub clock: Clock,
    /// The threads that carry clients' connections.
    pub lanes: Lanes,
    /// Connections that are waited for at the end.
    pub connections: TaskTracker,
    /// Nothing new is accepted, idle connections close.
    pub retiring: CancellationToken,
    balancer: Mutex<Balancer>,
    renewed: Notify,
}

/// One connection or request that a replica was chosen for; over when it is dropped.
#[derive(Debug)]
pub struct Ticket {
    world: Arc<World>,
    task: TaskId,
}

impl World {
    /// An empty one.
    pub fn new(node: NodeId, tls: NodeTls, seed: u64, lanes: Lanes, access: AccessLog) -> Self {
        Self {
            node,
            table: ArcSwap::default(),
            gates: Gates::default(),
            predecessor: Predecessor::default(),
            sockets: Sockets::default(),
            pools: Pools::default(),
            certificates: Certificates::default(),
            access,
            peers: Peers::default(),
            tls,
            random: Random::new(seed),
            clock: Clock::start(),
            lanes,
            connections: TaskTracker::new(),
            retiring: CancellationToken::new(),
            balancer: Mutex::default(),
            renewed: Notify::new(),
        }
    }

    /// What was seen of the replicas. A panic elsewhere cannot leave it half-changed.
    pub fn balancer(&self) -> MutexGuard<'_, Balancer> {
        self.balancer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves another table from now on.
    pub fn exchange(&self, table: Table, locals: &BTreeSet<TaskId>) {
        let services = table.services();
        self.balancer().retain(&table.endpoints, &services);
        self.gates.retain(locals);
        let endpoints = table.endpoints.clone();
        self.table.store(Arc::new(table));
        self.renewed.notify_waiters();
        self.pools.retain(&endpoints);
        self.peers.cut(&self.table.load().removed);
        self.peers.look_again();
    }

    /// A table that is newer than `known`, once there is one, unless it is later than `until`. For who found no replica in the old
    /// one: when replicas change, their agents know before the routes do.
    pub async fn newer(&self, known: &Arc<Table>, until: Instant) -> Option<Arc<Table>> {
        let mut renewed = std::pin::pin!(self.renewed.notified());
        renewed.as_mut().enable();
        let table = self.table.load_full();
        if !Arc::ptr_eq(&table, known) {
            return Some(table);
        }
        timeout_at(until, renewed).await.ok()?;
        Some(self.table.load_full())
    }

    /// Opens a local task for nobody any more; the receiver hears when nothing of its traffic is under way.
    pub fn drain(&self, task: TaskId) -> oneshot::Receiver<()> {
        let over = self.gates.drain(task);
        self.pools.forget(task);
        over
    }

    /// Whether connections to a task may be kept for the next request. Asked under the pool's lock: whoever closes the connections of
    /// a task says so here before it takes that lock, so that none is kept behind its back.
    pub fn welcomes(&self, task: TaskId) -> bool {
        self.table.load().endpoints.contains(&task)
            && !self.gates.is_draining(task)
            && !self.retiring.is_cancelled()
    }

    /// Chooses a replica of a service and counts the connection or request in; the choice keeps to the newest table.
    pub fn choose<'a>(
        self: &Arc<Self>,
        service: &'a Service,
        tried: &[TaskId],
        preferred: Option<TaskId>,
    ) -> Option<(&'a Replica, Ticket)> {
        let now = self.clock.now();
        let mut tasks = service.endpoints.iter().map(|replica| replica.task);
        let mut balancer = self.balancer();
        let task = balancer.choose(&mut tasks, tried, preferred, now, self.random.next())?;
        balancer.begin(task, now);
        let ticket = Ticket { world: self.clone(), task };
        drop(balancer);
        Some((service.replica(task)?, ticket))
    }

    /// Connects to a replica that was chosen.
    ///
    /// # Errors
    /// Nothing was sent to it, so another may be tried.
    pub async fn open(
        &self,
        table: &Table,
        replica: &Replica,
        port: u16,
        client: SocketAddr,
    ) -> Result<Backend, Failure> {
        let opened = dial::open(self, table, replica, port, client).await?;
        // It may have left while we dialled; from the moment that this was acknowledged it gets nothing new.
        if !self.table.load().endpoints.contains(&replica.task) {
            return Err(Failure::Withdrawn);
        }
        Ok(opened)
    }
}

impl Ticket {
    /// For whom it is.
    pub fn task(&self) -> TaskId {
        self.task
    }

    /// The replica does its work.
    pub fn succeed(&self) {
        self.world.balancer().succeed(self.task);
    }

    /// The replica answered a request with this status.
    pub fn answered(&self, status: u16) {
        let mut balancer = self.world.balancer();
        balancer.succeed(self.task);
        if status >= 500 {
            balancer.answer_error(self.task);
        }
    }

    /// The replica failed.
    pub fn fail(&self, failure: Failure) {
        self.world.balancer().fail(self.task, failure, self.world.clock.now());
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.world.balancer().end(self.task);
    }
}
