//! An ID token, judged by its issuer's keys: signature, issuer, audience and time, and that it was made for this login.
//!
//! A token that names the certificate request (`nonce`) is of use to nobody else. One that names none, as issuers give them for codes
//! that are typed in, is taken once, and only while it is young.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use idtoken::{Claims, Expected, IdToken, KeySet, Refusal};
use manager_core::{LoginAnswer, LoginRefusal, Proven};
use model::{
    issuer::IssuerSpec,
    login::{Oidc, Password},
};
use ring::digest::{SHA256, digest};
use serde_json::Value;

use crate::issuers::fetch;

/// A person has just said yes.
const MAX_AGE: Duration = Duration::from_secs(600);
/// So long keys are relied on: a key that an issuer withdrew verifies nothing after it.
const KEPT: Duration = Duration::from_secs(15 * 60);
/// Between two fetches because of a key that is not known: strangers invent names.
const PAUSE: Duration = Duration::from_secs(60);
/// More than there can be methods; what was declared before goes with the rest.
const MOST: usize = 16;
/// Groups of one person.
const MAX_GROUPS: usize = 1_000;

/// The keys of issuers, as they were last fetched. Clones share them.
#[derive(Clone, Default)]
pub struct Keys(Arc<Mutex<BTreeMap<Place, (KeySet, Instant)>>>);

/// Where an issuer is, and whose certificates vouch for it.
type Place = (String, Option<String>);

impl Keys {
    /// Judges a token.
    pub(super) async fn judge(&self, issuer: &Oidc, token: &Password, csr: &str) -> LoginAnswer {
        let wrong = |refusal: Refusal| LoginRefusal::Wrong(refusal.to_string());
        let parsed = IdToken::parse(token.reveal()).map_err(wrong)?;
        let keys = self.of(issuer, parsed.key_id()).await.map_err(LoginRefusal::Unreachable)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let expected = Expected { issuer: &issuer.url, audience: &issuer.client, max_age: MAX_AGE };
        let claims = parsed.verify(&keys, &expected, now).map_err(wrong)?;
        let once = match claims.rest.get("nonce") {
            Some(Value::String(nonce)) if *nonce == nonce_of(csr) => None,
            Some(_) => {
                return Err(LoginRefusal::Wrong("the ID token was made for another login (nonce)".into()));
            }
            None => Some(once(token.reveal())),
        };
        let user = match issuer.name_claim.as_str() {
            "sub" => Some(claims.subject.as_str()),
            name => claims.text(name),
        };
        let user = user.map(str::to_owned).ok_or_else(|| {
            LoginRefusal::Wrong(format!(
                "the ID token names nobody: it has no claim \"{}\"",
                issuer.name_claim
            ))
        })?;
        let groups = groups(&claims, &issuer.groups_claim);
        Ok(Proven { user, subject: claims.subject, groups, once })
    }

    /// An issuer's keys, fetched anew when they are old, or lack this one and were not asked for just now.
    async fn of(&self, issuer: &Oidc, key: &str) -> Result<KeySet, String> {
        let place = (issuer.url.clone(), issuer.authority.clone());
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&place).cloned();
        if let Some((keys, at)) = kept {
            let known = keys.names().any(|name| name == key);
            if at.elapsed() < if known { KEPT } else { PAUSE } {
                return Ok(keys);
            }
        }
        let spec = IssuerSpec {
            url: issuer.url.clone(),
            authority: issuer.authority.clone(),
            ..IssuerSpec::default()
        };
        let keys = fetch::keys(&spec).await?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST {
            all.clear();
        }
        all.insert(place, (keys.clone(), Instant::now()));
        Ok(keys)
    }
}

/// What `orchctl` asks an issuer to put into the token.
fn nonce_of(csr: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, csr.as_bytes()))
}

/// Tells a token from every other: what is signed, since the signature could be written in several ways.
fn once(token: &str) -> String {
    let signed = token.trim().rsplit_once('.').map_or("", |(signed, _)| signed);
    URL_SAFE_NO_PAD.encode(digest(&SHA256, signed.as_bytes()))
}

/// A claim, or a claim in a claim (`realm_access.roles`), that is a text or a list of texts.
fn groups(claims: &Claims, name: &str) -> Vec<String> {
    let nested = || {
        let mut parts = name.split('.');
        let first = claims.rest.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    };
    match claims.rest.get(name).or_else(nested) {
        Some(Value::String(group)) => vec![group.clone()],
        Some(Value::Array(groups)) => {
            groups.iter().filter_map(Value::as_str).take(MAX_GROUPS).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_texts_wherever_an_issuer_puts_them() {
        let rest = serde_json::json!({
            "groups": ["a", 1, "b"], "role": "c", "realm_access": { "roles": ["d"] }, "x.y": ["e"], "n": 1,
        });
        let Value::Object(rest) = rest else { panic!("an object") };
        let (issuer, subject) = (String::new(), String::new());
        let claims = Claims { issuer, subject, id: None, issued: 0, expires: 0, rest };
        for (name, expected) in [
            ("groups", vec!["a", "b"]),
            ("role", vec!["c"]),
            ("realm_access.roles", vec!["d"]),
            ("x.y", vec!["e"]),
            ("n", vec![]),
            ("none", vec![]),
        ] {
            assert_eq!(groups(&claims, name), expected, "{name}");
        }
    }

    #[test]
    fn a_token_is_the_same_however_its_signature_is_written() {
        assert_eq!(once("a.b.c"), once(" a.b.d\n"));
        assert_ne!(once("a.b.c"), once("a.c.c"));
    }
}
