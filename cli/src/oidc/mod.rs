//! Logging in with an issuer of OpenID Connect: a person says yes in a browser, and this program gets an ID token for the managers.
//!
//! Two ways: a code that is typed in on any machine (RFC 8628), and a browser on this one (RFC 8252, with PKCE). Both ask for a
//! token that names the certificate request (`nonce`), so that whoever steals it can make nothing of it; not every issuer puts
//! that into tokens of the first way, and then managers take each token once.
//!
//! Read in this order: this file, `device`, `browser`, `https`.

mod browser;
mod device;
mod https;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use model::login::{Oidc, Password};
use serde::Deserialize;

use crate::{
    client::random,
    exit::{Code, Failure},
};
use https::Https;

/// What an issuer says of itself (OpenID Connect Discovery 1.0).
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    device_authorization_endpoint: Option<String>,
}

/// What becomes of a person's yes.
#[derive(Deserialize)]
struct Tokens {
    id_token: Option<String>,
}

/// Why an issuer says no (RFC 6749, 5.2).
#[derive(Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    error_description: String,
}

/// An ID token for a certificate request.
///
/// # Errors
/// The issuer cannot be asked, or the person said no.
pub async fn token(issuer: &Oidc, csr: &str, browser: bool) -> Result<Password, Failure> {
    let https = Https::new(issuer.authority.as_deref())?;
    let at = format!("{}/.well-known/openid-configuration", issuer.url.trim_end_matches('/'));
    let discovery: Discovery = https.get(&at).await?.read(&at)?;
    if discovery.issuer != issuer.url {
        return Err(Failure::error(format!("{at} is of another issuer, \"{}\"", discovery.issuer)));
    }
    let asking = Asking { issuer, https: &https, discovery: &discovery, nonce: nonce(csr) };
    let tokens = if browser { browser::ask(&asking).await? } else { device::ask(&asking).await? };
    let token = tokens.id_token.ok_or_else(|| {
        Failure::error(format!("{} gives no ID token: is the client allowed the scope openid?", issuer.url))
    })?;
    Ok(Password::new(token))
}

/// What both ways need.
struct Asking<'a> {
    issuer: &'a Oidc,
    https: &'a Https,
    discovery: &'a Discovery,
    nonce: String,
}

impl Asking<'_> {
    fn scope(&self) -> String {
        std::iter::once("openid")
            .chain(self.issuer.scopes.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// What ties a token to a certificate request.
fn nonce(csr: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, csr.as_bytes());
    URL_SAFE_NO_PAD.encode(digest)
}

/// A text that nobody guesses.
fn secret() -> Result<String, Failure> {
    random::secret().map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
}

fn refused(refusal: &Refusal) -> Failure {
    let words: String =
        refusal.error_description.chars().filter(|letter| !letter.is_control()).take(200).collect();
    let more = if words.is_empty() { String::new() } else { format!(": {words}") };
    Failure::new(Code::DENIED, format!("the issuer says {}{more}", refusal.error))
}
