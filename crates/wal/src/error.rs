//! Errors, sorted by what the caller does: reject the request, or stop the process.

use std::io;

/// Why a data directory was not opened. Nothing was written to it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Data at or before the durable extent is missing or wrong. Never truncated: this member must not vote with what is
    /// left; it rejoins by snapshot from its peers, and a single manager is restored from a backup.
    #[error("{file} is damaged at byte {offset}: {what}{}", .index.map(|index| format!(" (entries up to {index} are intact)")).unwrap_or_default())]
    Damaged {
        /// What is wrong, in words.
        what: String,
        /// The file.
        file: String,
        /// Where in the file.
        offset: u64,
        /// The last entry that was read before the damage.
        index: Option<u64>,
    },
    /// The operating system refused; the directory may be intact.
    #[error("cannot {action} {file}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        file: String,
        /// The refusal.
        source: io::Error,
    },
    /// A newer release wrote this directory.
    #[error("{file} has storage format {found}, this release reads up to {supported}: run the newer release")]
    UnsupportedVersion {
        /// The file.
        file: String,
        /// Its format.
        found: u32,
        /// The newest format that this release reads.
        supported: u32,
    },
    /// Another process has the directory open.
    #[error("the data directory is in use by another process")]
    Locked,
    /// There is no log here, and the options do not allow to create one.
    #[error("the data directory has no log")]
    Missing,
    /// The file system is too full to create the log or to repair its tail.
    #[error("no space for the log")]
    NoSpace,
}

impl OpenError {
    /// Whether what this member vouched for may be missing, and not only unreadable right now: it must not vote with what
    /// is left.
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Missing)
    }

    pub(crate) fn io(action: &'static str, file: &str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, file: file.to_owned(), source }
    }
}

/// Why the log did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// Stop: an earlier write or sync failed, and what is on disk is no longer known. The process must end; a restart
    /// reads the disk afresh.
    #[error("the log is closed after a failed write or sync")]
    Poisoned,
    /// Stop: this write or sync failed, and the log is poisoned now. It is never retried, because a kernel that failed
    /// a sync may report success for the next one without having written anything.
    #[error("cannot {action} {file}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        file: String,
        /// The refusal.
        source: io::Error,
    },
    /// Reject: the disk is full. Nothing was written and the log is intact. `Wal::use_reserve` makes room for what
    /// cannot be refused.
    #[error("no space for the next log segment or snapshot")]
    NoSpace,
    /// Reject: nothing was written.
    #[error("{bytes} bytes exceed the limit of {limit}")]
    TooLarge {
        /// The size.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// A bug of the caller: nothing was written.
    #[error("out of order: {0}")]
    OutOfOrder(&'static str),
    /// The stored snapshot does not check out.
    #[error("snapshot {file} is damaged at byte {offset}: {what}")]
    DamagedSnapshot {
        /// What is wrong, in words.
        what: &'static str,
        /// The file.
        file: String,
        /// Where in the file.
        offset: u64,
    },
}

impl WalError {
    /// As [`OpenError::is_loss`], of what is read after the log was opened.
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::DamagedSnapshot { .. })
    }

    pub(crate) fn io(action: &'static str, file: &str, source: io::Error) -> Self {
        Self::Io { action, file: file.to_owned(), source }
    }
}
