//! A preloaded library between a daemon and the kernel: a sync that fails, a wall clock that jumps, switched from here.
//!
//! Rejected: error-injecting block devices (device mapper is missing on most runners) and setting the machine's clock.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::run;

const SOURCE: &str = include_str!("shim.c");
/// Offset of the clock in seconds, then whether syncs fail; 64 bits each, as `shim.c` has them.
const ORDERS: u64 = 16;
const SYNC_FAILS_AT: u64 = 8;

/// One daemon's shim.
#[derive(Debug)]
pub struct Shim {
    library: PathBuf,
    orders: PathBuf,
    file: File,
}

impl Shim {
    /// Compiles the library into `dir` and returns where it is.
    ///
    /// # Errors
    /// There is no gcc.
    pub fn compile(dir: &Path) -> Result<PathBuf> {
        let (source, library) = (dir.join("shim.c"), dir.join("shim.so"));
        std::fs::write(&source, SOURCE)?;
        let mut gcc = Command::new("gcc");
        run(gcc.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(&source))?;
        Ok(library)
    }

    /// A shim that changes nothing yet; `orders` is the file that it is switched by.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn new(library: &Path, orders: PathBuf) -> Result<Shim> {
        let file = File::create(&orders).with_context(|| orders.display().to_string())?;
        file.set_len(ORDERS)?;
        Ok(Shim { library: library.to_owned(), orders, file })
    }

    /// Moves the wall clock by so many seconds from the true time.
    ///
    /// # Errors
    /// The file is gone.
    pub fn set_clock(&self, offset_s: i64) -> Result<()> {
        Ok(self.file.write_all_at(&offset_s.to_ne_bytes(), 0)?)
    }

    /// Makes every sync fail, or succeed again.
    ///
    /// # Errors
    /// The file is gone.
    pub fn fail_syncs(&self, fail: bool) -> Result<()> {
        Ok(self.file.write_all_at(&i64::from(fail).to_ne_bytes(), SYNC_FAILS_AT)?)
    }

    /// Puts it under a program that is not a daemon, such as `orchctl`.
    pub fn put_under(&self, command: &mut Command) {
        command.envs(self.environment());
    }

    pub(crate) fn environment(&self) -> [(&'static str, &Path); 2] {
        [("LD_PRELOAD", &self.library), ("ORCH_SHIM", &self.orders)]
    }
}
