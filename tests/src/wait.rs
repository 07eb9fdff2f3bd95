//! Waiting for a condition with a deadline. The only place of the laboratory that polls.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Short enough to measure engine starts by, long enough to leave a shared core alone.
const POLL: Duration = Duration::from_millis(5);

/// Asks `probe` until it gives a value, and returns it.
///
/// # Errors
/// `limit` passed first; the message says for what it waited.
pub fn until<T>(what: &str, limit: Duration, probe: impl FnMut() -> Option<T>) -> Result<T> {
    until_every(POLL, what, limit, probe)
}

/// As [`until`], with a longer pause between two questions: for a probe that costs a process.
///
/// # Errors
/// As [`until`].
pub fn until_every<T>(
    pause: Duration,
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Option<T>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe() {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {limit:?} in vain for {what}");
        }
        std::thread::sleep(pause);
    }
}

/// Waits until `condition` holds.
///
/// # Errors
/// As [`until`].
pub fn until_true(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    until(what, limit, || condition().then_some(()))
}

/// Checks that `condition` holds at every poll during `span`: for what must *not* happen.
///
/// # Errors
/// The condition failed; the message says after how long.
pub fn steadily(what: &str, span: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < span {
        if !condition() {
            bail!("{what}: no longer true after {:?}", begun.elapsed());
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}
