//! The state of one instance: sessions, faults that are switched on, requests in flight.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Config;

/// One running application. All of it is lost with the process, as in the real one.
pub struct App {
    /// The settings it was started with.
    pub config: Config,
    /// The container's host name, from the kernel.
    pub hostname: String,
    /// When the process started; readiness counts from here.
    pub started: Instant,
    broken: AtomicBool,
    hung: AtomicBool,
    next_session: AtomicU64,
    asked: AtomicU64,
    sessions: Mutex<BTreeMap<String, String>>,
    ballast: Mutex<Vec<Vec<u8>>>,
    in_flight: Mutex<usize>,
    idle: Condvar,
}

impl App {
    /// An application that has just started, with no fault switched on.
    pub fn new(config: Config) -> App {
        App {
            hostname: hostname(),
            started: Instant::now(),
            broken: AtomicBool::new(config.broken),
            config,
            hung: AtomicBool::new(false),
            next_session: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            sessions: Mutex::default(),
            ballast: Mutex::default(),
            in_flight: Mutex::new(0),
            idle: Condvar::new(),
        }
    }

    /// Whether the start time has passed, that is, whether the application is deployed.
    pub fn ready(&self) -> bool {
        self.started.elapsed() >= self.config.start
    }

    /// Whether the status page shows an exception.
    pub fn broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Switches the exception on or off.
    pub fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::Relaxed);
    }

    /// Whether this request is one of those that fail.
    pub fn fails_now(&self) -> bool {
        let every = self.config.fail_every;
        every.is_some_and(|every| self.asked.fetch_add(1, Ordering::Relaxed) % every == every - 1)
    }

    /// Whether every worker must hang from now on.
    pub fn hung(&self) -> bool {
        self.hung.load(Ordering::Relaxed)
    }

    /// Makes every later request hang for ever.
    pub fn hang(&self) {
        self.hung.store(true, Ordering::Relaxed);
    }

    /// Opens a session for `user` and returns its id. Ids differ between instances, so that one replica's cookie is
    /// unknown to the next.
    pub fn log_in(&self, user: &str) -> String {
        let number = self.next_session.fetch_add(1, Ordering::Relaxed);
        let id =
            format!("{:016X}.{}", RandomState::new().hash_one((number, std::process::id())), self.hostname);
        held(&self.sessions).insert(id.clone(), user.to_owned());
        id
    }

    /// The user of a session of this instance.
    pub fn user_of(&self, session: &str) -> Option<String> {
        held(&self.sessions).get(session).cloned()
    }

    /// Takes `mb` MiB more and touches every page; returns the total in MiB. Never given back.
    pub fn leak(&self, mb: usize) -> usize {
        let mut ballast = held(&self.ballast);
        for _ in 0..mb {
            ballast.push(vec![0xA5; 1 << 20]);
        }
        ballast.len()
    }

    /// Counts a request in; the guard counts it out.
    pub fn enter(&self) -> InFlight<'_> {
        *held(&self.in_flight) += 1;
        InFlight(self)
    }

    /// Waits until no request is in flight, for `limit` at most. Returns how many are left.
    pub fn drain(&self, limit: Duration) -> usize {
        let guard = held(&self.in_flight);
        let (left, _) = self
            .idle
            .wait_timeout_while(guard, limit, |count| *count > 0)
            .unwrap_or_else(PoisonError::into_inner);
        *left
    }

    /// Writes one line to stdout. A closed stdout is no reason to stop serving.
    pub fn log(&self, line: &str) {
        let mut out = std::io::stdout().lock();
        let stamp = self.started.elapsed().as_secs_f64();
        drop(writeln!(out, "[{stamp:9.3}] {line}").and_then(|()| out.flush()));
    }
}

/// A request in flight.
pub struct InFlight<'a>(&'a App);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        *held(&self.0.in_flight) -= 1;
        self.0.idle.notify_all();
    }
}

/// Locks; a worker that panicked leaves values that are still whole, since each is changed by one call.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |s| s.trim().to_owned())
}
