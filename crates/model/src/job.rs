//! Jobs: services whose slots are done when they end well, and that are over when all of them are.
//!
//! A job is a service with a [`JobPolicy`]. Its [mode](crate::service::Mode) says how often it has to complete: in so many slots, or
//! once on every node; its restart policy says how often a slot is tried again. Placement, logs, tasks and removal are those of every
//! service. What differs is what an end means: a slot that completed is never filled again, and a job ends, for good, complete or failed.
//! How it stands is stored, so that any leader goes on from there; its deadline is, too, so that it ends whatever happens.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::CronId,
    service::{RestartCondition, RestartPolicy},
    time::ClusterTime,
};

/// What becomes of a slot whose node fell silent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnLost {
    /// It runs again elsewhere, although nobody knows how far it came, nor whether it still runs there.
    #[default]
    RunAgain,
    /// The job fails.
    Fail,
}

/// What makes a service a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobPolicy {
    /// Slots that run at the same time; 0 = all of them.
    pub concurrency: u32,
    /// From its beginning to its end, whatever happens: what still runs then is stopped, and the job has failed.
    pub deadline: Duration,
    /// How long it is kept after its end; `None` = until somebody removes it.
    pub keep: Option<Duration>,
    /// When a node is lost.
    pub on_lost: OnLost,
}

impl Default for JobPolicy {
    fn default() -> Self {
        Self {
            concurrency: 0,
            deadline: Duration::from_secs(24 * 3600),
            keep: None,
            on_lost: OnLost::RunAgain,
        }
    }
}

impl JobPolicy {
    /// Whether one more slot may run beside so many.
    pub fn has_room(&self, running: usize) -> bool {
        self.concurrency == 0 || running < usize::try_from(self.concurrency).unwrap_or(usize::MAX)
    }
}

impl RestartPolicy {
    /// Tries a slot of a job again so often after a failure, and never after a success.
    pub fn retries(retries: u32) -> Self {
        let condition = if retries == 0 { RestartCondition::None } else { RestartCondition::OnFailure };
        Self { condition, max_attempts: Some(retries).filter(|retries| *retries > 0), ..Self::default() }
    }
}

/// How a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// On its way.
    Running,
    /// Every slot completed.
    Complete,
    /// A slot failed for good, its time was over, or somebody ended it.
    Failed,
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Failed => "failed",
        })
    }
}

/// Which run of which cron a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CronRunRef {
    /// The cron.
    pub cron: CronId,
    /// The time that it was due; the time of the request for one that somebody asked for.
    pub due: ClusterTime,
}

/// A job as the cluster keeps it, beside its declaration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStatus {
    /// How it stands.
    pub state: JobState,
    /// When it was created.
    pub begun: ClusterTime,
    /// When it fails as a whole.
    pub deadline: ClusterTime,
    /// When it came to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<ClusterTime>,
    /// Why it failed, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What made it, if not a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<CronRunRef>,
}

impl JobStatus {
    /// A job that begins.
    pub fn begin(policy: &JobPolicy, at: ClusterTime, cron: Option<CronRunRef>) -> Self {
        let (begun, deadline) = (at, at + policy.deadline);
        Self { state: JobState::Running, begun, deadline, ended: None, message: String::new(), cron }
    }

    /// Whether it came to its end.
    pub fn is_over(&self) -> bool {
        self.state != JobState::Running
    }
}
