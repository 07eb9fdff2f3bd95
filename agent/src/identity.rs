//! Who this node is: cluster, node, key and certificate in one file, so that they always belong together.

use std::{collections::BTreeMap, fmt, fs, io};

use anyhow::{Context, Result, bail};
use model::id::{ClusterId, NodeId};
use rpc::tls::{CertReloader, ClientTls, Credentials};
use serde::{Deserialize, Serialize};

use crate::directory::Directory;

const FILE: &str = "identity.json";
const FORMAT: u32 = 1;

/// A node's identity, as it is kept.
#[derive(Clone, Serialize, Deserialize)]
pub struct Identity {
    /// The file's format.
    format: u32,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its node.
    pub node: NodeId,
    /// Managers as they were known when the node joined.
    pub managers: Vec<String>,
    /// Labels given at joining.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The host name given at joining.
    #[serde(default)]
    pub hostname: Option<String>,
    /// The authority's [`bundle`](model::cluster::Authority::bundle).
    pub authority: String,
    /// The node's certificate, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: String,
    /// A key that a certificate was asked for, PEM: the answer may have been lost, and then managers know the node by this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_key: Option<String>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity(node {} of cluster {}, <redacted>)", self.node, self.cluster)
    }
}

/// What a joined node was given.
pub struct Given {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its node.
    pub node: NodeId,
    /// The authority's certificate, PEM.
    pub authority: String,
    /// Its certificate, PEM.
    pub certificate: String,
}

impl Identity {
    /// The identity of a node that has just joined.
    pub fn new(given: Given, key: String, managers: Vec<String>) -> Self {
        Self {
            format: FORMAT,
            cluster: given.cluster,
            node: given.node,
            managers,
            labels: BTreeMap::new(),
            hostname: None,
            authority: given.authority,
            certificate: given.certificate,
            key,
            next_key: None,
        }
    }

    /// The same node with a fresh certificate over this key, of the authority with this bundle.
    pub fn renewed(&self, certificate: String, authority: String, key: String) -> Self {
        Self { certificate, authority, key, next_key: None, ..self.clone() }
    }

    /// Reads it; `None` when the node has not joined.
    ///
    /// # Errors
    /// The file is damaged or of a newer program.
    pub fn load(directory: &Directory) -> Result<Option<Self>> {
        let path = directory.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("identity {}", path.display())),
        };
        let identity: Self =
            serde_json::from_slice(&text).with_context(|| format!("identity {}", path.display()))?;
        if identity.format > FORMAT {
            bail!("{} was written by a newer orch-agent: upgrade this one", path.display());
        }
        Ok(Some(identity))
    }

    /// Writes it.
    ///
    /// # Errors
    /// The disk is full or fails.
    pub fn save(&self, directory: &Directory) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("identity")?;
        directory.replace(FILE, &text).context("cannot write the identity")
    }

    /// Forgets it.
    ///
    /// # Errors
    /// The disk fails.
    pub fn remove(directory: &Directory) -> io::Result<()> {
        fs::remove_file(directory.join(FILE))
    }

    /// What it presents to managers.
    ///
    /// # Errors
    /// Key and certificate are unusable.
    pub fn credentials(&self) -> Result<Credentials> {
        Ok(Credentials::from_pem(&self.certificate, &self.authority, &self.key)?)
    }

    /// How it dials managers; a swap in the reloader counts from the next connection on.
    ///
    /// # Errors
    /// Key or certificates are unusable.
    pub fn tls(&self) -> Result<(ClientTls, CertReloader)> {
        let reloader = CertReloader::new(self.credentials()?);
        Ok((ClientTls::mutual(&self.authority, reloader.clone())?, reloader))
    }
}
