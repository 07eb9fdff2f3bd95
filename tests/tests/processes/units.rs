//! What systemd makes of the units in deploy/systemd, and what the daemons do for themselves without it.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::binaries::{Binaries, workspace};
use tests::cluster::{Cluster, Plan};
use tests::command::run;
use tests::require::{Need, can_run};

/// The unit as it would be installed, except that its program is the one of this workspace.
fn unit(program: &Path, into: &Path) -> PathBuf {
    let name = program.file_name().and_then(|name| name.to_str()).expect("a program");
    let file = format!("{name}.service");
    let text = std::fs::read_to_string(workspace().join("deploy/systemd").join(&file)).expect("a unit");
    let start = format!("ExecStart=/usr/bin/{name} run");
    assert!(text.contains(&start), "{file} starts {name}");
    let text = text.replace(&start, &format!("ExecStart={} run", program.display()));
    std::fs::write(into.join(&file), text).expect("written");
    into.join(file)
}

fn analyze(words: &[&str], unit: &Path) -> String {
    run(Command::new("systemd-analyze").args(words).arg(unit)).expect("systemd has nothing to say against it")
}

#[test]
fn systemd_accepts_both_units_and_finds_little_exposed() {
    if !can_run("systemd_accepts_both_units_and_finds_little_exposed", &[Need::Units]) {
        return;
    }
    let programs = Binaries::get().expect("programs");
    let dir = tempfile::tempdir().expect("a directory");
    // In tenths of systemd's measure: a service without any of it has 96, and the agent needs the network's rules.
    for (program, most) in [(programs.manager, 22), (programs.agent, 34)] {
        let unit = unit(&program, dir.path());
        analyze(&["verify", "--man=no"], &unit);
        analyze(&["security", "--offline=true", "--no-pager", &format!("--threshold={most}")], &unit);
        let text = std::fs::read_to_string(&unit).expect("a unit");
        for line in ["LimitCORE=0", "NoNewPrivileges=yes", "ProtectSystem=strict", "UMask=0077"] {
            assert!(text.lines().any(|said| said == line), "{}: no {line}", unit.display());
        }
    }
}

#[test]
fn manager_allows_no_image_of_its_memory() {
    let cluster = Cluster::start(Plan::loopback(1)).expect("one manager");
    let pid = cluster.manager(0).pid().expect("it runs");
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("a process");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    let words: Vec<&str> = core.split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{core}");
}
