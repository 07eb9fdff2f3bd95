//! Random numbers from the kernel: request ids and the seed of the core's generator.

use std::{fs::File, io::Read};

use anyhow::{Context, Result};

/// Eight random bytes as a number.
///
/// # Errors
/// The machine has no entropy: stop.
pub fn number() -> Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("no entropy")?;
    Ok(u64::from_le_bytes(bytes))
}
