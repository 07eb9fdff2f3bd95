//! The connections that are open, so that a revoked identity can be cut off at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::identity::Peer;

/// The peers of one listener. Clones share the list.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    last: u64,
    peers: BTreeMap<u64, Peer>,
}

/// Takes its connection off the list when it goes.
#[derive(Debug)]
pub(super) struct Listed {
    connections: Connections,
    number: u64,
}

impl Connections {
    /// How many are open.
    pub fn count(&self) -> usize {
        self.open().peers.len()
    }

    /// Cuts every connection whose peer `revoked` names; returns how many. Linear in the number of connections.
    pub fn disconnect(&self, revoked: impl Fn(&Peer) -> bool) -> usize {
        let open = self.open();
        open.peers.values().filter(|peer| revoked(peer)).map(Peer::disconnect).count()
    }

    pub(super) fn list(&self, peer: Peer) -> Listed {
        let mut open = self.open();
        open.last += 1;
        let number = open.last;
        open.peers.insert(number, peer);
        Listed { connections: self.clone(), number }
    }

    /// A panic elsewhere cannot leave the list half-changed, so a poisoned lock is as good as a healthy one.
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.connections.open().peers.remove(&self.number);
    }
}
