//! Users, and what one may do.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use model::access::{UserRole, Verb};

/// `user …`
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Make a user with a certificate, and write the context that the person imports
    #[command(
        after_help = "Examples:\n  orchctl user create ann --role team:ispyb --role viewer --ttl 7d\n  \
                            orchctl user create ci-mx --role team:app=mx --out ci-mx.toml\n  \
                            orchctl user create id23 --role beamline:beamline=id23-1\n\n\
                            The person then: orchctl context import ann.context.toml"
    )]
    Create(UserCreate),
    /// List users
    Ls {
        /// Print names only
        #[arg(long, short)]
        quiet: bool,
    },
    /// Show a user
    Inspect {
        /// Name or id
        user: String,
    },
    /// Change roles, the life of certificates, or whether the user is let in; holds at once
    Update(UserUpdate),
    /// Make another certificate for a user, over a new key
    Certificate {
        /// Name or id
        user: String,
        /// Where the context goes.
        #[command(flatten)]
        out: Out,
    },
    /// Forget users: their certificates are refused and their streams cut at once
    #[command(visible_alias = "remove")]
    Rm {
        /// Names or ids
        #[arg(required = true)]
        users: Vec<String>,
    },
}

/// Where a new context goes.
#[derive(Debug, Args)]
pub struct Out {
    /// Write the context with its key to this file (default: NAME.context.toml here)
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace the file
    #[arg(long, short)]
    pub force: bool,
}

/// `user create`
#[derive(Debug, Args)]
pub struct UserCreate {
    /// Its name: letters, digits, . _ - and @
    pub name: String,
    /// admin, operator, viewer, team:SERVICE, team:LABEL=VALUE or beamline:LABEL=VALUE; may be given several times
    #[arg(long, required = true, value_name = "ROLE")]
    pub role: Vec<UserRole>,
    /// How long each certificate lives, at most 30d
    #[arg(long, default_value = "12h", value_name = "DURATION", value_parser = crate::value::duration)]
    pub ttl: Duration,
    /// Where the context goes.
    #[command(flatten)]
    pub out: Out,
}

/// `user update`
#[derive(Debug, Args)]
pub struct UserUpdate {
    /// Name or id
    pub user: String,
    /// The roles from now on, in place of all there were; may be given several times
    #[arg(long, value_name = "ROLE")]
    pub role: Vec<UserRole>,
    /// How long certificates live that are made from now on, at most 30d
    #[arg(long, value_name = "DURATION", value_parser = crate::value::duration)]
    pub ttl: Option<Duration>,
    /// Refuse everything until it is enabled again
    #[arg(long, conflicts_with = "enable")]
    pub disable: bool,
    /// Let it in again
    #[arg(long)]
    pub enable: bool,
}

/// `can-i`
#[derive(Debug, Args)]
pub struct CanI {
    /// What: read, logs, create, update, deploy, scale, rollback, remove, drain, freeze, networks, nodes, tokens, users,
    /// registries, settings or managers
    #[arg(required_unless_present = "list")]
    pub verb: Option<Verb>,
    /// On what: a service, task or node; LABEL=VALUE for create and freeze; without it, on anything at all
    pub object: Option<String>,
    /// List everything instead
    #[arg(long, conflicts_with = "verb")]
    pub list: bool,
}
