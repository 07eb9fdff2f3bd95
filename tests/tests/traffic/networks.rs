//! Networks: containers find services by name, and only those of their own networks.

use super::*;

/// What the mimic in a service's first container prints.
fn inside(site: &Site, service: &str, words: &[&str]) -> Result<String, String> {
    let container = site.cluster.containers(service).into_iter().next().ok_or("no container")?;
    let (node, _) = site.cluster.locate(&container).map_err(|error| format!("{error:#}"))?;
    let args: Vec<&str> =
        ["exec", &container.id, "/mimic"].into_iter().chain(words.iter().copied()).collect();
    node.engine().docker(&args).map_err(|error| format!("{error:#}"))
}

#[test]
fn containers_reach_services_of_their_network_by_name_on_whatever_node() {
    let Some(site) = Site::start("names", 2) else { return };
    site.ok(&["network", "create", "shop"]);
    site.ok(&["network", "create", "vault"]);
    let on = |node: usize| format!("node.hostname=={}", site.cluster.node(node).name());
    site.create("mariadb", 1, &["--network", "shop", "--constraint", &on(0)]);
    site.create("near", 1, &["--network", "shop", "--constraint", &on(0)]);
    site.create("far", 1, &["--network", "shop", "--constraint", &on(1)]);
    site.create("stranger", 1, &["--network", "vault", "--constraint", &on(0)]);
    let mut addresses = Vec::new();
    for from in ["near", "far"] {
        wait::until_true(&format!("{from} to reach mariadb"), PATIENCE, || {
            inside(&site, from, &["get", "mariadb:8080", "/version"])
                .is_ok_and(|body| body.contains("hostname"))
        })
        .unwrap_or_else(|error| {
            panic!(
                "{error:#}: {:?}\n{}",
                inside(&site, from, &["get", "mariadb:8080", "/version"]),
                site.cluster.last_words()
            )
        });
        addresses.push(inside(&site, from, &["resolve", "mariadb"]).expect("an address"));
        let task = inside(&site, from, &["resolve", "tasks.mariadb"]).expect("the task's address");
        assert_ne!(addresses.last(), Some(&task));
        inside(&site, from, &["get", &format!("{}:8080", task.trim()), "/version"])
            .expect("the task itself answers");
    }
    assert_eq!(addresses[0], addresses[1], "the name means one address everywhere");
    let refusal = inside(&site, "stranger", &["resolve", "mariadb"]).expect_err("not its network");
    assert!(refusal.contains("no such name"), "{refusal}");
    inside(&site, "stranger", &["get", &format!("{}:8080", addresses[0].trim()), "/version"])
        .expect_err("another network's address");

    // The address outlives its replicas, and what is removed by hand comes back.
    site.ok(&["service", "update", "mariadb", "--force", "--quiet"]);
    // The engine's own resolver, which passes the question on, may be busy with the replacement.
    let resolved = wait::until("the name", PATIENCE, || inside(&site, "near", &["resolve", "mariadb"]).ok());
    assert_eq!(resolved.expect("an address"), addresses[0]);
    let mut flush = site.host(0).command("nft");
    flush.args(["flush", "ruleset"]);
    tests::command::run(&mut flush).expect("nft");
    wait::until_true("the rules to be mended", PATIENCE, || {
        inside(&site, "near", &["get", "mariadb:8080", "/version"]).is_ok()
    })
    .expect("mended");
    let refused = site.cluster.ctl().say(&["network", "rm", "shop"]);
    assert_eq!(refused.code, 5, "{}", refused.all());
}

#[test]
fn the_pool_can_be_changed_and_a_machine_that_joins_says_what_it_uses_of_it() {
    let Some(site) = Site::start("pool", 1) else { return };
    assert!(
        site.ok(&["network", "pool", "show"]).starts_with("10.128.0.0/10, 64 networks of which 0 are taken")
    );
    site.ok(&["network", "pool", "set", "10.192.0.0/12"]);
    site.ok(&["network", "create", "shop"]);
    assert!(site.ok(&["network", "ls"]).contains("10.192.0.0/16"));
    let refused = site.cluster.ctl().say(&["network", "pool", "set", "10.64.0.0/12"]);
    assert_eq!(refused.code, 5, "{}", refused.all());
    assert!(refused.all().contains("pool.base") && refused.all().contains("\"shop\""), "{}", refused.all());

    let (host, node) = (site.host(0), site.cluster.node(0));
    let ip = |words: &str| {
        tests::command::run(host.command("ip").args(words.split(' '))).expect(words);
    };
    ip("link add own0 type bridge");
    ip("addr add 10.195.7.1/24 dev own0");
    ip("link set own0 up");
    ip("route add 10.0.0.0/8 dev own0 via 10.195.7.2");
    node.engine().docker(&["network", "create", "--subnet", "10.197.0.0/20", "theirs"]).expect("docker");
    let dir = tempfile::tempdir().expect("a directory");
    let engine = format!("engine = {:?}\n", node.engine().url());
    std::fs::write(dir.path().join("agent.toml"), engine).expect("a file");
    let token = site.ok(&["token", "create", "--quiet", "--role", "agent"]);
    let mut join = host.command(node.agent().program());
    join.args(["join", "--manager", &site.cluster.address(0), "--token", token.trim(), "--dir"])
        .arg(dir.path());
    let said = join.output().expect("orch-agent join");
    let words = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success(), "{words}");
    for expected in
        ["10.192.0.0/12", "10.195.7.0/24, a route", "10.197.0.0/20, the engine's network theirs", "pool set"]
    {
        assert!(words.contains(expected), "{expected}: {words}");
    }
    assert!(!words.contains("10.0.0.0/8"), "a wide route by a gateway is no clash: {words}");
}
