//! A way to a manager on which every connection comes from an address that nobody had before.
//!
//! Managers let an address wait whose proofs failed. Here hundreds of proofs are meant to fail, and what one of them costs is tried apart.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::Result;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::client::block_on;

/// A running relay; dropping it ends its connections.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// One to `target`, `host:port` on this machine's loopback.
    ///
    /// # Errors
    /// No port is free, or the target is no address.
    pub fn start(target: &str) -> Result<Relay> {
        let target: SocketAddr = target.parse()?;
        block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?;
            Ok(Relay { address, accepting: tokio::spawn(accept(listener, target)) })
        })
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A connection to `target` from an address that nobody had before.
///
/// # Errors
/// Nobody listens there.
pub async fn from_elsewhere(target: SocketAddr) -> Result<TcpStream> {
    from(elsewhere(), target).await
}

/// An address of this machine that nobody had before.
pub fn elsewhere() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(127, 200, high, low)
}

/// A connection from one of this machine's addresses.
///
/// # Errors
/// Nobody listens there.
pub async fn from(source: Ipv4Addr, target: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    Ok(socket.connect(target).await?)
}

async fn accept(listener: TcpListener, target: SocketAddr) {
    let mut open = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        open.spawn(async move {
            if let Ok(mut server) = from_elsewhere(target).await {
                // Either side may break off: so it is with connections.
                drop(copy_bidirectional(&mut client, &mut server).await);
            }
        });
        while open.try_join_next().is_some() {}
    }
}
