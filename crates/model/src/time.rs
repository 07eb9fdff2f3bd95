//! Two clocks, two types: they never mix.
//!
//! [`Instant`] is monotonic, local to a process and never stored: leases, ticks, backoff. [`ClusterTime`] is stored:
//! it is the leader's wall clock, forced to grow, written in the log entry, so that every manager sees the same value.
//! A jump of the wall clock therefore changes no lease, no election and no backoff.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// A point on a process's monotonic clock: nanoseconds since an origin of the process's own choice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// The origin of the process's clock.
    pub const ZERO: Self = Self(0);

    /// A point `millis` milliseconds after the origin.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000_000)
    }

    /// The time since `earlier`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, rhs: Self) -> Duration {
        self.since(rhs)
    }
}

/// The cluster's replicated time: microseconds since the Unix epoch, as stamped by the leader into a log entry:
/// `max(wall clock, last stamp + 1)`. It never goes back, and is only as right as the leaders' clocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterTime(pub u64);

impl ClusterTime {
    /// The next stamp: the wall clock where it is ahead, one microsecond after `self` where it is not.
    pub fn next(self, wall: WallTime) -> Self {
        Self(wall.0.max(self.0 + 1))
    }

    /// The time since `earlier`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for ClusterTime {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for ClusterTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// A reading of a wall clock: microseconds since the Unix epoch. An input to [`ClusterTime::next`] and to certificates,
/// never compared with a stored deadline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallTime(pub u64);

/// What a core is told about time with every input: both clocks, read once by the shell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock: decides every timeout.
    pub mono: Instant,
    /// The wall clock: only stamps log entries and certificates.
    pub wall: WallTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_that_leaps_back_still_gives_a_later_stamp() {
        let stamp = ClusterTime(5_000);
        assert_eq!(stamp.next(WallTime(10)), ClusterTime(5_001));
        assert_eq!(stamp.next(WallTime(9_000)), ClusterTime(9_000));
    }
}
