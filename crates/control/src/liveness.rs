//! Which nodes have been silent for too long: leases on the leader's monotonic clock, by node class.
//!
//! Leader-local on purpose: heartbeats never enter the log. A new leader knows nothing of what its predecessor heard, so it
//! grants every node a fresh lease, with time to find the new leader, before it judges anybody. A closed connection alone
//! condemns nobody: an agent that restarts, or moves to another manager, comes back within its patience.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use model::{
    id::NodeId,
    node::{NodeState, Patience},
    time::Instant,
};
use planted::Bug;
use store::Store;

/// What every node gets beyond its patience after a change of leaders: to notice, to find the new leader, and to be
/// admitted there among thousands of others.
const NEW_LEADER_GRACE: Duration = Duration::from_secs(3);
/// The longest hold that a planned restart of an agent is granted.
const MAX_HOLD: Duration = Duration::from_secs(60);
/// When a node that was reported as expired is reported again, should the state not say so by then.
const REPEAT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
struct Lease {
    heard: Instant,
    ends: Instant,
    closed: bool,
}

/// The leases of one leadership.
#[derive(Debug, Clone, Default)]
pub struct Liveness {
    leases: BTreeMap<NodeId, Lease>,
    by_end: BTreeSet<(Instant, NodeId)>,
}

impl Liveness {
    /// A new leader's: a fresh lease for every node that is thought to be ready.
    pub fn new_leader(store: &Store, now: Instant) -> Self {
        let mut liveness = Self::default();
        for node in store.nodes().filter(|node| node.state == NodeState::Ready) {
            let ends = match planted::is(Bug::DownAtOnce) {
                true => now,
                false => now + patience(store, node.id) + NEW_LEADER_GRACE,
            };
            liveness.set(node.id, Lease { heard: now, ends, closed: false });
        }
        liveness
    }

    /// The node was heard: any message counts. Also opens the lease of a node that registers.
    pub fn beat(&mut self, store: &Store, node: NodeId, now: Instant) {
        let ends = now + patience(store, node);
        self.set(node, Lease { heard: now, ends, closed: false });
    }

    /// The node's connection was closed: remembered for the message, no shorter lease.
    pub fn closed(&mut self, node: NodeId) {
        if let Some(lease) = self.leases.get_mut(&node) {
            lease.closed = true;
        }
    }

    /// The agent announced a restart: its tasks are held for so long, at most a minute.
    pub fn goodbye(&mut self, store: &Store, node: NodeId, hold: Duration, now: Instant) {
        let ends = now + hold.min(MAX_HOLD).max(patience(store, node));
        self.set(node, Lease { heard: now, ends, closed: true });
    }

    /// The leader itself stood still for so long: what the nodes said meanwhile may lie unread, so nobody is judged for it.
    pub fn forgive(&mut self, stall: Duration) {
        self.by_end.clear();
        for (id, lease) in &mut self.leases {
            lease.ends = lease.ends + stall;
            self.by_end.insert((lease.ends, *id));
        }
    }

    /// The nodes whose lease has ended although the store has them as ready, and why, in words. Each is returned again
    /// after a second if the store still says ready by then.
    pub fn expired(&mut self, store: &Store, now: Instant) -> Vec<(NodeId, String)> {
        let mut expired = Vec::new();
        while let Some((ends, id)) = self.by_end.first().copied().filter(|(ends, _)| *ends <= now) {
            self.by_end.remove(&(ends, id));
            let Some(lease) = self.leases.remove(&id) else { continue };
            if store.node(id).is_none_or(|node| node.state != NodeState::Ready) {
                continue;
            }
            self.set(id, Lease { ends: now + REPEAT, ..lease });
            let silent = now.since(lease.heard).as_millis();
            let how = if lease.closed { "its connection closed and it has not come back" } else { "silent" };
            expired.push((id, format!("{how} for {silent} ms")));
        }
        expired
    }

    /// When to ask [`expired`](Self::expired) next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.by_end.first().map(|(ends, _)| *ends)
    }

    fn set(&mut self, node: NodeId, lease: Lease) {
        if let Some(old) = self.leases.insert(node, lease) {
            self.by_end.remove(&(old.ends, node));
        }
        self.by_end.insert((lease.ends, node));
    }
}

fn patience(store: &Store, id: NodeId) -> Duration {
    let class = store.node(id).map(|node| node.spec.class).unwrap_or_default();
    let default = Patience::default();
    store.cluster().map_or(&default, |cluster| &cluster.settings.patience).of(class)
}
