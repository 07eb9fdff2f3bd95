//! `policy …`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use model::{
    policy::PortRange,
    signature::{PublicKey, SignerIdentity},
};

/// `policy …`
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Declare what services may ask for
    ///
    /// With --file, in place of the policy of its name. Without, flags add to the policy of that name, if there is one.
    ///
    /// Examples:
    ///
    ///   orchctl policy set grants-backup --service backup --grant-bind /etc:ro
    ///
    ///   orchctl policy set team-mx --service 'mx-*' --image 'registry.example/mx/*' --digest --max-replicas 10
    ///
    ///   orchctl policy set team-mx --require-signed-by cosign.pub
    ///
    ///   orchctl policy set --file team-mx.toml --dry-run
    #[command(verbatim_doc_comment)]
    Set(Box<PolicySet>),
    /// List policies
    Ls {
        /// Print names only
        #[arg(long, short)]
        quiet: bool,
    },
    /// Show a policy
    Inspect {
        /// Its name
        name: String,
        /// Print the declaration only, as a file for `policy set --file`
        #[arg(long)]
        spec: bool,
    },
    /// Forget policies; what runs goes on
    #[command(visible_alias = "remove")]
    Rm {
        /// Names
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// List what runs or is scheduled, and would be refused if it came today; exit code 4 when there is any
    Check {
        /// As if this policy were declared too
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// `policy set`
#[derive(Debug, Default, Args)]
pub struct PolicySet {
    /// Its name: a-z, 0-9 and -, at most 63 letters
    #[arg(required_unless_present = "file")]
    pub name: Option<String>,
    /// Take the declaration from a TOML or JSON file; other flags apply on top of it; - is standard input
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Say what of what runs would be refused, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Whom to ask, for whoever is refused
    #[arg(long, value_name = "TEXT")]
    pub contact: Option<String>,

    /// About services of this name; a * at the end stands for anything. All services when neither this nor --label is said
    #[arg(long, value_name = "NAME", help_heading = "Services")]
    pub service: Vec<String>,
    /// About services with this label
    #[arg(long, value_name = "KEY=VALUE", value_parser = crate::value::pair, help_heading = "Services")]
    pub label: Vec<(String, String)>,
    /// But not about services of this name
    #[arg(long, value_name = "NAME", help_heading = "Services")]
    pub except: Vec<String>,

    /// Only images of this repository: HOST/PATH, or HOST/PATH/* for all below
    #[arg(long, value_name = "REPOSITORY", help_heading = "Rules")]
    pub image: Vec<String>,
    /// Only images by digest
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true, help_heading = "Rules")]
    pub digest: Option<bool>,
    /// Only images with a signature of cosign by the public key in this PEM file, or by another one that the policy names
    #[arg(long, value_name = "FILE", value_parser = crate::value::public_key, help_heading = "Rules")]
    pub require_signed_by: Vec<PublicKey>,
    /// Only images with a signature of cosign by this identity, or another one that the policy names: whom an identity provider
    /// vouched for (a * at the end stands for anything), in a certificate of this authority (Fulcio's, PEM), recorded by this log
    /// (Rekor's key, PEM)
    #[arg(long, value_name = "issuer=URL,subject=TEXT,authority=FILE,log=FILE", value_parser = crate::value::signer_identity, help_heading = "Rules")]
    pub require_signed_by_identity: Vec<SignerIdentity>,
    /// A constraint that they have to declare, such as node.labels.beamline==id23-1
    #[arg(long, value_name = "CONSTRAINT", help_heading = "Rules")]
    pub constraint: Vec<String>,
    /// A path that they may not mount, with all below
    #[arg(long, value_name = "PATH", help_heading = "Rules")]
    pub forbid_bind: Vec<String>,
    /// Ports that they may not publish: 8080 or 1-1023
    #[arg(long, value_name = "PORTS", help_heading = "Rules")]
    pub forbid_port: Vec<PortRange>,
    /// A label of nodes that they may not ask for
    #[arg(long, value_name = "KEY[=VALUE]", help_heading = "Rules")]
    pub forbid_node_label: Vec<String>,
    /// Replicas at most; 0 = no cap
    #[arg(long, value_name = "N", help_heading = "Rules")]
    pub max_replicas: Option<u32>,
    /// The memory limit of a replica at most; 0 = no cap
    #[arg(long, value_name = "SIZE", value_parser = crate::value::bytes, help_heading = "Rules")]
    pub max_memory: Option<u64>,
    /// The memory limits of all replicas together at most; 0 = no cap
    #[arg(long, value_name = "SIZE", value_parser = crate::value::bytes, help_heading = "Rules")]
    pub max_memory_total: Option<u64>,
    /// Connections to databases of all replicas together at most, as services declare them; 0 = no cap
    #[arg(long, value_name = "N", help_heading = "Rules")]
    pub max_connections: Option<u32>,

    /// What is granted.
    #[command(flatten)]
    pub grants: GrantFlags,
}

/// What `policy set` grants to the services that it names.
#[derive(Debug, Default, Args)]
pub struct GrantFlags {
    /// Everything that --privileged means
    #[arg(long, help_heading = "Grants, to services that --service names")]
    pub grant_privileged: bool,
    /// A capability, or ALL
    #[arg(long, value_name = "CAPABILITY", help_heading = "Grants, to services that --service names")]
    pub grant_cap: Vec<String>,
    /// A device; with a / at the end all below
    #[arg(long, value_name = "PATH", help_heading = "Grants, to services that --service names")]
    pub grant_device: Vec<String>,
    /// The node's network
    #[arg(long, help_heading = "Grants, to services that --service names")]
    pub grant_network_host: bool,
    /// The node's processes
    #[arg(long, help_heading = "Grants, to services that --service names")]
    pub grant_pid_host: bool,
    /// The node's shared memory
    #[arg(long, help_heading = "Grants, to services that --service names")]
    pub grant_ipc_host: bool,
    /// No seccomp profile
    #[arg(long, help_heading = "Grants, to services that --service names")]
    pub grant_seccomp_unconfined: bool,
    /// No AppArmor profile
    #[arg(long, help_heading = "Grants, to services that --service names")]
    pub grant_apparmor_unconfined: bool,
    /// Programs such as sudo
    #[arg(long, help_heading = "Grants, to services that --service names")]
    pub grant_new_privileges: bool,
    /// A path with all below; with :ro behind for reading only
    #[arg(long, value_name = "PATH[:ro]", help_heading = "Grants, to services that --service names")]
    pub grant_bind: Vec<String>,
    /// Ports that are forbidden otherwise
    #[arg(long, value_name = "PORTS", help_heading = "Grants, to services that --service names")]
    pub grant_port: Vec<PortRange>,
    /// A label of nodes that is forbidden otherwise
    #[arg(long, value_name = "KEY[=VALUE]", help_heading = "Grants, to services that --service names")]
    pub grant_node_label: Vec<String>,
}
