//! A manager's disk decays: it comes back from its peers with nothing lost, or refuses and says what helps.

use std::fs;
use std::path::{Path, PathBuf};

use tests::cluster::daemon::Daemon;
use tests::cluster::view::Member;
use tests::cluster::{Cluster, Plan};

use super::PATIENCE;

/// The first block of a segment that holds a batch, and some bytes into it.
const IN_THE_FIRST_BATCH: u64 = 12_288 + 100;

type Damage = fn(&Cluster, &Daemon);

fn create(cluster: &Cluster, name: &str) {
    let args = ["service", "create", "--name", name, "--replicas", "0", "--detach", "orch/mimic:1"];
    cluster.ctl().ok(&args).expect("created");
}

fn raft(manager: &Daemon) -> PathBuf {
    manager.dir().join("raft")
}

fn files(manager: &Daemon, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(raft(manager)).expect("a log").flatten().map(|entry| entry.path());
    let named = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix));
    let mut found: Vec<PathBuf> = entries.filter(named).collect();
    found.sort();
    found
}

fn flip(file: &Path, at: u64) {
    let mut bytes = fs::read(file).expect("readable");
    let at = usize::try_from(at).expect("a small file");
    bytes[at] ^= 0x10;
    fs::write(file, bytes).expect("writable");
}

/// Makes a manager take a snapshot every few entries, and waits for one.
fn wait_snapshot(cluster: &Cluster, manager: &Daemon) {
    manager.stop().expect("it ends");
    let file = manager.dir().join("manager.toml");
    let text = fs::read_to_string(&file).unwrap_or_default();
    fs::write(&file, format!("{text}[snapshot]\nentries = 100\n")).expect("written");
    manager.start().expect("starts");
    cluster.wait_voters(3).expect("three voters");
    let mut number = 0;
    let taken = cluster.ask("a snapshot", PATIENCE, || {
        create(cluster, &format!("filler-{number}"));
        number += 1;
        (!files(manager, "snap-").is_empty()).then_some(())
    });
    taken.expect("taken");
}

/// Waits until the manager votes under another id than `before` and everybody is reached.
fn comes_back(cluster: &Cluster, manager: &Daemon, before: &[Member]) -> Vec<Member> {
    let old = before.iter().find(|member| member.name == manager.name()).expect("a member").id;
    let back = cluster.ask("the manager to vote under a new id", PATIENCE, || {
        let members = cluster.members().ok()?;
        let new = members.iter().find(|member| member.name == manager.name())?;
        let whole = members.len() == 3 && members.iter().all(|member| member.voter && member.reachable);
        (whole && new.id > old).then_some(members)
    });
    back.expect("it comes back by itself")
}

#[test]
fn manager_with_a_damaged_log_or_snapshot_votes_again_under_a_new_id_and_has_everything() {
    let cluster = Cluster::start(Plan::loopback(3)).expect("three managers");
    let mut members = cluster.members().expect("a list");
    let damages: [(&str, Damage); 3] = [
        ("log", |_, manager| {
            manager.kill().expect("killed");
            flip(&files(manager, "log-")[0], IN_THE_FIRST_BATCH);
        }),
        ("snapshot", |cluster, manager| {
            wait_snapshot(cluster, manager);
            manager.kill().expect("killed");
            flip(files(manager, "snap-").last().expect("a snapshot"), 200);
        }),
        ("everything", |_, manager| {
            manager.kill().expect("killed");
            fs::remove_dir_all(raft(manager)).expect("removed");
        }),
    ];
    for (index, (what, damage)) in damages.into_iter().enumerate() {
        let manager = cluster.manager(index);
        let precious = format!("before-{what}");
        create(&cluster, &precious);
        damage(&cluster, manager);
        create(&cluster, &format!("without-{index}"));
        manager.start().expect("starts");
        members = comes_back(&cluster, manager, &members);

        // It has everything, and counts: with another one dead nothing goes without it.
        let held = cluster.ask("it to have everything", PATIENCE, || {
            let said = cluster.manager_says(index, &["service", "ls", "--stale"]).out;
            (said.contains(&precious) && said.contains(&format!("without-{index}"))).then_some(())
        });
        held.unwrap_or_else(|error| panic!("{what}: {error:#}"));
        let other = cluster.manager((index + 1) % 3);
        other.kill().expect("killed");
        create(&cluster, &format!("after-{what}"));
        other.start().expect("starts");
        cluster
            .ask("all to be reached", PATIENCE, || {
                cluster.members().ok()?.iter().all(|member| member.reachable).then_some(())
            })
            .expect("reached");
        assert!(manager.log_text().contains("starts anew under another id"), "{}", manager.last_words());
    }
}

#[test]
fn manager_that_is_killed_again_and_again_while_it_comes_back_gets_one_new_id() {
    let cluster = Cluster::start(Plan::loopback(3)).expect("three managers");
    create(&cluster, "precious");
    let before = cluster.members().expect("a list");
    let manager = cluster.manager(2);
    manager.kill().expect("killed");
    flip(&files(manager, "log-")[0], IN_THE_FIRST_BATCH);
    // From before it asks to after it has its answer on disk.
    for words in ["asking the other managers", "starts anew", "ready member"] {
        let said = manager.log_text().len();
        manager.start().expect("starts");
        let told = cluster.ask("it to come so far", PATIENCE, || {
            let log = manager.log_text();
            (log[said..].contains(words) || log[said..].contains("message=ready")).then_some(())
        });
        told.expect("it comes so far");
        manager.kill().expect("killed");
    }
    manager.start().expect("starts");
    let after = comes_back(&cluster, manager, &before);
    let last = before.iter().map(|member| member.id).max().expect("three");
    let new = after.iter().map(|member| member.id).max().expect("three");
    assert_eq!(new, last + 1, "one id was enough: {after:?}");
}

#[test]
fn managers_that_are_all_damaged_refuse_and_name_the_commands() {
    let cluster = Cluster::start(Plan::loopback(3)).expect("three managers");
    create(&cluster, "precious");
    cluster.managers().iter().for_each(|manager| manager.kill().expect("killed"));
    for manager in cluster.managers() {
        flip(&files(manager, "log-")[0], IN_THE_FIRST_BATCH);
    }
    std::thread::scope(|scope| {
        for manager in cluster.managers() {
            scope.spawn(|| {
                let before = files(manager, "");
                let said = manager.call(&["run"]).expect("it ends");
                assert_ne!(said.code, 0, "{said:?}");
                for words in
                    ["is damaged at byte", "orch-manager check", "recover --others-are-gone", "backup"]
                {
                    assert!(said.err.contains(words), "{words}: {}", said.err);
                }
                assert_eq!(files(manager, ""), before, "nothing was taken away");
                let check = manager.call(&["check"]).expect("it ends");
                assert!(check.code != 0 && check.out.contains("NOT usable"), "{}", check.all());
            });
        }
    });
}

#[test]
fn only_manager_with_a_damaged_log_refuses_at_once() {
    let cluster = Cluster::start(Plan::loopback(1)).expect("one manager");
    let manager = cluster.manager(0);
    manager.kill().expect("killed");
    flip(&files(manager, "log-")[0], IN_THE_FIRST_BATCH);
    let said = manager.call(&["run"]).expect("it ends");
    assert!(said.code != 0 && said.err.contains("backup"), "{}", said.all());
}
