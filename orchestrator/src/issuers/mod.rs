//! The issuers' keys as this manager, which leads, knows them, and ID tokens judged by them.
//!
//! Keys are fetched when a token comes that needs them, never by what a token says but its issuer's name: whose keys there are and
//! where they lie was declared. A token with an unknown key makes them be fetched anew, once a minute: issuers change their keys,
//! and strangers invent names. All of it is soft: the next leader fetches anew.
//!
//! Read in this order: this file, [`fetch`].

pub mod fetch;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use idtoken::{Claims, Expected, IdToken, KeySet, LEEWAY, Refusal};
use manager_core::{Event, Manager};
use model::{
    binding::{ExchangeRequest, JobClaims, Proof},
    deployer::TokenDigest,
    issuer::{Issuer, IssuerSpec},
    registry::Secret,
    request::{ApiError, ErrorCode},
    time::ClusterTime,
};
use ring::digest;
use serde_json::Value;

use crate::core_loop::ReplySink;

/// So long keys are relied on: a key that an issuer withdrew verifies nothing after it.
const KEPT: Duration = Duration::from_secs(15 * 60);
/// Between two fetches because of a key that is not known.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(60);
/// Between two fetches when the first one failed.
const FAILURE_PAUSE: Duration = Duration::from_secs(5);
/// How old an ID token may be, whatever it says: jobs that run longer ask at their beginning.
const MAX_AGE: Duration = Duration::from_secs(6 * 3600);
/// Calls that wait for one issuer's keys.
const MAX_WAITING: usize = 256;

/// All issuers that a token came from.
#[derive(Default)]
pub struct Issuers(BTreeMap<String, Known>);

/// One issuer's keys.
struct Known {
    spec: IssuerSpec,
    keys: Option<(Arc<KeySet>, Instant)>,
    /// When they were last asked for, and why that failed.
    tried: Option<(Instant, Option<String>)>,
    fetching: bool,
    waiting: Vec<(Event, ReplySink)>,
}

/// What there is to verify a token with.
#[derive(Debug, PartialEq)]
enum Keys {
    Known(Arc<KeySet>),
    Wait { fetch: bool },
    Failed(String),
}

/// What became of an ID token.
pub enum Judged {
    /// It is the issuer's; the token itself is blanked.
    Proven(Box<ExchangeRequest>),
    /// It is not accepted.
    Refused(ApiError),
    /// Its issuer's keys are needed first.
    Waits {
        /// As it came.
        exchange: Box<ExchangeRequest>,
        /// Whose keys.
        issuer: Box<IssuerSpec>,
        /// They have to be asked for.
        fetch: bool,
    },
}

impl Issuers {
    /// Verifies an ID token with what is known.
    pub fn judge(&mut self, manager: &Manager, exchange: ExchangeRequest, now: Instant) -> Judged {
        let at = manager.cluster_time();
        match self.verify(manager.store().issuers(), &exchange, now, at) {
            Ok(Verified::Proof(proof)) => Judged::Proven(Box::new(ExchangeRequest {
                id_token: Secret::default(),
                proof: Some(proof),
                ..exchange
            })),
            Ok(Verified::Waits { issuer, fetch }) => {
                Judged::Waits { exchange: Box::new(exchange), issuer, fetch }
            }
            Err(error) => Judged::Refused(error),
        }
    }

    fn verify(
        &mut self,
        issuers: &[Issuer],
        exchange: &ExchangeRequest,
        now: Instant,
        at: ClusterTime,
    ) -> Result<Verified, ApiError> {
        let token = IdToken::parse(exchange.id_token.reveal()).map_err(refused)?;
        let named = token.unverified_issuer().unwrap_or_default();
        let issuer = issuers.iter().find(|issuer| issuer.spec.url == named).ok_or_else(|| {
            let named: String = named.chars().take(128).collect();
            let message = format!(
                "the ID token is of issuer {named:?}, which is not declared here (orchctl issuer ls)"
            );
            ApiError::new(ErrorCode::Unauthenticated, message)
        })?;
        let spec = &issuer.spec;
        let known = self.0.entry(spec.name.clone()).or_insert_with(|| Known::new(spec));
        if known.spec != *spec {
            *known = Known { waiting: std::mem::take(&mut known.waiting), ..Known::new(spec) };
        }
        let keys = match known.keys(token.key_id(), now) {
            Keys::Known(keys) => keys,
            Keys::Wait { fetch: false } if known.waiting.len() >= MAX_WAITING => {
                let message =
                    format!("{MAX_WAITING} calls wait for the keys of issuer \"{}\"; retry", spec.name);
                return Err(ApiError::new(ErrorCode::Exhausted, message));
            }
            Keys::Wait { fetch } => return Ok(Verified::Waits { issuer: Box::new(spec.clone()), fetch }),
            Keys::Failed(why) => {
                let message = format!("the keys of issuer \"{}\" cannot be fetched: {why}", spec.name);
                return Err(ApiError::new(ErrorCode::Unavailable, message));
            }
        };
        let expected = Expected { issuer: &spec.url, audience: &spec.audience, max_age: MAX_AGE };
        let claims = token.verify(&keys, &expected, at.0 / 1_000_000).map_err(refused)?;
        let id = claims.id.as_deref().ok_or_else(|| refused(Refusal::Claim("jti")))?;
        let id_token = digest_of(&spec.url, id);
        let until = ClusterTime((claims.expires + LEEWAY).saturating_mul(1_000_000));
        let (name, generation) = (spec.name.clone(), issuer.generation);
        let proof = Proof { issuer: name, generation, id_token, claims: job_of(&claims), until };
        Ok(Verified::Proof(Box::new(proof)))
    }

    /// A call that goes on when the keys were fetched.
    pub fn wait(&mut self, issuer: &str, event: Event, sink: ReplySink) {
        if let Some(known) = self.0.get_mut(issuer) {
            known.waiting.push((event, sink));
        }
    }

    /// Takes what was fetched; returns the calls that waited for it.
    pub fn fetched(
        &mut self,
        issuer: &IssuerSpec,
        fetched: Result<KeySet, String>,
        now: Instant,
    ) -> Vec<(Event, ReplySink)> {
        let Some(known) = self.0.get_mut(&issuer.name) else { return Vec::new() };
        // What was declared anew meanwhile has keys of its own.
        if known.spec == *issuer {
            known.fetching = false;
            known.tried = Some((now, fetched.as_ref().err().cloned()));
            if let Ok(keys) = fetched {
                known.keys = Some((Arc::new(keys), now));
            }
        }
        std::mem::take(&mut known.waiting)
    }
}

enum Verified {
    Proof(Box<Proof>),
    Waits { issuer: Box<IssuerSpec>, fetch: bool },
}

impl Known {
    fn new(spec: &IssuerSpec) -> Self {
        Self { spec: spec.clone(), keys: None, tried: None, fetching: false, waiting: Vec::new() }
    }

    fn keys(&mut self, key: &str, now: Instant) -> Keys {
        let kept = self.keys.as_ref().filter(|(_, since)| now.duration_since(*since) < KEPT);
        let kept = kept.map(|(keys, _)| keys.clone());
        if let Some(keys) = kept.as_ref().filter(|keys| keys.names().any(|name| name == key)) {
            return Keys::Known(keys.clone());
        }
        if self.fetching {
            return Keys::Wait { fetch: false };
        }
        match (&self.tried, kept) {
            (Some((since, Some(why))), _) if now.duration_since(*since) < FAILURE_PAUSE => {
                Keys::Failed(why.clone())
            }
            (Some((since, None)), Some(keys)) if now.duration_since(*since) < UNKNOWN_KEY_PAUSE => {
                Keys::Known(keys)
            }
            _ => {
                self.fetching = true;
                Keys::Wait { fetch: true }
            }
        }
    }
}

fn refused(refusal: Refusal) -> ApiError {
    ApiError::new(ErrorCode::Unauthenticated, refusal.to_string())
}

/// Tells one ID token of one issuer from every other.
fn digest_of(issuer: &str, id: &str) -> TokenDigest {
    let mut context = digest::Context::new(&digest::SHA256);
    for text in [issuer, id] {
        context.update(&(text.len() as u64).to_be_bytes());
        context.update(text.as_bytes());
    }
    TokenDigest(context.finish().as_ref().try_into().expect("SHA-256 yields 32 bytes"))
}

/// GitLab writes numbers as text.
fn job_of(claims: &Claims) -> JobClaims {
    let text = |name: &str| claims.text(name).unwrap_or_default().to_owned();
    let number = |name: &str| match claims.rest.get(name)? {
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        Value::Number(number) => number.as_u64(),
        _ => None,
    };
    // A number that is there and cannot be read is some other project's.
    let job_project = claims.rest.get("job_project_id").map(|_| number("job_project_id").unwrap_or(0));
    JobClaims {
        project_id: number("project_id"),
        project_path: text("project_path"),
        job_project_id: job_project,
        job_id: text("job_id"),
        ref_name: text("ref"),
        ref_type: text("ref_type"),
        ref_protected: text("ref_protected"),
        pipeline_source: text("pipeline_source"),
        environment: claims.text("environment").map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str) -> KeySet {
        let modulus = "z".repeat(344);
        let text =
            format!(r#"{{"keys":[{{"kty":"RSA","use":"sig","kid":"{name}","n":"{modulus}","e":"AQAB"}}]}}"#);
        KeySet::parse(text.as_bytes()).expect("a key set")
    }

    fn asked(keys: &Keys) -> &'static str {
        match keys {
            Keys::Known(_) => "known",
            Keys::Wait { fetch: true } => "fetch",
            Keys::Wait { fetch: false } => "wait",
            Keys::Failed(_) => "failed",
        }
    }

    #[test]
    fn strangers_make_keys_be_fetched_once_a_minute_and_issuers_change_theirs() {
        let spec = IssuerSpec { name: "gitlab".into(), ..IssuerSpec::default() };
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut issuers = Issuers([("gitlab".to_owned(), Known::new(&spec))].into());
        let ask = |issuers: &mut Issuers, key, seconds| {
            asked(&issuers.0.get_mut("gitlab").expect("known").keys(key, at(seconds)))
        };
        assert_eq!(ask(&mut issuers, "one", 0), "fetch");
        assert_eq!(ask(&mut issuers, "one", 0), "wait");
        issuers.fetched(&spec, Err("down".into()), at(1));
        assert_eq!(ask(&mut issuers, "one", 2), "failed");
        assert_eq!(ask(&mut issuers, "one", 6), "fetch");
        issuers.fetched(&spec, Ok(set("one")), at(6));
        assert_eq!(ask(&mut issuers, "one", 6), "known");
        assert_eq!(ask(&mut issuers, "invented", 6), "known", "it is refused by what is known");
        assert_eq!(ask(&mut issuers, "two", 66), "fetch");
        assert_eq!(ask(&mut issuers, "one", 66), "known", "nobody with a good key waits for it");
        issuers.fetched(&spec, Ok(set("two")), at(67));
        assert_eq!(ask(&mut issuers, "two", 68), "known");
        assert_eq!(ask(&mut issuers, "one", 68), "known", "withdrawn: refused by what is known");
        assert_eq!(ask(&mut issuers, "two", 67 + KEPT.as_secs()), "fetch", "nothing is relied on for ever");
    }

    #[test]
    fn an_id_token_is_told_from_others_by_issuer_and_id() {
        let digests = [digest_of("a", "b"), digest_of("ab", ""), digest_of("", "ab"), digest_of("a", "c")];
        let distinct: std::collections::BTreeSet<_> = digests.iter().map(|digest| digest.0).collect();
        assert_eq!(distinct.len(), digests.len());
    }
}
