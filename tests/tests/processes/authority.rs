//! The authority of three real managers is replaced: with one manager away, while people and pipelines go on.

use std::path::Path;
use std::process::{Command, Stdio};

use tests::cluster::boot::set_managers;
use tests::cluster::ctl::{Ctl, Said};
use tests::cluster::{Cluster, Plan};
use tests::command::finish;

use super::PATIENCE;

/// The exit code of a refusal.
const DENIED: i32 = 4;
/// The exit code of a conflict.
const CONFLICT: i32 = 5;

fn create(ctl: &Ctl, name: &str) -> Said {
    ctl.say(&["service", "create", "--name", name, "--replicas", "0", "--detach", "orch/mimic:1"])
}

fn fingerprint(cluster: &Cluster) -> String {
    let shown = cluster.ctl().json(&["authority", "show"]).expect("shown");
    shown["fingerprint"].as_str().expect("a fingerprint").to_owned()
}

fn bundle(cluster: &Cluster, index: usize) -> String {
    std::fs::read_to_string(cluster.manager(index).dir().join("ca.pem")).expect("its file")
}

/// A pipeline with nothing but a token.
fn deploy(cluster: &Cluster, token: &str) -> Said {
    let image = format!("registry.example/web@sha256:{}", "a".repeat(64));
    let mut command: Command = cluster.ctl().command(&["deploy", "web", "--image", &image, "--detach"]);
    command.env("ORCH_CONFIG", "/nowhere/config.toml");
    command.env("ORCH_TOKEN", token).env("ORCH_MANAGERS", cluster.address(0));
    finish(&mut command).expect("orchctl starts").into()
}

fn deploy_token(cluster: &Cluster, name: &str) -> String {
    let words =
        ["deploy-token", "create", "--quiet", name, "--service", "web", "--image", "registry.example/web"];
    cluster.ctl().ok(&words).expect("a token")
}

/// What orchctl knows now, kept for later.
fn copy_of(cluster: &Cluster, place: &Path) -> Ctl {
    std::fs::copy(cluster.ctl().config(), place).expect("copied");
    cluster.ctl().with_config(place.to_owned())
}

#[test]
fn authority_is_replaced_with_a_manager_away_and_what_the_former_one_issued_ends_when_an_admin_says_so() {
    let mut cluster = Cluster::start(Plan::loopback(3)).expect("three managers");
    let place = tempfile::tempdir().expect("a directory");
    let before = copy_of(&cluster, &place.path().join("before.toml"));
    let other_admin = copy_of(&cluster, &place.path().join("other.toml"));
    let web = ["service", "create", "--name", "web", "--replicas", "0", "--detach", "registry.example/web:1"];
    cluster.ctl().ok(&web).expect("created");
    let old_token = deploy_token(&cluster, "old");
    let join_token = cluster.token("manager", 1).expect("a join token");
    let first = fingerprint(&cluster);
    let away = (cluster.leader().expect("a leader") + 1) % 3;
    cluster.manager(away).stop().expect("it ends");

    // One manager is not waited for that is not there, so the command says at its deadline whom it waits for.
    let said = cluster.ctl().say(&["authority", "rotate", "--timeout", "5s"]);
    assert!(said.code == 7 && said.err.contains(cluster.manager(away).name()), "{said:?}");
    assert_ne!(fingerprint(&cluster), first);
    let said = cluster.ctl().say(&["authority", "rotate"]);
    assert_eq!(said.code, CONFLICT, "one at a time: {said:?}");
    let said = cluster.ctl().say(&["authority", "finish", "--leave-behind"]);
    assert!(said.code == CONFLICT && said.err.contains(cluster.manager(away).name()), "{said:?}");
    let status = cluster.ctl().ok(&["status"]).expect("a status");
    assert!(status.contains("orchctl authority show"), "{status}");

    // Everybody goes on meanwhile, with what the former one issued as well.
    assert_eq!(create(&before, "by-the-former").code, 0);
    assert_eq!(create(cluster.ctl(), "by-the-new").code, 0);
    assert_eq!(deploy(&cluster, &old_token).code, 0);
    cluster.manager(away).start().expect("started");
    let all = || cluster.ctl().ok(&["authority", "show"]).is_ok_and(|shown| !shown.contains("managers that"));
    cluster.ask("the manager that was away", PATIENCE, || all().then_some(())).expect("it has another one");
    let shown = cluster.ctl().ok(&["authority", "show"]).expect("shown");
    assert!(shown.contains("deploy tokens that end with it: make new ones: old"), "{shown}");
    let new_token = deploy_token(&cluster, "new");

    // By an admin whose own certificate is of the former one: that is replaced first, and it goes on.
    let finished = other_admin.ok(&["authority", "finish"]).expect("finished");
    assert!(finished.contains("counts no more"), "{finished}");
    assert_eq!(create(&other_admin, "by-the-other").code, 0);
    let parted = || (0..3).all(|index| bundle(&cluster, index).matches("BEGIN").count() == 2);
    cluster.ask("all managers to part with it", PATIENCE, || parted().then_some(())).expect("parted");
    for index in 0..3 {
        set_managers(before.config(), &[cluster.address(index)]).expect("a context");
        let said = create(&before, "too-late");
        assert!(said.code == DENIED && said.err.contains("wrong CA"), "manager {index}: {said:?}");
    }
    let said = deploy(&cluster, &old_token);
    assert_eq!(said.code, DENIED, "{said:?}");
    assert_eq!(deploy(&cluster, &new_token).code, 0);
    let directory = place.path().join("stranger");
    let words = ["join", "--dir", directory.to_str().expect("a path"), "--manager", &cluster.address(0)];
    let mut join = Command::new(cluster.manager(0).program());
    join.args(words).args(["--address", "127.0.0.1:1", "--token", &join_token]);
    let said: Said = finish(&mut join).expect("it ends").into();
    assert!(said.code != 0 && said.err.contains("fingerprint"), "{said:?}");

    // All anew, over their own new certificates; and whoever joins is of the new authority.
    for manager in cluster.managers() {
        manager.stop().expect("it ends");
    }
    cluster.managers().iter().for_each(|manager| manager.start().expect("started"));
    let back = || Some(create(cluster.ctl(), "after")).filter(|said| said.code == 0);
    cluster.ask("a majority", PATIENCE, back).expect("they know each other");
    let newcomer = cluster.add_manager().expect("joins");
    assert!(bundle(&cluster, newcomer).starts_with(&bundle(&cluster, 0)[..400]), "the same authority");
    let audit = cluster.ctl().ok(&["audit", "ls"]).expect("a list");
    assert!(audit.contains("rotate authority") && audit.contains("finish rotation"), "{audit}");
}

#[test]
fn leader_that_dies_while_the_authority_is_replaced_leaves_no_two_of_them() {
    let cluster = Cluster::start(Plan::loopback(3)).expect("three managers");
    for _ in 0..3 {
        let before = fingerprint(&cluster);
        let leader = cluster.leader().expect("a leader");
        let mut rotate = cluster.ctl().command(&["authority", "rotate", "--quiet"]);
        let rotate = rotate.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let rotation = rotate.spawn().expect("orchctl starts");
        cluster.manager(leader).kill().expect("killed");
        cluster.manager(leader).start().expect("started");
        let ended = rotation.wait_with_output().expect("it ends");
        assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
        assert_ne!(fingerprint(&cluster), before);
        cluster.ctl().ok(&["authority", "finish"]).expect("finished");
        let alike = || (1..3).all(|index| bundle(&cluster, index) == bundle(&cluster, 0));
        cluster.ask("one authority", PATIENCE, || alike().then_some(())).expect("the same everywhere");
    }
    cluster.wait_voters(3).expect("all three");
}
