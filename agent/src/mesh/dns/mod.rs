//! Names: a server on the gateway address of each of this node's networks.
//!
//! Containers ask it because the engine tells them to (`--dns`). What a name means is decided in [`mesh::names`]; what is not ours
//! goes to the host's resolvers, and their answer comes back as it is. Every question is answered within two seconds, if only by
//! "cannot say": a client that hears nothing waits five for its next try.
//!
//! Reading order: `server` (sockets), `message` (questions and our answers), `forward` and `resolvers` (the others').

mod forward;
mod message;
mod resolvers;
mod server;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use mesh::Table;
use model::id::NetworkId;
use tokio_util::sync::CancellationToken;

pub use resolvers::Resolvers;

use super::world::World;

/// Where names are asked for.
const PORT: u16 = 53;

/// The servers that run.
#[derive(Debug)]
pub struct Names {
    world: Arc<World>,
    resolvers: Arc<Resolvers>,
    running: Mutex<BTreeMap<NetworkId, (Ipv4Addr, CancellationToken)>>,
}

impl Names {
    /// None so far; questions that are not ours go to the resolvers of a file like `/etc/resolv.conf`.
    pub fn new(world: Arc<World>, resolv_conf: &Path) -> Self {
        let resolvers = Arc::new(Resolvers::new(resolv_conf));
        Self { world, resolvers, running: Mutex::default() }
    }

    /// Answers on the gateways of the table's networks, and says where that cannot be done: an address that is not there yet
    /// comes when the network's bridge does.
    pub fn reconcile(&self, table: &Table) -> Vec<String> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let is_wanted = |id: &NetworkId, gateway: Ipv4Addr| {
            table.networks.iter().any(|n| n.route.network == *id && n.route.gateway() == gateway)
        };
        running.retain(|id, (gateway, stop)| {
            is_wanted(id, *gateway) || {
                stop.cancel();
                false
            }
        });
        let mut problems = Vec::new();
        for network in &table.networks {
            let (id, gateway) = (network.route.network, network.route.gateway());
            if running.contains_key(&id) {
                continue;
            }
            match server::start(&self.world, &self.resolvers, id, SocketAddr::from((gateway, PORT))) {
                Ok(stop) => drop(running.insert(id, (gateway, stop))),
                Err(error) => {
                    let name = &network.route.name;
                    problems
                        .push(format!("names in network {name} cannot be answered at {gateway}: {error}"));
                }
            }
        }
        problems
    }

    /// Answers nobody any more.
    pub fn close(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.values().for_each(|(_, stop)| stop.cancel());
        running.clear();
    }
}
