//! The command line.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use model::{id::MemberId, request::ApiError};

use crate::{init, join, keyring::Lock, membership, recover, run, unlock};

/// Where a manager keeps its data unless told otherwise.
const DEFAULT_DIR: &str = "/var/lib/orch-manager";

/// Keeps the desired state of an Orch cluster, replicated through Raft, and decides what runs where.
#[derive(Debug, Parser)]
#[command(name = "orch-manager", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Dir {
    /// The data directory.
    #[arg(long, default_value = DEFAULT_DIR, env = "ORCH_MANAGER_DIR")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct Place {
    /// This manager's name, for people [default: the host's name].
    #[arg(long)]
    name: Option<String>,
    /// Where other managers, agents and clients reach it: HOST[:PORT] [default: the host's name, port 7420].
    #[arg(long)]
    address: Option<String>,
    /// Where it listens: ADDRESS[:PORT] [default: every address, on the port of --address].
    #[arg(long)]
    listen: Option<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct LockBy {
    /// A passphrase, typed after each start with `orch-manager unlock`.
    #[arg(long)]
    passphrase: bool,
    /// The credential orch-unlock of the service manager (systemd: LoadCredentialEncrypted=), 32 random bytes or more.
    #[arg(long)]
    credential: bool,
    /// A new key file in the data directory.
    #[arg(long)]
    key_file: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Found a new cluster with this machine as its first manager.
    Init {
        #[command(flatten)]
        dir: Dir,
        #[command(flatten)]
        place: Place,
        /// Write the admin's context to this file alone [default: into orchctl's own context file].
        #[arg(long)]
        context_out: Option<PathBuf>,
    },
    /// Make this machine another manager of an existing cluster.
    Join {
        #[command(flatten)]
        dir: Dir,
        #[command(flatten)]
        place: Place,
        /// A manager's join token, from `orchctl token create --role manager`.
        #[arg(long, env = "ORCH_TOKEN", hide_env_values = true)]
        token: String,
        /// Managers of the cluster, HOST[:PORT]; may be given several times.
        #[arg(long = "manager", required = true, value_delimiter = ',')]
        managers: Vec<String>,
    },
    /// Run the manager until it gets SIGTERM.
    Run {
        #[command(flatten)]
        dir: Dir,
    },
    /// Take this manager out of its cluster.
    Leave {
        #[command(flatten)]
        dir: Dir,
    },
    /// Hand the lead over to another manager, if this one leads or not.
    Transfer {
        #[command(flatten)]
        dir: Dir,
        /// To this member's id [default: whoever is most advanced].
        #[arg(long)]
        to: Option<MemberId>,
    },
    /// Make a cluster of one member from this manager's disk, when the majority is lost for good.
    ///
    /// What the lost majority acknowledged without this member is lost. The other members must never be started again
    /// with their old data.
    Recover {
        #[command(flatten)]
        dir: Dir,
        /// Where the survivor is reached [default: as before].
        #[arg(long)]
        address: Option<String>,
        /// Confirms that the other managers will not come back.
        #[arg(long)]
        others_are_gone: bool,
    },
    /// Give a manager that is locked with a passphrase that passphrase: it is asked for, or read from standard input.
    Unlock {
        #[command(flatten)]
        dir: Dir,
    },
    /// Choose what opens the keys of a stopped manager, with which secrets are sealed.
    ///
    /// By default that is a key file beside them: it protects secrets in copies of the log, of snapshots and of backups that leave
    /// it out, and not against whoever has the whole disk. Do the same on every manager.
    Lock {
        #[command(flatten)]
        dir: Dir,
        #[command(flatten)]
        by: LockBy,
    },
    /// Verify a stopped manager's log and snapshot, and say what is found.
    Check {
        #[command(flatten)]
        dir: Dir,
    },
}

/// Parses the command line and does what it says.
pub fn execute() -> Result<()> {
    match Cli::parse().command {
        Command::Init { dir, place, context_out } => init::init(&init::InitArgs {
            dir: dir.dir,
            name: place.name()?,
            address: place.address()?,
            listen: place.listen,
            context_out,
        }),
        Command::Join { dir, place, token, managers } => block_on(join::join(&join::JoinArgs {
            dir: dir.dir,
            token,
            managers,
            name: place.name()?,
            address: place.address()?,
            listen: place.listen,
        })),
        Command::Run { dir } => block_on(run::run(&dir.dir)),
        Command::Leave { dir } => block_on(membership::leave(&dir.dir)),
        Command::Transfer { dir, to } => block_on(membership::transfer(&dir.dir, to)),
        Command::Recover { dir, address, others_are_gone } => {
            if !others_are_gone {
                bail!(
                    "recover makes a new cluster of one from this disk; what the others acknowledged without this \
                     member is lost. If no majority of the managers can be started any more, add --others-are-gone"
                );
            }
            recover::recover(&dir.dir, address.as_deref())
        }
        Command::Unlock { dir } => block_on(unlock::unlock(&dir.dir)),
        Command::Lock { dir, by } => {
            let lock = match (by.passphrase, by.credential) {
                (true, _) => Lock::Passphrase,
                (false, true) => Lock::Credential,
                (false, false) => Lock::File,
            };
            block_on(unlock::relock(&dir.dir, lock))
        }
        Command::Check { dir } => check(&dir.dir),
    }
}

/// The exit code of a failure: the API's own for a refusal, else 1.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    error
        .chain()
        .find_map(|cause| cause.downcast_ref::<ApiError>())
        .map_or(1, |refusal| refusal.code.exit_code())
}

impl Place {
    fn name(&self) -> Result<String> {
        let host = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        let name = self.name.clone().unwrap_or_else(host);
        if name.is_empty() {
            bail!("--name: this host has no name; say one");
        }
        Ok(name)
    }

    fn address(&self) -> Result<String> {
        self.address.clone().map_or_else(|| self.name(), Ok)
    }
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(work)
}

fn check(root: &std::path::Path) -> Result<()> {
    let dir = crate::dir::DataDir::new(root);
    let identity = dir.identity()?;
    println!("Manager {} ({}) of cluster {}.", identity.member, identity.name, identity.cluster);
    let disk = wal::FileDisk::existing(dir.raft())
        .with_context(|| format!("cannot open {}", dir.raft().display()))?;
    let report = wal::check(Arc::new(disk));
    print!("{report}");
    if report.intact { Ok(()) } else { bail!("the log in {} is not usable", dir.raft().display()) }
}
