//! Packet rules: one table of our own for all networks, replaced as a whole. Another program's tables are never looked at.

use std::process::Stdio;

use model::{
    id::NodeId,
    route::{NetworkRoute, VIRTUAL_PORT},
};
use tokio::{io::AsyncWriteExt, process::Command};

use super::plan;

/// Replaces the table.
///
/// # Errors
/// `nft` is not there, or refuses; in words.
pub async fn replace(node: NodeId, networks: impl Iterator<Item = &NetworkRoute>) -> Result<(), String> {
    nft(&table(node, networks)).await
}

/// Removes the table.
///
/// # Errors
/// As [`replace`].
pub async fn remove(node: NodeId) -> Result<(), String> {
    let name = name(node);
    nft(&format!("add table ip {name}\ndelete table ip {name}\n")).await
}

fn name(node: NodeId) -> String {
    format!("orch_{node}")
}

/// Adding before deleting makes the deletion succeed whether there was a table or not; the kernel takes all of it or nothing.
fn table<'a>(node: NodeId, networks: impl Iterator<Item = &'a NetworkRoute>) -> String {
    let name = name(node);
    let (mut redirects, mut guards) = (String::new(), String::new());
    for network in networks {
        let (bridge, whole, own) = (plan::bridge_name(network), plan::whole(network), plan::own(network));
        let gateway = network.gateway();
        redirects += &format!(
            "    iifname \"{bridge}\" ip daddr {whole} ip daddr != {own} meta l4proto tcp redirect to :{VIRTUAL_PORT}\n"
        );
        guards += &format!("    iifname != {{ \"{bridge}\", \"lo\" }} ip daddr {gateway} drop\n");
        guards += &format!(
            "    iifname \"{bridge}\" ip daddr {whole} ip daddr != {{ {own}, {} }} meta l4proto != tcp reject\n",
            plan::virtuals(network)
        );
    }
    format!(
        "add table ip {name}\ndelete table ip {name}\ntable ip {name} {{\n\
         \x20 chain to_services {{\n    type nat hook prerouting priority -110; policy accept;\n{redirects}  }}\n\
         \x20 chain guard {{\n    type filter hook input priority -10; policy accept;\n\
         \x20   tcp dport {VIRTUAL_PORT} ct status & dnat == 0 drop\n{guards}  }}\n}}\n"
    )
}

async fn nft(script: &str) -> Result<(), String> {
    let child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = child.map_err(|error| {
        format!("nft cannot be run ({error}): service names need it; install the package nftables")
    })?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(script.as_bytes()).await.map_err(|error| format!("nft: {error}"))?;
    }
    let output = child.wait_with_output().await.map_err(|error| format!("nft: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("nft refuses our rules: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use model::id::NetworkId;

    use super::*;

    #[test]
    fn a_table_redirects_what_is_not_the_nodes_own_and_stands_alone() {
        let base = Ipv4Addr::new(10, 130, 0, 0);
        let network = NetworkRoute { network: NetworkId(1), name: "shop".into(), base, number: 3 };
        let text = table(NodeId(7), [network].iter());
        assert!(
            text.contains(
                "ip daddr 10.130.0.0/16 ip daddr != 10.130.3.0/24 meta l4proto tcp redirect to :7422"
            )
        );
        assert!(text.starts_with("add table ip orch_0000000000007\ndelete table ip orch_0000000000007\n"));
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }
}
