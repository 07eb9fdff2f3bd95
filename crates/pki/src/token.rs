//! Join tokens: one line of text that lets a machine recognise its cluster, and the cluster recognise the machine.
//!
//! ```text
//! ORCHJ1-agent-<authority's fingerprint>-<token id>-<secret>-<check digits>
//! ```
//!
//! The fingerprint protects the joiner: without it, the first contact would have to trust whoever answers. The secret
//! protects the cluster; managers keep only its hash. The role stands in clear at the front, because the commonest
//! mistake is pasting the managers' token on a node. The check digits tell a token that was cut off or mistyped from
//! one that the cluster refuses, without asking the cluster.

use std::fmt;
use std::str::FromStr;

use model::id::TokenId;
use model::identity::JoinRole;

use crate::Fingerprint;
use crate::fingerprint::{from_hex, sha256, to_hex};

const PREFIX: &str = "ORCHJ";
const VERSION: u32 = 1;
/// 24 bits: a mistyped token slips through once in sixteen million times, and is then refused by the cluster anyway.
const CHECK_DIGITS: usize = 6;
const DIGEST_DIGITS: usize = 64;
const ROLES: [JoinRole; 2] = [JoinRole::Manager, JoinRole::Agent];

/// A join token with its secret. It has no `Display`: [`JoinToken::reveal`] is the one way to its text.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    role: JoinRole,
    fingerprint: Fingerprint,
    id: TokenId,
    secret: [u8; 32],
}

/// Text that is not a join token. No variant repeats the text: it may be most of a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Something else was pasted.
    #[error("this is not a join token: it should start with {PREFIX}{VERSION}-")]
    WrongPrefix,
    /// Made by a newer version of this software.
    #[error("this join token has version {found}; this program knows version {VERSION} (is it too old?)")]
    UnknownVersion {
        /// The version in the prefix.
        found: u32,
    },
    /// The end is missing.
    #[error("the join token is cut off: copy the whole line")]
    Truncated,
    /// More text than a token has.
    #[error("there is text after the end of the join token")]
    TooLong,
    /// Neither role.
    #[error("the join token names the unknown role {0:?} (manager or agent)")]
    UnknownRole(String),
    /// Well formed, but altered.
    #[error("the join token is mistyped: its check digits do not match")]
    WrongCheckDigits,
}

impl JoinToken {
    /// Puts a token together; [`ClusterCa::join_token`](crate::ClusterCa::join_token) derives the secret.
    pub(crate) fn new(role: JoinRole, fingerprint: Fingerprint, id: TokenId, secret: [u8; 32]) -> Self {
        Self { role, fingerprint, id, secret }
    }

    /// What the holder may become.
    pub fn role(&self) -> JoinRole {
        self.role
    }

    /// The authority that the answering manager has to present.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The handle under which the managers know it.
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// The secret, as the Join call sends it inside of the verified connection.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// The token's text, secret included: for the terminal of the admin who made it, never for a log.
    pub fn reveal(&self) -> String {
        let body = format!(
            "{PREFIX}{VERSION}-{}-{}-{}-{}",
            self.role,
            self.fingerprint,
            self.id,
            to_hex(&self.secret)
        );
        let check = check_digits(&body);
        format!("{body}-{check}")
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({} {}, <redacted>)", self.role, self.id)
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    /// Accepts white space around it and upper case inside: both happen on the way through mails and terminals.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let (prefix, rest) = split_prefix(text)?;
        let rest = rest.to_ascii_lowercase();
        let fields: Vec<&str> = rest.split('-').collect();
        let role = match fields.as_slice() {
            [cut] if is_cut_role(cut) => return Err(TokenError::Truncated),
            _ => parse_role(fields[0])?,
        };
        let [_, fingerprint, id, secret, check] = exactly_five(&fields)?;
        if secret.len() < DIGEST_DIGITS || check.len() < CHECK_DIGITS {
            return Err(TokenError::Truncated);
        }
        if check.len() > CHECK_DIGITS {
            return Err(TokenError::TooLong);
        }
        let body = format!("{prefix}-{role}-{fingerprint}-{id}-{secret}");
        if check_digits(&body) != check {
            return Err(TokenError::WrongCheckDigits);
        }
        let fingerprint = from_hex(fingerprint).ok_or(TokenError::WrongCheckDigits)?;
        let secret = from_hex(secret).ok_or(TokenError::WrongCheckDigits)?;
        let id = id.parse().map_err(|_| TokenError::WrongCheckDigits)?;
        Ok(Self::new(role, Fingerprint::from_bytes(fingerprint), id, secret))
    }
}

/// Cuts the version off the front: `("ORCHJ1", "agent-...")`.
fn split_prefix(text: &str) -> Result<(String, &str), TokenError> {
    let head = text.get(..PREFIX.len()).ok_or(TokenError::WrongPrefix)?;
    if !head.eq_ignore_ascii_case(PREFIX) {
        return Err(TokenError::WrongPrefix);
    }
    let rest = &text[PREFIX.len()..];
    let (version, rest) = rest.split_once('-').unwrap_or((rest, ""));
    let found: u32 = version.parse().map_err(|_| TokenError::WrongPrefix)?;
    if found != VERSION {
        return Err(TokenError::UnknownVersion { found });
    }
    Ok((format!("{PREFIX}{VERSION}"), rest))
}

/// A last field that is the beginning of a role was cut off; any other word is a mistake.
fn is_cut_role(word: &str) -> bool {
    ROLES.iter().any(|role| role.to_string().starts_with(word))
}

fn parse_role(word: &str) -> Result<JoinRole, TokenError> {
    let unknown = || TokenError::UnknownRole(word.chars().take(16).collect());
    ROLES.into_iter().find(|role| role.to_string() == word).ok_or_else(unknown)
}

fn exactly_five<'a>(fields: &[&'a str]) -> Result<[&'a str; 5], TokenError> {
    <[&str; 5]>::try_from(fields)
        .map_err(|_| if fields.len() < 5 { TokenError::Truncated } else { TokenError::TooLong })
}

pub(crate) fn check_digits(body: &str) -> String {
    to_hex(&sha256(body.as_bytes()))[..CHECK_DIGITS].to_owned()
}
