//! Services by their own address: what a container sends there, the kernel hands to one listener (an nftables redirect that the
//! agent makes), and the connection itself says where it was going.
//!
//! The asker's address decides what it may reach: only services of a network that it is in. Other nodes' containers are reached
//! the same way, by their addresses.

use std::{
    net::{IpAddr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use mesh::Table;
use rustix::net::sockopt;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{socket, tcp, world::World};

/// Where redirected connections arrive, on all addresses.
pub const PORT: u16 = 7422;
/// Connections of this node's containers at a time.
const MAX_CONNECTIONS: usize = 16_384;
/// When the process is out of descriptors, accepting again at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The listener, which is there as long as the node has networks.
#[derive(Debug, Default)]
pub struct Redirected(Option<CancellationToken>);

impl Redirected {
    /// Opens or closes the listener.
    ///
    /// # Errors
    /// The port is taken.
    pub fn reconcile(&mut self, world: &Arc<World>, table: &Table) -> Result<(), String> {
        if table.networks.is_empty() {
            self.close();
            return Ok(());
        }
        if self.0.is_some() {
            return Ok(());
        }
        let (listener, held) =
            world.sockets.listen(SocketAddr::from(([0, 0, 0, 0], PORT))).map_err(|error| {
                format!("services cannot be reached by their addresses: port {PORT}: {error}")
            })?;
        let stop = CancellationToken::new();
        let (stopped, world) = (stop.clone(), world.clone());
        tokio::spawn(async move {
            let _held = held;
            stopped.run_until_cancelled(accept(world, listener)).await
        });
        self.0 = Some(stop);
        Ok(())
    }

    /// Listens no more; connections go on.
    pub fn close(&mut self) {
        if let Some(stop) = self.0.take() {
            stop.cancel();
        }
    }
}

async fn accept(world: Arc<World>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, asker)) => {
                let carried = serve(world.clone(), socket, asker);
                world.connections.spawn(async move {
                    carried.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a redirected connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Carries a connection to whom it was meant for; one that was not redirected, or that comes from elsewhere, is closed at once.
async fn serve(world: Arc<World>, socket: TcpStream, asker: SocketAddr) {
    let Some(meant) = meant_for(&socket) else { return };
    let IpAddr::V4(source) = asker.ip() else { return };
    if socket::tune_client(&socket).is_ok() {
        let find = |table: &Table| Some((table.at_address(*meant.ip(), source)?, meant.port()));
        tcp::carry(&world, find, socket, asker, &[]).await;
    }
}

/// Where a connection was going before it was redirected.
fn meant_for(socket: &TcpStream) -> Option<SocketAddrV4> {
    let meant = sockopt::ip_original_dst(socket).ok()?;
    let is_redirected = socket.local_addr().is_ok_and(|local| local != SocketAddr::V4(meant));
    (is_redirected && meant.port() != PORT).then_some(meant)
}
