//! Calendar files (iCalendar, RFC 5545): their events as windows, such as the beam time schedule of a user office.

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

/// Events with all their repetitions: a weekly one that began decades ago still reaches today.
const MAX_EVENTS: usize = 20_000;

/// The windows of a calendar's events that are not over, merged where they meet. `only`: of those whose title has this in it. Times
/// without a zone are in `zone`.
///
/// # Errors
/// It is no calendar, or an event of it has no time that can be read.
pub fn windows(
    text: &str,
    only: Option<&str>,
    zone: &TimeZone,
    now: Timestamp,
) -> Result<Vec<Window>, Wrong> {
    let calendar = ICalendar::parse(text).map_err(|_| "it is no iCalendar file (RFC 5545)".to_owned())?;
    let dates = calendar.expand_dates(Tz::Floating, MAX_EVENTS);
    let wanted = |component: &u32| {
        let component = calendar.components.get(*component as usize);
        component.filter(|component| is_wanted(component, only))
    };
    let wrong = dates.errors.iter().find_map(|error| wanted(&error.comp_id).map(|event| (event, error)));
    if let Some((event, wrong)) = wrong {
        return Err(format!("event \"{}\": {:?}", title(event), wrong.error));
    }
    let mut windows = Vec::new();
    for event in dates.events.iter().filter(|event| wanted(&event.comp_id).is_some()) {
        let seconds = event.start.timestamp();
        let floating = matches!(event.start.timezone(), Tz::Floating);
        let end = match &event.end {
            TimeOrDelta::Time(end) => end.timestamp(),
            TimeOrDelta::Delta(span) => seconds.saturating_add(span.num_seconds()),
        };
        let time = |seconds| in_zone(seconds, floating.then_some(zone)).ok_or("an event is too far away");
        let (from, until) = (time(seconds)?, time(end)?);
        if until > from && until > now {
            windows.push(Window { from: point(from), until: point(until) });
        }
    }
    windows.sort();
    Ok(merged(windows))
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
    component.component_type == ICalendarComponentType::VEvent
        && component.status() != Some(&ICalendarStatus::Cancelled)
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
        let windows = windows(text, only, &zone, now)?;
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

    #[test]
    fn what_is_no_calendar_and_an_event_without_a_time_are_refused() {
        assert!(read("windows = []", None).unwrap_err().contains("iCalendar"));
        let timeless =
            "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nUID:1\r\nSUMMARY:some day\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";
        assert!(read(timeless, None).unwrap_err().contains("some day"));
    }
}
