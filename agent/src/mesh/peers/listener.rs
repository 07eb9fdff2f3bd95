//! Where other nodes dial this one.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::ensure;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{link, link::Link};
use crate::mesh::world::World;

/// After a power cut all nodes come back at once; the rest waits in the kernel's backlog.
const CONCURRENT_HANDSHAKES: usize = 64;
/// When the process is out of descriptors, accepting again at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listener that is open, if any.
#[derive(Debug, Default)]
pub struct Listener(Option<(String, CancellationToken)>);

impl Listener {
    /// Listens where it is wanted and nowhere else.
    ///
    /// # Errors
    /// The address is none, or cannot be had.
    pub fn reconcile(&mut self, world: &Arc<World>, wanted: Option<&str>) -> Result<(), String> {
        if self.0.as_ref().map(|(address, _)| address.as_str()) == wanted {
            return Ok(());
        }
        self.close();
        let Some(wanted) = wanted else { return Ok(()) };
        let refused = |error: &dyn std::fmt::Display| format!("nodes cannot be heard at {wanted}: {error}");
        let address: SocketAddr = wanted.parse().map_err(|error| refused(&error))?;
        let (listener, held) = world.sockets.listen(address).map_err(|error| refused(&error))?;
        let stop = CancellationToken::new();
        let (stopped, world) = (stop.clone(), world.clone());
        tokio::spawn(async move {
            let _held = held;
            stopped.run_until_cancelled(accept(world, listener)).await
        });
        self.0 = Some((wanted.to_owned(), stop));
        Ok(())
    }

    /// Listens no more; connections go on.
    pub fn close(&mut self) {
        if let Some((_, stop)) = self.0.take() {
            stop.cancel();
        }
    }
}

async fn accept(world: Arc<World>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(CONCURRENT_HANDSHAKES));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, address)) => {
                let world = world.clone();
                tokio::spawn(async move {
                    let met = meet(&world, socket).await;
                    drop(place);
                    match met {
                        Ok((stream, node)) => Link::run(world, stream, node, false).await,
                        Err(error) => tracing::info!(peer = %address, %error, "refused"),
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a node's connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn meet(
    world: &World,
    socket: TcpStream,
) -> anyhow::Result<(tokio_rustls::TlsStream<TcpStream>, model::id::NodeId)> {
    link::tune(&socket)?;
    let (stream, node) = world.tls.accept(socket).await?;
    ensure!(!world.table.load().removed.contains(&node), "node {node} was removed from the cluster");
    Ok((stream, node))
}
