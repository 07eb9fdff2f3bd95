//! Signatures of an image, where `cosign sign` puts them: a manifest in the image's own repository, under a tag made of its digest,
//! with a layer for each signature. What is read is bounded, and the blobs are what their digests say; whether a signature is worth
//! anything is judged elsewhere.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use manager_core::RegistryRefusal as Refusal;
use model::signature::{FoundSignature, MAX_ENCODED, MAX_PAYLOAD};
use serde::Deserialize;

use super::{Session, digest_of, is_digest};

/// Bytes of the manifest: a signature takes some 500 there, or 10 KiB with a certificate.
const MAX_MANIFEST: usize = 1 << 20;
/// Signatures of one image that are looked at, the newest, which cosign writes last.
const MAX_LAYERS: usize = 32;
const LAYER: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ANNOTATION: &str = "dev.cosignproject.cosign/signature";

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    digest: String,
    #[serde(default)]
    size: usize,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Layer {
    /// The signature of a layer that is one of a size that can count.
    fn signature(&self) -> Option<&String> {
        let is_one = self.media_type == LAYER && self.size <= MAX_PAYLOAD && is_digest(&self.digest);
        let signature = self.annotations.get(ANNOTATION).filter(|_| is_one);
        signature.filter(|text| text.len() <= MAX_ENCODED)
    }
}

impl Session<'_> {
    /// All signatures of an image, the newest first; none where there are none.
    pub(super) async fn signatures(
        &mut self,
        repository: &str,
        digest: &str,
    ) -> Result<Vec<FoundSignature>, Refusal> {
        let tag = format!("{}.sig", digest.replace(':', "-"));
        let path = format!("/v2/{repository}/manifests/{tag}");
        let answer = self.request(Method::GET, &path).await?;
        match answer.status {
            StatusCode::OK => {}
            status => {
                return match self.refused(status, &answer) {
                    Refusal::Missing(_) => Ok(Vec::new()),
                    refusal => Err(refusal),
                };
            }
        }
        if answer.body.len() > MAX_MANIFEST {
            let why = format!("what it has as {tag} is larger than {MAX_MANIFEST} bytes");
            return Err(Refusal::Unreachable(why));
        }
        let manifest: Manifest = serde_json::from_slice(&answer.body)
            .map_err(|_| Refusal::Unreachable(format!("what it has as {tag} is no manifest")))?;
        let layers = manifest.layers.iter().rev().take(MAX_LAYERS);
        let mut payloads: BTreeMap<&str, Option<String>> = BTreeMap::new();
        let mut found = Vec::new();
        for (layer, signature) in layers.filter_map(|layer| Some((layer, layer.signature()?))) {
            // Signed twice, the same text is there once.
            if !payloads.contains_key(layer.digest.as_str()) {
                let payload = self.payload(repository, &layer.digest).await?;
                payloads.insert(&layer.digest, payload);
            }
            let payload = payloads.get(layer.digest.as_str()).cloned().flatten();
            found.extend(payload.map(|payload| FoundSignature { payload, signature: signature.clone() }));
        }
        Ok(found)
    }

    /// What was signed; `None` where the blob is gone, or not what its digest says.
    async fn payload(&mut self, repository: &str, digest: &str) -> Result<Option<String>, Refusal> {
        let answer = self.request(Method::GET, &format!("/v2/{repository}/blobs/{digest}")).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => return Err(self.refused(status, &answer)),
        }
        let whole = answer.body.len() <= MAX_PAYLOAD && digest_of(&answer.body) == digest;
        Ok(String::from_utf8(answer.body.to_vec()).ok().filter(|_| whole))
    }
}
