//! Layer 4: a client's connection goes to a replica as it is.

use std::{net::SocketAddr, sync::Arc};

use mesh::{
    Table, proxy_protocol,
    retry::MAX_TRIES,
    table::{Port, Service},
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    dial::Backend,
    duplex,
    world::{Ticket, World},
};

/// Carries a connection to a published port. Without a replica that takes it, it is closed at once.
pub async fn serve(
    world: &Arc<World>,
    port: u16,
    socket: TcpStream,
    client: SocketAddr,
    proxy_protocol: bool,
) {
    let mut head = Vec::new();
    if proxy_protocol && let Ok(server) = socket.local_addr() {
        head = proxy_protocol::header(client, super::socket::canonical(server));
    }
    let find = |table: &Table| match table.ports.get(&port)? {
        Port::Tcp(route) => Some((route.service.clone(), route.target)),
        Port::Http(_) => None,
    };
    carry(world, find, socket, client, &head).await;
}

/// Carries a connection to a replica of the service, at the port, that `find` names.
pub async fn carry(
    world: &Arc<World>,
    find: impl Fn(&Table) -> Option<(Arc<Service>, u16)>,
    mut socket: TcpStream,
    client: SocketAddr,
    head: &[u8],
) {
    let Some((mut backend, _ticket)) = reach(world, find, client).await else { return };
    if backend.wire.write_all(head).await.is_ok() {
        // A broken connection is its two ends' business: both see it closed.
        drop(duplex::join_socket(&mut socket, &mut backend.wire).await);
    }
}

/// Each try goes by the table of its moment: the replicas of an older one may all have left.
async fn reach(
    world: &Arc<World>,
    find: impl Fn(&Table) -> Option<(Arc<Service>, u16)>,
    client: SocketAddr,
) -> Option<(Backend, Ticket)> {
    let mut tried = Vec::new();
    while tried.len() < MAX_TRIES {
        let table = world.table.load_full();
        let (service, port) = find(&table)?;
        let (replica, ticket) = world.choose(&service, &tried, None)?;
        match world.open(&table, replica, port, client).await {
            Ok(backend) => {
                ticket.succeed();
                return Some((backend, ticket));
            }
            Err(failure) => {
                ticket.fail(failure);
                tracing::debug!(service = service.name, task = %replica.task, ?failure, "not connected");
                tried.push(replica.task);
            }
        }
    }
    None
}
