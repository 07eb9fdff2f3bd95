//! Everything that an agent can want done. Each is carried out as it stands; the shell makes no choice.

use mesh::control::MeshConfig;
use model::{
    id::TaskId,
    item::FileMode,
    sealed::Clear,
    session::{AgentMessage, LogOptions},
};

use crate::{engine::EngineCall, probes::ProbeRequest, stored::StoreWrite};

/// One output.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Dial a manager and open the session's stream. Answered by `ManagerConnected` or `ManagerClosed`.
    Connect {
        /// Names the connection from now on; never reused.
        connection: u64,
        /// `host:port`.
        address: String,
    },
    /// Close it; what was sent before may be flushed first.
    Disconnect {
        /// Which.
        connection: u64,
        /// Why, for the log.
        reason: String,
    },
    /// Say something to the manager.
    Send {
        /// On which connection.
        connection: u64,
        /// What.
        message: Box<AgentMessage>,
    },
    /// Call the engine; answered by `EngineDone`. Calls run at the same time as each other.
    Engine {
        /// Names the call; never reused.
        op: u64,
        /// What.
        call: EngineCall,
    },
    /// Stop working on a call. An answer that comes all the same is ignored.
    CancelEngine {
        /// Which.
        op: u64,
    },
    /// Write durably, in order; answered by `Stored`.
    Store {
        /// Counts up by one.
        sequence: u64,
        /// What.
        write: Box<StoreWrite>,
    },
    /// Open a log stream of its own to the manager of this connection and send what these containers printed.
    OpenLogs {
        /// The session it was asked in.
        connection: u64,
        /// Chosen by the manager; names the stream.
        stream: u64,
        /// Whose logs: what was kept of its attempts comes first.
        task: TaskId,
        /// Its attempts that have a container here, with the engine's ids, oldest first.
        containers: Vec<(u32, String)>,
        /// What of the logs.
        options: LogOptions,
    },
    /// Give the mesh process this configuration, in place of any that it has not taken yet; start one when there is none and there
    /// is something to serve. Answered by `MeshApplied`.
    Mesh(Box<MeshConfig>),
    /// Have the mesh take nothing new for a task, and say when nothing is under way. Answered by `MeshDrained`.
    DrainTask {
        /// Which.
        task: TaskId,
    },
    /// Ask a container. Answered by `Probed`, no later than the request's timeout and a little.
    Probe {
        /// Names the question; never reused.
        probe: u64,
        /// What.
        request: Box<ProbeRequest>,
    },
    /// Keep the secrets and configs of a task in memory, all or none, where the engine can mount them: see
    /// [`ContainerRequest::files`](crate::engine::ContainerRequest). Never on a disk. Answered by `FilesKept`.
    KeepFiles {
        /// Whose.
        task: TaskId,
        /// What.
        files: Vec<KeptFile>,
    },
    /// Forget a task's secrets and configs. Harmless when there are none.
    WipeFiles {
        /// Whose.
        task: TaskId,
    },
    /// Keep the authority's bundle and trust it and nobody else.
    Authority {
        /// PEM, as a manager said it.
        bundle: String,
        /// Ask for another certificate at once: the present one is of an authority that is being replaced.
        renew: bool,
    },
    /// One line on what the agent does now, for the service manager and people. Only when it changed.
    Status(String),
    /// The goodbye is said; the process may end.
    Exit,
}

/// One secret or config to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFile {
    /// Names the file, among those of its task.
    pub place: u32,
    /// What is in it.
    pub value: Clear,
    /// Its owner; `None` = whoever writes it.
    pub uid: Option<u32>,
    /// Its group; `None` = whoever writes it.
    pub gid: Option<u32>,
    /// Who may read it.
    pub mode: FileMode,
}
