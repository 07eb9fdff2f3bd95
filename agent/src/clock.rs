//! The process's monotonic clock, as the core counts it.

use std::time::{Duration, Instant as Monotonic};

use model::time::Instant;

/// The clock begins late, so that what happened before the process began has a time too.
const ORIGIN: Duration = Duration::from_secs(365 * 24 * 3600);

/// Counts from the start of the process.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Monotonic);

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        Self(Monotonic::now())
    }

    /// The time.
    pub fn now(self) -> Instant {
        Instant::ZERO + ORIGIN + self.0.elapsed()
    }

    /// When the runtime is to wake for a deadline.
    pub fn deadline(self, at: Instant) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.0 + at.since(Instant::ZERO + ORIGIN))
    }
}
