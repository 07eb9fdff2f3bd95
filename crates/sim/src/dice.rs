//! Choices of a run: every random choice comes from here, seeded once and split by purpose, so that one more draw in one
//! part of the world does not change the others.

use std::time::Duration;

use model::hash::Fnv;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::queue::Time;

/// One stream of choices.
#[derive(Debug, Clone)]
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream of a seed for one purpose.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let mut hash = Fnv::new();
        hash.write_u64(seed);
        hash.write(purpose.as_bytes());
        Self(ChaCha8Rng::seed_from_u64(hash.finish()))
    }

    /// Any number.
    pub(crate) fn any(&mut self) -> u64 {
        self.0.random()
    }

    /// `low ..= high`.
    pub(crate) fn range(&mut self, low: u64, high: u64) -> u64 {
        if low >= high { low } else { self.0.random_range(low..=high) }
    }

    /// `0 .. count`; `count` is at least 1.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        self.range(0, count.max(1) as u64 - 1) as usize
    }

    /// True in so many of a thousand cases.
    pub(crate) fn permille(&mut self, chance: u32) -> bool {
        chance > 0 && self.range(1, 1_000) <= u64::from(chance)
    }

    /// A span between two numbers of milliseconds, to the microsecond.
    pub(crate) fn millis(&mut self, low: u64, high: u64) -> Time {
        self.range(low * 1_000, high * 1_000) * 1_000
    }

    /// As [`millis`](Self::millis), as a duration.
    pub(crate) fn span(&mut self, low_ms: u64, high_ms: u64) -> Duration {
        Duration::from_nanos(self.millis(low_ms, high_ms))
    }

    /// One of them.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { of.get(self.below(of.len())) }
    }
}
