//! Request ids: 64 bits that no other client draws; and secrets, which nobody guesses.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::exit::Failure;

/// Draws an id; never 0, which means "none". The standard library's hash keys come from the system's entropy; the
/// time and the process make two draws of one process differ for sure.
pub fn id() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    hasher.write_u128(since.as_nanos());
    hasher.write_u32(std::process::id());
    hasher.finish().max(1)
}

/// Draws 256 bits from the operating system's entropy.
///
/// # Errors
/// It gives none: no secret is made of anything else.
pub fn secret() -> Result<[u8; 32], Failure> {
    let mut bytes = [0; 32];
    let drawn = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    // Up to 256 bytes come whole or not at all.
    match drawn {
        Ok(32) => Ok(bytes),
        Ok(_) => Err(Failure::error("the operating system gives too little entropy")),
        Err(error) => Err(Failure::error(format!("the operating system gives no entropy: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_two_ids_are_alike() {
        let ids: std::collections::BTreeSet<u64> = (0..1000).map(|_| super::id()).collect();
        assert_eq!(ids.len(), 1000);
    }
}
