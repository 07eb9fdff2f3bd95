//! A child process that writes to a log and says what was acknowledged, to be killed or stopped.
//!
//! The child is this very test binary, asked to run the test `child_process` with a directory in its environment.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use wal::FileDisk;

use super::*;

const DIRECTORY: &str = "ORCH_WAL_CHILD_DIRECTORY";

/// Long enough for the slowest disk; a child that is silent for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Segments of several blocks of the file system, and small enough to be crossed within a test.
fn options() -> Options {
    Options { segment_bytes: 256 << 10, reserve_bytes: 256 << 10, low_water_bytes: 0, ..Options::new(11) }
}

/// Writes until it is killed, if this process is the child; returns at once otherwise.
pub fn write_if_child() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let disk = Arc::new(FileDisk::open(directory).expect("the directory opens"));
    let (mut wal, _) = Wal::open(disk, options()).expect("the log opens");
    let mut dice = Dice(u64::from(std::process::id()));
    say(&wal);
    loop {
        let first = wal.last().index + 1;
        let records: Vec<_> = (0..1 + dice.roll(4)).map(|at| numbered(first + at)).collect();
        let last = first + records.len() as u64 - 1;
        wal.append(&Batch { hard_state: hard_state(&last.to_string()), ..entries(records) })
            .expect("a healthy disk");
        say(&wal);
        match dice.roll(40) {
            0 => wal.seal().expect("a healthy disk"),
            1 => {
                let index = wal.last().index;
                if wal.snapshot().is_none_or(|meta| meta.index < index) {
                    take_snapshot(&mut wal, SnapshotMeta { index, term: 1 }, None).expect("a healthy disk");
                    wal.compact(index).expect("a healthy disk");
                }
            }
            _ => drop(wal.tend().expect("a healthy disk")),
        }
    }
}

fn numbered(index: u64) -> Record {
    record(index, 1, (index * 37 % 2000) as usize)
}

/// Reports past the test harness, which would hold back what is printed.
fn say(wal: &Wal) {
    let mut out = std::io::stdout();
    out.write_all(format!("acknowledged {}\n", wal.last().index).as_bytes()).expect("the parent listens");
    out.flush().expect("the parent listens");
}

/// Opens the log of a child that is gone and checks it against what it had acknowledged; returns the last index.
pub fn check_log(directory: &Path, acknowledged: u64) -> u64 {
    let disk = Arc::new(FileDisk::open(directory).expect("the directory opens"));
    let (wal, recovered) = Wal::open(disk, options()).expect("an intact log");
    let last = wal.last().index;
    assert!(last >= acknowledged, "lost entries {} to {acknowledged}", last + 1);
    let first = recovered.snapshot.map_or(0, |meta| meta.index) + 1;
    let expected: Vec<_> = (first..=last).map(numbered).collect();
    assert_eq!(recovered.entries, expected);
    if last > 0 {
        assert_eq!(
            recovered.hard_state,
            hard_state(&last.to_string()),
            "hard state and entries are torn apart"
        );
    }
    check_snapshot(&wal);
    last
}

/// A running child.
pub struct Writer {
    child: Child,
    acknowledged: Receiver<u64>,
    last: u64,
}

impl Writer {
    pub fn start(directory: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this test binary"))
            .args(["--exact", "child_process", "--nocapture"])
            .env(DIRECTORY, directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("this test binary runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (send, acknowledged) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The harness's own words may stand before the first report on its line.
                let index = line.rsplit_once("acknowledged ").and_then(|(_, index)| index.parse().ok());
                if index.is_some_and(|index| send.send(index).is_err()) {
                    return;
                }
            }
        });
        Self { child, acknowledged, last: 0 }
    }

    /// Waits for so many acknowledgements.
    pub fn wait_for(&mut self, count: u64) {
        for _ in 0..count {
            self.last = self.acknowledged.recv_timeout(PATIENCE).expect("the child goes on");
        }
    }

    /// Kills the child with SIGKILL and returns the last index that it acknowledged.
    pub fn kill(&mut self) -> u64 {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
        while let Ok(index) = self.acknowledged.recv_timeout(PATIENCE) {
            self.last = index;
        }
        self.last
    }

    /// Stops the child with SIGSTOP and returns an index that it had acknowledged by then.
    pub fn stop(&mut self) -> u64 {
        use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::STOP).expect("it runs");
        waitpid(Some(pid), WaitOptions::UNTRACED).expect("it stops");
        while let Ok(index) = self.acknowledged.try_recv() {
            self.last = index;
        }
        self.last
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
