//! What happened: the ordered, resumable stream that `orchctl events` and every waiting client read.

use serde::{Deserialize, Serialize};

use crate::{
    id::{MemberId, NetworkId, NodeId, ServiceId, TaskId, TokenId},
    item::ItemKind,
    node::NodeState,
    service::{RolloutState, Slot},
    task::{Health, TaskState},
    time::ClusterTime,
};

/// A place in the stream: the applied index, and the event's number within that entry. Ordered, never reused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision {
    /// The log index.
    pub index: u64,
    /// From 0 within the entry.
    pub ordinal: u32,
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.index, self.ordinal)
    }
}

impl std::str::FromStr for Revision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |_| format!("\"{text}\" is no revision; expected INDEX.ORDINAL such as 812.0");
        let (index, ordinal) = text.split_once('.').unwrap_or((text, "0"));
        Ok(Self { index: index.parse().map_err(wrong)?, ordinal: ordinal.parse().map_err(wrong)? })
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place.
    pub revision: Revision,
    /// When.
    pub at: ClusterTime,
    /// What.
    pub kind: EventKind,
    /// In words, where there is more to say.
    pub message: String,
}

/// What happened to what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A service appeared, changed or went.
    Service {
        /// Which.
        id: ServiceId,
        /// Its name.
        name: String,
        /// How.
        change: ObjectChange,
    },
    /// A rollout moved.
    Rollout {
        /// Whose.
        service: ServiceId,
        /// Its name.
        name: String,
        /// To where.
        state: RolloutState,
    },
    /// A task's state changed.
    Task {
        /// Which.
        id: TaskId,
        /// Whose.
        service: ServiceId,
        /// Its service's name.
        name: String,
        /// Which place.
        slot: Slot,
        /// Where.
        node: Option<NodeId>,
        /// The new state.
        state: TaskState,
        /// The check's word.
        health: Health,
    },
    /// A node's state changed, or its spec.
    Node {
        /// Which.
        id: NodeId,
        /// The host's name.
        name: String,
        /// How.
        change: ObjectChange,
        /// The state.
        state: NodeState,
    },
    /// A manager joined, changed or left.
    Member {
        /// Which.
        id: MemberId,
        /// The host's name.
        name: String,
        /// How.
        change: ObjectChange,
    },
    /// A network appeared or went.
    Network {
        /// Which.
        id: NetworkId,
        /// Its name.
        name: String,
        /// How.
        change: ObjectChange,
    },
    /// A token was made, used, or ended.
    Token {
        /// Which.
        id: TokenId,
        /// How.
        change: ObjectChange,
    },
    /// A secret or config appeared, changed or went.
    Item {
        /// Which kind.
        kind: ItemKind,
        /// Its name.
        name: String,
        /// How.
        change: ObjectChange,
    },
}

/// How an object changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectChange {
    /// It is new.
    Created,
    /// It changed.
    Updated,
    /// It is gone.
    Removed,
}
