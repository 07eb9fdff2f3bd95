//! A daemon under test: its log in a file, its signals by pid, its end when the handle is dropped.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{reaper, wait};

/// A process that this one started.
///
/// Inside a host there are two: `nsenter`, which is our child and waits, and the daemon, which is its child and gets
/// the signals. [`Process::pid`] is the daemon's, as the root namespace counts.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: i32,
    log: PathBuf,
    child: Mutex<Child>,
}

impl Process {
    /// Starts `command` with both outputs appended to `logs/NAME.log`, in a process group of its own so that a Ctrl-C
    /// reaches only the test.
    ///
    /// # Errors
    /// The log or the program cannot be opened.
    pub fn spawn(name: &str, logs: &Path, mut command: Command) -> Result<Process> {
        Process::start(name, logs, &mut command, false)
    }

    /// Starts a command made by `nsenter`; the pid is that of the program which it runs.
    ///
    /// # Errors
    /// As [`Process::spawn`], or `nsenter` ended before it ran the program.
    pub fn spawn_entered(name: &str, logs: &Path, mut command: Command) -> Result<Process> {
        Process::start(name, logs, &mut command, true)
    }

    fn start(name: &str, logs: &Path, command: &mut Command, entered: bool) -> Result<Process> {
        std::fs::create_dir_all(logs)?;
        let log = logs.join(format!("{name}.log"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let child = command.spawn().with_context(|| crate::command::line_of(command))?;
        let outer = i32::try_from(child.id()).context("pid out of range")?;
        let mut process = Process { name: name.to_owned(), pid: outer, log, child: Mutex::new(child) };
        if entered {
            process.pid = process.first_child(outer)?;
        }
        reaper::entrust(process.pid);
        Ok(process)
    }

    fn first_child(&self, outer: i32) -> Result<i32> {
        let found =
            wait::until(&format!("{} to enter its host", self.name), Duration::from_secs(10), || {
                child_of(outer).map(Some).or_else(|| self.exited().map(|_| None))
            })?;
        found.with_context(|| format!("{} ended at once:\n{}", self.name, self.log_text()))
    }

    /// The name that it was started with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The daemon's pid in the root namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// All output so far.
    pub fn log_text(&self) -> String {
        std::fs::read(&self.log)
            .map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits for a line that contains `text` and returns it.
    ///
    /// # Errors
    /// `limit` passed or the process ended first; the message holds the end of the log.
    pub fn wait_for_line(&self, text: &str, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        let what = format!("{text:?} in the log of {}", self.name);
        let found = wait::until(&what, limit, || {
            let ended = self.exited().is_some();
            let line = self.log_text().lines().find(|line| line.contains(text)).map(str::to_owned);
            (line.is_some() || ended || Instant::now() >= deadline).then_some(line)
        })?;
        found.with_context(|| format!("no {what}; its last lines:\n{}", tail(&self.log_text(), 20)))
    }

    /// The exit status once it has ended.
    pub fn exited(&self) -> Option<ExitStatus> {
        self.held().try_wait().ok().flatten()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// `limit` passed first.
    pub fn wait_exit(&self, limit: Duration) -> Result<ExitStatus> {
        wait::until(&format!("{} to end", self.name), limit, || self.exited())
    }

    /// Sends a signal to the daemon.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if self.exited().is_some() {
            bail!("{} has ended", self.name);
        }
        let pid = Pid::from_raw(self.pid).context("pid 0")?;
        kill_process(pid, signal).with_context(|| format!("{signal:?} to {}", self.name))
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// It does not end within ten seconds.
    pub fn kill(&self) -> Result<()> {
        if self.exited().is_none() {
            drop(self.signal(Signal::KILL));
            self.signal_outer(Signal::CONT);
        }
        self.wait_exit(Duration::from_secs(10)).map(drop)
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// `limit` passed first.
    pub fn terminate(&self, limit: Duration) -> Result<ExitStatus> {
        if self.exited().is_none() {
            self.signal(Signal::TERM)?;
        }
        self.wait_exit(limit)
    }

    /// SIGSTOP, and waits until every thread has stopped: the process is there, and silent.
    ///
    /// # Errors
    /// It has ended.
    pub fn freeze(&self) -> Result<()> {
        // First the outer one, until it has stopped: if it saw its child stop, it would stop itself once more after
        // it is continued, and then continue both when it is continued again.
        if let Some(outer) = self.outer() {
            self.signal_outer(Signal::STOP);
            self.wait_stopped(outer)?;
        }
        self.signal(Signal::STOP)?;
        self.wait_stopped(self.pid)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// It has ended.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT)?;
        self.signal_outer(Signal::CONT);
        Ok(())
    }

    fn wait_stopped(&self, pid: i32) -> Result<()> {
        wait::until_true(&format!("{} to stop", self.name), Duration::from_secs(10), || all_stopped(pid))
    }

    /// `nsenter` stops itself when its child stops, and would then never report the child's end.
    fn signal_outer(&self, signal: Signal) {
        if let Some(outer) = self.outer().and_then(Pid::from_raw) {
            let _ = kill_process(outer, signal);
        }
    }

    /// The pid of `nsenter`, inside a host.
    fn outer(&self) -> Option<i32> {
        i32::try_from(self.held().id()).ok().filter(|outer| *outer != self.pid)
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.kill());
    }
}

/// The first child of `pid`, as the root namespace counts.
pub fn child_of(pid: i32) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// Whether every thread of `pid` is stopped; on a loaded machine that takes a while after the signal.
fn all_stopped(pid: i32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let mut states = threads.flatten().filter_map(|thread| {
        // The state is the letter after the program's name, which is in parentheses and may hold any.
        let stat = std::fs::read_to_string(thread.path().join("stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    });
    states.all(|state| matches!(state, 'T' | 't' | 'Z' | 'X'))
}

/// The last `lines` lines of `text`.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
