//! `deploy`: what a pipeline calls.

use std::time::Duration;

use clap::{Args, Subcommand};
use model::service::{CanaryPolicy, Promotion, Share};

use super::WaitFlags;

/// `deploy SERVICE --image IMAGE`, and what one does to a deployment under way
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Deploy {
    /// What to do to the deployment under way.
    #[command(subcommand)]
    pub command: Option<DeployCommand>,
    /// A new one.
    #[command(flatten)]
    pub release: DeployRelease,
}

/// A new release by its image.
#[derive(Debug, Clone, Args)]
pub struct DeployRelease {
    /// Name, id, or the beginning of an id
    #[arg(required = true)]
    pub service: Option<String>,
    /// The new image; best by digest, as REPOSITORY@sha256:…
    #[arg(long, required = true)]
    pub image: Option<String>,
    /// First so many replicas, or such a part of them, and the others when these were good
    #[arg(long, value_name = "N|P%", value_parser = share)]
    pub canary: Option<Share>,
    /// How long the canaries must be good in a row
    #[arg(long, value_name = "DURATION", value_parser = crate::value::duration, requires = "canary")]
    pub soak: Option<Duration>,
    /// The others follow on `deploy promote` only
    #[arg(long, requires = "canary")]
    pub manual: bool,
    /// What brings it, kept in the history: the URL of a CI job
    #[arg(long, value_name = "URL")]
    pub job: Option<String>,
    /// Wait so long for a deployment that is under way, instead of ending with 5 at once
    #[arg(long, value_name = "DURATION", value_parser = crate::value::duration)]
    pub wait_busy: Option<Duration>,
    /// Where replicas are frozen: those follow when their freeze ends, and this command does not wait for them
    #[arg(long, conflicts_with = "despite_freeze")]
    pub at_next_window: bool,
    /// Why this is done now although nodes are frozen
    #[arg(long, value_name = "REASON")]
    pub despite_freeze: Option<String>,
    /// Wait until it is over (which is the default)
    #[arg(long, conflicts_with = "detach")]
    pub wait: bool,
    /// How to wait.
    #[command(flatten)]
    pub flags: WaitFlags,
}

impl DeployRelease {
    /// Canaries of this rollout alone; `None` = as the service declares.
    pub fn canary_policy(&self) -> Option<CanaryPolicy> {
        let promotion = if self.manual { Promotion::Manual } else { Promotion::Automatic };
        let soak = self.soak.unwrap_or_default();
        self.canary.map(|replicas| CanaryPolicy { replicas, soak, promotion })
    }
}

/// `deploy …` of what is under way
#[derive(Debug, Subcommand)]
pub enum DeployCommand {
    /// Show the newest release and how far it has come
    Status {
        /// Name, id, or the beginning of an id
        service: String,
    },
    /// Return to the release before it
    Abort(Steer),
    /// Let the others follow the canaries
    Promote(Steer),
    /// Stop here; every replica keeps what it runs
    Pause(Steer),
    /// Go on after a pause
    Resume(Steer),
}

/// What a step on a deployment under way takes.
#[derive(Debug, Clone, Args)]
pub struct Steer {
    /// Name, id, or the beginning of an id
    pub service: String,
    /// Only if this is the newest release
    #[arg(long, value_name = "NUMBER")]
    pub release: Option<u64>,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitFlags,
}

fn share(text: &str) -> Result<Share, String> {
    text.parse()
}
