//! A manager's data directory: who it is, its certificate and key, and the log below `raft/`.
//!
//! ```text
//! DIR/identity.toml   cluster, member, name, address; written once by init or join, rewritten by recover
//! DIR/manager.toml    settings, optional, the administrator's
//! DIR/ca.pem  DIR/certificate.pem  DIR/key.pem (0600)
//! DIR/raft/           write-ahead log and snapshots
//! DIR/manager.sock    where root on this machine is an admin without a certificate, while the manager runs
//! DIR/peers.toml      where the other managers were last, for the day that the log cannot tell
//! DIR/replacement.toml  while a manager that lost its log becomes another one: see `replace`
//! ```

use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use model::id::{ClusterId, MemberId};
use rpc::tls::Credentials;
use serde::{Deserialize, Serialize};

/// The format of `identity.toml`; a newer one is refused.
const FORMAT: u32 = 1;

/// Who a manager is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The format of this file.
    pub format: u32,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its Raft id.
    pub member: MemberId,
    /// Its name, for people.
    pub name: String,
    /// Where peers, agents and clients reach it, `host:port`; `manager.toml` may say otherwise.
    pub address: String,
    /// Managers to ask until the replicated state names them.
    #[serde(default)]
    pub seeds: Vec<Seed>,
}

/// Another manager, as the answer to a join named it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seed {
    /// Its Raft id.
    pub member: MemberId,
    /// `host:port`.
    pub address: String,
}

impl Identity {
    /// A new identity in the present format.
    pub fn new(cluster: ClusterId, member: MemberId, name: &str, address: &str, seeds: Vec<Seed>) -> Self {
        Self { format: FORMAT, cluster, member, name: name.to_owned(), address: address.to_owned(), seeds }
    }
}

/// The other managers, for `peers.toml`.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Peers {
    #[serde(default)]
    peers: Vec<Seed>,
}

/// Who a manager becomes that lost its log, as the leader's answer said.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replacement {
    /// The id that is gone.
    pub former: MemberId,
    authority: String,
    certificate: String,
    key: String,
    /// Who it is from now on.
    pub identity: Identity,
}

impl Replacement {
    /// Puts it together.
    pub fn new(former: MemberId, identity: Identity, pems: &Pems) -> Self {
        let Pems { authority, certificate, key } = pems.clone();
        Self { former, authority, certificate, key, identity }
    }

    /// Its certificate and key.
    pub fn pems(&self) -> Pems {
        Pems {
            authority: self.authority.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
        }
    }
}

/// The three PEM texts.
#[derive(Clone)]
pub struct Pems {
    /// The authority's [`bundle`](model::cluster::Authority::bundle).
    pub authority: String,
    /// The manager's own.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Pems {
    /// As the TLS layer takes them.
    pub fn credentials(&self) -> Result<Credentials> {
        Ok(Credentials::from_pem(&self.certificate, &self.authority, &self.key)?)
    }
}

/// The directory.
#[derive(Debug, Clone)]
pub struct DataDir {
    root: PathBuf,
}

impl DataDir {
    /// Names a directory; touches nothing.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Its path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the log lies.
    pub fn raft(&self) -> PathBuf {
        self.root.join("raft")
    }

    /// Where root on this machine asks.
    pub fn socket(&self) -> PathBuf {
        self.root.join("manager.sock")
    }

    /// Makes the directory for a new manager; refuses one that holds a manager already.
    pub fn create(&self) -> Result<()> {
        if self.root.join("identity.toml").exists() {
            bail!(
                "{} already holds a manager: choose another --dir, or start it with `orch-manager run --dir {0}`",
                self.root.display()
            );
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(self.raft())
            .with_context(|| format!("cannot make {}", self.raft().display()))
    }

    /// Reads who the manager is.
    pub fn identity(&self) -> Result<Identity> {
        let path = self.root.join("identity.toml");
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "{} holds no manager (cannot read {}): run `orch-manager init` or `orch-manager join` first",
                self.root.display(),
                path.display()
            )
        })?;
        let identity: Identity =
            toml::from_str(&text).with_context(|| format!("{} is malformed", path.display()))?;
        ensure!(
            identity.format <= FORMAT,
            "{} has format {}; this program reads up to {FORMAT}: upgrade it",
            path.display(),
            identity.format
        );
        Ok(identity)
    }

    /// Writes who the manager is; the last step of init and join, so that a half-made directory holds no manager.
    pub fn write_identity(&self, identity: &Identity) -> Result<()> {
        let text = toml::to_string(identity).context("the identity does not encode")?;
        write_durably(&self.root.join("identity.toml"), text.as_bytes(), 0o600)
    }

    /// Reads certificate and key.
    pub fn pems(&self) -> Result<Pems> {
        let read = |name: &str| {
            let path = self.root.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        Ok(Pems { authority: read("ca.pem")?, certificate: read("certificate.pem")?, key: read("key.pem")? })
    }

    /// Writes certificate and key.
    pub fn write_pems(&self, pems: &Pems) -> Result<()> {
        write_durably(&self.root.join("key.pem"), pems.key.as_bytes(), 0o600)?;
        write_durably(&self.root.join("ca.pem"), pems.authority.as_bytes(), 0o644)?;
        write_durably(&self.root.join("certificate.pem"), pems.certificate.as_bytes(), 0o644)
    }

    /// Replaces the certificate alone: it was renewed over the same key.
    pub fn write_certificate(&self, pem: &str) -> Result<()> {
        write_durably(&self.root.join("certificate.pem"), pem.as_bytes(), 0o644)
    }

    /// Replaces the authority's bundle alone.
    pub fn write_authority(&self, bundle: &str) -> Result<()> {
        write_durably(&self.root.join("ca.pem"), bundle.as_bytes(), 0o644)
    }

    /// Remembers where the other managers are.
    pub fn write_peers(&self, peers: Vec<Seed>) -> Result<()> {
        let text = toml::to_string(&Peers { peers }).context("the peers do not encode")?;
        write_durably(&self.root.join("peers.toml"), text.as_bytes(), 0o600)
    }

    /// Where the other managers were last, those that the join named included.
    pub fn peers(&self, identity: &Identity) -> Result<Vec<Seed>> {
        let Peers { mut peers } = self.read_toml("peers.toml")?.unwrap_or_default();
        peers.extend(identity.seeds.iter().cloned());
        peers.retain(|peer| peer.member != identity.member);
        peers.sort_by(|one, other| one.address.cmp(&other.address));
        peers.dedup_by(|one, other| one.address == other.address);
        Ok(peers)
    }

    /// Writes down who this manager becomes.
    pub fn write_replacement(&self, replacement: &Replacement) -> Result<()> {
        let text = toml::to_string(replacement).context("the replacement does not encode")?;
        write_durably(&self.root.join("replacement.toml"), text.as_bytes(), 0o600)
    }

    /// Who this manager is about to become.
    pub fn replacement(&self) -> Result<Option<Replacement>> {
        self.read_toml("replacement.toml")
    }

    /// It has become so.
    pub fn remove_replacement(&self) -> Result<()> {
        let path = self.root.join("replacement.toml");
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    }

    fn read_toml<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let path = self.root.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => {
                let read = toml::from_str(&text);
                read.map(Some).with_context(|| format!("{} is malformed", path.display()))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Makes the manager's identity unusable after it left the cluster; the data stays for a person to look at.
    pub fn retire(&self) -> Result<PathBuf> {
        let from = self.root.join("identity.toml");
        let to = self.root.join("identity.toml.left");
        fs::rename(&from, &to).with_context(|| format!("cannot rename {}", from.display()))?;
        Ok(to)
    }
}

/// Writes a file so that after a crash either the old or the new contents are there: temporary file, sync, rename,
/// directory sync.
pub fn write_durably(path: &Path, contents: &[u8], mode: u32) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().and_then(|name| name.to_str()).context("a file needs a name")?;
    let temporary = parent.join(format!(".{name}.new"));
    let write = || -> std::io::Result<()> {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(parent)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
