//! Deploy tokens: one line of text by which a pipeline recognises its cluster, and the cluster the pipeline.
//!
//! ```text
//! ORCHD1-<authority's fingerprint>-<token id>-<secret>-<check digits>
//! ```
//!
//! As with a [`JoinToken`](crate::JoinToken), the fingerprint protects the bearer from an impostor, and the check digits tell a
//! token that was cut off from one that the cluster refuses. Managers keep a digest of the secret: an HMAC under the secret as
//! the key, so that the one comparison that matters is `ring`'s, in a time that does not depend on where two digests differ.
//! No salt and no slow hash: nobody guesses 256 random bits.

use std::fmt;
use std::str::FromStr;

use model::deployer::TokenDigest;
use model::id::DeployTokenId;
use ring::hmac;

use crate::Fingerprint;
use crate::fingerprint::{from_hex, to_hex};
use crate::token::check_digits;

const PREFIX: &str = "ORCHD";
const VERSION: u32 = 1;
/// What the secret signs.
const PURPOSE: &[u8] = b"orch deploy token 1";

/// A deploy token with its secret. It has no `Display`: [`DeployToken::reveal`] is the one way to its text.
#[derive(Clone, PartialEq, Eq)]
pub struct DeployToken {
    fingerprint: Fingerprint,
    id: DeployTokenId,
    secret: DeploySecret,
}

/// The secret of a deploy token.
#[derive(Clone, PartialEq, Eq)]
pub struct DeploySecret([u8; 32]);

/// Text that is not a deploy token. No variant repeats the text: it may be most of a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeployTokenError {
    /// Something else was pasted.
    #[error("this is not a deploy token: it should start with {PREFIX}{VERSION}-")]
    WrongPrefix,
    /// Made by a newer version of this software.
    #[error("this deploy token has version {found}; this program knows version {VERSION} (is it too old?)")]
    UnknownVersion {
        /// The version in the prefix.
        found: u32,
    },
    /// Cut off, mistyped, or with more text behind it.
    #[error(
        "the deploy token is cut off or mistyped: copy the whole line as `deploy-token create` printed it"
    )]
    Damaged,
}

impl DeploySecret {
    /// Takes 32 random bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// What managers keep of it.
    pub fn digest(&self) -> TokenDigest {
        let tag = hmac::sign(&self.key(), PURPOSE);
        TokenDigest(tag.as_ref().try_into().expect("HMAC-SHA256 yields 32 bytes"))
    }

    /// Whether the digest is this secret's, in a time that does not depend on where two digests differ.
    pub fn fits(&self, digest: &TokenDigest) -> bool {
        hmac::verify(&self.key(), PURPOSE, &digest.0).is_ok()
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.0)
    }
}

impl fmt::Debug for DeploySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeploySecret(<redacted>)")
    }
}

impl DeployToken {
    /// Puts a token together.
    pub fn new(fingerprint: Fingerprint, id: DeployTokenId, secret: DeploySecret) -> Self {
        Self { fingerprint, id, secret }
    }

    /// The authority that the answering manager has to present.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The handle under which the managers know it.
    pub fn id(&self) -> DeployTokenId {
        self.id
    }

    /// What proves that it is the bearer's.
    pub fn secret(&self) -> &DeploySecret {
        &self.secret
    }

    /// The token's text, secret included: for the one who made it and for the calls of its bearer, never for a log.
    pub fn reveal(&self) -> String {
        let secret = to_hex(&self.secret.0);
        let body = format!("{PREFIX}{VERSION}-{}-{}-{secret}", self.fingerprint, self.id);
        let check = check_digits(&body);
        format!("{body}-{check}")
    }
}

impl fmt::Debug for DeployToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeployToken({}, <redacted>)", self.id)
    }
}

impl FromStr for DeployToken {
    type Err = DeployTokenError;

    /// Accepts white space around it and upper case inside: both happen on the way through mails and CI settings.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let head = text.get(..PREFIX.len()).ok_or(DeployTokenError::WrongPrefix)?;
        if !head.eq_ignore_ascii_case(PREFIX) {
            return Err(DeployTokenError::WrongPrefix);
        }
        let (version, rest) = text[PREFIX.len()..].split_once('-').ok_or(DeployTokenError::Damaged)?;
        let found: u32 = version.parse().map_err(|_| DeployTokenError::WrongPrefix)?;
        if found != VERSION {
            return Err(DeployTokenError::UnknownVersion { found });
        }
        let rest = rest.to_ascii_lowercase();
        let (body, check) = rest.rsplit_once('-').ok_or(DeployTokenError::Damaged)?;
        let fields: Vec<&str> = body.split('-').collect();
        let [fingerprint, id, secret] = fields[..] else { return Err(DeployTokenError::Damaged) };
        if check_digits(&format!("{PREFIX}{VERSION}-{body}")) != check {
            return Err(DeployTokenError::Damaged);
        }
        let fingerprint = from_hex(fingerprint).ok_or(DeployTokenError::Damaged)?;
        let secret = from_hex(secret).ok_or(DeployTokenError::Damaged)?;
        let id = id.parse().map_err(|_| DeployTokenError::Damaged)?;
        Ok(Self::new(Fingerprint::from_bytes(fingerprint), id, DeploySecret(secret)))
    }
}
