//! Names and addresses, computed from a network's route alone.

use std::net::Ipv4Addr;

use model::route::NetworkRoute;

/// The engine's network: `orch-NAME.NUMBER`. The number tells apart two agents that share an engine.
pub fn engine_name(network: &NetworkRoute) -> String {
    format!("orch-{}.{}", network.name, network.number)
}

/// Its bridge, within the 15 letters of a link's name.
pub fn bridge_name(network: &NetworkRoute) -> String {
    let id = network.network.to_string();
    format!("or{}{}", network.number, &id[id.len() - 9..])
}

/// `10.128.0.0/16`
pub fn whole(network: &NetworkRoute) -> String {
    format!("{}/16", network.base)
}

/// `10.128.3.0/24`: this node's containers.
pub fn own(network: &NetworkRoute) -> String {
    format!("{}/24", first(network))
}

/// `10.128.3.0`: no container's.
pub fn first(network: &NetworkRoute) -> Ipv4Addr {
    third(network, network.number)
}

/// `10.128.255.0/24`: the virtual addresses.
pub fn virtuals(network: &NetworkRoute) -> String {
    format!("{}/24", third(network, model::route::VIRTUAL))
}

fn third(network: &NetworkRoute, third: u8) -> Ipv4Addr {
    let [first, second, ..] = network.base.octets();
    Ipv4Addr::new(first, second, third, 0)
}

/// The /16 without the node's own /24, in as few prefixes as there can be: a /17, a /18 and so on down to a /24.
pub fn elsewhere(network: &NetworkRoute) -> Vec<(Ipv4Addr, u8)> {
    let [first, second, ..] = network.base.octets();
    (0..8u8)
        .map(|bit| {
            let bits = 7 - bit;
            let other = (network.number >> bits ^ 1) << bits;
            (Ipv4Addr::new(first, second, other, 0), 17 + bit)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use model::id::NetworkId;

    use super::*;

    fn network(number: u8) -> NetworkRoute {
        NetworkRoute {
            network: NetworkId(u64::MAX),
            name: "shop".into(),
            base: Ipv4Addr::new(10, 130, 0, 0),
            number,
        }
    }

    #[test]
    fn elsewhere_and_the_own_part_are_the_whole_network_and_nothing_twice() {
        for number in 1..=250 {
            let mut seen = [0u8; 256];
            for (base, length) in elsewhere(&network(number)) {
                assert_eq!(base.octets()[..2], [10, 130]);
                let from = usize::from(base.octets()[2]);
                seen[from..from + (1 << (24 - length))].iter_mut().for_each(|count| *count += 1);
            }
            seen[usize::from(number)] += 1;
            assert!(seen.iter().all(|count| *count == 1), "{number}: {seen:?}");
        }
    }

    #[test]
    fn a_bridge_has_a_name_that_a_link_can_have() {
        assert!(bridge_name(&network(250)).len() <= 15);
        assert_ne!(
            bridge_name(&network(1)),
            bridge_name(&NetworkRoute { network: NetworkId(7), ..network(1) })
        );
    }
}
