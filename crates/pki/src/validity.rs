//! When a certificate counts, when to renew it, and what to say when this machine's clock disagrees.
//!
//! A wrong clock is by far the most common cause of a refused certificate, and TLS libraries report it as if an
//! attacker were at work. So the refusal always carries both times and their distance.

use std::fmt;
use std::time::Duration;

use model::time::WallTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// 9999-12-31T23:59:59Z: neither X.509 nor RFC 3339 can write a later one.
const LAST_SECOND: u64 = 253_402_300_799;

/// The time span in which a certificate counts, both ends included, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub not_before: WallTime,
    /// The last second.
    pub not_after: WallTime,
}

/// A certificate that does not count at the time that this machine's wall clock shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClockProblem {
    /// The clock is behind, or the certificate was made by a machine whose clock is ahead.
    #[error(
        "the certificate is valid from {}, this machine's clock says {}: {} seconds behind",
        Utc(*.valid_from), Utc(*.now), seconds_between(*.now, *.valid_from)
    )]
    NotYetValid {
        /// The first second of the certificate.
        valid_from: WallTime,
        /// What the clock shows.
        now: WallTime,
    },
    /// Nobody renewed it, or the clock is ahead.
    #[error(
        "the certificate was valid until {}, this machine's clock says {}: {} seconds too late \
         (renew the certificate, or set the clock)",
        Utc(*.valid_until), Utc(*.now), seconds_between(*.valid_until, *.now)
    )]
    Expired {
        /// The last second of the certificate.
        valid_until: WallTime,
        /// What the clock shows.
        now: WallTime,
    },
}

impl Validity {
    /// Judges the wall-clock time `now`.
    ///
    /// # Errors
    /// Says on which side of the span `now` lies, and by how much.
    pub fn check(&self, now: WallTime) -> Result<(), ClockProblem> {
        if now < self.not_before {
            Err(ClockProblem::NotYetValid { valid_from: self.not_before, now })
        } else if now > self.not_after {
            Err(ClockProblem::Expired { valid_until: self.not_after, now })
        } else {
            Ok(())
        }
    }

    /// When to ask for the next certificate: half of its life, so that an outage of the other half is survived.
    pub fn renew_at(&self) -> WallTime {
        wall_sum(self.not_before, between(self.not_before, self.not_after) / 2)
    }

    /// How long it still counts; zero once it is over.
    pub fn remaining(&self, now: WallTime) -> Duration {
        between(now, self.not_after)
    }
}

/// A point in time the way people and logs write it.
struct Utc(WallTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            &utc(wall_seconds(unix_duration(self.0).as_secs())).format(&Rfc3339).map_err(|_| fmt::Error)?,
        )
    }
}

/// Rounded up, so that a refusal never says "0 seconds behind".
fn seconds_between(earlier: WallTime, later: WallTime) -> u64 {
    let distance = between(earlier, later);
    distance.as_secs() + u64::from(distance.subsec_nanos() > 0)
}

/// The time from `earlier` to `later`; zero when it is the other way round.
fn between(earlier: WallTime, later: WallTime) -> Duration {
    unix_duration(later).saturating_sub(unix_duration(earlier))
}

pub(crate) fn unix_duration(time: WallTime) -> Duration {
    Duration::from_micros(time.0)
}

pub(crate) fn wall_seconds(seconds: u64) -> WallTime {
    WallTime(seconds.saturating_mul(1_000_000))
}

/// Saturates: a certificate that was asked for "for ever" ends with its authority anyway.
pub(crate) fn wall_sum(time: WallTime, duration: Duration) -> WallTime {
    WallTime(time.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
}

/// The calendar's form, in which the last second of the year 9999 stands for everything later.
pub(crate) fn utc(time: WallTime) -> OffsetDateTime {
    let micros = time.0.min(LAST_SECOND * 1_000_000);
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000).expect("the year is at most 9999")
}

#[cfg(test)]
mod tests {
    use super::wall_seconds as at;
    use super::*;

    const DAY: u64 = 86_400;

    fn days(from: u64, to: u64) -> Validity {
        Validity { not_before: at(from * DAY), not_after: at(to * DAY) }
    }

    #[test]
    fn a_clock_that_is_behind_is_told_by_how_much() {
        let problem = days(10, 20).check(at(10 * DAY - 90)).expect_err("90 seconds early");
        assert_eq!(
            problem.to_string(),
            "the certificate is valid from 1970-01-11T00:00:00Z, this machine's clock says 1970-01-10T23:58:30Z: \
             90 seconds behind"
        );
    }

    #[test]
    fn an_expired_certificate_says_since_when() {
        let problem = days(10, 20).check(at(21 * DAY)).expect_err("a day late");
        assert!(problem.to_string().contains("valid until 1970-01-21T00:00:00Z"), "{problem}");
        assert!(problem.to_string().contains("86400 seconds too late"), "{problem}");
    }

    #[test]
    fn both_ends_of_the_span_count() {
        assert_eq!(days(10, 20).check(at(10 * DAY)), Ok(()));
        assert_eq!(days(10, 20).check(at(20 * DAY)), Ok(()));
    }

    #[test]
    fn half_of_the_life_is_the_time_to_renew() {
        assert_eq!(days(10, 20).renew_at(), at(15 * DAY));
    }

    #[test]
    fn nothing_remains_after_the_end() {
        assert_eq!(days(10, 20).remaining(at(19 * DAY)), Duration::from_secs(DAY));
        assert_eq!(days(10, 20).remaining(at(99 * DAY)), Duration::ZERO);
    }
}
