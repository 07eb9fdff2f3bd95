//! Groups of members in memory: what they agree on, and what never leaves before it is durable.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use consensus::{
    Body, ConfChange, ConfKind, LogEntry, Membership, Message, Node, Output, RaftSettings, Refused, Role,
    SnapshotMeta, Start,
    message::{Kind, RaftMessage},
};
use model::id::MemberId;

const A: MemberId = MemberId(1);
const B: MemberId = MemberId(2);
const C: MemberId = MemberId(3);

fn settings(seed: u64) -> RaftSettings {
    RaftSettings { heartbeat_ticks: 3, election_ticks: 15, election_spread: 15, keep_entries: 0, seed }
}

fn founded(members: &[MemberId]) -> Start {
    let membership = Membership { voters: members.iter().copied().collect(), ..Membership::default() };
    let snapshot = SnapshotMeta { index: 1, term: 1, membership };
    Start { snapshot, snapshot_bytes: Bytes::from(vec![7; 700_000]), ..Start::default() }
}

#[derive(Default)]
struct Group {
    nodes: BTreeMap<MemberId, Node>,
    wire: VecDeque<(MemberId, MemberId, Message)>,
    applied: BTreeMap<MemberId, Vec<LogEntry>>,
    restored: BTreeMap<MemberId, u64>,
    reads: Vec<(u64, u64)>,
    chunks: usize,
}

impl Group {
    fn of(members: &[MemberId]) -> Self {
        let mut group = Self::default();
        for id in members {
            group.add(*id, founded(members));
        }
        group
    }

    fn add(&mut self, id: MemberId, start: Start) {
        self.nodes.insert(id, Node::new(id, settings(id.0), start).expect("starts"));
    }

    fn node(&mut self, id: MemberId) -> &mut Node {
        self.nodes.get_mut(&id).expect("a member")
    }

    fn leader(&self) -> Option<MemberId> {
        self.nodes.values().find(|node| node.role() == Role::Leader).map(Node::id)
    }

    /// Every disk is instant, every message arrives.
    fn settle(&mut self) {
        loop {
            let ids: Vec<MemberId> = self.nodes.keys().copied().collect();
            let mut quiet = true;
            for id in ids {
                while let Some(output) = self.node(id).poll() {
                    quiet = false;
                    self.carry_out(id, output);
                }
            }
            let Some((from, to, message)) = self.wire.pop_front() else {
                if quiet {
                    return;
                }
                continue;
            };
            self.chunks += usize::from(matches!(message, Message::Chunk(_)));
            if let Some(node) = self.nodes.get_mut(&to)
                && let Some(snapshot) = node.step(from, message).expect("in range")
            {
                assert_eq!(snapshot.bytes.len(), 700_000);
                node.install(snapshot).expect("in range");
            }
        }
    }

    fn carry_out(&mut self, id: MemberId, output: Output) {
        if let Some(restored) = output.restored {
            self.restored.insert(id, restored.index);
        }
        self.applied.entry(id).or_default().extend(output.committed);
        self.reads.extend(output.reads);
        self.wire.extend(output.messages.into_iter().map(|(to, message)| (id, to, message)));
        if let Some(write) = output.write {
            self.node(id).persisted(write.sequence);
        }
    }

    fn tick_until(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..2_000 {
            if done(self) {
                return;
            }
            self.nodes.values_mut().for_each(Node::tick);
            self.settle();
        }
        panic!("not reached in 2000 ticks");
    }

    fn propose(&mut self, id: MemberId, text: &'static str) {
        self.node(id).propose(Bytes::from_static(text.as_bytes())).expect("taken");
        self.settle();
    }

    fn texts(&self, id: MemberId) -> Vec<String> {
        let bodies = self.applied.get(&id).into_iter().flatten().map(|entry| &entry.body);
        bodies
            .filter_map(|body| match body {
                Body::Normal(bytes) if !bytes.is_empty() => Some(String::from_utf8_lossy(bytes).into_owned()),
                _ => None,
            })
            .collect()
    }
}

#[test]
fn a_sole_voter_leads_at_once_and_commits() {
    let mut group = Group::of(&[A]);
    group.node(A).campaign();
    group.settle();
    group.propose(A, "one");
    assert_eq!(group.texts(A), ["one"]);
}

#[test]
fn three_members_elect_one_leader_and_apply_the_same_entries() {
    let mut group = Group::of(&[A, B, C]);
    group.tick_until(|group| group.leader().is_some());
    let leader = group.leader().expect("a leader");
    group.propose(leader, "one");
    group.propose(leader, "two");
    group.tick_until(|group| [A, B, C].iter().all(|id| group.texts(*id) == ["one", "two"]));
}

#[test]
fn a_vote_is_not_sent_before_it_is_durable() {
    let mut node = Node::new(A, settings(1), founded(&[A, B, C])).expect("starts");
    let ask = RaftMessage {
        kind: Kind::RequestVote,
        term: 5,
        log_term: 1,
        index: 1,
        entries: Vec::new(),
        commit: 0,
        commit_term: 0,
        snapshot: None,
        reject: false,
        reject_hint: 0,
        context: Bytes::new(),
    };
    node.step(B, Message::Raft(ask)).expect("in range");
    let output = node.poll().expect("a write");
    let write = output.write.expect("the vote is written");
    assert_eq!(write.hard_state.map(|state| (state.term, state.vote)), Some((5, B.0)));
    assert!(output.messages.is_empty());
    assert!(node.poll().is_none());
    node.persisted(write.sequence);
    let output = node.poll().expect("the vote");
    assert!(
        matches!(&output.messages[..], [(B, Message::Raft(vote))] if vote.kind == Kind::RequestVoteResponse)
    );
}

#[test]
fn a_sole_voter_sends_nothing_before_its_term_is_durable() {
    let mut start = founded(&[A]);
    start.snapshot.membership.learners.insert(B);
    let mut node = Node::new(A, settings(1), start).expect("starts");
    node.campaign();
    let output = node.poll().expect("a write");
    assert!(output.write.is_some() && output.messages.is_empty(), "{output:?}");
    node.persisted(1);
    let output = node.poll().expect("the first append");
    assert!(output.messages.iter().any(|(to, _)| *to == B));
}

#[test]
fn a_newcomer_gets_the_snapshot_in_chunks_and_then_the_log() {
    let mut group = Group::of(&[A]);
    group.node(A).campaign();
    group.settle();
    group.add(B, Start::default());
    let change = ConfChange { changes: vec![(ConfKind::Learner, B)] };
    group.node(A).propose_change(&change).expect("taken");
    group.settle();
    group.tick_until(|group| group.nodes[&A].last_index() == 3);
    for _ in 0..50 {
        group.nodes.values_mut().for_each(Node::tick);
        group.settle();
        if group.node(A).take_snapshot_wanted() {
            let node = group.node(A);
            let (index, membership) = (node.applied(), node.membership().clone());
            let meta = SnapshotMeta { index, term: node.term_of(index).expect("kept"), membership };
            let write = node.snapshot_taken(meta, Bytes::from(vec![7; 700_000])).expect("newer");
            node.persisted(write.sequence);
        }
    }
    assert!(group.restored.contains_key(&B));
    assert!(group.chunks >= 3, "{}", group.chunks);
    group.propose(A, "after");
    group.tick_until(|group| group.texts(B) == ["after"]);
}

#[test]
fn two_learners_become_voters_in_one_joint_change() {
    let mut start = founded(&[A]);
    start.snapshot.membership.learners = [B, C].into();
    let mut group = Group::default();
    for id in [A, B, C] {
        group.add(id, start.clone());
    }
    group.node(A).campaign();
    group.settle();
    let change = ConfChange { changes: vec![(ConfKind::Voter, B), (ConfKind::Voter, C)] };
    group.node(A).propose_change(&change).expect("taken");
    group.tick_until(|group| {
        group.nodes.values().all(|node| node.membership().voters.len() == 3 && !node.membership().is_joint())
    });
}

#[test]
fn a_read_is_answered_after_a_quorum_has_confirmed_the_leader() {
    let mut group = Group::of(&[A, B, C]);
    group.tick_until(|group| group.leader().is_some());
    let leader = group.leader().expect("a leader");
    group.node(leader).read_index(9).expect("leads");
    while let Some(output) = group.node(leader).poll() {
        assert!(output.reads.is_empty());
        group.carry_out(leader, output);
    }
    group.settle();
    assert_eq!(group.reads.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [9]);
}

#[test]
fn the_lead_can_be_handed_over() {
    let mut group = Group::of(&[A, B, C]);
    group.tick_until(|group| group.leader().is_some());
    let old = group.leader().expect("a leader");
    let new = if old == A { B } else { A };
    group.node(old).transfer_leader(new);
    group.settle();
    assert_eq!(group.node(new).role(), Role::Leader);
}

#[test]
fn a_message_that_would_panic_the_library_is_refused() {
    let mut node = Node::new(A, settings(1), founded(&[A, B, C])).expect("starts");
    let good = RaftMessage {
        kind: Kind::Heartbeat,
        term: 2,
        log_term: 0,
        index: 0,
        entries: Vec::new(),
        commit: 1,
        commit_term: 0,
        snapshot: None,
        reject: false,
        reject_hint: 0,
        context: Bytes::new(),
    };
    let far = RaftMessage { commit: 9, ..good.clone() };
    assert_eq!(node.step(B, Message::Raft(far)).err(), Some(Refused::LostEntries { committed: 9, last: 1 }));
    let entry = |index| LogEntry { index, term: 2, body: Body::Normal(Bytes::from_static(b"x")) };
    let gap = RaftMessage {
        kind: Kind::Append,
        index: 1,
        log_term: 1,
        entries: vec![entry(2), entry(4)],
        ..good.clone()
    };
    assert!(matches!(node.step(B, Message::Raft(gap)), Err(Refused::OutOfRange { .. })));
    let bare = RaftMessage { kind: Kind::Snapshot, ..good.clone() };
    assert!(matches!(node.step(B, Message::Raft(bare)), Err(Refused::OutOfRange { .. })));
    assert!(matches!(node.step(A, Message::Raft(good.clone())), Err(Refused::OutOfRange { .. })));
    assert!(node.step(B, Message::Raft(good)).is_ok());
}

#[test]
fn a_log_that_ends_before_what_is_committed_is_not_started_from() {
    let mut start = founded(&[A]);
    start.hard_state.commit = 5;
    assert!(Node::new(A, settings(1), start).is_err());
}

#[test]
fn a_member_that_starts_again_applies_what_its_snapshot_does_not_contain() {
    let mut start = founded(&[A]);
    start.hard_state = consensus::HardState { term: 3, vote: 1, commit: 2 };
    start.entries = vec![LogEntry { index: 2, term: 3, body: Body::Normal(Bytes::from_static(b"kept")) }];
    let mut group = Group::default();
    group.add(A, start);
    group.node(A).campaign();
    group.settle();
    assert_eq!(group.texts(A), ["kept"]);
}
