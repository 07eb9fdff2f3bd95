//! What earlier releases left on disk is read by this one: a manager's whole data directory of each, kept as an archive.
//!
//! The archives hold an authority's key, made for this purpose and used nowhere. Files are sparse when unpacked; the
//! reserve for a full disk, 64 MiB of nothing, is left out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use manager_core::{Recovered, SnapshotBlob};
use model::time::WallTime;
use tests::binaries::Binaries;
use tests::cluster::ctl::Said;
use tests::cluster::{Cluster, PATIENCE, Plan};
use tests::command::{finish, run};
use wal::{FileDisk, Options, Wal};

/// One archive a release.
const RELEASES: [&str; 1] = ["manager-0.1.0"];
/// Enough for a snapshot and some entries behind it, by the lowest setting that a manager takes.
const SERVICES: usize = 60;
const SNAPSHOT_ENTRIES: u64 = 100;

fn archive(release: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(format!("{release}.tar.gz"))
}

fn unpack(release: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    run(Command::new("tar").args(["-xzSf"]).arg(archive(release)).arg("-C").arg(dir.path()))
        .expect("unpacked");
    dir
}

fn manager(words: &[&str], dir: &Path) -> Said {
    let program = Binaries::get().expect("programs").manager;
    finish(Command::new(program).args(words).arg("--dir").arg(dir)).expect("it ends").into()
}

/// Reads the log as the daemon does.
fn recovered(raft: &Path) -> Recovered {
    let disk = Arc::new(FileDisk::existing(raft).expect("a log"));
    let (wal, found) = Wal::open(disk, Options { create: false, ..Options::new(0) }).expect("it opens");
    let mut reader = wal.read_snapshot().expect("readable").expect("a snapshot was taken");
    let mut stored = Vec::new();
    while let Some(chunk) = reader.next_chunk().expect("whole") {
        stored.extend_from_slice(&chunk);
    }
    let meta = reader.meta();
    // The length of the membership, the membership, the state.
    let length = u32::from_le_bytes(stored[..4].try_into().expect("four bytes")) as usize;
    let state = stored.split_off(4 + length);
    let snapshot = SnapshotBlob {
        index: meta.index,
        term: meta.term,
        conf: stored.split_off(4).into(),
        bytes: state.into(),
    };
    let entry = |r: wal::Record| manager_core::LogRecord {
        index: r.index,
        term: r.term,
        kind: r.kind,
        payload: r.payload,
    };
    Recovered {
        hard_state: found.hard_state,
        snapshot: Some(snapshot),
        entries: found.entries.into_iter().map(entry).collect(),
    }
}

#[test]
fn data_directory_of_every_release_is_read_whole() {
    for release in RELEASES {
        let dir = unpack(release);
        let check = manager(&["check"], dir.path());
        assert!(check.code == 0 && check.out.contains("The log is intact"), "{release}: {}", check.all());

        let found = recovered(&dir.path().join("raft"));
        assert!(!found.entries.is_empty(), "{release}: entries behind the snapshot");
        let now = WallTime(1_900_000_000_000_000);
        let state = manager_core::recover(&found, "m1:7420", now).expect("every entry is understood").state;
        let mut names: Vec<&str> = state.services().map(|service| service.spec.name.as_str()).collect();
        names.sort_unstable();
        let expected: Vec<String> = (0..SERVICES).map(|number| format!("service-{number:02}")).collect();
        assert_eq!(names, expected, "{release}");
        for service in state.services() {
            assert_eq!(service.spec.labels.get("team").map(String::as_str), Some("mx"), "{release}");
            assert_eq!(service.spec.template.container.image, "orch/mimic:1", "{release}");
        }

        // The program itself does it too, and gives the survivor a new certificate.
        let said = manager(&["recover", "--others-are-gone"], dir.path());
        assert_eq!(said.code, 0, "{release}: {}", said.all());
        let check = manager(&["check"], dir.path());
        assert_eq!(check.code, 0, "{release}: {}", check.all());
    }
}

/// Writes the archive of this release; run by hand before it, when it stores something new.
#[test]
#[ignore = "writes test data"]
fn write_data_directory() {
    let cluster = Cluster::start(Plan::loopback(1)).expect("one manager");
    let manager = cluster.manager(0);
    manager.stop().expect("it ends");
    let settings = manager.dir().join("manager.toml");
    let text = fs::read_to_string(&settings).unwrap_or_default();
    fs::write(&settings, format!("{text}[snapshot]\nentries = {SNAPSHOT_ENTRIES}\n")).expect("written");
    manager.start().expect("starts");
    cluster.ask("an answer", PATIENCE, || cluster.ctl().ok(&["status"]).ok()).expect("it serves");
    for number in 0..SERVICES {
        let name = format!("service-{number:02}");
        let args =
            ["service", "create", "--name", &name, "--replicas", "0", "--label", "team=mx", "--detach"];
        cluster.ctl().ok(&[&args[..], &["orch/mimic:1"]].concat()).expect("created");
        let update = ["service", "update", "--label-add", "changed=yes", "--detach", &name];
        cluster.ctl().ok(&update).expect("updated");
    }
    manager.stop().expect("it ends");
    let release = format!("manager-{}", env!("CARGO_PKG_VERSION"));
    let into = archive(&release);
    fs::create_dir_all(into.parent().expect("a directory")).expect("made");
    let mut tar = Command::new("tar");
    tar.args(["-czSf"]).arg(into).args(["--exclude=reserve", "-C"]).arg(manager.dir()).arg(".");
    run(&mut tar).expect("packed");
}
