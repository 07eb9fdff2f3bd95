//! Leases: who is silent for too long, by class, across leaders and planned restarts.

mod common;

use std::time::Duration;

use common::{World, facts};
use control::Liveness;
use model::{
    id::NodeId,
    node::{NodeClass, NodeSpec},
    time::Instant,
};

fn cluster() -> (World, NodeId, NodeId) {
    let mut world = World::new();
    let server = world.join(facts("server", 1, 1), NodeSpec::default());
    let spec = NodeSpec { class: NodeClass::Workstation, ..NodeSpec::default() };
    let workstation = world.join(facts("workstation", 1, 1), spec);
    (world, server, workstation)
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn names(expired: Vec<(NodeId, String)>) -> Vec<NodeId> {
    expired.into_iter().map(|(id, _)| id).collect()
}

#[test]
fn a_silent_server_expires_after_its_patience_and_a_workstation_much_later() {
    let (world, server, workstation) = cluster();
    let mut liveness = Liveness::default();
    liveness.beat(&world.store, server, at(0));
    liveness.beat(&world.store, workstation, at(0));
    assert_eq!(liveness.next_deadline(), Some(at(1_500)));
    assert!(liveness.expired(&world.store, at(1_499)).is_empty());
    assert_eq!(names(liveness.expired(&world.store, at(1_500))), [server]);
    assert_eq!(names(liveness.expired(&world.store, at(30_000))), [server, workstation]);
}

#[test]
fn a_beat_renews_and_a_closed_connection_alone_condemns_nobody() {
    let (world, server, _) = cluster();
    let mut liveness = Liveness::default();
    liveness.beat(&world.store, server, at(0));
    liveness.beat(&world.store, server, at(1_000));
    liveness.closed(server);
    assert!(liveness.expired(&world.store, at(2_499)).is_empty());
    let expired = liveness.expired(&world.store, at(2_500));
    assert_eq!(expired.len(), 1);
    assert!(expired[0].1.contains("connection closed"), "{expired:?}");
}

#[test]
fn a_new_leader_grants_everybody_a_fresh_lease_with_time_to_find_it() {
    let (mut world, server, workstation) = cluster();
    world.down(workstation);
    let mut liveness = Liveness::new_leader(&world.store, at(100_000));
    assert!(liveness.expired(&world.store, at(104_499)).is_empty());
    assert_eq!(
        names(liveness.expired(&world.store, at(200_000))),
        [server],
        "a node that is down is not judged"
    );
}

#[test]
fn an_announced_restart_is_waited_for_but_a_minute_at_most() {
    let (world, server, _) = cluster();
    let mut liveness = Liveness::default();
    liveness.goodbye(&world.store, server, Duration::from_secs(3_600), at(0));
    assert!(liveness.expired(&world.store, at(59_999)).is_empty());
    assert_eq!(names(liveness.expired(&world.store, at(60_000))), [server]);
}

#[test]
fn an_expired_node_is_named_again_until_the_state_says_down() {
    let (mut world, server, _) = cluster();
    let mut liveness = Liveness::default();
    liveness.beat(&world.store, server, at(0));
    assert_eq!(names(liveness.expired(&world.store, at(2_000))), [server]);
    assert!(liveness.expired(&world.store, at(2_999)).is_empty());
    assert_eq!(names(liveness.expired(&world.store, at(3_000))), [server]);
    world.down(server);
    assert!(liveness.expired(&world.store, at(9_000)).is_empty());
    assert_eq!(liveness.next_deadline(), None);
}
