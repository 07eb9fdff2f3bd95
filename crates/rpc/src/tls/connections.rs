//! The connections that are open, so that a revoked identity can be cut off at once.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::identity::Peer;

/// Connections without a certificate at once: machines that join and pipelines. Each costs some 50 KiB.
const STRANGERS: usize = 2_048;
/// Of these from one address: a runner with many jobs, or machines behind one address.
const STRANGERS_AT_ONE_ADDRESS: usize = 256;

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

    /// Takes a connection onto the list; `None` when its peer has no certificate and too many of those are open, from everywhere
    /// or from its address.
    pub(super) fn list(&self, peer: Peer) -> Option<Listed> {
        let mut open = self.open();
        if peer.certificate().is_none() && open.is_full_of_strangers(peer.address().ip()) {
            return None;
        }
        open.last += 1;
        let number = open.last;
        open.peers.insert(number, peer);
        Some(Listed { connections: self.clone(), number })
    }

    /// A panic elsewhere cannot leave the list half-changed, so a poisoned lock is as good as a healthy one.
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn is_full_of_strangers(&self, address: IpAddr) -> bool {
        let strangers = self.peers.values().filter(|peer| peer.certificate().is_none());
        let (all, here) = strangers
            .fold((0, 0), |(all, here), peer| (all + 1, here + usize::from(peer.address().ip() == address)));
        all >= STRANGERS || here >= STRANGERS_AT_ONE_ADDRESS
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.connections.open().peers.remove(&self.number);
    }
}
