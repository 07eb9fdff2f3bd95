//! What a container is made of: everything an agent needs besides the task's identity.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    item::FileMount, probe::Probes, registry::is_named, security::Security, signature::ImageSignature,
};

/// A container's declaration. Zero or empty means "the image's or the engine's default", unless a field says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// The image: `name`, `name:tag`, `registry/name:tag`, `name@sha256:…`, or `sha256:…` (a local id).
    pub image: String,
    /// When to pull.
    pub pull: PullPolicy,
    /// Replaces the image's entry point when not empty.
    pub command: Vec<String>,
    /// Replaces the image's arguments when not empty.
    pub args: Vec<String>,
    /// Environment; a value may use the templates of [`hostname`](Self::hostname).
    pub env: BTreeMap<String, String>,
    /// Labels of the container; `orch.` is reserved.
    pub labels: BTreeMap<String, String>,
    /// `user`, `uid`, `user:group` or `uid:gid`.
    pub user: Option<String>,
    /// The working directory, absolute.
    pub workdir: Option<String>,
    /// May contain `{{.Service.Name}}`, `{{.Task.Slot}}`, `{{.Task.ID}}`, `{{.Node.Hostname}}` and `{{.Node.ID}}`.
    pub hostname: Option<String>,
    /// Binds, volumes and tmpfs.
    pub mounts: Vec<Mount>,
    /// Ports published on the node that runs the task. Those that every ingress node answers on are the service's.
    pub ports: Vec<PortSpec>,
    /// Networks by name: what it reaches by service name, and who reaches it so. Empty: the engine's default bridge.
    pub networks: Vec<String>,
    /// Limits and reservations.
    pub resources: Resources,
    /// Replaces the image's health check.
    pub healthcheck: Option<Healthcheck>,
    /// What the node's agent asks it, besides the health check.
    pub probes: Probes,
    /// The signal that asks it to stop, such as `SIGTERM` (the default).
    pub stop_signal: Option<String>,
    /// How long it may take to stop before it is killed; `None` means 10 s.
    pub stop_grace: Option<Duration>,
    /// How long connections and requests that are under way may last once it takes no new ones; then it is asked to stop.
    /// `None` means 10 s.
    pub drain: Option<Duration>,
    /// Run an init as process 1.
    pub init: bool,
    /// The root file system is read-only.
    pub read_only: bool,
    /// Limits such as `nofile`.
    pub ulimits: Vec<Ulimit>,
    /// The cap of its logs on the node.
    pub log: LogPolicy,
    /// Power over the node, which needs a grant.
    #[serde(skip_serializing_if = "Security::is_default")]
    pub security: Security,
    /// Secrets that it sees as files; see [`files`](Self::files).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<FileMount>,
    /// Configs that it sees as files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub configs: Vec<FileMount>,
    /// Signatures of the image, which is named by its digest then. Managers bring them where a policy asks for them; they hold for
    /// whoever sees them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<ImageSignature>,
}

impl ContainerSpec {
    /// Whether it has the image that somebody names: the same text, or the tag that managers brought it by before they had its
    /// signatures.
    pub fn has_image(&self, name: &str) -> bool {
        self.image == name || (!self.signatures.is_empty() && is_named(&self.image, name))
    }

    /// The grace between the stop signal and the kill.
    pub fn stop_grace(&self) -> Duration {
        self.stop_grace.unwrap_or(Duration::from_secs(10))
    }

    /// The time between its last new request and the stop signal, at most.
    pub fn drain(&self) -> Duration {
        self.drain.unwrap_or(Duration::from_secs(10))
    }
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PullPolicy {
    /// When the node does not have it.
    #[default]
    Missing,
    /// Before every start; a pull that fails falls back to nothing.
    Always,
    /// Never: the image must be there.
    Never,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountSource {
    /// A path of the host; it must exist, it is never created.
    Bind(String),
    /// A named volume of the node's engine, created on demand.
    Volume(String),
    /// Memory; `size` in bytes, 0 for the engine's default.
    Tmpfs {
        /// Bytes; 0 = the engine's default.
        #[serde(default)]
        size: u64,
        /// Octal mode such as 0o1777; 0 = the engine's default.
        #[serde(default)]
        mode: u32,
    },
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// From where.
    pub source: MountSource,
    /// To where in the container, absolute.
    pub target: String,
    /// Read-only.
    #[serde(default)]
    pub read_only: bool,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// A port of the container published on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortSpec {
    /// In the container, 1-65535.
    pub target: u16,
    /// On the host; 0 lets the engine choose, and such a port never keeps two tasks from sharing a node.
    #[serde(default)]
    pub published: u16,
    /// TCP or UDP.
    #[serde(default)]
    pub protocol: Protocol,
}

/// Limits (enforced by the kernel) and reservations (never over-committed by the scheduler).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Thousandths of a core; 0 = no limit.
    pub cpu_limit_millis: u64,
    /// Bytes; 0 = no limit.
    pub memory_limit: u64,
    /// Thousandths of a core kept free for it.
    pub cpu_reserve_millis: u64,
    /// Bytes kept free for it.
    pub memory_reserve: u64,
    /// Processes and threads; 0 = the default of 4096.
    pub pids_limit: u32,
}

/// Docker's health check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Healthcheck {
    /// `["NONE"]` turns the image's check off; `["CMD", …]` or `["CMD-SHELL", "…"]`.
    pub test: Vec<String>,
    /// Between two checks; zero = the engine's default (30 s).
    pub interval: Duration,
    /// For one check; zero = the engine's default (30 s).
    pub timeout: Duration,
    /// Failures during this time after the start do not count.
    pub start_period: Duration,
    /// Failures in a row until unhealthy; 0 = the engine's default (3).
    pub retries: u32,
}

/// One ulimit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Such as `nofile`.
    pub name: String,
    /// The soft limit; -1 = unlimited.
    pub soft: i64,
    /// The hard limit; -1 = unlimited.
    pub hard: i64,
}

/// Capped logs: a container can never fill a disk with what it prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogPolicy {
    /// Bytes of one file.
    pub max_size: u64,
    /// Files kept.
    pub max_files: u32,
}

impl Default for LogPolicy {
    fn default() -> Self {
        Self { max_size: 10 << 20, max_files: 3 }
    }
}
