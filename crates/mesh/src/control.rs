//! What the agent and its mesh process say to each other, over a Unix socket in the agent's directory.
//!
//! The mesh process outlives the agent: an agent that starts finds it by the socket, says hello and configures it anew. Each
//! frame is a length (u32, big-endian, at most [`MAX_FRAME`]) and a MessagePack value with field names.

use std::net::Ipv4Addr;

use model::{
    id::{NodeId, TaskId},
    route::{RouteTable, RouteVersion},
};
use serde::{Deserialize, Serialize};

/// The largest frame: a table of 100,000 endpoints, and then some.
pub const MAX_FRAME: usize = 64 << 20;

/// One of this node's tasks, as its mesh reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalTask {
    /// Which.
    pub task: TaskId,
    /// Its container's address, reachable from this host.
    pub address: Ipv4Addr,
}

/// Everything that a mesh process is to do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshConfig {
    /// What the managers say.
    pub table: RouteTable,
    /// This node's tasks whose containers run: only these are opened for others.
    pub locals: Vec<LocalTask>,
    /// Where this node's mesh listens for other nodes, `address:port`; `None`: it only dials out.
    pub listen: Option<String>,
}

/// Agent to mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentFrame {
    /// The first frame.
    Hello {
        /// The agent's software version: a mesh process of another version hands its listeners over to a new one.
        version: String,
        /// Which node this is.
        node: NodeId,
    },
    /// Serve this from now on; answered by [`MeshFrame::Applied`]. A newer one replaces one that is not yet answered.
    Configure {
        /// Counts up; the answer repeats it.
        number: u64,
        /// What.
        config: Box<MeshConfig>,
    },
    /// This node's task is to be stopped: say when nothing of its traffic is under way any more. It takes no new streams from
    /// now on. Answered by [`MeshFrame::Drained`] at once when nothing is, else as soon as nothing is.
    Drain {
        /// Which.
        task: TaskId,
    },
    /// Answered by [`MeshFrame::Stats`].
    Stats,
}

/// Mesh to agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MeshFrame {
    /// The answer to hello.
    Hello {
        /// The mesh's software version.
        version: String,
        /// Its process.
        pid: u32,
    },
    /// From now on no new connection or request goes by an older table.
    Applied {
        /// Which configuration.
        number: u64,
        /// The version of its table.
        version: RouteVersion,
        /// What cannot be done, in words: a port that is taken, a certificate that cannot be read.
        problems: Vec<String>,
    },
    /// What cannot be done has changed since it was last said; nothing at the greeting. It is tried again each second.
    Problems(Vec<String>),
    /// Nothing of this task's traffic is under way.
    Drained {
        /// Which.
        task: TaskId,
    },
    /// Counts since the process started.
    Stats(Vec<TaskStats>),
}

/// What of one endpoint's traffic this node has seen, as the sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStats {
    /// Which.
    pub task: TaskId,
    /// Connections and requests under way.
    pub in_flight: u32,
    /// Connections and requests in all.
    pub total: u64,
    /// Of those, how many it failed: refused, broken, too late.
    pub failed: u64,
    /// Answered with a status of 500 or more.
    #[serde(default)]
    pub errors: u64,
    /// It is not chosen at the moment, because it failed lately.
    pub ejected: bool,
}
