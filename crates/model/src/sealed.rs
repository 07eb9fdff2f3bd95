//! What is sealed with the managers' data key, and what is told of that key.
//!
//! The state, the log and the snapshots hold [`Sealed`] values and the keys' numbers and fingerprints; a data key itself lies in
//! each manager's keyring and nowhere else. How something is sealed says the crate `seal`.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::time::ClusterTime;

/// Counts the data keys of a cluster, from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub u64);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A value that only who has the data key can read.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// With which data key.
    pub key: KeyId,
    /// Used once with that key.
    pub nonce: [u8; 12],
    /// The value, encrypted, and the tag that vouches for it.
    pub bytes: Bytes,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes with key {})", self.bytes.len(), self.key)
    }
}

/// Where a login is used whose secret the state holds sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoginAt {
    /// At a registry, by its host.
    Registry(String),
    /// At the directory of a login method, by the method's name.
    Directory(String),
}

impl fmt::Display for LoginAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(host) => write!(f, "registry \"{host}\""),
            Self::Directory(method) => write!(f, "login method \"{method}\""),
        }
    }
}

/// A value in clear, on its way: from whoever declares it to the leader, and from the leader to a node that runs what names it.
/// It is never stored, and has no words for people.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Clear(Bytes);

impl Clear {
    /// Takes a value.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// The value itself, for the places that need it.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Clear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// What the state says of a data key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Its number.
    pub id: KeyId,
    /// Tells it from any other key of that number; says nothing about it.
    pub fingerprint: u64,
    /// When it was made.
    pub made: ClusterTime,
}

/// The data keys of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DataKeys {
    /// What is sealed from now on is sealed with this one. 0: there is none yet.
    pub active: KeyId,
    /// The active one, the one that is to follow it, and those that something is still sealed with, by number.
    pub known: Vec<KeyRecord>,
}

impl DataKeys {
    /// Whether there never was one.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// What is known of a key.
    pub fn record(&self, id: KeyId) -> Option<&KeyRecord> {
        self.known.iter().find(|record| record.id == id)
    }

    /// The key that is to take the active one's place once every manager holds it.
    pub fn next(&self) -> Option<&KeyRecord> {
        self.known.last().filter(|record| record.id > self.active)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_printed_of_a_value_is_the_value() {
        assert_eq!(format!("{:?}", Clear::new("hunter2")), "<redacted>");
    }
}
