//! Asks registries of images what the core wants to know, over their HTTP API, version 2.
//!
//! In comes a question with the registry's declaration; out goes a digest, signatures, or why there is none, in words that a person can act
//! on and without the login. Each question is a few requests on connections of their own, within a limit on time, on redirects
//! and on what is read: a registry may be anything.
//!
//! A client of our own of some hundred lines, because the published ones bring a second HTTP stack, openssl or aws-lc, and what
//! is needed is one request of the API.
//!
//! Read in this order: this file, [`wire`], [`challenge`], [`signatures`], [`bundles`].

mod bundles;
mod challenge;
mod signatures;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Method, StatusCode, Uri, header};
use manager_core::{
    RegistryAnswer, RegistryQuestion, RegistryRefusal as Refusal, RegistryWish, RegistryWord,
};
use model::{
    audit::Digest,
    registry::{HUB, Login, RegistrySpec},
};
use serde::Deserialize;

use challenge::Challenge;
use wire::{Answer, Wire, WireError};

/// A question as a whole. The core goes on without an answer earlier; this ends what it left.
const LIMIT: Duration = Duration::from_secs(15);
/// Docker's own registry is not where its images' names say.
const HUB_HOST: &str = "registry-1.docker.io";
/// What is asked for: every kind of manifest, lists of them first, so that one digest serves all architectures.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// Asks.
pub async fn ask(question: RegistryQuestion) -> RegistryAnswer {
    let asked = async {
        let mut session = Session::new(&question.registry)?;
        match &question.wish {
            RegistryWish::Greeting => session.greet().await.map(|()| RegistryWord::Welcome),
            RegistryWish::Digest { repository, reference } => {
                session.digest(repository, reference).await.map(RegistryWord::Digest)
            }
            RegistryWish::Signatures { repository, reference } => {
                let digest = session.digest(repository, reference).await?;
                let found = session.signatures(repository, &digest).await?;
                Ok(RegistryWord::Signatures(digest, found))
            }
        }
    };
    let late = || Refusal::Unreachable(format!("it did not answer within {} s", LIMIT.as_secs()));
    tokio::time::timeout(LIMIT, asked).await.unwrap_or_else(|_elapsed| Err(late()))
}

/// One question's way.
struct Session<'a> {
    spec: &'a RegistrySpec,
    wire: Wire,
    base: String,
    authorization: Option<String>,
}

impl<'a> Session<'a> {
    fn new(spec: &'a RegistrySpec) -> Result<Self, Refusal> {
        let scheme = if spec.plain_http { "http" } else { "https" };
        let host = if spec.host == HUB { HUB_HOST } else { &spec.host };
        let wire = Wire::new(spec.authority.as_deref(), spec.plain_http).map_err(unreachable)?;
        Ok(Self { spec, wire, base: format!("{scheme}://{host}"), authorization: None })
    }

    async fn greet(&mut self) -> Result<(), Refusal> {
        let answer = self.request(Method::GET, "/v2/").await?;
        match answer.status {
            StatusCode::OK => Ok(()),
            status => Err(self.refused(status, &answer)),
        }
    }

    async fn digest(&mut self, repository: &str, reference: &str) -> Result<String, Refusal> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let head = self.request(Method::HEAD, &path).await?;
        if head.status == StatusCode::OK
            && let Some(digest) = head.header("docker-content-digest").filter(|text| is_digest(text))
        {
            return Ok(digest.to_owned());
        }
        // A refusal without a body does not say whether a registry speaks at all, nor a manifest without a digest what it is.
        let answer = self.request(Method::GET, &path).await?;
        match answer.status {
            StatusCode::OK => Ok(digest_of(&answer.body)),
            status => Err(self.refused(status, &answer)),
        }
    }

    /// A request, repeated once with what the registry asks for.
    async fn request(&mut self, method: Method, path: &str) -> Result<Answer, Refusal> {
        let uri: Uri = format!("{}{path}", self.base).parse().map_err(|_| no_address(&self.base))?;
        let answer = self.send(&method, &uri).await?;
        if answer.status != StatusCode::UNAUTHORIZED || self.authorization.is_some() {
            return Ok(answer);
        }
        let Some(challenge) = answer.all("www-authenticate").find_map(Challenge::parse) else {
            return Err(Refusal::Denied("it refuses without saying how to log in (401)".into()));
        };
        let authorization = match challenge {
            Challenge::Basic => match &self.spec.login {
                Some(Login::Password { username, password }) => basic(username, password.reveal()),
                Some(Login::Token(_)) => {
                    return Err(Refusal::Denied("it takes a name and a password, no token".into()));
                }
                None => return Err(wants_login()),
            },
            Challenge::Bearer(bearer) => format!("Bearer {}", self.token(&bearer).await?),
        };
        self.authorization = Some(authorization);
        self.send(&method, &uri).await
    }

    async fn send(&self, method: &Method, uri: &Uri) -> Result<Answer, Refusal> {
        let mut headers = vec![(header::ACCEPT, MANIFESTS.to_owned())];
        headers.extend(self.authorization.clone().map(|value| (header::AUTHORIZATION, value)));
        self.wire.exchange(method, uri, &headers, None).await.map_err(unreachable)
    }

    /// A token for what was asked, from where the registry sends us.
    async fn token(&self, bearer: &challenge::Bearer) -> Result<String, Refusal> {
        let realm: Uri = bearer.realm.parse().map_err(|_| no_address(&bearer.realm))?;
        if realm.scheme_str() != Some("https") && !self.spec.plain_http {
            let why = format!("it sends logins to {}, which is not encrypted", bearer.realm);
            return Err(Refusal::Denied(why));
        }
        let answer = match &self.spec.login {
            Some(Login::Token(token)) => {
                let form = bearer.form(token.reveal());
                let kind = (header::CONTENT_TYPE, "application/x-www-form-urlencoded".to_owned());
                self.wire.exchange(&Method::POST, &realm, &[kind], Some(form)).await
            }
            login => {
                let uri: Uri = bearer.question().parse().map_err(|_| no_address(&bearer.realm))?;
                let authorization = match login {
                    Some(Login::Password { username, password }) => {
                        vec![(header::AUTHORIZATION, basic(username, password.reveal()))]
                    }
                    Some(Login::Token(_)) | None => Vec::new(),
                };
                self.wire.exchange(&Method::GET, &uri, &authorization, None).await
            }
        };
        let answer = answer.map_err(unreachable)?;
        match answer.status {
            StatusCode::OK => {}
            // It says nothing about any image.
            StatusCode::NOT_FOUND => {
                let host = realm.host().unwrap_or_default();
                return Err(Refusal::Unreachable(format!("{host}, where it has tokens from, answers 404")));
            }
            status => return Err(self.refused(status, &answer)),
        }
        let token: Token = serde_json::from_slice(&answer.body)
            .map_err(|_| Refusal::Unreachable(format!("{} gives no token", bearer.realm)))?;
        let token = token.token.or(token.access_token).filter(|token| !token.is_empty());
        token.ok_or_else(|| Refusal::Denied(format!("{} gives no token", bearer.realm)))
    }

    fn refused(&self, status: StatusCode, answer: &Answer) -> Refusal {
        let said = ErrorBody::of(&answer.body);
        let words = said.as_ref().map_or_else(String::new, |error| format!(": {}", self.words(error)));
        match (status, &self.spec.login) {
            (StatusCode::NOT_FOUND, _) if said.as_ref().is_some_and(ErrorBody::is_missing) => {
                Refusal::Missing(format!("it answers 404{words}"))
            }
            (StatusCode::NOT_FOUND, _) => {
                Refusal::Unreachable("it answers 404 as no registry does: is it one?".into())
            }
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, None) => wants_login(),
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, Some(login)) => {
                let who = match login {
                    Login::Password { username, .. } => format!("of {username}"),
                    Login::Token(_) => "by token".to_owned(),
                };
                Refusal::Denied(format!("it refuses the login {who} ({}{words})", status.as_u16()))
            }
            (StatusCode::TOO_MANY_REQUESTS, _) => Refusal::Unreachable("it was asked too often (429)".into()),
            _ => Refusal::Unreachable(format!("it answers {}{words}", status.as_u16())),
        }
    }

    /// What a registry says, as far as it may be shown: it may repeat what it was sent.
    fn words(&self, error: &ErrorBody) -> String {
        let mut words = error.words();
        for secret in self.secrets() {
            words = words.replace(&secret, "…");
        }
        words.chars().take(MAX_WORDS).collect()
    }

    /// The login's secret in every form in which it is sent, the longest first.
    fn secrets(&self) -> Vec<String> {
        let mut secrets: Vec<String> = match &self.spec.login {
            Some(Login::Password { username, password }) => {
                let password = password.reveal();
                vec![STANDARD.encode(format!("{username}:{password}")), password.to_owned()]
            }
            Some(Login::Token(token)) => vec![challenge::percent(token.reveal()), token.reveal().to_owned()],
            None => Vec::new(),
        };
        let bearer = self.authorization.as_deref().and_then(|value| value.strip_prefix("Bearer "));
        secrets.extend(bearer.map(str::to_owned));
        secrets.retain(|secret| !secret.is_empty());
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }
}

fn wants_login() -> Refusal {
    Refusal::Denied(
        "it asks for a login, and none is declared: orchctl registry set HOST --username … --password-stdin"
            .into(),
    )
}

fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}

fn unreachable(error: WireError) -> Refusal {
    Refusal::Unreachable(error.to_string())
}

fn no_address(text: &str) -> Refusal {
    Refusal::Unreachable(format!("{text} is no address"))
}

fn is_digest(text: &str) -> bool {
    let digits = text.strip_prefix("sha256:");
    digits.is_some_and(|digits| digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn digest_of(body: &[u8]) -> String {
    format!("sha256:{}", Digest::of(body))
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

/// What a registry says of a refusal.
#[derive(Deserialize)]
struct ErrorBody {
    errors: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    code: String,
    #[serde(default)]
    message: String,
}

/// What is kept of a registry's words.
const MAX_WORDS: usize = 200;

impl ErrorBody {
    fn of(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok().filter(|body: &Self| !body.errors.is_empty())
    }

    fn is_missing(&self) -> bool {
        let missing = ["MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND"];
        self.errors.iter().any(|error| missing.contains(&error.code.as_str()))
    }

    fn words(&self) -> String {
        let first = &self.errors[0];
        let words = if first.message.is_empty() { &first.code } else { &first.message };
        words.chars().filter(|letter| !letter.is_control()).collect()
    }
}
