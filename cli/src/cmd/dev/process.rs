//! One daemon in the background: started into its own process group, known by process id and start time.
//!
//! A process id alone may have been given to another process since; with the time at which the kernel started it, it
//! names one process for ever. Nothing is ever signalled that does not match both.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::exit::Failure;

/// How long a daemon may take to end by itself.
const GRACE: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// The end of a log that is shown when a daemon does not start.
const LOG_LINES: usize = 15;

/// A daemon of the cluster on this machine.
pub struct Daemon {
    name: &'static str,
    pid_file: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// The daemon whose files lie in `dir`.
    pub fn new(dir: &Path, name: &'static str) -> Self {
        Self { name, pid_file: dir.join(format!("{name}.pid")), log: dir.join(format!("{name}.log")) }
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<i32> {
        let text = fs::read_to_string(&self.pid_file).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        let pid: i32 = pid.parse().ok()?;
        (start_time(pid)? == started.parse::<u64>().ok()?).then_some(pid)
    }

    /// Starts it in the background; its output goes to its log.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, program: &Path, arguments: &[&std::ffi::OsStr]) -> Result<(), Failure> {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(|error| Failure::file("write", &self.log, &error))?;
        let again = log.try_clone().map_err(|error| Failure::file("write", &self.log, &error))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(again)
            // Ctrl-C in the terminal is meant for orchctl.
            .process_group(0)
            .spawn()
            .map_err(|error| Failure::file("start", program, &error))?;
        let pid = i32::try_from(child.id()).expect("process ids are positive and small");
        let started = start_time(pid).unwrap_or_default();
        fs::write(&self.pid_file, format!("{pid} {started}\n"))
            .map_err(|error| Failure::file("write", &self.pid_file, &error))
    }

    /// Asks it to end, waits, and ends it by force when it does not. Says whether it ran.
    ///
    /// # Errors
    /// It is not allowed, or it cannot be ended.
    pub async fn stop(&self) -> Result<bool, Failure> {
        let Some(pid) = self.pid() else {
            let _ = fs::remove_file(&self.pid_file);
            return Ok(false);
        };
        for (signal, patience) in [(Signal::TERM, GRACE), (Signal::KILL, GRACE)] {
            self.signal(pid, signal)?;
            let end = Instant::now() + patience;
            while self.pid().is_some() && Instant::now() < end {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            if self.pid().is_none() {
                let _ = fs::remove_file(&self.pid_file);
                return Ok(true);
            }
        }
        Err(Failure::error(format!("the {} (process {pid}) does not end", self.name)))
    }

    /// The failure of a daemon that did not come up, with the end of its log.
    pub fn failure(&self, what: &str) -> Failure {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
        Failure::error(format!("the {} {what}; the end of {}:\n  {tail}", self.name, self.log.display()))
    }

    fn signal(&self, pid: i32, signal: Signal) -> Result<(), Failure> {
        let process = Pid::from_raw(pid).expect("a running process has a positive id");
        match kill_process(process, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => {
                Err(Failure::error(format!("cannot end the {} (process {pid}): {error}", self.name)))
            }
        }
    }
}

/// When the kernel started a process, in its own ticks; `None` when there is none, or only its remains.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything; the fields follow the last one.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if matches!(fields.first(), Some(&"Z" | &"X")) {
        return None;
    }
    fields.get(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[tokio::test]
    async fn a_daemon_is_found_again_and_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let daemon = Daemon::new(dir.path(), "manager");
        assert!(!daemon.stop().await.unwrap(), "nothing runs yet");
        daemon.start(Path::new("sleep"), &[OsStr::new("1000")]).unwrap();
        assert!(daemon.pid().is_some());
        assert!(Daemon::new(dir.path(), "manager").stop().await.unwrap());
        assert_eq!(daemon.pid(), None);
    }

    #[tokio::test]
    async fn another_process_with_the_same_id_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let daemon = Daemon::new(dir.path(), "agent");
        fs::write(dir.path().join("agent.pid"), format!("{} 1\n", std::process::id())).unwrap();
        assert_eq!(daemon.pid(), None);
        assert!(!daemon.stop().await.unwrap());
    }
}
