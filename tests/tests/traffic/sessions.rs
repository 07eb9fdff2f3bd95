//! Sessions and firewalls: who stays with whom, and who needs no inbound port.

use std::collections::BTreeMap;

use super::*;

#[test]
fn twenty_sessions_stay_with_their_replicas_while_others_come_and_go() {
    let Some(site) = Site::start("sessions", 2) else { return };
    site.create("web", 3, &["--publish", "published=80,target=8080,http,sticky"]);
    site.served(80, "/version");
    let targets = site.everywhere(80);
    let ask = |number: usize, path: &str, cookies: &[String]| {
        let target = targets[number % targets.len()];
        let outside = site.cluster.lab().switch().namespace().to_owned();
        let cookies = cookies.join("; ");
        tests::hosts::namespace::within(&outside, || {
            tests::http::get_with(target, path, &[("Cookie", &cookies)], PATIENCE)
        })
        .expect("the namespace")
        .expect("an answer")
    };
    // JSESSIONID is the replica's own; another replica does not know it.
    let mut sessions = BTreeMap::new();
    for number in 0..20 {
        let answer = ask(number, &format!("/login?user=u{number}"), &[]);
        let cookies: Vec<String> = answer
            .head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"))
            .filter_map(|(_, value)| value.split(';').next().map(str::to_owned))
            .collect();
        assert_eq!(cookies.len(), 2, "the replica's cookie and ours: {}", answer.head);
        sessions.insert(number, cookies);
    }
    let stick = |when: &str| {
        for (number, cookies) in &sessions {
            // By the other node than at the beginning, too.
            for node in 0..2 {
                let answer = ask(number + node, "/me", cookies);
                assert!(
                    answer.status == 200 && answer.body.contains(&format!("u{number}")),
                    "{when}: {answer:?}"
                );
            }
        }
    };
    stick("at first");
    site.ok(&["scale", "web=5"]);
    site.whole("web", 5);
    stick("after more replicas came");
}

#[test]
fn workstation_that_takes_no_connection_serves_a_task() {
    let Some(site) = Site::start("workstation", 2) else { return };
    let workstation = site.cluster.node(1).name().to_owned();
    site.ok(&["node", "update", &workstation, "--class", "workstation"]);
    // New connections from outside are dropped and counted.
    let wall = "table inet wall {\n chain in {\n type filter hook input priority -20; policy accept;\n \
                iifname != \"lo\" iifname != \"docker0\" ct state new counter drop\n }\n}";
    let mut nft = site.host(1).command("nft");
    nft.arg(wall);
    tests::command::run(&mut nft).expect("a firewall");
    let only = format!("node.hostname=={workstation}");
    site.create("detector", 1, &["--publish", "published=80,target=8080,http", "--constraint", &only]);
    let target = site.everywhere(80)[0];
    wait::until_true("the other node to answer for the workstation", PATIENCE, || {
        site.host(0).get(target, "/version").is_ok_and(|answer| answer.status == 200)
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", site.cluster.last_words()));
    let load = Load::start(Clients { targets: vec![target], keep_alive: true, ..site.clients(80) });
    load.wait_for(300).expect("requests");
    whole(&load.finish(), "GET through a firewall");
    let mut list = site.host(1).command("nft");
    list.args(["list", "chain", "inet", "wall", "in"]);
    let said = tests::command::run(&mut list).expect("nft");
    assert!(said.contains("counter packets 0 "), "nobody dialled it: {said}");
}
