//! Listening sockets: made here, or taken over from the process that served before.
//!
//! A copy of each is kept for as long as it is used, so that the next process can have it: the queue of connections that wait
//! belongs to the socket, and whoever holds it accepts them. No connection is refused while one process follows another.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

/// The kernel holds this many connections that are not yet accepted: a burst after a link came back.
const BACKLOG: i32 = 4_096;

/// What a socket listens for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Connections.
    Stream,
    /// Datagrams.
    Datagram,
}

/// A socket's identity.
pub type Key = (Kind, SocketAddr);

/// All listening sockets. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Sockets(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    inherited: BTreeMap<Key, OwnedFd>,
    open: BTreeMap<Key, (u64, OwnedFd)>,
    made: u64,
}

/// Keeps the copy for as long as the socket is used; numbered, because the next socket at the same address may be there before
/// the last one's user has gone.
#[derive(Debug)]
pub struct Held(Sockets, Key, u64);

impl Sockets {
    /// Listens on a port of all addresses, IPv4 and, where the kernel has it, IPv6. What is returned belongs to no reactor yet.
    ///
    /// # Errors
    /// The port is taken or not allowed.
    pub fn listen_everywhere(&self, port: u16) -> io::Result<(Socket, Held)> {
        let everywhere = |address: IpAddr| self.open((Kind::Stream, (address, port).into()));
        match everywhere(Ipv6Addr::UNSPECIFIED.into()) {
            Err(error) if is_without_ipv6(&error) => everywhere(Ipv4Addr::UNSPECIFIED.into()),
            other => other,
        }
    }

    /// Listens on an address.
    ///
    /// # Errors
    /// It is taken, not allowed, or not of this machine.
    pub fn listen(&self, address: SocketAddr) -> io::Result<(TcpListener, Held)> {
        let (socket, held) = self.open((Kind::Stream, address))?;
        Ok((TcpListener::from_std(socket.into())?, held))
    }

    /// Receives datagrams at an address.
    ///
    /// # Errors
    /// It is taken, not allowed, or not of this machine.
    pub fn receive(&self, address: SocketAddr) -> io::Result<(UdpSocket, Held)> {
        let (socket, held) = self.open((Kind::Datagram, address))?;
        Ok((UdpSocket::from_std(socket.into())?, held))
    }

    /// Takes over what another process had.
    pub fn inherit(&self, sockets: Vec<(Key, OwnedFd)>) {
        self.lock().inherited.extend(sockets);
    }

    /// Closes what was taken over and is not used.
    pub fn drop_unused(&self) {
        self.lock().inherited.clear();
    }

    /// Copies of all, for another process.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn copies(&self) -> io::Result<Vec<(Key, OwnedFd)>> {
        self.lock().open.iter().map(|(key, (_, socket))| Ok((*key, socket.try_clone()?))).collect()
    }

    fn open(&self, key: Key) -> io::Result<(Socket, Held)> {
        let inherited = self.lock().inherited.remove(&key);
        let socket = inherited.map_or_else(|| make(key), |socket| Ok(Socket::from(socket)))?;
        let copy = OwnedFd::from(socket.try_clone()?);
        let mut state = self.lock();
        state.made += 1;
        let number = state.made;
        state.open.insert(key, (number, copy));
        Ok((socket, Held(self.clone(), key, number)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if state.open.get(&self.1).is_some_and(|(number, _)| *number == self.2) {
            state.open.remove(&self.1);
        }
    }
}

fn make((kind, address): Key) -> io::Result<Socket> {
    let (kind, protocol) = match kind {
        Kind::Stream => (Type::STREAM, Protocol::TCP),
        Kind::Datagram => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&SockAddr::from(address))?;
    if kind == Type::STREAM {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

fn is_without_ipv6(error: &io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(error);
    matches!(errno, Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL))
}
