//! What came of a call: done, refused and by whom, or never heard.

use anyhow::Result;
use model::request::{ApiError, ErrorCode, Reply};
use rpc::tls::TlsError;
use tonic::{Code, Status};

use crate::cluster::ctl::Said;

/// How managers let somebody in, or do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It was done, or could not be done for another reason than who asked.
    Allowed,
    /// Known, and not allowed to.
    Denied,
    /// Not, or no longer, of this cluster.
    Unauthenticated,
    /// No word was exchanged.
    NoHandshake,
    /// Nobody decided: no leader, or no connection.
    Undecided,
}

/// An answer as the one who asked has it.
#[derive(Debug, Clone)]
pub struct Answer {
    pub verdict: Verdict,
    /// Whether it was refused, for whatever reason.
    pub refused: bool,
    /// In words; empty when it was done.
    pub said: String,
}

impl Answer {
    /// Done.
    pub fn done() -> Answer {
        Answer { verdict: Verdict::Allowed, refused: false, said: String::new() }
    }

    /// A refusal.
    pub fn refused(verdict: Verdict, said: impl Into<String>) -> Answer {
        Answer { verdict, refused: true, said: said.into() }
    }

    /// Of a call of the control API.
    pub fn of(outcome: &Result<Reply>) -> Answer {
        let Err(error) = outcome else { return Answer::done() };
        if let Some(error) = error.downcast_ref::<ApiError>() {
            return Answer::refused(verdict_of(error.code), words(error));
        }
        match error.downcast_ref::<Status>() {
            Some(status) => Answer::of_status(status),
            None => Answer::refused(Verdict::Undecided, format!("{error:#}")),
        }
    }

    /// Of a call that was not answered.
    pub fn of_status(status: &Status) -> Answer {
        if let Some(error) = TlsError::in_chain(status) {
            let refused = matches!(error, TlsError::Refused(_));
            let verdict = if refused { Verdict::NoHandshake } else { Verdict::Undecided };
            return Answer::refused(verdict, error.to_string());
        }
        let verdict = match status.code() {
            Code::PermissionDenied => Verdict::Denied,
            Code::Unauthenticated => Verdict::Unauthenticated,
            Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal | Code::DeadlineExceeded => {
                Verdict::Undecided
            }
            _ => Verdict::Allowed,
        };
        Answer::refused(verdict, status.message())
    }

    /// Of a program that ended.
    pub fn of_program(said: &Said) -> Answer {
        match said.code {
            0 => Answer::done(),
            4 => Answer::refused(Verdict::Denied, &said.err),
            _ => Answer::refused(Verdict::Allowed, &said.err),
        }
    }
}

/// The message, with all problems.
fn words(error: &ApiError) -> String {
    let problems = error.problems.iter().map(|problem| format!("; {problem}"));
    std::iter::once(error.message.clone()).chain(problems).collect()
}

fn verdict_of(code: ErrorCode) -> Verdict {
    match code {
        ErrorCode::Denied => Verdict::Denied,
        ErrorCode::Unauthenticated => Verdict::Unauthenticated,
        ErrorCode::Unavailable
        | ErrorCode::NotLeader
        | ErrorCode::Deadline
        | ErrorCode::Internal
        | ErrorCode::Exhausted => Verdict::Undecided,
        ErrorCode::Invalid
        | ErrorCode::NotFound
        | ErrorCode::AlreadyExists
        | ErrorCode::Conflict
        | ErrorCode::Frozen => Verdict::Allowed,
    }
}
