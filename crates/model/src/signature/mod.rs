//! Signatures of images, as `cosign sign` makes them: over a small [text](payload) that names the image. They are by a key, or by an
//! [identity] that a certificate names.
//!
//! A signature goes with the declaration of the service whose image it is of. So whoever judges the declaration, when it is proposed,
//! when it is applied, before a container is made, has all that is needed and asks nobody: these are pure functions of bytes.
//!
//! Which of them count is not decided here: that is a policy's [`Require`](crate::policy::Require).

mod identity;
mod log;
mod payload;

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::{audit::Digest, container::ContainerSpec};

pub(crate) use identity::Signer;
pub use identity::{Authority, Certified, MAX_CERTIFICATE, SignerIdentity, certificate_pem};
pub use log::MAX_ENTRY;
pub use payload::{PREDICATE, STATEMENT, names};

/// Signatures that go with a declaration at most: one for each policy that asks for another key.
pub const MAX_SIGNATURES: usize = 8;
/// Bytes of them together: one by a key has some 350, one by an identity some 7 KiB.
pub const MAX_SIGNED_BYTES: usize = 96 << 10;
/// Bytes of a payload that is kept with a declaration; those of cosign have some 250 and what `-a` adds.
pub const MAX_PAYLOAD: usize = 8 << 10;
/// Bytes of a signature in base64: of this kind they have at most 96.
pub const MAX_ENCODED: usize = 256;
const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";
/// The DER form of a P-256 key before its point.
const HEADER: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// An uncompressed point of P-256.
const POINT: usize = 65;
/// Hex digits of a fingerprint that tell keys apart in a sentence.
const SHORT: usize = 16;

/// A public key of ECDSA on P-256, as `cosign generate-key-pair` makes them. Written as its PEM text, in one spelling.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; POINT]);

impl PublicKey {
    /// SHA-256 over its DER form in hex, as `openssl pkey -pubin -in cosign.pub -outform DER | sha256sum` prints it.
    pub fn fingerprint(&self) -> String {
        Digest::of(&self.der()).to_string()
    }

    /// The beginning of the fingerprint.
    pub fn short(&self) -> String {
        let mut text = self.fingerprint();
        text.truncate(SHORT);
        text
    }

    /// Whether it made a signature (ASN.1, base64) over these bytes.
    fn has_signed(&self, bytes: &[u8], signature: &str) -> bool {
        let Ok(signature) = STANDARD.decode(signature) else { return false };
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.0).verify(bytes, &signature).is_ok()
    }

    fn of_der(der: &[u8]) -> Option<Self> {
        let point = der.strip_prefix(&HEADER).filter(|point| point.first() == Some(&4));
        point.and_then(|point| point.try_into().ok()).map(Self)
    }

    fn der(&self) -> Vec<u8> {
        [&HEADER[..], &self.0].concat()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.short())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = STANDARD.encode(self.der());
        let (first, second) = text.split_at(64);
        write!(f, "{BEGIN}\n{first}\n{second}\n{END}\n")
    }
}

impl FromStr for PublicKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains("PRIVATE KEY") {
            return Err("this is a private key, which must not leave where it signs; write the public one, cosign.pub".into());
        }
        let inner = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
        let (inner, rest) =
            inner.ok_or("no public key; write the PEM text that `cosign public-key` prints")?;
        if rest.contains(BEGIN) {
            return Err("more than one key; write each by itself".into());
        }
        let packed: String = inner.split_whitespace().collect();
        let der = STANDARD.decode(packed).map_err(|_| "the key's text is damaged: it is no base64")?;
        Self::of_der(&der)
            .ok_or_else(|| "no key of ECDSA on P-256, as `cosign generate-key-pair` makes it".into())
    }
}

impl TryFrom<String> for PublicKey {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

/// A signature as its registry has it: nobody has looked at it yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundSignature {
    /// What was signed.
    pub payload: String,
    /// The signature over it: ASN.1, base64.
    pub signature: String,
    /// What comes with one by an identity.
    pub certified: Option<FoundCertificate>,
}

/// What a registry has beside a signature by an identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundCertificate {
    /// The signer's certificate, PEM.
    pub certificate: String,
    /// The log's word: Rekor's bundle, JSON.
    pub entry: String,
}

/// A signature that goes with a declaration, and the key that it is said to be by. It proves itself, whoever passes it on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSignature {
    /// By which key.
    pub key: PublicKey,
    /// What was signed.
    pub payload: String,
    /// The signature over it: ASN.1, base64.
    pub signature: String,
    /// What proves whose the key was, where it is not the key itself that counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certified: Option<Box<Certified>>,
}

impl ImageSignature {
    /// Whether it is of this image, by its key, and by the identity that it is said to be by.
    ///
    /// # Errors
    /// Why not.
    pub fn verify(&self, image: &str) -> Result<(), Flaw> {
        verify(&self.key, &self.payload, &self.signature, image)?;
        let certified = self.certified.as_deref();
        certified.map_or(Ok(()), |certified| certified.verify(&self.key, &self.payload, &self.signature))
    }

    /// Bytes of its texts.
    pub fn bytes(&self) -> usize {
        let certified = self.certified.as_deref();
        let more = certified.map_or(0, |one| one.certificate.len() + one.entry.len() + one.by.bytes());
        self.payload.len() + self.signature.len() + more
    }
}

impl fmt::Display for ImageSignature {
    /// By whom it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.certified {
            None => write!(f, "key {}", self.key.short()),
            Some(certified) => certified.by.fmt(f),
        }
    }
}

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The image is named by a tag or by an engine's id.
    #[error("only an image that is named by its registry's digest can be signed")]
    NoDigest,
    /// The payload is none of cosign's.
    #[error("what was signed is no text of cosign's")]
    Payload,
    /// It is of other contents.
    #[error("it is of {0}, another image")]
    OtherImage(String),
    /// It is of an image of another repository.
    #[error("it is of an image of {0}, another repository")]
    OtherRepository(String),
    /// The key did not make it.
    #[error("it is by another key, or what was signed has changed since")]
    OtherKey,
    /// Its certificate proves nothing.
    #[error("its certificate does not hold: {0}")]
    Certificate(String),
    /// The log's word proves nothing.
    #[error("its entry in the log does not hold: {0}")]
    Log(&'static str),
    /// The certificate is of another identity.
    #[error("its certificate is of {0}")]
    OtherIdentity(String),
}

/// Whether a payload was signed by a key and names an image: `HOST/PATH[:TAG]@sha256:…`.
///
/// # Errors
/// Why not.
pub fn verify(key: &PublicKey, payload: &str, signature: &str, image: &str) -> Result<(), Flaw> {
    names(payload, image)?;
    if key.has_signed(&payload::signed(payload), signature) { Ok(()) } else { Err(Flaw::OtherKey) }
}

/// Whether everything that goes with a container as a signature is one of its image.
///
/// # Errors
/// The first that is none.
pub fn check(container: &ContainerSpec) -> Result<(), Flaw> {
    container.signatures.iter().try_for_each(|signature| signature.verify(&container.image))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What openssl made: `openssl dgst -sha256 -sign`.
    pub(crate) const KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAErcUs+ogvsZ3XgoH4Bv5dGjbZ7DeY
VEI9MGFe3wyPUnjvu0ttKbaOGXz4mNtdvE4X0pm6d6W8FHN9yqOXR6MYAg==
-----END PUBLIC KEY-----
";
    pub(crate) const SIGNATURE: &str =
        "MEUCIA4Qeqbk8+ApwnwHoURHuA1U8sKDFYVfjCSXLYKEgHbcAiEAjCbRIOUxv3pz/oWEj3jSl6UhNF1C6TX7gk/J0gXx7dw=";
    pub(crate) const PAYLOAD: &str = r#"{"critical":{"identity":{"docker-reference":"registry.example/mx/web"},"image":{"docker-manifest-digest":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},"type":"cosign container image signature"},"optional":null}"#;
    /// Another one of the same kind.
    pub(crate) const OTHER_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEQg1U0PbzVgDt16U3ONVvbUMHvDHh
LAEsr4u49SdcgHCO0Y6I1F1l3bucG8Da1xQWyUhbyrpr6iFdioufMe7zdg==
-----END PUBLIC KEY-----
";
    const P384: &str = "-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAETrKvaWFJxKWQAh0cr8+vhPrzskFVJrX5
ymRJNNuBZ8J6HrK71qbMER9m/wUZ7BAYtDmneuGoRRaJvaoN0EUjDP2Xy5HdFjv1
QXtA4QN3urOaimljHjWwtgf9CIEwZsBC
-----END PUBLIC KEY-----
";

    fn image(repository: &str, letter: &str) -> String {
        format!("{repository}@sha256:{}", letter.repeat(64))
    }

    fn key(text: &str) -> PublicKey {
        text.parse().expect("a key")
    }

    #[test]
    fn a_key_reads_back_in_one_spelling_with_the_fingerprint_that_openssl_prints() {
        let spaced = format!("made by hand\r\n{}\n", KEY.replace('\n', "\r\n"));
        assert_eq!(key(&spaced), key(KEY));
        assert_eq!(key(&spaced).to_string(), KEY);
        let fingerprint = "768a87a8e6776cb4492bde8c33f8e70e71df85d715296ebb6d154200ceb9b438";
        assert_eq!(key(KEY).fingerprint(), fingerprint);
        assert_eq!(key(KEY).short(), "768a87a8e6776cb4");
    }

    #[test]
    fn what_is_no_public_key_of_the_kind_is_refused_with_what_would_be_right() {
        let private = "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nMII=\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n";
        let two = format!("{KEY}{OTHER_KEY}");
        let damaged = KEY.replace("MFkw", "M!kw");
        for (text, why) in [
            ("", "cosign public-key"),
            (private, "private key"),
            (P384, "P-256"),
            (&two, "more than one"),
            (&damaged, "damaged"),
        ] {
            let refusal = text.parse::<PublicKey>().expect_err(text);
            assert!(refusal.contains(why), "{refusal}");
        }
    }

    #[test]
    fn a_signature_counts_for_its_image_under_any_tag_and_for_no_other() {
        let verdict = |image: &str| verify(&key(KEY), PAYLOAD, SIGNATURE, image);
        assert_eq!(verdict(&image("registry.example/mx/web", "a")), Ok(()));
        assert_eq!(verdict(&image("registry.example/mx/web:prod", "a")), Ok(()));
        assert!(matches!(verdict(&image("registry.example/mx/web", "b")), Err(Flaw::OtherImage(_))));
        assert!(matches!(verdict(&image("registry.example/mx/api", "a")), Err(Flaw::OtherRepository(_))));
        assert!(matches!(verdict(&image("mx/web", "a")), Err(Flaw::OtherRepository(_))));
        assert_eq!(verdict("registry.example/mx/web:prod"), Err(Flaw::NoDigest));
        assert_eq!(verdict(&format!("sha256:{}", "a".repeat(64))), Err(Flaw::NoDigest));
    }

    #[test]
    fn another_key_a_changed_payload_and_a_damaged_signature_are_told_from_a_good_one() {
        let image = image("registry.example/mx/web", "a");
        assert_eq!(verify(&key(OTHER_KEY), PAYLOAD, SIGNATURE, &image), Err(Flaw::OtherKey));
        let changed = PAYLOAD.replace("null", "{}");
        assert_eq!(verify(&key(KEY), &changed, SIGNATURE, &image), Err(Flaw::OtherKey));
        for signature in ["", "MEUC", "not base64"] {
            assert_eq!(verify(&key(KEY), PAYLOAD, signature, &image), Err(Flaw::OtherKey));
        }
        let kind = PAYLOAD.replace("container image", "something else's");
        for payload in ["", "{}", "[[[[", &kind] {
            assert_eq!(verify(&key(KEY), payload, SIGNATURE, &image), Err(Flaw::Payload));
        }
    }

    #[test]
    fn dockers_own_registry_is_the_same_by_all_its_names() {
        let payload = PAYLOAD.replace("registry.example/mx/web", "index.docker.io/library/nginx");
        assert_eq!(names(&payload, &image("nginx:1.27", "a")), Ok(()));
    }
}
