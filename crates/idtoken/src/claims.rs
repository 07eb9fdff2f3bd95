//! What a verified token claims, once it is meant for us and the time is right.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::{Refusal, token::shown};

/// By how much the issuer's clock may differ from ours, in seconds.
pub const LEEWAY: u64 = 60;
/// Letters of a subject and of a token's id at most.
const MAX_ID: usize = 1024;

/// What a token has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected<'a> {
    /// Who issued it, to the letter.
    pub issuer: &'a str,
    /// Whom it is for: nobody else beside it, who could present it to us.
    pub audience: &'a str,
    /// How long after its issue it is accepted, whatever it says itself: so long the caller has to remember those that were used.
    pub max_age: Duration,
}

/// Claims that the issuer has signed, of a token for us that is valid now.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    /// `iss`.
    pub issuer: String,
    /// `sub`: of whom it is.
    pub subject: String,
    /// `jti`: tells it from every other of the issuer, if the issuer numbers them.
    pub id: Option<String>,
    /// `iat`, in seconds since 1970.
    pub issued: u64,
    /// From when on nobody accepts it, in seconds since 1970: `exp`, or the end of the age that was expected; without leeway.
    pub expires: u64,
    /// Every other claim.
    pub rest: Map<String, Value>,
}

impl Claims {
    pub(crate) fn of(
        mut claims: Map<String, Value>,
        expected: &Expected<'_>,
        now: u64,
    ) -> Result<Self, Refusal> {
        let issuer = text(&mut claims, "iss")?.ok_or(Refusal::Claim("iss"))?;
        if issuer != expected.issuer {
            return Err(Refusal::Issuer { found: shown(&issuer), expected: expected.issuer.to_owned() });
        }
        is_for(claims.remove("aud").as_ref(), expected.audience)?;
        let issued = time(&mut claims, "iat")?.ok_or(Refusal::Claim("iat"))?;
        let expires = time(&mut claims, "exp")?.ok_or(Refusal::Claim("exp"))?;
        let begins = time(&mut claims, "nbf")?.unwrap_or(issued).max(issued);
        if begins > now.saturating_add(LEEWAY) {
            return Err(Refusal::NotYet { seconds: begins - now });
        }
        if expires.saturating_add(LEEWAY) <= now {
            return Err(Refusal::Expired { seconds: now - expires });
        }
        let oldest = issued.saturating_add(expected.max_age.as_secs());
        if oldest.saturating_add(LEEWAY) <= now {
            return Err(Refusal::TooOld { seconds: now - issued, most: expected.max_age.as_secs() });
        }
        let subject = text(&mut claims, "sub")?.ok_or(Refusal::Claim("sub"))?;
        let id = text(&mut claims, "jti")?;
        Ok(Self { issuer, subject, id, issued, expires: expires.min(oldest), rest: claims })
    }

    /// Another claim, if it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.rest.get(name).and_then(Value::as_str)
    }
}

fn is_for(audience: Option<&Value>, expected: &str) -> Result<(), Refusal> {
    let names = match audience {
        Some(Value::String(name)) => vec![name.as_str()],
        Some(Value::Array(names)) => {
            let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
            names.ok_or(Refusal::Claim("aud"))?
        }
        _ => return Err(Refusal::Claim("aud")),
    };
    if names == [expected] {
        return Ok(());
    }
    Err(Refusal::Audience { found: shown(&names.join(", ")), expected: expected.to_owned() })
}

fn text(claims: &mut Map<String, Value>, name: &'static str) -> Result<Option<String>, Refusal> {
    match claims.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() && (name == "iss" || text.len() <= MAX_ID) => {
            Ok(Some(text))
        }
        Some(_) => Err(Refusal::Claim(name)),
    }
}

/// A `NumericDate`: seconds, perhaps with a fraction, which is dropped.
fn time(claims: &mut Map<String, Value>, name: &'static str) -> Result<Option<u64>, Refusal> {
    let Some(value) = claims.remove(name) else { return Ok(None) };
    let fraction = || value.as_f64().filter(|seconds| (0.0..1e12).contains(seconds));
    let seconds = value.as_u64().or_else(|| fraction().map(|seconds| seconds as u64));
    seconds.map(Some).ok_or(Refusal::Claim(name))
}
