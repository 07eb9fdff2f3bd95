//! Verifies ID tokens of OpenID Connect: who signed one, for whom, and until when.
//!
//! In come a token's text, an issuer's published keys, what is expected and the time; out go claims that can be relied on, or a
//! refusal. Not here: fetching keys, remembering tokens that were used, and what claims allow.
//!
//! What is refused is chosen by what went wrong elsewhere. The algorithm is pinned: a token's header picks neither `none` nor a
//! shared secret (with which the public key would become the secret). Sizes and nesting are bounded before anything is parsed.
//! A member that occurs twice is refused, since two readers could take different ones. Keys come from the issuer's own set
//! alone: what a header says of keys (`jwk`, `jku`, `x5c`) is not looked at.
//!
//! Read in this order: `token`, `keys`, `claims`, `refusal`, `json`.

mod claims;
mod json;
mod keys;
mod refusal;
mod token;

pub use claims::{Claims, Expected, LEEWAY};
pub use keys::{KeySet, KeySetError, MAX_KEY_SET, MAX_KEYS};
pub use refusal::Refusal;
pub use token::{IdToken, MAX_TOKEN};
