//! Everything that an agent can be told.

use std::time::Duration;

use model::{
    id::TaskId,
    node::Facts,
    route::RouteVersion,
    session::{ManagerMessage, Seen},
};

use crate::engine::{ContainerChange, ContainerView, EngineError, OpOutcome};

/// One input. Time comes beside it, never in it.
///
/// Order that the shell keeps for the engine: `EngineUp`, `EngineListed`, then the `EngineChanged` of the event stream
/// that was opened before the listing. When that stream breaks: `EngineDown`, and all over again. `EngineDone` may come
/// at any time.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The connection asked for by `Connect` stands; a stream is open on it.
    ManagerConnected {
        /// As chosen by `Connect`.
        connection: u64,
    },
    /// It could not be made, or it ended. Also the answer to `Disconnect`, which need not be given.
    ManagerClosed {
        /// As chosen by `Connect`.
        connection: u64,
        /// Why.
        reason: String,
    },
    /// A manager says something.
    ManagerMessage {
        /// On which connection.
        connection: u64,
        /// What.
        message: Box<ManagerMessage>,
    },
    /// The engine answers, and its events are being received.
    EngineUp(EngineFacts),
    /// The engine is not reachable, or its event stream broke. Nothing is known of the containers any more.
    EngineDown {
        /// Why.
        reason: String,
    },
    /// All containers that carry this cluster's and this node's labels, running or not.
    EngineListed {
        /// In any order.
        containers: Vec<ContainerView>,
    },
    /// The event stream says that something happened to one of our containers.
    EngineChanged(ContainerChange),
    /// A call was answered.
    EngineDone {
        /// As chosen by `Engine`.
        op: u64,
        /// The answer.
        outcome: Result<OpOutcome, EngineError>,
    },
    /// Every `Store` up to this sequence is durable.
    Stored {
        /// As chosen by `Store`.
        sequence: u64,
    },
    /// The mesh process listens; it was told nothing yet.
    MeshUp,
    /// It is gone, and all connections through it with it.
    MeshDown {
        /// Why.
        reason: String,
    },
    /// It goes by this table, and by none before it.
    MeshApplied {
        /// Which.
        version: RouteVersion,
    },
    /// What the mesh saw of replicas that are new or failed it, when that has changed; counted since it began.
    MeshSaw(Vec<Seen>),
    /// Nothing of this task's traffic is under way (answer to `DrainTask`).
    MeshDrained {
        /// Which.
        task: TaskId,
    },
    /// A container answered a probe well, or did not and why.
    Probed {
        /// As chosen by `Probe`.
        probe: u64,
        /// The answer; an error is one short line.
        answer: Result<(), String>,
    },
    /// The secrets and configs of a task are kept (answer to `KeepFiles`), or cannot be and why.
    FilesKept {
        /// Whose.
        task: TaskId,
        /// The answer.
        outcome: Result<(), String>,
    },
    /// What a part of the node cannot do at the moment, in words; empty when it can do everything.
    Problems {
        /// Which part.
        of: Part,
        /// What.
        problems: Vec<String>,
    },
    /// What the machine is; the fields about the engine are ignored (`EngineUp` and `EngineDown` say those).
    Facts(Facts),
    /// The process is asked to end. Containers go on; `Exit` follows.
    ShutdownRequested {
        /// For so long the managers should hold the node's tasks.
        hold: Duration,
    },
}

/// A part of the node that may have problems of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The mesh process.
    Mesh,
    /// The networks' bridges, routes and rules.
    Networks,
}

/// What the engine says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineFacts {
    /// Its version.
    pub version: String,
    /// Its API version.
    pub api: String,
    /// Thousandths of a core that its containers can have in all.
    pub cpu_millis: u64,
    /// Bytes that its containers can have in all.
    pub memory: u64,
}
