//! `registry …`

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `registry …`
#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// Declare a registry of images and how to log in there, in place of what was declared of it
    Set(RegistrySet),
    /// List registries
    Ls {
        /// Print hosts only
        #[arg(long, short)]
        quiet: bool,
    },
    /// Show a registry, without its secret
    Inspect {
        /// Its host, as images name it
        host: String,
    },
    /// Show, or set, how many pulls the nodes of the cluster make at once
    Pulls {
        /// The new bound
        bound: Option<u32>,
    },
    /// Forget registries and their logins
    #[command(visible_alias = "remove")]
    Rm {
        /// Hosts
        #[arg(required = true)]
        hosts: Vec<String>,
    },
}

/// `registry set`
#[derive(Debug, Args)]
pub struct RegistrySet {
    /// HOST or HOST:PORT as images name it; docker.io for Docker's own
    pub host: String,
    /// Log in under this name
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    pub username: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username", conflicts_with = "token_stdin")]
    pub password_stdin: bool,
    /// Log in with an identity token, which is read from standard input
    #[arg(long)]
    pub token_stdin: bool,
    /// Certificates of the authority that vouches for it (PEM)
    #[arg(long, value_name = "FILE", conflicts_with = "plain_http")]
    pub ca: Option<PathBuf>,
    /// It speaks plain HTTP: whoever is on the way reads and changes everything
    #[arg(long)]
    pub plain_http: bool,
    /// Declare it without asking it
    #[arg(long)]
    pub no_check: bool,
}
