//! Networks: who reaches whom by name.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
};

use serde::{Deserialize, Serialize};

use crate::{
    id::{Generation, NetworkId, ServiceId},
    time::ClusterTime,
};

/// What a user declares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSpec {
    /// Unique in the cluster: a DNS label.
    pub name: String,
    /// Free labels.
    pub labels: BTreeMap<String, String>,
}

/// A network as the cluster keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its identity.
    pub id: NetworkId,
    /// Index of the last change.
    pub generation: Generation,
    /// The declaration.
    pub spec: NetworkSpec,
    /// The first address of its /16, out of the cluster's pool.
    pub base: Ipv4Addr,
    /// The last byte of each service's virtual address, for as long as the service exists.
    pub addresses: BTreeMap<ServiceId, u8>,
    /// The one given out last: an address that was freed rests as long as it can, since names are cached.
    pub last: u8,
    /// When it was created.
    pub created: ClusterTime,
}

/// Services of one network, at most: `base.255.1` to `base.255.254`.
pub const MAX_SERVICES: usize = 254;

impl Network {
    /// Gives a service an address, unless it has one. False when all are taken.
    pub fn attach(&mut self, service: ServiceId) -> bool {
        if self.addresses.contains_key(&service) {
            return true;
        }
        let taken: BTreeSet<u8> = self.addresses.values().copied().collect();
        let next = |last: u8| if last >= 254 { 1 } else { last + 1 };
        let free = std::iter::successors(Some(next(self.last)), |last| Some(next(*last)))
            .take(MAX_SERVICES)
            .find(|address| !taken.contains(address));
        let Some(free) = free else { return false };
        self.addresses.insert(service, free);
        self.last = free;
        true
    }

    /// A service's address in it, which never changes.
    pub fn address_of(&self, service: ServiceId) -> Option<Ipv4Addr> {
        let [first, second, ..] = self.base.octets();
        self.addresses.get(&service).map(|last| Ipv4Addr::new(first, second, crate::route::VIRTUAL, *last))
    }
}

/// Where the /16s of the networks come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct AddressPool {
    /// The first /16, such as 10.128.0.0.
    pub base: Ipv4Addr,
    /// So many /16s.
    pub networks: u16,
}

/// As a prefix where it is one, else as its first and last address.
impl fmt::Display for AddressPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks = u32::from(self.networks);
        let number = u32::from(self.base) >> 16;
        if networks.is_power_of_two() && number.is_multiple_of(networks) {
            return write!(f, "{}/{}", self.base, 16 - networks.ilog2().min(16));
        }
        let last = (u32::from(self.base) | 0xffff).saturating_add(networks.saturating_sub(1) << 16);
        write!(f, "{} to {}", self.base, Ipv4Addr::from(last))
    }
}

impl Default for AddressPool {
    fn default() -> Self {
        Self { base: Ipv4Addr::new(10, 128, 0, 0), networks: 64 }
    }
}

impl AddressPool {
    /// Whether a network with this first address is one of it.
    pub fn holds(&self, base: Ipv4Addr) -> bool {
        let (first, number) = (u32::from(self.base) >> 16, u32::from(base) >> 16);
        (first..first + u32::from(self.networks)).contains(&number)
    }

    /// The first addresses of its /16s, in order.
    pub fn bases(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let first = u32::from(self.base) >> 16;
        (first..first.saturating_add(u32::from(self.networks))).map(|number| Ipv4Addr::from(number << 16))
    }
}
