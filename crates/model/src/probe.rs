//! Probes: what a node's agent asks a container to learn whether it is fit for work.
//!
//! They stand beside the engine's health check, which runs inside the container: a task is healthy when all of them say so. Only the
//! start-up and the liveness probe end an attempt; readiness takes a task out of rotation and never restarts it.

use std::{collections::BTreeMap, time::Duration};

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

/// A container's probes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Probes {
    /// Whether it has started. Until it succeeds the others are not run and the task is starting; when it has not succeeded within
    /// [`start_deadline`](Self::start_deadline), the attempt has failed.
    pub startup: Option<Probe>,
    /// Whether it takes traffic and counts as healthy. Never restarts anything.
    pub readiness: Option<Probe>,
    /// Whether it is still of any use: failing as often as it allows ends the attempt.
    pub liveness: Option<Probe>,
    /// How long an attempt may take until `startup` succeeds; zero = 10 min.
    pub start_deadline: Duration,
    /// What is asked of a container that counts as unhealthy before it is stopped, so that one can see why it was.
    pub diagnosis: Option<Diagnosis>,
}

impl Probes {
    /// No probe at all.
    pub fn is_empty(&self) -> bool {
        self.startup.is_none() && self.readiness.is_none() && self.liveness.is_none()
    }

    /// How long an attempt may take until `startup` succeeds.
    pub fn start_deadline(&self) -> Duration {
        or(self.start_deadline, Duration::from_secs(600))
    }
}

/// The last thing that is asked of a container that is about to be restarted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// What.
    pub by: DiagnosisBy,
    /// How long the program may take; after a signal, how long the process has to print. Zero = 5 s.
    #[serde(default)]
    pub within: Duration,
}

/// How a container tells what it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiagnosisBy {
    /// A signal to its main process, which prints something: a JVM its threads on `SIGQUIT`. It stands in the container's own log.
    Signal(String),
    /// A program run in the container. What it prints is kept with the attempt.
    Exec(Vec<String>),
}

impl Diagnosis {
    /// How long it may take.
    pub fn within(&self) -> Duration {
        or(self.within, Duration::from_secs(5))
    }
}

/// One probe: a question and how often it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The question.
    pub check: Check,
    /// From one question to the next; zero = 5 s. A container that never answered well is asked every half second, if that is
    /// shorter.
    #[serde(default)]
    pub interval: Duration,
    /// For one answer; zero = 2 s.
    #[serde(default)]
    pub timeout: Duration,
    /// Failures in a row until it counts as failed; 0 = 3.
    #[serde(default)]
    pub failures: u32,
    /// Successes in a row until it counts as succeeded; 0 = 1.
    #[serde(default)]
    pub successes: u32,
}

impl Probe {
    /// A probe that asks this as often as probes do by default.
    pub fn of(check: Check) -> Self {
        Self { check, interval: Duration::ZERO, timeout: Duration::ZERO, failures: 0, successes: 0 }
    }

    /// From one question to the next.
    pub fn interval(&self) -> Duration {
        or(self.interval, Duration::from_secs(5))
    }

    /// For one answer.
    pub fn timeout(&self) -> Duration {
        or(self.timeout, Duration::from_secs(2))
    }

    /// Failures in a row until it counts as failed.
    pub fn failures(&self) -> u32 {
        if self.failures == 0 { 3 } else { self.failures }
    }

    /// Successes in a row until it counts as succeeded.
    pub fn successes(&self) -> u32 {
        self.successes.max(1)
    }
}

fn or(span: Duration, default: Duration) -> Duration {
    if span.is_zero() { default } else { span }
}

/// What is asked. Ports are the container's own; they need not be published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// A request over HTTP/1.1, without TLS; redirects are not followed.
    Http(HttpCheck),
    /// A connection to this port.
    Tcp(u16),
    /// `grpc.health.v1.Health/Check` must answer `SERVING` (HTTP/2 without TLS).
    Grpc(GrpcCheck),
    /// A program in the container that must end with 0. One that outlasts the timeout counts as failed and goes on.
    Exec(Vec<String>),
}

/// A request and the answer that is expected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpCheck {
    /// In the container.
    pub port: u16,
    /// With its query; empty = `/`.
    pub path: String,
    /// Empty = `GET`.
    pub method: String,
    /// Sent besides `User-Agent` and, where it is not here, `Host`.
    pub headers: BTreeMap<String, String>,
    /// Codes and ranges that are well, such as `200-299,401`; empty = `200-399`.
    pub status: String,
    /// A regular expression that the body must match somewhere; empty = any body. Its first [`MAX_BODY`] bytes are looked at.
    pub body: String,
    /// A regular expression that the body must not match anywhere: for applications that say 200 and print an exception.
    pub body_not: String,
    /// By JSON pointer (RFC 6901): what the body must have there, as text.
    pub json: BTreeMap<String, String>,
}

impl HttpCheck {
    /// Whether a status code is well.
    pub fn accepts(&self, status: u16) -> bool {
        let well = if self.status.is_empty() { "200-399" } else { &self.status };
        ranges(well).is_ok_and(|ranges| ranges.iter().any(|(from, to)| (*from..=*to).contains(&status)))
    }

    /// Whether the body is looked at.
    pub fn reads_body(&self) -> bool {
        !self.body.is_empty() || !self.body_not.is_empty() || !self.json.is_empty()
    }
}

/// A question to the gRPC health service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GrpcCheck {
    /// In the container.
    pub port: u16,
    /// Empty: the server as a whole.
    pub service: String,
}

/// Bytes of a body that a probe looks at.
pub const MAX_BODY: usize = 64 << 10;

/// Bytes that a compiled expression may take.
const MAX_PATTERN: usize = 1 << 20;

/// Reads a regular expression over bytes, in time linear in what it is matched against (syntax of the crate `regex`).
///
/// # Errors
/// What is wrong with it, in one line.
pub fn pattern(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text).size_limit(MAX_PATTERN).dfa_size_limit(MAX_PATTERN).build().map_err(|error| {
        let said = error.to_string();
        said.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
    })
}

/// Reads `200-299,401`.
///
/// # Errors
/// What is no code or range.
pub fn ranges(text: &str) -> Result<Vec<(u16, u16)>, String> {
    let code = |text: &str| text.trim().parse::<u16>().ok().filter(|code| (100..=599).contains(code));
    text.split(',')
        .map(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            match (code(from), code(to)) {
                (Some(from), Some(to)) if from <= to => Ok((from, to)),
                _ => Err(format!("\"{}\" is no status code or range such as 200-299,401", part.trim())),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_codes_are_listed_or_the_usual_ones() {
        let usual = HttpCheck::default();
        assert!(usual.accepts(200) && usual.accepts(302) && !usual.accepts(404) && !usual.accepts(199));
        let listed = HttpCheck { status: "200-299, 401".into(), ..HttpCheck::default() };
        assert!(listed.accepts(204) && listed.accepts(401) && !listed.accepts(302));
        for wrong in ["2xx", "200-", "300-200", "99", "600", ","] {
            assert!(ranges(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pattern_that_is_wrong_or_huge_is_told_in_one_line() {
        assert!(pattern("(?i)exception").unwrap().is_match(b"java.lang.NullPointerEXCEPTION"));
        for wrong in ["(", "a{1000}{1000}{1000}"] {
            let told = pattern(wrong).unwrap_err();
            assert!(!told.is_empty() && !told.contains('\n'), "{told}");
        }
    }
}
