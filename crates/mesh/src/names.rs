//! What a container's question for a name is answered.
//!
//! A service's own address never changes, so its answer may be kept for a while; that of `tasks.NAME` changes with the replicas.
//! A name of one label that is not ours is answered "no" at once: asking outside would take seconds and could only mislead. A
//! question for IPv6 of a name that has only IPv4 is answered "nothing of this kind", else C libraries give the name up.

use std::{net::Ipv4Addr, time::Duration};

use crate::table::Network;

/// A service's address may be kept this long.
const SERVICE_TTL: Duration = Duration::from_secs(30);
/// The addresses of its replicas: a client that asks anew sees a change soon.
const TASKS_TTL: Duration = Duration::from_secs(2);
/// "No such name" may be kept this long: the service may be made in the next second.
pub const NEGATIVE_TTL: Duration = Duration::from_secs(2);
/// More than this many replicas are not told at once: it would not fit into a datagram.
const MOST_ADDRESSES: usize = 24;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// Anything else.
    Other,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// These addresses, in this order.
    Addresses {
        /// Which.
        addresses: Vec<Ipv4Addr>,
        /// How long they may be kept.
        ttl: Duration,
    },
    /// The name exists and has nothing of this kind.
    Nothing,
    /// There is no such name.
    Unknown,
    /// Not ours: ask the host's resolvers.
    Forward,
    /// The asker is not of this network.
    Refused,
}

/// Answers a question that came to a network's gateway.
pub fn resolve(network: &Network, asker: Ipv4Addr, name: &str, kind: Kind, random: u64) -> Reply {
    if !network.route.contains(asker) {
        return Reply::Refused;
    }
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let found = match name.strip_prefix("tasks.") {
        Some(service) => network.names.get(service).map(|name| (rotated(&name.tasks, random), TASKS_TTL)),
        None => network.names.get(&name).map(|name| (name.address.into_iter().collect(), SERVICE_TTL)),
    };
    match found {
        Some((addresses, ttl)) if kind == Kind::A && !addresses.is_empty() => {
            Reply::Addresses { addresses, ttl }
        }
        Some(_) => Reply::Nothing,
        None if is_ours(&name) => Reply::Unknown,
        None => Reply::Forward,
    }
}

/// Names that nobody outside could know.
fn is_ours(name: &str) -> bool {
    !name.is_empty() && !name.contains('.')
        || name.strip_prefix("tasks.").is_some_and(|rest| !rest.contains('.'))
}

fn rotated(addresses: &[Ipv4Addr], random: u64) -> Vec<Ipv4Addr> {
    let start = (random % addresses.len().max(1) as u64) as usize;
    addresses.iter().cycle().skip(start).take(addresses.len().min(MOST_ADDRESSES)).copied().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::{id::NetworkId, route::NetworkRoute};

    use super::*;
    use crate::table::Name;

    fn check(name: &str, kind: Kind, asker: [u8; 4], random: u64) -> Reply {
        let route = NetworkRoute {
            network: NetworkId(1),
            name: "back".into(),
            base: Ipv4Addr::new(10, 20, 0, 0),
            number: 3,
        };
        let ispyb = Name {
            address: Some(Ipv4Addr::new(10, 20, 255, 1)),
            tasks: (2..5).map(|last| Ipv4Addr::new(10, 20, 3, last)).collect(),
        };
        let names = BTreeMap::from([("ispyb".to_owned(), ispyb)]);
        resolve(&Network { route, names }, Ipv4Addr::from(asker), name, kind, random)
    }

    const HERE: [u8; 4] = [10, 20, 3, 9];

    #[test]
    fn a_service_has_one_address_however_its_name_is_written() {
        for name in ["ispyb", "ispyb.", "ISPyB."] {
            let Reply::Addresses { addresses, ttl } = check(name, Kind::A, HERE, 7) else { panic!("{name}") };
            assert_eq!((addresses, ttl), (vec![Ipv4Addr::new(10, 20, 255, 1)], SERVICE_TTL));
        }
    }

    #[test]
    fn tasks_are_told_in_changing_order_for_a_short_time() {
        let first = |random| match check("tasks.ispyb", Kind::A, HERE, random) {
            Reply::Addresses { addresses, ttl: TASKS_TTL } if addresses.len() == 3 => {
                addresses[0].octets()[3]
            }
            other => panic!("{other:?}"),
        };
        assert_eq!([first(0), first(1), first(2), first(3)], [2, 3, 4, 2]);
    }

    #[test]
    fn a_known_name_has_nothing_of_another_kind() {
        assert_eq!(check("ispyb", Kind::Other, HERE, 0), Reply::Nothing);
    }

    #[test]
    fn an_unknown_single_label_is_refused_here_and_a_longer_name_is_asked_outside() {
        assert_eq!(check("mariadb", Kind::A, HERE, 0), Reply::Unknown);
        assert_eq!(check("tasks.mariadb", Kind::A, HERE, 0), Reply::Unknown);
        assert_eq!(check("www.example.org", Kind::A, HERE, 0), Reply::Forward);
        assert_eq!(check("", Kind::Other, HERE, 0), Reply::Forward);
    }

    #[test]
    fn nobody_from_another_network_is_answered() {
        assert_eq!(check("ispyb", Kind::A, [10, 21, 3, 9], 0), Reply::Refused);
    }
}
