//! How sockets are made and tuned.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsFd,
    time::Duration,
};

use rustix::net::sockopt;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::TcpListener;

/// Unanswered data ends a connection after this long: a node that was cut off is noticed within it.
const USER_TIMEOUT: Duration = Duration::from_secs(4);
/// Silent connections are probed after this long.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_PROBES: u32 = 3;
/// The kernel holds this many connections that are not yet accepted: a burst after a link came back.
const BACKLOG: i32 = 4_096;

/// For the side towards containers and nodes: what is written leaves at once, and a dead other end is noticed.
pub fn tune(socket: impl AsFd) -> io::Result<()> {
    tune_client(&socket)?;
    let millis = u32::try_from(USER_TIMEOUT.as_millis()).expect("four seconds");
    Ok(sockopt::set_tcp_user_timeout(&socket, millis)?)
}

/// For the side towards clients, who may be slow.
pub fn tune_client(socket: impl AsFd) -> io::Result<()> {
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(&socket, KEEPALIVE_INTERVAL)?;
    Ok(sockopt::set_tcp_keepcnt(&socket, KEEPALIVE_PROBES)?)
}

/// Listens on a port of all addresses, IPv4 and, where the kernel has it, IPv6.
///
/// # Errors
/// The port is taken or not allowed.
pub fn listen_everywhere(port: u16) -> io::Result<TcpListener> {
    match listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))) {
        Err(error) if is_without_ipv6(&error) => listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
        other => other,
    }
}

/// Listens on an address.
///
/// # Errors
/// It is taken, not allowed, or not of this machine.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// An address as people write it: IPv4 that came through an IPv6 socket is IPv4.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn is_without_ipv6(error: &io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(error);
    matches!(errno, Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL))
}
