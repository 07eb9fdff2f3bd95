//! Sizes and permissions of a log.

/// How to open a log.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether to create the log when the directory has none. `false` for a member that has acknowledged entries
    /// before: an empty directory must not pass for an empty log.
    pub create: bool,
    /// Identity of a log that is created: random, and not derived from the cluster, so that a segment or snapshot copied
    /// from another directory is recognised. Ignored when the log exists.
    pub log_id: u64,
    /// Length of segments that are prepared from now on, a multiple of 512, at least 32 KiB. A batch fits in one
    /// segment, so this also bounds a batch.
    pub segment_bytes: u64,
    /// Size of the reserve for a full disk; 0 for none.
    pub reserve_bytes: u64,
    /// Below so many free bytes `space()` says `Low`.
    pub low_water_bytes: u64,
}

impl Options {
    /// Returns the options of a manager, for a log that may have to be created: segments of 16 MiB (at 500 writes a
    /// second one lasts a minute; read back in milliseconds at open) and 64 MiB in reserve (four segments).
    pub fn new(log_id: u64) -> Self {
        Self {
            create: true,
            log_id,
            segment_bytes: 16 << 20,
            reserve_bytes: 64 << 20,
            low_water_bytes: 64 << 20,
        }
    }
}
