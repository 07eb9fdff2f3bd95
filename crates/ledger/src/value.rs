//! Keys, and values sealed with a checksum over key and contents: a value under a wrong key is damage too.

use serde::{Serialize, de::DeserializeOwned};

use crate::Table;

const KEY_LEN: usize = 9;
const CHECKSUM_LEN: usize = 4;

/// The table, then the number, so that a table's values lie together in the order of their numbers.
pub(crate) fn key(table: Table, number: u64) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    key[0] = table.0;
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

pub(crate) fn number(key: &[u8]) -> Option<u64> {
    let number: [u8; 8] = key.get(1..)?.try_into().ok()?;
    Some(u64::from_be_bytes(number))
}

pub(crate) fn seal<T: Serialize>(key: &[u8], value: &T) -> Vec<u8> {
    let encoded = proto::codec::encode(value);
    let mut sealed = checksum(key, &encoded).to_le_bytes().to_vec();
    sealed.extend_from_slice(&encoded);
    sealed
}

pub(crate) fn unseal<T: DeserializeOwned>(key: &[u8], sealed: &[u8]) -> Option<T> {
    let (stored, encoded) = sealed.split_at_checked(CHECKSUM_LEN)?;
    if stored != checksum(key, encoded).to_le_bytes() {
        return None;
    }
    proto::codec::decode(encoded).ok()
}

fn checksum(key: &[u8], encoded: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), encoded)
}
