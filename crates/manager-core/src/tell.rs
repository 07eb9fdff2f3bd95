//! What others are told when it changes: the shell of the leader, the peers and the revoked; the leader of this member.

use std::{collections::BTreeSet, time::Duration};

use model::{id::MemberId, identity::Identity, time::Instant};

use crate::{Action, Manager, peer::PeerMessage};

/// A follower repeats what the leader should record about it so often until the state says it.
const ABOUT_AGAIN: Duration = Duration::from_secs(1);

/// What the shell was told last, so that it is told only changes.
#[derive(Default)]
pub(crate) struct Told {
    leader: Option<(bool, u64, Option<MemberId>)>,
    peers: Option<Vec<(MemberId, String)>>,
    about_at: Option<Instant>,
    revoked: BTreeSet<MemberId>,
    /// What the authority is, and whether this member needs another certificate.
    pub(crate) authority: Option<(String, bool)>,
    /// It may have changed.
    pub(crate) authority_due: bool,
}

impl Manager {
    pub(crate) fn tell_leader(&mut self, serving: bool) {
        let told = (serving, self.node.term(), self.node.leader());
        if self.told.leader != Some(told) {
            self.told.leader = Some(told);
            self.told.about_at = None;
            let (is_leader, term, leader) = told;
            self.act(Action::Leader { is_leader, term, leader });
        }
    }

    /// The members that were heard lately, this one included. A leader hears each with every heartbeat.
    pub(crate) fn alive(&self) -> BTreeSet<MemberId> {
        let knobs = &self.config.knobs;
        let patience = knobs.tick * (knobs.election_ticks + knobs.election_spread);
        let lately = self.heard.iter().filter(|(_, at)| self.now.mono.since(**at) <= patience);
        lately.map(|(id, _)| *id).chain([self.config.member]).collect()
    }

    /// Whom the shell should be connected to: all other members of the state, before it has any the configured ones.
    pub(crate) fn tell_peers(&mut self) {
        let me = self.config.member;
        let mut peers: Vec<(MemberId, String)> =
            self.store.members().map(|member| (member.id, member.address.clone())).collect();
        if peers.is_empty() {
            peers.clone_from(&self.config.seeds);
        } else {
            // One that was removed has to hear of it, or it would never end: its link goes when Raft lets it go.
            let raft = self.node.membership().members();
            let leaving = |id: &MemberId| raft.contains(id) && self.store.member(*id).is_none();
            peers.extend(self.told.peers.iter().flatten().filter(|(id, _)| leaving(id)).cloned());
        }
        peers.retain(|(id, _)| *id != me);
        if self.told.peers.as_ref() != Some(&peers) {
            self.told.peers = Some(peers.clone());
            self.act(Action::Peers(peers));
        }
    }

    /// Without a leader it is said as well: one that was removed and has not seen it yet, a learner above all, asks for no
    /// votes, and so would never come to hear that it was.
    fn about_is_due(&self) -> bool {
        let me = self.store.member(self.config.member);
        let outdated = me.is_some_and(|me| {
            (&me.address, &me.version) != (&self.config.address, &self.config.version)
                || self.held_key() > me.key
        });
        let leader = self.node.leader();
        leader != Some(self.config.member) && (outdated || leader.is_none())
    }

    pub(crate) fn tell_leader_about_me(&mut self) {
        if self.about_deadline().is_none_or(|at| at > self.now.mono) {
            return;
        }
        self.told.about_at = Some(self.now.mono);
        // A leader that looks for this member at its old address is not heard here, so whoever may lead is told.
        let others = || self.told.peers.iter().flatten().map(|(id, _)| *id);
        let told: Vec<MemberId> =
            self.node.leader().map_or_else(|| others().collect(), |leader| vec![leader]);
        for member in told {
            let (address, version) = (self.config.address.clone(), self.config.version.clone());
            let key = self.held_key();
            self.send_peer(member, &PeerMessage::About { address, version, key });
        }
    }

    /// When the leader is to be told again; `None` when it knows.
    pub(crate) fn about_deadline(&self) -> Option<Instant> {
        let due = self.about_is_due();
        due.then(|| self.told.about_at.map_or(self.now.mono, |at| at + ABOUT_AGAIN))
    }

    /// A member came, changed or went.
    pub(crate) fn on_member_changed(&mut self) {
        self.told.authority_due = true;
        self.sessions.managers_changed = true;
        self.part_with_removed();
    }

    /// Members that are gone for good: this one ends itself, of others the shell is told. Called when a record went and when
    /// the voters changed.
    pub(crate) fn part_with_removed(&mut self) {
        if self.is_gone(self.config.member) {
            return self.retire("it has seen its own removal");
        }
        self.tell_revoked_members();
    }

    /// Whether a member's record went, and its vote too: the change of the voters may need the vote of the very member that
    /// it takes out, when another one fails just then. (A successor's record stands for the vote of one that lost its log.)
    pub(crate) fn is_gone(&self, id: MemberId) -> bool {
        let replaced = || self.store.members().any(|member| member.replaces == Some(id));
        let counts = || self.node.membership().members().contains(&id) && !replaced();
        self.store.is_revoked(&Identity::Manager(id)) && !counts()
    }

    /// A member with a valid certificate says that this one was removed. Started again by mistake, with a log that ends
    /// before its removal, it hears so from nobody else: no member counts it or sends to it any more.
    pub(crate) fn on_disowned(&mut self, by: MemberId) {
        self.retire(&format!("manager {by} says so"));
    }

    fn retire(&mut self, how: &str) {
        let id = self.config.member;
        let reason = format!(
            "this manager ({id}) was removed from the cluster ({how}) and cannot come back under its old identity: remove \
             its data directory and `orch-manager join` anew, or disable its service"
        );
        self.end(Action::Retire { reason });
    }

    /// Members that were removed and of whom the shell does not know it yet. Ids are given out in order and never again.
    /// Whoever lost its log may have to ask for its new id again, and is not told of before it was heard under that.
    pub(crate) fn tell_revoked_members(&mut self) {
        let last = self.store.cluster().map_or(MemberId(0), |cluster| cluster.last_member);
        let gone = (1..=last.0).map(MemberId).filter(|id| self.is_gone(*id));
        let known =
            |id: &MemberId| self.told.revoked.contains(id) || self.store.unheard_successor(*id).is_some();
        let new: Vec<MemberId> = gone.filter(|id| !known(id)).collect();
        if !new.is_empty() {
            self.told.revoked.extend(&new);
            self.act(Action::Revoked(new.into_iter().map(Identity::Manager).collect()));
        }
    }
}
