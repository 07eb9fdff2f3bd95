//! The clocks of one host: a monotonic one that drifts and a wall clock that may also be wrong, jump and leap back.

use model::time::{Instant, Now, WallTime};

use crate::queue::Time;

/// 2026-01-01, in microseconds since the Unix epoch.
const EPOCH_US: u64 = 1_767_225_600_000_000;

/// One host's clocks.
#[derive(Debug, Clone)]
pub(crate) struct HostClock {
    /// The monotonic clock's value at the beginning of the world.
    origin: u64,
    /// How much too fast it goes, in parts per million.
    drift_ppm: i64,
    /// The time in which it stood still.
    lost: Time,
    /// It stands still since then.
    stopped: Option<Time>,
    /// How much the wall clock is ahead, in microseconds.
    wall_offset: i64,
}

impl HostClock {
    pub(crate) fn new(origin: u64, drift_ppm: i64, wall_offset: i64) -> Self {
        Self { origin, drift_ppm, lost: 0, stopped: None, wall_offset }
    }

    /// What both clocks show.
    pub(crate) fn read(&self, now: Time) -> Now {
        let wall = (EPOCH_US + self.local(now) / 1_000).saturating_add_signed(self.wall_offset);
        Now { mono: Instant(self.origin + self.local(now)), wall: WallTime(wall) }
    }

    /// When the monotonic clock will show at least `instant`.
    pub(crate) fn when(&self, instant: Instant) -> Time {
        let local = instant.0.saturating_sub(self.origin);
        let mut time = (i128::from(local) * 1_000_000 / (1_000_000 + i128::from(self.drift_ppm))) as u64;
        while self.running(time) < local {
            time += 1;
        }
        time + self.lost
    }

    /// Both clocks stand still, as on a machine that is being moved; or go on again, from where they stood.
    pub(crate) fn stop(&mut self, stops: bool, now: Time) {
        if stops {
            self.stopped.get_or_insert(now);
        } else if let Some(since) = self.stopped.take() {
            self.lost += now - since;
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    /// The wall clock jumps.
    pub(crate) fn jump(&mut self, micros: i64) {
        self.wall_offset += micros;
    }

    fn local(&self, now: Time) -> u64 {
        self.running(self.stopped.unwrap_or(now) - self.lost)
    }

    /// What shows after so much time in which it went.
    fn running(&self, time: Time) -> u64 {
        (i128::from(time) * (1_000_000 + i128::from(self.drift_ppm)) / 1_000_000) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_of_a_drifting_clock_never_fires_early() {
        for drift in [-500, 0, 137, 500] {
            let clock = HostClock::new(77, drift, 0);
            for local in [0, 1, 999, 123_456_789, 60_000_000_000] {
                let due = Instant(77 + local);
                let when = clock.when(due);
                assert!(clock.read(when).mono >= due);
                assert!(when == 0 || clock.read(when - 1).mono < due);
            }
        }
    }
}
