//! What this side knows when the other refuses over clocks: an alert says that a certificate does not count, and not by how much.
//! The holder has the certificate and a clock of its own, so that both sides' words name seconds.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// Where this machine's clock stands in the life of our own certificate, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It counts: the clocks differ.
    Counts {
        /// Since its first second.
        since: u64,
        /// Until its last.
        left: u64,
    },
    /// It was not renewed in time.
    Expired {
        /// Since its last second.
        since: u64,
    },
    /// This machine's clock is behind.
    Ahead {
        /// Until its first second.
        left: u64,
    },
}

const COUNTS: [&str; 2] = ["by ours it has counted for ", " seconds and will for "];
const EXPIRED: &str = "by ours as well, since ";
const AHEAD: &str = "by ours it begins in ";

impl Standing {
    /// Of what was presented, by this machine's clock; `None` when it cannot be read.
    pub(super) fn of(own: &CertifiedKey) -> Option<Self> {
        let (_, leaf) = X509Certificate::from_der(own.cert.first()?).ok()?;
        let (first, last) = (leaf.validity().not_before.timestamp(), leaf.validity().not_after.timestamp());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        Some(Self::between(first, last, i64::try_from(now).ok()?))
    }

    fn between(first: i64, last: i64, now: i64) -> Self {
        if now < first {
            Self::Ahead { left: now.abs_diff(first) }
        } else if now > last {
            Self::Expired { since: now.abs_diff(last) }
        } else {
            Self::Counts { since: now.abs_diff(first), left: now.abs_diff(last) }
        }
    }

    /// Reads it out of a text that holds its own words.
    pub(super) fn find(text: &str) -> Option<Self> {
        let after = |mark: &str| {
            let (_, rest) = text.split_once(mark)?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        if let (Some(since), Some(left)) = (after(COUNTS[0]), after(COUNTS[1])) {
            return Some(Self::Counts { since, left });
        }
        let expired = after(EXPIRED).map(|since| Self::Expired { since });
        expired.or_else(|| after(AHEAD).map(|left| Self::Ahead { left }))
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counts { since, left } => write!(
                f,
                "{}{since}{}{left} more, so one clock is wrong by as much at least: set it",
                COUNTS[0], COUNTS[1]
            ),
            Self::Expired { since } => write!(f, "{EXPIRED}{since} seconds: renew it, or set the clock"),
            Self::Ahead { left } => write!(f, "{AHEAD}{left} seconds: set the clock"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standing_is_told_in_seconds_and_found_again_in_its_words() {
        let cases = [
            (150, Standing::Counts { since: 50, left: 150 }, "for 50 seconds and will for 150 more"),
            (100, Standing::Counts { since: 0, left: 200 }, "for 0 seconds"),
            (307, Standing::Expired { since: 7 }, "since 7 seconds"),
            (10, Standing::Ahead { left: 90 }, "begins in 90 seconds"),
        ];
        for (now, standing, said) in cases {
            assert_eq!(Standing::between(100, 300, now), standing);
            let text = format!("refused: {standing} (code 3)");
            assert!(text.contains(said), "{text}");
            assert_eq!(Standing::find(&text), Some(standing), "{text}");
        }
        assert_eq!(Standing::find("by its clock"), None);
    }
}
