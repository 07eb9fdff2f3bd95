//! The one encoding of the model's values: a format-version byte, then MessagePack with field names.
//!
//! Field names make it self-describing: an older program skips what it does not know, a newer one fills what is missing.
//! The version byte is raised only when a reader must not even try; a program refuses versions above its own.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};

/// The newest format that this program writes and reads.
pub const FORMAT: u8 = 1;

/// Bytes that are not a value of the expected type.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Nothing there.
    #[error("the message is empty")]
    Empty,
    /// Written by a newer program.
    #[error("the message has format {found}; this program reads up to {FORMAT}: upgrade it")]
    Newer {
        /// Its format.
        found: u8,
    },
    /// Damaged, or another type.
    #[error("the message cannot be read: {0}")]
    Malformed(#[from] rmp_serde::decode::Error),
}

/// Encodes a value.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Bytes {
    let mut out = BytesMut::with_capacity(256);
    out.put_u8(FORMAT);
    let mut writer = out.writer();
    rmp_serde::encode::write_named(&mut writer, value).expect("a model value always encodes into memory");
    writer.into_inner().freeze()
}

/// Decodes a value.
///
/// # Errors
/// [`CodecError`]: refuse the message; a peer that sends such is of another version or faulty.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (format, body) = bytes.split_first().ok_or(CodecError::Empty)?;
    if *format == 0 || *format > FORMAT {
        return Err(CodecError::Newer { found: *format });
    }
    Ok(rmp_serde::from_slice(body)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{
        command::{Command, Entry},
        id::{RequestId, ServiceId},
        identity::{Identity, Role},
        service::ServiceSpec,
        time::ClusterTime,
    };
    use serde::Deserialize;

    #[test]
    fn an_entry_reads_back() {
        let entry = Entry {
            at: ClusterTime(7),
            request: Some(RequestId(8)),
            actor: Identity::Operator { name: "ann".into(), role: Role::Admin },
            command: Command::CreateService {
                id: ServiceId(u64::MAX),
                spec: ServiceSpec { name: "ispyb".into(), ..ServiceSpec::default() }.into(),
            },
            origin: Default::default(),
        };
        assert_eq!(decode::<Entry>(&encode(&entry)).expect("reads back"), entry);
    }

    #[test]
    fn an_unknown_field_is_skipped_and_a_missing_one_takes_its_default() {
        #[derive(Serialize)]
        struct Newer {
            name: &'static str,
            colour: u8,
        }
        #[derive(Debug, PartialEq, Deserialize)]
        #[serde(default)]
        #[derive(Default)]
        struct Older {
            name: String,
            size: u8,
        }
        let read: Older = decode(&encode(&Newer { name: "a", colour: 3 })).expect("reads");
        assert_eq!(read, Older { name: "a".into(), size: 0 });
    }

    #[test]
    fn a_newer_format_and_garbage_are_refused() {
        assert!(matches!(decode::<Entry>(&[FORMAT + 1, 0]), Err(CodecError::Newer { .. })));
        assert!(matches!(decode::<Entry>(&[FORMAT, 0xc1]), Err(CodecError::Malformed(_))));
        assert!(matches!(decode::<Entry>(&[]), Err(CodecError::Empty)));
    }
}
