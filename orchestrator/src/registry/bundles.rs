//! Signatures as cosign 3 puts them: each a bundle of its own (<https://docs.sigstore.dev/about/bundle/>), in a manifest that refers to
//! the image. Which do is said by the registry's list of them, or by the index that clients keep under a tag where a registry has no
//! such list (OCI distribution 1.1, "Referrers tag schema").

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Method, StatusCode};
use manager_core::RegistryRefusal as Refusal;
use model::signature::{
    FoundCertificate, FoundSignature, MAX_CERTIFICATE, MAX_ENTRY, MAX_PAYLOAD, PREDICATE, STATEMENT,
    certificate_pem,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Session, is_digest};

/// Bundles of one image that are looked at: attestations of other kinds are among them. Clients write the newest last; a registry that
/// makes the list may begin with it.
const LAST: usize = 8;
const FIRST: usize = 4;
/// Bytes of a bundle: payload, certificate and entry, packed, with a proof that is not read.
const MAX_BUNDLE: usize = 256 << 10;
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// What a bundle's statement says, as its manifest has it: attestations say something else.
const KIND: &str = "dev.sigstore.bundle.predicateType";

/// What refers to an image.
#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    digest: String,
    /// Of what a manifest is; some registries leave it out.
    artifact_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    verification_material: Material,
    dsse_envelope: Envelope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    certificate: Option<Certificate>,
    /// Of bundles before version 0.3.
    x509_certificate_chain: Option<Chain>,
    #[serde(default)]
    tlog_entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<Certificate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Certificate {
    raw_bytes: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    log_index: Value,
    log_id: LogId,
    #[serde(default)]
    integrated_time: Value,
    /// Logs of Rekor's second version promise nothing.
    inclusion_promise: Option<Promise>,
    canonicalized_body: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogId {
    key_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Promise {
    signed_entry_timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

impl Session<'_> {
    pub(super) async fn bundles(
        &mut self,
        repository: &str,
        digest: &str,
    ) -> Result<Vec<FoundSignature>, Refusal> {
        let index = self.referrers(repository, digest).await?;
        let is_bundle = |one: &&Descriptor| {
            let kind = one.artifact_type.as_deref();
            is_digest(&one.digest) && kind.is_none_or(|kind| kind.starts_with(BUNDLE))
        };
        let bundles: Vec<&Descriptor> = index.manifests.iter().filter(is_bundle).collect();
        let (first, last) = bundles.split_at(bundles.len().saturating_sub(LAST));
        let mut found = Vec::new();
        for referrer in last.iter().rev().chain(first.iter().take(FIRST)) {
            // One that is damaged, or refused, speaks for itself alone.
            let manifest = self.tagged::<Manifest>(repository, &referrer.digest).await;
            let Ok(Some(Manifest { layers, annotations })) = manifest else { continue };
            let [layer] = &layers[..] else { continue };
            let is_other = annotations.get(KIND).is_some_and(|kind| kind != PREDICATE);
            if is_other || !layer.media_type.starts_with(BUNDLE) || !is_digest(&layer.digest) {
                continue;
            }
            let text = self.blob(repository, &layer.digest, MAX_BUNDLE).await;
            found.extend(text.ok().flatten().and_then(|text| read(&text)));
        }
        Ok(found)
    }

    /// The registry's own list, or what clients keep in its place.
    async fn referrers(&mut self, repository: &str, digest: &str) -> Result<Index, Refusal> {
        let answer = self.request(Method::GET, &format!("/v2/{repository}/referrers/{digest}")).await?;
        if answer.status == StatusCode::OK
            && let Ok(index) = serde_json::from_slice(&answer.body)
        {
            return Ok(index);
        }
        if answer.status.is_server_error() {
            return Err(self.refused(answer.status, &answer));
        }
        let kept = self.tagged(repository, &digest.replace(':', "-")).await?;
        Ok(kept.unwrap_or(Index { manifests: Vec::new() }))
    }
}

/// The signature in a bundle, in the form in which it is judged; `None` where it is none over a statement.
pub(super) fn read(text: &str) -> Option<FoundSignature> {
    let Bundle { verification_material: material, dsse_envelope: envelope } =
        serde_json::from_str(text).ok()?;
    let [Signature { sig }] = &envelope.signatures[..] else { return None };
    let payload = String::from_utf8(STANDARD.decode(&envelope.payload).ok()?).ok()?;
    let fits = envelope.payload_type == STATEMENT && payload.len() <= MAX_PAYLOAD;
    let certified = material.certified();
    fits.then(|| FoundSignature { payload, signature: sig.clone(), certified })
}

impl Material {
    /// What comes with a signature by an identity, as cosign 2 has it beside one.
    fn certified(&self) -> Option<FoundCertificate> {
        let chain = self.x509_certificate_chain.iter().flat_map(|chain| &chain.certificates);
        let certificate = certificate_pem(&self.certificate.iter().chain(chain).next()?.raw_bytes);
        let entry = self.tlog_entries.first().and_then(Entry::bundle).unwrap_or_default();
        let fits = certificate.len() <= MAX_CERTIFICATE && entry.len() <= MAX_ENTRY;
        fits.then_some(FoundCertificate { certificate, entry })
    }
}

impl Entry {
    fn bundle(&self) -> Option<String> {
        let log = STANDARD.decode(&self.log_id.key_id).ok()?;
        let log: String = log.iter().map(|byte| format!("{byte:02x}")).collect();
        let entry = json!({
            "SignedEntryTimestamp": self.inclusion_promise.as_ref()?.signed_entry_timestamp,
            "Payload": {
                "body": self.canonicalized_body,
                "integratedTime": number(&self.integrated_time)?,
                "logIndex": number(&self.log_index)?,
                "logID": log,
            },
        });
        Some(entry.to_string())
    }
}

/// Numbers of 64 bits are texts in the JSON form of protocol buffers, and may be numbers.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}
