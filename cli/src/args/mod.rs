//! The command line: every command and flag, with the help that users read.
//!
//! Flags of services use Docker Swarm's words. Values that have problems of their own (sizes, durations, mounts) are
//! taken as text here and read in `spec`, so that all of them are reported at once.

mod audit;
mod authority;
mod cluster;
mod deploy;
mod deploy_token;
mod freeze;
mod hook;
mod item;
mod job;
mod login;
mod pipeline;
mod policy;
mod registry;
mod security;
mod service;
mod user;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use model::event::Revision;

pub use audit::{AuditCommand, AuditLs};
pub use authority::AuthorityCommand;
pub use cluster::{
    AvailabilityArg, ClassArg, ContextCommand, DevCommand, ManagerCommand, NetworkCommand, NodeCommand,
    NodeUpdate, PoolCommand, RoleArg, SwitchArg, TokenCommand, TokenCreate,
};
pub use deploy::{Deploy, DeployCommand, DeployRelease, Steer};
pub use deploy_token::{DeployTokenCommand, DeployTokenCreate};
pub use freeze::{FreezeCommand, FreezeSet};
pub use hook::HookFlags;
pub use item::{ConfigCommand, ItemCreate, ItemUpdate, SecretCommand};
pub use job::{CronCommand, CronSet, JobCommand, JobCreate, JobFlags, OnLostArg, OverlapArg, Run};
pub use login::{Login, LoginMethodCommand, LoginMethodSet, Logout};
pub use pipeline::{BindingCommand, BindingCreate, IssuerCommand, IssuerSet, RefTypeArg};
pub use policy::{GrantFlags, PolicyCommand, PolicySet};
pub use registry::{RegistryCommand, RegistrySet};
pub use security::{NamespaceArg, SecurityFlags};
pub use service::{
    ConditionArg, Create, CreateLists, FailureActionArg, ModeArg, OrderArg, PullArg, ServiceCommand,
    SpecFlags, Update, UpdateLists,
};
pub use user::{CanI, Out, UserCommand, UserCreate, UserUpdate};

/// Talks to an Orch cluster.
#[derive(Debug, Parser)]
#[command(name = "orchctl", version, propagate_version = true, max_term_width = 110)]
#[command(
    after_help = "Exit codes: 0 done, 1 error, 2 invalid, 3 rolled back or paused, 4 denied, 5 busy or conflict, \
                        6 frozen, 7 deadline, 130 interrupted."
)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// Use this context instead of the current one.
    #[arg(long, global = true, env = "ORCH_CONTEXT", value_name = "NAME", help_heading = "Global")]
    pub context: Option<String>,
    /// Ask the manager on this machine through its local socket, as root: no context and no certificate is needed
    #[arg(long, global = true, env = "ORCH_SOCKET", value_name = "PATH", help_heading = "Global")]
    pub socket: Option<PathBuf>,
    /// With an ID token (ORCH_ID_TOKEN): the deploy binding to ask by, where several let the job in
    #[arg(long, global = true, env = "ORCH_BINDING", value_name = "NAME", help_heading = "Global")]
    pub binding: Option<String>,
    /// Print JSON: one document, or one per line where it streams.
    #[arg(long, global = true, help_heading = "Global")]
    pub json: bool,
    /// Answer reads from what one manager has, possibly outdated; works without a quorum.
    #[arg(long, global = true, help_heading = "Global")]
    pub stale: bool,
    /// Wait at most so long for everything together (default: 10m for changes that are waited for, 15s otherwise).
    #[arg(long, global = true, value_name = "DURATION", value_parser = crate::value::duration, help_heading = "Global")]
    pub timeout: Option<Duration>,
}

/// How a changing command waits.
#[derive(Debug, Clone, Default, Args)]
pub struct WaitFlags {
    /// Return as soon as the cluster has accepted the change.
    #[arg(long, short)]
    pub detach: bool,
    /// Print the id only, and no progress.
    #[arg(long, short)]
    pub quiet: bool,
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create, change, look at and remove services
    #[command(subcommand, visible_alias = "services")]
    Service(ServiceCommand),
    /// Bring a new image of a service into production, and watch it land
    Deploy(Box<Deploy>),
    /// Run something once, print what it writes, and end with its exit code
    Run(Box<Run>),
    /// Run things to their end
    #[command(subcommand, visible_alias = "jobs")]
    Job(JobCommand),
    /// Run jobs by the clock
    #[command(subcommand, visible_alias = "crons")]
    Cron(CronCommand),
    /// Set replica counts: orchctl scale ispyb=3 web=2
    Scale(Scale),
    /// Look at and change nodes
    #[command(subcommand, visible_alias = "nodes")]
    Node(NodeCommand),
    /// Leave nodes alone for a time, such as beam time
    #[command(subcommand, visible_alias = "freezes")]
    Freeze(FreezeCommand),
    /// Declare registries of images: logins for all nodes, private authorities
    #[command(subcommand, visible_alias = "registries")]
    Registry(RegistryCommand),
    /// Say what services may ask for: images, power over nodes, amounts
    #[command(subcommand, visible_alias = "policies")]
    Policy(PolicyCommand),
    /// Keep passwords and keys, and mount them into containers
    #[command(subcommand, visible_alias = "secrets")]
    Secret(SecretCommand),
    /// Keep configuration files, and mount them into containers
    #[command(subcommand, visible_alias = "configs")]
    Config(ConfigCommand),
    /// Make, list and remove networks of services
    #[command(subcommand, visible_alias = "networks")]
    Network(NetworkCommand),
    /// Look at and change managers
    #[command(subcommand, visible_alias = "managers")]
    Manager(ManagerCommand),
    /// Look at the authority that issues all certificates, and replace it
    #[command(subcommand, visible_alias = "ca")]
    Authority(AuthorityCommand),
    /// Make, list and revoke join tokens
    #[command(subcommand, visible_alias = "tokens")]
    Token(TokenCommand),
    /// Make, change and remove users: who may do what
    #[command(subcommand, visible_alias = "users")]
    User(UserCommand),
    /// Log in with one's password or in a browser, and get a certificate for some hours
    #[command(
        after_help = "Examples:\n  orchctl login --manager m1.example --ca-fingerprint 3f…   # the first time\n  \
                      orchctl login                                           # from then on"
    )]
    Login(Login),
    /// Remove the key and the certificate that came by a login
    Logout(Logout),
    /// Declare how people log in: directories, and which groups have which roles
    #[command(subcommand, visible_alias = "login-methods")]
    LoginMethod(LoginMethodCommand),
    /// Show who one is, which roles one has, and until when
    Whoami,
    /// Ask whether one may do something: exit code 0 yes, 4 no
    #[command(
        after_help = "Examples:\n  orchctl can-i deploy ispyb\n  orchctl can-i drain n1\n  orchctl can-i --list"
    )]
    CanI(CanI),
    /// Make, list and remove tokens with which a pipeline deploys one service
    #[command(subcommand, visible_alias = "deploy-tokens")]
    DeployToken(DeployTokenCommand),
    /// Make, list and remove bindings by which jobs of a GitLab project deploy one service
    #[command(subcommand, visible_alias = "deploy-bindings")]
    DeployBinding(BindingCommand),
    /// Declare who signs ID tokens, such as a GitLab
    #[command(subcommand, visible_alias = "issuers")]
    Issuer(IssuerCommand),
    /// Look at, check and export the record of everything that was done or refused
    #[command(subcommand)]
    Audit(AuditCommand),
    /// List the tasks of all services
    Ps(Ps),
    /// Print logs of a service or a task
    Logs(Logs),
    /// Print what happens, as it happens
    Events(Events),
    /// Show quorum, leader, versions, and anything that waits
    Status,
    /// Explain why a service, task or node is as it is
    Why {
        /// A service, task or node
        reference: String,
    },
    /// Choose and manage clusters to talk to
    #[command(subcommand)]
    Context(ContextCommand),
    /// Run a whole cluster on this machine
    #[command(subcommand)]
    Dev(DevCommand),
    /// Print a script that completes commands in a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write manual pages into a directory
    Man {
        /// The directory
        dir: PathBuf,
    },
    /// Print the version
    Version,
}

/// `scale`
#[derive(Debug, Args)]
pub struct Scale {
    /// SERVICE=REPLICAS, all or none
    #[arg(required = true, value_name = "SERVICE=REPLICAS")]
    pub targets: Vec<String>,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitFlags,
}

/// `ps`
#[derive(Debug, Default, Args)]
pub struct Ps {
    /// Only tasks of this service
    #[arg(long)]
    pub service: Option<String>,
    /// Only tasks on this node
    #[arg(long)]
    pub node: Option<String>,
    /// Ended tasks too
    #[arg(long, short)]
    pub all: bool,
    /// Print ids only
    #[arg(long, short)]
    pub quiet: bool,
}

/// `logs`
#[derive(Debug, Args)]
pub struct Logs {
    /// A service or a task
    pub of: String,
    /// Go on as new lines come
    #[arg(long, short)]
    pub follow: bool,
    /// Only the last so many lines of each task
    #[arg(long, short = 'n', value_name = "LINES")]
    pub tail: Option<u32>,
    /// Only lines of the last so long
    #[arg(long, value_name = "DURATION", value_parser = crate::value::duration)]
    pub since: Option<Duration>,
    /// Begin lines with the engine's time stamp
    #[arg(long, short)]
    pub timestamps: bool,
    /// Print lines without the task that they come from
    #[arg(long)]
    pub no_prefix: bool,
}

/// `events`
#[derive(Debug, Args)]
pub struct Events {
    /// Begin after this revision, as an earlier run printed it; without --follow, end at the present
    #[arg(long, value_name = "REV", value_parser = parse_revision)]
    pub after: Option<Revision>,
    /// Go on as things happen (the default without --after)
    #[arg(long, short)]
    pub follow: bool,
}

fn parse_revision(text: &str) -> Result<Revision, String> {
    text.parse()
}
