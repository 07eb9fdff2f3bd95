//! The listeners of published ports: those that the table names, and no others.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Result;
use mesh::{Table, table::Port};
use socket2::Socket;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::yield_now,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{
    http::{self, Arrival, secure},
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
            match self.listen(*port) {
                Ok(listening) => drop(open.insert(*port, listening)),
                Err(error) => problems.push(format!("port {port} cannot be opened: {error:#}")),
            }
        }
        problems
    }

    /// Closes all.
    pub fn close(&self) {
        self.lock().clear();
    }

    fn listen(&self, port: u16) -> Result<Listening> {
        let (listener, held) = self.world.sockets.listen_everywhere(port)?;
        socket::tune_client(&listener)?;
        let stop = CancellationToken::new();
        let listening = Listening(stop.clone());
        let shared = Shared {
            world: self.world.clone(),
            places: self.places.clone(),
            acceptor: secure::acceptor(&self.world, port)?,
            port,
        };
        let held = Arc::new(held);
        self.world.lanes.spawn_on_each(|| {
            let (held, stopped) = (held.clone(), stop.clone());
            let accepting = accept(shared.clone(), listener.try_clone()?);
            Ok(async move {
                let _held = held;
                stopped.run_until_cancelled(accepting).await;
            })
        })?;
        Ok(listening)
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

/// What a port's connections have in common.
#[derive(Clone)]
struct Shared {
    world: Arc<World>,
    places: Arc<Semaphore>,
    acceptor: TlsAcceptor,
    port: u16,
}

async fn accept(shared: Shared, listener: Socket) {
    let port = shared.port;
    let listener = match TcpListener::from_std(listener.into()) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(port, %error, "connections cannot be accepted"),
    };
    loop {
        let (client, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(port, %error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = timeout(WAIT_FOR_A_PLACE, shared.places.clone().acquire_owned()).await else {
            tracing::warn!(port, "a client was turned away: {MAX_CONNECTIONS} connections are open");
            continue;
        };
        let (served, address) = (shared.clone(), socket::canonical(address));
        shared.world.lanes.carry(&shared.world.connections, client, move |client| async move {
            serve(served, client, address).await;
            drop(place);
        });
        // The next one may as well be another thread's.
        yield_now().await;
    }
}

/// What only some connections need is boxed: each is as large as the largest of its ways.
async fn serve(shared: Shared, client: TcpStream, address: SocketAddr) {
    let Shared { world, acceptor, port, .. } = shared;
    // A table is not held for as long as a connection lives.
    let understood = world.table.load().ports.get(&port).map(|port| match port {
        Port::Tcp(route) => Understood::AsBytes { proxy_protocol: route.proxy_protocol },
        Port::Http(routes) => Understood::AsHttp { secure: !routes.certificates.is_empty() },
    });
    match understood {
        Some(Understood::AsBytes { proxy_protocol }) => {
            tcp::serve(&world, port, client, address, proxy_protocol).await;
        }
        Some(Understood::AsHttp { secure }) => {
            let arrival = Arrival { world, port, client: address, secure };
            if secure {
                Box::pin(secure::serve(arrival, acceptor, client)).await;
            } else {
                Box::pin(http::serve(arrival, client)).await;
            }
        }
        // It was closed while the client waited.
        None => {}
    }
}

/// What a connection to a port is to the mesh.
enum Understood {
    AsBytes { proxy_protocol: bool },
    AsHttp { secure: bool },
}
