//! The flag that closes a log for good after a failed write or sync.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::WalError;

/// Shared by a log and its snapshot writers, which may live on another thread.
#[derive(Clone, Default)]
pub(crate) struct Poison(Arc<AtomicBool>);

impl Poison {
    /// Refuses once anything has failed.
    pub(crate) fn check(&self) -> Result<(), WalError> {
        if self.0.load(Ordering::Acquire) { Err(WalError::Poisoned) } else { Ok(()) }
    }

    /// Closes the log and returns the error that says why.
    pub(crate) fn fail(&self, action: &'static str, file: &str, source: io::Error) -> WalError {
        self.0.store(true, Ordering::Release);
        WalError::io(action, file, source)
    }
}
