//! What `docker login` left on this machine, for registries that want to know who asks.
//!
//! The file is read anew for every image: a login takes effect at once, and no secret stays in memory. Logins that a
//! credential helper keeps are not read; where the registry then refuses, the error says so.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bollard::auth::DockerCredentials;
use serde::Deserialize;

/// Docker's own name for the registry of images without one.
const HUB: &str = "https://index.docker.io/v1/";
/// The file of a user with hundreds of registries has some ten KiB.
const MAX_BYTES: u64 = 1 << 20;

/// Where logins are found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logins {
    path: Option<PathBuf>,
    /// Somebody named the file, so it must be there.
    named: bool,
}

/// What is known of one registry.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Login {
    pub(super) credentials: Option<DockerCredentials>,
    /// Why there are none, where that is not simply so.
    pub(super) hint: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct DockerConfig {
    auths: BTreeMap<String, Auth>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    identitytoken: Option<String>,
}

impl Logins {
    /// The file as configured, else `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
    pub fn new(configured: Option<&Path>, var: impl Fn(&str) -> Option<PathBuf>) -> Self {
        if let Some(path) = configured {
            return Self { path: Some(path.to_owned()), named: true };
        }
        // A service manager may start the agent without a home; it runs as root then.
        let home = || Some(var("HOME").unwrap_or_else(|| "/root".into()).join(".docker"));
        let path = var("DOCKER_CONFIG").or_else(home).map(|directory| directory.join("config.json"));
        Self { path, named: false }
    }

    /// The login for an image's registry.
    pub(super) fn of(&self, image: &str) -> Login {
        let Some(path) = &self.path else { return Login::default() };
        let registry = registry(image);
        match read(path) {
            Ok(config) => config.login(registry, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.named => Login::default(),
            Err(error) => Login::without(format!("the logins in {} cannot be read: {error}", path.display())),
        }
    }
}

impl Login {
    /// One that a manager gave for this pull.
    pub(super) fn given(image: &str, login: model::registry::Login) -> Self {
        let mut credentials =
            DockerCredentials { serveraddress: Some(registry(image).to_owned()), ..Default::default() };
        match login {
            model::registry::Login::Password { username, password } => {
                credentials.username = Some(username);
                credentials.password = Some(password.reveal().to_owned());
            }
            model::registry::Login::Token(token) => {
                credentials.identitytoken = Some(token.reveal().to_owned());
            }
        }
        Self { credentials: Some(credentials), hint: None }
    }

    fn without(hint: String) -> Self {
        Self { credentials: None, hint: Some(hint) }
    }

    /// An error's message, with what may have been the cause.
    pub(super) fn explain(&self, message: String) -> String {
        match &self.hint {
            Some(hint) => format!("{message} ({hint})"),
            None => message,
        }
    }
}

impl DockerConfig {
    fn login(&self, registry: &str, path: &Path) -> Login {
        let helper = find(&self.cred_helpers, registry).or(self.creds_store.as_ref());
        let auth = find(&self.auths, registry);
        let token = auth.and_then(|auth| auth.identitytoken.clone()).filter(|token| !token.is_empty());
        let plain = auth.filter(|auth| !auth.auth.is_empty());
        match (plain, token, helper) {
            (None, None, Some(helper)) => Login::without(format!(
                "logins kept by docker-credential-{helper} are not supported: put a plain one for {registry} into {}",
                path.display()
            )),
            (None, None, None) => Login::default(),
            (plain, token, _) => match plain.map_or(Some(Default::default()), |auth| user(&auth.auth)) {
                Some((name, password)) => {
                    let credentials = DockerCredentials {
                        username: name,
                        password: password.filter(|_| token.is_none()),
                        serveraddress: Some(registry.to_owned()),
                        identitytoken: token,
                        ..DockerCredentials::default()
                    };
                    Login { credentials: Some(credentials), hint: None }
                }
                None => {
                    Login::without(format!("the login for {registry} in {} is malformed", path.display()))
                }
            },
        }
    }
}

/// What an engine says of a pull that failed, with what helps.
pub(super) fn advised(image: &str, message: String) -> String {
    let host = model::registry::ImageName::parse(image).map_or("", |name| name.host);
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| message.contains(phrase));
    let advice = if says(&["denied", "unauthorized", "no basic auth", "authentication required"]) {
        format!("is its login right? orchctl registry set {host} --username NAME --password-stdin")
    } else if says(&["HTTP response to HTTPS client"]) {
        format!("{host} speaks plain HTTP: name it under insecure-registries in this node's daemon.json")
    } else if says(&["x509:", "certificate"]) {
        format!("put its authority into /etc/docker/certs.d/{host}/ca.crt on this node")
    } else {
        return message;
    };
    format!("{message} ({advice})")
}

fn read(path: &Path) -> io::Result<DockerConfig> {
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

/// `base64(name:password)`.
fn user(auth: &str) -> Option<(Option<String>, Option<String>)> {
    let text = String::from_utf8(STANDARD.decode(auth).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((Some(name.to_owned()), Some(password.trim_end_matches('\0').to_owned())))
}

/// The registry of an image: what stands before the first `/`, if it looks like a host.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if is_hub(host) => HUB,
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => HUB,
    }
}

/// Keys were written by many versions of Docker: a host, or a URL of it.
fn find<'a, T>(entries: &'a BTreeMap<String, T>, registry: &str) -> Option<&'a T> {
    let exact = entries.get(registry);
    exact.or_else(|| entries.iter().find(|(key, _)| host(key) == host(registry)).map(|(_, value)| value))
}

fn host(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let host = key.split('/').next().unwrap_or(key);
    if is_hub(host) { HUB } else { host }
}

fn is_hub(host: &str) -> bool {
    ["docker.io", "index.docker.io", "registry-1.docker.io"].contains(&host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(json: &str, image: &str) -> Login {
        let config: DockerConfig = serde_json::from_str(json).unwrap();
        config.login(registry(image), Path::new("/c.json"))
    }

    fn user_of(json: &str, image: &str) -> Option<String> {
        login(json, image).credentials.and_then(|credentials| credentials.username)
    }

    #[test]
    fn a_login_is_found_by_the_images_registry_and_by_no_other() {
        // ann:secret and bob:secret.
        let json = r#"{"auths": {"host.example:5000": {"auth": "YW5uOnNlY3JldA=="},
                                 "https://index.docker.io/v1/": {"auth": "Ym9iOnNlY3JldA=="}}}"#;
        assert_eq!(user_of(json, "host.example:5000/team/app:1").as_deref(), Some("ann"));
        for hub in ["nginx:1", "team/app", "docker.io/team/app"] {
            assert_eq!(user_of(json, hub).as_deref(), Some("bob"), "{hub}");
        }
        assert_eq!(login(json, "host.example/team/app"), Login::default());
        let old = r#"{"auths": {"https://host.example/v1/": {"auth": "YW5uOnNlY3JldA=="}}}"#;
        assert_eq!(user_of(old, "host.example/app").as_deref(), Some("ann"));
    }

    #[test]
    fn a_helper_and_a_malformed_login_are_told_and_a_missing_file_is_not() {
        let helpers =
            r#"{"auths": {"a.example": {}}, "credsStore": "pass", "credHelpers": {"b.example": "ecr"}}"#;
        for (image, helper) in
            [("a.example/app", "docker-credential-pass"), ("b.example/app", "credential-ecr")]
        {
            let told = login(helpers, image).explain("denied".into());
            assert!(told.starts_with("denied (") && told.contains(helper), "{told}");
        }
        let broken = login(r#"{"auths": {"a.example": {"auth": "no"}}}"#, "a.example/app");
        assert!(broken.hint.is_some_and(|hint| hint.contains("malformed")));
        let nowhere = Path::new("/nonexistent/config.json");
        assert_eq!(Logins::new(None, |_| Some("/nonexistent".into())).of("app"), Login::default());
        assert!(Logins::new(Some(nowhere), |_| None).of("app").hint.is_some());
    }
}
