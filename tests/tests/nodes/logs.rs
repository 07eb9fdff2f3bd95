//! Logs: of all replicas, with their names, and what can be said while a node is away.

use super::{PATIENCE, Site};

#[test]
fn logs_come_from_every_replica_and_name_a_node_that_is_away() {
    let Some(site) = Site::with_web("logs", 2, &[]) else { return };
    let text = site.ok(&["logs", "web"]);
    for slot in ["web.1", "web.2"] {
        assert!(text.lines().any(|line| line.contains(slot) && line.contains("starting")), "{slot}: {text}");
    }
    let last = site.ok(&["logs", "--tail", "1", "--no-prefix", "web"]);
    assert_eq!(last.lines().count(), 2, "one line of each: {last}");

    site.node().agent().kill().expect("killed");
    site.cluster.wait_node(site.node().name(), "down", PATIENCE).expect("down");
    let away = site.cluster.ctl().say(&["logs", "web"]);
    assert!(away.all().contains(site.node().name()), "it names the node that is away: {away:?}");
}
