//! `service …`: Docker Swarm's flag words.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use model::{
    container::PullPolicy,
    service::{FailureAction, Promotion, RestartCondition, UpdateOrder},
};

use super::{HookFlags, Logs, SecurityFlags, WaitFlags, cluster::choice};

/// `service …`
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Create a service
    Create(Box<Create>),
    /// Change a service; its replicas are replaced one after the other where that is needed
    Update(Box<Update>),
    /// Set replica counts
    Scale(super::Scale),
    /// List services
    Ls {
        /// Print ids only
        #[arg(long, short)]
        quiet: bool,
    },
    /// List the tasks of services
    Ps {
        /// Names, ids, or beginnings of ids
        #[arg(required = true)]
        services: Vec<String>,
        /// Ended tasks too
        #[arg(long, short)]
        all: bool,
        /// Print ids only
        #[arg(long, short)]
        quiet: bool,
    },
    /// Show everything about services
    Inspect {
        /// Names, ids, or beginnings of ids
        #[arg(required = true)]
        services: Vec<String>,
        /// Print the declaration only, as a file for `service update --file`
        #[arg(long)]
        spec: bool,
    },
    /// Show how a service is reached: its ports, addresses, and which tasks take traffic
    Endpoints {
        /// Name, id, or the beginning of an id
        service: String,
    },
    /// Print logs of a service or a task
    Logs(Logs),
    /// Stop and forget services
    #[command(visible_alias = "remove")]
    Rm {
        /// Names, ids, or beginnings of ids
        #[arg(required = true)]
        services: Vec<String>,
        /// How to wait.
        #[command(flatten)]
        wait: WaitFlags,
    },
    /// List the releases of a service: who brought which image when, and what became of it
    History {
        /// Name, id, or the beginning of an id
        service: String,
    },
    /// Return to the previous declaration, or to that of an older release
    Rollback {
        /// Name, id, or the beginning of an id
        service: String,
        /// To this release, as `service history` numbers it
        #[arg(long, value_name = "RELEASE")]
        to: Option<u64>,
        /// What brings it, kept in the history: the URL of a CI job
        #[arg(long, value_name = "URL")]
        job: Option<String>,
        /// How to wait.
        #[command(flatten)]
        wait: WaitFlags,
    },
}

/// `service create`
#[derive(Debug, Clone, Default, Args)]
pub struct Create {
    /// Its name: a-z, 0-9 and -, at most 63 letters
    #[arg(long)]
    pub name: Option<String>,
    /// Replicated, or one task on every node that fits
    #[arg(long, value_enum)]
    pub mode: Option<ModeArg>,
    /// Take the declaration from a TOML or JSON file; other flags apply on top of it
    #[arg(long, value_name = "SPEC")]
    pub file: Option<PathBuf>,
    /// What may be given several times.
    #[command(flatten)]
    pub lists: CreateLists,
    /// Everything else.
    #[command(flatten)]
    pub flags: SpecFlags,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitFlags,
    /// The image
    pub image: Option<String>,
    /// Arguments that replace the image's
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<String>,
}

/// The lists of `service create`.
#[derive(Debug, Clone, Default, Args)]
pub struct CreateLists {
    /// Environment; KEY alone takes the value from here
    #[arg(long, short, value_name = "KEY[=VALUE]")]
    pub env: Vec<String>,
    /// Read environment from a file of KEY=VALUE lines
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// A label of the service
    #[arg(long, short, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// A label of its containers
    #[arg(long, value_name = "KEY=VALUE")]
    pub container_label: Vec<String>,
    /// Only on nodes that match, such as node.labels.beamline==id23-1 or node.hostname!=h1
    #[arg(long)]
    pub constraint: Vec<String>,
    /// Spread over the values of a label, such as spread=node.labels.rack
    #[arg(long, value_name = "spread=ATTRIBUTE")]
    pub placement_pref: Vec<String>,
    /// Mount, such as type=bind,src=/data,dst=/data,ro
    #[arg(long)]
    pub mount: Vec<String>,
    /// Mount memory: /PATH[:size=64m,mode=1777]
    #[arg(long)]
    pub tmpfs: Vec<String>,
    /// A secret as a file, /run/secrets/NAME unless told otherwise: NAME[,target=PATH,uid=UID,gid=GID,mode=0400]
    #[arg(long, value_name = "SECRET")]
    pub secret: Vec<String>,
    /// A config as a file, /NAME unless told otherwise: NAME[,target=PATH,uid=UID,gid=GID,mode=0444]
    #[arg(long, value_name = "CONFIG")]
    pub config: Vec<String>,
    /// A network to be in: services of one network reach each other by name; host = the node's own, which needs a grant
    #[arg(long, value_name = "NETWORK")]
    pub network: Vec<String>,
    /// Publish a port: 8080:80 on every ingress node; 80 or published=8080,target=80,mode=host on the task's own node;
    /// published=80,target=8080,http,sticky,host=ispyb.example,path=/ispyb by request
    #[arg(long, short, value_name = "PORT")]
    pub publish: Vec<String>,
    /// A limit such as nofile=1024:4096
    #[arg(long)]
    pub ulimit: Vec<String>,
}

/// `service update`
#[derive(Debug, Clone, Default, Args)]
pub struct Update {
    /// Name, id, or the beginning of an id
    pub service: String,
    /// Take the declaration from a TOML or JSON file; other flags apply on top of it
    #[arg(long, value_name = "SPEC")]
    pub file: Option<PathBuf>,
    /// The new image
    #[arg(long)]
    pub image: Option<String>,
    /// Arguments that replace the image's, as one text: --args "-v --port 80"
    #[arg(long, allow_hyphen_values = true)]
    pub args: Option<String>,
    /// Replace the replicas although nothing changed
    #[arg(long)]
    pub force: bool,
    /// What may be given several times.
    #[command(flatten)]
    pub lists: UpdateLists,
    /// Everything else.
    #[command(flatten)]
    pub flags: SpecFlags,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitFlags,
}

/// The lists of `service update`; what is removed goes before what is added.
#[derive(Debug, Clone, Default, Args)]
pub struct UpdateLists {
    /// Set environment; KEY alone takes the value from here
    #[arg(long, value_name = "KEY[=VALUE]")]
    pub env_add: Vec<String>,
    /// Remove environment
    #[arg(long, value_name = "KEY")]
    pub env_rm: Vec<String>,
    /// Set a label of the service
    #[arg(long, value_name = "KEY=VALUE")]
    pub label_add: Vec<String>,
    /// Remove a label of the service
    #[arg(long, value_name = "KEY")]
    pub label_rm: Vec<String>,
    /// Set a label of its containers
    #[arg(long, value_name = "KEY=VALUE")]
    pub container_label_add: Vec<String>,
    /// Remove a label of its containers
    #[arg(long, value_name = "KEY")]
    pub container_label_rm: Vec<String>,
    /// Add a constraint
    #[arg(long, value_name = "CONSTRAINT")]
    pub constraint_add: Vec<String>,
    /// Remove a constraint
    #[arg(long, value_name = "CONSTRAINT")]
    pub constraint_rm: Vec<String>,
    /// Add a placement preference
    #[arg(long, value_name = "spread=ATTRIBUTE")]
    pub placement_pref_add: Vec<String>,
    /// Remove a placement preference
    #[arg(long, value_name = "spread=ATTRIBUTE")]
    pub placement_pref_rm: Vec<String>,
    /// Add or replace a mount
    #[arg(long, value_name = "MOUNT")]
    pub mount_add: Vec<String>,
    /// Remove a mount by its target
    #[arg(long, value_name = "TARGET")]
    pub mount_rm: Vec<String>,
    /// Mount a secret, or mount it otherwise: NAME[,target=PATH,uid=UID,gid=GID,mode=0400]
    #[arg(long, value_name = "SECRET")]
    pub secret_add: Vec<String>,
    /// Mount a secret no more, by its name
    #[arg(long, value_name = "NAME")]
    pub secret_rm: Vec<String>,
    /// Mount a config, or mount it otherwise: NAME[,target=PATH,uid=UID,gid=GID,mode=0444]
    #[arg(long, value_name = "CONFIG")]
    pub config_add: Vec<String>,
    /// Mount a config no more, by its name
    #[arg(long, value_name = "NAME")]
    pub config_rm: Vec<String>,
    /// Add a network
    #[arg(long, value_name = "NETWORK")]
    pub network_add: Vec<String>,
    /// Leave a network
    #[arg(long, value_name = "NETWORK")]
    pub network_rm: Vec<String>,
    /// Add or replace a published port
    #[arg(long, value_name = "PORT")]
    pub publish_add: Vec<String>,
    /// Remove a published port by its target: TARGET[/PROTOCOL]
    #[arg(long, value_name = "TARGET")]
    pub publish_rm: Vec<String>,
    /// Add or replace a limit such as nofile=1024:4096
    #[arg(long, value_name = "ULIMIT")]
    pub ulimit_add: Vec<String>,
    /// Remove a limit by its name
    #[arg(long, value_name = "NAME")]
    pub ulimit_rm: Vec<String>,
}

/// What `create` and `update` say alike.
#[derive(Debug, Clone, Default, Args)]
pub struct SpecFlags {
    /// How many
    #[arg(long, value_name = "N")]
    pub replicas: Option<u32>,
    /// At most so many replicas on one node; 0 = no limit
    #[arg(long, value_name = "N")]
    pub replicas_max_per_node: Option<u32>,
    /// Replaces the image's entry point
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    pub entrypoint: Option<String>,
    /// When to pull the image
    #[arg(long, value_enum)]
    pub pull: Option<PullArg>,
    /// The user: NAME, UID, NAME:GROUP or UID:GID
    #[arg(long, short)]
    pub user: Option<String>,
    /// The working directory
    #[arg(long, short, value_name = "DIR")]
    pub workdir: Option<String>,
    /// The host name; may contain {{.Task.Slot}}, {{.Service.Name}}, {{.Node.Hostname}} and the like
    #[arg(long)]
    pub hostname: Option<String>,
    /// Run an init as process 1
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub init: Option<bool>,
    /// The root file system is read-only
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub read_only: Option<bool>,
    /// The signal that asks it to stop
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// How long connections and requests that are under way may last before it is asked to stop
    #[arg(long, value_name = "DURATION")]
    pub drain: Option<String>,
    /// How long it may take to stop before it is killed
    #[arg(long, value_name = "DURATION")]
    pub stop_grace_period: Option<String>,
    /// Size of one log file on the node
    #[arg(long, value_name = "SIZE")]
    pub log_max_size: Option<String>,
    /// Log files kept on the node
    #[arg(long, value_name = "N")]
    pub log_max_files: Option<u32>,

    /// Limit of CPU, in cores
    #[arg(long, value_name = "CORES", help_heading = "Resources")]
    pub limit_cpu: Option<String>,
    /// Limit of memory
    #[arg(long, value_name = "SIZE", help_heading = "Resources")]
    pub limit_memory: Option<String>,
    /// Limit of processes and threads
    #[arg(long, value_name = "N", help_heading = "Resources")]
    pub limit_pids: Option<u32>,
    /// CPU kept free for it, in cores
    #[arg(long, value_name = "CORES", help_heading = "Resources")]
    pub reserve_cpu: Option<String>,
    /// Memory kept free for it
    #[arg(long, value_name = "SIZE", help_heading = "Resources")]
    pub reserve_memory: Option<String>,

    /// When to restart
    #[arg(long, value_enum, help_heading = "Restart")]
    pub restart_condition: Option<ConditionArg>,
    /// The first pause between restarts in a row; it doubles with every failure
    #[arg(long, value_name = "DURATION", help_heading = "Restart")]
    pub restart_delay: Option<String>,
    /// The longest pause between restarts
    #[arg(long, value_name = "DURATION", help_heading = "Restart")]
    pub restart_max_delay: Option<String>,
    /// Give up after so many restarts within the window; 0 = never
    #[arg(long, value_name = "N", help_heading = "Restart")]
    pub restart_max_attempts: Option<u32>,
    /// The span that the attempts are counted in; 0 = for ever
    #[arg(long, value_name = "DURATION", help_heading = "Restart")]
    pub restart_window: Option<String>,
    /// After running so long, the failures count as past
    #[arg(long, value_name = "DURATION", help_heading = "Restart")]
    pub restart_stable_after: Option<String>,

    /// Replicas replaced at the same time
    #[arg(long, value_name = "N", help_heading = "Update")]
    pub update_parallelism: Option<u32>,
    /// Which replica comes first
    #[arg(long, value_enum, help_heading = "Update")]
    pub update_order: Option<OrderArg>,
    /// The pause between two batches
    #[arg(long, value_name = "DURATION", help_heading = "Update")]
    pub update_delay: Option<String>,
    /// How long a healthy new replica is watched before it counts as good
    #[arg(long, value_name = "DURATION", help_heading = "Update")]
    pub update_monitor: Option<String>,
    /// How long a new replica may take to become healthy
    #[arg(long, value_name = "DURATION", help_heading = "Update")]
    pub update_progress_deadline: Option<String>,
    /// What happens when more new replicas fail than may
    #[arg(long, value_enum, help_heading = "Update")]
    pub update_failure_action: Option<FailureActionArg>,
    /// So many replicas, or such a part of them, may fail before that happens
    #[arg(long, value_name = "N|P%", help_heading = "Update")]
    pub update_max_failures: Option<String>,
    /// Such a part of a new replica's requests may be seen to fail by routers while it is watched; 100% = all
    #[arg(long, value_name = "P%", help_heading = "Update")]
    pub update_max_errors: Option<String>,
    /// How long a whole update may take; 0 = what the other settings add up to
    #[arg(long, value_name = "DURATION", help_heading = "Update")]
    pub update_deadline: Option<String>,
    /// First so many replicas, or such a part of them, and the others when these were good; 0 = none
    #[arg(long, value_name = "N|P%", help_heading = "Update")]
    pub update_canary: Option<String>,
    /// How long the canaries must be good in a row
    #[arg(long, value_name = "DURATION", help_heading = "Update")]
    pub update_canary_soak: Option<String>,
    /// Who lets the others follow
    #[arg(long, value_enum, help_heading = "Update")]
    pub update_canary_promotion: Option<PromotionArg>,
    /// Releases kept for `service history` and `service rollback --to`
    #[arg(long, value_name = "N", help_heading = "Update")]
    pub update_history: Option<u32>,
    /// What runs before a release.
    #[command(flatten)]
    pub hook: HookFlags,
    /// Power over the node.
    #[command(flatten)]
    pub security: SecurityFlags,

    /// The command of the health check, run by a shell
    #[arg(long, value_name = "COMMAND", help_heading = "Health", conflicts_with = "no_healthcheck")]
    pub health_cmd: Option<String>,
    /// Between two checks
    #[arg(long, value_name = "DURATION", help_heading = "Health", conflicts_with = "no_healthcheck")]
    pub health_interval: Option<String>,
    /// For one check
    #[arg(long, value_name = "DURATION", help_heading = "Health", conflicts_with = "no_healthcheck")]
    pub health_timeout: Option<String>,
    /// Failures in a row until it counts as unhealthy
    #[arg(long, value_name = "N", help_heading = "Health", conflicts_with = "no_healthcheck")]
    pub health_retries: Option<u32>,
    /// Failures during this time after the start do not count
    #[arg(long, value_name = "DURATION", help_heading = "Health", conflicts_with = "no_healthcheck")]
    pub health_start_period: Option<String>,
    /// Turn the image's health check off
    #[arg(long, help_heading = "Health")]
    pub no_healthcheck: bool,
    /// Asked by the node until it succeeds; the other probes wait for it: http:PORT/PATH, tcp:PORT, grpc:PORT, exec:COMMAND or none
    ///
    /// Options follow after commas: interval=5s, timeout=2s, failures=3, successes=1, deadline=10m (then the attempt has failed); for http
    /// method=, header=NAME:VALUE, status=200-399, body=REGEX, body-not=REGEX, json=/POINTER:VALUE. exec runs without a shell; a comma within a value is written \,
    #[arg(long, value_name = "PROBE", help_heading = "Health")]
    pub probe_startup: Option<String>,
    /// Whether a replica takes traffic; never restarts it. Written as --probe-startup, such as http:8080/health,body-not=Exception
    #[arg(long, value_name = "PROBE", help_heading = "Health")]
    pub probe_readiness: Option<String>,
    /// Restarts a replica that fails it again and again. Written as --probe-startup
    #[arg(long, value_name = "PROBE", help_heading = "Health")]
    pub probe_liveness: Option<String>,
    /// What an unhealthy replica is asked before it is restarted: signal:SIGQUIT (a JVM prints its threads), exec:COMMAND or none
    ///
    /// within=5s after a comma: how long the program may take, or the process has to print. `orchctl logs TASK` shows what came of it
    #[arg(long, value_name = "QUESTION", help_heading = "Health")]
    pub diagnose: Option<String>,
}

/// `--mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ModeArg {
    /// As many as --replicas says
    Replicated,
    /// One on every node that fits
    Global,
}

choice!(
    /// `--pull`
    PullArg => PullPolicy {
        /// When the node does not have it
        Missing => PullPolicy::Missing,
        /// Before every start
        Always => PullPolicy::Always,
        /// Never
        Never => PullPolicy::Never,
    }
);
choice!(
    /// `--restart-condition`
    ConditionArg => RestartCondition {
        /// Never
        None => RestartCondition::None,
        /// After a failure
        OnFailure => RestartCondition::OnFailure,
        /// Always
        Any => RestartCondition::Any,
    }
);
choice!(
    /// `--update-order`
    OrderArg => UpdateOrder {
        /// The old one stops, then the new one starts
        StopFirst => UpdateOrder::StopFirst,
        /// The new one is healthy before the old one stops
        StartFirst => UpdateOrder::StartFirst,
        /// Start-first where two replicas can live side by side, stop-first elsewhere
        Auto => UpdateOrder::Auto,
    }
);
choice!(
    /// `--update-canary-promotion`
    PromotionArg => Promotion {
        /// The managers, when they were good for long enough
        Automatic => Promotion::Automatic,
        /// A person, by `deploy promote`
        Manual => Promotion::Manual,
    }
);
choice!(
    /// `--update-failure-action`
    FailureActionArg => FailureAction {
        /// Stop here and wait for a person
        Pause => FailureAction::Pause,
        /// Go on
        Continue => FailureAction::Continue,
        /// Return to the previous declaration
        Rollback => FailureAction::Rollback,
    }
);
