//! A manager or an agent: its directory, and its process while it has one.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::ctl::Said;
use super::seat::Seat;
use crate::command::finish;
use crate::process::{Process, tail};
use crate::shim::Shim;

/// A clean end: open calls get two seconds.
const STOP: Duration = Duration::from_secs(20);

/// One daemon. All methods take `&self`, so that a test can write on one thread and kill on another.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    program: PathBuf,
    dir: PathBuf,
    process: Mutex<Option<Process>>,
    shim: OnceLock<Shim>,
    // Last, so that the laboratory outlives the process.
    seat: Seat,
}

impl Daemon {
    pub(super) fn new(name: &str, program: &Path, dir: PathBuf, seat: Seat) -> Daemon {
        Daemon {
            name: name.to_owned(),
            program: program.to_owned(),
            dir,
            process: Mutex::new(None),
            shim: OnceLock::new(),
            seat,
        }
    }

    /// `m1` or `h1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it runs.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where it runs.
    pub fn seat(&self) -> &Seat {
        &self.seat
    }

    /// Starts `run`; returns at once.
    ///
    /// # Errors
    /// It runs already, or cannot be started.
    pub fn start(&self) -> Result<()> {
        let mut held = self.held();
        if held.as_ref().is_some_and(|process| process.exited().is_none()) {
            bail!("{} runs already", self.name);
        }
        let mut command = self.command(&["run"]);
        if let Some(shim) = self.shim() {
            command.envs(shim.environment());
        }
        *held = Some(self.seat.spawn(&self.name, command)?);
        Ok(())
    }

    /// Puts a shim between its disk and clock and the kernel's, from its next start on.
    ///
    /// # Panics
    /// It has one.
    pub fn set_shim(&self, shim: Shim) {
        self.shim.set(shim).expect("one shim");
    }

    /// Its shim, if it was given one.
    pub fn shim(&self) -> Option<&Shim> {
        self.shim.get()
    }

    /// Runs one of its commands to the end: `orch-manager leave --dir DIR`.
    ///
    /// # Errors
    /// It cannot be started; a failing exit code is no error.
    pub fn call(&self, words: &[&str]) -> Result<Said> {
        finish(&mut self.command(words)).map(Said::from)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.seat.command(&self.program);
        command.args(words).arg("--dir").arg(&self.dir);
        command
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// It was never started.
    pub fn kill(&self) -> Result<()> {
        self.process(Process::kill)
    }

    /// SIGSTOP: there, and silent.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&self) -> Result<()> {
        self.process(Process::freeze)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// It does not run.
    pub fn thaw(&self) -> Result<()> {
        self.process(Process::thaw)
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn stop(&self) -> Result<ExitStatus> {
        self.process(|process| process.terminate(STOP))
    }

    /// Waits for it to end by itself.
    ///
    /// # Errors
    /// `limit` passed first.
    pub fn wait_exit(&self, limit: Duration) -> Result<ExitStatus> {
        self.process(|process| process.wait_exit(limit))
    }

    /// Whether it runs; a frozen one does.
    pub fn runs(&self) -> bool {
        self.held().as_ref().is_some_and(|process| process.exited().is_none())
    }

    /// Its process, while it has one.
    pub fn pid(&self) -> Option<i32> {
        self.held().as_ref().map(Process::pid)
    }

    /// All that it printed, over all its starts.
    pub fn log_text(&self) -> String {
        self.held().as_ref().map(Process::log_text).unwrap_or_default()
    }

    /// The end of its log, for a message.
    pub fn last_words(&self) -> String {
        format!("--- {}\n{}", self.name, tail(&self.log_text(), 15))
    }

    fn process<T>(&self, act: impl FnOnce(&Process) -> Result<T>) -> Result<T> {
        act(self.held().as_ref().with_context(|| format!("{} was never started", self.name))?)
    }

    fn held(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
