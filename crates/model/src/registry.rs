//! Registries of images: where they are, how managers and nodes log in there, and which images are theirs.
//!
//! Managers talk to registries that were declared here, and to no other: what a service's image names must not make them
//! connect to wherever somebody likes. Images of other registries are the nodes' business.
//!
//! A login is sealed with the managers' data key before it enters the log. It is never shown again, and is given to a node only for an
//! image of that registry that the node is to run.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    identity::Identity,
    sealed::{Clear, KeyId, Sealed},
    time::ClusterTime,
};

/// Registries of a cluster at most.
pub const MAX_REGISTRIES: usize = 64;
/// Docker's own registry, as images name it.
pub const HUB: &str = "docker.io";

/// A password or token. It has no words for people.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes one.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// How to log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Login {
    /// A name and a password.
    Password {
        /// The name.
        username: String,
        /// The password, or what the registry takes for one, such as a deploy token.
        password: Secret,
    },
    /// An identity token (OAuth2 refresh token), as `docker login` keeps it for registries that give one.
    Token(Secret),
}

impl Login {
    /// What may be shown.
    pub fn kind(&self) -> LoginKind {
        match self {
            Self::Password { username, .. } => LoginKind::Password { username: username.clone() },
            Self::Token(_) => LoginKind::Token,
        }
    }

    /// Its secret part.
    pub fn secret(&self) -> &Secret {
        match self {
            Self::Password { password, .. } => password,
            Self::Token(token) => token,
        }
    }
}

/// A login without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoginKind {
    /// A name and a password.
    Password {
        /// The name.
        username: String,
    },
    /// An identity token.
    Token,
}

impl LoginKind {
    /// The login with this secret; `None` when the secret is no text.
    pub fn with(&self, secret: &Clear) -> Option<Login> {
        let secret = Secret::new(std::str::from_utf8(secret.reveal()).ok()?);
        Some(match self {
            Self::Password { username } => Login::Password { username: username.clone(), password: secret },
            Self::Token => Login::Token(secret),
        })
    }
}

/// A login whose secret only who has the data key can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedLogin {
    /// What may be shown.
    pub kind: LoginKind,
    /// The secret.
    pub value: Sealed,
}

/// What a user declares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegistrySpec {
    /// `host` or `host:port` as images name it; [`HUB`] for Docker's own. Unique in the cluster.
    pub host: String,
    /// How to log in, in clear: on its way to the leader, to the registry and to a node, and in states of versions before 0.2. `None`
    /// without `sealed`: it asks nobody.
    pub login: Option<Login>,
    /// Certificates of the authorities that may vouch for it, PEM, besides those that the managers' machines trust.
    pub authority: Option<String>,
    /// It speaks plain HTTP: everybody on the way reads and changes what is fetched, the login included.
    pub plain_http: bool,
    /// How to log in, as the cluster keeps it. Nobody declares that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sealed: Option<SealedLogin>,
}

impl RegistrySpec {
    /// What may be shown of the login.
    pub fn login_kind(&self) -> Option<LoginKind> {
        let clear = self.login.as_ref().map(Login::kind);
        clear.or_else(|| self.sealed.as_ref().map(|login| login.kind.clone()))
    }

    /// With which key the login is sealed: `None` without a login, `Some(None)` in clear.
    pub fn login_key(&self) -> Option<Option<KeyId>> {
        match (&self.login, &self.sealed) {
            (Some(_), _) => Some(None),
            (None, Some(login)) => Some(Some(login.value.key)),
            (None, None) => None,
        }
    }
}

/// A registry as the cluster keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registry {
    /// The declaration.
    pub spec: RegistrySpec,
    /// Who declared it.
    pub by: Identity,
    /// When.
    pub set: ClusterTime,
}

/// An image's name, taken apart as Docker does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName<'a> {
    /// Its registry's host.
    pub host: &'a str,
    /// Its path there; `library/` is left out where the name leaves it out.
    pub path: &'a str,
    /// The tag or digest (`sha256:…`) to ask for.
    pub reference: &'a str,
}

impl<'a> ImageName<'a> {
    /// Takes a name apart; `None` for an image's id, which no registry knows.
    pub fn parse(image: &'a str) -> Option<Self> {
        if image.is_empty() || image.starts_with("sha256:") {
            return None;
        }
        let (name, digest) = image.split_once('@').map_or((image, None), |(name, d)| (name, Some(d)));
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        let (host, path) = match name.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
                (canonical_host(host), path)
            }
            _ => (HUB, name),
        };
        Some(Self { host, path, reference: digest.or(tag).unwrap_or("latest") })
    }

    /// The path that the registry is asked for.
    pub fn repository(&self) -> String {
        let official = self.host == HUB && !self.path.contains('/');
        if official { format!("library/{}", self.path) } else { self.path.to_owned() }
    }

    /// Whether it names contents rather than a tag.
    pub fn is_digest(&self) -> bool {
        self.reference.starts_with("sha256:")
    }
}

/// Whether a declared image is what somebody names: letter by letter, or without the digest that it was found to have.
pub fn is_named(image: &str, name: &str) -> bool {
    image.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("@sha256:"))
}

/// Docker's own registry has several names.
pub fn canonical_host(host: &str) -> &str {
    if ["docker.io", "index.docker.io", "registry-1.docker.io"].contains(&host) { HUB } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_images_are_taken_apart_as_docker_does_it() {
        let hex = "a".repeat(64);
        let (digest, pinned) = (format!("sha256:{hex}"), format!("reg.example:5000/mx/web:1@sha256:{hex}"));
        for (image, host, repository, reference) in [
            ("nginx", "docker.io", "library/nginx", "latest"),
            ("nginx:1.27", "docker.io", "library/nginx", "1.27"),
            ("team/app", "docker.io", "team/app", "latest"),
            ("index.docker.io/library/nginx", "docker.io", "library/nginx", "latest"),
            ("localhost/app", "localhost", "app", "latest"),
            ("localhost:5000/app", "localhost:5000", "app", "latest"),
            ("reg.example:5000/mx/web:prod", "reg.example:5000", "mx/web", "prod"),
            (&pinned, "reg.example:5000", "mx/web", &digest),
        ] {
            let name = ImageName::parse(image).expect(image);
            assert_eq!(
                (name.host, name.repository().as_str(), name.reference),
                (host, repository, reference)
            );
        }
        assert_eq!(ImageName::parse(&digest), None);
    }

    #[test]
    fn nothing_that_is_printed_of_a_registry_holds_its_secret() {
        let password = Login::Password { username: "ci".into(), password: Secret::new("hunter2") };
        for login in [password, Login::Token(Secret::new("hunter2"))] {
            let spec =
                RegistrySpec { host: "r.example".into(), login: Some(login), ..RegistrySpec::default() };
            assert!(!format!("{spec:?}").contains("hunter2"));
        }
    }
}
