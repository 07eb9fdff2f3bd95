//! Why a token is not accepted.

use crate::{LEEWAY, MAX_TOKEN};

/// Why a token is not accepted. No variant repeats the token or its signature; what a stranger wrote is shown in part and quoted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Beyond [`MAX_TOKEN`].
    #[error("the ID token has {0} bytes; at most {MAX_TOKEN} are read")]
    TooLong(usize),
    /// Not three parts of base64url with JSON in the first two.
    #[error("this is not an ID token: it should have {0}")]
    Malformed(&'static str),
    /// `none`, a shared secret, or an algorithm that is not read.
    #[error("the ID token says that it is signed by {0:?}; only RS256 is accepted")]
    Algorithm(String),
    /// An access or logout token.
    #[error("this is a token of type {0:?}, not an ID token")]
    Kind(String),
    /// A header that says that readers have to know more than we do.
    #[error("the ID token has a critical extension (crit), and none is known")]
    Critical,
    /// No `kid`.
    #[error("the ID token does not name the key that it is signed with (kid)")]
    NoKey,
    /// A `kid` that the issuer does not publish.
    #[error("the ID token is signed with key {0:?}, which the issuer does not publish")]
    UnknownKey(String),
    /// The signature is not that key's.
    #[error("the ID token's signature is not the issuer's")]
    Signature,
    /// A claim that has to be there is missing or of another type.
    #[error("the ID token's claim {0} is missing or is not what it has to be")]
    Claim(&'static str),
    /// Of another issuer.
    #[error("the ID token is of issuer {found:?}, not of {expected:?}")]
    Issuer {
        /// In the token.
        found: String,
        /// Wanted.
        expected: String,
    },
    /// For somebody else, or not only for us.
    #[error("the ID token is for the audience {found:?}; it has to be for {expected:?} alone")]
    Audience {
        /// In the token.
        found: String,
        /// Wanted.
        expected: String,
    },
    /// Issued, or valid from, later than now.
    #[error(
        "the ID token begins {seconds} s from now by this manager's clock (up to {LEEWAY} s are let pass): compare the clocks of \
         issuer and managers"
    )]
    NotYet {
        /// Until then.
        seconds: u64,
    },
    /// Its time is over.
    #[error(
        "the ID token expired {seconds} s ago by this manager's clock (up to {LEEWAY} s are let pass); take a fresh one, or \
         compare the clocks of issuer and managers"
    )]
    Expired {
        /// Since then.
        seconds: u64,
    },
    /// It would still be valid, but was issued too long ago.
    #[error(
        "the ID token was issued {seconds} s ago; at most {most} s are accepted, whatever it says itself"
    )]
    TooOld {
        /// Since then.
        seconds: u64,
        /// At most.
        most: u64,
    },
}
