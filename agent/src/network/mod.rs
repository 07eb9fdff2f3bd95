//! This node's part of the cluster's networks: a bridge, the engine's network on it, routes and packet rules; made on demand. What
//! is missing of them is made again, except that the engine alone gives a bridge its address and its containers.
//!
//! Containers get addresses of the node's own /24 in the network's /16. All other addresses of the /16 (the virtual ones of services,
//! the other nodes' containers) are local to the host on its bridge: it answers for them, and TCP to them is redirected to the mesh,
//! which finds out whom they mean. Nothing leaves the host on that bridge, and nothing of the engine's own rules is touched: they
//! are in tables that the engine replaces as it likes, ours are in one of their own, replaced as a whole.
//!
//! Read in this order: `plan` (names and addresses), `kernel` (links and routes), `rules` (nftables), then this file.

mod kernel;
pub mod plan;
mod rules;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use agent_core::event::{Event, Part};
use model::{id::NetworkId, network::AddressPool, route::NetworkRoute};
use tokio::{
    sync::{Mutex, mpsc, watch},
    time::timeout,
};

use crate::engine::{Engine, Ours};

/// How often everything is looked at again: an admin's mistake lasts no longer.
const MEND: Duration = Duration::from_secs(5);

/// An engine that is not there yet is no reason to wait.
const ASK_ENGINE: Duration = Duration::from_secs(3);

/// What of a pool's addresses this machine has other uses for, in words: routes, and networks of the engine whether they are up or not.
/// Nothing, where neither can be asked.
pub async fn overlaps(pool: &AddressPool, engine: &Engine) -> Vec<String> {
    let routes = match kernel::Kernel::open() {
        Ok(kernel) => kernel.overlaps(pool).await.unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    let subnets = match timeout(ASK_ENGINE, engine.subnets()).await {
        Ok(Ok(subnets)) => subnets,
        _ => Vec::new(),
    };
    let networks: Vec<_> =
        subnets.into_iter().filter(|(_, base, length)| kernel::lies_in(pool, *base, *length, true)).collect();
    let unnamed = routes
        .iter()
        .filter(|(base, length)| !networks.iter().any(|(_, other, of)| (other, of) == (base, length)));
    let routes = unnamed.map(|(base, length)| format!("{base}/{length}, a route of this machine"));
    let named =
        networks.iter().map(|(name, base, length)| format!("{base}/{length}, the engine's network {name}"));
    routes.chain(named).collect()
}

/// The node's networks. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Networks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ours: Ours,
    /// Made, or being made: one at a time.
    made: Mutex<BTreeMap<NetworkId, NetworkRoute>>,
}

impl Networks {
    /// None made yet.
    pub fn new(ours: Ours) -> Self {
        Self(Arc::new(Inner { ours, made: Mutex::default() }))
    }

    /// Makes what is missing of these networks, and leaves what is there as it is.
    ///
    /// # Errors
    /// What stands in the way, in words.
    pub async fn make(&self, engine: &Engine, wanted: &[NetworkRoute]) -> Result<(), String> {
        if wanted.is_empty() {
            return Ok(());
        }
        let mut made = self.0.made.lock().await;
        for network in wanted {
            self.make_one(engine, network)
                .await
                .map_err(|error| format!("network {}: {error}", network.name))?;
            made.insert(network.network, network.clone());
        }
        rules::replace(self.0.ours.node, made.values()).await
    }

    async fn make_one(&self, engine: &Engine, network: &NetworkRoute) -> Result<(), String> {
        let kernel = kernel::Kernel::open()?;
        let bridge = kernel.bridge(&plan::bridge_name(network)).await?;
        kernel.refuse_overlap(network, bridge).await?;
        engine.make_network(network, self.0.ours).await?;
        kernel.routes(network, bridge).await
    }

    /// Removes what nobody wants any more. What containers still use stays until they are gone; whether anything is left.
    async fn tidy(&self, engine: &Engine, wanted: &[NetworkRoute]) -> Result<bool, String> {
        let mut made = self.0.made.lock().await;
        let names: Vec<String> = wanted.iter().map(plan::engine_name).collect();
        let mut left = false;
        for (name, bridge) in engine.networks(self.0.ours).await? {
            if names.contains(&name) || !engine.remove_network(&name).await {
                left = true;
                continue;
            }
            kernel::Kernel::open()?.remove_bridge(&bridge).await?;
            made.retain(|_, network| plan::engine_name(network) != name);
        }
        if made.is_empty() {
            rules::remove(self.0.ours.node).await?;
        }
        Ok(left)
    }

    /// Keeps the wanted networks whole for as long as the agent lives.
    pub async fn keep(
        self,
        engine: Engine,
        mut wanted: watch::Receiver<Vec<NetworkRoute>>,
        events: mpsc::Sender<Event>,
    ) {
        let mut last = Ok(());
        let mut busy = false;
        loop {
            let networks = wanted.borrow_and_update().clone();
            if busy || !networks.is_empty() {
                let mended = match self.make(&engine, &networks).await {
                    Ok(()) => self.tidy(&engine, &networks).await,
                    Err(error) => Err(error),
                };
                busy = mended != Ok(false);
                let outcome = mended.map(drop);
                if outcome != last {
                    let problems: Vec<String> = outcome.clone().err().into_iter().collect();
                    for problem in &problems {
                        tracing::error!(problem, "a network of this node is not whole");
                    }
                    if events.send(Event::Problems { of: Part::Networks, problems }).await.is_err() {
                        return;
                    }
                }
                last = outcome;
            }
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(MEND) => {}
            }
        }
    }

    /// Removes all of them, when the node leaves the cluster and its containers are gone.
    ///
    /// # Errors
    /// What could not be removed, in words.
    pub async fn remove_all(&self, engine: &Engine) -> Result<(), String> {
        self.tidy(engine, &[]).await.map(drop)
    }
}
