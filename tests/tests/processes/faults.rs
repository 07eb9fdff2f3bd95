//! Writes flow while leaders and followers are killed and frozen.

use std::time::{Duration, Instant};

use tests::cluster::{Cluster, Plan};
use tests::wait;
use tests::workload::Workload;

use super::PATIENCE;

/// Enough to be sure that writes flow again.
const SOME: usize = 25;

fn three() -> Cluster {
    Cluster::start(Plan::loopback(3)).expect("three managers")
}

/// Waits until `SOME` more changes were acknowledged.
fn writes_flow(workload: &Workload) {
    let before = workload.acknowledged();
    let begun = Instant::now();
    wait::until_true("writes to be acknowledged", PATIENCE, || workload.acknowledged() >= before + SOME)
        .expect("writes flow");
    println!("{SOME} more changes acknowledged after {:?}", begun.elapsed());
}

/// A manager that leads, or one that does not.
fn choose(cluster: &Cluster, leading: bool) -> usize {
    let leader = cluster.leader().expect("a leader");
    if leading { leader } else { (leader + 1) % cluster.managers().len() }
}

#[test]
fn acknowledged_writes_survive_kills_of_leaders_and_followers() {
    let cluster = three();
    let workload = Workload::new(cluster.ctl().config(), 3);
    workload.run_while(3, || {
        writes_flow(&workload);
        for leading in [true, false, true] {
            let victim = choose(&cluster, leading);
            cluster.manager(victim).kill().expect("killed");
            writes_flow(&workload);
            cluster.manager(victim).start().expect("started again");
            cluster.wait_voters(3).expect("three voters");
            writes_flow(&workload);
        }
    });
    workload.check();
}

#[test]
fn frozen_leader_serves_nothing_old_when_it_is_thawed() {
    let cluster = three();
    let workload = Workload::new(cluster.ctl().config(), 2);
    workload.run_while(3, || {
        for leading in [true, false] {
            let victim = choose(&cluster, leading);
            cluster.manager(victim).freeze().expect("frozen");
            writes_flow(&workload);
            cluster.manager(victim).thaw().expect("thawed");
            writes_flow(&workload);
        }
    });
    workload.check();
}

#[test]
fn frozen_leader_holds_up_no_call_that_another_manager_takes() {
    let cluster = three();
    cluster
        .ctl()
        .ok(&["service", "create", "--name", "web", "--replicas", "0", "--detach", "orch/mimic:1"])
        .expect("created");
    let leader = cluster.leader().expect("a leader");
    let other = (leader + 1) % 3;
    // The other manager has a connection to the leader, on which it would wait.
    cluster.manager_says(other, &["service", "ls"]);
    cluster.manager(leader).freeze().expect("frozen");
    for replicas in 1..=3 {
        let scale = format!("web={replicas}");
        let said = cluster.manager_says(other, &["scale", &scale, "--detach", "--timeout", "5s"]);
        assert_eq!(said.code, 0, "{said:?}");
    }
}

#[test]
fn whole_cluster_killed_at_once_keeps_every_acknowledged_write() {
    let cluster = three();
    let workload = Workload::new(cluster.ctl().config(), 2);
    workload.run_while(3, || {
        writes_flow(&workload);
        cluster.managers().iter().for_each(|manager| manager.kill().expect("killed"));
        cluster.managers().iter().for_each(|manager| manager.start().expect("started again"));
        writes_flow(&workload);
    });
    workload.check();
}

#[test]
fn without_a_quorum_only_stale_reads_are_answered_and_say_so() {
    let cluster = three();
    let ctl = cluster.ctl();
    ctl.ok(&["service", "create", "--name", "kept", "--replicas", "0", "--detach", "orch/mimic:1"])
        .expect("created");
    let leader = cluster.leader().expect("a leader");
    let others: Vec<usize> = (0..3).filter(|index| *index != leader).collect();
    // All three know of the service before two of them go.
    cluster
        .ask("every manager to have it", PATIENCE, || {
            (0..3)
                .all(|index| cluster.manager_says(index, &["service", "ls", "--stale"]).out.contains("kept"))
                .then_some(())
        })
        .expect("replicated");
    others.iter().for_each(|index| cluster.manager(*index).kill().expect("killed"));

    let begun = Instant::now();
    let read = ctl.say(&["service", "ls", "--timeout", "3s"]);
    assert_eq!(read.code, 1, "{read:?}");
    assert!(read.err.contains("--stale"), "it says what still works: {}", read.err);
    let write = ctl.say(&["scale", "kept=1", "--timeout", "3s"]);
    assert_eq!(write.code, 1, "{write:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "it gives up when it was told to");

    let stale = ctl.say(&["service", "ls", "--stale"]);
    assert_eq!(stale.code, 0, "{stale:?}");
    assert!(stale.out.contains("kept"), "{stale:?}");
    assert!(stale.all().contains("newer changes may be missing"), "marked as stale: {stale:?}");
    let status = ctl.ok(&["status", "--stale"]).expect("a status");
    assert!(status.contains("LOST"), "{status}");

    cluster.manager(others[0]).start().expect("started again");
    cluster.ask("a quorum", PATIENCE, || ctl.ok(&["service", "ls"]).ok()).expect("reads again");
}
