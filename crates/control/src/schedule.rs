//! When a cron is due: a schedule on the clocks of a place.
//!
//! The five fields are read by a library, which knows all of crontab's words; it is asked in UTC, for readings of a clock. Which moments show
//! such a reading is decided here, because clocks are put forward and back:
//!
//! - A reading that is left out (02:30 when clocks go from 02:00 to 03:00) is due at the moment of the change, once.
//! - A reading that comes twice is due the first time only.
//! - Where the hour is `*`, or begins with it, an interval is meant and not a reading: every hour that passes counts, so that such a
//!   schedule runs in both, and in none that does not pass.
//!
//! The zones are those compiled in, not those of a manager's disk: reading a file is no decision. The result is in the log, so that managers of
//! two versions cannot disagree.

use cronexpr::{Crontab, FallbackTimezoneOption, MakeTimestamp, ParseOptions};
use jiff::{
    Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase},
};
use model::time::ClusterTime;

/// Looks at so many readings for one that comes: most of a day of minutes may be left out or come twice.
const MAX_READINGS: usize = 2_000;

/// A schedule in a time zone.
pub struct Schedule {
    readings: Crontab,
    zone: TimeZone,
    /// Every hour that passes counts, whatever it is called.
    by_interval: bool,
}

impl Schedule {
    /// Reads both.
    ///
    /// # Errors
    /// What is wrong with the one or the other, in words, behind its name.
    pub fn parse(schedule: &str, zone: &str) -> Result<Self, (&'static str, String)> {
        let wrong = |message: String| ("schedule", message);
        let fields: Vec<&str> = schedule.split_whitespace().collect();
        let [_, hour, ..] = fields[..] else {
            return Err(wrong(
                "write five fields: minute hour day month weekday, such as \"12 4 * * *\"".into(),
            ));
        };
        if fields.len() != 5 {
            let count = fields.len();
            return Err(wrong(format!("{count} fields; write five: minute hour day month weekday")));
        }
        let mut options = ParseOptions::default();
        options.fallback_timezone_option = FallbackTimezoneOption::UTC;
        let readings = cronexpr::parse_crontab_with(&fields.join(" "), options)
            .map_err(|error| wrong(error.to_string().replace('\n', " ")))?;
        let by_interval = hour.starts_with('*');
        let zones = TimeZoneDatabase::bundled();
        let zone = zones.get(zone).map_err(|_| {
            ("zone", format!("there is no time zone \"{zone}\"; write a name such as Europe/Paris, or UTC"))
        })?;
        Ok(Self { readings, zone, by_interval })
    }

    /// The first time after this one; `None` when there is none in the next years.
    pub fn next(&self, after: ClusterTime) -> Option<ClusterTime> {
        let after = Timestamp::from_microsecond(i64::try_from(after.0).ok()?).ok()?;
        let next = if self.by_interval { self.next_interval(after) } else { self.next_reading(after) }?;
        u64::try_from(next.as_microsecond()).ok().map(ClusterTime)
    }

    /// The last of the times after the first and up to the second one. Steps as often as there are such times.
    pub fn last(&self, after: ClusterTime, until: ClusterTime) -> Option<ClusterTime> {
        let times = std::iter::successors(self.next(after), |time| self.next(*time));
        times.take_while(|time| *time <= until).last()
    }

    fn next_reading(&self, after: Timestamp) -> Option<Timestamp> {
        let mut reading = self.zone.to_datetime(after);
        for _ in 0..MAX_READINGS {
            reading = self.reading_after(reading)?;
            let moment = match self.zone.to_ambiguous_timestamp(reading).offset() {
                AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(reading).ok()?,
                AmbiguousOffset::Fold { before, .. } => before.to_timestamp(reading).ok()?,
                AmbiguousOffset::Gap { before, .. } => {
                    let beyond = before.to_timestamp(reading).ok()?;
                    // The change is behind that moment, or at it: the clock would read so if there had been none.
                    let mut changes = self.zone.preceding(beyond.saturating_add(SECOND).ok()?);
                    changes.next()?.timestamp()
                }
            };
            if moment > after {
                return Some(moment);
            }
        }
        None
    }

    /// From change to change of the clocks: in between, readings and moments go along.
    fn next_interval(&self, after: Timestamp) -> Option<Timestamp> {
        let mut from = after;
        for _ in 0..MAX_READINGS {
            let offset: Offset = self.zone.to_offset(from);
            let moment = offset.to_timestamp(self.reading_after(offset.to_datetime(from))?).ok()?;
            match self.zone.following(from).next() {
                // What the clock reads at the change itself is due as well: begin a moment before it, by the new clock.
                Some(change) if change.timestamp() <= moment => {
                    let offset = change.offset();
                    let before = change.timestamp().checked_sub(SECOND).ok()?;
                    let first = offset.to_timestamp(self.reading_after(offset.to_datetime(before))?).ok()?;
                    if first == change.timestamp() && first > after {
                        return Some(first);
                    }
                    from = change.timestamp();
                }
                _ => return Some(moment),
            }
        }
        None
    }

    /// The next reading of a clock that the fields admit.
    fn reading_after(&self, reading: DateTime) -> Option<DateTime> {
        let as_if = TimeZone::UTC.to_timestamp(reading).ok()?;
        let next = self.readings.find_next(MakeTimestamp(as_if)).ok()?;
        Some(next.datetime())
    }
}

const SECOND: jiff::SignedDuration = jiff::SignedDuration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> ClusterTime {
        let time: Timestamp = text.parse().expect("a time");
        ClusterTime(u64::try_from(time.as_microsecond()).expect("after 1970"))
    }

    /// The times after one, in UTC.
    fn check(schedule: &str, zone: &str, after: &str, expected: &[&str]) {
        let schedule = Schedule::parse(schedule, zone).expect("a schedule");
        let times = std::iter::successors(schedule.next(time(after)), |at| schedule.next(*at));
        let times: Vec<ClusterTime> = times.take(expected.len()).collect();
        assert_eq!(times, expected.iter().map(|text| time(text)).collect::<Vec<_>>());
    }

    #[test]
    fn a_nightly_time_follows_the_clocks_of_its_place() {
        let expected =
            ["2026-10-23T02:12:00Z", "2026-10-24T02:12:00Z", "2026-10-25T03:12:00Z", "2026-10-26T03:12:00Z"];
        check("12 4 * * *", "Europe/Paris", "2026-10-22T12:00:00Z", &expected);
        check("12 4 * * *", "UTC", "2026-10-22T04:12:00Z", &["2026-10-23T04:12:00Z"]);
        check("12 4 * * *", "UTC", "2026-10-22T04:11:59.999999Z", &["2026-10-22T04:12:00Z"]);
        let weekdays = ["2026-11-20T17:45:00Z", "2026-11-23T07:00:00Z", "2026-11-23T07:15:00Z"];
        check("*/15 8-18 * * MON-FRI", "Europe/Paris", "2026-11-20T17:30:00Z", &weekdays);
    }

    #[test]
    fn a_reading_that_is_left_out_is_due_when_the_clocks_change() {
        // On 29 March 2026 at 01:00 UTC Paris went from 02:00 to 03:00.
        let expected = ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"];
        check("30 2 * * *", "Europe/Paris", "2026-03-28T00:00:00Z", &expected);
        let every_quarter_of_two = ["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"];
        check("*/15 2 * * *", "Europe/Paris", "2026-03-28T01:45:00Z", &every_quarter_of_two);
        check("0 3 * * *", "Europe/Paris", "2026-03-28T12:00:00Z", &["2026-03-29T01:00:00Z"]);
    }

    #[test]
    fn a_reading_that_comes_twice_is_due_once() {
        // On 25 October 2026 at 01:00 UTC Paris goes from 03:00 back to 02:00.
        let expected = ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"];
        check("30 2 * * *", "Europe/Paris", "2026-10-23T12:00:00Z", &expected);
        check("30 2 * * *", "Europe/Paris", "2026-10-25T01:10:00Z", &["2026-10-26T01:30:00Z"]);
    }

    #[test]
    fn an_interval_counts_the_hours_that_pass() {
        let back =
            ["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z"];
        check("*/30 * * * *", "Europe/Paris", "2026-10-25T00:00:00Z", &back);
        let forward = ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"];
        check("*/30 * * * *", "Europe/Paris", "2026-03-29T00:00:00Z", &forward);
        let hourly =
            ["2026-10-24T23:10:00Z", "2026-10-25T00:10:00Z", "2026-10-25T01:10:00Z", "2026-10-25T02:10:00Z"];
        check("10 * * * *", "Europe/Paris", "2026-10-24T22:30:00Z", &hourly);
    }

    #[test]
    fn every_zone_and_every_hour_moves_on_and_never_twice_to_one_time() {
        for zone in
            ["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"]
        {
            for schedule in ["30 2 * * *", "*/20 * * * *", "5,35 1-3 * * *", "0 0 * * *"] {
                let schedule = Schedule::parse(schedule, zone).expect("a schedule");
                let mut at = time("2026-01-01T00:00:00Z");
                while at < time("2027-01-01T00:00:00Z") {
                    let next = schedule.next(at).expect("a next time");
                    assert!(next > at, "{zone}");
                    // Whoever asks in between hears of the same time.
                    assert_eq!(schedule.next(ClusterTime(next.0 - 1)), Some(next), "{zone}");
                    assert_eq!(schedule.next(ClusterTime(at.0 + (next.0 - at.0) / 2)), Some(next), "{zone}");
                    at = next;
                }
            }
        }
    }

    #[test]
    fn the_last_time_of_a_span_is_found_and_none_beyond_it() {
        let schedule = Schedule::parse("*/5 * * * *", "UTC").expect("a schedule");
        let last = |after, until| schedule.last(time(after), time(until));
        let found = last("2026-11-23T10:00:00Z", "2026-11-23T10:17:00Z");
        assert_eq!(found, Some(time("2026-11-23T10:15:00Z")));
        assert_eq!(last("2026-11-23T10:00:00Z", "2026-11-23T10:04:59Z"), None);
    }

    #[test]
    fn what_means_no_time_is_refused_with_a_reason() {
        let wrong = |schedule: &str, zone: &str| Schedule::parse(schedule, zone).err().expect("refused");
        for schedule in ["", "@daily", "12 4 * *", "12 4 * * * UTC", "61 4 * * *", "x * * * *", "H * * * *"] {
            assert_eq!(wrong(schedule, "UTC").0, "schedule", "{schedule}");
        }
        assert_eq!(wrong("12 4 * * *", "Europe/Grenoble").0, "zone");
        let never = Schedule::parse("0 0 30 2 *", "UTC").expect("reads well");
        assert_eq!(never.next(time("2026-11-23T10:00:00Z")), None);
    }
}
