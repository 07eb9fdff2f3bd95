//! How connections are tuned.

use std::{io, net::SocketAddr, os::fd::AsFd, time::Duration};

use rustix::net::sockopt;

/// Data that another node does not take ends the connection after this long: one that was cut off is noticed within it.
pub const NODE: Duration = Duration::from_secs(4);
/// The same for a container: it may read nothing for as long as a collection of garbage takes, and one that is gone is noticed
/// by its agent.
pub const CONTAINER: Duration = Duration::from_secs(60);
/// Silent connections are probed after this long.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_PROBES: u32 = 3;

/// For the side towards containers and nodes: what is written leaves at once, and an end that takes nothing is noticed.
pub fn tune(socket: impl AsFd, patience: Duration) -> io::Result<()> {
    tune_client(&socket)?;
    let millis = u32::try_from(patience.as_millis()).expect("a minute at most");
    Ok(sockopt::set_tcp_user_timeout(&socket, millis)?)
}

/// For the side towards clients, who may be slow. What is set on a listening socket holds for all that it accepts.
pub fn tune_client(socket: impl AsFd) -> io::Result<()> {
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(&socket, KEEPALIVE_INTERVAL)?;
    Ok(sockopt::set_tcp_keepcnt(&socket, KEEPALIVE_PROBES)?)
}

/// An address as people write it: IPv4 that came through an IPv6 socket is IPv4.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
