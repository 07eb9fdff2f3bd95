//! Managers that were off for longer than their certificates live.

use tests::cluster::ctl::Said;
use tests::cluster::daemon::Daemon;
use tests::cluster::{Cluster, Plan};
use tests::command::finish;
use tests::shim::Shim;

use super::PATIENCE;

const DAY_S: i64 = 86_400;
/// The exit code of a refusal, which systemd takes as final.
const DENIED: i32 = 4;

/// Moves the clock of a manager that is stopped, from its next start on.
fn sleep_through(cluster: &Cluster, library: &std::path::Path, daemon: &Daemon, days: i64) {
    let orders = cluster.dir().join(format!("{}.orders", daemon.name()));
    let shim = Shim::new(library, orders).expect("a shim");
    shim.set_clock(days * DAY_S).expect("set");
    daemon.set_shim(shim);
}

#[test]
fn managers_that_were_all_off_for_longer_than_their_certificates_live_come_back_and_a_removed_one_does_not() {
    let cluster = Cluster::start(Plan::loopback(3)).expect("three managers");
    let create = ["service", "create", "--name", "before", "--replicas", "0", "--detach", "orch/mimic:1"];
    cluster.ctl().ok(&create).expect("created");
    let removed = (cluster.leader().expect("a leader") + 1) % 3;
    cluster.manager(removed).stop().expect("it ends");
    cluster.ctl().ok(&["manager", "remove", cluster.manager(removed).name()]).expect("removed");
    let library = Shim::compile(cluster.dir()).expect("a library");
    for (index, manager) in cluster.managers().iter().enumerate() {
        if index != removed {
            manager.stop().expect("it ends");
        }
        sleep_through(&cluster, &library, manager, 40);
    }
    cluster.managers().iter().for_each(|manager| manager.start().expect("started"));

    let clock = Shim::new(&library, cluster.dir().join("orchctl.orders")).expect("a shim");
    clock.set_clock(40 * DAY_S).expect("set");
    let list = || -> Said {
        let mut command = cluster.ctl().command(&["service", "ls"]);
        clock.put_under(&mut command);
        finish(&mut command).expect("orchctl starts").into()
    };
    let back = cluster.ask("a majority", PATIENCE, || Some(list()).filter(|said| said.code == 0));
    assert!(back.expect("they answer").out.contains("before"));
    for (index, manager) in cluster.managers().iter().enumerate() {
        if index != removed {
            let log = manager.log_text();
            assert!(log.contains("it signs a certificate for itself"), "{log}");
            assert!(log.contains("seconds too late"), "{log}");
        }
    }
    let status = cluster.manager(removed).wait_exit(PATIENCE).expect("its process ends by itself");
    assert_eq!(status.code(), Some(DENIED), "{}", cluster.manager(removed).last_words());
}
