//! A deploy token in place of a certificate: the token pins the authority, and goes as metadata with every call.

use pki::DeployToken;
use tonic::metadata::{Ascii, MetadataValue};

use crate::{
    context::Context,
    exit::{Code, Failure},
};

/// The managers' port where none is written.
const PORT: u16 = 7420;

/// What the environment of a pipeline says: `ORCH_TOKEN` or `ORCH_TOKEN_FILE`, and `ORCH_MANAGERS`; `None`: neither token.
///
/// # Errors
/// The file cannot be read, or there is a token and no manager.
pub fn from_environment() -> Result<Option<Context>, Failure> {
    from(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()))
}

fn from(var: impl Fn(&str) -> Option<String>) -> Result<Option<Context>, Failure> {
    let token = match (var("ORCH_TOKEN"), var("ORCH_TOKEN_FILE")) {
        (Some(token), _) => token,
        (None, Some(path)) => std::fs::read_to_string(&path)
            .map_err(|error| Failure::file("read ORCH_TOKEN_FILE", path.as_ref(), &error))?,
        (None, None) => return Ok(None),
    };
    let managers = var("ORCH_MANAGERS").ok_or_else(|| {
        Failure::invalid(
            "there is a deploy token (ORCH_TOKEN or ORCH_TOKEN_FILE) but no manager to present it to: set ORCH_MANAGERS to \
             HOST[:PORT],…",
        )
    })?;
    let context = Context {
        name: "ORCH_MANAGERS".into(),
        managers: self::managers(&managers),
        token: Some(token.trim().to_owned()),
        ..Context::default()
    };
    context.check()?;
    Ok(Some(context))
}

/// The addresses that `ORCH_MANAGERS` lists.
pub(super) fn managers(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|address| !address.is_empty()).map(with_port).collect()
}

/// An address with the managers' port where none is written.
pub fn with_port(address: &str) -> String {
    let port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    // A bare IPv6 address has colons of its own.
    if port && (address.matches(':').count() == 1 || address.contains("]:")) {
        return address.to_owned();
    }
    format!("{address}:{PORT}")
}

/// Reads a token.
///
/// # Errors
/// Exit 4: it is cut off, mistyped, or no deploy token.
pub fn token(text: &str) -> Result<DeployToken, Failure> {
    text.parse().map_err(|error: pki::DeployTokenError| Failure::new(Code::DENIED, error.to_string()))
}

/// How it is presented.
pub fn metadata(token: &DeployToken) -> MetadataValue<Ascii> {
    let text = format!("Bearer {}", token.reveal());
    let mut value = MetadataValue::try_from(text).expect("a token is ASCII without control letters");
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(set: &[(&str, &str)]) -> Result<Option<Context>, Failure> {
        from(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn a_token_and_managers_are_all_that_a_pipeline_needs() {
        assert_eq!(of(&[("ORCH_MANAGERS", "m1")]), Ok(None));
        let context = of(&[("ORCH_TOKEN", "ORCHD1-x\n"), ("ORCH_MANAGERS", "m1, m2:7421,[::1]:7000,[::2]")]);
        let context = context.unwrap().unwrap();
        assert_eq!(context.managers, ["m1:7420", "m2:7421", "[::1]:7000", "[::2]:7420"]);
        assert_eq!(context.token.as_deref(), Some("ORCHD1-x"));
        assert!(of(&[("ORCH_TOKEN", "ORCHD1-x")]).unwrap_err().message.contains("ORCH_MANAGERS"));
        let missing = of(&[("ORCH_TOKEN_FILE", "/nowhere"), ("ORCH_MANAGERS", "m1")]).unwrap_err();
        assert!(missing.message.contains("/nowhere"), "{missing}");
    }

    #[test]
    fn what_is_no_token_is_refused_before_anything_is_sent() {
        let failure = token("ORCHD1-abc").unwrap_err();
        assert_eq!(failure.code, Code::DENIED);
        assert!(failure.message.contains("cut off or mistyped"), "{failure}");
    }
}
