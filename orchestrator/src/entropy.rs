//! Randomness for seeds and ids, from the operating system.

use anyhow::{Context, Result};

/// 64 random bits, never zero.
pub fn number() -> Result<u64> {
    let mut bytes = [0u8; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .context("the operating system gives no entropy")?;
    Ok(u64::from_le_bytes(bytes).max(1))
}
