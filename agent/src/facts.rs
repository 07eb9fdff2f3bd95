//! What this machine is; what the engine is, the core learns from the engine.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use model::node::Facts;

use crate::config::Config;

/// Where nodes reach each other's containers, unless the configuration says another port.
const MESH_PORT: u16 = 7421;

/// How this node's mesh is reached.
pub struct Mesh {
    /// Where it listens.
    pub listen: Option<String>,
    /// Where others dial it.
    pub advertised: Option<String>,
}

/// What the configuration says of the mesh, completed by what the machine is. Without an address that others could dial it only
/// dials out.
pub fn mesh(config: &Config, managers: &[String]) -> Mesh {
    let port = config.mesh_port.unwrap_or(MESH_PORT);
    let host = match &config.mesh_address {
        _ if port == 0 => None,
        Some(host) => Some(host.clone()),
        None => managers.iter().find_map(|manager| address_towards(manager)).map(|address| match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        }),
    };
    Mesh {
        listen: host.is_some().then(|| format!("0.0.0.0:{port}")),
        advertised: host.map(|host| format!("{host}:{port}")),
    }
}

/// The address that this machine has towards another: connecting a datagram socket sends nothing.
fn address_towards(manager: &str) -> Option<IpAddr> {
    use std::net::ToSocketAddrs;
    let there = manager.to_socket_addrs().ok()?.next()?;
    let here: SocketAddr = if there.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(here).ok()?;
    socket.connect(there).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Reads the machine's facts. `hostname`: where the configuration says another one.
pub fn read(hostname: Option<&str>, labels: BTreeMap<String, String>) -> Facts {
    let system = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    Facts {
        hostname: hostname.map_or_else(|| text(system.nodename()), str::to_owned),
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        kernel: text(system.release()),
        labels,
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        signatures: true,
        ..Facts::default()
    }
}
