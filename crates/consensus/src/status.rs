//! What a member says of itself.

use std::collections::BTreeMap;

use model::id::MemberId;
use raft::StateRole;

use crate::{Membership, Node, Role};

impl Node {
    /// This member.
    pub fn id(&self) -> MemberId {
        self.id
    }

    /// What it is.
    pub fn role(&self) -> Role {
        match self.raw.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
            StateRole::Follower => Role::Follower,
        }
    }

    /// The term.
    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// Who leads, as far as known.
    pub fn leader(&self) -> Option<MemberId> {
        Some(self.raw.raft.leader_id).filter(|id| *id != 0).map(MemberId)
    }

    /// The membership as applied.
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The last entry handed out as committed.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The term of an entry that is still kept.
    pub fn term_of(&self, index: u64) -> Option<u64> {
        self.raw.raft.raft_log.term(index).ok()
    }

    /// The last entry of the log.
    pub fn last_index(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    /// The last entry known to be committed.
    pub fn committed(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    /// Whether a change of the membership may not be finished.
    pub fn has_pending_change(&self) -> bool {
        self.raw.raft.has_pending_conf()
    }

    /// Whether a write of the log is under way; a snapshot of our own does not count.
    pub fn is_writing(&self) -> bool {
        self.pending.iter().any(|pending| pending.own_snapshot.is_none())
    }

    /// How far each member's log is known to match the leader's; empty elsewhere.
    pub fn matched(&self) -> BTreeMap<MemberId, u64> {
        if self.role() != Role::Leader {
            return BTreeMap::new();
        }
        self.raw.raft.prs().iter().map(|(id, peer)| (MemberId(*id), peer.matched)).collect()
    }

    /// Bytes of the entries kept in memory.
    pub fn log_size(&self) -> u64 {
        self.raw.store().size()
    }

    /// The newest snapshot's index, be it durable or on its way to the disk: none is taken twice.
    pub fn snapshot_index(&self) -> u64 {
        let on_its_way = self.pending.iter().filter_map(|pending| pending.own_snapshot.as_ref());
        let newest = on_its_way.map(|(meta, _)| meta.index).max().unwrap_or(0);
        newest.max(self.raw.store().snapshot_meta().index)
    }

    /// Whether a peer waits for a newer snapshot than the one at hand; says so once.
    pub fn take_snapshot_wanted(&mut self) -> bool {
        self.raw.store().take_wanted()
    }
}
