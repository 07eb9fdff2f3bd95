//! No manager anywhere: what runs goes on, what crashes is restarted, what was assigned starts again after a reboot.

use super::{PATIENCE, Site};

#[test]
fn without_managers_containers_go_on_and_crashing_ones_are_restarted() {
    let Some(site) = Site::with_web("no managers", 2, &["--restart-delay", "0s"]) else { return };
    let before = site.ids("web");
    site.cluster.manager(0).kill().expect("killed");
    site.stays("web", &before);
    let victim = site.running("web").remove(0);
    drop(site.get(&victim, "/crash?code=1"));
    site.wait_successor("web", &victim);
    let after = site.ids("web");
    site.cluster.manager(0).start().expect("started");
    site.cluster.wait_node(site.node().name(), "ready", PATIENCE).expect("ready");
    site.cluster.wait_healthy("web", 2, PATIENCE).expect("known");
    site.stays("web", &after);
}

#[test]
fn after_a_reboot_without_managers_the_stored_assignments_start_again() {
    let Some(site) = Site::with_web("reboot", 2, &[]) else { return };
    site.cluster.manager(0).kill().expect("killed");
    let host = site.host();
    host.power_off().expect("off");
    host.power_on().expect("on");
    host.engine().start().expect("the engine starts");
    site.node().agent().start().expect("the agent starts");
    site.cluster.wait_one_per_slot("web", 2, PATIENCE).expect("running again");
    let ids = site.ids("web");
    site.cluster.manager(0).start().expect("started");
    site.cluster.wait_node(site.node().name(), "ready", PATIENCE).expect("ready");
    site.cluster.wait_healthy("web", 2, PATIENCE).expect("known");
    site.stays("web", &ids);
}
