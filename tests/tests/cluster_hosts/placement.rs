//! Where replicas go: drain, pause, constraints, spread, a bound per node, global services.

use std::collections::BTreeSet;

use super::{PATIENCE, Site};

#[test]
fn drained_node_ends_empty_and_takes_work_again_when_activated() {
    let Some(site) = Site::start("drain") else { return };
    site.create("web", 4, &[]);
    site.ok(&["node", "drain", "h1"]);
    assert!(!site.by_node("web").contains_key("h1"), "{:?}", site.by_node("web"));
    site.whole("web", 4);
    let left = tests::cluster::containers::on(site.node(0).engine(), "").expect("a list");
    assert!(left.iter().all(|container| !container.running), "{left:?}");

    site.ok(&["node", "pause", "h2"]);
    let on_h2 = site.by_node("web").get("h2").copied();
    site.ok(&["scale", "web=6"]);
    site.whole("web", 6);
    assert_eq!(
        site.by_node("web").get("h2").copied(),
        on_h2,
        "a paused node keeps what it has and takes nothing"
    );
    assert!(!site.by_node("web").contains_key("h1"));

    site.ok(&["node", "activate", "h1"]);
    site.ok(&["node", "activate", "h2"]);
    site.ok(&["scale", "web=9"]);
    site.whole("web", 9);
    assert!(site.by_node("web").contains_key("h1"), "{:?}", site.by_node("web"));

    // A node that is forgotten does not come back; its work runs elsewhere.
    site.ok(&["node", "rm", "--force", "h3"]);
    site.cluster
        .wait_tasks("the work elsewhere", "web", PATIENCE, |tasks| {
            tasks.iter().filter(|task| task.node != "h3" && task.is_healthy()).count() == 9
        })
        .expect("moved");
    assert!(site.cluster.node_state("h3").is_err(), "it is gone from the list");
}

#[test]
fn constraints_spread_and_bounds_are_kept() {
    let Some(site) = Site::start("placement") else { return };
    for (node, rack) in [("h1", "a"), ("h2", "a"), ("h3", "b")] {
        site.ok(&["node", "update", node, "--label-add", &format!("rack={rack}")]);
    }
    site.create("pinned", 2, &["--constraint", "node.labels.rack==b"]);
    assert_eq!(site.by_node("pinned").keys().collect::<Vec<_>>(), ["h3"]);
    site.create("not", 2, &["--constraint", "node.hostname!=h3"]);
    assert!(!site.by_node("not").contains_key("h3"), "{:?}", site.by_node("not"));
    site.create("spread", 4, &["--placement-pref", "spread=node.labels.rack"]);
    let spread = site.by_node("spread");
    assert_eq!(spread.get("h3"), Some(&2), "half in each rack: {spread:?}");
    site.create("even", 3, &[]);
    assert_eq!(site.by_node("even").values().collect::<BTreeSet<_>>(), BTreeSet::from([&1]));

    // A label that changes moves what no longer fits.
    site.ok(&["node", "update", "h3", "--label-add", "rack=a"]);
    site.ok(&["node", "update", "h2", "--label-add", "rack=b"]);
    site.cluster
        .wait_tasks("the pinned ones to follow their label", "pinned", PATIENCE, |tasks| {
            tasks.iter().filter(|task| task.node == "h2" && task.is_healthy()).count() == 2
        })
        .expect("moved");

    site.ok(&[
        "service",
        "create",
        "--name",
        "bounded",
        "--replicas",
        "5",
        "--replicas-max-per-node",
        "1",
        "--detach",
        tests::image::MIMIC_1,
    ]);
    site.cluster
        .wait_tasks("three to run and two to wait", "bounded", PATIENCE, |tasks| {
            let pending = tasks.iter().filter(|task| task.state == "pending" && !task.message.is_empty());
            tasks.iter().filter(|task| task.is_healthy()).count() == 3 && pending.count() == 2
        })
        .expect("bounded");
    let why = site.ok(&["why", "bounded"]);
    assert!(why.contains("per node"), "it says which bound: {why}");
}

#[test]
fn global_service_has_one_task_on_every_node_that_fits() {
    let Some(site) = Site::start("global") else { return };
    site.ok(&["service", "create", "--name", "probe", "--mode", "global", "--detach", tests::image::MIMIC_1]);
    site.whole("probe", 3);
    assert_eq!(site.by_node("probe").len(), 3);
    site.ok(&["node", "drain", "h2"]);
    site.whole("probe", 2);
    site.ok(&["node", "activate", "h2"]);
    site.whole("probe", 3);
    // A dead node's task is nobody else's.
    site.host(0).power_off().expect("off");
    site.becomes(0, "down");
    assert_eq!(site.by_node("probe").iter().filter(|(node, _)| *node != "h1").count(), 2);
    site.host(0).power_on().expect("on");
    site.host(0).engine().start().expect("its engine starts");
    site.node(0).agent().start().expect("its agent starts");
    site.whole("probe", 3);
    site.ok(&["service", "rm", "probe"]);
    site.cluster
        .ask("no container of it", PATIENCE, || site.cluster.containers("probe").is_empty().then_some(()))
        .expect("removed");
}
