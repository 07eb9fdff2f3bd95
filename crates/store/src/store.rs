//! The tables.

use std::sync::Arc;

use imbl::{OrdMap, Vector};
use model::{
    cluster::{Cluster, Member, Token},
    cron::Cron,
    id::{CronId, MemberId, NetworkId, NodeId, ServiceId, TaskId, TokenId},
    item::{Item, ItemKind},
    network::Network,
    node::Node,
    service::Service,
    task::Task,
    time::ClusterTime,
};

use crate::{audit::Audit, events::EventRing, index::Index, intern::Texts, requests::RequestRing};

/// Removed node ids that are remembered, so that a defect which chooses one again is refused. The managers choose ids
/// at random out of 2^64, and a removed node is refused because it is not in the table: this is the second line.
pub(crate) const MAX_REMOVED_NODES: usize = 4096;

/// The state of a cluster after some entry of its log. A clone costs O(1) and never changes with its original.
#[derive(Clone, Default)]
pub struct Store {
    pub(crate) applied: u64,
    pub(crate) time: ClusterTime,
    pub(crate) cluster: Option<Arc<Cluster>>,
    pub(crate) services: OrdMap<ServiceId, Arc<Service>>,
    pub(crate) tasks: OrdMap<TaskId, Arc<Task>>,
    pub(crate) nodes: OrdMap<NodeId, Arc<Node>>,
    pub(crate) members: OrdMap<MemberId, Arc<Member>>,
    pub(crate) tokens: OrdMap<TokenId, Arc<Token>>,
    pub(crate) networks: OrdMap<NetworkId, Arc<Network>>,
    pub(crate) crons: OrdMap<CronId, Arc<Cron>>,
    pub(crate) items: OrdMap<(ItemKind, String), Arc<Item>>,
    /// Oldest first, at most [`MAX_REMOVED_NODES`].
    pub(crate) removed_nodes: Vector<NodeId>,
    pub(crate) requests: RequestRing,
    pub(crate) events: EventRing,
    pub(crate) audit: Audit,
    /// What the audit's records take, derived from them, never stored.
    pub(crate) audit_bytes: u64,
    /// Derived from the tables, never stored.
    pub(crate) index: Index,
    /// Texts that tasks share.
    pub(crate) images: Texts,
    /// The sum of the hashes of all objects, derived from the tables, never stored.
    pub(crate) sum: u64,
}

impl Store {
    /// The state before the first entry.
    pub fn new() -> Self {
        Self::default()
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("applied", &self.applied)
            .field("services", &self.services.len())
            .field("tasks", &self.tasks.len())
            .field("nodes", &self.nodes.len())
            .field("members", &self.members.len())
            .finish_non_exhaustive()
    }
}
