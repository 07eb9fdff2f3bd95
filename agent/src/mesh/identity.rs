//! Who this node is: read from the agent's file, and again when the agent has renewed its certificate.

use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result};
use model::id::NodeId;
use rpc::tls::{CertReloader, NodeTls};

use crate::identity::Identity;

/// The node's identity, as it lies in the agent's directory. The agent replaces the file as a whole.
#[derive(Debug)]
pub struct Paper {
    path: PathBuf,
    identity: Identity,
    written: Option<SystemTime>,
    reloader: CertReloader,
    tls: NodeTls,
}

impl Paper {
    /// Reads it.
    ///
    /// # Errors
    /// The node has not joined, or the file is damaged or unusable.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("identity.json");
        let written = modified(&path);
        let identity = load(&path)?;
        let reloader = CertReloader::new(identity.credentials()?);
        let tls = NodeTls::new(&identity.authority, identity.cluster, reloader.clone(), mesh::leg::ALPN)?;
        Ok(Self { path, identity, written, reloader, tls })
    }

    /// Which node this is.
    pub fn node(&self) -> NodeId {
        self.identity.node
    }

    /// How it meets other nodes.
    pub fn tls(&self) -> NodeTls {
        self.tls.clone()
    }

    /// Makes what cookies say of replicas: the same on every node of the cluster.
    pub fn cookie_key(&self) -> ring::hmac::Key {
        let cluster = format!("orch cluster {}", self.identity.cluster);
        let seed = ring::digest::digest(&ring::digest::SHA256, cluster.as_bytes());
        ring::hmac::Key::new(ring::hmac::HMAC_SHA256, seed.as_ref())
    }

    /// Takes up a certificate that the agent has renewed; connections keep the one that they began with.
    pub fn refresh(&mut self) {
        let written = modified(&self.path);
        if written == self.written {
            return;
        }
        self.written = written;
        let renewed = load(&self.path).and_then(|identity| {
            let credentials = identity.credentials()?;
            self.tls.trust(&identity.authority)?;
            Ok((credentials, identity))
        });
        match renewed {
            Ok((credentials, identity)) => {
                self.reloader.swap(credentials);
                self.identity = identity;
                tracing::info!("the certificate was renewed");
            }
            Err(error) => {
                tracing::warn!(error = %format!("{error:#}"), "the old certificate stays in use");
            }
        }
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|about| about.modified()).ok()
}

fn load(path: &Path) -> Result<Identity> {
    let text = fs::read(path).with_context(|| format!("identity {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("identity {}", path.display()))
}
