//! The remote leg: streams between nodes, each to one task, over few connections that are kept.
//!
//! Every pair of nodes has up to [`LINKS`] connections, TLS with both certificates and yamux within. Who made a connection does not
//! matter: streams are opened from either end, so that a node that can only dial out is reached over the connections that it
//! made. A stream ends at the task's own node, which refuses at once what is not there: an answer within one round trip.
//!
//! Reading order: `link` (a connection), `leg` (a stream), `inbound` (streams that others open), `dialler` (which connections
//! there should be), `listener`.

mod dialler;
mod inbound;
mod leg;
mod link;
mod listener;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mesh::{balance::Failure, leg::Header};
use model::id::{NodeId, TaskId};
use tokio::{sync::Notify, time::timeout};

pub use dialler::{expected, keep_links};
pub use leg::Leg;
pub use link::Link;
pub use listener::Listener;

/// Connections to a node: a second one, so that one stalled by bulk does not hold up the rest.
const LINKS: usize = 2;
/// Until the task's node has answered: its own connect timeout and a way there and back.
const OPEN: Duration = Duration::from_millis(700);

/// A connection that is being made for a node that has just got a replica is waited for; one that is not there by then is being
/// tried in vain, and another replica is faster.
const LINK: Duration = Duration::from_millis(300);

/// All connections with other nodes.
#[derive(Debug, Default)]
pub struct Peers {
    links: Mutex<BTreeMap<NodeId, Vec<Arc<Link>>>>,
    /// Links came or went, or other nodes are wanted.
    changed: Notify,
    /// A link came.
    linked: Notify,
}

impl Peers {
    /// Opens a stream to a task on its node.
    ///
    /// # Errors
    /// Nothing was sent to the task.
    pub async fn open(
        &self,
        node: NodeId,
        task: TaskId,
        port: u16,
        client: SocketAddr,
    ) -> Result<(Leg, Arc<Link>), Failure> {
        let link = timeout(LINK, self.link(node)).await.map_err(|_| Failure::Unreachable)?;
        let opened = timeout(OPEN, link.open(Header::Open { task, port, client })).await;
        let leg = opened.unwrap_or(Err(Failure::Unreachable))?;
        Ok((leg, link))
    }

    /// A connection to a node: one that is there, or the next that comes.
    async fn link(&self, node: NodeId) -> Arc<Link> {
        self.once_linked(|| self.least_loaded(node)).await
    }

    /// What `look` finds, now or after the next link came.
    async fn once_linked<T>(&self, look: impl Fn() -> Option<T>) -> T {
        loop {
            let mut linked = std::pin::pin!(self.linked.notified());
            linked.as_mut().enable();
            match look() {
                Some(found) => return found,
                None => linked.await,
            }
        }
    }

    /// Something changed that connections follow from.
    pub fn look_again(&self) {
        self.changed.notify_one();
    }

    /// Ends the connections of these nodes, with all that is under way on them.
    pub fn cut(&self, nodes: &BTreeSet<NodeId>) {
        let links = self.lock();
        links
            .iter()
            .filter(|(node, _)| nodes.contains(node))
            .flat_map(|(_, links)| links)
            .for_each(|link| link.cut());
    }

    /// Asks every other node to open its streams elsewhere from now on.
    pub async fn retire(&self) {
        let links: Vec<Arc<Link>> = self.lock().values().flatten().cloned().collect();
        for link in links {
            // One that does not hear of it notices when the connection ends.
            drop(timeout(OPEN, link.open(Header::Retire)).await);
        }
    }

    /// Waits until a node is connected.
    pub async fn met(&self, node: NodeId) {
        self.once_linked(|| (self.count(node) > 0).then_some(())).await;
    }

    fn least_loaded(&self, node: NodeId) -> Option<Arc<Link>> {
        let links = self.lock();
        let usable = links.get(&node)?.iter().filter(|link| link.takes_streams());
        // One that retires serves until there is another.
        usable.min_by_key(|link| (link.is_retired(), link.streams())).cloned()
    }

    fn count(&self, node: NodeId) -> usize {
        self.lock().get(&node).map_or(0, |links| links.iter().filter(|link| !link.is_retired()).count())
    }

    fn add(&self, link: Arc<Link>) {
        self.lock().entry(link.node).or_default().push(link);
        self.linked.notify_waiters();
    }

    fn remove(&self, link: &Arc<Link>) {
        let mut links = self.lock();
        if let Some(known) = links.get_mut(&link.node) {
            known.retain(|other| !Arc::ptr_eq(other, link));
            if known.is_empty() {
                links.remove(&link.node);
            }
        }
        drop(links);
        self.look_again();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Vec<Arc<Link>>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
