//! Services: what a user declares, and what the cluster keeps about it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    container::ContainerSpec,
    hook::Hook,
    id::{Generation, NodeId, ServiceId},
    job::{JobPolicy, JobStatus},
    placement::Placement,
    route::IngressPort,
    time::ClusterTime,
};

pub use crate::{
    release::{MAX_HISTORY, Release, ReleaseNote, ReleaseResult},
    rollout::{
        Canary, CanaryPolicy, Chosen, FailureAction, Promotion, Rollout, RolloutState, RolloutStep, Share,
        UpdateOrder, UpdatePolicy,
    },
};

/// How many replicas, and where from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// So many replicas in slots `1..=n`.
    Replicated(u32),
    /// One task on every eligible node.
    Global,
}

impl Default for Mode {
    fn default() -> Self {
        Self::Replicated(1)
    }
}

/// When a container that ended is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartCondition {
    /// Never.
    None,
    /// After a non-zero exit, a signal, an OOM kill or an unhealthy check.
    OnFailure,
    /// Always.
    #[default]
    Any,
}

/// The restart policy: exponential backoff with jitter up to a cap, reset after a stable period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartPolicy {
    /// When to restart at all.
    pub condition: RestartCondition,
    /// The pause before the second attempt in a row; the first restart after a stable period is immediate. Doubles
    /// with every further failure.
    pub delay: Duration,
    /// The cap of the doubling.
    pub max_delay: Duration,
    /// Give up after so many restarts within `window`; `None` never gives up.
    pub max_attempts: Option<u32>,
    /// The span that `max_attempts` counts in; zero counts for ever.
    pub window: Duration,
    /// After running so long the failures count as past and the backoff starts anew.
    pub stable_after: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            condition: RestartCondition::Any,
            delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(60),
            max_attempts: None,
            window: Duration::ZERO,
            stable_after: Duration::from_secs(30),
        }
    }
}

/// What every task of a service is made from; a change of it replaces the tasks, a change of anything else does not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskTemplate {
    /// The container.
    pub container: ContainerSpec,
    /// Where it may and should run.
    pub placement: Placement,
    /// What happens when it ends.
    pub restart: RestartPolicy,
    /// Raised by `--force`: replaces the tasks although nothing else changed.
    pub force: u64,
}

/// What a user declares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceSpec {
    /// Unique in the cluster: a DNS label (a-z, 0-9, `-`; at most 63).
    pub name: String,
    /// Free labels of the service itself, not of its containers.
    pub labels: BTreeMap<String, String>,
    /// How many.
    pub mode: Mode,
    /// Of what.
    pub template: TaskTemplate,
    /// How it is replaced.
    pub update: UpdatePolicy,
    /// Ports that every ingress node answers on, whichever node its replicas run on. A change replaces no task.
    pub ports: Vec<IngressPort>,
    /// What makes it a job; `None` = it is to run for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<JobPolicy>,
    /// Connections to databases that a replica makes at most, the size of its pool; 0 = not said. Nobody enforces it: policies cap the sum.
    #[serde(skip_serializing_if = "is_zero")]
    pub connections: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Counts the templates of one service, from 1; a rollback makes an old template the newest again under a new number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TemplateVersion(pub u64);

/// What a tag meant when it was first resolved: the same contents on every node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImagePin {
    /// `repository@sha256:…`, pulled by digest everywhere.
    Digest(String),
    /// An image that no registry knows: the engine's image id. A node without it cannot run the task.
    LocalId(String),
}

/// A service as the cluster keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its identity.
    pub id: ServiceId,
    /// Index of the last change of the spec, the pin or the rollout.
    pub generation: Generation,
    /// The newest declaration.
    pub spec: Arc<ServiceSpec>,
    /// The number of `spec.template`.
    pub template: TemplateVersion,
    /// Templates that tasks still carry or a rollback may need, the current one included.
    pub templates: BTreeMap<TemplateVersion, Arc<TaskTemplate>>,
    /// The whole previous declaration, for `rollback`.
    pub previous: Option<Arc<ServiceSpec>>,
    /// What each kept template's tag was resolved to, once.
    pub pins: BTreeMap<TemplateVersion, ImagePin>,
    /// The newest rollout; `None` until the first update of the template.
    pub rollout: Option<Rollout>,
    /// The last releases, oldest first; the newest one is numbered [`template`](Self::template). What 0.1.0 wrote has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub releases: Vec<Arc<Release>>,
    /// How it stands, if it is a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobStatus>,
    /// When it was created.
    pub created: ClusterTime,
    /// When its spec was last changed.
    pub updated: ClusterTime,
    /// Set by `service rm`: its tasks are stopped, then it goes.
    pub removing: bool,
}

impl Service {
    /// The template that a task carries.
    pub fn template_of(&self, version: TemplateVersion) -> Option<&Arc<TaskTemplate>> {
        self.templates.get(&version)
    }

    /// A kept release.
    pub fn release(&self, number: TemplateVersion) -> Option<&Arc<Release>> {
        self.releases.iter().find(|release| release.number == number)
    }

    /// Kept releases after this one whose hook changed data for good, or may have, oldest first: a way back does not undo that.
    pub fn migrations_after(&self, number: TemplateVersion) -> Vec<TemplateVersion> {
        let migrates =
            |release: &Release| release.spec.update.pre_deploy.as_ref().is_some_and(|hook| hook.migration);
        // The first declaration is no rollout, and a way back runs no hook.
        let ran = |release: &Release| {
            release.number.0 > 1 && release.number > number && release.returns_to.is_none()
        };
        let ran = self.releases.iter().filter(|release| ran(release) && migrates(release));
        ran.map(|release| release.number).collect()
    }

    /// The hook that the tasks of a release in [`Slot::HOOK`] run.
    pub fn hook_of(&self, version: TemplateVersion) -> Option<&Hook> {
        let declared = self.release(version).and_then(|release| release.spec.update.pre_deploy.as_ref());
        let awaited = || self.rollout.as_ref().filter(|rollout| rollout.target == version)?.hook.as_ref();
        declared.or_else(awaited)
    }

    /// Whether a rollout is under way: it replaces, returns, or watches its canaries.
    pub fn is_rolling(&self) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| rollout.state.is_under_way())
    }
}

/// Which of a service's places a task fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Slot {
    /// Slot `1..` of a replicated service; [`HOOK`](Self::HOOK) of any.
    Replica(u32),
    /// The one task of a global service on this node.
    Node(NodeId),
}

impl Slot {
    /// The place of the [pre-deploy hook](crate::hook): no replica has the number 0.
    pub const HOOK: Self = Self::Replica(0);
    /// How people write it.
    pub const HOOK_NAME: &str = "hook";
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            &Self::HOOK => f.write_str(Self::HOOK_NAME),
            Self::Replica(number) => number.fmt(f),
            Self::Node(node) => node.fmt(f),
        }
    }
}
