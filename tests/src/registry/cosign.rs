//! What `cosign generate-key-pair`, `cosign public-key` and `cosign sign --key` do, as far as a registry and whoever verifies see it.
//!
//! A signature is a manifest beside the image, under a tag made of the image's digest, with the signed text as its only layer.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};

use super::Registry;
use crate::hosts::namespace;

const LIMIT: Duration = Duration::from_secs(10);
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The DER form of a P-256 key before its point.
const HEADER: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Somebody with a key.
#[derive(Debug)]
pub struct Signer(EcdsaKeyPair);

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
        Self(EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).expect("the key just made"))
    }

    /// Writes `cosign.pub`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_public_key(&self, path: &Path) -> Result<()> {
        let text = STANDARD.encode([&HEADER[..], self.0.public_key().as_ref()].concat());
        let (first, second) = text.split_at(64);
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{first}\n{second}\n-----END PUBLIC KEY-----\n");
        Ok(std::fs::write(path, pem)?)
    }

    fn sign(&self, payload: &str) -> String {
        let signature = self.0.sign(&SystemRandom::new(), payload.as_bytes()).expect("entropy");
        STANDARD.encode(signature)
    }
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
        let payload = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"{names}"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
        );
        let signature = signer.sign(&payload);
        let layer = self.put_blob(repository, &payload)?;
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
                "annotations": { "dev.cosignproject.cosign/signature": signature },
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
        let hex: String =
            digest(&SHA256, text.as_bytes()).as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let digest = format!("sha256:{hex}");
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
