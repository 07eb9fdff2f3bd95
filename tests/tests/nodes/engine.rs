//! The engine dies, restarts, freezes.

use super::{CALM, PATIENCE, Site};

/// An engine that keeps its containers when it is killed ends them when it starts again, unless it is told otherwise
/// (`live-restore`): either way each slot runs once, under the same task.
#[test]
fn killed_engine_is_waited_for_and_each_slot_runs_once_afterwards() {
    let Some(site) = Site::with_web("engine kill", 2, &["--restart-delay", "0s"]) else { return };
    let tasks =
        |site: &Site| site.running("web").into_iter().map(|container| container.task).collect::<Vec<_>>();
    let before = tasks(&site);
    let engine = site.host().engine();
    engine.kill().expect("killed");
    assert!(
        site.cluster.node_state(site.node().name()).is_ok_and(|state| state == "ready"),
        "the node is there"
    );
    engine.start().expect("started");
    site.cluster.wait_one_per_slot("web", 2, PATIENCE).expect("one for each slot");
    site.cluster.wait_healthy("web", 2, PATIENCE).expect("whole");
    assert_eq!(tasks(&site), before, "no manager had to move anything");
    let ids = site.ids("web");
    site.stays("web", &ids);
    // It still listens to the new engine's events.
    let victim = site.only_one_of("web");
    engine.docker(&["kill", &victim.id]).expect("killed");
    site.wait_successor("web", &victim);
    site.cluster.wait_one_per_slot("web", 2, PATIENCE).expect("one for each slot");
}

#[test]
fn restarted_engine_gets_its_containers_back_once_each() {
    let Some(site) = Site::with_web("engine restart", 3, &["--restart-delay", "0s"]) else { return };
    let engine = site.host().engine();
    engine.restart().expect("restarted");
    site.cluster.wait_one_per_slot("web", 3, PATIENCE).expect("one for each slot");
    site.cluster.wait_healthy("web", 3, PATIENCE).expect("whole");
    let ids = site.ids("web");
    site.stays("web", &ids);
}

#[test]
fn frozen_engine_is_reported_and_nothing_is_replaced() {
    let Some(site) = Site::with_web("engine freeze", 1, &[]) else { return };
    let before = site.ids("web");
    let engine = site.host().engine();
    engine.freeze().expect("frozen");
    // The node must not look dead: its agent beats on.
    tests::wait::steadily("the node to be ready", CALM, || {
        site.cluster.node_state(site.node().name()).is_ok_and(|state| state == "ready")
    })
    .expect("an engine that hangs is no node that died");
    engine.thaw().expect("thawed");
    site.cluster.wait_healthy("web", 1, PATIENCE).expect("whole");
    site.stays("web", &before);
}

impl Site {
    fn only_one_of(&self, service: &str) -> tests::cluster::containers::Container {
        self.running(service).into_iter().next().expect("a running container")
    }
}
