//! Secrets and configs as somebody types them, and what of them lies on the managers' disks.

use std::path::Path;

use tests::cluster::ctl::Said;
use tests::cluster::{Cluster, Plan};
use tests::wait;

use super::PATIENCE;

const CANARY: &str = "canary-d41d8cd98f00b204";

fn secret(cluster: &Cluster, words: &[&str], value: &str) -> String {
    let said = cluster.ctl().say_to(&[&["secret"], words].concat(), value);
    assert_eq!(said.code, 0, "{said:?}");
    said.out
}

/// How the PKCS#8 form of every key on P-256 begins in PEM: what the authority's key would be found by.
const KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg";

/// A login method whose directory is searched by an account; its password is typed.
const METHOD: [&str; 12] = [
    "login-method",
    "set",
    "ad",
    "--ldap",
    "ldaps://ldap.example",
    "--search-base",
    "dc=example",
    "--bind-dn",
    "cn=orch,dc=example",
    "--bind-password-stdin",
    "--role",
    "viewer@*",
];

/// Every file below a directory that holds the canary.
fn finds(dir: &Path) -> Vec<String> {
    holds(dir, CANARY)
}

/// Every file below a directory that holds this text.
fn holds(dir: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holds(&path, text));
        } else if let Ok(contents) = std::fs::read(&path)
            && contents.windows(text.len()).any(|window| window == text.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
    found
}

fn newest(cluster: &Cluster, kind: &str, name: &str) -> u64 {
    let view = cluster.ctl().json(&[kind, "inspect", name]).expect("it is there");
    let versions = view["versions"].as_array().expect("versions");
    versions.last().and_then(|version| version["number"].as_u64()).expect("one")
}

#[test]
fn secret_lies_in_clear_on_no_managers_disk_and_survives_their_restart() {
    let cluster = Cluster::start(Plan::loopback(3)).expect("three managers");
    let ctl = cluster.ctl();
    secret(&cluster, &["create", "db", "-"], CANARY);
    assert_eq!(newest(&cluster, "secret", "db"), 1);
    let shown = ctl.ok(&["secret", "inspect", "db", "--json"]).expect("shown");
    assert!(!shown.contains(CANARY) && !shown.contains("\"value\""), "{shown}");
    let again = secret(&cluster, &["update", "db", "-"], CANARY);
    assert!(again.contains("db") && newest(&cluster, "secret", "db") == 1, "the same value: {again}");
    secret(&cluster, &["update", "db", "-"], &format!("{CANARY}-2"));
    assert_eq!(newest(&cluster, "secret", "db"), 2);
    ctl.ok(&["secret", "rotate-key"]).expect("a new key");
    let keys = ctl.json(&["secret", "keys"]).expect("keys");
    assert_eq!((keys["active"].as_u64(), keys["behind"].as_u64()), (Some(2), Some(0)), "{keys}");
    cluster.managers().iter().for_each(|manager| manager.kill().expect("killed"));
    cluster.managers().iter().for_each(|manager| manager.start().expect("started"));
    cluster.wait_voters(3).expect("all of them");
    let again = secret(&cluster, &["update", "db", "-"], &format!("{CANARY}-2"));
    assert!(again.contains("db") && newest(&cluster, "secret", "db") == 2, "it opens still: {again}");
    assert_eq!(finds(cluster.dir()), Vec::<String>::new());
    ctl.ok(&["secret", "rm", "db"]).expect("removed");
    assert_eq!(ctl.ok(&["secret", "ls", "--quiet"]).expect("a list"), "");
}

#[test]
fn logins_and_the_authoritys_key_lie_in_clear_on_no_managers_disk() {
    let cluster = Cluster::start(Plan::loopback(3)).expect("three managers");
    let ctl = cluster.ctl();
    let set = ["registry", "set", "reg.example", "--username", "ci", "--password-stdin", "--no-check"];
    let said = ctl.say_to(&set, CANARY);
    assert_eq!(said.code, 0, "{said:?}");
    let shown = ctl.ok(&["registry", "inspect", "reg.example", "--json"]).expect("shown");
    assert!(shown.contains("ci") && !shown.contains(CANARY) && !shown.contains("sealed"), "{shown}");
    let said = ctl.say_to(&METHOD, CANARY);
    assert_eq!(said.code, 0, "{said:?}");
    let shown = ctl.ok(&["login-method", "inspect", "ad", "--json"]).expect("shown");
    assert!(shown.contains("cn=orch") && !shown.contains("password"), "{shown}");
    ctl.ok(&["secret", "rotate-key"]).expect("a new key");
    let rotated = cluster.ask("everything under the new key", PATIENCE, || {
        let keys = ctl.json(&["secret", "keys"]).ok()?;
        (keys["active"] == 2 && keys["behind"] == 0 && keys["next"].is_null()).then_some(())
    });
    rotated.expect("rotated");
    cluster.managers().iter().for_each(|manager| manager.kill().expect("killed"));
    cluster.managers().iter().for_each(|manager| manager.start().expect("started"));
    cluster.wait_voters(3).expect("all of them");
    assert_eq!(ctl.say_to(&set, CANARY).code, 0, "the same again");
    assert_eq!(ctl.say_to(&METHOD, CANARY).code, 0, "the same again");
    ctl.ok(&["token", "create"]).expect("the authority's key opens: a token is made with it");
    assert_eq!(finds(cluster.dir()), Vec::<String>::new());
    for manager in cluster.managers() {
        let found = holds(manager.dir(), KEY);
        let own = |file: &String| file.ends_with("/key.pem");
        assert!(found.len() == 1 && found.iter().all(own), "only its own key is there: {found:?}");
    }
}

#[test]
fn recovery_needs_the_keyring_because_it_signs_with_the_authoritys_key() {
    let cluster = Cluster::start(Plan::loopback(1)).expect("one manager");
    let manager = cluster.manager(0);
    manager.stop().expect("it ends");
    let files = std::fs::read_dir(manager.dir()).expect("a directory").flatten().map(|entry| entry.path());
    let key = files.into_iter().find(|path| {
        path.extension().is_some_and(|end| end == "key") && path.to_string_lossy().contains("unlock-")
    });
    let key = key.expect("a key file opens the keyring");
    let away = cluster.dir().join("apart");
    std::fs::rename(&key, &away).expect("moved");
    let said = manager.call(&["recover", "--others-are-gone"]).expect("it ends");
    assert!(said.code != 0 && said.err.contains("which opens the keyring"), "{said:?}");
    std::fs::rename(&away, &key).expect("brought back");
    let said = manager.call(&["recover", "--others-are-gone"]).expect("it ends");
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn what_is_mounted_is_pinned_and_kept_and_what_is_wrong_is_refused() {
    let cluster = Cluster::start(Plan::loopback(1)).expect("one manager");
    let ctl = cluster.ctl();
    let create = ["service", "create", "--name", "web", "--replicas", "0", "--detach"];
    let missing = ctl.say(&[&create[..], &["--secret", "db", "orch/mimic:1"]].concat());
    assert_eq!(missing.code, 2, "{missing:?}");
    assert!(missing.err.contains("secrets.db"), "{}", missing.err);
    secret(&cluster, &["create", "db", "-"], CANARY);
    let wrong = ctl.say_to(&["config", "create", "--template", "app.conf", "-"], "a\nb {{ task.name }}");
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("line 2, column 3"), "{}", wrong.err);
    let right = ctl.say_to(&["config", "create", "--template", "app.conf", "-"], "p={{ secret \"db\" }}");
    assert_eq!(right.code, 0, "{right:?}");
    let alone = ctl.say(&[&create[..], &["--config", "app.conf", "orch/mimic:1"]].concat());
    assert!(alone.code == 2 && alone.err.contains("mount that secret too"), "{alone:?}");
    let mounts = ["--config", "app.conf", "--secret", "db,target=/etc/db,mode=0400,uid=1000", "orch/mimic:1"];
    ctl.ok(&[&create[..], &mounts].concat()).expect("declared");

    secret(&cluster, &["update", "--detach", "db", "-"], "another");
    let inspected = ctl.ok(&["service", "inspect", "web"]).expect("shown");
    assert!(inspected.contains("db version 2 at /etc/db"), "{inspected}");
    let history = ctl.ok(&["service", "history", "web"]).expect("a history");
    assert!(history.contains("secret db 1 -> 2"), "{history}");
    let spec = ctl.ok(&["service", "inspect", "--spec", "web"]).expect("a file");
    assert!(spec.contains("mode = \"0400\"") && !spec.contains("version"), "{spec}");
    ctl.ok(&["service", "rollback", "--detach", "web"]).expect("back");
    let inspected = ctl.ok(&["service", "inspect", "web"]).expect("shown");
    assert!(inspected.contains("db version 1 at /etc/db"), "{inspected}");

    let held = ctl.say(&["secret", "rm", "db"]);
    assert!(held.code == 5 && held.err.contains("service \"web\" mounts it"), "{held:?}");
    assert!(ctl.ok(&["config", "inspect", "--value", "app.conf"]).expect("shown").contains("secret \"db\""));
    ctl.ok(&["service", "rm", "web"]).expect("removed");
    ctl.ok(&["secret", "rm", "db"]).expect("removed");
    assert_eq!(finds(cluster.dir()), Vec::<String>::new());
}

#[test]
fn manager_that_is_locked_with_a_passphrase_waits_for_it_and_votes_again() {
    let cluster = Cluster::start(Plan::loopback(3)).expect("three managers");
    secret(&cluster, &["create", "db", "-"], CANARY);
    let locked = cluster.manager(2);
    assert!(locked.call(&["lock", "--key-file"]).expect("it ends").err.contains("stop the manager first"));
    locked.stop().expect("it ends");
    let type_it = |words: &[&str], typed: &str| -> Said {
        let mut command = std::process::Command::new(locked.program());
        command.args(words).arg("--dir").arg(locked.dir());
        tests::command::finish_with(&mut command, typed).expect("it starts").into()
    };
    let said = type_it(&["lock", "--passphrase"], "correct horse battery\n");
    assert_eq!(said.code, 0, "{said:?}");
    locked.start().expect("started");
    wait::until_true("it waits", PATIENCE, || locked.dir().join("unlock.sock").exists()).expect("locked");
    assert_eq!(type_it(&["unlock"], "a wrong passphrase\n").code, 1);
    let reachable = |cluster: &Cluster| {
        let members = cluster.ctl().json(&["manager", "ls"]).expect("a list");
        let is = |member: &serde_json::Value| member["reachable"] == true;
        members.as_array().expect("a list").iter().filter(|member| is(member)).count()
    };
    wait::until_true("it is missed", PATIENCE, || reachable(&cluster) == 2).expect("it takes no part");
    let said = type_it(&["unlock"], "correct horse battery\n");
    assert_eq!((said.code, said.out.as_str()), (0, "unlocked"), "{said:?}");
    wait::until_true("it is back", PATIENCE, || reachable(&cluster) == 3).expect("it takes part");
}
