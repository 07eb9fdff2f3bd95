//! Who votes: moved towards what the members' records say, one change at a time.
//!
//! The rule: the number of voters is odd, always. A manager that joins learns first. One learner beside one voter stays a
//! learner, because two voters stop when either fails, which is worse than one; when a third has caught up, both are
//! promoted in one joint change. The same rule works backwards: when one of three voters is removed and no learner can
//! take its place, one of the remaining two becomes a learner in the same joint change, and the status says so.
//!
//! A manager that lost its log comes back under a new id, as a learner. Its old id stays among the voters until the new
//! one has caught up, although nobody answers under it any more: were it dropped at once, the rule above would leave one
//! voter of three, and for a while one disk would hold all that is acknowledged.
//!
//! A member that was removed votes until the voters have changed without it: the change has to be committed by a majority of
//! the old voters too, and when another one fails just then, the removed one's vote is part of that majority.
//!
//! A member's record in the state is the intent, the membership of Raft follows it: any leader resumes where the last one
//! stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use consensus::{ConfChange, ConfKind, Membership};
use model::{
    cluster::Member,
    command::{Answer, Command},
    id::MemberId,
    request::{ApiError, ErrorCode, Reply, Response},
    sealed::KeyId,
    time::Instant,
};

use planted::Bug;

use crate::{Manager, lead::MEMBERSHIP_EVERY, proposal::Purpose};

/// More voters make every change slower and nothing safer; further members stay learners.
const MAX_VOTERS: usize = 5;
/// A learner that lacks fewer entries than this has caught up: they are under way already.
const CAUGHT_UP: u64 = 64;
/// A hand-over that takes longer has failed.
const TRANSFER_WITHIN: Duration = Duration::from_secs(3);

/// A hand-over of the lead that a client waits for.
pub(crate) struct Transfer {
    handle: u64,
    to: MemberId,
    until: Instant,
}

/// The membership that should be: see the module's head. `ready` are the learners that have caught up.
fn target(
    now: &Membership,
    members: &BTreeSet<MemberId>,
    ready: &BTreeSet<MemberId>,
    leader: MemberId,
) -> (BTreeSet<MemberId>, BTreeSet<MemberId>) {
    let mut order: Vec<MemberId> = now.voters.intersection(members).copied().collect();
    order.sort_by_key(|id| (*id != leader, *id));
    order.extend(now.learners.intersection(members).filter(|id| ready.contains(id)));
    let most = order.len().min(MAX_VOTERS);
    let odd = if most.is_multiple_of(2) { most.saturating_sub(1) } else { most };
    let voters: BTreeSet<MemberId> = order.into_iter().take(odd.max(1)).collect();
    let learners = members.difference(&voters).copied().collect();
    (voters, learners)
}

fn difference(now: &Membership, voters: &BTreeSet<MemberId>, learners: &BTreeSet<MemberId>) -> ConfChange {
    let promoted = voters.difference(&now.voters).map(|id| (ConfKind::Voter, *id));
    let demoted = learners.difference(&now.learners).map(|id| (ConfKind::Learner, *id));
    let members = now.members();
    let gone = members.iter().filter(|id| !voters.contains(id) && !learners.contains(id));
    ConfChange { changes: promoted.chain(demoted).chain(gone.map(|id| (ConfKind::Gone, *id))).collect() }
}

impl Manager {
    /// Proposes the next change of the membership, if one is wanted and none is under way.
    pub(crate) fn move_membership(&mut self) {
        let now = self.now.mono;
        let Some(lead) = &mut self.lead else { return };
        let members: BTreeSet<MemberId> = self.store.members().map(|member| member.id).collect();
        let current = self.node.membership();
        let settled = current.learners.is_empty() && !current.is_joint() && current.voters == members;
        let due = lead.membership_at <= now;
        if due {
            // A settled membership changes only with an entry, which brings us here anyway.
            lead.membership_at = now + if settled { Duration::from_secs(3_600) } else { MEMBERSHIP_EVERY };
        }
        if settled || self.node.has_pending_change() {
            return;
        }
        if !due {
            lead.membership_at = lead.membership_at.min(now + MEMBERSHIP_EVERY);
        }
        if !members.contains(&self.config.member) {
            // It was removed, and votes until the voters have changed; another one has to lead that change.
            if due && let Some(to) = self.best_successor() {
                self.node.transfer_leader(to);
            }
            return;
        }
        if current.is_joint() {
            // The library leaves by itself, unless the lead changed in between.
            let _ = self.node.propose_change(&ConfChange::default());
            return;
        }
        let ready = self.caught_up();
        let members = &members | &self.kept_places(&ready);
        let (voters, learners) = target(current, &members, &ready, self.config.member);
        let change = difference(current, &voters, &learners);
        if !change.changes.is_empty() && self.node.propose_change(&change).is_ok() {
            let names =
                |set: &BTreeSet<MemberId>| set.iter().map(MemberId::to_string).collect::<Vec<_>>().join(", ");
            self.notice(format!(
                "the managers become: voters {}; learners {}",
                names(&voters),
                names(&learners)
            ));
        }
    }

    /// Voters that are gone for good and wait for their successors.
    fn kept_places(&self, ready: &BTreeSet<MemberId>) -> BTreeSet<MemberId> {
        let voters = &self.node.membership().voters;
        let waiting = self.store.members().filter(|m| !ready.contains(&m.id) && !voters.contains(&m.id));
        waiting.filter_map(|member| member.replaces).filter(|old| voters.contains(old)).collect()
    }

    /// Whether a manager that lost its log gets a new id: `Some` when it has got it already and was not heard under it.
    pub(crate) fn may_replace_member(&self, old: MemberId) -> Result<Option<MemberId>, ApiError> {
        if let Some(known) = self.store.unheard_successor(old) {
            return Ok(Some(known));
        }
        if self.store.member(old).is_none() {
            return Err(crate::admit::not_found("manager", &old.to_string()));
        }
        if old == self.config.member {
            let message = "this manager leads, so its log is there: a second process runs under its id";
            return Err(ApiError::new(ErrorCode::Conflict, message));
        }
        let mut alive = self.alive();
        alive.remove(&old);
        if self.node.membership().has_quorum(&alive) {
            return Ok(None);
        }
        let message = "without this manager no majority is reachable: bring another one back first";
        Err(ApiError::new(ErrorCode::Unavailable, message))
    }

    fn caught_up(&self) -> BTreeSet<MemberId> {
        let last = self.node.committed();
        let alive = self.alive();
        let near = |matched: u64| matched > 0 && matched + CAUGHT_UP >= last;
        let matched = self.node.matched().into_iter();
        if planted::is(Bug::LearnerCounted) {
            return matched.map(|(id, _)| id).collect();
        }
        let fit = |id: MemberId| alive.contains(&id) && self.keeps_active_key(id);
        matched.filter(|(id, matched)| near(*matched) && fit(*id)).map(|(id, _)| id).collect()
    }

    /// Whether a member can be removed without stopping the cluster.
    pub(crate) fn may_remove_member(&mut self, id: MemberId) -> Result<(), ApiError> {
        let Some(member) = self.store.member(id) else {
            return Err(crate::admit::not_found("manager", &id.to_string()));
        };
        let name = member.name.clone();
        let members: BTreeSet<MemberId> =
            self.store.members().map(|member| member.id).filter(|other| *other != id).collect();
        if members.is_empty() {
            let message = format!("\"{name}\" is the only manager; a cluster needs one");
            return Err(ApiError::new(ErrorCode::Conflict, message));
        }
        if id == self.config.member {
            return Err(self.hand_over_before_removal());
        }
        if self.node.membership().is_joint() || self.node.has_pending_change() {
            let message = "another change of the managers is under way; retry in a moment";
            return Err(ApiError::new(ErrorCode::Conflict, message));
        }
        let mut alive = self.alive();
        alive.remove(&id);
        let current = self.node.membership();
        let (voters, learners) = target(current, &members, &self.caught_up(), self.config.member);
        let after = Membership { voters, learners, ..Membership::default() };
        if current.has_quorum(&alive) && after.has_quorum(&alive) {
            return Ok(());
        }
        let up = alive.iter().map(MemberId::to_string).collect::<Vec<_>>().join(", ");
        let message = format!(
            "without \"{name}\" there would be no majority: of the other managers only {up} can be reached. Bring one more back \
             first, or use `orch-manager recover` when they are lost for good"
        );
        Err(ApiError::new(ErrorCode::Conflict, message))
    }

    fn hand_over_before_removal(&mut self) -> ApiError {
        match self.best_successor() {
            Some(to) => {
                self.node.transfer_leader(to);
                let message =
                    format!("this manager leads; the lead goes to manager {to} first: retry in a moment");
                ApiError::new(ErrorCode::Unavailable, message)
            }
            None => ApiError::new(
                ErrorCode::Conflict,
                "this manager leads and no other one can: add a third manager first",
            ),
        }
    }

    /// The reachable voter whose log reaches furthest.
    fn best_successor(&self) -> Option<MemberId> {
        let voters = &self.node.membership().voters;
        let alive = self.alive();
        let others = self
            .node
            .matched()
            .into_iter()
            .filter(|(id, _)| *id != self.config.member && alive.contains(id) && voters.contains(id));
        others.max_by_key(|(id, matched)| (*matched, std::cmp::Reverse(*id))).map(|(id, _)| id)
    }

    /// To whom the lead can be handed over now.
    pub(crate) fn may_transfer(&self, to: Option<MemberId>) -> Result<MemberId, ApiError> {
        if self.transfer.is_some() {
            return Err(ApiError::new(ErrorCode::Conflict, "the lead is being handed over already"));
        }
        let Some(to) = to.or_else(|| self.best_successor()) else {
            let message = "no other manager can lead: there is none that votes and is reachable";
            return Err(ApiError::new(ErrorCode::Conflict, message));
        };
        if self.store.member(to).is_none() {
            return Err(crate::admit::not_found("manager", &to.to_string()));
        }
        if !self.node.membership().voters.contains(&to) {
            let message = format!("manager {to} is a learner: it cannot lead");
            return Err(ApiError::new(ErrorCode::Conflict, message));
        }
        Ok(to)
    }

    pub(crate) fn begin_transfer(&mut self, handle: u64, to: Option<MemberId>) -> Result<(), ApiError> {
        let to = self.may_transfer(to)?;
        self.node.transfer_leader(to);
        self.transfer = Some(Transfer { handle, to, until: self.now.mono + TRANSFER_WITHIN });
        Ok(())
    }

    /// Answers the client that waits for a hand-over, once it is clear how it ended.
    pub(crate) fn watch_transfer(&mut self) {
        let Some(transfer) = &self.transfer else { return };
        let Transfer { handle, to, until } = *transfer;
        let leader = self.node.leader();
        let leads = self.node.role() == consensus::Role::Leader;
        let result = if leader == Some(to) {
            let index = self.node.applied();
            Ok(Reply { response: Response::Changed { answer: Answer::Done, index }, index, stale: false })
        } else if (leads && !self.node.is_transferring()) || self.now.mono >= until {
            let message = format!("manager {to} did not take the lead in time; retry");
            Err(ApiError::new(ErrorCode::Unavailable, message))
        } else {
            return;
        };
        self.transfer = None;
        self.reply(handle, result);
    }

    /// A follower says where it is reached and what it runs.
    pub(crate) fn on_about(
        &mut self,
        member: MemberId,
        address: String,
        version: String,
        key: Option<KeyId>,
    ) {
        let known = self.store.member(member);
        let Some(lead) = &mut self.lead else { return };
        let differs =
            |known: &Member| (&known.address, &known.version) != (&address, &version) || key > known.key;
        if known.is_some_and(differs) && lead.about.insert(member) {
            let command = Command::UpdateMember { id: member, address, version, key };
            self.propose_own(command, Purpose::About { member });
        }
    }

    pub(crate) fn record_own_address(&mut self) {
        let (address, version) = (self.config.address.clone(), self.config.version.clone());
        self.on_about(self.config.member, address, version, self.held_key());
    }

    pub(crate) fn on_about_recorded(&mut self, member: MemberId) {
        if let Some(lead) = &mut self.lead {
            lead.about.remove(&member);
        }
    }

    /// What an admin must know about the number of managers; `None` when it is right.
    pub(crate) fn membership_advice(&self) -> Option<String> {
        let members: BTreeMap<MemberId, ()> = self.store.members().map(|member| (member.id, ())).collect();
        let current = self.node.membership();
        let learners = current.learners.len();
        let text = match (members.len(), learners) {
            (_, 0) => return None,
            (2, _) => {
                "2 managers: one is a learner until a third joins, because two voters stop when either fails"
                    .into()
            }
            (count, _) if count > MAX_VOTERS => format!(
                "{count} managers: {MAX_VOTERS} vote, the others only learn; 1, 3 or 5 managers are right"
            ),
            (count, _) if count.is_multiple_of(2) => {
                format!(
                    "{count} managers: one is a learner until another joins; 1, 3 or 5 managers are right"
                )
            }
            (count, learners) => format!("{count} managers: {learners} still catching up"),
        };
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(list: &[u64]) -> BTreeSet<MemberId> {
        list.iter().copied().map(MemberId).collect()
    }

    fn check(voters: &[u64], learners: &[u64], members: &[u64], ready: &[u64], expect: &[u64]) {
        let now = Membership { voters: ids(voters), learners: ids(learners), ..Membership::default() };
        let (next, others) = target(&now, &ids(members), &ids(ready), MemberId(voters[0]));
        assert_eq!(next, ids(expect), "of {voters:?} + {learners:?}, members {members:?}, ready {ready:?}");
        assert_eq!(next.len() % 2, 1);
        assert_eq!(&next | &others, ids(members));
    }

    #[test]
    fn the_number_of_voters_is_always_odd() {
        check(&[1], &[], &[1], &[], &[1]);
        check(&[1], &[2], &[1, 2], &[2], &[1]);
        check(&[1], &[2, 3], &[1, 2, 3], &[2], &[1]);
        check(&[1], &[2, 3], &[1, 2, 3], &[2, 3], &[1, 2, 3]);
        check(&[1, 2, 3], &[4], &[1, 2, 3, 4], &[4], &[1, 2, 3]);
        check(&[1, 2, 3], &[4, 5], &[1, 2, 3, 4, 5], &[4, 5], &[1, 2, 3, 4, 5]);
        check(&[1, 2, 3, 4, 5], &[6, 7], &[1, 2, 3, 4, 5, 6, 7], &[6, 7], &[1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_learner_that_has_caught_up_takes_a_removed_voters_place() {
        check(&[1, 2, 3], &[4], &[1, 2, 4], &[4], &[1, 2, 4]);
    }

    #[test]
    fn without_a_substitute_a_removal_from_three_leaves_the_leader_and_a_learner() {
        check(&[2, 1, 3], &[], &[1, 2], &[], &[2]);
        check(&[1, 2, 3, 4, 5], &[], &[1, 2, 3, 4], &[], &[1, 2, 3]);
    }
}
