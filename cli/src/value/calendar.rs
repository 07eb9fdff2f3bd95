//! Calendar files (iCalendar, RFC 5545): their events as windows, such as the beam time schedule of a user office.

use std::collections::BTreeMap;

use calcard::{
    common::timezone::Tz,
    icalendar::{
        ICalendar, ICalendarComponent, ICalendarComponentType, ICalendarProperty, ICalendarStatus,
        ICalendarValue, dates::TimeOrDelta,
    },
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use model::freeze::Window;

use super::{Wrong, window::point};

/// Times of one series: a daily one that began decades ago still reaches beyond the horizon.
const MAX_TIMES: usize = 20_000;
/// A schedule of a whole site has a few thousand events.
const MAX_EVENTS: usize = 10_000;

/// The windows of a calendar's events that are not over and begin before `horizon`, merged where they meet. `only`: of those whose
/// title has this in it. Times without a zone are in `zone`.
///
/// # Errors
/// It is no calendar, an event of it has no time that can be read, or a series repeats too often.
pub fn windows(
    text: &str,
    only: Option<&str>,
    zone: &TimeZone,
    (now, horizon): (Timestamp, Timestamp),
) -> Result<Vec<Window>, Wrong> {
    let calendar = ICalendar::parse(text).map_err(|_| "it is no iCalendar file (RFC 5545)".to_owned())?;
    let mut windows = Vec::new();
    for series in series(&calendar, only)? {
        let name = series.iter().find_map(|number| calendar.components.get(*number)).map(title);
        let name = name.unwrap_or_default();
        let dates = alone(&calendar, &series).expand_dates(Tz::Floating, MAX_TIMES);
        if let Some(wrong) = dates.errors.first() {
            return Err(format!("event \"{name}\": {:?}", wrong.error));
        }
        let mut last = None;
        for event in &dates.events {
            let seconds = event.start.timestamp();
            let floating = matches!(event.start.timezone(), Tz::Floating);
            let end = match &event.end {
                TimeOrDelta::Time(end) => end.timestamp(),
                TimeOrDelta::Delta(span) => seconds.saturating_add(span.num_seconds()),
            };
            let time = |seconds| in_zone(seconds, floating.then_some(zone)).ok_or("an event is too far away");
            let (from, until) = (time(seconds)?, time(end)?);
            last = last.max(Some(from));
            if until > from && until > now && from < horizon {
                windows.push(Window { from: point(from), until: point(until) });
            }
        }
        if dates.events.len() >= MAX_TIMES && last < Some(horizon) {
            return Err(format!("event \"{name}\" repeats more than {MAX_TIMES} times before it is over"));
        }
    }
    windows.sort();
    Ok(merged(windows))
}

/// Which events belong together: each alone, and the changed times of a series with it. Each is read by itself, so that none takes the
/// times of another.
fn series(calendar: &ICalendar, only: Option<&str>) -> Result<Vec<Vec<usize>>, Wrong> {
    let events = calendar.components.iter().enumerate();
    let events = events.filter(|(_, component)| component.component_type == ICalendarComponentType::VEvent);
    let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (number, event) in events.take(MAX_EVENTS + 1) {
        let name = event.uid().map_or_else(|| format!("event {number}"), str::to_owned);
        by_name.entry(name).or_default().push(number);
    }
    if by_name.values().map(Vec::len).sum::<usize>() > MAX_EVENTS {
        return Err(format!("it has more than {MAX_EVENTS} events"));
    }
    let wanted =
        |series: &Vec<usize>| series.iter().any(|number| is_wanted(&calendar.components[*number], only));
    Ok(by_name.into_values().filter(wanted).collect())
}

/// The calendar with these events only. What else it has keeps its place, since events point to it; a cancelled one takes its time away.
fn alone(calendar: &ICalendar, series: &[usize]) -> ICalendar {
    let mut alone = calendar.clone();
    for (number, component) in alone.components.iter_mut().enumerate() {
        if component.component_type != ICalendarComponentType::VEvent {
            continue;
        }
        let cancelled = component.status() == Some(&ICalendarStatus::Cancelled);
        if !series.contains(&number)
            || (cancelled && !component.has_property(&ICalendarProperty::RecurrenceId))
        {
            component.component_type = ICalendarComponentType::VAlarm;
            component.entries.clear();
        } else if cancelled {
            // It stays as the exception that it is, and lasts no time.
            component.entries.retain(|entry| {
                !matches!(entry.name, ICalendarProperty::Dtend | ICalendarProperty::Duration)
            });
        }
        // Of which version an event is does not matter: the file has one.
        component.entries.retain(|entry| entry.name != ICalendarProperty::Sequence);
    }
    alone
}

/// A point in time; of a time without a zone, its digits in `zone`.
fn in_zone(seconds: i64, zone: Option<&TimeZone>) -> Option<Timestamp> {
    let time = Timestamp::UNIX_EPOCH.checked_add(SignedDuration::from_secs(seconds)).ok()?;
    match zone {
        None => Some(time),
        Some(zone) => Some(time.to_zoned(TimeZone::UTC).datetime().to_zoned(zone.clone()).ok()?.timestamp()),
    }
}

fn is_wanted(component: &ICalendarComponent, only: Option<&str>) -> bool {
    component.status() != Some(&ICalendarStatus::Cancelled)
        && only.is_none_or(|only| title(component).contains(only))
}

fn title(component: &ICalendarComponent) -> &str {
    let entry = component.property(&ICalendarProperty::Summary);
    match entry.and_then(|entry| entry.values.first()) {
        Some(ICalendarValue::Text(text)) => text,
        _ => "",
    }
}

/// Sorted windows, those that overlap or touch as one.
fn merged(windows: Vec<Window>) -> Vec<Window> {
    let mut merged: Vec<Window> = Vec::new();
    for window in windows {
        match merged.last_mut().filter(|last| last.until >= window.from) {
            Some(last) => last.until = last.until.max(window.until),
            None => merged.push(window),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALENDAR: &str = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//user office//EN\r\n\
        BEGIN:VEVENT\r\nUID:1\r\nSUMMARY:MX-2345 id23-1\r\nDTSTART;TZID=Europe/Paris:20261124T080000\r\n\
        DTEND;TZID=Europe/Paris:20261126T080000\r\nEND:VEVENT\r\n\
        BEGIN:VEVENT\r\nUID:2\r\nSUMMARY:MX-2346 id23-1\r\nDTSTART:20261126T070000Z\r\nDURATION:PT24H\r\nEND:VEVENT\r\n\
        BEGIN:VEVENT\r\nUID:3\r\nSUMMARY:maintenance\r\nSTATUS:CANCELLED\r\nDTSTART:20261201T070000Z\r\n\
        DTEND:20261202T070000Z\r\nEND:VEVENT\r\n\
        BEGIN:VEVENT\r\nUID:4\r\nSUMMARY:every night id30\r\nDTSTART:20200101T200000\r\nDTEND:20200102T060000\r\n\
        RRULE:FREQ=DAILY;UNTIL=20261126T200000\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";

    fn read(text: &str, only: Option<&str>) -> Result<Vec<(String, String)>, Wrong> {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        let told =
            |at: model::time::ClusterTime| Timestamp::from_microsecond(at.0 as i64).unwrap().to_string();
        let horizon = "2027-11-23T12:00:00Z".parse().unwrap();
        let windows = windows(text, only, &zone, (now, horizon))?;
        Ok(windows.into_iter().map(|window| (told(window.from), told(window.until))).collect())
    }

    #[test]
    fn events_that_are_not_over_are_windows_and_those_that_meet_are_one() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(from, until)| ((*from).to_owned(), (*until).to_owned())).collect()
        };
        let expected = [("2026-11-24T07:00:00Z", "2026-11-27T07:00:00Z")];
        assert_eq!(read(CALENDAR, Some("id23-1")).unwrap(), pairs(&expected));
        // Without a zone they are in the one that was named; the last of them begins on the 26th.
        let nights = [
            ("2026-11-23T19:00:00Z", "2026-11-24T05:00:00Z"),
            ("2026-11-24T19:00:00Z", "2026-11-25T05:00:00Z"),
            ("2026-11-25T19:00:00Z", "2026-11-26T05:00:00Z"),
            ("2026-11-26T19:00:00Z", "2026-11-27T05:00:00Z"),
        ];
        assert_eq!(read(CALENDAR, Some("id30")).unwrap(), pairs(&nights));
        assert_eq!(read(CALENDAR, Some("maintenance")).unwrap(), [], "it was cancelled");
    }

    /// Series share neither their times nor their exceptions.
    #[test]
    fn endless_series_of_somebody_else_takes_no_window_away() {
        let nightly = |uid: &str, title: &str, more: &str| {
            format!(
                "BEGIN:VEVENT\r\nUID:{uid}\r\nSUMMARY:{title}\r\nDTSTART:20200101T190000Z\r\nDTEND:20200102T050000Z\r\n\
                 RRULE:FREQ=DAILY{more}\r\nEND:VEVENT\r\n"
            )
        };
        let moved = "BEGIN:VEVENT\r\nUID:a\r\nSEQUENCE:1\r\nSUMMARY:seminar\r\nRECURRENCE-ID:20261124T190000Z\r\n\
            DTSTART:20261124T210000Z\r\nDTEND:20261124T220000Z\r\nEND:VEVENT\r\n";
        let text = format!(
            "BEGIN:VCALENDAR\r\n{}{moved}{}END:VCALENDAR\r\n",
            nightly("a", "seminar", ""),
            nightly("b", "night id30", ";UNTIL=20261124T190000Z")
        );
        let nights = read(&text, Some("id30")).unwrap();
        assert_eq!(nights.len(), 2, "{nights:?}");
        let seminars = read(&text, Some("seminar")).unwrap();
        assert_eq!(seminars.len(), 365, "as far as the horizon");
        let moved = ("2026-11-24T21:00:00Z".to_owned(), "2026-11-24T22:00:00Z".to_owned());
        assert!(seminars.contains(&moved), "{:?}", &seminars[..3]);
        let often = text.replace("FREQ=DAILY\r", "FREQ=MINUTELY\r");
        assert!(read(&often, Some("seminar")).unwrap_err().contains("repeats more than"));
    }

    #[test]
    fn what_is_no_calendar_and_an_event_without_a_time_are_refused() {
        assert!(read("windows = []", None).unwrap_err().contains("iCalendar"));
        let timeless =
            "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:1\r\nSUMMARY:some day\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";
        assert!(read(timeless, None).unwrap_err().contains("some day"));
    }
}
