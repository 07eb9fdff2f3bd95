//! What can go wrong with keys and certificates, sorted by who has to act.

use model::id::ClusterId;

use crate::{ClockProblem, NameError};

/// A private key cannot be made or read. The machine (entropy) or the file is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The operating system gave no entropy, or the crypto library refused.
    #[error("cannot generate a key: {0}")]
    Generate(String),
    /// The text holds no usable PKCS#8 key.
    #[error("not an ECDSA P-256 private key in PKCS#8 PEM form: {0}")]
    Parse(String),
    /// The certificate request for the key cannot be built.
    #[error("cannot build the certificate request: {0}")]
    Request(String),
}

/// A certificate was refused. The caller should not trust it; the text says what to look at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not a certificate at all.
    #[error("not a certificate: {0}")]
    Malformed(String),
    /// A certificate, but not one of a cluster's authority.
    #[error("this is not the certificate of a cluster's authority: {0}")]
    NotAnAuthority(&'static str),
    /// The key does not belong to the certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
    /// Issued by somebody else.
    #[error("the certificate was not issued by the authority of cluster {cluster} (wrong CA)")]
    WrongCa {
        /// The cluster whose authority judged.
        cluster: ClusterId,
    },
    /// Outside of its validity.
    #[error(transparent)]
    Clock(#[from] ClockProblem),
    /// It does not say who its holder is.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It names another cluster than the authority that signed it.
    #[error("the certificate belongs to cluster {found}, not to {expected}")]
    WrongCluster {
        /// The cluster of the authority.
        expected: ClusterId,
        /// The cluster that the certificate names.
        found: ClusterId,
    },
    /// Any other reason of the verifier (usages, constraints).
    #[error("the certificate is not acceptable: {0}")]
    Unacceptable(String),
}

/// The authority refused to issue. `Request` and `UnsupportedKey` are the requester's fault, the rest is ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The request cannot be parsed.
    #[error("not a certificate request: {0}")]
    Request(String),
    /// The request is longer than any honest one.
    #[error("the certificate request has {found} bytes; at most {limit} are accepted")]
    TooLong {
        /// Its length.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// The requester does not hold the key that it asks a certificate for.
    #[error("the certificate request is not signed by its own key")]
    BadSelfSignature,
    /// Only ECDSA P-256 is issued.
    #[error("the certificate request carries a key that is not ECDSA P-256")]
    UnsupportedKey,
    /// The identity names another cluster.
    #[error("cannot issue for cluster {found}: this authority belongs to {expected}")]
    WrongCluster {
        /// The cluster of the authority.
        expected: ClusterId,
        /// The cluster in the identity.
        found: ClusterId,
    },
    /// Zero is no serial number.
    #[error("a certificate's serial number must not be zero")]
    ZeroSerial,
    /// The authority itself is outside of its validity.
    #[error("the cluster's authority cannot issue now: {0}")]
    Authority(ClockProblem),
    /// The identity has no name that a certificate could carry.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The crypto library refused to sign.
    #[error("cannot sign the certificate: {0}")]
    Sign(String),
}
