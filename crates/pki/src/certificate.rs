//! Certificates as they are read back: an authority's, which judges, and a holder's, which is judged.

use model::id::ClusterId;
use model::identity::CertName;
use model::time::WallTime;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::name::{cluster_of_authority, single_uri};
use crate::validity::{unix_duration, wall_seconds};
use crate::{CertificateError, ClockProblem, Fingerprint, NameError, Validity};

/// The public half of a cluster's authority: what every node and client keeps to recognise its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaCertificate {
    der: CertificateDer<'static>,
    cluster: ClusterId,
    validity: Validity,
    nth: u32,
}

/// A holder's certificate, read but not yet trusted: [`CaCertificate::verify`] decides that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafCertificate {
    /// Whom it speaks for.
    pub name: CertName,
    /// The number under which the cluster issued it, for revocation.
    pub serial: u64,
    /// When it counts.
    pub validity: Validity,
}

impl CaCertificate {
    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// The text holds no certificate, or one that is not an authority of ours.
    pub fn from_pem(pem: &str) -> Result<Self, CertificateError> {
        Self::from_der(&der_from_pem(pem)?)
    }

    /// Reads those of a PEM text that sign themselves, in their order: of an authority's bundle the authority, and then those that are
    /// trusted beside it.
    ///
    /// # Errors
    /// The text holds none, or something else than certificates of authorities of ours.
    pub fn all_from_pem(pem: &str) -> Result<Vec<Self>, CertificateError> {
        let mut all = Vec::new();
        for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let der = der.map_err(malformed)?;
            let parsed = parse(&der)?;
            if parsed.issuer().as_raw() == parsed.subject().as_raw() {
                all.push(Self::from_der(&der)?);
            }
        }
        if all.is_empty() { Err(malformed("there is none")) } else { Ok(all) }
    }

    /// Reads the DER form.
    ///
    /// # Errors
    /// These are not the bytes of a certificate, or it is not an authority of ours.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let parsed = parse(der)?;
        if !parsed.is_ca() {
            return Err(CertificateError::NotAnAuthority("it may not sign other certificates"));
        }
        let uris = uris_of(&parsed);
        let cluster = single_uri(uris)
            .ok()
            .and_then(cluster_of_authority)
            .ok_or(CertificateError::NotAnAuthority("it names no cluster"))?;
        Ok(Self { der: der.to_vec().into(), cluster, validity: validity_of(&parsed), nth: nth_of(&parsed) })
    }

    /// The DER form.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The cluster that this authority speaks for.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// When it counts.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Which authority of its cluster it is, counted from 1, as its name says.
    pub fn nth(&self) -> u32 {
        self.nth
    }

    /// Whether this authority issued a certificate (DER), at whatever time that counts or counted.
    pub fn issued(&self, leaf: &[u8]) -> bool {
        LeafCertificate::from_der(leaf).is_ok_and(|read| self.verify(leaf, read.validity.not_after).is_ok())
    }

    /// What join tokens carry.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of_der(&self.der)
    }

    /// Decides whether this authority issued a certificate that counts at the wall-clock time `now`, and for whom.
    ///
    /// # Errors
    /// Another issuer, outside of its validity, not for clients, or no identity of this cluster.
    pub fn verify(&self, leaf: &[u8], now: WallTime) -> Result<LeafCertificate, CertificateError> {
        self.verify_signature(leaf, now)?;
        let leaf = LeafCertificate::from_der(leaf)?;
        if leaf.name.cluster != self.cluster {
            return Err(CertificateError::WrongCluster { expected: self.cluster, found: leaf.name.cluster });
        }
        Ok(leaf)
    }

    fn verify_signature(&self, leaf: &[u8], now: WallTime) -> Result<(), CertificateError> {
        let leaf = CertificateDer::from(leaf);
        let end_entity = EndEntityCert::try_from(&leaf).map_err(malformed)?;
        let anchor = anchor_from_trusted_cert(&self.der).map_err(malformed)?;
        let unix_time = UnixTime::since_unix_epoch(unix_duration(now));
        end_entity
            .verify_for_usage(
                &[webpki::ring::ECDSA_P256_SHA256],
                &[anchor],
                &[],
                unix_time,
                KeyUsage::client_auth(),
                None,
                None,
            )
            .map(|_path| ())
            .map_err(|error| self.explain(&error, now))
    }

    fn explain(&self, error: &webpki::Error, now: WallTime) -> CertificateError {
        match error {
            webpki::Error::CertExpired { not_after, .. } => {
                ClockProblem::Expired { valid_until: wall_seconds(not_after.as_secs()), now }.into()
            }
            webpki::Error::CertNotValidYet { not_before, .. } => {
                ClockProblem::NotYetValid { valid_from: wall_seconds(not_before.as_secs()), now }.into()
            }
            webpki::Error::UnknownIssuer | webpki::Error::InvalidSignatureForPublicKey => {
                CertificateError::WrongCa { cluster: self.cluster }
            }
            other => CertificateError::Unacceptable(other.to_string()),
        }
    }
}

impl LeafCertificate {
    /// Reads the first certificate of a PEM text, without judging who issued it.
    ///
    /// # Errors
    /// The text holds no certificate, or one without an identity of ours.
    pub fn from_pem(pem: &str) -> Result<Self, CertificateError> {
        Self::from_der(&der_from_pem(pem)?)
    }

    /// The DER form of the first certificate of a PEM text.
    ///
    /// # Errors
    /// The text holds no certificate.
    pub fn der_from_pem(pem: &str) -> Result<CertificateDer<'static>, CertificateError> {
        der_from_pem(pem)
    }

    /// Reads the DER form, without judging who issued it: use it on what the TLS layer has verified.
    ///
    /// # Errors
    /// These are not the bytes of a certificate, or it carries no identity of ours.
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let parsed = parse(der)?;
        let uris = uris_of(&parsed);
        Ok(Self {
            name: single_uri(uris)?.parse().map_err(NameError::from)?,
            serial: serial_of(&parsed)?,
            validity: validity_of(&parsed),
        })
    }
}

pub(crate) fn der_from_pem(pem: &str) -> Result<CertificateDer<'static>, CertificateError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(malformed)
}

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    let (rest, parsed) = X509Certificate::from_der(der).map_err(malformed)?;
    if rest.is_empty() { Ok(parsed) } else { Err(malformed("bytes after its end")) }
}

fn uris_of<'a>(parsed: &'a X509Certificate<'a>) -> Vec<&'a str> {
    let Ok(Some(names)) = parsed.subject_alternative_name() else {
        return Vec::new();
    };
    let uri = |name: &GeneralName<'a>| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    };
    names.value.general_names.iter().filter_map(uri).collect()
}

fn serial_of(parsed: &X509Certificate<'_>) -> Result<u64, CertificateError> {
    let digits = parsed.serial.to_bytes_be();
    if digits.len() > 8 {
        return Err(malformed("its serial number is longer than ours are"));
    }
    Ok(digits.iter().fold(0, |serial, digit| serial << 8 | u64::from(*digit)))
}

/// The first authority has no number in its name.
fn nth_of(parsed: &X509Certificate<'_>) -> u32 {
    let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    name.and_then(|name| name.rsplit(' ').next()?.parse().ok()).unwrap_or(1)
}

fn validity_of(parsed: &X509Certificate<'_>) -> Validity {
    Validity {
        not_before: from_timestamp(parsed.validity().not_before.timestamp()),
        not_after: from_timestamp(parsed.validity().not_after.timestamp()),
    }
}

/// Times before 1970 count as 1970: no certificate of ours is that old.
fn from_timestamp(seconds: i64) -> WallTime {
    wall_seconds(u64::try_from(seconds).unwrap_or(0))
}

fn malformed(error: impl ToString) -> CertificateError {
    CertificateError::Malformed(error.to_string())
}
