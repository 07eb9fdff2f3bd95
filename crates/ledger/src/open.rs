//! Opening, and setting aside what does not open.
//!
//! sled meets some damage with an error and some with a panic, which ends a daemon that was built to abort. Therefore a
//! mark is left before each try and taken away after it: who finds many marks knows that opening kills, and sets aside.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
};

use crate::{Ledger, LedgerError, Opened};

/// Small: the ledger is read once at the start and written afterwards.
const CACHE_BYTES: u64 = 2 << 20;
/// Power cuts and kills end a try too, even several in a row: a host that boots badly, an impatient person. Without
/// managers a ledger that was set aside costs every task until they are back, so it takes more than bad luck; a supervisor
/// that waits a second between two starts gets there in eight.
const FATAL_TRIES: u8 = 8;

impl Ledger {
    /// Opens the ledger in a directory, making it when there is none.
    ///
    /// # Errors
    /// [`LedgerError::Busy`] when another process has it; otherwise the directory cannot be used at all.
    pub fn open(directory: &Path) -> Result<Opened, LedgerError> {
        let mark = directory.with_extension("opening");
        let tries = tries_so_far(&mark);
        if tries < FATAL_TRIES {
            leave_mark(&mark, tries + 1)?;
            match try_open(directory) {
                Ok(ledger) => {
                    fs::remove_file(&mark)?;
                    return Ok(Opened { ledger, set_aside: None });
                }
                Err(LedgerError::Busy) => {
                    fs::remove_file(&mark)?;
                    return Err(LedgerError::Busy);
                }
                Err(error) => return start_anew(directory, &mark, error.to_string()),
            }
        }
        start_anew(directory, &mark, format!("opening it ended the process {FATAL_TRIES} times"))
    }
}

/// The mark's size is the number of tries.
fn tries_so_far(mark: &Path) -> u8 {
    fs::metadata(mark).map_or(0, |metadata| u8::try_from(metadata.len()).unwrap_or(u8::MAX))
}

fn leave_mark(mark: &Path, tries: u8) -> io::Result<()> {
    let mut file = File::create(mark)?;
    file.write_all(&vec![b'.'; usize::from(tries)])?;
    file.sync_all()
}

fn try_open(directory: &Path) -> Result<Ledger, LedgerError> {
    let config = sled::Config::new().path(directory).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let opened = panic::catch_unwind(AssertUnwindSafe(|| config.open()));
    let panicked = |_| Err(sled::Error::ReportableBug("it panicked while it was opened".to_owned()));
    let db = opened.unwrap_or_else(panicked).map_err(busy_or_broken)?;
    let file = OpenOptions::new().write(true).open(directory.join("db"))?;
    let ledger = Ledger { db, file };
    ledger.sync()?;
    sync_directory(directory)?;
    if let Some(parent) = directory.parent() {
        sync_directory(parent)?;
    }
    Ok(ledger)
}

fn busy_or_broken(error: sled::Error) -> LedgerError {
    match &error {
        sled::Error::Io(io) if io.to_string().contains("could not acquire lock") => LedgerError::Busy,
        _ => LedgerError::Storage(error),
    }
}

/// Only the newest damaged ledger is kept: they never fill the disk.
fn start_anew(directory: &Path, mark: &Path, reason: String) -> Result<Opened, LedgerError> {
    let aside: PathBuf = directory.with_extension("damaged");
    if aside.exists() {
        fs::remove_dir_all(&aside)?;
    }
    fs::rename(directory, &aside)?;
    let ledger = try_open(directory)?;
    fs::remove_file(mark)?;
    Ok(Opened { ledger, set_aside: Some((aside, reason)) })
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
