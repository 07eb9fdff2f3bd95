//! A job's ID token in place of a certificate: shown once, for a session that is a deploy token of its own.
//!
//! The session's secret is drawn here and only its digest is sent: whoever else sees the ID token has nothing of the session, and the ID
//! token opens no second one. An ID token names no cluster's authority, as a deploy token does; so the pipeline has to say it.

use std::time::Duration;

use model::{binding::ExchangeRequest, command::Answer, registry::Secret, request::Request};
use pki::{CaCertificate, DeploySecret, DeployToken, Fingerprint};

use super::{Client, bearer, random, unexpected};
use crate::{context::Context, exit::Failure};

const PEM_START: &str = "-----BEGIN";

/// What the environment of a job says.
#[derive(PartialEq, Eq)]
pub struct IdTokenContext {
    id_token: String,
    authority: Fingerprint,
    managers: Vec<String>,
}

/// Reads `ORCH_ID_TOKEN` or `ORCH_ID_TOKEN_FILE`, `ORCH_MANAGERS` and `ORCH_CA`; `None`: there is no ID token.
///
/// # Errors
/// A file cannot be read, or one of the others is missing.
pub fn from_environment() -> Result<Option<IdTokenContext>, Failure> {
    from(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()))
}

fn from(var: impl Fn(&str) -> Option<String>) -> Result<Option<IdTokenContext>, Failure> {
    let id_token = match (var("ORCH_ID_TOKEN"), var("ORCH_ID_TOKEN_FILE")) {
        (Some(token), _) => token,
        (None, Some(path)) => std::fs::read_to_string(&path)
            .map_err(|error| Failure::file("read ORCH_ID_TOKEN_FILE", path.as_ref(), &error))?,
        (None, None) => return Ok(None),
    };
    let wants = |name: &str, what: &str| {
        Failure::invalid(format!("there is an ID token (ORCH_ID_TOKEN) but no {name}: set it to {what}"))
    };
    let managers = var("ORCH_MANAGERS").ok_or_else(|| wants("ORCH_MANAGERS", "HOST[:PORT],…"))?;
    let authority = var("ORCH_CA").ok_or_else(|| {
        wants(
            "ORCH_CA",
            "the fingerprint of the cluster's authority, or its certificate or a file with it (PEM)",
        )
    })?;
    let context = IdTokenContext {
        id_token: id_token.trim().to_owned(),
        authority: fingerprint(authority.trim())?,
        managers: bearer::managers(&managers),
    };
    Ok(Some(context))
}

/// Of 64 hex digits, PEM text, or a file with it.
fn fingerprint(text: &str) -> Result<Fingerprint, Failure> {
    if let Ok(fingerprint) = text.parse() {
        return Ok(fingerprint);
    }
    let of = |pem: &str| {
        let authority = CaCertificate::from_pem(pem);
        authority
            .map(|authority| authority.fingerprint())
            .map_err(|error| Failure::invalid(format!("ORCH_CA: {error}")))
    };
    if text.starts_with(PEM_START) {
        return of(text);
    }
    of(&std::fs::read_to_string(text)
        .map_err(|error| Failure::file("read ORCH_CA", text.as_ref(), &error))?)
}

/// Shows the ID token; returns the context of the session.
///
/// # Errors
/// Why it is not accepted.
pub async fn exchange(
    context: IdTokenContext,
    binding: Option<String>,
    timeout: Option<Duration>,
) -> Result<Context, Failure> {
    let IdTokenContext { id_token, authority, managers } = context;
    let secret = DeploySecret::from_bytes(random::secret()?);
    let client = Client::unnamed(managers.clone(), authority, timeout)?;
    let request = Request::Exchange(Box::new(ExchangeRequest {
        id_token: Secret::new(id_token),
        binding,
        digest: secret.digest(),
        proof: None,
    }));
    let (Answer::DeployToken { id, .. }, _) = client.change(request).await? else {
        return Err(unexpected());
    };
    let token = DeployToken::new(authority, id, secret).reveal();
    Ok(Context { name: "ORCH_MANAGERS".into(), managers, token: Some(token), ..Context::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(set: &[(&str, &str)]) -> Result<Option<IdTokenContext>, Failure> {
        from(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn an_id_token_needs_managers_and_the_authority_that_they_have_to_prove() {
        let digits = "ab".repeat(32);
        let token = ("ORCH_ID_TOKEN", "a.b.c\n");
        assert!(of(&[("ORCH_MANAGERS", "m1"), ("ORCH_CA", &digits)]).is_ok_and(|context| context.is_none()));
        let context = of(&[token, ("ORCH_MANAGERS", "m1, m2:1"), ("ORCH_CA", &digits)]);
        let context = context.ok().flatten().expect("all there is to say");
        assert_eq!(context.managers, ["m1:7420", "m2:1"]);
        assert_eq!((context.id_token.as_str(), context.authority.to_string()), ("a.b.c", digits.clone()));
        let message = |set: &[(&str, &str)]| of(set).err().expect("something is missing").message;
        assert!(message(&[token, ("ORCH_CA", &digits)]).contains("ORCH_MANAGERS"));
        assert!(message(&[token, ("ORCH_MANAGERS", "m1")]).contains("ORCH_CA"));
        assert!(
            message(&[token, ("ORCH_MANAGERS", "m1"), ("ORCH_CA", "/nowhere/ca.pem")]).contains("/nowhere")
        );
    }
}
