//! A mesh process without an agent: the identity that it wants to find, and the agent's end of its control socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use mesh::control::{AgentFrame, MeshConfig, MeshFrame};
use model::id::{ClusterId, MemberId, NodeId};
use model::identity::{CertName, Identity};
use model::time::WallTime;
use pki::{ClusterCa, KeyAndCsr};

use crate::wait;

const CLUSTER: ClusterId = ClusterId(7);
/// Certificates of the laboratory are needed no longer.
const HOUR: Duration = Duration::from_secs(3_600);

/// A cluster's authority.
pub struct Authority(ClusterCa);

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// No entropy.
    pub fn found() -> Result<Self> {
        Ok(Self(ClusterCa::generate(CLUSTER, now()?)?))
    }

    /// The authority's certificate, PEM.
    pub fn pem(&self) -> &str {
        self.0.certificate_pem()
    }

    /// A certificate for the host `orch-manager`, and its key.
    ///
    /// # Errors
    /// No entropy.
    pub fn host(&self, serial: u64) -> Result<(String, String)> {
        self.issue(Identity::Manager(MemberId(1)), serial)
    }

    /// Writes a node's identity as the agent does.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn enrol(&self, directory: &Path, node: NodeId) -> Result<()> {
        let (certificate, key) = self.issue(Identity::Node(node), node.0)?;
        let identity = serde_json::json!({
            "format": 1, "cluster": CLUSTER, "node": node, "managers": [],
            "authority": self.pem(), "certificate": certificate, "key": key,
        });
        Ok(std::fs::write(directory.join("identity.json"), identity.to_string())?)
    }

    fn issue(&self, identity: Identity, serial: u64) -> Result<(String, String)> {
        let pair = KeyAndCsr::generate()?;
        let name = CertName { cluster: CLUSTER, identity };
        let certificate = self.0.issue(pair.csr_pem.as_bytes(), &name, HOUR, now()?, serial)?;
        Ok((certificate, pair.key_pem()))
    }
}

/// The agent's end of a mesh process's control socket.
pub struct Agent {
    stream: UnixStream,
    configured: u64,
}

impl Agent {
    /// Connects to the process that serves a directory, as soon as it listens. Each frame is waited for no longer than `limit`.
    ///
    /// # Errors
    /// Nobody listens within `limit`.
    pub fn connect(directory: &Path, limit: Duration) -> Result<Self> {
        let socket = directory.join("mesh.sock");
        let stream = wait::until("the control socket", limit, || UnixStream::connect(&socket).ok())?;
        stream.set_read_timeout(Some(limit))?;
        Ok(Self { stream, configured: 0 })
    }

    /// The socket.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Sends a frame. Who lost the connection hears of it when he reads.
    pub fn send(&mut self, frame: &AgentFrame) {
        let bytes = rmp_serde::to_vec_named(frame).expect("a frame can be encoded");
        let length = u32::try_from(bytes.len()).expect("a short frame").to_be_bytes();
        drop(self.stream.write_all(&[&length[..], &bytes].concat()));
    }

    /// The next frame.
    ///
    /// # Errors
    /// The process went away, or says nothing.
    pub fn receive(&mut self) -> Result<MeshFrame> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).context("a frame of the mesh")?;
        let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut bytes).context("a frame of the mesh")?;
        rmp_serde::from_slice(&bytes).context("a frame of the mesh")
    }

    /// Configures it and returns what could not be done.
    ///
    /// # Errors
    /// As [`Agent::receive`].
    pub fn configure(&mut self, config: &MeshConfig) -> Result<Vec<String>> {
        self.configured += 1;
        self.send(&AgentFrame::Configure { number: self.configured, config: Box::new(config.clone()) });
        loop {
            if let MeshFrame::Applied { number, problems, .. } = self.receive()?
                && number == self.configured
            {
                return Ok(problems);
            }
        }
    }
}

fn now() -> Result<WallTime> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).context("a clock before 1970")?;
    Ok(WallTime(u64::try_from(since.as_micros())?))
}
