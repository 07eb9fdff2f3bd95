//! Tasks: one placement of one slot on one node, with the container attempts made there.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::{Generation, NodeId, ServiceId, TaskId},
    route::NetworkAddress,
    service::{Slot, TemplateVersion},
    time::ClusterTime,
};

/// What the managers want of a task; it only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DesiredState {
    /// Its container runs, or is restarted by policy.
    #[default]
    Running,
    /// Its container is stopped and removed; the task stays for the history until it is reaped.
    Stopped,
}

/// What is observed of a task. The states before [`Completed`](Self::Completed) may come and go with attempts; the
/// terminal ones are final.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// No node fits yet; see [`Task::pending`].
    #[default]
    Pending,
    /// A node was chosen; its agent has not answered.
    Assigned,
    /// The image is being pulled, mounts are being checked.
    Preparing,
    /// The container is being created and started.
    Starting,
    /// The process runs. Whether it is fit for work says [`Health`].
    Running,
    /// It ended; the next attempt waits for its backoff.
    Restarting,
    /// It ended again and again; the next attempt waits for a long backoff.
    CrashLoop,
    /// The stop signal was sent.
    Stopping,
    /// Ended by itself with exit code 0, and the policy does not restart it.
    Completed,
    /// Ended with a failure, and the policy does not restart it (any more).
    Failed,
    /// The node could not run it (image, port, mount, engine error); the managers choose another place.
    Rejected,
    /// Stopped because the managers wanted it.
    Stopped,
    /// Its node was removed, or lost it; nobody will ever report on it again.
    Lost,
}

impl TaskState {
    /// No further change follows.
    pub fn is_terminal(self) -> bool {
        self >= Self::Completed
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Preparing => "preparing",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::CrashLoop => "crash-loop",
            Self::Stopping => "stopping",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Stopped => "stopped",
            Self::Lost => "lost",
        })
    }
}

/// What the health check and the probes say together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// There is no check: running counts as healthy.
    #[default]
    None,
    /// The check has not succeeded yet.
    Starting,
    /// The newest check succeeded.
    Healthy,
    /// It failed as often as the check allows.
    Unhealthy,
    /// The readiness probe failed as often as it allows: it takes no traffic, and nothing restarts it.
    Unready,
}

/// How a container ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exit {
    /// The exit code; 128 + n for signal n.
    pub code: i64,
    /// The kernel killed it for memory.
    pub oom: bool,
    /// The cause in words.
    pub message: String,
}

/// One container of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attempt {
    /// From 1.
    pub number: u32,
    /// The engine's id of the container.
    pub container: String,
    /// How long the process ran.
    pub ran: Duration,
    /// How it ended.
    pub exit: Exit,
}

/// A port as the engine bound it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BoundPort {
    /// In the container.
    pub target: u16,
    /// On the host.
    pub published: u16,
    /// TCP or UDP.
    pub protocol: crate::container::Protocol,
}

/// Past attempts kept per task; older ones are forgotten, so that a crash loop stays bounded.
pub const MAX_ATTEMPTS_KEPT: usize = 5;

/// What the agent last said of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Observed {
    /// The state.
    pub state: TaskState,
    /// The check's word.
    pub health: Health,
    /// The attempt that `state` speaks of, from 1; 0 before the first.
    pub attempt: u32,
    /// Restarts over the task's life.
    pub restarts: u32,
    /// The engine's id of the current container, empty before the first.
    pub container: String,
    /// The image that runs, as the engine names it (an id or a digest); shared by the tasks that run it.
    pub image: Arc<str>,
    /// Why it is in this state, in words; empty where the state says all.
    pub message: String,
    /// How the newest attempt ended.
    pub exit: Option<Box<Exit>>,
    /// At most [`MAX_ATTEMPTS_KEPT`] ended attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// Ports as bound.
    pub ports: Vec<BoundPort>,
    /// The container's address in each of the service's networks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<NetworkAddress>,
}

impl Observed {
    /// Whether it is fit for work.
    pub fn is_healthy(&self) -> bool {
        self.state == TaskState::Running && matches!(self.health, Health::None | Health::Healthy)
    }
}

/// How many nodes one filter of the scheduler removed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FilterCount {
    /// Such as "constraint node.labels.gpu==a100" or "memory".
    pub filter: String,
    /// Nodes that passed every earlier filter and failed this one.
    pub nodes: u32,
}

/// Why a task has no node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PendingReason {
    /// A sentence.
    pub message: String,
    /// Nodes that were looked at.
    pub nodes: u32,
    /// How each filter reduced them, in the order of application.
    pub filters: Vec<FilterCount>,
}

/// What a replacement inherits, so that no leader forgets a backoff.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inheritance {
    /// Rejections and losses of the slot in a row.
    pub failures: u32,
    /// Not assigned before this time.
    pub not_before: ClusterTime,
    /// Nodes that rejected it lately, newest last, at most 5: ranked behind all others.
    pub avoid: Vec<NodeId>,
}

/// A task as the cluster keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its identity.
    pub id: TaskId,
    /// Index of the last change.
    pub generation: Generation,
    /// Whose.
    pub service: ServiceId,
    /// Which place of the service.
    pub slot: Slot,
    /// Which template.
    pub template: TemplateVersion,
    /// Where; set once, never changed.
    pub node: Option<NodeId>,
    /// What the managers want.
    pub desired: DesiredState,
    /// What was observed.
    pub observed: Observed,
    /// When it was created.
    pub created: ClusterTime,
    /// When `observed.state` last changed.
    pub since: ClusterTime,
    /// When the running process became healthy, for monitor windows; reset when it is not.
    pub healthy_since: Option<ClusterTime>,
    /// Why it has no node.
    pub pending: Option<Box<PendingReason>>,
    /// What it inherited.
    pub inherited: Inheritance,
    /// What routers saw of it while its release was watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faulted: Option<Box<Fault>>,
}

/// Routers saw too many of a new replica's requests fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// When that was noted.
    pub at: ClusterTime,
    /// In words.
    pub message: String,
}

impl Task {
    /// Wanted running and not ended for good: it fills its slot.
    pub fn is_active(&self) -> bool {
        self.desired == DesiredState::Running && !self.observed.state.is_terminal()
    }

    /// What routers saw of it since then.
    pub fn fault_since(&self, begun: ClusterTime) -> Option<&Fault> {
        self.faulted.as_deref().filter(|fault| fault.at >= begun)
    }

    /// May still have a container on its node.
    pub fn may_have_container(&self) -> bool {
        self.node.is_some() && !self.observed.state.is_terminal()
    }
}
