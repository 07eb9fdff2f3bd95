//! Published ports: every node answers, whichever runs the replicas; what can be saved is saved.

use std::collections::BTreeSet;

use super::*;

fn hostname(body: &str) -> String {
    body.split("\"hostname\":\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn every_node_answers_on_a_published_port_for_replicas_that_run_elsewhere() {
    let Some(site) = Site::start("ingress", 3) else { return };
    site.create("web", 1, &["--publish", "8080:8080"]);
    site.served(8080, "/version");
    site.ok(&["scale", "web=3"]);
    site.whole("web", 3);
    let target = site.everywhere(8080)[0];
    let mut seen = BTreeSet::new();
    wait::until_true("one node to balance over three replicas", PATIENCE, || {
        if let Ok(answer) = site.host(1).get(target, "/version") {
            seen.insert(hostname(&answer.body));
        }
        seen.len() == 3
    })
    .unwrap_or_else(|error| panic!("{error:#}: {seen:?}"));
    let refused = site.cluster.ctl().say(&[
        "service",
        "create",
        "--name",
        "other",
        "--publish",
        "8080:80",
        "--detach",
        "x",
    ]);
    assert_eq!(refused.code, 5, "{}", refused.all());
    assert!(refused.all().contains("port 8080 is published by service \"web\""), "{}", refused.all());
    let endpoints = site.ok(&["service", "endpoints", "web"]);
    assert_eq!(endpoints.matches("  yes").count(), 3, "{endpoints}");
}

#[test]
fn scaling_and_updating_under_load_fail_no_request() {
    let Some(site) = Site::start("drain", 2) else { return };
    let port = "published=80,target=8080,http";
    site.create("web", 2, &["--publish", port, "--update-order", "start-first", "--drain", "5s"]);
    site.served(80, "/version");
    let quick = Load::start(Clients { keep_alive: true, ..site.clients(80) });
    let slow = Load::start(Clients { path: "/slow?ms=800".into(), clients: 4, ..site.clients(80) });
    site.ok(&["scale", "web=4"]);
    quick.wait_for(200).expect("requests");
    site.ok(&["scale", "web=1"]);
    quick.wait_for(200).expect("requests");
    site.ok(&["service", "update", "web", "--env-add", "A=1", "--quiet"]);
    quick.wait_for(200).expect("requests");
    whole(&quick.finish(), "quick requests");
    whole(&slow.finish(), "slow requests");
}

/// Its probes answer well, and every second request fails: only those who carry the requests can know.
#[test]
fn release_whose_requests_fail_goes_back_although_its_probes_are_well() {
    let Some(site) = Site::start("errors", 2) else { return };
    let status = "http:8080/ispyb/ispyb-ws/rest/schema/status,body-not=Exception,interval=300ms";
    let port = "published=80,target=8080,http";
    let watched = ["--update-monitor", "20s", "--update-failure-action", "rollback"];
    site.create("web", 2, &[&["--publish", port, "--probe-readiness", status], &watched[..]].concat());
    site.served(80, "/version");
    let load = Load::start(Clients { keep_alive: true, ..site.clients(80) });
    let failed = site.cluster.ctl().say(&["service", "update", "web", "--env-add", "MIMIC_FAIL_EVERY=2"]);
    assert_eq!(failed.code, 3, "{}", failed.all());
    assert!(failed.err.contains("routers saw"), "{}", failed.all());
    // What comes back is whole again, and nobody is judged for what was.
    site.whole("web", 2);
    load.wait_for(200).expect("requests");
    assert!(load.finish().failed() > 0, "every second request to the bad replica failed");
    let load = Load::start(Clients { keep_alive: true, ..site.clients(80) });
    load.wait_for(200).expect("requests");
    whole(&load.finish(), "requests to the release before");
}

#[test]
fn killed_replica_costs_no_request_that_may_be_repeated() {
    let Some(site) = Site::start("kill", 2) else { return };
    site.create("web", 3, &["--publish", "published=80,target=8080,http"]);
    site.served(80, "/version");
    let load = Load::start(Clients { keep_alive: true, ..site.clients(80) });
    for _ in 0..3 {
        load.wait_for(100).expect("requests");
        // One that was just killed may still be listed.
        let killed = || {
            let container = site.cluster.containers("web").into_iter().find(|container| container.running)?;
            let (node, _) = site.cluster.locate(&container).ok()?;
            node.engine().docker(&["kill", "--signal", "KILL", &container.id]).ok()
        };
        wait::until("a replica to kill", PATIENCE, killed).expect("killed");
    }
    load.wait_for(200).expect("requests");
    whole(&load.finish(), "GET while replicas are killed");
}

#[test]
fn traffic_goes_on_without_managers_and_without_agents() {
    let Some(site) = Site::start("without", 2) else { return };
    site.create("web", 2, &["--publish", "published=80,target=8080,http"]);
    site.served(80, "/version");
    let load = Load::start(Clients { keep_alive: true, ..site.clients(80) });
    site.cluster.manager(0).kill().expect("killed");
    load.wait_for(100).expect("requests");
    for node in site.cluster.nodes() {
        node.agent().kill().expect("killed");
    }
    load.wait_for(200).expect("requests");
    for node in site.cluster.nodes() {
        node.agent().start().expect("started");
    }
    load.wait_for(200).expect("requests");
    site.cluster.manager(0).start().expect("started");
    load.wait_for(200).expect("requests");
    whole(&load.finish(), "GET without managers and agents");
    site.whole("web", 2);
}

#[test]
fn port_that_is_taken_on_one_node_is_named_and_served_once_it_is_free() {
    let Some(site) = Site::start("taken", 2) else { return };
    site.host(1)
        .engine()
        .docker(&["run", "--detach", "--name", "squatter", "--publish", "80:8080", MIMIC_1])
        .expect("runs");
    site.create("web", 1, &["--publish", "published=80,target=8080,http"]);
    let name = site.cluster.node(1).name().to_owned();
    let why = |what: &str| site.ok(&["why", what]);
    wait::until_true("the problem to be told", PATIENCE, || why(&name).contains("port 80 cannot be opened"))
        .unwrap_or_else(|error| panic!("{error:#}: {}", why(&name)));
    assert!(why("web").contains(&format!("on node {name}: port 80")), "{}", why("web"));
    assert!(site.ok(&["status"]).contains("port 80"), "{}", site.ok(&["status"]));
    site.host(1).engine().docker(&["rm", "--force", "squatter"]).expect("gone");
    site.served(80, "/version");
    wait::until_true("the problem to be gone", PATIENCE, || !why(&name).contains("port 80"))
        .unwrap_or_else(|error| panic!("{error:#}: {}", why(&name)));
}

#[test]
fn hung_replica_and_cut_node_cost_no_request_that_may_be_repeated() {
    let Some(site) = Site::start("hang", 3) else { return };
    let port = "published=80,target=8080,http,try-timeout=500ms";
    site.create("web", 3, &["--publish", port, "--replicas-max-per-node", "1"]);
    site.served(80, "/version");
    let targets = vec![site.everywhere(80)[0]];
    let load = Load::start(Clients { targets: targets.clone(), keep_alive: true, ..site.clients(80) });
    let far = site.cluster.containers("web").into_iter().find(|container| {
        site.cluster.locate(container).is_ok_and(|(node, _)| node.name() != site.cluster.node(0).name())
    });
    let far = far.expect("a replica elsewhere");
    site.cluster.get(&far, "/hang").expect("it hangs from now on");
    load.wait_for(300).expect("requests");
    whole(&load.finish(), "GET with a hung replica");

    let load = Load::start(Clients { targets, keep_alive: true, ..site.clients(80) });
    load.wait_for(100).expect("requests");
    site.host(2).cut().expect("cut off");
    load.wait_for(400).expect("requests");
    site.host(2).restore().expect("back");
    let outcome = load.finish();
    assert!(outcome.slowest < tests::load::PATIENCE, "{:?}", outcome.slowest);
    whole(&outcome, "GET while a node is cut off");
}
