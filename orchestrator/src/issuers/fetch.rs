//! Fetches an issuer's keys: its discovery document, then the key set that this names.

use std::time::Duration;

use http::{StatusCode, Uri};
use idtoken::KeySet;
use model::issuer::IssuerSpec;
use serde::Deserialize;

use crate::registry::wire::{Wire, WireError};

/// Both documents together.
const LIMIT: Duration = Duration::from_secs(10);
/// Bytes of a discovery document; known ones have 2 to 5 KiB.
const MAX_DISCOVERY: usize = 64 << 10;
/// OpenID Connect Discovery 1.0, section 4.
const DISCOVERY: &str = "/.well-known/openid-configuration";

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// Fetches the keys.
///
/// # Errors
/// Why there are none, in words that a person can act on.
pub async fn keys(issuer: &IssuerSpec) -> Result<KeySet, String> {
    let late = |_elapsed| format!("it did not answer within {} s", LIMIT.as_secs());
    tokio::time::timeout(LIMIT, fetch(issuer)).await.map_err(late)?
}

async fn fetch(issuer: &IssuerSpec) -> Result<KeySet, String> {
    let wire = Wire::new(issuer.authority.as_deref(), false).map_err(words)?;
    let own: Uri = format!("{}{DISCOVERY}", issuer.url.trim_end_matches('/'))
        .parse()
        .map_err(|_| no_address(&issuer.url))?;
    let document = read(&wire, &own).await?;
    if document.len() > MAX_DISCOVERY {
        return Err(format!("{own} has {} bytes; at most {MAX_DISCOVERY} are read", document.len()));
    }
    let discovery: Discovery = serde_json::from_slice(&document)
        .map_err(|_| format!("{own} is no discovery document with issuer and jwks_uri"))?;
    if discovery.issuer != issuer.url {
        let found: String = discovery.issuer.chars().take(128).collect();
        return Err(format!("{own} is of issuer {found:?}, not of {:?}", issuer.url));
    }
    let keys: Uri = discovery.jwks_uri.parse().map_err(|_| no_address(&discovery.jwks_uri))?;
    // Else whoever can write that one document could send us anywhere.
    if keys.scheme_str() != Some("https") || keys.authority() != own.authority() {
        return Err(format!(
            "its keys are said to lie at {keys}, which is not on the issuer's own host over https"
        ));
    }
    KeySet::parse(&read(&wire, &keys).await?).map_err(|error| error.to_string())
}

async fn read(wire: &Wire, uri: &Uri) -> Result<bytes::Bytes, String> {
    let answer = wire.read(uri).await.map_err(|error| format!("{uri}: {}", words(error)))?;
    match answer.status {
        StatusCode::OK => Ok(answer.body),
        status => Err(format!("{uri} answers {}", status.as_u16())),
    }
}

fn words(error: WireError) -> String {
    match error {
        WireError::NoTls(why) => format!("it does not speak TLS: {why}"),
        other => other.to_string(),
    }
}

fn no_address(text: &str) -> String {
    let text: String = text.chars().take(128).collect();
    format!("{text:?} is no address")
}
