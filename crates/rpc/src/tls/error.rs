//! Why a connection could not be made, in words that say what to look at.
//!
//! TLS libraries report a wrong clock like an attack, and on the way through HTTP/2 and gRPC an error loses its type.
//! So every failure becomes a [`TlsError`] where it happens, and [`TlsError::in_chain`] finds it again.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, CertificateError};
use rustls_pki_types::UnixTime;
use x509_parser::time::ASN1Time;

use super::clocks::Standing;

/// A connection was refused, by us or by the other side.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TlsError {
    /// No TCP connection. Retry, or correct the address.
    #[error("cannot connect to {address}")]
    Unreachable {
        /// As it was configured.
        address: String,
        /// What the system says.
        #[source]
        source: Arc<io::Error>,
    },
    /// The other side is too slow or does not answer. Retry.
    #[error("no connection within {} ms", .limit.as_millis())]
    TimedOut {
        /// How long we waited.
        limit: Duration,
    },
    /// The other side hung up during the handshake. Retry.
    #[error("the other side closed the connection during the TLS handshake")]
    Closed,
    /// As a server: too many connections without a certificate are open.
    #[error(
        "too many connections without a certificate are open already, from everywhere or from this address"
    )]
    TooManyStrangers,
    /// No TLS at the other side: a wrong port, or a proxy in between.
    #[error("the other side does not speak TLS: is this the right port?")]
    Plaintext,
    /// Another cluster, or an impostor.
    #[error("the other side's certificate was not issued by this cluster's authority (wrong CA)")]
    WrongCa,
    /// The join token belongs to another cluster, or an impostor answers.
    #[error(
        "the other side does not present the authority with the join token's fingerprint {expected}: \
         the token is of another cluster, or this is not its manager"
    )]
    WrongFingerprint {
        /// What the token names, in hex.
        expected: String,
    },
    /// Not renewed in time, or one of the clocks is wrong.
    #[error(
        "the other side's certificate expired at {not_after}; this machine's clock says {now}: \
         {seconds} seconds too late (renew the certificate, or set the clock)"
    )]
    Expired {
        /// Its last second.
        not_after: String,
        /// Our wall clock.
        now: String,
        /// The distance.
        seconds: u64,
    },
    /// One of the clocks is wrong.
    #[error(
        "the other side's certificate is valid from {not_before}; this machine's clock says {now}: \
         {seconds} seconds behind"
    )]
    NotYetValid {
        /// Its first second.
        not_before: String,
        /// Our wall clock.
        now: String,
        /// The distance.
        seconds: u64,
    },
    /// A certificate of the cluster, but not of a manager.
    #[error("the other side is not a manager of this cluster")]
    NotAManager,
    /// A certificate of the cluster, but not of the node that should be there, or of no node at all.
    #[error("the other side is {found}")]
    WrongNode {
        /// Its certificate's name.
        found: String,
    },
    /// The other side has no certificate.
    #[error("the other side presented no certificate")]
    NoCertificate,
    /// A certificate of the cluster that does not say who its holder is.
    #[error("the other side's certificate names no identity: {reason}")]
    NoIdentity {
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate of nobody in the cluster, such as one that an authority has for itself.
    #[error("the other side's certificate is none that this cluster gives: {reason}")]
    BadCertificate {
        /// What is wrong with it.
        reason: String,
    },
    /// The other side did not like what we presented.
    #[error("the other side refused the connection: {0}")]
    Refused(Refusal),
    /// Our own files are unusable. Stop.
    #[error("unusable certificate or key: {reason}")]
    Credentials {
        /// Which, and why.
        reason: String,
    },
    /// Anything else of the protocol.
    #[error("TLS failed: {reason}")]
    Protocol {
        /// The library's words.
        reason: String,
    },
}

/// Why the other side refused, as far as its alert says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It does not know who issued our certificate.
    UnknownCa,
    /// It finds our certificate expired or not yet valid; what this machine's clock says of it, where that is known.
    Clock(Option<Standing>),
    /// It wants a certificate and we have none.
    CertificateRequired,
    /// Our certificate was revoked or does not fit.
    Certificate,
    /// Protocol versions or parameters do not fit.
    Incompatible,
}

const CLOCK: &str = "by its clock our certificate is expired or not yet valid";

impl Refusal {
    /// Those that are known by their words alone.
    const PLAIN: [Self; 4] =
        [Self::UnknownCa, Self::CertificateRequired, Self::Certificate, Self::Incompatible];

    /// Recognises our own words.
    fn find(text: &str) -> Option<Self> {
        if text.contains(CLOCK) {
            return Some(Self::Clock(Standing::find(text)));
        }
        Self::PLAIN.into_iter().find(|refusal| text.contains(&refusal.to_string()))
    }

    fn of_alert(alert: AlertDescription) -> Option<Self> {
        match alert {
            AlertDescription::UnknownCA | AlertDescription::DecryptError => Some(Self::UnknownCa),
            AlertDescription::CertificateExpired => Some(Self::Clock(None)),
            AlertDescription::CertificateRequired => Some(Self::CertificateRequired),
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied => Some(Self::Certificate),
            AlertDescription::ProtocolVersion
            | AlertDescription::HandshakeFailure
            | AlertDescription::NoApplicationProtocol => Some(Self::Incompatible),
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownCa => "our certificate was not issued by its cluster's authority (wrong CA)",
            Self::Clock(None) => return write!(f, "{CLOCK} (compare both machines' clocks)"),
            Self::Clock(Some(standing)) => return write!(f, "{CLOCK}; {standing}"),
            Self::CertificateRequired => "it demands a client certificate and we have none",
            Self::Certificate => "it does not accept our certificate",
            Self::Incompatible => "it does not speak TLS 1.3 with HTTP/2",
        })
    }
}

impl TlsError {
    /// Finds the reason in an error of HTTP/2 or gRPC (a `tonic::Status`, a `tonic::transport::Error`).
    ///
    /// HTTP/2 keeps only the text of an error that ends a connection, so a [`TlsError::Refused`] is recognised by our
    /// own words in it.
    pub fn in_chain(error: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(found) = error.downcast_ref::<Self>() {
            return Some(found.clone());
        }
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found.into());
        }
        if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            return Self::in_chain(inner).or_else(|| inner.source().and_then(Self::in_chain));
        }
        if let Some(deeper) = error.source().and_then(Self::in_chain) {
            return Some(deeper);
        }
        Refusal::find(&error.to_string()).map(Self::Refused)
    }

    /// Says in seconds what this machine's clock makes of `own`, the certificate that the other side refused over clocks.
    pub(super) fn with_clock_of(self, own: Option<&CertifiedKey>) -> Self {
        match self {
            Self::Refused(Refusal::Clock(None)) => Self::Refused(Refusal::Clock(own.and_then(Standing::of))),
            other => other,
        }
    }

    /// Whether the other side presented something that proves nothing. What a broken line or an old library looks like is no such
    /// thing.
    pub(super) fn is_failed_proof(&self) -> bool {
        match self {
            Self::WrongCa
            | Self::Expired { .. }
            | Self::NotYetValid { .. }
            | Self::NotAManager
            | Self::WrongNode { .. }
            | Self::NoCertificate
            | Self::NoIdentity { .. }
            | Self::BadCertificate { .. } => true,
            Self::Plaintext
            | Self::Protocol { .. }
            | Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Closed
            | Self::TooManyStrangers
            | Self::WrongFingerprint { .. }
            | Self::Refused(_)
            | Self::Credentials { .. } => false,
        }
    }

    /// Explains an I/O error of a handshake or of the first read after it.
    pub(crate) fn of_io(error: &io::Error) -> Self {
        if let Some(found) = error.get_ref().and_then(|inner| Self::in_chain(inner)) {
            return found;
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Protocol { reason: error.to_string() },
        }
    }
}

impl From<&rustls::Error> for TlsError {
    fn from(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => of_certificate(error),
            rustls::Error::NoCertificatesPresented => Self::NoCertificate,
            rustls::Error::InvalidMessage(_) => Self::Plaintext,
            rustls::Error::AlertReceived(alert) => match Refusal::of_alert(*alert) {
                Some(refusal) => Self::Refused(refusal),
                None => Self::Protocol { reason: error.to_string() },
            },
            other => Self::Protocol { reason: other.to_string() },
        }
    }
}

fn of_certificate(error: &CertificateError) -> TlsError {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsError::WrongCa,
        CertificateError::ExpiredContext { time, not_after } => TlsError::Expired {
            not_after: written(*not_after),
            now: written(*time),
            seconds: time.as_secs().saturating_sub(not_after.as_secs()),
        },
        CertificateError::NotValidYetContext { time, not_before } => TlsError::NotYetValid {
            not_before: written(*not_before),
            now: written(*time),
            seconds: not_before.as_secs().saturating_sub(time.as_secs()),
        },
        CertificateError::NotValidForName
        | CertificateError::NotValidForNameContext { .. }
        | CertificateError::InvalidPurpose
        | CertificateError::InvalidPurposeContext { .. } => TlsError::NotAManager,
        CertificateError::Other(other) => match other.0.downcast_ref::<TlsError>() {
            Some(ours) => ours.clone(),
            None => TlsError::BadCertificate { reason: other.0.to_string() },
        },
        other => TlsError::BadCertificate { reason: other.to_string() },
    }
}

/// A time as people read it; the bare seconds where a calendar has no such day.
fn written(time: UnixTime) -> String {
    let calendar = i64::try_from(time.as_secs()).ok().and_then(|secs| ASN1Time::from_timestamp(secs).ok());
    calendar.map_or_else(|| format!("{} s after 1970", time.as_secs()), |time| time.to_string())
}
