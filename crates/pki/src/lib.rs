//! The cluster's certificate authority, the certificates that it issues, and join tokens.
//!
//! In go certificate requests, identities, key material and the caller's idea of the time; out come certificates,
//! parsed identities and refusals that a person can act on. Not here: files, sockets, the TLS handshake (`rpc`) and
//! the question what an identity may do.
//!
//! Time is always an argument: the wall clock, because that is what other TLS stacks will compare. Entropy is drawn in exactly two places: [`PrivateKey::generate`] makes a key, and every
//! ECDSA signature takes a fresh nonce. So a certificate is the same on every run except for its signature, and none
//! of this may run inside the replicated state machine; it runs in a daemon, which proposes the result.
//!
//! Reading order: `name` says who can hold a certificate, `ca` issues, `certificate` reads one back and judges it,
//! `validity` speaks about time, `key` and `request` are what the joiner holds, `token` is what lets it in, `deploy_token` what a pipeline presents.

mod ca;
mod certificate;
mod deploy_token;
mod error;
mod fingerprint;
mod key;
mod name;
mod reenrol;
mod request;
mod token;
mod validity;

pub use ca::{BACKDATE, CA_LIFETIME, ClusterCa, FoundError, key_print};
pub use certificate::{CaCertificate, LeafCertificate};
pub use deploy_token::{DeploySecret, DeployToken, DeployTokenError};
pub use error::{CertificateError, IssueError, KeyError};
pub use fingerprint::{Fingerprint, FingerprintError};
pub use key::PrivateKey;
pub use model::identity::MANAGER_SERVER_NAME;
pub use name::NameError;
pub use reenrol::{Holder, ProofError};
pub use request::KeyAndCsr;
pub use token::{JoinToken, TokenError};
pub use validity::{ClockProblem, Validity};
