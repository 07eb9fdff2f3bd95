//! Releases: every template that a service had, with who brought it and what became of it.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    identity::Identity,
    rollout::CanaryPolicy,
    service::{ServiceSpec, TemplateVersion},
    time::ClusterTime,
};

/// Releases kept of one service at most: each lies in the state with its whole declaration.
pub const MAX_HISTORY: u32 = 50;

/// What became of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReleaseResult {
    /// Its rollout is under way.
    Running,
    /// Every slot came to run it, but for those that its message names.
    Done,
    /// The release before it took its place again.
    RolledBack,
    /// Its rollout stopped and waits for a person.
    Paused,
    /// A person ended its rollout, and the release before it took its place again.
    Aborted,
    /// The next one came before it was done.
    Superseded,
}

impl fmt::Display for ReleaseResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::RolledBack => "rolled back",
            Self::Paused => "paused",
            Self::Aborted => "aborted",
            Self::Superseded => "superseded",
        })
    }
}

/// One release. What its tag meant is in [`pins`](crate::service::Service::pins) under its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The number of its template.
    pub number: TemplateVersion,
    /// The whole declaration, as it was when it came.
    pub spec: Arc<ServiceSpec>,
    /// It brought this release's contents back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returns_to: Option<TemplateVersion>,
    /// Who brought it; a manager when it came by itself. `None`: nobody wrote it down at the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Identity>,
    /// What brought it, such as the URL of a CI job; empty for nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub job: String,
    /// When it came.
    pub at: ClusterTime,
    /// When its rollout ended or paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<ClusterTime>,
    /// What became of it.
    pub result: ReleaseResult,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Its pre-deploy hook has not succeeded: no replica has ever run it, and none may.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unprepared: bool,
}

/// What comes with a change that makes a release, beside the declaration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReleaseNote {
    /// What brings it, such as the URL of a CI job.
    pub job: String,
    /// Only if this is the newest release: of two deployments at once one is refused.
    pub after: Option<TemplateVersion>,
    /// Canaries of this rollout alone; `None` = as the service declares.
    pub canary: Option<CanaryPolicy>,
    /// What a freeze holds back follows when its window ends, instead of the whole being refused.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub at_next_window: bool,
    /// Why this is done although nodes are frozen: no freeze holds it back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub despite_freeze: Option<String>,
}

impl ReleaseNote {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
