//! Commands about the cluster itself: nodes, managers, tokens, contexts, the one-machine cluster.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use model::{
    identity::JoinRole,
    node::{Availability, NodeClass},
};

use super::WaitFlags;

/// `network …`
#[derive(Debug, Subcommand)]
pub enum NetworkCommand {
    /// Make a network: its services reach each other by name
    Create {
        /// Its name: a-z, 0-9 and -, at most 63 letters
        name: String,
        /// A label
        #[arg(long, short, value_name = "KEY=VALUE", value_parser = crate::value::pair)]
        label: Vec<(String, String)>,
    },
    /// List networks
    Ls {
        /// Print ids only
        #[arg(long, short)]
        quiet: bool,
    },
    /// Show a network: its addresses and who is in it
    Inspect {
        /// Name, id, or the beginning of an id
        network: String,
    },
    /// Forget networks that no service is in
    #[command(visible_alias = "remove")]
    Rm {
        /// Names, ids, or beginnings of ids
        #[arg(required = true)]
        networks: Vec<String>,
    },
    /// Where the addresses of networks come from
    #[command(subcommand)]
    Pool(PoolCommand),
}

/// `network pool …`
#[derive(Debug, Subcommand)]
pub enum PoolCommand {
    /// Show it, and how much of it is taken
    Show,
    /// Change it: new networks get their /16 out of it; those that there are have to lie in it
    Set {
        /// A prefix of private addresses, /8 to /16, such as 10.64.0.0/10
        #[arg(value_name = "ADDRESSES", value_parser = crate::value::pool)]
        pool: model::network::AddressPool,
    },
}

/// `node …`
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// List nodes
    Ls {
        /// Print ids only
        #[arg(long, short)]
        quiet: bool,
    },
    /// Show everything about a node
    Inspect {
        /// Name, id, or the beginning of an id
        node: String,
    },
    /// Change availability, class and labels
    Update(NodeUpdate),
    /// Move all tasks elsewhere and take no new one
    Drain {
        /// Name, id, or the beginning of an id
        node: String,
        /// Why it is drained although it is frozen
        #[arg(long, value_name = "REASON")]
        despite_freeze: Option<String>,
        /// How to wait.
        #[command(flatten)]
        wait: WaitFlags,
    },
    /// Take tasks again
    Activate {
        /// Name, id, or the beginning of an id
        node: String,
    },
    /// Keep the tasks, take no new one
    Pause {
        /// Name, id, or the beginning of an id
        node: String,
    },
    /// Forget a node
    Rm {
        /// Names, ids, or beginnings of ids
        #[arg(required = true)]
        nodes: Vec<String>,
        /// Although it is up: its containers go on until its agent notices
        #[arg(long, short)]
        force: bool,
    },
}

/// `node update`
#[derive(Debug, Args)]
pub struct NodeUpdate {
    /// Name, id, or the beginning of an id
    pub node: String,
    /// Whether it takes tasks
    #[arg(long, value_enum)]
    pub availability: Option<AvailabilityArg>,
    /// How patient the managers are with its silence
    #[arg(long, value_enum)]
    pub class: Option<ClassArg>,
    /// Set a label
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::value::pair)]
    pub label_add: Vec<(String, String)>,
    /// Remove a label
    #[arg(long, value_name = "KEY")]
    pub label_rm: Vec<String>,
    /// Why it is drained although it is frozen
    #[arg(long, value_name = "REASON")]
    pub despite_freeze: Option<String>,
}

/// `manager …`
#[derive(Debug, Subcommand)]
pub enum ManagerCommand {
    /// List managers
    Ls {
        /// Print ids only
        #[arg(long, short)]
        quiet: bool,
    },
    /// Hand the lead to another manager
    Transfer {
        /// Name or id; without it, the most advanced follower
        to: Option<String>,
    },
    /// Say whether managers that join wait for an administrator, or show it
    Approval {
        /// on: they wait; off: their token is enough
        switch: Option<SwitchArg>,
    },
    /// List managers that wait to join
    Pending,
    /// Let a manager join that waits: compare its fingerprint first
    Approve {
        /// Its name, or the beginning of its fingerprint
        manager: String,
    },
    /// Refuse a manager that waits to join
    Deny {
        /// Its name, or the beginning of its fingerprint
        manager: String,
    },
    /// Take a manager out of the group for good
    #[command(visible_alias = "rm")]
    Remove {
        /// Name or id
        manager: String,
    },
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SwitchArg {
    /// On
    On,
    /// Off
    Off,
}

/// `token …`
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token that admits a node (or a manager)
    Create(TokenCreate),
    /// List tokens, without their secrets
    Ls {
        /// Print ids only
        #[arg(long, short)]
        quiet: bool,
    },
    /// End tokens
    #[command(visible_alias = "rm")]
    Revoke {
        /// Ids
        #[arg(required = true)]
        tokens: Vec<String>,
    },
}

/// `token create`
#[derive(Debug, Args)]
pub struct TokenCreate {
    /// What it admits
    #[arg(long, value_enum, default_value = "agent")]
    pub role: RoleArg,
    /// How long it lives, at most 30d
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = crate::value::duration)]
    pub ttl: Duration,
    /// How often it may be used
    #[arg(long, default_value_t = 1)]
    pub uses: u32,
    /// The class that a node gets
    #[arg(long, value_enum)]
    pub class: Option<ClassArg>,
    /// A label that a node gets
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::value::pair)]
    pub label: Vec<(String, String)>,
    /// Print the token only
    #[arg(long, short)]
    pub quiet: bool,
}

/// `context …`
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// List contexts
    Ls {
        /// Print names only
        #[arg(long, short)]
        quiet: bool,
    },
    /// Choose the one that commands use
    Use {
        /// Its name
        name: String,
    },
    /// Show one, without its key
    Show {
        /// Its name; without it, the current one
        name: Option<String>,
    },
    /// Replace the certificate, while it is valid, by one over a new key with a life of its own
    Renew {
        /// Its name; without it, the current one
        name: Option<String>,
    },
    /// Forget contexts
    Rm {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Add the contexts of a file, as orch-manager init writes it
    Import {
        /// The file
        file: PathBuf,
        /// Under this name, when the file holds one context
        #[arg(long)]
        name: Option<String>,
        /// Replace what is there under the same name
        #[arg(long, short)]
        force: bool,
    },
    /// Add a context from its parts
    Add {
        /// Its name
        name: String,
        /// A manager, host:port; may be given several times
        #[arg(long, required = true, value_name = "HOST:PORT")]
        manager: Vec<String>,
        /// The authority's certificate, a PEM file
        #[arg(long, value_name = "FILE")]
        ca: PathBuf,
        /// The operator's certificate, a PEM file
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
        /// Its key, a PEM file
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Replace what is there under the same name
        #[arg(long, short)]
        force: bool,
    },
}

/// `dev …`
#[derive(Debug, Subcommand)]
pub enum DevCommand {
    /// Start a manager and an agent here and make their context the current one
    Up {
        /// Where everything is kept
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// The manager's port on 127.0.0.1; without it, a free one
        #[arg(long)]
        port: Option<u16>,
    },
    /// Stop both, and remove what they and `dev up` made; volumes that the engine made by name stay
    Down {
        /// Where everything is kept
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Only stop the processes: the next `dev up` goes on from here
        #[arg(long)]
        keep_data: bool,
    },
    /// Show whether both run
    Status {
        /// Where everything is kept
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident => $model:ty { $($(#[$help:meta])* $variant:ident => $value:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
        pub enum $name {
            $($(#[$help])* $variant,)*
        }

        impl From<$name> for $model {
            fn from(choice: $name) -> Self {
                match choice {
                    $($name::$variant => $value,)*
                }
            }
        }
    };
}

pub(super) use choice;

choice!(
    /// An availability.
    AvailabilityArg => Availability {
        /// Takes new tasks
        Active => Availability::Active,
        /// Keeps its tasks, takes no new one
        Pause => Availability::Pause,
        /// Its tasks move elsewhere
        Drain => Availability::Drain,
    }
);
choice!(
    /// A node class.
    ClassArg => NodeClass {
        /// Always on: its tasks move soon after it falls silent
        Server => NodeClass::Server,
        /// May be off: a longer patience
        Workstation => NodeClass::Workstation,
    }
);
choice!(
    /// What a token admits.
    RoleArg => JoinRole {
        /// A node's agent
        Agent => JoinRole::Agent,
        /// Another manager
        Manager => JoinRole::Manager,
    }
);
