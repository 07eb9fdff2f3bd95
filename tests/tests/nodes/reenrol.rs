//! A node that was off for longer than its certificate lives.

use tests::cluster::ctl::Said;
use tests::cluster::daemon::Daemon;
use tests::command::finish;
use tests::shim::Shim;

use super::{PATIENCE, Site};

const DAY_S: i64 = 86_400;

#[test]
fn node_that_was_off_for_longer_than_its_certificate_lives_re_enrols_unless_it_was_removed() {
    let Some(site) = Site::with_web("re-enrolment", 1, &[]) else { return };
    let (manager, agent) = (site.cluster.manager(0), site.node().agent());
    let library = Shim::compile(site.cluster.dir()).expect("a library");
    let shim = |name: &str| Shim::new(&library, site.cluster.dir().join(name)).expect("a shim");
    let under = |daemon: &Daemon| {
        daemon.stop().expect("it ends");
        daemon.set_shim(shim(&format!("{}.orders", daemon.name())));
    };
    under(agent);
    under(manager);
    let clock = shim("orchctl.orders");
    let later = |days: i64| {
        for shim in [manager.shim().expect("it has one"), agent.shim().expect("it has one"), &clock] {
            shim.set_clock(days * DAY_S).expect("set");
        }
    };
    let say = |words: &[&str]| -> Said {
        let mut command = site.cluster.ctl().command(words);
        clock.put_under(&mut command);
        finish(&mut command).expect("orchctl starts").into()
    };
    let node = site.node().name();
    let recorded = |said: &Said| said.code == 0 && said.out.contains("re-enrol");

    later(40);
    manager.start().expect("started");
    agent.start().expect("started");
    let back = site.cluster.ask("the node", PATIENCE, || Some(say(&["audit", "ls"])).filter(recorded));
    back.unwrap_or_else(|error| panic!("{error:#}\n{}", agent.log_text()));
    let log = agent.log_text();
    assert!(log.contains("it re-enrols by proof of its key") && log.contains("seconds too late"), "{log}");
    let scaled = say(&["scale", "web=2"]);
    assert_eq!(scaled.code, 0, "it takes work again: {}\n{}", scaled.all(), agent.log_text());

    // Off again, and given up meanwhile.
    agent.stop().expect("it ends");
    manager.stop().expect("it ends");
    later(80);
    manager.start().expect("started");
    let gone = site.cluster.ask("its removal", PATIENCE, || {
        Some(say(&["node", "rm", "--force", node])).filter(|said| said.code == 0)
    });
    gone.expect("removed");
    agent.start().expect("started");
    let refused = site.cluster.ask("its refusal", PATIENCE, || {
        Some(agent.log_text()).filter(|log| log.contains("with a fresh token"))
    });
    refused.unwrap_or_else(|error| panic!("{error:#}\n{}", agent.log_text()));
    assert!(!say(&["node", "ls"]).out.contains(node), "it stays away");
}
