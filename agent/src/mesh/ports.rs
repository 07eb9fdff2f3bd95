//! The listeners of published ports: those that the table names, and no others.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mesh::{Table, table::Port};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    http::{self, Arrival},
    socket, tcp,
    world::World,
};

/// Connections of clients at a time, over all published ports. Each costs two descriptors and a few KiB.
const MAX_CONNECTIONS: usize = 16_384;
/// At that bound a client waits so long for a place until it is turned away.
const WAIT_FOR_A_PLACE: Duration = Duration::from_secs(1);
/// When the process is out of descriptors, accepting again at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The listeners that are open.
#[derive(Debug)]
pub struct Ports {
    world: Arc<World>,
    places: Arc<Semaphore>,
    open: Mutex<BTreeMap<u16, Listening>>,
}

/// Dropping it closes the listener; accepted connections go on.
#[derive(Debug)]
struct Listening(CancellationToken);

impl Ports {
    /// None so far.
    pub fn new(world: Arc<World>) -> Self {
        Self { world, places: Arc::new(Semaphore::new(MAX_CONNECTIONS)), open: Mutex::default() }
    }

    /// Opens and closes listeners until they are those of the table; says which cannot be opened.
    pub fn reconcile(&self, table: &Table) -> Vec<String> {
        let mut open = self.lock();
        open.retain(|port, _| table.ports.contains_key(port));
        let mut problems = Vec::new();
        for port in table.ports.keys() {
            if open.contains_key(port) {
                continue;
            }
            match socket::listen_everywhere(*port) {
                Ok(listener) => {
                    open.insert(*port, self.listen(*port, listener));
                }
                Err(error) => problems.push(format!("port {port} cannot be opened: {error}")),
            }
        }
        problems
    }

    /// Closes all.
    pub fn close(&self) {
        self.lock().clear();
    }

    fn listen(&self, port: u16, listener: TcpListener) -> Listening {
        let stop = CancellationToken::new();
        let accepting = accept(self.world.clone(), self.places.clone(), port, listener);
        let stopped = stop.clone();
        tokio::spawn(async move { stopped.run_until_cancelled(accepting).await });
        Listening(stop)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u16, Listening>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

async fn accept(world: Arc<World>, places: Arc<Semaphore>, port: u16, listener: TcpListener) {
    loop {
        let (client, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(port, %error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = timeout(WAIT_FOR_A_PLACE, places.clone().acquire_owned()).await else {
            tracing::warn!(port, "a client was turned away: {MAX_CONNECTIONS} connections are open");
            continue;
        };
        let carried = serve(world.clone(), port, client, socket::canonical(address));
        world.connections.spawn(async move {
            carried.await;
            drop(place);
        });
    }
}

async fn serve(world: Arc<World>, port: u16, client: TcpStream, address: SocketAddr) {
    if socket::tune_client(&client).is_err() {
        return;
    }
    let table = world.table.load_full();
    match table.ports.get(&port) {
        Some(Port::Tcp(route)) => tcp::serve(world, table.clone(), route, client, address).await,
        Some(Port::Http(_)) => {
            http::serve(Arrival { world, port, client: address, secure: false }, client).await;
        }
        // It was closed while the client waited.
        None => {}
    }
}
