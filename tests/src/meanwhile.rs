//! Work beside threads that go on until it is done.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

/// Does the work and then says so, by a panic's way too: whoever waits for `done` always ends.
pub fn work<T>(done: &AtomicBool, work: impl FnOnce() -> T) -> T {
    let ended = catch_unwind(AssertUnwindSafe(work));
    done.store(true, Ordering::Relaxed);
    ended.unwrap_or_else(|panic| resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_hear_of_the_end_of_work_that_panics() {
        let done = AtomicBool::new(false);
        assert_eq!(work(&done, || 7), 7);
        done.store(false, Ordering::Relaxed);
        assert!(catch_unwind(AssertUnwindSafe(|| work(&done, || panic!("as meant")))).is_err());
        assert!(done.load(Ordering::Relaxed));
    }
}
