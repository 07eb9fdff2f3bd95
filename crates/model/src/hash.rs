//! FNV-1a, 64 bits: a fixed, well-known hash, the same in every version and on every machine. It guards against mistakes,
//! not against people. (Fowler, Noll, Vo; draft-eastlake-fnv)

/// A hash in the making.
#[derive(Debug, Clone, Copy)]
pub struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self::new()
    }
}

impl Fnv {
    /// The offset basis.
    pub fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// Adds a number, little-endian.
    pub fn write_u64(&mut self, value: u64) {
        self.write(&value.to_le_bytes());
    }

    /// The value.
    pub fn finish(self) -> u64 {
        self.0
    }

    /// The value, with every bit spread over all others (MurmurHash3's finalizer): for hashes that are summed. FNV alone is
    /// close to linear, and two small differences in opposite directions would cancel out.
    pub fn finish_mixed(self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}
