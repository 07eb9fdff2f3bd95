//! Local memory that may be lost: an ordered map of checked values, durable when a write says so.
//!
//! In come values of the model with a table and a number; out come the same values after a restart or a power cut. Not
//! here: the Raft log and anything that exists nowhere else. What is damaged is missing afterwards, never wrong: each
//! value carries a checksum of its own, and a ledger that does not open is set aside for a person to look at while an
//! empty one takes its place. Whoever uses it can rebuild it.
//!
//! sled is wrapped because of what was measured of it (0.34.7): `flush()` reports success without a sync, so a second
//! handle syncs the file; its timer-driven flush and large cache are off; values beyond 100 KiB would go to files that
//! nobody syncs, so they are refused here.

mod error;
mod open;
mod value;

use std::{fs::File, path::PathBuf};

use serde::{Serialize, de::DeserializeOwned};

pub use crate::error::LedgerError;

/// The largest encoded value.
pub const MAX_VALUE: usize = 96 << 10;

/// A table; its numbers belong to the program that owns the ledger and are never reused for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Table(pub u8);

/// An open ledger. Blocking: an async program calls it on a thread where that is allowed.
#[derive(Debug)]
pub struct Ledger {
    db: sled::Db,
    file: File,
}

/// A ledger, and what had to be given up to have it.
#[derive(Debug)]
pub struct Opened {
    /// The ledger, empty when the old one was set aside.
    pub ledger: Ledger,
    /// Where the old one lies now and why it did not open.
    pub set_aside: Option<(PathBuf, String)>,
}

/// The values of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values<T> {
    /// Whole ones, by number.
    pub values: Vec<(u64, T)>,
    /// How many were damaged or unreadable; they are removed.
    pub damaged: usize,
}

/// Changes that are applied together.
#[derive(Debug, Default)]
pub struct Batch(sled::Batch);

impl Batch {
    /// Adds or replaces a value.
    ///
    /// # Errors
    /// [`LedgerError::TooLarge`]: the value is not in the batch; the rest of the batch is good.
    pub fn put<T: Serialize>(&mut self, table: Table, number: u64, value: &T) -> Result<(), LedgerError> {
        let key = value::key(table, number);
        let sealed = value::seal(&key, value);
        if sealed.len() > MAX_VALUE {
            return Err(LedgerError::TooLarge { table: table.0, number, size: sealed.len() });
        }
        self.0.insert(key.to_vec(), sealed);
        Ok(())
    }

    /// Removes a value, if it is there.
    pub fn remove(&mut self, table: Table, number: u64) {
        self.0.remove(value::key(table, number).to_vec());
    }
}

impl Ledger {
    /// Applies a batch; when this returns, it is on the disk. Idempotent.
    ///
    /// # Errors
    /// [`LedgerError::Storage`]: nothing may be built on this write, nor on a later one; end the process.
    pub fn write(&self, batch: Batch) -> Result<(), LedgerError> {
        self.db.apply_batch(batch.0)?;
        self.sync()
    }

    /// All values of a table; damaged ones are removed and counted.
    ///
    /// # Errors
    /// [`LedgerError::Storage`]: the ledger cannot be read at all.
    pub fn read<T: DeserializeOwned>(&self, table: Table) -> Result<Values<T>, LedgerError> {
        let mut values = Vec::new();
        let mut damaged = Vec::new();
        for item in self.db.scan_prefix([table.0]) {
            let (key, sealed) = item?;
            match value::number(&key).zip(value::unseal(&key, &sealed)) {
                Some(value) => values.push(value),
                None => damaged.push(key),
            }
        }
        for key in &damaged {
            self.db.remove(key)?;
        }
        Ok(Values { values, damaged: damaged.len() })
    }

    fn sync(&self) -> Result<(), LedgerError> {
        self.db.flush()?;
        Ok(self.file.sync_data()?)
    }
}
