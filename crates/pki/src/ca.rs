//! The authority of one cluster: one self-signed certificate, whose key signs every identity.
//!
//! There is no intermediate: the managers hold the key anyway (root on a manager is the cluster), so a second level
//! would add a rotation without protecting anything. A holder proves that it has the key that it asks a certificate
//! for, and that is all that its request decides; names, usages and times come from the cluster's records.

use std::fmt;
use std::time::Duration;

use model::id::{ClusterId, TokenId};
use model::identity::{CertName, Identity, JoinRole};
use model::time::WallTime;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
    SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use crate::certificate::{der_from_pem, parse};
use crate::fingerprint::sha256;
use crate::name::{authority_uri, check_holder};
use crate::validity::{utc, wall_sum};
use crate::{
    CaCertificate, CertificateError, Fingerprint, IssueError, JoinToken, KeyError, MANAGER_SERVER_NAME,
    PrivateKey,
};

/// Ten years: replacing the authority means touching every machine, so it happens on purpose and not by expiry.
pub const CA_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 3600);

/// An hour: the clocks of machines without time synchronisation differ by minutes, rarely by more.
pub const BACKDATE: Duration = Duration::from_secs(3600);

/// An honest request is about 400 bytes long; the limit is checked before anything is parsed.
const CSR_LIMIT: usize = 16 * 1024;

/// The authority with its key.
pub struct ClusterCa {
    certificate: CaCertificate,
    certificate_pem: String,
    key: PrivateKey,
    issuer: Issuer<'static, KeyPair>,
}

impl ClusterCa {
    /// Founds a cluster's authority with a new key. Draws entropy.
    ///
    /// # Errors
    /// The machine has no entropy, or the crypto library refuses to sign.
    pub fn generate(cluster: ClusterId, now: WallTime) -> Result<Self, FoundError> {
        Self::with_key(PrivateKey::generate()?, cluster, now)
    }

    /// Founds a cluster's authority with a key that the caller made.
    ///
    /// # Errors
    /// The crypto library refuses to sign.
    pub fn with_key(key: PrivateKey, cluster: ClusterId, now: WallTime) -> Result<Self, FoundError> {
        let params = authority_params(&key, cluster, now)?;
        let certificate = params.self_signed(&key.0).map_err(|error| IssueError::Sign(error.to_string()))?;
        Self::from_pem(&certificate.pem(), &key.to_pem())
    }

    /// Founds the authority that takes this one's place, with a new key and a name of its own, and has this one sign a certificate
    /// for it (PEM): whoever trusts only this one verifies what the new one issues through it ("new with old", RFC 4210, section 4.4).
    /// Draws entropy.
    ///
    /// # Errors
    /// The machine has no entropy, the crypto library refuses to sign, or this authority has expired.
    pub fn successor(&self, now: WallTime) -> Result<(Self, String), FoundError> {
        self.certificate.validity().check(now).map_err(IssueError::Authority)?;
        let key = PrivateKey::generate()?;
        let mut params = authority_params(&key, self.cluster(), now)?;
        let nth = self.certificate.nth().saturating_add(1);
        params.distinguished_name = named(&format!("{} {nth}", authority_name(self.cluster())));
        let failed = |error: rcgen::Error| IssueError::Sign(error.to_string());
        let own = params.self_signed(&key.0).map_err(failed)?.pem();
        let not_after = self.certificate.validity().not_after.min(wall_sum(now, CA_LIFETIME));
        params.not_after = utc(not_after);
        params.use_authority_key_identifier_extension = true;
        let bridge = params.signed_by(&key.0, &self.issuer).map_err(failed)?.pem();
        Ok((Self::from_pem(&own, &key.to_pem())?, bridge))
    }

    /// Reads an authority back.
    ///
    /// # Errors
    /// One of the two is malformed, the certificate is no authority's, or they do not belong together.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, FoundError> {
        let certificate_der = der_from_pem(certificate_pem)?;
        let certificate = CaCertificate::from_der(&certificate_der)?;
        let key = PrivateKey::from_pem(key_pem)?;
        if *parse(&certificate_der)?.public_key().subject_public_key.data != *key.public_key() {
            return Err(CertificateError::KeyMismatch.into());
        }
        let issuer = Issuer::from_ca_cert_der(&certificate_der, key.clone().0)
            .map_err(|error| CertificateError::Malformed(error.to_string()))?;
        Ok(Self { certificate, certificate_pem: certificate_pem.to_owned(), key, issuer })
    }

    /// The public half.
    pub fn certificate(&self) -> &CaCertificate {
        &self.certificate
    }

    /// The certificate as PEM: what nodes and clients keep.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The key as PKCS#8 PEM. Whoever reads it owns the cluster.
    pub fn key_pem(&self) -> String {
        self.key.to_pem()
    }

    /// What join tokens carry.
    pub fn fingerprint(&self) -> Fingerprint {
        self.certificate.fingerprint()
    }

    /// The cluster that it speaks for.
    pub fn cluster(&self) -> ClusterId {
        self.certificate.cluster()
    }

    /// The join token of that id. Its secret is an HMAC-SHA-256 under the authority's key, so that no secret has to be
    /// stored and every manager composes the same text.
    pub fn join_token(&self, role: JoinRole, id: TokenId) -> JoinToken {
        let tag = ring::hmac::sign(&self.token_key(), &token_message(role, id));
        let secret = tag.as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes");
        JoinToken::new(role, self.fingerprint(), id, secret)
    }

    /// Whether `secret` is that of the join token of that role and id, in a time that does not depend on where they
    /// differ. Says nothing of expiry and uses.
    pub fn admits(&self, role: JoinRole, id: TokenId, secret: &[u8]) -> bool {
        ring::hmac::verify(&self.token_key(), &token_message(role, id), secret).is_ok()
    }

    fn token_key(&self) -> ring::hmac::Key {
        ring::hmac::Key::new(ring::hmac::HMAC_SHA256, self.key.to_pem().as_bytes())
    }

    /// Issues a certificate, as PEM, over the key in a request (PEM or DER).
    ///
    /// Of the request only the key counts. The certificate starts [`BACKDATE`] before the wall-clock time `now`, and
    /// ends after `validity` or together with the authority. `serial` must never be used twice; it is what revocation
    /// names.
    ///
    /// # Errors
    /// A request that does not prove its key, an identity of another cluster, or an authority that has expired.
    pub fn issue(
        &self,
        csr: &[u8],
        name: &CertName,
        validity: Duration,
        now: WallTime,
        serial: u64,
    ) -> Result<String, IssueError> {
        check_holder(name)?;
        if name.cluster != self.cluster() {
            return Err(IssueError::WrongCluster { expected: self.cluster(), found: name.cluster });
        }
        if serial == 0 {
            return Err(IssueError::ZeroSerial);
        }
        self.certificate.validity().check(now).map_err(IssueError::Authority)?;
        let public_key = proven_key(csr)?;
        let not_after = self.certificate.validity().not_after.min(wall_sum(now, validity));
        let params = leaf_params(name, now, not_after, serial)?;
        let certificate = params.signed_by(&public_key, &self.issuer);
        certificate.map(|certificate| certificate.pem()).map_err(|error| IssueError::Sign(error.to_string()))
    }
}

fn token_message(role: JoinRole, id: TokenId) -> Vec<u8> {
    format!("orch join token: {role} {id}").into_bytes()
}

impl fmt::Debug for ClusterCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterCa")
            .field("cluster", &self.cluster())
            .field("fingerprint", &self.fingerprint())
            .finish_non_exhaustive()
    }
}

/// An authority cannot be founded or read back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoundError {
    /// Its key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Its certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Signing its certificate.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

fn authority_params(
    key: &PrivateKey,
    cluster: ClusterId,
    now: WallTime,
) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&authority_name(cluster));
    params.subject_alt_names = vec![uri_name(&authority_uri(cluster))?];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = backdated(now);
    params.not_after = utc(wall_sum(now, CA_LIFETIME));
    params.serial_number = Some(authority_serial(key));
    Ok(params)
}

fn authority_name(cluster: ClusterId) -> String {
    format!("Orch cluster {cluster} authority")
}

fn leaf_params(
    name: &CertName,
    now: WallTime,
    not_after: WallTime,
    serial: u64,
) -> Result<CertificateParams, IssueError> {
    let identity = &name.identity;
    let is_manager = matches!(identity, Identity::Manager(_));
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&identity.to_string());
    params.subject_alt_names = vec![uri_name(&name.to_string())?];
    if is_manager {
        params.subject_alt_names.push(SanType::DnsName(ia5(MANAGER_SERVER_NAME)?));
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if is_manager || matches!(identity, Identity::Node(_)) {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    params.not_before = backdated(now);
    params.not_after = utc(not_after);
    params.serial_number = Some(SerialNumber::from(serial.to_be_bytes().to_vec()));
    Ok(params)
}

/// SHA-256 of the public key (the point of the curve, uncompressed) in a certificate request, once the request's own signature has
/// shown that the requester holds its private half.
///
/// # Errors
/// Not a request, another kind of key, or not signed with it.
pub fn key_print(csr: &[u8]) -> Result<Fingerprint, IssueError> {
    Ok(Fingerprint::of_der(proven_key(csr)?.der_bytes()))
}

/// The key in a request, once the request's own signature has shown that the requester holds its private half.
pub(crate) fn proven_key(csr: &[u8]) -> Result<SubjectPublicKeyInfo, IssueError> {
    if csr.len() > CSR_LIMIT {
        return Err(IssueError::TooLong { found: csr.len(), limit: CSR_LIMIT });
    }
    let der = csr_der(csr)?;
    let (rest, request) =
        X509CertificationRequest::from_der(&der).map_err(|error| IssueError::Request(error.to_string()))?;
    if !rest.is_empty() {
        return Err(IssueError::Request("bytes after its end".into()));
    }
    let key = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
        .ok()
        .filter(|key| *key.algorithm() == PKCS_ECDSA_P256_SHA256)
        .ok_or(IssueError::UnsupportedKey)?;
    request.verify_signature().map_err(|_| IssueError::BadSelfSignature)?;
    Ok(key)
}

fn csr_der(csr: &[u8]) -> Result<CertificateSigningRequestDer<'_>, IssueError> {
    if csr.trim_ascii_start().starts_with(b"-----BEGIN") {
        CertificateSigningRequestDer::from_pem_slice(csr)
            .map_err(|error| IssueError::Request(error.to_string()))
    } else {
        Ok(CertificateSigningRequestDer::from(csr))
    }
}

/// Derived from the key, so that founding with the same key twice gives the same serial; the top bit is cleared
/// because serials are signed numbers on the wire.
fn authority_serial(key: &PrivateKey) -> SerialNumber {
    let mut serial = sha256(key.public_key())[..16].to_vec();
    serial[0] = serial[0] & 0x7f | 0x40;
    SerialNumber::from(serial)
}

fn backdated(now: WallTime) -> OffsetDateTime {
    utc(now) - BACKDATE
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn uri_name(uri: &str) -> Result<SanType, IssueError> {
    ia5(uri).map(SanType::URI)
}

fn ia5(text: &str) -> Result<rcgen::string::Ia5String, IssueError> {
    text.to_owned().try_into().map_err(|error: rcgen::Error| IssueError::Sign(error.to_string()))
}
