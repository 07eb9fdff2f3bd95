//! One machine, one command: `orchctl dev up`, and `dev down` leaves nothing.

use std::process::Command;

use tests::binaries::Binaries;
use tests::cluster::containers;
use tests::cluster::ctl::Said;
use tests::command::finish;
use tests::hosts::Lab;
use tests::image::{MIMIC_1, mimic_archive};
use tests::require::{LAB, can_run};
use tests::wait;

use super::PATIENCE;

#[test]
fn dev_up_serves_and_dev_down_leaves_nothing_behind() {
    if !can_run("nodes: dev", &LAB) {
        return;
    }
    let lab = Lab::start(1).expect("a host with an engine");
    let host = lab.host(0);
    host.engine().load(&mimic_archive().expect("the mimic")).expect("loaded");
    host.engine().docker(&["run", "--detach", "--name", "stranger", MIMIC_1]).expect("not ours");
    host.engine().docker(&["volume", "create", "precious"]).expect("not ours either");
    let program = Binaries::get().expect("programs").ctl;
    let home = host.disk().join("home");
    std::fs::create_dir_all(&home).expect("a home");
    let ctl = |args: &[&str]| -> Said {
        let mut command: Command = host.command(&program);
        command.args(args).env("HOME", &home).env("DOCKER_HOST", host.engine().url());
        for variable in ["ORCH_CONFIG", "ORCH_CONTEXT", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"]
        {
            command.env_remove(variable);
        }
        finish(&mut command).expect("orchctl starts").into()
    };
    let ok = |args: &[&str]| {
        let said = ctl(args);
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
        said.out
    };
    let up = ok(&["dev", "up"]);
    assert!(up.contains("orchctl service create"), "it prints what to try: {up}");
    let mounts = [
        "--mount",
        "type=volume,src=scratch,dst=/scratch",
        "--mount",
        "type=volume,src=precious,dst=/precious",
    ];
    ok(&["network", "create", "shop"]);
    let traffic = ["--network", "shop", "--publish", "published=8090,target=8080,http"];
    let words = ["service", "create", "--name", "web", "--replicas", "2"];
    ok(&[&words, &mounts[..], &traffic, &[MIMIC_1]].concat());
    let port = std::net::SocketAddr::from(([127, 0, 0, 1], 8090));
    wait::until_true("the published port", PATIENCE, || {
        host.get(port, "/version").is_ok_and(|a| a.status == 200)
    })
    .expect("it answers");
    assert_eq!(containers::per_slot(&containers::on(host.engine(), "web").expect("a list")).len(), 2);
    ok(&["dev", "up"]);
    ok(&["status"]);

    // Stopped and started again, the same containers serve.
    let ids = |service| {
        let mut ids: Vec<String> =
            containers::on(host.engine(), service).expect("a list").into_iter().map(|c| c.id).collect();
        ids.sort();
        ids
    };
    let before = ids("web");
    ok(&["dev", "down", "--keep-data"]);
    assert_eq!(ids("web"), before);
    ok(&["dev", "up"]);
    wait::until_every(tests::cluster::ASK, "the service", PATIENCE, || {
        ctl(&["service", "ls"]).out.contains("2/2").then_some(())
    })
    .expect("healthy");
    assert_eq!(ids("web"), before);

    ok(&["dev", "down"]);
    let volumes = host.engine().docker(&["volume", "ls", "--quiet"]).expect("a list");
    assert_eq!(volumes.trim(), "precious", "its own volume is gone, the one from before stays");
    assert_eq!(ids(""), Vec::<String>::new(), "no container of ours");
    let networks = host.engine().docker(&["network", "ls", "--format", "{{.Name}}"]).expect("a list");
    assert!(!networks.contains("orch"), "{networks}");
    assert!(host.get(port, "/version").is_err(), "nothing serves the port any more");
    let mut rules = host.command("nft");
    rules.args(["list", "tables"]);
    let rules = tests::command::run(&mut rules).expect("nft");
    assert!(!rules.contains("orch"), "{rules}");
    assert_eq!(host.engine().inspect("stranger", "{{.State.Running}}").expect("it is there"), "true");
    let left: Vec<_> = walk(&home);
    let ours: Vec<_> = left.iter().filter(|path| path.contains("dev") || path.contains("manager")).collect();
    assert!(ours.is_empty(), "{ours:?}");
    assert_ne!(ctl(&["status"]).code, 0, "its context is gone");
}

fn walk(dir: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        found.push(
            entry.path().strip_prefix("/").map_or_else(|_| String::new(), |path| path.display().to_string()),
        );
        found.extend(walk(&entry.path()));
    }
    found
}
