//! What `cosign generate-key-pair`, `cosign public-key` and `cosign sign` do, as far as a registry and whoever verifies see it.
//!
//! A signature is a manifest beside the image, under a tag made of the image's digest, with the signed text as its only layer.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use model::audit::Digest;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::Value;

use super::Registry;
use super::sigstore::{Job, Proof, Sigstore};
use crate::hosts::namespace;

const LIMIT: Duration = Duration::from_secs(10);
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The DER form of a P-256 key before its point.
const HEADER: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Somebody with a key.
#[derive(Debug)]
pub struct Signer {
    pair: EcdsaKeyPair,
    pkcs8: Vec<u8>,
}

impl Signer {
    /// With a new key.
    ///
    /// # Panics
    /// The machine has no entropy.
    #[expect(clippy::new_without_default, reason = "each has another key")]
    pub fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("entropy");
        Self::of(key.as_ref().to_vec())
    }

    fn of(pkcs8: Vec<u8>) -> Self {
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &pkcs8, &SystemRandom::new()).expect("a key of ours");
        Self { pair, pkcs8 }
    }

    /// With the same key.
    #[must_use]
    pub fn again(&self) -> Self {
        Self::of(self.pkcs8.clone())
    }

    /// Its key, for whoever makes certificates.
    pub(super) fn certified(&self) -> Result<rcgen::KeyPair> {
        let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(
            &self.pkcs8.as_slice().into(),
            &rcgen::PKCS_ECDSA_P256_SHA256,
        );
        Ok(key?)
    }

    /// Writes `cosign.pub`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_public_key(&self, path: &Path) -> Result<()> {
        Ok(std::fs::write(path, self.public_key())?)
    }

    /// The public half, PEM.
    pub fn public_key(&self) -> String {
        let text = STANDARD.encode(self.der());
        let (first, second) = text.split_at(64);
        format!("-----BEGIN PUBLIC KEY-----\n{first}\n{second}\n-----END PUBLIC KEY-----\n")
    }

    /// SHA-256 of the public half.
    pub(super) fn fingerprint(&self) -> String {
        Digest::of(&self.der()).to_string()
    }

    fn der(&self) -> Vec<u8> {
        [&HEADER[..], self.pair.public_key().as_ref()].concat()
    }

    /// A signature in base64.
    pub(super) fn sign(&self, payload: &str) -> String {
        let signature = self.pair.sign(&SystemRandom::new(), payload.as_bytes()).expect("entropy");
        STANDARD.encode(signature)
    }
}

/// What is signed of an image: the whole name of its repository, and its digest.
pub(super) fn payload(names: &str, digest: &str) -> String {
    format!(
        r#"{{"critical":{{"identity":{{"docker-reference":"{names}"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
    )
}

/// What is signed, and where the signature is put.
#[derive(Debug, Clone, Copy)]
pub struct Signing<'a> {
    /// The repository whose registry gets the signature, such as `mx/web`.
    pub repository: &'a str,
    /// The image that it is put beside.
    pub beside: &'a str,
    /// The whole name of the repository that the text names.
    pub names: &'a str,
    /// The digest that the text names.
    pub digest: &'a str,
}

impl Registry {
    /// Signs an image of a repository as `cosign sign --key` does.
    ///
    /// # Errors
    /// The registry does not take it.
    pub fn sign(&self, signer: &Signer, repository: &str, digest: &str) -> Result<()> {
        let names = self.image(repository);
        self.put_signature(signer, Signing { repository, beside: digest, names: &names, digest })
    }

    /// Puts any signature beside any image.
    ///
    /// # Errors
    /// The registry does not take it.
    pub fn put_signature(&self, signer: &Signer, signing: Signing<'_>) -> Result<()> {
        let Signing { repository, beside, names, digest } = signing;
        let payload = payload(names, digest);
        let annotations = serde_json::json!({ SIGNATURE: signer.sign(&payload) });
        self.put_payload(repository, beside, &payload, &annotations)
    }

    /// Signs an image of a repository as `cosign sign` does in a pipeline.
    ///
    /// # Errors
    /// The registry does not take it.
    pub fn sign_as(&self, sigstore: &Sigstore, job: Job<'_>, repository: &str, digest: &str) -> Result<()> {
        let payload = payload(&self.image(repository), digest);
        let Proof { signature, certificate, entry } = sigstore.sign(job, &payload)?;
        let annotations = serde_json::json!({
            SIGNATURE: signature,
            "dev.sigstore.cosign/certificate": certificate,
            "dev.sigstore.cosign/bundle": entry,
        });
        self.put_payload(repository, digest, &payload, &annotations)
    }

    fn put_payload(&self, repository: &str, beside: &str, payload: &str, annotations: &Value) -> Result<()> {
        let layer = self.put_blob(repository, payload)?;
        let config = r#"{"architecture":"","os":"","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config_digest = self.put_blob(repository, config)?;
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json", "size": config.len(), "digest": config_digest,
            },
            "layers": [{
                "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "size": payload.len(), "digest": layer,
                "annotations": annotations,
            }],
        });
        let path = format!("/v2/{repository}/manifests/{}.sig", beside.replace(':', "-"));
        let answer = self.knock("PUT", &path, MANIFEST, &manifest.to_string())?;
        ensure!(answer.starts_with("HTTP/1.1 201"), "{path}: {answer}");
        Ok(())
    }

    fn put_blob(&self, repository: &str, text: &str) -> Result<String> {
        let begun = self.knock("POST", &format!("/v2/{repository}/blobs/uploads/"), "text/plain", "")?;
        let location =
            begun.lines().find_map(|line| line.strip_prefix("Location: ")).context("no location")?;
        let host = format!("http://{}", self.back_door.address);
        let path = location.strip_prefix(&host).unwrap_or(location);
        let digest = format!("sha256:{}", Digest::of(text.as_bytes()));
        let mark = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{mark}digest={digest}");
        let answer = self.knock("PUT", &path, "application/octet-stream", text)?;
        ensure!(answer.starts_with("HTTP/1.1 201"), "{path}: {answer}");
        Ok(digest)
    }

    /// One request at the back door; the whole answer.
    fn knock(&self, method: &str, path: &str, kind: &str, body: &str) -> Result<String> {
        let address = self.back_door.address;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        );
        let ask = || -> Result<String> {
            let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
            stream.set_read_timeout(Some(LIMIT))?;
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        namespace::within(&self.seat.namespace, ask)?
    }
}
