//! Power cuts without special hardware: a fresh ext4 on a loop file, a child that writes to it, SIGSTOP, a copy of the
//! backing file (which is what the kernel had issued by then), the copy mounted and its log opened.
//!
//! Needs root, mkfs.ext4 and loop mounts; says aloud when it cannot run, and fails then if ORCH_REQUIRE_ALL is 1.

mod common;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::child::{Writer, check_log, write_if_child};
use common::{Dice, counted, rounds};

const IMAGE_BYTES: u64 = 64 << 20;

#[test]
fn child_process() {
    write_if_child();
}

#[test]
fn a_power_cut_while_a_child_writes_loses_nothing_acknowledged() {
    let scratch = tempfile::tempdir().expect("a directory for the test");
    let image = scratch.path().join("image");
    let mounted = match prepare(&image, &scratch.path().join("live")) {
        Ok(mounted) => mounted,
        Err(reason) => return not_run(&reason),
    };
    let log = mounted.path.join("wal");
    std::fs::create_dir(&log).expect("a fresh file system");
    let mut dice = Dice(5);
    let mut last = 0;
    for round in 0..rounds(6) {
        let mut writer = Writer::start(&log);
        writer.wait_for(2 + dice.roll(150));
        let acknowledged = writer.stop();
        let copy = scratch.path().join("copy");
        std::fs::copy(&image, &copy).expect("the image is copied");
        let after = Mount::new(&copy, &scratch.path().join("after")).expect("the copy mounts");
        let found = check_log(&after.path.join("wal"), acknowledged);
        assert!(acknowledged > last, "round {round} wrote something");
        drop(after);
        drop(writer);
        last = check_log(&log, found.min(acknowledged));
    }
    counted("power cuts on ext4", rounds(6));
}

fn prepare(image: &Path, at: &Path) -> Result<Mount, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("needs root".to_owned());
    }
    File::create(image).and_then(|file| file.set_len(IMAGE_BYTES)).map_err(|error| error.to_string())?;
    run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image))?;
    Mount::new(image, at)
}

fn not_run(reason: &str) {
    let line = format!("NOT RUN: power cut: {reason}\n");
    // Past the harness, which keeps the output of tests that pass to itself.
    std::io::stderr().write_all(line.as_bytes()).expect("stderr is open");
    assert!(std::env::var("ORCH_REQUIRE_ALL").as_deref() != Ok("1"), "{line}");
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// A mounted image; unmounted when dropped.
struct Mount {
    path: PathBuf,
}

impl Mount {
    fn new(image: &Path, at: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(at).map_err(|error| error.to_string())?;
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(at))?;
        Ok(Self { path: at.to_owned() })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(reason) = run(Command::new("umount").arg(&self.path)) {
            std::io::stderr().write_all(format!("{reason}\n").as_bytes()).ok();
        }
    }
}
