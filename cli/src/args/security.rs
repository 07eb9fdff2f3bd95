//! Flags of what a container may do to its node.

use clap::Args;

/// Power over the node, which needs a grant; and what takes power away.
#[derive(Debug, Clone, Default, Args)]
pub struct SecurityFlags {
    /// All power over the node. This and what follows needs a grant of an admin, but --cap-drop: see orchctl policy
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true, help_heading = "Security")]
    pub privileged: Option<bool>,
    /// A capability more, such as NET_ADMIN; of what an update takes away again write --cap-drop
    #[arg(long, value_name = "CAPABILITY", help_heading = "Security")]
    pub cap_add: Vec<String>,
    /// A capability less, or ALL
    #[arg(long, value_name = "CAPABILITY", help_heading = "Security")]
    pub cap_drop: Vec<String>,
    /// A device of the node: /dev/NAME[:/dev/NAME][:rwm]
    #[arg(long, value_name = "DEVICE", help_heading = "Security")]
    pub device: Vec<String>,
    /// Take away a device, by its path on the node
    #[arg(long, value_name = "PATH", help_heading = "Security")]
    pub device_rm: Vec<String>,
    /// The node's processes (host), or its own (private)
    #[arg(long, value_enum, value_name = "WHOSE", help_heading = "Security")]
    pub pid: Option<NamespaceArg>,
    /// The node's shared memory (host), or its own (private)
    #[arg(long, value_enum, value_name = "WHOSE", help_heading = "Security")]
    pub ipc: Option<NamespaceArg>,
    /// seccomp=unconfined, apparmor=unconfined, no-new-privileges=false; with default or true in their place what always holds
    #[arg(long, value_name = "OPTION", help_heading = "Security")]
    pub security_opt: Vec<String>,
    /// Connections to databases that a replica makes at most, the size of its pool; 0 = not said. For policies that cap the sum
    #[arg(long, value_name = "N", help_heading = "Resources")]
    pub connections: Option<u32>,
}

/// `--pid` and `--ipc`
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum NamespaceArg {
    /// The node's
    Host,
    /// Its own
    Private,
}
