//! Identities: small, copyable, never reused.
//!
//! Every id is fixed when a command is built (from the leader's seeded generator), so that every manager applies the
//! same value. In text (JSON, tables, container names) an id is 13 characters of Crockford's base 32 in lower case;
//! in binary encodings it is the integer itself.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 13 x 5 bits hold 64 bits.
const TEXT_LEN: usize = 13;

/// A text that is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not an id: expected 13 characters of 0-9 and a-z without i, l, o, u")]
pub struct ParseIdError(pub String);

fn encode(value: u64, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [0u8; TEXT_LEN];
    for (position, byte) in text.iter_mut().enumerate() {
        let shift = 5 * (TEXT_LEN - 1 - position);
        *byte = ALPHABET[((value >> shift) & 31) as usize];
    }
    out.pad(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
}

fn decode(text: &str) -> Result<u64, ParseIdError> {
    let wrong = || ParseIdError(text.chars().take(64).collect());
    if text.len() != TEXT_LEN {
        return Err(wrong());
    }
    let mut value: u64 = 0;
    for (position, byte) in text.bytes().enumerate() {
        let digit = ALPHABET.iter().position(|a| *a == byte).ok_or_else(wrong)? as u64;
        if position == 0 && digit > 15 {
            return Err(wrong());
        }
        value = (value << 5) | digit;
    }
    Ok(value)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                encode(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                encode(self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                decode(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serializer.serialize_u64(self.0)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
                } else {
                    u64::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

id!(
    /// One cluster, chosen at `init`; part of every certificate and of every container's labels.
    ClusterId
);
id!(
    /// One node for its whole life in the cluster; a node that was removed and joins again gets another.
    NodeId
);
id!(
    /// One service; a removed and re-created name gets another.
    ServiceId
);
id!(
    /// One placement of one slot on one node. A task never changes node; its container may be tried several times.
    TaskId
);
id!(
    /// One network of services; a removed and re-created name gets another.
    NetworkId
);
id!(
    /// One cron; a removed and re-created name gets another.
    CronId
);
id!(
    /// One join token (the public part; the secret is stored as a hash).
    TokenId
);
id!(
    /// One deploy token (the public part); a removed and re-created name gets another.
    DeployTokenId
);
id!(
    /// One request of a client, chosen by the client, so that a retry is applied once and answered the same.
    RequestId
);

id!(
    /// One user; a removed and re-created name gets another, so that an old certificate names nobody.
    UserId
);

/// A manager in the Raft group, a *member*. Raft ids are never reused: a wiped manager rejoins as another member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}", self.0)
    }
}

impl FromStr for MemberId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix('m').unwrap_or(text).parse().map(Self)
    }
}

/// The log index of an object's last change. A command carries the generation that it was decided on and is rejected
/// when the object has moved on (optimistic concurrency). `Generation(0)` means "does not exist yet".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_text() {
        for value in [0, 1, 31, 32, 0x0123_4567_89ab_cdef, u64::MAX] {
            let id = TaskId(value);
            assert_eq!(id.to_string().len(), TEXT_LEN);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn a_text_beyond_64_bits_or_of_other_letters_is_no_id() {
        for text in ["", "g000000000000", "zzzzzzzzzzzzz", "000000000000I", "00000000000000"] {
            assert!(text.parse::<TaskId>().is_err(), "{text}");
        }
    }
}
