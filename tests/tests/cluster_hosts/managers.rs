//! Managers die and are cut off while nodes work: no container notices.

use super::{PATIENCE, Site};

#[test]
fn leader_killed_while_scaling_loses_nothing_and_restarts_nothing() {
    let Some(site) = Site::start("leader killed") else { return };
    site.create("web", 3, &[]);
    let before = site.ids("web");
    for (round, count) in [6, 9].into_iter().enumerate() {
        let leader = site.cluster.leader().expect("a leader");
        site.ok(&["scale", &format!("web={count}"), "--detach"]);
        if round == 0 {
            site.cluster.manager(leader).kill().expect("killed");
        } else {
            site.manager_host(leader).cut().expect("cut");
        }
        site.whole("web", count);
        let now = site.ids("web");
        assert!(before.iter().all(|id| now.contains(id)), "what ran before runs on");
        if round == 0 {
            site.cluster.manager(leader).start().expect("started");
        } else {
            site.manager_host(leader).restore().expect("restored");
        }
        site.cluster.wait_voters(3).expect("three voters");
        site.cluster
            .ask("every manager to be reached", PATIENCE, || {
                site.cluster.members().ok()?.iter().all(|member| member.reachable).then_some(())
            })
            .expect("reached");
        site.stays("web");
    }
}

#[test]
fn all_managers_gone_and_back_restarts_nothing() {
    let Some(site) = Site::start("all managers gone") else { return };
    site.create("web", 3, &[]);
    let before = site.ids("web");
    site.cluster.managers().iter().for_each(|manager| manager.kill().expect("killed"));
    // Long enough for the pauses of the agents to have grown to their longest.
    (0..4).for_each(|_| site.stays("web"));
    site.cluster.managers().iter().for_each(|manager| manager.start().expect("started"));
    for index in 0..3 {
        site.becomes(index, "ready");
    }
    site.cluster.wait_healthy("web", 3, PATIENCE).expect("whole");
    site.stays("web");
    assert_eq!(site.ids("web"), before, "a new leader grants every node its time");
}
