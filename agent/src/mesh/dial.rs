//! One connection to a replica, wherever it runs.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use mesh::{
    Table,
    balance::Failure,
    table::{Reach, Replica},
};
use model::id::TaskId;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};

use super::{
    gate::Passage,
    peers::{Leg, Link},
    socket,
    world::World,
};

/// A container on this host answers within a millisecond or not at all: one that was killed does not even refuse.
const CONNECT: Duration = Duration::from_millis(300);

/// A connection to a replica.
#[derive(Debug)]
pub struct Backend {
    /// The bytes.
    pub wire: Wire,
    /// To be kept for as long as they move.
    pub hold: Hold,
}

/// What a connection to a replica rests on.
#[derive(Debug)]
pub enum Hold {
    /// The gate of a task of this node.
    Passage {
        /// Counted until it is dropped.
        _counted: Passage,
    },
    /// The connection with the task's node.
    Link(Arc<Link>),
}

impl Hold {
    /// Whether what follows is better sent over another connection.
    pub fn is_retired(&self) -> bool {
        matches!(self, Self::Link(link) if link.is_retired())
    }
}

/// What carries a connection's bytes.
#[derive(Debug)]
pub enum Wire {
    /// A socket to a container.
    Socket(TcpStream),
    /// A stream to another node, which has the container.
    Leg(Box<Leg>),
}

/// Connects to a replica.
///
/// # Errors
/// Nothing was sent to it, so another may be tried.
pub async fn open(
    world: &World,
    table: &Table,
    replica: &Replica,
    port: u16,
    client: SocketAddr,
) -> Result<Backend, Failure> {
    match table.reach(replica, world.node) {
        Some(Reach::Local(address)) => open_local(world, replica.task, address.into(), port).await,
        Some(Reach::Remote(node)) => {
            let (leg, link) = world.peers.open(node, replica.task, port, client).await?;
            Ok(Backend { wire: Wire::Leg(Box::new(leg)), hold: Hold::Link(link) })
        }
        None => Err(Failure::Unreachable),
    }
}

/// Connects to a container of this node.
///
/// # Errors
/// As [`open`].
pub async fn open_local(world: &World, task: TaskId, address: IpAddr, port: u16) -> Result<Backend, Failure> {
    let passage = world.gates.pass(task).ok_or(Failure::Withdrawn)?;
    let dialled = timeout(CONNECT, TcpStream::connect((address, port))).await;
    let socket = dialled.map_err(|_| Failure::Unreachable)?.map_err(|_| Failure::Unreachable)?;
    socket::tune(&socket, socket::CONTAINER).map_err(|_| Failure::Unreachable)?;
    Ok(Backend { wire: Wire::Socket(socket), hold: Hold::Passage { _counted: passage } })
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Leg(leg) => Pin::new(leg).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Leg(leg) => Pin::new(leg).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_flush(cx),
            Self::Leg(leg) => Pin::new(leg).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Leg(leg) => Pin::new(leg).poll_shutdown(cx),
        }
    }
}
