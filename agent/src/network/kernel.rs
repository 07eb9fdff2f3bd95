//! Links and routes, through netlink.

use std::net::Ipv4Addr;

use futures_util::TryStreamExt;
use model::{network::AddressPool, route::NetworkRoute};
use rtnetlink::{
    Error, Handle, LinkBridge, LinkUnspec, RouteMessageBuilder, new_connection,
    packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteScope, RouteType},
};
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketType, netdevice::name_to_index, socket},
};

use super::plan;

/// No link has this index.
const NO_LINK: u32 = 0;
/// The table that says what is this host itself.
const LOCAL_TABLE: u32 = 255;

/// The kernel's network configuration of this process's namespace.
pub struct Kernel {
    handle: Handle,
    connection: tokio::task::JoinHandle<()>,
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Kernel {
    pub fn open() -> Result<Self, String> {
        let (connection, handle, _) = new_connection().map_err(|error| format!("netlink: {error}"))?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    /// The bridge of this name, up, made when it is missing; its index.
    pub async fn bridge(&self, name: &str) -> Result<u32, String> {
        let index = match index(name)? {
            Some(index) => index,
            None => {
                let made = self.handle.link().add(LinkBridge::new(name).up().build()).execute().await;
                made.or_else(|error| if exists(&error) { Ok(()) } else { Err(error) })
                    .map_err(|error| format!("bridge {name}: {error}"))?;
                index(name)?.ok_or_else(|| format!("bridge {name} went as soon as it was made"))?
            }
        };
        let up = self.handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await;
        up.map_err(|error| format!("bridge {name}: {error}"))?;
        Ok(index)
    }

    pub async fn remove_bridge(&self, name: &str) -> Result<(), String> {
        match index(name)? {
            Some(index) => self
                .handle
                .link()
                .del(index)
                .execute()
                .await
                .map_err(|error| format!("bridge {name}: {error}")),
            None => Ok(()),
        }
    }

    /// Everything of the network but the node's own part is this host, on its bridge.
    pub async fn routes(&self, network: &NetworkRoute, bridge: u32) -> Result<(), String> {
        for (base, length) in plan::elsewhere(network) {
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(base, length)
                .output_interface(bridge)
                .table_id(LOCAL_TABLE)
                .kind(RouteType::Local)
                .scope(RouteScope::Host)
                .build();
            let set = self.handle.route().add(route).replace().execute().await;
            set.map_err(|error| format!("route to {base}/{length}: {error}"))?;
        }
        Ok(())
    }

    /// What this machine reaches by other ways of a pool's addresses. To be asked before it has any of the pool's networks.
    pub async fn overlaps(&self, pool: &AddressPool) -> Result<Vec<(Ipv4Addr, u8)>, String> {
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let mut routes = self.handle.route().get(all).execute();
        let mut found = Vec::new();
        while let Some(route) = routes.try_next().await.map_err(|error| format!("routes: {error}"))? {
            found.extend(foreign(&route, NO_LINK).filter(|(base, length)| {
                lies_in(pool, *base, *length, route.header.scope == RouteScope::Link)
            }));
        }
        Ok(found)
    }

    /// A network whose addresses this machine reaches elsewhere would cut that off.
    pub async fn refuse_overlap(&self, network: &NetworkRoute, bridge: u32) -> Result<(), String> {
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let mut routes = self.handle.route().get(all).execute();
        while let Some(route) = routes.try_next().await.map_err(|error| format!("routes: {error}"))? {
            if let Some((base, length)) = foreign(&route, bridge)
                && clashes(network.base, base, length, route.header.scope == RouteScope::Link)
            {
                return Err(format!(
                    "its addresses, {}, overlap {base}/{length}, which this machine reaches by another way; choose another \
                     address pool for the cluster, or change that route",
                    plan::whole(network)
                ));
            }
        }
        Ok(())
    }
}

/// Whether addresses are among those of a pool, so that some of its networks could not be made here.
pub fn lies_in(pool: &AddressPool, base: Ipv4Addr, length: u8, connected: bool) -> bool {
    pool.bases().any(|network| clashes(network, base, length, connected))
}

/// A link's index; `None` when there is no such link. By name alone: the kernel tells more of a link than the netlink library reads.
fn index(name: &str) -> Result<Option<u32>, String> {
    let socket =
        socket(AddressFamily::INET, SocketType::DGRAM, None).map_err(|error| format!("a socket: {error}"))?;
    match name_to_index(&socket, name) {
        Ok(index) => Ok(Some(index)),
        Err(Errno::NODEV) => Ok(None),
        Err(error) => Err(format!("link {name}: {error}")),
    }
}

/// A route of the main table that does not lead to our own bridge.
fn foreign(route: &RouteMessage, bridge: u32) -> Option<(Ipv4Addr, u8)> {
    let mut base = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => base = Some(*address),
            RouteAttribute::Oif(index) if *index == bridge => return None,
            _ => {}
        }
    }
    let main = route.header.table == RouteHeader::RT_TABLE_MAIN;
    base.filter(|_| main).map(|base| (base, route.header.destination_prefix_length))
}

/// A wide route by a gateway, such as a company's 10.0.0.0/8, is no clash: a more special one goes before it.
fn clashes(network: Ipv4Addr, base: Ipv4Addr, length: u8, connected: bool) -> bool {
    let shared = length.min(16);
    let mask = u32::MAX.checked_shl(u32::from(32 - shared)).unwrap_or(0);
    let same = (u32::from(base) ^ u32::from(network)) & mask == 0;
    same && length > 0 && (length >= 16 || connected)
}

fn exists(error: &Error) -> bool {
    matches!(error, Error::NetlinkError(error) if error.raw_code() == -Errno::EXIST.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_clashes_when_it_is_as_special_as_the_network_or_a_wire_of_this_machine() {
        let base = Ipv4Addr::new(10, 130, 0, 0);
        let at = |third: [u8; 4], length, connected| clashes(base, third.into(), length, connected);
        assert!(
            at([10, 130, 7, 0], 24, false) && at([10, 130, 0, 0], 16, false) && at([10, 128, 0, 0], 10, true)
        );
        assert!(
            !at([10, 0, 0, 0], 8, false) && !at([10, 131, 0, 0], 16, true) && !at([0, 0, 0, 0], 0, false)
        );
        let pool = AddressPool { base, networks: 2 };
        let inside = |base: [u8; 4], length| lies_in(&pool, base.into(), length, true);
        assert!(inside([10, 131, 255, 0], 24) && inside([10, 128, 0, 0], 9) && !inside([10, 132, 0, 0], 16));
    }
}
