//! Request ids: 64 bits that no other client draws.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::{SystemTime, UNIX_EPOCH},
};

/// Draws an id; never 0, which means "none". The standard library's hash keys come from the system's entropy; the
/// time and the process make two draws of one process differ for sure.
pub fn id() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    hasher.write_u128(since.as_nanos());
    hasher.write_u32(std::process::id());
    hasher.finish().max(1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_two_ids_are_alike() {
        let ids: std::collections::BTreeSet<u64> = (0..1000).map(|_| super::id()).collect();
        assert_eq!(ids.len(), 1000);
    }
}
