//! Random numbers for choices among replicas: quick, shared by all threads, not for secrets.

use std::sync::atomic::{AtomicU64, Ordering};

/// A SplitMix64 generator.
#[derive(Debug)]
pub struct Random(AtomicU64);

impl Random {
    /// Begins at a seed.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        let mut value = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
}
