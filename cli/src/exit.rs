//! How a command fails: one type that carries the message, every problem, and the exit code that scripts branch on.
//!
//! 0 done, 1 error, 2 invalid, 3 rolled back or paused, 4 denied, 5 busy or conflict, 6 frozen, 7 deadline,
//! 130 interrupted.

use std::{fmt, io};

use model::{
    request::{ApiError, ErrorCode},
    validate::Problem,
};
use serde::Serialize;

/// An exit code of `orchctl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u8);

impl Code {
    /// Done.
    pub const DONE: Self = Self(0);
    /// Something else went wrong.
    pub const ERROR: Self = Self(1);
    /// The request or the command line must be mended.
    pub const INVALID: Self = Self(2);
    /// The rollout failed: it was paused or rolled back.
    pub const ROLLED_BACK: Self = Self(3);
    /// Not allowed, or not accepted as who one claims to be.
    pub const DENIED: Self = Self(4);
    /// It changed meanwhile, or something else is under way.
    pub const CONFLICT: Self = Self(5);
    /// Waited long enough; the change goes on.
    pub const DEADLINE: Self = Self(7);
    /// Ctrl-C; the change goes on.
    pub const INTERRUPTED: Self = Self(130);
}

/// Why a command did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// What is wrong, and what to do; several lines where that helps.
    pub message: String,
    /// Every problem of a spec or a command line, each with its path.
    pub problems: Vec<Problem>,
    /// The API's word, where it was the API that refused.
    pub api: Option<ErrorCode>,
}

impl Failure {
    /// A failure without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), problems: Vec::new(), api: None }
    }

    /// A failure that no other code describes.
    pub fn error(message: impl Into<String>) -> Self {
        Self::new(Code::ERROR, message)
    }

    /// A wrong command line or file.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::INVALID, message)
    }

    /// A file or directory that could not be read or written.
    pub fn file(doing: &str, path: &std::path::Path, error: &io::Error) -> Self {
        Self::error(format!("cannot {doing} {}: {error}", path.display()))
    }

    /// The failure as the one JSON document of `--json`.
    pub fn to_json(&self) -> serde_json::Value {
        #[derive(Serialize)]
        struct Document<'a> {
            exit: u8,
            code: Option<ErrorCode>,
            message: &'a str,
            problems: &'a [Problem],
        }
        let document =
            Document { exit: self.code.0, code: self.api, message: &self.message, problems: &self.problems };
        serde_json::json!({ "error": document })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let told = matches!(&self.problems[..], [only] if only.to_string() == self.message);
        if !told {
            for problem in &self.problems {
                write!(f, "\n  {problem}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let mut message = error.message;
        match error.code {
            ErrorCode::Unavailable | ErrorCode::NotLeader => {
                message.push_str("\nno manager can decide right now (no leader or no quorum); reads still work with --stale");
            }
            ErrorCode::Deadline => {
                message.push_str("\nit may still happen: look before you repeat it");
            }
            ErrorCode::Internal => {
                message.push_str("\nthis is a defect of ours; the manager's log says more")
            }
            _ => {}
        }
        Self { code: Code(error.code.exit_code()), message, problems: error.problems, api: Some(error.code) }
    }
}

impl From<Vec<Problem>> for Failure {
    fn from(problems: Vec<Problem>) -> Self {
        let message = match &problems[..] {
            [only] => only.to_string(),
            _ => format!("{} problems:", problems.len()),
        };
        Self { code: Code::INVALID, message, problems, api: Some(ErrorCode::Invalid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(path: &str) -> Problem {
        Problem { path: path.into(), message: "is wrong".into() }
    }

    #[test]
    fn every_problem_is_printed_and_a_single_one_only_once() {
        let two = Failure::from(vec![problem("a"), problem("b")]);
        assert_eq!(two.to_string(), "2 problems:\n  a: is wrong\n  b: is wrong");
        assert_eq!(Failure::from(vec![problem("a")]).to_string(), "a: is wrong");
        assert_eq!(two.code, Code::INVALID);
    }

    #[test]
    fn each_refusal_has_the_exit_code_that_scripts_branch_on() {
        let exit = |code| Failure::from(ApiError::new(code, "x")).code.0;
        let expected = [
            (ErrorCode::Invalid, 2),
            (ErrorCode::NotFound, 1),
            (ErrorCode::Denied, 4),
            (ErrorCode::Unauthenticated, 4),
            (ErrorCode::Conflict, 5),
            (ErrorCode::AlreadyExists, 5),
            (ErrorCode::Frozen, 6),
            (ErrorCode::Deadline, 7),
            (ErrorCode::Unavailable, 1),
        ];
        for (code, number) in expected {
            assert_eq!(exit(code), number, "{code:?}");
        }
    }

    #[test]
    fn without_a_quorum_the_message_points_to_stale_reads() {
        let failure = Failure::from(ApiError::new(ErrorCode::Unavailable, "no leader"));
        assert!(failure.to_string().contains("--stale"), "{failure}");
    }
}
