//! Randomness for seeds and ids, from the operating system.

use anyhow::{Context, Result};

/// 64 random bits, never zero.
pub fn number() -> Result<u64> {
    Ok(u64::from_le_bytes(bytes()?).max(1))
}

/// So many random bytes.
pub fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0u8; N];
    let read = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .context("the operating system gives no entropy")?;
    // Up to 256 bytes come whole.
    anyhow::ensure!(read == N, "the operating system gives too little entropy");
    Ok(bytes)
}
