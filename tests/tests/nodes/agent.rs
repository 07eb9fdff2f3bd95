//! The agent dies and comes back: it adopts what runs and starts nothing twice.

use tests::wait;

use super::{PATIENCE, Site};

#[test]
fn agent_that_is_killed_adopts_its_containers_when_it_is_back() {
    let Some(site) = Site::with_web("agent kill", 2, &[]) else { return };
    let before = site.ids("web");
    let agent = site.node().agent();
    agent.kill().expect("killed");
    agent.start().expect("started");
    site.cluster.wait_node(site.node().name(), "ready", PATIENCE).expect("ready");
    site.stays("web", &before);

    // While it is away a container dies: it is restarted when the agent is back, and only that one.
    let victim = site.running("web").remove(0);
    agent.kill().expect("killed");
    site.node().engine().docker(&["kill", &victim.id]).expect("killed");
    agent.start().expect("started");
    let new = site.wait_successor("web", &victim);
    assert_eq!(new.task, victim.task);
    site.cluster.wait_one_per_slot("web", 2, PATIENCE).expect("one for each slot");
    assert!(
        site.ids("web").contains(&before[1]) || site.ids("web").contains(&before[0]),
        "the other one goes on"
    );
}

#[test]
fn agent_that_stops_cleanly_or_freezes_leaves_its_containers_alone() {
    let Some(site) = Site::with_web("agent stop", 2, &[]) else { return };
    let before = site.ids("web");
    let agent = site.node().agent();
    assert_eq!(agent.stop().expect("it ends").code(), Some(0), "a clean end exits with 0");
    site.stays("web", &before);
    agent.start().expect("started");
    site.cluster.wait_node(site.node().name(), "ready", PATIENCE).expect("ready");
    assert_eq!(site.ids("web"), before);

    agent.freeze().expect("frozen");
    site.cluster.wait_node(site.node().name(), "down", PATIENCE).expect("down after its patience");
    agent.thaw().expect("thawed");
    site.cluster.wait_node(site.node().name(), "ready", PATIENCE).expect("ready");
    site.cluster.wait_healthy("web", 2, PATIENCE).expect("whole");
    site.stays("web", &before);
}

#[test]
fn agent_killed_again_and_again_in_the_middle_of_starts_makes_no_double() {
    let Some(site) = Site::with_web("agent kill loop", 1, &[]) else { return };
    let agent = site.node().agent();
    for round in 0..6 {
        site.ok(&["scale", &format!("web={}", if round % 2 == 0 { 4 } else { 2 }), "--detach"]);
        // Some way into the engine's work, another way each time.
        let seen = site.cluster.containers("web").len();
        drop(wait::until_true("a change", std::time::Duration::from_millis(150 * (round + 1)), || {
            site.cluster.containers("web").len() != seen
        }));
        agent.kill().expect("killed");
        agent.start().expect("started");
    }
    site.ok(&["scale", "web=4", "--detach"]);
    site.cluster.wait_one_per_slot("web", 4, PATIENCE).expect("one for each slot");
    site.cluster.wait_healthy("web", 4, PATIENCE).expect("and known to be so");
    let ids = site.ids("web");
    site.stays("web", &ids);
}
