//! The ground a laboratory stands on: a unique name, a directory on a disk, and somebody who clears up after it.
//!
//! Clearing up is not a destructor's job alone: a test that is killed runs none. So a small shell, in a session of its
//! own, holds the read end of a pipe; when the test process ends, however it ends, the pipe closes and the shell
//! removes namespaces, control groups and the directory. A machine that went down in between leaves a directory whose
//! lock nobody holds, and the next laboratory clears that.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

/// Overrides [`PLACE`]; must be on a disk with an overlay-capable file system.
const PLACE_VARIABLE: &str = "ORCH_LAB_DIR";
/// Not /tmp, which is memory on newer systems: images and fsync figures belong on a disk.
const PLACE: &str = "/var/tmp/orch-lab";
const LOCK: &str = "lock";
const CLAIMING: &str = "claiming";
const LOGS: &str = "logs";

/// Arguments: the directory, the prefix of the namespaces. Idempotent, since two may clear the same ground.
const CLEAR: &str = r#"
dir=$1 prefix=$2
for ns in $(ip netns list | cut -d' ' -f1 | grep "^$prefix-"); do
  for pid in $(ip netns pids "$ns" 2>/dev/null); do kill -9 "$pid" 2>/dev/null; done
  tries=0
  while [ -n "$(ip netns pids "$ns" 2>/dev/null)" ] && [ $tries -lt 200 ]; do sleep 0.05; tries=$((tries + 1)); done
  ip netns del "$ns" 2>/dev/null
done
find /sys/fs/cgroup -depth -type d -path "*/$prefix-*" -exec rmdir {} \; 2>/dev/null
rm -rf "$dir"
"#;

/// A claimed name, directory and number.
#[derive(Debug)]
pub struct Ground {
    prefix: String,
    dir: PathBuf,
    number: u8,
    janitor: Child,
    _lock: File,
    _number_lock: File,
}

impl Ground {
    /// Clears abandoned grounds and claims a new one.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn claim() -> Result<Ground> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let place = std::env::var_os(PLACE_VARIABLE).map_or_else(|| PathBuf::from(PLACE), PathBuf::from);
        std::fs::create_dir_all(&place).with_context(|| place.display().to_string())?;
        // One claims at a time: a directory whose lock is not held yet looks abandoned.
        let claiming = File::create(place.join(CLAIMING))?;
        claiming.lock()?;
        clear_abandoned(&place);
        let prefix = format!("orch-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = place.join(&prefix);
        std::fs::create_dir_all(dir.join(LOGS)).with_context(|| dir.display().to_string())?;
        let lock = File::create(dir.join(LOCK))?;
        lock.lock()?;
        drop(claiming);
        let (number, number_lock) = claim_number(&place)?;
        let janitor = janitor(&dir, &prefix)?;
        Ok(Ground { prefix, dir, number, janitor, _lock: lock, _number_lock: number_lock })
    }

    /// The name of a part of this laboratory, unique on the machine.
    pub fn name(&self, part: &str) -> String {
        format!("{}-{part}", self.prefix)
    }

    /// A number that no other laboratory on this machine has now; its subnet.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its directory of logs.
    pub fn logs(&self) -> PathBuf {
        self.dir.join(LOGS)
    }

    /// Moves the logs to where they outlive the laboratory; daemons that run write on into them.
    ///
    /// # Errors
    /// They are moved already.
    pub fn keep_logs(&self) -> Result<PathBuf> {
        let kept = self.dir.with_file_name("kept-logs").join(&self.prefix);
        std::fs::create_dir_all(&kept)?;
        std::fs::remove_dir(&kept)?;
        std::fs::rename(self.logs(), &kept)?;
        Ok(kept)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if std::thread::panicking() {
            match self.keep_logs() {
                Ok(kept) => eprintln!("the daemons' logs: {}", kept.display()),
                Err(error) => eprintln!("the daemons' logs are lost: {error:#}"),
            }
        }
        drop(self.janitor.stdin.take());
        drop(self.janitor.wait());
    }
}

/// The lowest free number, held by the lock on its file.
fn claim_number(place: &Path) -> Result<(u8, File)> {
    let numbers = place.join("numbers");
    std::fs::create_dir_all(&numbers)?;
    for number in 0..=u8::MAX {
        let file = File::create(numbers.join(number.to_string()))?;
        match file.try_lock() {
            Ok(()) => return Ok((number, file)),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
    anyhow::bail!("256 laboratories run on this machine")
}

fn janitor(dir: &Path, prefix: &str) -> Result<Child> {
    let script = format!("cat >/dev/null\n{CLEAR}");
    Command::new("setsid")
        .args(["sh", "-c", &script, "janitor"])
        .arg(dir)
        .arg(prefix)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start the janitor")
}

/// Clears what dead processes left. A failure here is no reason not to start: the names are new.
fn clear_abandoned(place: &Path) {
    let Ok(entries) = std::fs::read_dir(place) else { return };
    for dir in entries.flatten().map(|entry| entry.path()) {
        let Some(prefix) =
            dir.file_name().and_then(|name| name.to_str()).filter(|name| name.starts_with("orch-"))
        else {
            continue;
        };
        let abandoned = match File::open(dir.join(LOCK)) {
            Ok(file) => !matches!(file.try_lock(), Err(TryLockError::WouldBlock)),
            Err(_) => false,
        };
        if abandoned {
            drop(Command::new("sh").args(["-c", CLEAR, "clear"]).arg(&dir).arg(prefix).output());
        }
    }
}
