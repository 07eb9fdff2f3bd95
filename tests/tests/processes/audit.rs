//! What was done and refused is on record, the same on every manager, without secrets; and an export that was touched is found.

use std::path::PathBuf;

use serde_json::Value;
use tests::cluster::{Cluster, Plan};

use super::PATIENCE;

const IMAGE: &str = "orch/mimic:1";
/// Given to the cluster as a password and as a value of the environment.
const CANARIES: [&str; 2] = ["canary-password-7391", "canary-env-5520"];

fn records(cluster: &Cluster) -> Vec<Value> {
    let found = cluster.ctl().json(&["audit", "ls", "--limit", "0"]).expect("the audit");
    found.as_array().expect("a list").clone()
}

fn said(record: &Value) -> String {
    let text = |field: &str| record[field].as_str().unwrap_or_default().to_owned();
    format!("{} {} {} {} {}", text("who"), text("verb"), text("kind"), text("name"), text("verdict"))
}

/// What each manager has by itself, once all have the same.
fn heads_agree(cluster: &Cluster, managers: usize) -> Value {
    let head = |index: usize| {
        let said = cluster.manager_says(index, &["--stale", "audit", "verify", "--json"]);
        assert_eq!(said.code, 0, "{said:?}");
        serde_json::from_str::<Value>(&said.out).expect("JSON")["head"].clone()
    };
    let same = cluster.ask("one head everywhere", PATIENCE, || {
        let heads: Vec<Value> = (0..managers).map(head).collect();
        heads.iter().all(|other| *other == heads[0]).then(|| heads[0].clone())
    });
    same.expect("the same audit everywhere")
}

fn work(cluster: &Cluster) -> String {
    let ctl = cluster.ctl();
    let token = cluster.token("agent", 1).expect("a token");
    let login = ["registry", "set", "registry.invalid", "--username", "ci", "--password-stdin", "--no-check"];
    assert_eq!(ctl.say_to(&login, CANARIES[0]).code, 0);
    let env = format!("PASSWORD={}", CANARIES[1]);
    let create = ["service", "create", "--name", "web", "--replicas", "0", "--env", &env, "--detach", IMAGE];
    ctl.ok(&create).expect("created");
    assert_eq!(ctl.say(&create).code, 5, "it is there");
    assert_eq!(ctl.say(&["freeze", "rm", "nothere"]).code, 1);
    let mut scale = ctl.command(&["scale", "web=1", "--detach"]);
    scale.env("CI_JOB_URL", "https://gitlab.example/mx/web/-/jobs/42");
    assert!(scale.status().expect("it starts").success());
    token
}

#[test]
fn everything_done_or_refused_is_on_record_and_the_same_on_every_manager() {
    let cluster = Cluster::start(Plan::loopback(3)).expect("three managers");
    let token = work(&cluster);
    let found = records(&cluster);
    let lines: Vec<String> = found.iter().map(said).collect();
    for expected in [
        "manager 1 begin audit  accepted",
        "operator admin set registry registry.invalid accepted",
        "operator admin create service web accepted",
        "operator admin create service web rejected",
        "operator admin remove freeze nothere rejected",
        "operator admin scale service web accepted",
    ] {
        assert_eq!(lines.iter().filter(|line| *line == expected).count(), 1, "{expected} in {lines:#?}");
    }
    let joined = lines.iter().filter(|line| line.contains(" join manager ")).count();
    assert_eq!(joined, 2, "{lines:#?}");
    let scaled = found.iter().find(|record| record["verb"] == "scale").expect("recorded");
    assert_eq!(scaled["job"], "https://gitlab.example/mx/web/-/jobs/42");
    assert!(scaled["source"].as_str().is_some_and(|source| source.starts_with("127.")), "{scaled}");
    assert!(scaled["old"].is_string() && scaled["new"].is_string() && scaled["old"] != scaled["new"]);
    assert!(scaled["request"].is_string());

    let text = Value::from(found).to_string();
    for secret in CANARIES.iter().copied().chain([token.as_str(), token.rsplit('-').next().unwrap_or(&token)])
    {
        assert!(!text.contains(secret), "a secret is on record");
    }

    // Whoever takes the call, and whoever leads afterwards: one chain.
    for index in 0..3 {
        let said = cluster.manager_says(index, &["freeze", "rm", "nothere"]);
        assert_eq!(said.code, 1, "{said:?}");
    }
    heads_agree(&cluster, 3);
    let leader = cluster.leader().expect("a leader");
    cluster.manager(leader).kill().expect("killed");
    cluster
        .ask("another leader", PATIENCE, || cluster.ctl().ok(&["scale", "web=2", "--detach"]).ok())
        .expect("scaled");
    cluster.manager(leader).start().expect("started");
    heads_agree(&cluster, 3);
    let refused = cluster.ctl().json(&["audit", "ls", "--object", "freeze/nothere", "--verdict", "refused"]);
    assert_eq!(refused.expect("a list").as_array().map(Vec::len), Some(4));
}

#[test]
fn export_that_was_touched_names_the_first_broken_record() {
    let cluster = Cluster::start(Plan::loopback(1)).expect("one manager");
    work(&cluster);
    let ctl = cluster.ctl();
    let file: PathBuf = cluster.dir().join("audit.jsonl");
    let path = file.to_str().expect("a path").to_owned();
    ctl.ok(&["audit", "export", &path]).expect("exported");
    ctl.ok(&["audit", "verify", "--file", &path]).expect("whole");
    ctl.ok(&["scale", "web=3", "--detach"]).expect("scaled");
    ctl.ok(&["audit", "verify", "--against", &path]).expect("the cluster went on");

    let text = std::fs::read_to_string(&file).expect("read");
    let number = |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["number"].as_u64();
    let line = text.lines().find(|line| line.contains("\"nothere\"")).expect("the refusal").to_owned();
    let broken = format!("record {} is broken", number(&line).expect("a record"));
    std::fs::write(&file, text.replace("\"nothere\"", "\"other\"")).expect("written");
    for check in [["--file", &path], ["--against", &path]] {
        let said = ctl.say(&[&["audit", "verify"][..], &check].concat());
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains(&broken), "{broken}: {}", said.err);
    }
    let without: String =
        text.lines().filter(|other| **other != line).map(|line| format!("{line}\n")).collect();
    std::fs::write(&file, without).expect("written");
    let said = ctl.say(&["audit", "verify", "--file", &path]);
    assert!(said.code == 1 && said.err.contains(&broken), "{said:?}");
}

#[test]
fn join_with_a_token_that_is_used_up_is_on_record() {
    let cluster = Cluster::start(Plan::loopback(1)).expect("one manager");
    let token = cluster.token("agent", 1).expect("a token");
    let place = tempfile::tempdir().expect("a directory");
    let agent = tests::binaries::Binaries::get().expect("programs").agent;
    for (number, code) in [(1, 0), (2, 1)] {
        let dir = place.path().join(number.to_string());
        let mut join = std::process::Command::new(&agent);
        join.args(["join", "--manager", &cluster.address(0), "--token", &token, "--dir"]).arg(dir);
        let ended = tests::command::finish(&mut join).expect("it ends").status.code();
        assert_eq!(ended, Some(code));
    }
    let lines: Vec<String> = records(&cluster).iter().map(said).collect();
    let joins: Vec<&String> = lines.iter().filter(|line| line.contains(" join node ")).collect();
    assert!(
        joins.len() == 2 && joins[0].ends_with("accepted") && joins[1].ends_with("rejected"),
        "{joins:?}"
    );
}
