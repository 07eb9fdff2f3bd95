//! The manager: inputs in, outputs out.
//!
//! One rule orders everything: an input changes fields, then [`Manager::settle`] runs until nothing moves. Consensus is
//! asked first (what is committed is applied at once), then the leader's work looks at the state that results, and what
//! it proposes goes back to consensus. No step waits for a timer that could have run at once.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use consensus::{Body, Membership, Node, Output, RaftSettings, Role, SnapshotMeta};
use model::{
    command::{Command, Entry},
    id::MemberId,
    time::{Instant, Now},
};
use planted::Bug;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use store::{Applied, Change, Store};

use crate::{
    Action, Config, Event, Notice, Persist, Recovered, SpaceState,
    audit::{Asked, Refusals},
    clock::{Stamps, Ticker},
    hashes::Hashes,
    held::Held,
    issue::Issuing,
    keys::Keys,
    lead::Lead,
    membership::Transfer,
    proposal::Proposals,
    query::Queries,
    records,
    records::RecoverError,
    session::Sessions,
    snapshots::Snapshots,
    tell::Told,
    watch::Watchers,
};

/// Woken later than this after the time asked for, a leader has stood still.
const STALL: Duration = Duration::from_millis(100);

/// One manager.
pub struct Manager {
    pub(crate) config: Config,
    pub(crate) now: Now,
    pub(crate) node: Node,
    pub(crate) store: Store,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) space: SpaceState,
    pub(crate) ticker: Ticker,
    /// The snapshot that is being installed, decoded.
    pub(crate) incoming: Option<(u64, Store)>,
    /// The last entry that lay on the disk at the start: it says nothing of when it was stamped.
    read_back: u64,
    /// The term of the last entry applied: this member serves when it is its own.
    applied_term: u64,
    pub(crate) stamps: Stamps,
    pub(crate) proposals: Proposals,
    pub(crate) queries: Queries,
    pub(crate) issuing: Issuing,
    pub(crate) refusals: Refusals,
    pub(crate) transfer: Option<Transfer>,
    pub(crate) sessions: Sessions,
    pub(crate) watchers: Watchers,
    pub(crate) held: Held,
    pub(crate) snapshots: Snapshots,
    pub(crate) hashes: Hashes,
    /// When each peer was last heard.
    pub(crate) heard: BTreeMap<MemberId, Instant>,
    /// What only a serving leader has; dropped with the lead.
    pub(crate) lead: Option<Lead>,
    pub(crate) told: Told,
    pub(crate) keys: Keys,
    halted: bool,
    actions: VecDeque<Action>,
}

/// What a shell shows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagerStatus {
    /// Leads and serves.
    pub serving: bool,
    /// Follows, asks for votes, leads.
    pub role: Role,
    /// The term.
    pub term: u64,
    /// Who leads, as far as known.
    pub leader: Option<MemberId>,
    /// The last entry handed to the state.
    pub applied: u64,
    /// The last entry known to be committed.
    pub committed: u64,
    /// The membership.
    pub membership: Membership,
    /// Agents connected.
    pub agents: usize,
    /// Proposals that wait for the disk or a majority.
    pub proposals: usize,
}

impl Manager {
    /// A manager as it starts: with what its disk has, or with nothing. With nothing and [`Config::bootstrap`] it founds
    /// a cluster of one; with nothing and without, it waits for the leader that admitted it.
    ///
    /// # Errors
    /// What was recovered cannot be used: refuse to start and print why.
    pub fn new(config: Config, recovered: Recovered, now: Now) -> Result<Self, RecoverError> {
        let empty = recovered.snapshot.is_none() && recovered.entries.is_empty();
        let founding = empty && config.bootstrap.is_some();
        let (mut start, store) = records::start(&recovered)?;
        if let Some(found) =
            store.cluster().map(|cluster| cluster.id).filter(|found| *found != config.cluster)
        {
            return Err(RecoverError::OtherCluster { found, expected: config.cluster });
        }
        if founding {
            let membership = Membership::alone(config.member);
            start.snapshot = SnapshotMeta { index: 1, term: 1, membership };
            start.snapshot_bytes = records::encode_state(&store);
        }
        let knobs = &config.knobs;
        let settings = RaftSettings {
            heartbeat_ticks: knobs.heartbeat_ticks,
            election_ticks: knobs.election_ticks,
            election_spread: knobs.election_spread,
            keep_entries: knobs.keep_entries,
            seed: config.rng_seed,
        };
        let applied_term = start.snapshot.term;
        let read_back = recovered.entries.last().map_or(0, |entry| entry.index);
        let founded = founding.then(|| (start.snapshot.clone(), start.snapshot_bytes.clone()));
        let node = Node::new(config.member, settings, start)?;
        let mut manager = Self {
            ticker: Ticker::new(knobs.tick, 2 * knobs.heartbeat_ticks, now.mono),
            rng: ChaCha8Rng::seed_from_u64(config.rng_seed),
            stamps: Stamps::default(),
            now,
            node,
            store,
            space: SpaceState::Enough,
            incoming: None,
            read_back,
            applied_term,
            proposals: Proposals::default(),
            queries: Queries::default(),
            issuing: Issuing::default(),
            refusals: Refusals::default(),
            transfer: None,
            sessions: Sessions::default(),
            watchers: Watchers::default(),
            held: Held::default(),
            snapshots: Snapshots::default(),
            hashes: Hashes::default(),
            heard: BTreeMap::new(),
            lead: None,
            told: Told::default(),
            keys: Keys::new(config.keyring.clone(), &config.entropy),
            halted: false,
            actions: VecDeque::new(),
            config,
        };
        if let Some((meta, bytes)) = founded {
            manager.write_founding_snapshot(&meta, bytes);
        }
        if manager.node.membership().voters == Membership::alone(manager.config.member).voters {
            manager.node.campaign();
        }
        manager.tell_revoked_members();
        manager.told.authority_due = true;
        manager.settle();
        Ok(manager)
    }

    /// Takes one input.
    pub fn handle_event(&mut self, event: Event, now: Now) {
        if self.halted {
            return;
        }
        self.advance_to(now);
        self.dispatch_event(event);
        self.settle();
    }

    /// Does what is due. Harmless when nothing is.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.halted {
            return;
        }
        self.advance_to(now);
        self.settle();
    }

    /// The next thing to carry out, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.halted {
            return None;
        }
        let ticks = self.node.ticks_until_due().map(|ticks| self.ticker.at(ticks));
        let mine = [
            ticks,
            self.about_deadline(),
            self.keys_deadline(),
            self.queries.next_deadline(),
            self.held.next_deadline(),
            self.sessions.next_deadline(),
        ];
        let working = self.lead.as_ref().filter(|_| self.store.cluster().is_some());
        let lead = working.and_then(|lead| lead.next_deadline(self.space));
        let sums = working.and_then(|_| self.sums_deadline());
        mine.into_iter().flatten().chain(lead).chain(sums).min()
    }

    /// The replicated state as applied here.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What this member is at the moment.
    pub fn status(&self) -> ManagerStatus {
        ManagerStatus {
            serving: self.is_serving(),
            role: self.node.role(),
            term: self.node.term(),
            leader: self.node.leader(),
            applied: self.node.applied(),
            committed: self.node.committed(),
            membership: self.node.membership().clone(),
            agents: self.sessions.len(),
            proposals: self.proposals.len(),
        }
    }

    fn dispatch_event(&mut self, event: Event) {
        match event {
            Event::Peer { from, bytes } => {
                self.heard.insert(from, self.now.mono);
                self.on_peer(from, &bytes);
            }
            Event::PeerUnreachable { member } => self.node.unreachable(member),
            Event::Disowned { by } => self.on_disowned(by),
            Event::Persisted { sequence } => self.node.persisted(sequence),
            Event::SnapshotEncoded { index, bytes } => self.on_snapshot_encoded(index, bytes),
            Event::Space(space) => self.on_space(space),
            Event::Request { handle, identity, request_id, consistency, deadline, request, origin } => {
                let ask = crate::query::Ask { handle, identity, request_id, consistency, request, origin };
                self.on_request(ask, deadline);
            }
            Event::Refused { handle, identity, request_id, origin, about, error } => {
                self.on_refused(&Asked { handle, identity, request_id, origin, about }, error);
            }
            Event::Cancel { handle } => self.on_cancel(handle),
            Event::AgentOpened { connection, identity } => self.on_agent_opened(connection, identity),
            Event::AgentMessage { connection, message } => self.on_agent_message(connection, message),
            Event::AgentClosed { connection } => self.on_agent_closed(connection),
            Event::Signed { job, certificate } => self.on_signed(job, certificate),
            Event::RegistryAnswered { job, answer } => self.on_registry_answered(job, answer),
            Event::LoginAnswered { job, answer } => self.on_login_answered(job, answer),
            Event::KeysKept { sequence } => self.on_keys_kept(sequence),
        }
    }

    /// Called much later than asked for, this process was stopped or starved: no node is taken for silent for that.
    fn forgive_stall(&mut self, now: Now) {
        let late = self.poll_timeout().map_or(Duration::ZERO, |due| now.mono.since(due));
        if late > STALL
            && let Some(lead) = &mut self.lead
        {
            lead.liveness.forgive(now.mono.since(self.now.mono));
        }
    }

    fn advance_to(&mut self, now: Now) {
        self.forgive_stall(now);
        self.now = Now { mono: self.now.mono.max(now.mono), wall: now.wall };
        for _ in 0..self.ticker.take(self.now.mono, self.node.ticks_until_due()) {
            self.node.tick();
        }
        self.expire_requests();
        self.expire_sessions();
    }

    /// Runs until nothing moves.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            while let Some(output) = self.node.poll() {
                self.carry_out(output);
                moved = true;
            }
            self.follow_role();
            self.take_due_snapshot();
            if self.is_serving() {
                self.work_as_leader();
            }
            moved |= self.flush_proposals();
            if !moved || self.halted {
                break;
            }
        }
        self.cut_unwelcome();
        self.serve_watchers();
        self.tell_peers();
        self.tell_authority();
        self.tend_keyring();
        self.tell_leader_about_me();
    }

    fn carry_out(&mut self, output: Output) {
        if let Some(restored) = output.restored {
            self.restore(restored);
        }
        for entry in output.committed {
            let (index, term, size) = (entry.index, entry.term, entry.size());
            if let Body::Normal(bytes) = &entry.body
                && !bytes.is_empty()
            {
                self.apply(index, term, bytes);
            }
            if matches!(entry.body, Body::Conf(_)) {
                self.part_with_removed();
            }
            self.applied_term = term;
            self.snapshots.count(size);
            self.hash_if_due(index);
            if self.halted {
                return;
            }
        }
        if let Some(write) = output.write {
            self.act(Action::Persist(records::persist(&write)));
        }
        for (to, message) in output.messages {
            self.send_peer(to, &crate::peer::PeerMessage::Raft(Box::new(message)));
        }
        if let Some(index) = output.compact {
            self.act(Action::Compact { index });
        }
        for (number, index) in output.reads {
            self.on_read_index(number, index);
        }
        self.answer_reads();
    }

    fn apply(&mut self, index: u64, term: u64, bytes: &[u8]) {
        let entry: Entry = match proto::codec::decode(bytes) {
            Ok(entry) => entry,
            Err(error) => {
                return self.halt(format!(
                    "entry {index} of the log cannot be read: {error}. Upgrade this manager to the version of the others"
                ));
            }
        };
        if planted::is(Bug::AppliedSavedEarly) && self.store.applied() == self.node.snapshot_index().max(2) {
            return;
        }
        if index > self.read_back && self.lead.is_none() {
            self.stamps.hear(entry.at, self.now);
        }
        let applied = self.store.apply(index, &entry);
        self.note_changes(&applied.changes);
        if matches!(entry.command, Command::AddKey { .. }) {
            self.on_key_added();
        }
        self.complete(index, term, &entry, applied);
    }

    pub(crate) fn note_changes(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Cluster => {
                    self.told.authority_due = true;
                    self.held.identities_changed();
                }
                Change::Member(_) => self.on_member_changed(),
                Change::Node(id) if self.store.node(*id).is_none() => self.on_node_removed(*id),
                _ => {}
            }
            if let Some(lead) = &mut self.lead {
                lead.note(change, &self.store);
            }
        }
    }

    /// The leader's snapshot took the state's place.
    fn restore(&mut self, restored: consensus::Restored) {
        let (index, state) = self.incoming.take().expect("a snapshot is decoded before it is installed");
        assert_eq!(index, restored.index, "the snapshot decoded last is the one installed");
        self.store = state;
        self.applied_term = restored.term;
        self.snapshots.restart();
        self.on_member_changed();
        self.held.identities_changed();
    }

    /// Leads, and has applied everything of earlier terms: only then it answers, decides and talks to agents.
    pub(crate) fn is_serving(&self) -> bool {
        let applied = self.applied_term == self.node.term() || planted::is(Bug::ServesTooEarly);
        self.node.role() == Role::Leader && applied
    }

    /// Begins and ends the lead, and tells the shell.
    fn follow_role(&mut self) {
        let serving = self.is_serving();
        let same = self.lead.as_ref().is_some_and(|lead| lead.term == self.node.term());
        if self.lead.is_some() && !(serving && same) {
            self.end_lead();
        }
        if self.node.role() != Role::Leader {
            self.proposals_lost();
            self.refer_parked();
            self.redirect_waiting();
        }
        if serving && self.lead.is_none() {
            self.begin_lead();
        }
        self.watch_transfer();
        self.tell_leader(serving);
    }

    fn write_founding_snapshot(&mut self, meta: &SnapshotMeta, bytes: bytes::Bytes) {
        // Sequence 0: before anything that consensus writes; it waits for no answer because its own first write, which
        // it does wait for, comes after it.
        self.act(Action::Persist(Persist {
            sequence: 0,
            hard_state: None,
            truncate_from: None,
            entries: Vec::new(),
            snapshot: Some(records::blob(meta, bytes)),
            reset_log: true,
            must_sync: true,
        }));
    }

    pub(crate) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(crate) fn warn(&mut self, text: String) {
        self.act(Action::Notice(Notice { warning: true, text }));
    }

    pub(crate) fn notice(&mut self, text: String) {
        self.act(Action::Notice(Notice { warning: false, text }));
    }

    pub(crate) fn halt(&mut self, reason: String) {
        self.end(Action::Halt { reason });
    }

    pub(crate) fn end(&mut self, last: Action) {
        if !self.halted {
            self.halted = true;
            self.act(last);
        }
    }

    /// A number never given out before, not zero.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.rng.next_u64().max(1)
    }

    pub(crate) fn managers(&self) -> Vec<model::session::ManagerAddress> {
        self.store
            .members()
            .map(|member| model::session::ManagerAddress { id: member.id, address: member.address.clone() })
            .collect()
    }

    pub(crate) fn complete(&mut self, index: u64, term: u64, entry: &Entry, applied: Applied) {
        let Some(flight) = self.proposals.take(index) else { return };
        if flight.term == term || planted::is(Bug::TermCheckDropped) {
            self.on_applied(flight.purpose, index, entry, applied);
        } else {
            self.on_lost(flight.purpose);
        }
    }
}

/// Kept here because every part uses it.
pub(crate) type ByHandle<T> = BTreeMap<u64, T>;
