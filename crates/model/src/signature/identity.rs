//! Signatures by an identity in place of a key, as `cosign sign` makes them in a pipeline: with a key of its own that lives for
//! minutes, in a certificate in which an authority (Fulcio) says whose it is, recorded by a log (Rekor) that says when.
//!
//! The authority's certificates and the log's key are part of the policy that asks, so that nobody has to be asked for them, and a
//! site's own are as good as anybody's. Certificates are not looked up in a log of certificates (their SCT is not read): whoever has
//! the authority can sign as anybody, and only the log of signatures tells.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{
    CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime, pem::PemObject,
};
use serde::{Deserialize, Serialize};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert, ring};
use x509_parser::{
    asn1_rs::{FromDer as _, Oid, Utf8String},
    certificate::X509Certificate,
    extensions::GeneralName,
};

use super::{Flaw, PublicKey, log};

/// Certificates of an authority at most: its own and those between it and signers.
const MAX_AUTHORITY: usize = 4;
/// Bytes of an authority's certificates as PEM.
const MAX_AUTHORITY_BYTES: usize = 8 << 10;
/// Bytes of a signer's certificate that are kept with a declaration: one of a pipeline has some 2 KiB as PEM.
pub const MAX_CERTIFICATE: usize = 8 << 10;
/// For signing code: id-kp-codeSigning (RFC 5280, 4.2.1.12).
const CODE_SIGNING: [u8; 8] = [0x2b, 6, 1, 5, 5, 7, 3, 3];
/// Who vouched for the signer, as Fulcio writes it (docs/oid-info.md there): a UTF8String, and bare in older certificates.
const ISSUER: [u64; 9] = [1, 3, 6, 1, 4, 1, 57264, 1, 8];
const BARE_ISSUER: [u64; 9] = [1, 3, 6, 1, 4, 1, 57264, 1, 1];
/// What authorities sign with.
const ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 8] = [
    ring::ECDSA_P256_SHA256,
    ring::ECDSA_P256_SHA384,
    ring::ECDSA_P384_SHA256,
    ring::ECDSA_P384_SHA384,
    ring::ED25519,
    ring::RSA_PKCS1_2048_8192_SHA256,
    ring::RSA_PKCS1_2048_8192_SHA384,
    ring::RSA_PKCS1_2048_8192_SHA512,
];

/// Who may have signed, and who says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerIdentity {
    /// Who vouched for the signer: the URL of a GitLab, of an identity provider.
    pub issuer: String,
    /// Whom it vouched for: the URI of a pipeline's file and branch, a mail address; with a `*` at the end all that begin so.
    pub subject: String,
    /// The authority whose certificates count.
    pub authority: Authority,
    /// The key of the log in which signatures have to be.
    pub log: PublicKey,
}

impl SignerIdentity {
    /// Whether this is whom a certificate names.
    pub(crate) fn is(&self, signer: &Signer) -> bool {
        let is_subject = match self.subject.strip_suffix('*') {
            Some(beginning) => signer.subject.starts_with(beginning),
            None => signer.subject == self.subject,
        };
        self.issuer == signer.issuer && is_subject
    }

    /// Bytes of its texts.
    pub(crate) fn bytes(&self) -> usize {
        let Authority(authority) = &self.authority;
        self.issuer.len() + self.subject.len() + authority.iter().map(|der| der.len()).sum::<usize>()
    }
}

impl fmt::Display for SignerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.subject, self.issuer)
    }
}

/// Certificates of an authority. Written as their PEM text, in one spelling.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Authority(Vec<CertificateDer<'static>>);

impl Authority {
    /// Those who are trusted. Certificates were read when this was made.
    fn anchors(&self) -> Vec<TrustAnchor<'_>> {
        self.0.iter().filter_map(|der| anchor_from_trusted_cert(der).ok()).collect()
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.0.len())
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|der| f.write_str(&certificate_pem(&STANDARD.encode(der))))
    }
}

impl FromStr for Authority {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > MAX_AUTHORITY_BYTES {
            return Err(format!("an authority's certificates have at most {MAX_AUTHORITY_BYTES} bytes"));
        }
        let all = certificates(text).ok_or("its text is damaged: it is no PEM")?;
        if all.is_empty() || all.len() > MAX_AUTHORITY {
            let found = all.len();
            return Err(format!(
                "write 1 to {MAX_AUTHORITY} certificates as PEM, of Fulcio's; it has {found}"
            ));
        }
        for der in &all {
            let is_authority = read(der).is_some_and(|parsed| parsed.is_ca());
            if !is_authority || anchor_from_trusted_cert(der).is_err() {
                return Err("one of its certificates is no authority's; leave a signer's own out".into());
            }
        }
        Ok(Self(all))
    }
}

impl TryFrom<String> for Authority {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Authority> for String {
    fn from(authority: Authority) -> Self {
        authority.to_string()
    }
}

/// What goes with a signature by an identity: it proves that the key was the identity's when it signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certified {
    /// Whose signature it is said to be, as the policy has it.
    pub by: SignerIdentity,
    /// The signer's certificate, PEM. Those between it and the authority are the policy's.
    pub certificate: String,
    /// The log's word for the signature: Rekor's bundle, JSON.
    pub entry: String,
}

impl Certified {
    /// Whether a key was the identity's when it made a signature over a payload.
    pub(super) fn verify(&self, key: &PublicKey, payload: &str, signature: &str) -> Result<(), Flaw> {
        let damaged = || Flaw::Certificate("it is damaged, or its key is none of ECDSA on P-256".into());
        let signer = Signer::of(&self.certificate).ok_or_else(damaged)?;
        if signer.key != *key {
            return Err(Flaw::Certificate("it is of another key".into()));
        }
        if !self.by.is(&signer) {
            return Err(Flaw::OtherIdentity(signer.to_string()));
        }
        let der = &signer.der;
        let at = log::verify(&self.by.log, &self.entry, der, payload, signature).map_err(Flaw::Log)?;
        issued(der, &self.by.authority, at)
    }
}

/// The PEM text of a certificate of which this is the DER form in base64.
pub fn certificate_pem(der: &str) -> String {
    let lines: Vec<_> = der.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// Whom a certificate names, whoever issued it.
pub(crate) struct Signer {
    pub(crate) key: PublicKey,
    issuer: String,
    subject: String,
    der: CertificateDer<'static>,
}

impl Signer {
    /// Of a certificate, PEM; `None` where it is none with a key of the kind.
    pub(crate) fn of(certificate: &str) -> Option<Self> {
        let der = first_certificate(certificate.as_bytes())?;
        let parsed = read(&der)?;
        let key = PublicKey::of_der(parsed.public_key().raw)?;
        let (issuer, subject) = (issuer_of(&parsed), subject_of(&parsed));
        let (issuer, subject) = (issuer.unwrap_or_default(), subject.unwrap_or_default());
        Some(Self { key, issuer, subject, der })
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |text: &str| text.replace(char::is_control, " ");
        write!(f, "{} ({})", line(&self.subject), line(&self.issuer))
    }
}

/// Whether one of the authority's certificates issued a signer's, for signing code at a time. No others are taken from anywhere: a search
/// for a way through them is what could be made long.
fn issued(signer: &CertificateDer<'_>, authority: &Authority, at: UnixTime) -> Result<(), Flaw> {
    let flaw = |why: webpki::Error| {
        Flaw::Certificate(match why {
            webpki::Error::CertExpired { .. } => "it had ended when the log took the signature".into(),
            webpki::Error::CertNotValidYet { .. } => "it began after the log took the signature".into(),
            webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
                "another authority issued it, or one between them is missing in the policy".into()
            }
            webpki::Error::RequiredEkuNotFoundContext(_) => "it is not for signing code".into(),
            other => other.to_string(),
        })
    };
    let usage = KeyUsage::required(&CODE_SIGNING);
    let signer = EndEntityCert::try_from(signer).map_err(flaw)?;
    let anchors = authority.anchors();
    let path = signer.verify_for_usage(&ALGORITHMS, &anchors, &[], at, usage, None, None);
    path.map(|_| ()).map_err(flaw)
}

fn certificates(text: &str) -> Option<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().ok()
}

/// The first certificate in a PEM text.
pub(super) fn first_certificate(text: &[u8]) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(text).ok()
}

fn read<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(der).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, parsed)| parsed)
}

/// One name, or nobody knows which one counts.
fn subject_of(parsed: &X509Certificate<'_>) -> Option<String> {
    let names = parsed.subject_alternative_name().ok()??;
    match &names.value.general_names[..] {
        [GeneralName::URI(name) | GeneralName::RFC822Name(name)] => Some((*name).to_owned()),
        _ => None,
    }
}

fn issuer_of(parsed: &X509Certificate<'_>) -> Option<String> {
    let extension = |oid: &[u64]| {
        let oid = Oid::from(oid).ok()?;
        parsed.get_extension_unique(&oid).ok()?.map(|extension| extension.value)
    };
    if let Some(value) = extension(&ISSUER) {
        let (rest, text) = Utf8String::from_der(value).ok()?;
        return rest.is_empty().then(|| text.string());
    }
    String::from_utf8(extension(&BARE_ISSUER)?.to_vec()).ok()
}
