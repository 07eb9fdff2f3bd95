//! Raft's ticks, counted from the time that the shell gives, so that no timer fires for a tick in which nothing happens;
//! and the leader's stamps.

use std::time::Duration;

use model::time::{ClusterTime, Instant, Now};
use planted::Bug;

/// Where the leader's stamps come from: the newest stamp heard, then the monotonic clock, bent towards the wall clock by at
/// most a tenth. A leap of the wall clock therefore neither ends a stored deadline early nor holds it up, and neither does
/// a new leader whose wall clock is wrong; it is made good slowly. Only a manager that has heard no stamp since it started
/// begins at its wall clock: nobody knows how long all of them were down.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Stamps {
    last: ClusterTime,
    at: Instant,
    heard: bool,
}

impl Stamps {
    /// When the lead begins; `newest` is the newest stamp applied.
    pub(crate) fn begin(self, newest: ClusterTime, now: Now) -> Self {
        if self.heard {
            return Self { last: newest.max(self.last), ..self };
        }
        Self { last: newest.max(ClusterTime(now.wall.0)), at: now.mono, heard: true }
    }

    /// Another leader's stamp, just given out.
    pub(crate) fn hear(&mut self, stamp: ClusterTime, now: Now) {
        if stamp > self.last {
            *self = Self { last: stamp, at: now.mono, heard: true };
        }
    }

    /// The stamp that an entry would get now: later than every one before.
    pub(crate) fn peek(&self, now: Now) -> ClusterTime {
        if planted::is(Bug::WallClockInStamps) {
            return ClusterTime(now.wall.0.max(self.last.0 + 1));
        }
        let passed = now.mono.since(self.at);
        let (slow, fast) = (self.last + passed * 9 / 10, self.last + passed * 11 / 10);
        ClusterTime(now.wall.0.clamp(slow.0, fast.0).max(self.last.0 + 1))
    }

    /// Gives out a stamp.
    pub(crate) fn take(&mut self, now: Now) -> ClusterTime {
        (self.last, self.at) = (self.peek(now), now.mono);
        self.last
    }
}

/// Counts ticks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticker {
    tick: Duration,
    /// Heartbeats that are late by so many ticks are forgiven after a stall of our own.
    grace: u32,
    base: Instant,
}

impl Ticker {
    pub(crate) fn new(tick: Duration, grace: u32, now: Instant) -> Self {
        Self { tick: tick.max(Duration::from_micros(100)), grace, base: now }
    }

    /// When `ticks` from the last one counted are over.
    pub(crate) fn at(&self, ticks: u32) -> Instant {
        self.base + self.tick * ticks
    }

    /// Ticks that passed, at most those to the next thing `planned`.
    ///
    /// When much more time passed than was planned, this process was stopped or starved, and the heartbeats that it
    /// missed are probably waiting to be read: some ticks are held back, so that it reads them before it campaigns.
    pub(crate) fn take(&mut self, now: Instant, planned: Option<u32>) -> u32 {
        let passed = now.since(self.base).as_nanos() / self.tick.as_nanos();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        let planned = planned.unwrap_or(passed);
        if passed > planned.saturating_add(self.grace) {
            self.base = now;
            return planned.saturating_sub(self.grace);
        }
        let taken = passed.min(planned);
        self.base = self.base + self.tick * taken;
        taken
    }
}

#[cfg(test)]
mod tests {
    use model::time::WallTime;

    use super::*;

    fn now(seconds: u64, wall: u64) -> Now {
        Now { mono: Instant::from_millis(seconds * 1_000), wall: WallTime(wall * 1_000_000) }
    }

    #[test]
    fn a_leap_of_the_wall_clock_moves_no_deadline() {
        let mut stamps = Stamps::default().begin(ClusterTime(5), now(0, 1_000));
        assert_eq!(stamps.take(now(10, 1_010)), ClusterTime(1_010_000_000));
        assert_eq!(stamps.take(now(20, 9_000)), ClusterTime(1_021_000_000));
        assert_eq!(stamps.take(now(30, 1)), ClusterTime(1_030_000_000));
        assert_eq!(stamps.take(now(30, 1)), ClusterTime(1_030_000_001));
    }

    #[test]
    fn a_new_leader_with_a_wrong_wall_clock_goes_on_from_what_it_heard() {
        let mut stamps = Stamps::default();
        stamps.hear(ClusterTime(1_000_000_000), now(10, 900_000));
        let mut stamps = stamps.begin(ClusterTime(1_000_000_000), now(20, 900_010));
        assert_eq!(stamps.take(now(20, 900_010)), ClusterTime(1_011_000_000));
    }

    #[test]
    fn a_stall_is_not_taken_for_silence_of_the_others() {
        let mut ticker = Ticker::new(Duration::from_millis(10), 8, Instant::ZERO);
        assert_eq!(ticker.take(Instant::from_millis(55), Some(20)), 5);
        assert_eq!(ticker.take(Instant::from_millis(200), Some(15)), 15);
        assert_eq!(ticker.take(Instant::from_millis(5_000), Some(20)), 12);
        assert_eq!(ticker.take(Instant::from_millis(5_010), Some(8)), 1);
    }
}
