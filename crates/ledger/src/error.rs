//! Why the ledger cannot do what was asked, by what the caller does about it.

use std::io;

/// A failure of the ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Do without storing this value.
    #[error(
        "value {number} of table {table} has {size} bytes, more than the {} that are stored",
        crate::MAX_VALUE
    )]
    TooLarge {
        /// The table.
        table: u8,
        /// The number.
        number: u64,
        /// Its encoded size.
        size: usize,
    },
    /// Another process has it open: end this one.
    #[error("the ledger is open in another process")]
    Busy,
    /// The disk or the files: end the process, the next start sets them aside.
    #[error("the ledger's storage failed: {0}")]
    Storage(#[from] sled::Error),
    /// As [`Storage`](Self::Storage).
    #[error("the ledger's storage failed: {0}")]
    Io(#[from] io::Error),
}
