//! Nodes: what an admin decides about them, what their agents report, what the cluster believes.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::{Generation, NodeId},
    time::ClusterTime,
};

/// Whether a node takes tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Availability {
    /// Takes new tasks.
    #[default]
    Active,
    /// Keeps its tasks, takes no new one.
    Pause,
    /// Its tasks move elsewhere, it takes none.
    Drain,
}

/// How patient the managers are with a silent node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeClass {
    /// Always on: down after about 1.5 s of silence, its tasks are replaced elsewhere.
    #[default]
    Server,
    /// Down is normal: a longer patience, nothing pages.
    Workstation,
}

impl fmt::Display for NodeClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
            Self::Workstation => "workstation",
        })
    }
}

/// What an admin decides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// Whether it takes tasks.
    pub availability: Availability,
    /// How patient the managers are.
    pub class: NodeClass,
    /// Labels for constraints.
    pub labels: BTreeMap<String, String>,
}

/// What the agent reports about its machine at registration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// The host's name.
    pub hostname: String,
    /// Such as `linux`.
    pub os: String,
    /// Such as `x86_64`.
    pub arch: String,
    /// The kernel's release.
    pub kernel: String,
    /// The engine's version, empty while it is not reachable.
    pub engine: String,
    /// The engine's API version.
    pub engine_api: String,
    /// Thousandths of a core in all.
    pub cpu_millis: u64,
    /// Bytes in all.
    pub memory: u64,
    /// Labels from the agent's config file.
    pub labels: BTreeMap<String, String>,
    /// The agent's version.
    pub agent: String,
    /// Whether the engine answered lately.
    pub engine_ok: bool,
    /// Where other nodes dial its mesh, `host:port`; `None`: it only dials out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mesh: Option<String>,
    /// What its agent cannot do at the moment, in words: a published port that is taken, a network that is not whole.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// Its agent can keep secrets and configs in memory for containers; older agents do not know how.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub files: bool,
    /// Its agent verifies signatures of images; older agents do not know how.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub signatures: bool,
}

/// What the managers believe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// Joined, never connected.
    #[default]
    Joining,
    /// Connected and beating.
    Ready,
    /// Silent for longer than its class allows.
    Down,
}

/// Counts the registrations of a node, from 1; raised when an agent without its ledger (or after a reboot) registers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

/// A node as the cluster keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its identity, chosen by the manager that admitted it.
    pub id: NodeId,
    /// Index of the last change.
    pub generation: Generation,
    /// What an admin decided.
    pub spec: NodeSpec,
    /// What its agent reported.
    pub facts: Facts,
    /// What the managers believe.
    pub state: NodeState,
    /// Since when.
    pub since: ClusterTime,
    /// Why, in words.
    pub message: String,
    /// The newest registration.
    pub incarnation: Incarnation,
    /// When it joined.
    pub joined: ClusterTime,
    /// The serial number of its newest certificate.
    pub certificate: u64,
    /// Its /24 in every network, 1 to 250; 0 when all were taken, and then it has no part in networks.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub number: u8,
    /// The certificate by whose key it was given its newest one after that had run out. The answer may have been lost: so this one still
    /// counts as a proof, until the node renews.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven: Option<u64>,
    /// SHA-256 of the key of its newest certificate, in hex: whoever comes back after an authority was replaced proves that it has this
    /// one. `None`: a version that did not note it issued that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl Node {
    /// Whether the key of this certificate proves that its holder is the node: it is of the newest one, or of the one before whose
    /// successor may never have arrived. An older key may have been given up because it was stolen.
    pub fn is_proven_by(&self, serial: u64) -> bool {
        serial == self.certificate || Some(serial) == self.proven
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u8) -> bool {
    *number == 0
}

/// How long the managers wait for a silent node, by class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Patience {
    /// For [`NodeClass::Server`].
    pub server: Duration,
    /// For [`NodeClass::Workstation`].
    pub workstation: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { server: Duration::from_millis(1_500), workstation: Duration::from_secs(30) }
    }
}

impl Patience {
    /// The patience with a class.
    pub fn of(&self, class: NodeClass) -> Duration {
        match class {
            NodeClass::Server => self.server,
            NodeClass::Workstation => self.workstation,
        }
    }
}
