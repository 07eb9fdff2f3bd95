//! From inputs to other inputs: a few small changes at a time.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Longer inputs are cut: the readers' limits are tested apart.
const MAX_INPUT: usize = 64 << 10;
/// Numbers at which lengths and indices go wrong.
const NUMBERS: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_fffe,
    u64::MAX,
];

pub(crate) struct Mutator(ChaCha8Rng);

impl Mutator {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Another input, made from one or two of the pool.
    pub(crate) fn mutate(&mut self, pool: &[Vec<u8>]) -> Vec<u8> {
        let mut input = pool[self.below(pool.len())].clone();
        for _ in 0..1 + self.below(6) {
            self.change(&mut input, pool);
        }
        input.truncate(MAX_INPUT);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        match self.below(9) {
            0 if at < input.len() => input[at] ^= 1 << self.below(8),
            1 if at < input.len() => input[at] = self.0.random(),
            2 => input.insert(at, self.0.random()),
            3 => {
                let end = (at + 1 + self.below(16)).min(input.len());
                input.drain(at..end);
            }
            4 => {
                let end = (at + 1 + self.below(64)).min(input.len());
                let piece = input[at..end].to_vec();
                let to = self.below(input.len() + 1);
                input.splice(to..to, piece);
            }
            5 | 6 => self.put_number(input, at),
            7 => {
                let other = &pool[self.below(pool.len())];
                let from = self.below(other.len() + 1);
                let end = (from + self.below(256)).min(other.len());
                let stop = (at + self.below(64)).min(input.len());
                input.splice(at..stop, other[from..end].iter().copied());
            }
            _ => input.truncate(at),
        }
    }

    /// Overwrites one to eight bytes with a number at which something may go wrong, in either order.
    fn put_number(&mut self, input: &mut [u8], at: usize) {
        let number = NUMBERS[self.below(NUMBERS.len())];
        let width = [1, 2, 4, 8][self.below(4)];
        let mut bytes = number.to_le_bytes();
        if self.0.random() {
            bytes[..width].reverse();
        }
        for (place, byte) in input[at..].iter_mut().zip(&bytes[..width]) {
            *place = *byte;
        }
    }

    fn below(&mut self, count: usize) -> usize {
        self.0.random_range(0..count)
    }
}
