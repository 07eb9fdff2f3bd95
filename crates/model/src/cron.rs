//! Crons: jobs that run again and again, by the clock.
//!
//! A schedule and a time zone say when. The leader works out the next time and stores it; when it has come, one decision names that time
//! and the job that it makes. The state refuses a time that is not later than the last one decided: whatever a second leader
//! or a retry decides on an older look, one time makes at most one job.
//!
//! Times are the cluster's: all of them come, in order, also when wall clocks leap; see [`ClusterTime`]. Only a cluster that was away as a whole
//! misses some, and then [`Missed`] says what happens.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    id::{CronId, Generation, ServiceId},
    job::JobState,
    service::ServiceSpec,
    time::ClusterTime,
};

/// Crons of a cluster at most.
pub const MAX_CRONS: usize = 256;
/// Runs that one cron remembers; the jobs themselves are kept as its declaration says.
pub const MAX_RUNS: usize = 50;
/// Ended jobs that one cron may keep, of each kind.
pub const MAX_KEPT: u32 = 20;
/// Jobs of one cron that may run beside each other with [`Overlap::Allow`]: a job that never ends must not fill the cluster.
pub const MAX_BESIDE: usize = 10;
/// A run that is at most so late is on time: a lead may change, a leader's disk may stall.
pub const GRACE: Duration = Duration::from_secs(60);
/// The longest [`Missed::RunOnce`].
pub const MAX_LATE: Duration = Duration::from_secs(24 * 3600);

/// What happens when a run is due while an earlier one still goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overlap {
    /// The new one is left out.
    #[default]
    Forbid,
    /// Both run, up to [`MAX_BESIDE`] of them.
    Allow,
    /// The earlier one is ended; the new one starts without waiting for its containers to stop.
    Replace,
}

/// What happens to times that came while no manager could decide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missed {
    /// They are left out, but for one that is at most [`GRACE`] late.
    #[default]
    Skip,
    /// The last of them runs, once, if it is at most so late.
    RunOnce(Duration),
}

impl Missed {
    /// How late a run may be.
    pub fn patience(self) -> Duration {
        match self {
            Self::Skip => GRACE,
            Self::RunOnce(late) => late.max(GRACE).min(MAX_LATE),
        }
    }
}

/// What a user declares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CronSpec {
    /// Unique among crons: a DNS label of at most [`MAX_CRON_NAME`] letters.
    pub name: String,
    /// Minute, hour, day of month, month, day of week.
    pub schedule: String,
    /// An IANA name such as Europe/Paris.
    pub zone: String,
    /// What runs: a declaration with a job policy; its name is the cron's with the time.
    pub job: Arc<ServiceSpec>,
    /// While an earlier run goes on.
    pub overlap: Overlap,
    /// For times that nobody could decide on.
    pub missed: Missed,
    /// Jobs kept that completed, at most [`MAX_KEPT`].
    pub keep_complete: u32,
    /// Jobs kept that failed, at most [`MAX_KEPT`].
    pub keep_failed: u32,
    /// Nothing is due while it is.
    pub suspended: bool,
}

/// The job's name has the time behind it, and must still be a DNS label.
pub const MAX_CRON_NAME: usize = 40;

impl Default for CronSpec {
    fn default() -> Self {
        Self {
            name: String::new(),
            schedule: String::new(),
            zone: "UTC".into(),
            job: Arc::default(),
            overlap: Overlap::default(),
            missed: Missed::default(),
            keep_complete: 3,
            keep_failed: 3,
            suspended: false,
        }
    }
}

impl CronSpec {
    /// The name of the job of a time, in minutes since 1970: times are whole minutes.
    pub fn job_name(&self, due: ClusterTime) -> String {
        format!("{}-{}", self.name, due.0 / 60_000_000)
    }
}

/// What became of one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// Its job is on its way.
    Running,
    /// Its job completed.
    Complete,
    /// Its job failed, or could not be made.
    Failed,
    /// It was left out.
    Skipped,
}

impl From<JobState> for RunState {
    fn from(state: JobState) -> Self {
        match state {
            JobState::Running => Self::Running,
            JobState::Complete => Self::Complete,
            JobState::Failed => Self::Failed,
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        })
    }
}

/// One time, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CronRun {
    /// When it was due.
    pub due: ClusterTime,
    /// When it was decided.
    pub decided: ClusterTime,
    /// Its job, and that one's name; the job may be gone by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<(ServiceId, String)>,
    /// What became of it.
    pub state: RunState,
    /// When its job ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<ClusterTime>,
    /// Why it was left out or failed, or what was missed before it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A cron as the cluster keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cron {
    /// Its identity.
    pub id: CronId,
    /// Index of the last change of the declaration or of a decision.
    pub generation: Generation,
    /// The declaration.
    pub spec: Arc<CronSpec>,
    /// When it was first declared.
    pub created: ClusterTime,
    /// When the declaration was last changed.
    pub updated: ClusterTime,
    /// The last time that was decided on; nothing up to it is ever decided again.
    pub decided: ClusterTime,
    /// The next time; `None` while it is suspended.
    pub next: Option<ClusterTime>,
    /// What was decided, oldest first, at most [`MAX_RUNS`].
    pub runs: Vec<CronRun>,
}

/// What is decided for one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CronStep {
    /// Its job begins.
    Start {
        /// Chosen by the leader.
        job: ServiceId,
        /// Jobs of earlier runs that end for it.
        replaces: Vec<ServiceId>,
        /// What was missed before it, in words.
        message: String,
    },
    /// It is left out.
    Skip {
        /// Why.
        message: String,
    },
}
