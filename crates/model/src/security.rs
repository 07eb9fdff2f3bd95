//! What a container may do beyond what every container may: each item needs a grant of a [policy](crate::policy), and what only takes
//! power away needs none.
//!
//! Always so, and without a word here: no new privileges, the engine's default seccomp and AppArmor profiles, a limit of processes,
//! capped logs, no restarts by the engine itself.

use serde::{Deserialize, Serialize};

/// Power over the node, item by item. The default has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// All capabilities, all devices, no profiles: root in it is root on the node.
    pub privileged: bool,
    /// Capabilities beyond the engine's default ones, such as `NET_ADMIN`; `ALL` means all.
    pub cap_add: Vec<String>,
    /// Capabilities less than the default ones; `ALL` means all. Needs no grant.
    pub cap_drop: Vec<String>,
    /// Devices of the node.
    pub devices: Vec<Device>,
    /// The node's own network: no address of its own, no published ports, no networks.
    pub network_host: bool,
    /// Sees and signals the node's processes.
    pub pid_host: bool,
    /// Shares the node's System V IPC and `/dev/shm`.
    pub ipc_host: bool,
    /// Every system call that the kernel has.
    pub seccomp_unconfined: bool,
    /// Without the engine's AppArmor profile.
    pub apparmor_unconfined: bool,
    /// Programs such as `sudo` may raise their privileges.
    pub new_privileges: bool,
}

impl Security {
    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A device of the node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    /// On the node, below `/dev`.
    pub host: String,
    /// In the container; empty = the same.
    pub container: String,
    /// Of `r`, `w` and `m` (make); empty = all three.
    pub permissions: String,
}

impl Device {
    /// Where it is in the container.
    pub fn target(&self) -> &str {
        if self.container.is_empty() { &self.host } else { &self.container }
    }

    /// What may be done with it there.
    pub fn permissions(&self) -> &str {
        if self.permissions.is_empty() { "rwm" } else { &self.permissions }
    }
}

/// A capability as declarations hold it: `cap_net_admin` and `net_admin` become `NET_ADMIN`.
pub fn capability_name(text: &str) -> String {
    let name = text.trim().to_ascii_uppercase();
    name.strip_prefix("CAP_").map(str::to_owned).unwrap_or(name)
}

/// What the kernel knows, and `ALL`.
pub const CAPABILITIES: [&str; 42] = [
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];
