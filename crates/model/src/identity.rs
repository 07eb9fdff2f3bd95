//! Who is asking: always from the TLS peer or a verified token, never from a field of a message.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{ClusterId, DeployTokenId, MemberId, NodeId, TokenId, UserId};

/// The one DNS name that every manager's certificate carries.
///
/// Clients verify this name whatever address they dialled, so a manager can change its address without a new
/// certificate, and no certificate has to list addresses that the next network plan makes wrong.
pub const MANAGER_SERVER_NAME: &str = "orch-manager";

/// What an operator's certificate says that it may do; users have [roles](crate::access::UserRole) in the state instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Everything.
    Admin,
    /// Reads only.
    Viewer,
}

/// A verified identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// A member of the Raft group.
    Manager(MemberId),
    /// A node's agent.
    Node(NodeId),
    /// A person or a script with a client certificate.
    Operator {
        /// The certificate's name, for messages and records.
        name: String,
        /// What it may do.
        role: Role,
    },
    /// Presented a join token whose secret was verified; may only join.
    Joiner(TokenId),
    /// No certificate: may only present a join token.
    Anonymous,
    /// A person or a script that the cluster knows; what it may do says the state.
    User {
        /// Which.
        id: UserId,
        /// Its name, for messages and records.
        name: String,
    },
    /// Presents a deploy token that nobody has verified yet: only the leader does, so this one is told who leads.
    Bearer(DeployTokenId),
    /// Presented a deploy token whose secret was verified.
    Deployer {
        /// Which token.
        id: DeployTokenId,
        /// The token's name, for messages and records; a binding's for a job of a pipeline.
        name: String,
        /// The job that showed an ID token for it, in words; `None`: a static deploy token.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<String>,
    },
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manager(id) => write!(f, "manager {id}"),
            Self::Node(id) => write!(f, "node {id}"),
            Self::Operator { name, .. } => write!(f, "operator {name}"),
            Self::Joiner(token) => write!(f, "the bearer of join token {token}"),
            Self::Anonymous => f.write_str("anonymous"),
            Self::User { name, .. } => write!(f, "user {name}"),
            Self::Bearer(token) => write!(f, "the bearer of deploy token {token}"),
            Self::Deployer { name, job: None, .. } => write!(f, "deploy token {name}"),
            Self::Deployer { name, job: Some(job), .. } => write!(f, "deploy binding {name} ({job})"),
        }
    }
}

/// What a join token admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JoinRole {
    /// Another manager: a learner first, then a voter.
    Manager,
    /// A node's agent.
    Agent,
}

impl fmt::Display for JoinRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Manager => "manager",
            Self::Agent => "agent",
        })
    }
}

/// The URI that names an identity in a certificate: `orch://CLUSTER/manager/1`, `orch://CLUSTER/node/NODEID`,
/// `orch://CLUSTER/operator/NAME/admin`, `orch://CLUSTER/user/USERID/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertName {
    /// The cluster whose authority signed it.
    pub cluster: ClusterId,
    /// Who it names; never a joiner or nobody.
    pub identity: Identity,
}

/// A certificate's URI that names no identity of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" does not name a manager, node, operator or user of a cluster")]
pub struct ParseCertNameError(pub String);

impl fmt::Display for CertName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "orch://{}/", self.cluster)?;
        match &self.identity {
            Identity::Manager(id) => write!(f, "manager/{id}"),
            Identity::Node(id) => write!(f, "node/{id}"),
            Identity::Operator { name, role: Role::Admin } => write!(f, "operator/{name}/admin"),
            Identity::Operator { name, role: Role::Viewer } => write!(f, "operator/{name}/viewer"),
            Identity::User { id, name } => write!(f, "user/{id}/{name}"),
            Identity::Joiner(_) | Identity::Anonymous | Identity::Bearer(_) | Identity::Deployer { .. } => {
                f.write_str("anonymous")
            }
        }
    }
}

impl std::str::FromStr for CertName {
    type Err = ParseCertNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseCertNameError(text.chars().take(128).collect());
        let rest = text.strip_prefix("orch://").ok_or_else(wrong)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let cluster = parts[0].parse().map_err(|_| wrong())?;
        let identity = match parts[1..] {
            ["manager", id] => Identity::Manager(MemberId(id.parse().map_err(|_| wrong())?)),
            ["node", id] => Identity::Node(id.parse().map_err(|_| wrong())?),
            ["operator", name, role] if !name.is_empty() => {
                let role = match role {
                    "admin" => Role::Admin,
                    "viewer" => Role::Viewer,
                    _ => return Err(wrong()),
                };
                Identity::Operator { name: name.to_owned(), role }
            }
            ["user", id, name] if !name.is_empty() => {
                Identity::User { id: id.parse().map_err(|_| wrong())?, name: name.to_owned() }
            }
            _ => return Err(wrong()),
        };
        Ok(Self { cluster, identity })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_name_reads_back_and_anonymous_never_does() {
        let identities = [
            Identity::Manager(MemberId(3)),
            Identity::Node(NodeId(77)),
            Identity::Operator { name: "ann".into(), role: Role::Admin },
            Identity::User { id: UserId(5), name: "ann".into() },
        ];
        for identity in identities {
            let name = CertName { cluster: ClusterId(9), identity };
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        let deployer = Identity::Deployer { id: DeployTokenId(1), name: "ci".into(), job: None };
        for identity in [Identity::Anonymous, Identity::Bearer(DeployTokenId(1)), deployer] {
            let anonymous = CertName { cluster: ClusterId(9), identity };
            assert!(anonymous.to_string().parse::<CertName>().is_err());
        }
    }
}
