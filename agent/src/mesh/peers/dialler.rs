//! Which connections there should be, and making them.
//!
//! A node dials all that it is told of: those that its traffic goes to, those that it may go to next, and, when it cannot be dialled
//! itself, those that have no other way to it. Connections that the other end made count as well.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mesh::Table;
use model::id::NodeId;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{LINKS, link, link::Link};
use crate::mesh::world::World;

/// For the address and TCP: a machine that is there answers within a few round trips.
const CONNECT: Duration = Duration::from_secs(3);
/// After a first failure; doubled by each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A connection that nothing needs is kept so long.
const LINGER: Duration = Duration::from_secs(60);
/// When nothing happens at all.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Dials under way, and failures.
#[derive(Debug, Default)]
struct Attempts(Mutex<BTreeMap<NodeId, Attempt>>);

#[derive(Debug, Default, Clone, Copy)]
struct Attempt {
    dialling: usize,
    failures: u32,
    not_before: Option<Instant>,
}

/// Keeps connections as they should be, for as long as it is polled.
pub async fn keep_links(world: &Arc<World>) {
    let attempts = Arc::new(Attempts::default());
    let mut unwanted = BTreeMap::new();
    loop {
        let table = world.table.load_full();
        let wanted = wanted(&table, world.node);
        for (node, address) in &wanted {
            let missing = LINKS.saturating_sub(world.peers.count(*node));
            for _ in 0..attempts.allowed(*node, missing) {
                tokio::spawn(dial(world.clone(), attempts.clone(), *node, address.clone()));
            }
        }
        cut_unwanted(world, &wanted.into_keys().collect(), &mut unwanted);
        // Not both at once: a notice that came meanwhile is kept.
        drop(timeout(LOOK_AGAIN, world.peers.changed.notified()).await);
    }
}

/// Nodes that are to be connected before traffic is accepted: where it goes, and where we must be heard.
pub fn expected(world: &World) -> BTreeSet<NodeId> {
    let table = world.table.load();
    let mut nodes = table.destinations();
    if table.listen.is_none() {
        nodes.extend(wanted(&table, world.node).into_keys());
    }
    nodes.remove(&world.node);
    nodes
}

fn wanted(table: &Table, own: NodeId) -> BTreeMap<NodeId, String> {
    let peers = table.peers.values().filter(|peer| peer.node != own);
    peers.filter_map(|peer| Some((peer.node, peer.mesh.clone()?))).collect()
}

/// Ends connections of ours that nothing has needed for a while. Replicas come back to where they were, and the other end may be
/// about to use what we made.
fn cut_unwanted(world: &World, wanted: &BTreeSet<NodeId>, unwanted: &mut BTreeMap<NodeId, Instant>) {
    let now = Instant::now();
    let links = world.peers.lock();
    unwanted.retain(|node, _| !wanted.contains(node) && links.contains_key(node));
    for (node, links) in links.iter().filter(|(node, _)| !wanted.contains(node)) {
        let since = *unwanted.entry(*node).or_insert(now);
        if now.duration_since(since) > LINGER {
            let ours = links.iter().filter(|link| link.dialled && link.streams() == 0);
            ours.for_each(|link| link.cut());
        }
    }
}

async fn dial(world: Arc<World>, attempts: Arc<Attempts>, node: NodeId, address: String) {
    // So that many nodes do not come at the same moment when one is back.
    sleep(Duration::from_millis(world.random.next() % 50)).await;
    let dialled = async {
        let socket = timeout(CONNECT, TcpStream::connect(&address)).await??;
        link::tune(&socket)?;
        anyhow::Ok(world.tls.dial(socket, node).await?)
    };
    match dialled.await {
        Ok(stream) => {
            attempts.succeed(node);
            Link::run(world, stream, node, true).await;
        }
        Err(error) => {
            tracing::info!(%node, address, error = %format!("{error:#}"), "not connected");
            let jitter = world.random.next();
            sleep(attempts.fail(node, jitter)).await;
            world.peers.look_again();
        }
    }
}

impl Attempts {
    /// How many more dials may begin, when so many connections are missing.
    fn allowed(&self, node: NodeId, missing: usize) -> usize {
        let mut attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let attempt = attempts.entry(node).or_default();
        if attempt.not_before.is_some_and(|until| until > Instant::now()) {
            return 0;
        }
        // Until one has succeeded, one is enough to try.
        let most = if attempt.failures > 0 { 1 } else { missing };
        let more = most.min(missing).saturating_sub(attempt.dialling);
        attempt.dialling += more;
        more
    }

    fn succeed(&self, node: NodeId) {
        let mut attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let attempt = attempts.entry(node).or_default();
        (attempt.dialling, attempt.failures, attempt.not_before) =
            (attempt.dialling.saturating_sub(1), 0, None);
    }

    /// Notes a failure; returns how long to wait.
    fn fail(&self, node: NodeId, jitter: u64) -> Duration {
        let mut attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let attempt = attempts.entry(node).or_default();
        let pause = (FIRST_PAUSE * 2u32.pow(attempt.failures.min(8))).min(LONGEST_PAUSE);
        let pause = pause.mul_f64(0.75 + (jitter % 512) as f64 / 1024.0);
        attempt.dialling = attempt.dialling.saturating_sub(1);
        attempt.failures += 1;
        attempt.not_before = Some(Instant::now() + pause);
        pause
    }
}
