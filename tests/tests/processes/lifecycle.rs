//! One manager's life: first start, restart on its disk, a second start, a clean end.

use tests::cluster::{Cluster, Plan};
use tests::command::finish;
use tests::process::Process;

use super::PATIENCE;

fn one() -> Cluster {
    Cluster::start(Plan::loopback(1)).expect("one manager")
}

#[test]
fn manager_comes_back_with_its_state_after_a_clean_stop_and_after_a_kill() {
    let cluster = one();
    let ctl = cluster.ctl();
    ctl.ok(&["service", "create", "--name", "first", "--replicas", "0", "--detach", "orch/mimic:1"])
        .expect("created");
    let status = cluster.manager(0).stop().expect("it ends");
    assert_eq!(status.code(), Some(0), "a clean shutdown exits with 0");
    cluster.manager(0).start().expect("started");
    ctl.ok(&["service", "create", "--name", "second", "--replicas", "0", "--detach", "orch/mimic:1"])
        .expect("created");
    cluster.manager(0).kill().expect("killed");
    cluster.manager(0).start().expect("started");
    let names = ctl.ok(&["service", "ls"]).expect("a list");
    assert!(names.contains("first") && names.contains("second"), "{names}");
}

#[test]
fn second_start_on_the_same_directory_is_refused_and_disturbs_nothing() {
    let cluster = one();
    let manager = cluster.manager(0);
    let second = manager.call(&["run"]).expect("it ends by itself");
    assert_ne!(second.code, 0);
    assert!(second.err.contains("in use"), "{}", second.err);
    let again = manager.call(&["init"]).expect("it ends by itself");
    assert_ne!(again.code, 0);
    assert!(again.err.contains("already holds a manager"), "{}", again.err);
    cluster.ctl().ok(&["status"]).expect("the first one serves");
}

#[test]
fn directory_without_a_manager_and_a_wrong_setting_are_refused_with_what_to_do() {
    let cluster = one();
    let manager = cluster.manager(0);
    let empty = tempfile::tempdir().expect("a directory");
    let program = tests::binaries::Binaries::get().expect("programs").manager;
    let mut run = std::process::Command::new(program);
    run.args(["run", "--dir"]).arg(empty.path());
    let said = String::from_utf8(finish(&mut run).expect("it ends").stderr).expect("text");
    assert!(said.contains("orch-manager init"), "{said}");

    manager.stop().expect("it ends");
    let settings = manager.dir().join("manager.toml");
    let before = std::fs::read_to_string(&settings).unwrap_or_default();
    for (wrong, named) in [("lisen = \"x\"", "lisen"), ("[raft]\ntick_ms = 1", "raft.tick_ms")] {
        std::fs::write(&settings, wrong).expect("written");
        let said = manager.call(&["run"]).expect("it ends");
        assert_ne!(said.code, 0);
        assert!(said.err.contains(named), "it names the setting: {}", said.err);
    }
    std::fs::write(&settings, before).expect("written");
    manager.start().expect("starts");
    cluster.ask("an answer", PATIENCE, || cluster.ctl().ok(&["status"]).ok()).expect("serves again");
}

#[test]
fn damaged_log_is_refused_and_not_truncated() {
    let cluster = one();
    let ctl = cluster.ctl();
    for number in 0..20 {
        let name = format!("s{number}");
        ctl.ok(&["service", "create", "--name", &name, "--replicas", "0", "--detach", "orch/mimic:1"])
            .expect("created");
    }
    let manager = cluster.manager(0);
    manager.kill().expect("killed");
    let check = manager.call(&["check"]).expect("it ends");
    assert_eq!(check.code, 0, "the log is whole: {}", check.all());
    flip_a_byte(&manager.dir().join("raft"));
    let run = manager.call(&["run"]).expect("it ends by itself");
    assert_ne!(run.code, 0, "{}", run.all());
    let check = manager.call(&["check"]).expect("it ends");
    assert_ne!(check.code, 0, "{}", check.all());
}

/// Damages an acknowledged record: the first byte of the log's first service's name.
fn flip_a_byte(raft: &std::path::Path) {
    let hit = std::fs::read_dir(raft).expect("a directory").flatten().find_map(|file| {
        let bytes = std::fs::read(file.path()).ok()?;
        let at = bytes.windows(12).position(|window| window == b"orch/mimic:1")?;
        Some((file.path(), bytes, at))
    });
    let (path, mut bytes, at) = hit.expect("a service lies in the log");
    bytes[at] ^= 1;
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn port_that_is_taken_is_named() {
    let cluster = one();
    let manager = cluster.manager(0);
    manager.stop().expect("it ends");
    let address = cluster.address(0);
    let _taken = std::net::TcpListener::bind(&address).expect("the port is free");
    let said = manager.call(&["run"]).expect("it ends by itself");
    assert_ne!(said.code, 0);
    assert!(said.err.contains(&address), "{}", said.err);
}

#[test]
fn init_and_join_make_nothing_when_they_are_refused() {
    let cluster = one();
    let place = tempfile::tempdir().expect("a directory");
    let programs = tests::binaries::Binaries::get().expect("programs");
    for (program, dir) in [(&programs.manager, "manager"), (&programs.agent, "agent")] {
        let dir = place.path().join(dir);
        let mut join = std::process::Command::new(program);
        join.args(["join", "--manager", &cluster.address(0), "--token", "nonsense", "--dir"]).arg(&dir);
        let output = finish(&mut join).expect("it ends");
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("token"), "{output:?}");
        assert!(!dir.join("identity.toml").exists());
    }
    let logs = place.path().join("logs");
    let mut run = std::process::Command::new(&programs.agent);
    run.args(["run", "--dir"]).arg(place.path().join("agent"));
    let agent = Process::spawn("agent", &logs, run).expect("started");
    assert_ne!(agent.wait_exit(PATIENCE).expect("it ends").code(), Some(0), "an agent that never joined");
}
