//! The conversation of an agent and the leader: one stream each way, plus streams of their own for logs.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    container::{ContainerSpec, PullPolicy},
    id::{ClusterId, MemberId, NodeId, ServiceId, TaskId},
    item::TaskFile,
    node::{Facts, Incarnation},
    registry::Login,
    route::{NetworkRoute, PeerRoute, RouteVersion, ServiceRoute},
    service::{ImagePin, RestartPolicy, Slot, TemplateVersion},
    task::{DesiredState, Observed},
};

/// The newest version of this conversation that the software speaks.
/// Version 2 knows routes, version 3 asks before it pulls and says what its mesh saw, version 4 knows secrets and configs,
/// version 5 verifies signatures of images, version 6 hears of the authority.
pub const PROTOCOL: u32 = 6;

/// Orders every desired set that a node is ever sent; the agent stores the highest and refuses less. Compared in the
/// order of the fields; sets of different clusters never compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fence {
    /// Whose.
    pub cluster: ClusterId,
    /// The node's registration.
    pub incarnation: Incarnation,
    /// The leader's term.
    pub term: u64,
    /// The leader's count of sessions.
    pub session: u64,
    /// Counts the sets of the session, from 1.
    pub sequence: u64,
}

/// What an agent is to do for one task: all that it needs, also without any manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Which task.
    pub task: TaskId,
    /// Of which service.
    pub service: ServiceId,
    /// Its name.
    pub service_name: String,
    /// Which place.
    pub slot: Slot,
    /// From which template.
    pub template: TemplateVersion,
    /// What is wanted.
    pub desired: DesiredState,
    /// The container.
    pub container: Arc<ContainerSpec>,
    /// What happens when it ends.
    pub restart: RestartPolicy,
    /// What the image's tag means.
    pub pin: Option<ImagePin>,
    /// The node, for templates.
    pub node: NodeId,
    /// The node's host name, for templates.
    pub node_name: String,
}

/// The most that one part of a set carries, encoded: a large set must not delay the answer to a heartbeat, nor need a
/// message as large as itself.
pub const MAX_SET_PART: usize = 256 << 10;

/// A desired set, or a difference to the one before it; or, of a large one, a part. Parts follow each other on their stream,
/// alike in everything but `upsert` and `remove`, and nothing of them holds before the last one is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignmentSet {
    /// Its place in the order.
    pub fence: Fence,
    /// `None`: the whole set, what is not in it goes. `Some(n)`: a difference to sequence `n` of the same session; an
    /// agent that does not hold `n` asks for the whole set.
    pub base: Option<u64>,
    /// New or changed.
    pub upsert: Vec<Assignment>,
    /// No longer assigned: stop, remove, forget.
    pub remove: Vec<TaskId>,
    /// [`set_hash`] of the whole set that results.
    pub hash: u64,
    /// Which part of it this is, from 0.
    #[serde(default)]
    pub part: u32,
    /// Further parts follow.
    #[serde(default)]
    pub more: bool,
}

/// What changed of a node's routes; or, of a large change, a part. Parts follow each other on their stream, alike in their
/// version, and nothing of them holds before the last one is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteChange {
    /// Of the table that results.
    pub version: RouteVersion,
    /// What is not in it goes; else it is a difference to the version before, of the same session.
    pub whole: bool,
    /// Whether the node answers on published ports.
    pub ingress: bool,
    /// The other nodes do not dial this one: it dials them.
    #[serde(default)]
    pub outbound: bool,
    /// New or changed.
    pub upsert: Vec<ServiceRoute>,
    /// No longer to be reached.
    pub remove: Vec<ServiceId>,
    /// All of them; `None` = as they were.
    #[serde(default)]
    pub peers: Option<Vec<PeerRoute>>,
    /// All of them; `None` = as they were.
    #[serde(default)]
    pub networks: Option<Vec<NetworkRoute>>,
    /// All nodes that were removed lately; `None` = as they were.
    #[serde(default)]
    pub removed: Option<Vec<NodeId>>,
    /// Further parts follow.
    #[serde(default)]
    pub more: bool,
}

/// A hash over a set of assignments that does not depend on their order: FNV-1a of (task, desired state, template, pin),
/// mixed and summed.
pub fn set_hash<'a>(set: impl IntoIterator<Item = &'a Assignment>) -> u64 {
    set.into_iter().fold(0u64, |sum, a| {
        let mut hash = crate::hash::Fnv::new();
        hash.write_u64(a.task.0);
        hash.write_u64(a.desired as u64);
        hash.write_u64(a.template.0);
        match &a.pin {
            None => hash.write_u64(0),
            Some(ImagePin::Digest(text) | ImagePin::LocalId(text)) => hash.write(text.as_bytes()),
        }
        sum.wrapping_add(hash.finish_mixed())
    })
}

/// What an agent says of one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Which.
    pub task: TaskId,
    /// Everything observed.
    pub observed: Observed,
}

/// What one mesh process saw of a replica, since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Which.
    pub task: TaskId,
    /// Connections and requests that it was chosen for.
    pub requests: u64,
    /// Of those, how many it refused, broke, did not answer in time, or answered with a status of 500 or more.
    pub failures: u64,
}

/// Where a manager is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagerAddress {
    /// Which.
    pub id: MemberId,
    /// `host:port`.
    pub address: String,
}

/// Agent to manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentMessage {
    /// The first message.
    Hello {
        /// The newest version that the agent speaks.
        protocol: u32,
        /// What the node is.
        facts: Facts,
        /// The highest fence that it has stored.
        fence: Option<Fence>,
        /// [`set_hash`] of the set that it holds.
        hash: u64,
        /// Its registration, as it has stored it; `None` after a loss of its ledger.
        incarnation: Option<Incarnation>,
        /// What it knows of every task that it holds.
        reports: Vec<TaskReport>,
    },
    /// Alive.
    Heartbeat {
        /// Counts up from 1; the manager's answer repeats it.
        number: u64,
        /// Milliseconds since the engine last answered; `None` = never.
        engine_age_ms: Option<u64>,
    },
    /// Transitions.
    Report(Vec<TaskReport>),
    /// The facts changed.
    Facts(Facts),
    /// The set that was sent could not be applied (its base is not held): send all.
    NeedFullSet,
    /// What an image reference means here (answer to [`ManagerMessage::ResolveImage`]).
    ImageResolved {
        /// The reference.
        image: String,
        /// Its meaning, or why there is none.
        outcome: Result<ImagePin, String>,
    },
    /// The node's mesh goes by this table from now on, and by none before it.
    Routed(RouteVersion),
    /// What the node's mesh saw, as the sender, of replicas that are new or of which it saw any request fail. Since version 3.
    Seen(Vec<Seen>),
    /// May this image be pulled, and with which login? Answered by [`ManagerMessage::PullGranted`], at once or after
    /// [`ManagerMessage::PullQueued`]; to be followed by [`PullEnded`](Self::PullEnded). Since version 3.
    PullWish {
        /// The task that it is for.
        pull: TaskId,
        /// The image.
        image: String,
    },
    /// An image that was to be fetched is there, or will not come and why. Since version 3.
    Fetched {
        /// Which.
        fetch: TaskId,
        /// The outcome.
        outcome: Result<(), String>,
    },
    /// A pull that was wished for has ended, well or not, or is not wanted any more.
    PullEnded {
        /// Which.
        pull: TaskId,
    },
    /// A planned restart of the agent: hold its tasks for so long.
    Goodbye {
        /// At most a minute is granted.
        hold: Duration,
    },
    /// The secrets and configs of a task are needed. Answered by [`ManagerMessage::Files`]. Since version 4.
    FileWish {
        /// Whose.
        task: TaskId,
    },
}

/// Manager to agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ManagerMessage {
    /// The session is open.
    Welcome {
        /// The version that both speak.
        protocol: u32,
        /// Sequence 0 of the session: what its sets will be fenced with.
        fence: Fence,
        /// Beat so often.
        heartbeat: Duration,
        /// All managers, to be stored for reconnects.
        managers: Vec<ManagerAddress>,
    },
    /// This manager does not lead.
    Redirect {
        /// Who does, as far as it knows.
        leader: Option<ManagerAddress>,
        /// All managers.
        managers: Vec<ManagerAddress>,
    },
    /// The node is not (or no longer) of this cluster; do not come back.
    Refused {
        /// Why.
        message: String,
    },
    /// Answer to a heartbeat.
    HeartbeatAck {
        /// The number answered.
        number: u64,
    },
    /// What to run.
    Assign(AssignmentSet),
    /// How to reach services; only to agents that speak version 2.
    Routes(Box<RouteChange>),
    /// The managers changed.
    Managers(Vec<ManagerAddress>),
    /// What does this reference mean on your engine or its registry?
    ResolveImage {
        /// The reference.
        image: String,
    },
    /// A pull may begin.
    PullGranted {
        /// Which.
        pull: TaskId,
        /// How to log in; `None`: as the node does it itself.
        login: Option<Login>,
    },
    /// A pull waits for others to end.
    PullQueued {
        /// Which.
        pull: TaskId,
    },
    /// Images that this node is to have soon, in place of those of the last such message. Since version 3.
    Fetch(Vec<FetchWish>),
    /// Open a log stream of its own and send what is asked for.
    OpenLogs {
        /// Chosen by the manager; names the stream.
        stream: u64,
        /// Whose logs.
        task: TaskId,
        /// What of them.
        options: LogOptions,
    },
    /// The secrets and configs of a task of this node, or why they do not come. Since version 4.
    Files {
        /// Whose.
        task: TaskId,
        /// The answer.
        answer: FileAnswer,
    },
    /// The cluster's authority, after it has replaced another one. Since version 6.
    Authority {
        /// Its [`bundle`](crate::cluster::Authority::bundle).
        bundle: String,
        /// The node's certificate is of an authority that is being replaced: ask for another one.
        renew: bool,
    },
}

/// What a node is answered that needs a task's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileAnswer {
    /// Some of them, at most [`MAX_SET_PART`] bytes unless one alone is larger.
    Some {
        /// In the order of their places.
        files: Vec<TaskFile>,
        /// Further ones follow.
        more: bool,
    },
    /// Not now, and why: ask again.
    NotYet(String),
    /// Not on this node, and why.
    Never(String),
}

/// An image that a node is to have before a task that needs it comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchWish {
    /// Names it; no task has this id.
    pub fetch: TaskId,
    /// For which service, so that services take turns.
    pub service: ServiceId,
    /// The image, as declared.
    pub image: String,
    /// When it is pulled.
    pub pull: PullPolicy,
    /// What its tag means.
    pub pin: Option<ImagePin>,
}

/// What of a task's logs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogOptions {
    /// Go on as new lines come.
    pub follow: bool,
    /// Only so many last lines; `None` = all.
    pub tail: Option<u32>,
    /// Only lines of the last so long.
    pub since: Option<Duration>,
    /// Lines begin with the engine's time stamp.
    pub timestamps: bool,
}

/// One frame of a log stream, agent to manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFrame {
    /// Output, at most 64 KiB, not cut inside a line unless the line is longer.
    Data {
        /// Standard error when true.
        stderr: bool,
        /// The bytes.
        bytes: bytes::Bytes,
    },
    /// The end: `None` when all was sent, else why not.
    End(Option<String>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(task: u64, desired: DesiredState) -> Assignment {
        Assignment {
            task: TaskId(task),
            service: ServiceId(1),
            service_name: "web".to_owned(),
            slot: Slot::Replica(1),
            template: TemplateVersion(1),
            desired,
            container: Arc::default(),
            restart: RestartPolicy::default(),
            pin: None,
            node: NodeId(1),
            node_name: "host".to_owned(),
        }
    }

    #[test]
    fn stopping_two_tasks_at_once_never_leaves_the_hash_of_a_set_as_it_was() {
        let hash = |tasks: [u64; 2], desired| set_hash(&tasks.map(|task| assignment(task, desired)));
        for task in 0..1_000_u64 {
            let tasks = [task, task.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1];
            assert_ne!(hash(tasks, DesiredState::Running), hash(tasks, DesiredState::Stopped), "{tasks:?}");
        }
    }
}
