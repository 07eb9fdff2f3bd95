//! When an answer came, for those that do not say it themselves (RFC 9110, 6.6.1).

use std::{
    cell::RefCell,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

const FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

thread_local! {
    static WRITTEN: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// Does something with the date in words, written once a second.
pub fn with<T>(work: impl FnOnce(&str) -> T) -> T {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    WRITTEN.with_borrow_mut(|(second, text)| {
        if *second != now || text.is_empty() {
            let moment = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(now);
            *text = moment.format(FORMAT).unwrap_or_default();
            *second = now;
        }
        work(text)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_date_is_written_as_the_standard_writes_it() {
        let text = super::with(str::to_owned);
        assert_eq!(text.len(), "Sun, 06 Nov 1994 08:49:37 GMT".len());
        assert!(text.ends_with(" GMT") && text.as_bytes()[3] == b',', "{text}");
    }
}
