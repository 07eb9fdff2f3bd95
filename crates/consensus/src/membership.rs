//! Who belongs to the group, and changes of it, as our own values.

use std::collections::BTreeSet;

use model::id::MemberId;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState};
use serde::{Deserialize, Serialize};

/// A change touches so many members at most; more is a defect or an attack.
pub const MAX_CHANGES: usize = 16;

/// Who votes, who learns. During a joint change both majorities count: that of `voters` and that of `outgoing`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Members whose votes count.
    pub voters: BTreeSet<MemberId>,
    /// Members that only receive.
    pub learners: BTreeSet<MemberId>,
    /// The voters before a joint change that is not finished.
    pub outgoing: BTreeSet<MemberId>,
    /// Voters that become learners when the joint change is finished.
    pub learners_next: BTreeSet<MemberId>,
    /// The joint change finishes by itself.
    pub auto_leave: bool,
}

impl Membership {
    /// One voter, alone.
    pub fn alone(member: MemberId) -> Self {
        Self { voters: BTreeSet::from([member]), ..Self::default() }
    }

    /// Between two memberships.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether a member's vote counts in every majority: one that is just being promoted does not carry anything yet, since
    /// until the change is finished a majority of the former voters is needed as well.
    pub fn votes_now(&self, id: MemberId) -> bool {
        self.voters.contains(&id) && (!self.is_joint() || self.outgoing.contains(&id))
    }

    /// Everybody, in any role.
    pub fn members(&self) -> BTreeSet<MemberId> {
        [&self.voters, &self.learners, &self.outgoing, &self.learners_next]
            .into_iter()
            .flatten()
            .copied()
            .collect()
    }

    /// Whether `members` contain a majority of the voters, of both sets during a joint change.
    pub fn has_quorum(&self, members: &BTreeSet<MemberId>) -> bool {
        let majority =
            |set: &BTreeSet<MemberId>| set.is_empty() || set.intersection(members).count() * 2 > set.len();
        !self.voters.is_empty() && majority(&self.voters) && majority(&self.outgoing)
    }

    /// What the library would refuse with a panic: no voters, id 0, a member in two exclusive roles.
    pub(crate) fn is_sound(&self) -> bool {
        let zero = self.members().contains(&MemberId(0));
        let voting: BTreeSet<MemberId> = self.voters.union(&self.outgoing).copied().collect();
        !zero
            && !self.voters.is_empty()
            && self.learners.is_disjoint(&voting)
            && self.learners_next.is_subset(&self.outgoing)
            && self.learners_next.is_disjoint(&self.voters)
            && (self.is_joint() || !self.auto_leave)
    }

    pub(crate) fn to_raft(&self) -> ConfState {
        let ids = |set: &BTreeSet<MemberId>| set.iter().map(|id| id.0).collect::<Vec<u64>>();
        let mut state = ConfState::default();
        state.set_voters(ids(&self.voters));
        state.set_learners(ids(&self.learners));
        state.set_voters_outgoing(ids(&self.outgoing));
        state.set_learners_next(ids(&self.learners_next));
        state.set_auto_leave(self.auto_leave);
        state
    }

    pub(crate) fn from_raft(state: &ConfState) -> Self {
        let ids = |list: &[u64]| list.iter().map(|id| MemberId(*id)).collect::<BTreeSet<_>>();
        Self {
            voters: ids(state.get_voters()),
            learners: ids(state.get_learners()),
            outgoing: ids(state.get_voters_outgoing()),
            learners_next: ids(state.get_learners_next()),
            auto_leave: state.get_auto_leave(),
        }
    }
}

/// What becomes of one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfKind {
    /// It votes.
    Voter,
    /// It only receives.
    Learner,
    /// It is gone.
    Gone,
}

/// A change of the membership; several at once go through a joint membership that the library leaves by itself. Without
/// any change it ends a joint membership.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfChange {
    /// At most [`MAX_CHANGES`].
    pub changes: Vec<(ConfKind, MemberId)>,
}

impl ConfChange {
    pub(crate) fn is_sound(&self) -> bool {
        self.changes.len() <= MAX_CHANGES && self.changes.iter().all(|(_, id)| id.0 != 0)
    }

    pub(crate) fn to_raft(&self) -> ConfChangeV2 {
        let singles: Vec<ConfChangeSingle> = self
            .changes
            .iter()
            .map(|(kind, id)| {
                let mut single = ConfChangeSingle::default();
                single.set_change_type(match kind {
                    ConfKind::Voter => ConfChangeType::AddNode,
                    ConfKind::Learner => ConfChangeType::AddLearnerNode,
                    ConfKind::Gone => ConfChangeType::RemoveNode,
                });
                single.set_node_id(id.0);
                single
            })
            .collect();
        let mut change = ConfChangeV2::default();
        change.set_changes(singles.into());
        change
    }

    pub(crate) fn from_raft(change: &ConfChangeV2) -> Self {
        let changes = change
            .get_changes()
            .iter()
            .map(|single| {
                let kind = match single.get_change_type() {
                    ConfChangeType::AddNode => ConfKind::Voter,
                    ConfChangeType::AddLearnerNode => ConfKind::Learner,
                    ConfChangeType::RemoveNode => ConfKind::Gone,
                };
                (kind, MemberId(single.get_node_id()))
            })
            .collect();
        Self { changes }
    }
}
