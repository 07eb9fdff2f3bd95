//! Times as people read them: ages in lists, dates in events.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::time::ClusterTime;
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

const RFC_3339_MILLIS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// The wall clock, as the cluster writes times. Clocks that differ show in ages and nowhere else.
pub fn now() -> ClusterTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ClusterTime(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// `42s`, `3m`, `5h`, `12d`: one unit, two where the first is small.
pub fn age(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The age of a point in time.
pub fn since(at: ClusterTime, now: ClusterTime) -> String {
    age(now.since(at))
}

/// How long until a point in time; `expired` when it has passed.
pub fn until(at: ClusterTime, now: ClusterTime) -> String {
    if at <= now { "expired".into() } else { format!("in {}", age(at.since(now))) }
}

/// A point in time as RFC 3339 with milliseconds.
pub fn date(at: ClusterTime) -> String {
    let millis = i128::from(at.0 / 1_000) * 1_000_000;
    let text = OffsetDateTime::from_unix_timestamp_nanos(millis)
        .ok()
        .and_then(|date| date.format(RFC_3339_MILLIS).ok());
    text.unwrap_or_else(|| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_one_unit() {
        for (seconds, text) in [(0, "0s"), (119, "119s"), (180, "3m"), (7_200, "2h"), (200_000, "2d")] {
            assert_eq!(age(Duration::from_secs(seconds)), text);
        }
        assert_eq!(since(ClusterTime(10), ClusterTime(5)), "0s", "a clock that is behind shows no nonsense");
        assert_eq!(until(ClusterTime(61_000_000), ClusterTime(1_000_000)), "in 60s");
        assert_eq!(date(ClusterTime(1_700_000_000_120_456)), "2023-11-14T22:13:20.120Z");
    }
}
