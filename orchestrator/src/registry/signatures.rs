//! Signatures of an image, where `cosign sign` puts them in the image's own repository: a manifest under a tag made of its digest,
//! with a layer for each signature, and [bundles], which refer to it. What is read is bounded, and the blobs are what their digests
//! say; whether a signature is worth anything is judged elsewhere.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use manager_core::RegistryRefusal as Refusal;
use model::signature::{
    FoundCertificate, FoundSignature, MAX_CERTIFICATE, MAX_ENCODED, MAX_ENTRY, MAX_PAYLOAD,
};
use serde::{Deserialize, de::DeserializeOwned};

use super::{Session, digest_of, is_digest};

/// Bytes of the manifest: a signature takes some 500 there, or 10 KiB with a certificate.
const MAX_MANIFEST: usize = 1 << 20;
/// Signatures of one image that are looked at, the newest, which cosign writes last.
const MAX_LAYERS: usize = 16;
const LAYER: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// Beside one by an identity: the signer's certificate, and the log's word.
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const ENTRY: &str = "dev.sigstore.cosign/bundle";

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
        let signature = self.annotations.get(SIGNATURE).filter(|_| is_one);
        signature.filter(|text| text.len() <= MAX_ENCODED)
    }

    /// What comes with a signature by an identity, of a size that can count.
    fn certified(&self) -> Option<FoundCertificate> {
        let certificate = self.annotations.get(CERTIFICATE)?.clone();
        let entry = self.annotations.get(ENTRY).cloned().unwrap_or_default();
        let fits = certificate.len() <= MAX_CERTIFICATE && entry.len() <= MAX_ENTRY;
        fits.then_some(FoundCertificate { certificate, entry })
    }
}

impl Session<'_> {
    /// All signatures of an image, of each form the newest first; none where there are none.
    pub(super) async fn signatures(
        &mut self,
        repository: &str,
        digest: &str,
    ) -> Result<Vec<FoundSignature>, Refusal> {
        let mut found = self.simple(repository, digest).await?;
        match self.bundles(repository, digest).await {
            Ok(bundles) => found.extend(bundles),
            // What is there may do, and a registry that knows nothing of bundles may say anything.
            Err(_) if !found.is_empty() => {}
            Err(refusal) => return Err(refusal),
        }
        Ok(found)
    }

    /// What a repository has under a tag that may not be there.
    pub(super) async fn tagged<T: DeserializeOwned>(
        &mut self,
        repository: &str,
        tag: &str,
    ) -> Result<Option<T>, Refusal> {
        let answer = self.request(Method::GET, &format!("/v2/{repository}/manifests/{tag}")).await?;
        match answer.status {
            StatusCode::OK => {}
            status => {
                return match self.refused(status, &answer) {
                    Refusal::Missing(_) => Ok(None),
                    refusal => Err(refusal),
                };
            }
        }
        if answer.body.len() > MAX_MANIFEST {
            let why = format!("what it has as {tag} is larger than {MAX_MANIFEST} bytes");
            return Err(Refusal::Unreachable(why));
        }
        let read = serde_json::from_slice(&answer.body);
        read.map(Some).map_err(|_| Refusal::Unreachable(format!("what it has as {tag} is no manifest")))
    }

    async fn simple(&mut self, repository: &str, digest: &str) -> Result<Vec<FoundSignature>, Refusal> {
        let tag = format!("{}.sig", digest.replace(':', "-"));
        let Some(manifest) = self.tagged::<Manifest>(repository, &tag).await? else { return Ok(Vec::new()) };
        let layers = manifest.layers.iter().rev().take(MAX_LAYERS);
        let mut payloads: BTreeMap<&str, Option<String>> = BTreeMap::new();
        let mut found = Vec::new();
        for (layer, signature) in layers.filter_map(|layer| Some((layer, layer.signature()?))) {
            // Signed twice, the same text is there once.
            if !payloads.contains_key(layer.digest.as_str()) {
                let payload = self.blob(repository, &layer.digest, MAX_PAYLOAD).await?;
                payloads.insert(&layer.digest, payload);
            }
            let payload = payloads.get(layer.digest.as_str()).cloned().flatten();
            let (signature, certified) = (signature.clone(), layer.certified());
            found.extend(payload.map(|payload| FoundSignature { payload, signature, certified }));
        }
        Ok(found)
    }

    /// A text; `None` where the blob is gone, too large, or not what its digest says.
    pub(super) async fn blob(
        &mut self,
        repository: &str,
        digest: &str,
        most: usize,
    ) -> Result<Option<String>, Refusal> {
        let answer = self.request(Method::GET, &format!("/v2/{repository}/blobs/{digest}")).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            status => return Err(self.refused(status, &answer)),
        }
        let whole = answer.body.len() <= most && digest_of(&answer.body) == digest;
        Ok(String::from_utf8(answer.body.to_vec()).ok().filter(|_| whole))
    }
}
