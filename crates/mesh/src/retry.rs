//! Whether a request that failed goes to another replica.
//!
//! A second try must not do twice what may be done once, and must not turn a slow service into an overloaded one. So what was
//! never sent is always tried again; what may have been carried out only when the method says that twice is as good as once
//! (RFC 9110, 9.2.2) and the body can be sent again, and only within a [`Budget`]. An answer that has begun is never replaced.

use crate::balance::Failure;

/// How often a request is tried in all.
pub const MAX_TRIES: usize = 3;

/// Retries that a service may have at any time, however little traffic it has had.
const RESERVE: u32 = 10;
/// Retries that can be saved up: a burst of failures after a long calm.
const SAVED: u32 = 100;
/// What one request adds, in hundredths of a retry: one extra request for five.
const SHARE: u32 = 20;
const RETRY: u32 = 100;

/// A service's allowance for requests beyond those of its clients.
#[derive(Debug)]
pub struct Budget(u32);

/// What can be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Nothing, or it is kept in full.
    Kept,
    /// It passes through; nothing of it was sent so far.
    Streamed,
    /// It passes through, and some of it may have been sent.
    Begun,
}

/// A request as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// Twice is as good as once.
    pub idempotent: bool,
    /// Its body.
    pub body: Body,
    /// Tries so far.
    pub tries: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self(RESERVE * RETRY)
    }
}

impl Budget {
    /// A client's request came.
    pub fn deposit(&mut self) {
        self.0 = (self.0 + SHARE).min(SAVED * RETRY);
    }

    /// Takes one retry; says whether there was one.
    pub fn withdraw(&mut self) -> bool {
        let rest = self.0.checked_sub(RETRY);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }
}

/// Whether a method may be carried out twice.
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE")
}

/// Whether a failed request is tried again.
pub fn may_retry(failure: Failure, attempt: Attempt, budget: &mut Budget) -> bool {
    if attempt.tries >= MAX_TRIES {
        return false;
    }
    match failure {
        Failure::Unreachable | Failure::Withdrawn => attempt.body != Body::Begun,
        Failure::Broken | Failure::Late => {
            attempt.idempotent && attempt.body == Body::Kept && budget.withdraw()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(failure: Failure, method: &str, body: Body) -> bool {
        let attempt = Attempt { idempotent: is_idempotent(method), body, tries: 1 };
        may_retry(failure, attempt, &mut Budget::default())
    }

    #[test]
    fn what_was_never_sent_is_tried_again_whatever_it_is() {
        assert!(check(Failure::Unreachable, "POST", Body::Streamed));
        assert!(check(Failure::Withdrawn, "PATCH", Body::Kept));
        assert!(!check(Failure::Unreachable, "PUT", Body::Begun));
    }

    #[test]
    fn what_may_have_been_done_is_repeated_only_where_twice_is_as_good_as_once() {
        for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"] {
            assert!(check(Failure::Broken, method, Body::Kept), "{method}");
            assert!(check(Failure::Late, method, Body::Kept), "{method}");
        }
        for method in ["POST", "PATCH", "CONNECT"] {
            assert!(!check(Failure::Broken, method, Body::Kept), "{method}");
        }
        assert!(!check(Failure::Broken, "PUT", Body::Streamed));
        assert!(!check(Failure::Broken, "PUT", Body::Begun));
    }

    #[test]
    fn no_request_is_tried_more_than_three_times() {
        let attempt = |tries| Attempt { idempotent: true, body: Body::Kept, tries };
        assert!(may_retry(Failure::Unreachable, attempt(2), &mut Budget::default()));
        assert!(!may_retry(Failure::Unreachable, attempt(3), &mut Budget::default()));
    }

    #[test]
    fn retries_stay_within_a_fifth_of_the_requests_beyond_the_reserve() {
        let mut budget = Budget::default();
        let mut retries = 0;
        for _ in 0..1_000 {
            budget.deposit();
            retries += u32::from(budget.withdraw());
        }
        assert_eq!(retries, RESERVE + 200);
    }

    #[test]
    fn what_is_saved_up_has_a_bound() {
        let mut budget = Budget::default();
        (0..1_000_000).for_each(|_| budget.deposit());
        assert_eq!((0..1_000).filter(|_| budget.withdraw()).count() as u32, SAVED);
    }
}
