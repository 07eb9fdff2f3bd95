//! What was tried without success, and how that is told: which addresses, and why each.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    time::{Duration, Instant},
};

use model::request::{ApiError, ErrorCode, Request};
use rpc::tls::TlsError;

use super::{ATTEMPT_LIMIT, hedge::HEDGE};
use crate::exit::{Code, Failure};

/// The fruitless attempts of one call.
pub struct Attempts {
    context: String,
    managers: usize,
    patience: Duration,
    began: Instant,
    /// Per address, the newest reason.
    reasons: BTreeMap<String, String>,
    /// Addresses where only a person can help.
    hopeless: BTreeSet<String>,
    busy: Option<ApiError>,
}

impl Attempts {
    /// Nothing tried yet.
    pub fn new(context: &str, managers: usize, patience: Duration) -> Self {
        Self {
            context: context.into(),
            managers,
            patience,
            began: Instant::now(),
            reasons: BTreeMap::new(),
            hopeless: BTreeSet::new(),
            busy: None,
        }
    }

    /// A manager answered that it cannot decide.
    pub fn busy(&mut self, error: ApiError) {
        self.busy = Some(error);
    }

    /// A manager could not be asked.
    ///
    /// # Errors
    /// No manager can be asked, and trying again would not help: a certificate is refused everywhere.
    pub fn failed(&mut self, address: String, status: &tonic::Status) -> Result<(), Failure> {
        let tls = TlsError::in_chain(status);
        let retry = tls.as_ref().is_none_or(is_passing);
        let reason = tls.map_or_else(|| status.message().to_owned(), |error| with_causes(&error));
        if retry {
            self.hopeless.remove(&address);
        } else {
            self.hopeless.insert(address.clone());
        }
        self.reasons.insert(address, reason);
        if self.hopeless.len() == self.managers { Err(self.unreachable(Code::DENIED)) } else { Ok(()) }
    }

    /// How long a manager may take to open a stream: with others to ask, a moment at first, then what it takes.
    pub fn opening_limit(&self) -> Duration {
        if self.managers > 1 && self.reasons.len() < self.managers { HEDGE } else { ATTEMPT_LIMIT }
    }

    /// Every manager was tried once more.
    ///
    /// # Errors
    /// None could be reached for as long as we are patient.
    pub fn round(&self) -> Result<(), Failure> {
        if self.busy.is_none() && self.began.elapsed() >= self.patience {
            return Err(self.unreachable(Code::ERROR));
        }
        Ok(())
    }

    /// The time is over.
    pub fn deadline(self, request: &Request) -> Failure {
        if let Some(error) = self.busy {
            return error.into();
        }
        if !self.reasons.is_empty() {
            return self.unreachable(Code::ERROR);
        }
        let message = if request.is_read() { "no answer in time" } else { "not decided in time" };
        ApiError::new(ErrorCode::Deadline, message).into()
    }

    fn unreachable(&self, code: Code) -> Failure {
        let mut message = format!("no manager of context \"{}\" can be reached:", self.context);
        for (address, reason) in &self.reasons {
            message.push_str(&format!("\n  {address}: {reason}"));
        }
        Failure::new(code, message)
    }
}

/// The error and what caused it, in one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

/// Whether another try may succeed without anybody's doing.
fn is_passing(error: &TlsError) -> bool {
    matches!(error, TlsError::Unreachable { .. } | TlsError::TimedOut { .. } | TlsError::Closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_every_address_and_why() {
        let mut attempts = Attempts::new("prod", 2, Duration::ZERO);
        attempts.failed("a:1".into(), &tonic::Status::unavailable("connection refused")).unwrap();
        attempts.failed("b:2".into(), &tonic::Status::unavailable("no route to host")).unwrap();
        let failure = attempts.round().unwrap_err();
        for part in ["prod", "a:1: connection refused", "b:2: no route to host"] {
            assert!(failure.message.contains(part), "{failure}");
        }
        assert_eq!(failure.code, Code::ERROR);
    }

    #[test]
    fn while_a_manager_answers_without_a_leader_the_patience_is_the_deadline() {
        let mut attempts = Attempts::new("prod", 1, Duration::ZERO);
        attempts.busy(ApiError::new(ErrorCode::Unavailable, "no leader is known"));
        assert!(attempts.round().is_ok());
        let failure = attempts.deadline(&Request::ListNodes);
        assert!(
            failure.message.contains("no leader is known") && failure.message.contains("--stale"),
            "{failure}"
        );
    }
}
