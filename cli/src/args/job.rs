//! `job …`, `cron …` and `run`: what comes to an end.

use clap::{Args, Subcommand};
use model::{cron::Overlap, job::OnLost};

use super::{Create, Logs, WaitFlags, cluster::choice};

/// `job …`
#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// Run something to its end, and wait for it
    Create(Box<JobCreate>),
    /// List jobs
    Ls {
        /// Print ids only
        #[arg(long, short)]
        quiet: bool,
    },
    /// List the tasks of jobs, ended ones too
    Ps {
        /// Names, ids, or beginnings of ids
        #[arg(required = true)]
        jobs: Vec<String>,
        /// Print ids only
        #[arg(long, short)]
        quiet: bool,
    },
    /// Show everything about jobs
    Inspect {
        /// Names, ids, or beginnings of ids
        #[arg(required = true)]
        jobs: Vec<String>,
        /// Print the declaration only, as `--file` reads it
        #[arg(long)]
        spec: bool,
    },
    /// Wait for the end of a job; exit code 0 when it completed, 1 when it failed
    Wait {
        /// Name, id, or the beginning of an id
        job: String,
        /// Print no progress
        #[arg(long, short)]
        quiet: bool,
    },
    /// Print logs of a job
    Logs(Logs),
    /// Stop what still runs of jobs, and forget them
    #[command(visible_alias = "remove")]
    Rm {
        /// Names, ids, or beginnings of ids
        #[arg(required = true)]
        jobs: Vec<String>,
        /// How to wait.
        #[command(flatten)]
        wait: WaitFlags,
    },
}

/// What makes a service a job.
#[derive(Debug, Clone, Default, Args)]
pub struct JobFlags {
    /// How often it has to end well (1); with --mode global once on every node that fits
    #[arg(long, value_name = "N", help_heading = "Job", conflicts_with = "replicas")]
    pub completions: Option<u32>,
    /// So many at a time; 0 = all at once (0)
    #[arg(long, value_name = "N", help_heading = "Job")]
    pub concurrency: Option<u32>,
    /// Try each of them so often again after a failure (0)
    #[arg(long, value_name = "N", help_heading = "Job", conflicts_with_all = ["restart_condition", "restart_max_attempts"])]
    pub retries: Option<u32>,
    /// It has failed when it is not complete by then (24h)
    #[arg(long, value_name = "DURATION", help_heading = "Job")]
    pub deadline: Option<String>,
    /// Keep it with its logs for so long after its end (until it is removed; `run`: 24h)
    #[arg(long, value_name = "DURATION", help_heading = "Job")]
    pub keep: Option<String>,
    /// What happens when a node falls silent while it runs there
    #[arg(long, value_enum, help_heading = "Job")]
    pub on_lost: Option<OnLostArg>,
}

/// `job create`
#[derive(Debug, Clone, Default, Args)]
pub struct JobCreate {
    /// Of the job.
    #[command(flatten)]
    pub job: JobFlags,
    /// Of its containers.
    #[command(flatten)]
    pub create: Create,
}

/// `run`
#[derive(Debug, Clone, Default, Args)]
pub struct Run {
    /// As this service: its image, environment, mounts, networks and limits, without its ports and checks. All words are the command
    #[arg(long, value_name = "SERVICE", conflicts_with = "file")]
    pub like: Option<String>,
    /// The image, where the first word is not
    #[arg(long = "image", value_name = "IMAGE", requires = "like", id = "other_image")]
    pub image: Option<String>,
    /// Remove it when it has ended
    #[arg(long, conflicts_with = "keep")]
    pub rm: bool,
    /// Of the job.
    #[command(flatten)]
    pub job: JobFlags,
    /// Of its container.
    #[command(flatten)]
    pub create: Create,
}

/// `cron …`
#[derive(Debug, Subcommand)]
pub enum CronCommand {
    /// Run a job again and again; a cron of the same name is replaced
    Set(Box<CronSet>),
    /// List crons
    Ls {
        /// Print names only
        #[arg(long, short)]
        quiet: bool,
    },
    /// Show a cron and what became of its runs
    Inspect {
        /// Its name
        name: String,
    },
    /// Nothing is due until it is resumed
    Suspend {
        /// Its name
        name: String,
    },
    /// What comes from now on is due again; what came meanwhile is not
    Resume {
        /// Its name
        name: String,
    },
    /// Run it now, beside its schedule
    RunNow {
        /// Its name
        name: String,
        /// How to wait.
        #[command(flatten)]
        wait: WaitFlags,
    },
    /// End crons; their jobs that run go on to their end
    #[command(visible_alias = "remove")]
    Rm {
        /// Names
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// `cron set`
#[derive(Debug, Clone, Default, Args)]
pub struct CronSet {
    /// Minute, hour, day of month, month, day of week, such as "12 4 * * *" for every night at 04:12
    #[arg(long, value_name = "FIELDS")]
    pub schedule: String,
    /// The time zone of the schedule, such as Europe/Paris
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub tz: String,
    /// When a run is due while an earlier one still goes on (forbid)
    #[arg(long, value_enum)]
    pub overlap: Option<OverlapArg>,
    /// Times that came while no manager could decide: `skip`, or the last of them runs once if it is at most so late, such as 2h
    #[arg(long, value_name = "skip|DURATION", default_value = "skip")]
    pub missed: String,
    /// Jobs kept that completed
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub keep_complete: u32,
    /// Jobs kept that failed
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub keep_failed: u32,
    /// Nothing is due until it is resumed
    #[arg(long)]
    pub suspended: bool,
    /// Of its jobs.
    #[command(flatten)]
    pub job: JobFlags,
    /// Of their containers.
    #[command(flatten)]
    pub create: Create,
}

choice!(
    /// `--on-lost`
    OnLostArg => OnLost {
        /// It runs again elsewhere
        RunAgain => OnLost::RunAgain,
        /// The job fails
        Fail => OnLost::Fail,
    }
);
choice!(
    /// `--overlap`
    OverlapArg => Overlap {
        /// The new one is left out
        Forbid => Overlap::Forbid,
        /// Both run
        Allow => Overlap::Allow,
        /// The earlier one is ended
        Replace => Overlap::Replace,
    }
);
