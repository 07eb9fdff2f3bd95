//! Has proofs judged: names and passwords by a directory (LDAP), ID tokens by the keys of their issuer (OpenID Connect).
//!
//! In comes a login method with a proof; out goes who it is, with the groups, or why not. Nothing of a proof is kept, logged or
//! repeated. Which roles groups have is not decided here.
//!
//! The client of directories is our own, some hundred lines: the published one panics at malformed messages, which would end this
//! process, and reads messages without a bound, even before TLS has begun (StartTLS), when anybody on the way may send them.
//!
//! Read in this order: this file, `ldap`, `session`, `filter`, `ber`, `oidc`.

mod ber;
mod filter;
mod ldap;
mod oidc;
mod session;

use std::time::Duration;

use manager_core::{LoginAnswer, LoginQuestion, LoginRefusal};
use model::login::{Proof, Provider};

pub use oidc::Keys;

/// A proof as a whole. The core goes on without an answer later.
const LIMIT: Duration = Duration::from_secs(10);

/// Judges.
pub async fn judge(question: LoginQuestion, keys: Keys) -> LoginAnswer {
    let judged = async {
        match (&question.method.provider, &question.proof) {
            (Provider::Ldap(directory), Proof::Password { user, password }) => {
                ldap::judge(directory, question.password.as_ref(), user, password).await
            }
            (Provider::Oidc(issuer), Proof::IdToken(token)) => keys.judge(issuer, token, &question.csr).await,
            (Provider::Ldap(_), Proof::IdToken(_)) => {
                Err(LoginRefusal::Wrong("this login method asks for a name and a password".into()))
            }
            (Provider::Oidc(_), Proof::Password { .. }) => {
                Err(LoginRefusal::Wrong("this login method asks for an ID token".into()))
            }
        }
    };
    let late = |_| Err(LoginRefusal::Unreachable(format!("it did not answer within {} s", LIMIT.as_secs())));
    tokio::time::timeout(LIMIT, judged).await.unwrap_or_else(late)
}
