//! Contexts: which cluster to talk to, through which managers, and as whom.
//!
//! One file holds them all: `$ORCH_CONFIG`, else `$XDG_CONFIG_HOME/orch/config.toml`, else
//! `~/.config/orch/config.toml`. It holds private keys, so it is written with mode 0600 and replaced as a whole.
//!
//! ```toml
//! current = "prod"                    # optional; without it, the only context there is
//!
//! [[context]]
//! name = "prod"
//! managers = ["m1.example:7420"]      # host:port, tried in turn
//! ca = "ca.pem"                       # a path relative to this file, or the PEM text itself
//! certificate = "admin.pem"           # likewise
//! key = "admin.key"                   # likewise, PKCS#8
//! cluster = "0123456789abc"           # optional, for people
//!
//! [[context]]
//! name = "ci"                         # a pipeline's: a deploy token in place of all three
//! managers = ["m1.example:7420"]
//! token = "ci.token"                  # a path, or the text itself
//! ```
//!
//! A context that came by `orchctl login` says by which `method` and, for a directory, as which `user`; after `orchctl logout` it has
//! neither certificate nor key.
//!
//! `orch-manager init` writes the same format.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::exit::{Code, Failure};

const PEM_START: &str = "-----BEGIN";
/// Of tokens of any kind: one of the wrong kind is said to be that, and is no file.
const TOKEN_START: &str = "ORCH";

/// One cluster, and who one is there.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// Unique in the file.
    pub name: String,
    /// `host:port`, tried in turn.
    pub managers: Vec<String>,
    /// The cluster's authority: PEM, or the path of a PEM file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ca: String,
    /// The operator's certificate: PEM or path.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub certificate: String,
    /// Its PKCS#8 key: PEM or path.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// A deploy token, in place of the three: its text or path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The cluster's id, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The login method that the certificate came by; it may be there no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The name that one logged in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("name", &self.name)
            .field("managers", &self.managers)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(<redacted>)")
    }
}

/// All contexts of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contexts {
    /// Which one commands use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// All of them.
    #[serde(default, rename = "context", skip_serializing_if = "Vec::is_empty")]
    pub contexts: Vec<Context>,
}

/// What a TLS connection needs, read from wherever the context points.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The authority, PEM.
    pub ca: String,
    /// The operator's certificate, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: String,
}

/// Where the contexts are kept.
///
/// # Errors
/// There is no home directory: ask for `ORCH_CONFIG`.
pub fn default_path() -> Result<PathBuf, Failure> {
    path_from(|name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from))
}

fn path_from(var: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(path) = var("ORCH_CONFIG") {
        return Ok(path);
    }
    let base = var("XDG_CONFIG_HOME").or_else(|| var("HOME").map(|home| home.join(".config")));
    base.map(|base| base.join("orch/config.toml"))
        .ok_or_else(|| Failure::error("neither ORCH_CONFIG nor HOME is set: where are the contexts?"))
}

impl Contexts {
    /// Reads the file; a missing one holds no context.
    ///
    /// # Errors
    /// It cannot be read, or is no such file: the message says where.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text)
                .map_err(|error| Failure::invalid(format!("{}: {}", path.display(), error.message))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::file("read", path, &error)),
        }
    }

    fn parse(text: &str) -> Result<Self, Failure> {
        let contexts: Self = toml::from_str(text).map_err(|error| Failure::invalid(error.to_string()))?;
        for (at, context) in contexts.contexts.iter().enumerate() {
            context.check()?;
            if contexts.contexts[..at].iter().any(|other| other.name == context.name) {
                return Err(Failure::invalid(format!("context \"{}\" is there twice", context.name)));
            }
        }
        Ok(contexts)
    }

    /// Replaces the file as a whole; its directory is made when missing.
    ///
    /// # Errors
    /// It cannot be written; the old one is intact.
    pub fn save(&self, path: &Path) -> Result<(), Failure> {
        let text = toml::to_string(self).expect("contexts are plain strings");
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(|error| Failure::file("create", parent, &error))?;
        let partial = parent.join(format!(".config.toml.{}", std::process::id()));
        write_secret(&partial, &text).map_err(|error| Failure::file("write", &partial, &error))?;
        fs::rename(&partial, path).map_err(|error| Failure::file("replace", path, &error))
    }

    /// The context that a command uses: the one it names, else the current one, else the only one.
    ///
    /// # Errors
    /// There is none of that name, or none at all; the message says what to do.
    pub fn choose(&self, name: Option<&str>) -> Result<&Context, Failure> {
        let chosen = name.or(self.current.as_deref());
        match (chosen, &self.contexts[..]) {
            (Some(name), _) => self.get(name),
            (None, [only]) => Ok(only),
            (None, []) => Err(Failure::error(
                "no cluster is known here\n\
                 start one on this machine:      orchctl dev up\n\
                 or use one that exists:         orchctl context import FILE\n\
                 (orch-manager init writes such a file)",
            )),
            (None, _) => Err(Failure::error(format!(
                "no context is chosen; there are {}: orchctl context use NAME",
                self.names()
            ))),
        }
    }

    /// The context of that name.
    ///
    /// # Errors
    /// There is none; the message lists those that are there.
    pub fn get(&self, name: &str) -> Result<&Context, Failure> {
        self.contexts.iter().find(|context| context.name == name).ok_or_else(|| {
            let known = if self.contexts.is_empty() {
                "there is none".into()
            } else {
                format!("there are {}", self.names())
            };
            Failure::new(Code::ERROR, format!("context \"{name}\" does not exist; {known}"))
        })
    }

    /// Adds or replaces a context.
    pub fn put(&mut self, context: Context) {
        match self.contexts.iter_mut().find(|other| other.name == context.name) {
            Some(other) => *other = context,
            None => self.contexts.push(context),
        }
    }

    /// Removes a context and says whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.contexts.len();
        self.contexts.retain(|context| context.name != name);
        if self.current.as_deref() == Some(name) {
            self.current = None;
        }
        before != self.contexts.len()
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.contexts.iter().map(|context| context.name.as_str()).collect();
        names.join(", ")
    }
}

impl Context {
    /// Refuses a context that cannot work.
    ///
    /// # Errors
    /// A name or an address that is none.
    pub fn check(&self) -> Result<(), Failure> {
        let name = &self.name;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 63 || !name.chars().all(plain) {
            return Err(Failure::invalid(format!(
                "\"{name}\" is no name for a context: use letters, digits, -, _ and ., at most 63"
            )));
        }
        if self.managers.is_empty() {
            return Err(Failure::invalid(format!("context \"{name}\" names no manager")));
        }
        for address in &self.managers {
            let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
                return Err(Failure::invalid(format!(
                    "context \"{name}\": \"{address}\" is no address; expected host:port"
                )));
            }
        }
        let certified = [&self.ca, &self.certificate, &self.key].map(|value| !value.is_empty());
        match (self.token.is_some(), certified) {
            (true, [false, false, false]) | (false, [true, true, true]) => Ok(()),
            (false, [true, false, false]) if self.method.is_some() => Ok(()),
            (true, _) => Err(Failure::invalid(format!(
                "context \"{name}\" has a token, which takes the place of ca, certificate and key"
            ))),
            (false, _) => {
                Err(Failure::invalid(format!("context \"{name}\" needs ca, certificate and key, or a token")))
            }
        }
    }

    /// Reads the deploy token, if the context has one; `file` is the file that it came from.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn token(&self, file: &Path) -> Result<Option<String>, Failure> {
        let Some(value) = &self.token else { return Ok(None) };
        if value.trim_start().to_ascii_uppercase().starts_with(TOKEN_START) {
            return Ok(Some(value.clone()));
        }
        let path = file.parent().unwrap_or(Path::new(".")).join(value);
        // Text that is neither is not repeated: it may be most of a secret.
        let unreadable = |error: io::Error| {
            let name = &self.name;
            Failure::error(format!(
                "context \"{name}\": the token is neither a deploy token nor a file: {error}"
            ))
        };
        fs::read_to_string(path).map(Some).map_err(unreadable)
    }

    /// Reads what the context points to; `file` is the file that it came from.
    ///
    /// # Errors
    /// A file is missing or holds no PEM.
    pub fn credentials(&self, file: &Path) -> Result<Credentials, Failure> {
        if self.certificate.is_empty() {
            let name = &self.name;
            return Err(Failure::new(
                Code::DENIED,
                format!("context \"{name}\" is logged out: orchctl login {name}"),
            ));
        }
        let base = file.parent().unwrap_or(Path::new("."));
        let read = |what, value| read_pem(&self.name, what, value, base);
        Ok(Credentials {
            ca: read("ca", &self.ca)?,
            certificate: read("certificate", &self.certificate)?,
            key: read("key", &self.key)?,
        })
    }

    /// Reads the authority's certificate; `file` is the file that the context came from.
    ///
    /// # Errors
    /// A deploy token is all there is, or the file is missing or holds no PEM.
    pub fn authority(&self, file: &Path) -> Result<String, Failure> {
        if self.ca.is_empty() {
            let message = format!("context \"{}\" is a pipeline's: nobody logs in with it", self.name);
            return Err(Failure::invalid(message));
        }
        read_pem(&self.name, "ca", &self.ca, file.parent().unwrap_or(Path::new(".")))
    }

    /// The same context with its files' contents inside, so that it can move.
    ///
    /// # Errors
    /// As for [`credentials`](Self::credentials).
    pub fn embedded(&self, file: &Path) -> Result<Self, Failure> {
        if let Some(token) = self.token(file)? {
            return Ok(Self { token: Some(token.trim().to_owned()), ..self.clone() });
        }
        let Credentials { ca, certificate, key } = self.credentials(file)?;
        Ok(Self { ca, certificate, key, ..self.clone() })
    }
}

fn read_pem(context: &str, what: &str, value: &str, base: &Path) -> Result<String, Failure> {
    if value.trim_start().starts_with(PEM_START) {
        return Ok(value.to_owned());
    }
    let path = base.join(value);
    let text = fs::read_to_string(&path).map_err(|error| {
        Failure::error(format!("context \"{context}\": cannot read {what} {}: {error}", path.display()))
    })?;
    if !text.contains(PEM_START) {
        return Err(Failure::invalid(format!(
            "context \"{context}\": {what} {} is no PEM file",
            path.display()
        )));
    }
    Ok(text)
}

/// Writes a file that only its owner can read.
fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn context(name: &str) -> Context {
        Context {
            name: name.into(),
            managers: vec!["127.0.0.1:7420".into(), "[::1]:7420".into()],
            ca: "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n".into(),
            certificate: "admin.pem".into(),
            key: "-----BEGIN PRIVATE KEY-----\nYQ==\n-----END PRIVATE KEY-----\n".into(),
            ..Context::default()
        }
    }

    #[test]
    fn a_token_takes_the_place_of_certificate_and_key_and_is_read_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        fs::write(dir.path().join("ci.token"), "ORCHD1-abc\n").unwrap();
        let ci = |token: &str| Context {
            name: "ci".into(),
            managers: vec!["h:1".into()],
            token: Some(token.into()),
            ..Context::default()
        };
        ci("ci.token").check().unwrap();
        assert_eq!(ci("ci.token").embedded(&file).unwrap().token.as_deref(), Some("ORCHD1-abc"));
        assert_eq!(ci("ORCHD1-abc").token(&file).unwrap().as_deref(), Some("ORCHD1-abc"));
        let unreadable = ci("gone.token").token(&file).unwrap_err();
        assert!(!unreadable.message.contains("gone.token"), "{unreadable}");
        let both = Context { token: Some("ORCHD1-abc".into()), ..context("a") };
        assert!(both.check().unwrap_err().message.contains("takes the place"));
        let neither = Context { token: None, ..ci("x") };
        assert!(neither.check().unwrap_err().message.contains("or a token"));
    }

    #[test]
    fn contexts_read_back_from_a_file_that_only_the_owner_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/config.toml");
        let contexts = Contexts { current: Some("b".into()), contexts: vec![context("a"), context("b")] };
        contexts.save(&path).unwrap();
        assert_eq!(Contexts::load(&path).unwrap(), contexts);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no partial file stays");
    }

    #[test]
    fn a_path_is_relative_to_the_file_and_embedding_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        assert!(context("a").credentials(&file).unwrap_err().to_string().contains("admin.pem"));
        fs::write(dir.path().join("admin.pem"), "nothing").unwrap();
        assert!(context("a").credentials(&file).unwrap_err().to_string().contains("is no PEM"));
        fs::write(dir.path().join("admin.pem"), "-----BEGIN CERTIFICATE-----\n").unwrap();
        let embedded = context("a").embedded(&file).unwrap();
        assert_eq!(embedded.certificate, "-----BEGIN CERTIFICATE-----\n");
    }

    #[test]
    fn the_named_context_wins_over_the_current_one_and_the_only_one_needs_no_choice() {
        let mut contexts = Contexts { current: None, contexts: vec![context("a")] };
        assert_eq!(contexts.choose(None).unwrap().name, "a");
        contexts.put(context("b"));
        assert!(contexts.choose(None).unwrap_err().message.contains("a, b"));
        contexts.current = Some("b".into());
        assert_eq!(contexts.choose(None).unwrap().name, "b");
        assert_eq!(contexts.choose(Some("a")).unwrap().name, "a");
        assert!(contexts.choose(Some("c")).unwrap_err().message.contains("\"c\""));
        assert!(contexts.remove("b") && contexts.current.is_none());
        assert!(Contexts::default().choose(None).unwrap_err().message.contains("orchctl dev up"));
    }

    #[test]
    fn unknown_keys_doubles_and_wrong_addresses_are_refused() {
        let entry = "name='a'\nmanagers=['h:1']\nca='x'\ncertificate='x'\nkey='x'\n";
        let refused = |text: String| Contexts::parse(&text).unwrap_err().message;
        assert!(refused(format!("[[context]]\n{entry}colour='red'\n")).contains("colour"));
        assert!(refused(format!("[[context]]\n{entry}[[context]]\n{entry}")).contains("twice"));
        assert!(refused(format!("[[context]]\n{}", entry.replace("h:1", "h"))).contains("host:port"));
        assert!(refused(format!("[[context]]\n{}", entry.replace("'a'", "'a b'"))).contains("a b"));
    }

    #[test]
    fn the_environment_says_where_the_file_is() {
        let path = |set: &[(&str, &str)]| {
            path_from(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value)))
        };
        assert_eq!(path(&[("ORCH_CONFIG", "/x"), ("HOME", "/h")]).unwrap(), Path::new("/x"));
        assert_eq!(
            path(&[("XDG_CONFIG_HOME", "/c"), ("HOME", "/h")]).unwrap(),
            Path::new("/c/orch/config.toml")
        );
        assert_eq!(path(&[("HOME", "/h")]).unwrap(), Path::new("/h/.config/orch/config.toml"));
        assert!(path(&[]).is_err());
    }
}
