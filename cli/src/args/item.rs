//! `secret …` and `config …`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::WaitFlags;

/// `secret …`
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Make a secret from a file or standard input; containers see it as a file
    #[command(after_help = "Examples:\n  orchctl secret create db-password ./password.txt\n  \
                            openssl rand -base64 24 | orchctl secret create db-password -\n  \
                            orchctl service update --secret-add db-password,mode=0400,uid=1000 ispyb")]
    Create(ItemCreate),
    /// Give a secret a new value; the services that mount it get it as a release, one replica after the other
    #[command(after_help = "The way back: orchctl service rollback SERVICE brings the old value back.")]
    Update(ItemUpdate),
    /// List secrets, without their values
    Ls {
        /// Print names only
        #[arg(long, short)]
        quiet: bool,
    },
    /// Show a secret's versions and who mounts them; nobody can read its value back
    Inspect {
        /// Its name
        name: String,
    },
    /// Forget secrets that nothing mounts
    #[command(visible_alias = "remove")]
    Rm {
        /// Names
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Show what secrets and configs are sealed with among the managers
    Keys,
    /// Seal everything with a new data key, and forget the old one
    RotateKey {
        /// Return as soon as the cluster has accepted it
        #[arg(long, short)]
        detach: bool,
    },
}

/// `config …`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Make a config from a file or standard input; containers see it as a file
    #[command(after_help = "Examples:\n  orchctl config create ispyb.xml ./ispyb.xml\n  \
                            orchctl config create --template app.conf ./app.conf   # {{ task.slot }}, {{ secret \"db\" }}\n  \
                            orchctl service update --config-add app.conf,target=/etc/app.conf ispyb")]
    Create {
        /// Everything that secrets have too.
        #[command(flatten)]
        create: ItemCreate,
        /// Fill in {{ service.name }}, {{ task.slot }}, {{ task.id }}, {{ node.hostname }}, {{ node.id }}, {{ node.labels.KEY }} and
        /// {{ secret "NAME" }} for each task
        #[arg(long)]
        template: bool,
    },
    /// Give a config a new value; the services that mount it get it as a release, one replica after the other
    Update(ItemUpdate),
    /// List configs
    Ls {
        /// Print names only
        #[arg(long, short)]
        quiet: bool,
    },
    /// Show a config: its versions, who mounts them, and its newest value
    Inspect {
        /// Its name
        name: String,
        /// Print the value only, as it is
        #[arg(long)]
        value: bool,
    },
    /// Forget configs that nothing mounts
    #[command(visible_alias = "remove")]
    Rm {
        /// Names
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// `secret create`
#[derive(Debug, Args)]
pub struct ItemCreate {
    /// A label
    #[arg(long, short, value_name = "KEY=VALUE")]
    pub label: Vec<String>,
    /// Its name: 1 to 64 letters, digits, _ . and -
    pub name: String,
    /// The file with the value; - for standard input
    pub file: PathBuf,
}

/// `secret update`
#[derive(Debug, Args)]
pub struct ItemUpdate {
    /// Its name
    pub name: String,
    /// The file with the value; - for standard input
    pub file: PathBuf,
    /// How to wait.
    #[command(flatten)]
    pub wait: WaitFlags,
}
