//! Times and spans of people, in a time zone, as points in time.

use std::time::Duration;

use jiff::{
    SignedDuration, Timestamp, ToSpan,
    civil::{DateTime, Time, Weekday},
    tz::TimeZone,
};
use model::{freeze::Window, time::ClusterTime};

use super::Wrong;

/// The zone of this name; this machine's for none.
///
/// # Errors
/// Nobody knows it.
pub fn zone(name: Option<&str>) -> Result<TimeZone, Wrong> {
    let Some(name) = name else { return Ok(TimeZone::system()) };
    TimeZone::get(name).map_err(|_| {
        format!("\"{name}\" is no time zone that this machine knows; write such as Europe/Paris")
    })
}

/// A point in time: with an offset (`2026-11-23T08:00+01:00`), or without one in the zone.
///
/// # Errors
/// It is neither, or there is no such time.
pub fn time(text: &str, zone: &TimeZone) -> Result<Timestamp, Wrong> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let wrong = || format!("\"{text}\" is no time; write such as 2026-11-23T08:00");
    let time = text.parse::<DateTime>().map_err(|_| wrong())?;
    Ok(time.to_zoned(zone.clone()).map_err(|_| wrong())?.timestamp())
}

/// One window. `until` and `span` say its end, one of them.
///
/// # Errors
/// A time is none, or it ends before it begins.
pub fn once(
    from: Option<&str>,
    until: Option<&str>,
    span: Option<Duration>,
    zone: &TimeZone,
    now: Timestamp,
) -> Result<Window, Wrong> {
    let from = from.map_or(Ok(now), |text| time(text, zone))?;
    let until = match (until, span) {
        (Some(text), _) => time(text, zone)?,
        (None, Some(span)) => SignedDuration::try_from(span)
            .ok()
            .and_then(|span| from.checked_add(span).ok())
            .ok_or_else(|| "that is too long".to_owned())?,
        (None, None) => return Err("write when it ends: --until or --for".to_owned()),
    };
    if until <= from {
        return Err(format!("it ends at {until}, before it begins at {from}"));
    }
    if until <= now {
        return Err(format!("it is over: it ended at {until}"));
    }
    Ok(Window { from: point(from), until: point(until) })
}

/// The windows of `Tue 08:00-Mon 08:00` for so many weeks, those that are over left out.
///
/// # Errors
/// It is no such span.
pub fn weekly(text: &str, weeks: u32, zone: &TimeZone, now: Timestamp) -> Result<Vec<Window>, Wrong> {
    let wrong = || format!("\"{text}\" is no weekly span; write such as \"Tue 08:00-Mon 08:00\"");
    let (from, until) = text.split_once('-').ok_or_else(wrong)?;
    let (from, until) = (moment(from).ok_or_else(wrong)?, moment(until).ok_or_else(wrong)?);
    let wraps = until <= from;
    let monday = now.to_zoned(zone.clone()).date();
    let monday = monday
        .checked_sub(i64::from(monday.weekday().to_monday_zero_offset()).days())
        .map_err(|_| wrong())?;
    let at = |week: i64, (day, time): (i64, Time)| {
        let date = monday.checked_add((7 * week + day).days()).ok()?;
        Some(point(date.to_datetime(time).to_zoned(zone.clone()).ok()?.timestamp()))
    };
    // The one that began last week may still be open.
    let windows = (-1..i64::from(weeks))
        .map(|week| Some(Window { from: at(week, from)?, until: at(week + i64::from(wraps), until)? }));
    let windows: Vec<Window> = windows.collect::<Option<_>>().ok_or_else(wrong)?;
    Ok(windows.into_iter().filter(|window| window.until > point(now)).collect())
}

/// Days after Monday, and the time of that day.
fn moment(text: &str) -> Option<(i64, Time)> {
    const DAYS: [(&str, Weekday); 7] = [
        ("mon", Weekday::Monday),
        ("tue", Weekday::Tuesday),
        ("wed", Weekday::Wednesday),
        ("thu", Weekday::Thursday),
        ("fri", Weekday::Friday),
        ("sat", Weekday::Saturday),
        ("sun", Weekday::Sunday),
    ];
    let (day, time) = text.trim().split_once(' ')?;
    let day = day.to_ascii_lowercase();
    let (_, weekday) = DAYS.iter().find(|(short, _)| day.starts_with(short))?;
    Some((i64::from(weekday.to_monday_zero_offset()), time.trim().parse().ok()?))
}

/// As the cluster counts.
pub(super) fn point(time: Timestamp) -> ClusterTime {
    ClusterTime(u64::try_from(time.as_microsecond()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paris() -> TimeZone {
        // Central European time by its rules, so that the test needs no database.
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    fn seconds(at: ClusterTime) -> String {
        Timestamp::from_microsecond(at.0 as i64).unwrap().to_string()
    }

    #[test]
    fn a_window_is_read_in_its_zone() {
        let now: Timestamp = "2026-11-23T03:00:00Z".parse().unwrap();
        let read = |from, until, span| once(from, until, span, &paris(), now);
        let window = read(Some("2026-11-23T08:00"), Some("2026-11-24 20:00"), None).unwrap();
        assert_eq!(
            (seconds(window.from).as_str(), seconds(window.until).as_str()),
            ("2026-11-23T07:00:00Z", "2026-11-24T19:00:00Z")
        );
        let window = read(None, None, Some(Duration::from_secs(3600))).unwrap();
        assert_eq!(seconds(window.until), "2026-11-23T04:00:00Z");
        let window = read(None, Some("2026-11-23T08:00:00-05:00"), None).unwrap();
        assert_eq!(seconds(window.until), "2026-11-23T13:00:00Z");
        assert!(read(None, None, None).unwrap_err().contains("--until"));
        assert!(read(None, Some("tomorrow"), None).unwrap_err().contains("no time"));
        assert!(read(Some("2026-12-02T00:00"), Some("2026-12-01T00:00"), None).is_err());
        assert!(read(Some("2026-11-01T00:00"), Some("2026-11-02T00:00"), None).unwrap_err().contains("over"));
    }

    #[test]
    fn a_week_keeps_its_hours_when_the_clocks_change() {
        let now: Timestamp = "2026-10-21T12:00:00Z".parse().unwrap();
        let windows = weekly("Tue 08:00-Mon 08:00", 3, &paris(), now).unwrap();
        let told: Vec<_> =
            windows.iter().map(|window| (seconds(window.from), seconds(window.until))).collect();
        let expected = [
            ("2026-10-20T06:00:00Z", "2026-10-26T07:00:00Z"),
            ("2026-10-27T07:00:00Z", "2026-11-02T07:00:00Z"),
            ("2026-11-03T07:00:00Z", "2026-11-09T07:00:00Z"),
        ];
        assert_eq!(told, expected.map(|(from, until)| (from.to_owned(), until.to_owned())));
        assert_eq!(weekly("mon 08:00 - friday 20:00", 1, &paris(), now).unwrap().len(), 1);
        for wrong in ["", "Mon", "Mon 08:00", "Mon 25:00-Tue 08:00", "Xyz 08:00-Tue 08:00"] {
            assert!(weekly(wrong, 1, &paris(), now).is_err(), "{wrong}");
        }
    }
}
