//! Policies: what services may ask for, as admins decide it.
//!
//! Without any policy images are free, and power over a node ([`Security`](crate::security::Security), [`places`]) is refused. A
//! policy is about some services. What it requires, forbids and caps adds up with all other policies about them; what it grants to them
//! lifts what is refused by default, and what a policy forbids.
//!
//! A policy judges declarations when they come: what runs goes on, and an admitted declaration goes on to get its tasks.
//!
//! Read in this order: this file, [`places`], [`signing`], [`admit`].

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    id::Generation,
    identity::Identity,
    placement::Constraint,
    registry::ImageName,
    registry::canonical_host,
    service::ServiceSpec,
    signature::{PublicKey, SignerIdentity},
    time::ClusterTime,
};

pub mod admit;
pub mod places;
pub mod signing;

pub use admit::{Breach, Refusal, Verb, admit, review};

/// Policies of a cluster at most: every declaration is judged by all.
pub const MAX_POLICIES: usize = 64;
/// Items of one list of a policy at most, and bytes of one.
pub const MAX_ITEMS: usize = 128;
/// Bytes of one item at most.
pub const MAX_ITEM: usize = 512;
/// Keys of one policy at most: those of a team, and the next ones while they change.
pub const MAX_KEYS: usize = 16;
/// Identities of one policy; each comes with its authority.
pub const MAX_IDENTITIES: usize = 8;

/// Which services: those that meet all that is said; all when nothing is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Selector {
    /// One of these names; a `*` at the end stands for anything. A cron's jobs go by the cron's name.
    pub names: Vec<String>,
    /// All of these labels, of the service. Whoever may change a service may change its labels, so that grants go by names.
    pub labels: BTreeMap<String, String>,
    /// None of these names.
    pub except: Vec<String>,
}

impl Selector {
    /// Whether it means a service.
    pub fn covers(&self, service: &ServiceSpec) -> bool {
        let named = |pattern: &String| is_like(&service.name, pattern);
        (self.names.is_empty() || self.names.iter().any(named))
            && self.labels.iter().all(|(key, value)| service.labels.get(key) == Some(value))
            && !self.except.iter().any(named)
    }
}

fn is_like(name: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

/// What a service has to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Require {
    /// Images of these repositories only: `registry.example/mx/web`, or `registry.example/mx/*` for all below. Empty: any.
    pub images: Vec<String>,
    /// Images by digest, never by tag.
    pub digest: bool,
    /// Constraints that it declares, such as `node.labels.beamline==id23-1`.
    pub constraints: Vec<Constraint>,
    /// Images with a signature by one of these keys. This and the next both empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signed_by: Vec<PublicKey>,
    /// Or by one of these identities.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signed_by_identity: Vec<SignerIdentity>,
}

/// What a service may have beyond the default, item by item.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Grants {
    /// Everything that `privileged` means, and with it every other item but binds, ports and node labels.
    pub privileged: bool,
    /// Capabilities, such as `NET_ADMIN`; `ALL` means all.
    pub capabilities: Vec<String>,
    /// Devices: `/dev/nvidia0`, or `/dev/bus/usb/` for all below.
    pub devices: Vec<String>,
    /// The node's network.
    pub network_host: bool,
    /// The node's processes.
    pub pid_host: bool,
    /// The node's shared memory.
    pub ipc_host: bool,
    /// Every system call.
    pub seccomp_unconfined: bool,
    /// No AppArmor profile.
    pub apparmor_unconfined: bool,
    /// `sudo` and the like.
    pub new_privileges: bool,
    /// Paths with all that is below; with `:ro` behind for reading only.
    pub binds: Vec<String>,
    /// Published ports that are forbidden otherwise.
    pub ports: Vec<PortRange>,
    /// Labels of nodes that are forbidden otherwise: `KEY` or `KEY=VALUE`.
    pub node_labels: Vec<String>,
}

/// What a service may not have, unless a grant names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Forbid {
    /// Paths with all that is below; `/` for every bind.
    pub binds: Vec<String>,
    /// Published ports, on ingress nodes and on its own.
    pub ports: Vec<PortRange>,
    /// Labels of nodes, `KEY` or `KEY=VALUE`, that its constraints may not ask for.
    pub node_labels: Vec<String>,
}

/// How much a service may have; 0 = no cap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Caps {
    /// Replicas; of a job what runs at a time.
    pub replicas: u32,
    /// Bytes of a replica's memory limit.
    pub memory: u64,
    /// Bytes of all replicas' memory limits together, with those that an update starts first.
    pub memory_total: u64,
    /// Connections to databases of all replicas together, with those that an update starts first.
    pub connections: u32,
}

/// What an admin declares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicySpec {
    /// Unique in the cluster: a DNS label.
    pub name: String,
    /// Whom to ask, for whoever is refused.
    pub contact: String,
    /// About which services.
    pub services: Selector,
    /// What they have to be.
    pub require: Require,
    /// What they may have.
    pub grants: Grants,
    /// What they may not have.
    pub forbid: Forbid,
    /// How much they may have.
    pub caps: Caps,
}

/// A policy as the cluster keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The declaration.
    pub spec: PolicySpec,
    /// Index of its last change.
    pub generation: Generation,
    /// Who declared it.
    pub by: Identity,
    /// When.
    pub set: ClusterTime,
}

/// Ports from one to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last, at least the first.
    pub last: u16,
}

impl PortRange {
    /// Whether a port is one of them.
    pub fn has(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = first.parse().ok().zip(last.parse().ok()).map(|(first, last)| Self { first, last });
        range
            .filter(|range| 0 < range.first && range.first <= range.last)
            .ok_or_else(|| format!("\"{text}\" is no port; write 8080 or 1-1023"))
    }
}

impl TryFrom<String> for PortRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        range.to_string()
    }
}

/// Whether an image is of a repository, or of one below `PREFIX/*`. An image's id is of none.
pub fn image_is_of(image: &str, pattern: &str) -> bool {
    let Some(name) = ImageName::parse(image) else { return false };
    let full = format!("{}/{}", name.host, name.repository());
    let of = |pattern: &str| match pattern.contains('/') {
        false if pattern.contains(['.', ':']) || pattern == "localhost" => canonical_host(pattern).to_owned(),
        _ => {
            ImageName::parse(pattern).map_or_else(String::new, |name| format!("{}/{}", name.host, name.path))
        }
    };
    match pattern.strip_suffix("/*") {
        Some(prefix) => full.strip_prefix(&of(prefix)).is_some_and(|rest| rest.starts_with('/')),
        None => ImageName::parse(pattern)
            .is_some_and(|pattern| format!("{}/{}", pattern.host, pattern.repository()) == full),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_of_a_repository_whatever_its_tag_and_of_no_other_with_a_longer_name() {
        let digest = format!("registry.example/mx/web:1@sha256:{}", "a".repeat(64));
        for (image, pattern, is) in [
            ("registry.example/mx/web:1", "registry.example/mx/web", true),
            (&*digest, "registry.example/mx/*", true),
            ("registry.example/mx/web", "registry.example/*", true),
            ("registry.example/mxx/web", "registry.example/mx/*", false),
            ("registry.example.evil.org/mx/web", "registry.example/*", false),
            ("registry.example/mx/webber", "registry.example/mx/web", false),
            ("registry.example:5000/mx/web", "registry.example/mx/web", false),
            ("nginx:1.27", "nginx", true),
            ("nginx", "docker.io/*", true),
            ("index.docker.io/library/nginx", "docker.io/library/*", true),
            ("evil/nginx", "nginx", false),
            ("sha256:abc", "docker.io/*", false),
        ] {
            assert_eq!(image_is_of(image, pattern), is, "{image} {pattern}");
        }
    }

    #[test]
    fn a_selector_means_what_meets_all_that_it_says() {
        let mut service = ServiceSpec { name: "mx-web".into(), ..ServiceSpec::default() };
        let mut selector = Selector::default();
        assert!(selector.covers(&service));
        selector.names = vec!["mx-*".into()];
        assert!(selector.covers(&service));
        selector.labels.insert("team".into(), "mx".into());
        assert!(!selector.covers(&service));
        service.labels.insert("team".into(), "mx".into());
        assert!(selector.covers(&service));
        selector.except = vec!["mx-web".into()];
        assert!(!selector.covers(&service));
    }

    #[test]
    fn port_ranges_read_back_and_nonsense_does_not() {
        for text in ["80", "1-1023", "65535"] {
            assert_eq!(text.parse::<PortRange>().map(|range| range.to_string()), Ok(text.to_owned()));
        }
        for text in ["", "0", "9-1", "65536", "a-b", "-"] {
            assert!(text.parse::<PortRange>().is_err(), "{text}");
        }
    }
}
