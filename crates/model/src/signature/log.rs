//! What the log Rekor says of a signature, as cosign puts it beside one: that it was there at a time, signed by the log.
//!
//! An offline proof: the "signed entry timestamp" (<https://docs.sigstore.dev/logging/overview/>) is the log's promise to have the
//! entry, and its word for the time. Whether the log keeps its promise is for those to find out who watch it.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};

use super::{PublicKey, identity::first_certificate, payload::signed};
use crate::audit::Digest;

/// Bytes of a bundle that is kept with a declaration; its entry has the certificate, packed twice.
pub const MAX_ENTRY: usize = 16 << 10;

#[derive(Deserialize)]
struct Bundle {
    #[serde(rename = "SignedEntryTimestamp")]
    promise: String,
    #[serde(rename = "Payload")]
    entry: Entry,
}

/// What the log signs, in the order of its canonical form (RFC 8785).
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    body: String,
    integrated_time: u64,
    #[serde(rename = "logID")]
    log: String,
    log_index: u64,
}

/// The kinds of entries for a signature over a hash, and for an envelope (DSSE).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    api_version: String,
    kind: String,
    spec: Spec,
}

/// What was recorded: a signature over bytes with this hash, or signatures over a payload with this one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Spec {
    Bytes {
        data: Data,
        signature: Signature,
    },
    #[serde(rename_all = "camelCase")]
    Envelope {
        payload_hash: Hash,
        signatures: Vec<Verified>,
    },
}

#[derive(Deserialize)]
struct Data {
    hash: Hash,
}

#[derive(Deserialize)]
struct Verified {
    signature: String,
    verifier: String,
}

#[derive(Deserialize)]
struct Hash {
    algorithm: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signature {
    content: String,
    public_key: Content,
}

#[derive(Deserialize)]
struct Content {
    content: String,
}

/// When the log took the signature that a signer made over a payload.
///
/// # Errors
/// Why its word does not hold.
pub(super) fn verify(
    log: &PublicKey,
    bundle: &str,
    signer: &CertificateDer<'_>,
    payload: &str,
    signature: &str,
) -> Result<UnixTime, &'static str> {
    if bundle.is_empty() {
        return Err("there is none that a log signed");
    }
    let Bundle { promise, entry } = serde_json::from_str(bundle).map_err(|_| "it is damaged")?;
    if entry.log != log.fingerprint() {
        return Err("it is of another log");
    }
    let promised = serde_json::to_string(&entry).map_err(|_| "it is damaged")?;
    if !log.has_signed(promised.as_bytes(), &promise) {
        return Err("the log did not sign it");
    }
    let body = STANDARD.decode(&entry.body).map_err(|_| "it is damaged")?;
    let Body { api_version, kind, spec } =
        serde_json::from_slice(&body).map_err(|_| "it is of a kind that is not read")?;
    let is =
        |hash: &Hash, bytes: &[u8]| hash.algorithm == "sha256" && hash.value == Digest::of(bytes).to_string();
    let by = |recorded: &str| {
        let recorded = STANDARD.decode(recorded).unwrap_or_default();
        first_certificate(&recorded).as_ref() == Some(signer)
    };
    let same = match (kind.as_str(), api_version.as_str(), &spec) {
        ("hashedrekord", "0.0.1", Spec::Bytes { data, signature: recorded }) => {
            is(&data.hash, &signed(payload))
                && recorded.content == signature
                && by(&recorded.public_key.content)
        }
        ("dsse", "0.0.1", Spec::Envelope { payload_hash, signatures }) => {
            let this = |one: &Verified| one.signature == signature && by(&one.verifier);
            is(payload_hash, payload.as_bytes()) && signatures.iter().any(this)
        }
        _ => return Err("it is of a kind that is not read"),
    };
    let at = UnixTime::since_unix_epoch(Duration::from_secs(entry.integrated_time));
    same.then_some(at).ok_or("it is of another signature")
}
