//! One member of the group: drives the library and keeps its rules.
//!
//! Rules, each with what it prevents:
//! - What vouches for data (votes, append responses) leaves after the write that holds the data is durable, in order.
//!   The answer to a heartbeat vouches for nothing and leaves at once: a slow disk must not look like a dead member.
//! - A leader's own messages leave at once, so that followers write while it writes, except while its term or vote is
//!   not durable: a sole voter that crashed there would lead the same term twice.
//! - A commit index alone is never written: it is found again from the leader, and travels with the next write.
//! - No campaign while a write is under way: the disk is slow, and a candidate that cannot write helps nobody.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    log::Log,
    membership::{ConfChange, Membership},
    message::{Body, Kind, LogEntry, Message, RaftMessage, Refused, SnapshotMeta},
    transfer::{Progress, ReceivedSnapshot, Receiver, Sender},
    types::{HardState, Output, ProposeError, RaftSettings, Restored, Role, Start, StartError, Write},
};
use bytes::Bytes;
use model::id::MemberId;
use planted::Bug;
use raft::{RawNode, SnapshotStatus, eraftpb};

/// Bytes of entries in one message: as a chunk of a snapshot.
const MAX_MESSAGE_BYTES: u64 = 256 * 1024;
/// Appends on the way to one peer: with the bound above at most 16 MiB.
const MAX_INFLIGHT: usize = 64;
/// Bytes proposed and not committed; beyond it proposals are refused as busy.
const MAX_UNCOMMITTED: u64 = 32 * 1024 * 1024;
/// Bytes of entries handed out to be applied at once, so that a long log is applied in steps.
const MAX_COMMITTED: u64 = 4 * 1024 * 1024;
/// No index comes near; keeps sums from overflowing.
const MAX_INDEX: u64 = 1 << 62;

pub(crate) struct Pending {
    pub(crate) sequence: u64,
    /// The library's steps up to this one are durable with it.
    pub(crate) ready: Option<u64>,
    /// A restored snapshot counts as applied once it is durable.
    pub(crate) applied: Option<u64>,
    pub(crate) own_snapshot: Option<(SnapshotMeta, Bytes)>,
}

/// See the module's head.
pub struct Node {
    pub(crate) id: MemberId,
    pub(crate) settings: RaftSettings,
    pub(crate) raw: RawNode<Log>,
    pub(crate) membership: Membership,
    pub(crate) applied: u64,
    pub(crate) draws: u64,
    pub(crate) timeout: u32,
    pub(crate) elapsed_before: usize,
    pub(crate) sequence: u64,
    pub(crate) durable: u64,
    pub(crate) written: HardState,
    pub(crate) pending: VecDeque<Pending>,
    /// Messages of a leader wait for this write.
    pub(crate) term_write: u64,
    pub(crate) held: VecDeque<(u64, eraftpb::Message)>,
    pub(crate) outbox: Vec<(MemberId, Message)>,
    pub(crate) senders: BTreeMap<MemberId, Sender>,
    pub(crate) receiver: Receiver,
    /// Bytes of the snapshot that was stepped last.
    pub(crate) installing: Option<(u64, Bytes)>,
    pub(crate) compacted: Option<u64>,
}

impl Node {
    /// A member as it starts.
    ///
    /// # Errors
    /// What was recovered contradicts itself.
    pub fn new(id: MemberId, settings: RaftSettings, start: Start) -> Result<Self, StartError> {
        let Start { hard_state, snapshot, snapshot_bytes, entries } = start;
        if snapshot.index > 0 && !snapshot.membership.is_sound() {
            return Err(StartError::Membership);
        }
        let mut last = snapshot.index;
        let mut kept = Vec::new();
        for entry in entries.iter().filter(|entry| entry.index > snapshot.index) {
            if entry.index != last + 1 {
                return Err(StartError::Gap { last, found: entry.index });
            }
            last = entry.index;
            kept.push(entry.to_raft());
        }
        // The commit index is written lazily: a snapshot proves a later one.
        let commit = hard_state.commit.max(snapshot.index);
        if commit > last {
            return Err(StartError::CutOff { commit, last });
        }
        let mut initial = eraftpb::HardState::default();
        initial.set_term(hard_state.term.max(snapshot.term));
        initial.set_vote(if hard_state.term >= snapshot.term { hard_state.vote } else { 0 });
        initial.set_commit(commit);
        let applied = snapshot.index;
        let membership = snapshot.membership.clone();
        let log = Log::new(snapshot, snapshot_bytes, kept, initial);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&library_config(id, &settings, applied), log, &logger)
            .map_err(|error| StartError::Library(error.to_string()))?;
        let mut node = Self {
            id,
            settings,
            raw,
            membership,
            applied,
            draws: settings.seed,
            timeout: 0,
            elapsed_before: 0,
            sequence: 0,
            durable: 0,
            written: hard_state,
            pending: VecDeque::new(),
            term_write: 0,
            held: VecDeque::new(),
            outbox: Vec::new(),
            senders: BTreeMap::new(),
            receiver: Receiver::default(),
            installing: None,
            compacted: None,
        };
        node.draw_timeout();
        Ok(node)
    }

    /// One tick of the timers. Heartbeats, checks of the quorum and elections hang on it alone.
    pub fn tick(&mut self) {
        self.raw.tick();
        let elapsed = self.raw.raft.election_elapsed;
        if elapsed <= self.elapsed_before {
            self.draw_timeout();
        }
        self.elapsed_before = elapsed;
        if self.role() != Role::Leader && elapsed >= self.timeout as usize {
            self.campaign();
        }
        self.tick_senders();
    }

    /// Ticks until something happens by itself; `None` = nothing will.
    pub fn ticks_until_due(&self) -> Option<u32> {
        let raft = &self.raw.raft;
        let left = if self.role() == Role::Leader {
            let heartbeat = raft.heartbeat_timeout().saturating_sub(raft.heartbeat_elapsed());
            let check = raft.election_timeout().saturating_sub(raft.election_elapsed);
            heartbeat.min(check)
        } else if raft.promotable() {
            (self.timeout as usize).saturating_sub(raft.election_elapsed)
        } else {
            return None;
        };
        Some(u32::try_from(left.max(1)).unwrap_or(u32::MAX))
    }

    /// Asks for votes at once, if it may: for a sole voter at start.
    pub fn campaign(&mut self) {
        self.raw.raft.election_elapsed = 0;
        self.elapsed_before = 0;
        self.draw_timeout();
        let writing = self.pending.iter().any(|pending| pending.ready.is_some());
        if !writing && self.raw.raft.promotable() {
            // An error says that it leads already or may not: both are fine.
            let _ = self.raw.campaign();
        }
    }

    /// Takes a message of a peer. A snapshot that is complete is returned: check it, then [`install`](Self::install) it.
    ///
    /// # Errors
    /// Drop the message, or end the process on [`Refused::LostEntries`].
    pub fn step(&mut self, from: MemberId, message: Message) -> Result<Option<ReceivedSnapshot>, Refused> {
        match message {
            Message::Raft(message) => {
                message.check(from, self.id)?;
                if message.kind == Kind::Snapshot {
                    return Err(Refused::OutOfRange { from, what: "a snapshot without its bytes" });
                }
                self.step_raft(from, &message)?;
            }
            Message::Chunk(chunk) => {
                if chunk.message.term < self.term() {
                    return Ok(None);
                }
                let (ack, complete) = self.receiver.take(from, self.id, chunk)?;
                self.outbox.push((from, Message::ChunkAck(ack)));
                return Ok(complete);
            }
            Message::ChunkAck(ack) => {
                if let Some(sender) = self.senders.get_mut(&from) {
                    match sender.acknowledge(ack) {
                        Progress::Done => self.end_sender(from, SnapshotStatus::Finish),
                        Progress::Going | Progress::GivenUp => self.fill_sender(from),
                    }
                }
            }
        }
        Ok(None)
    }

    /// Steps a snapshot whose bytes can be read. Whether it replaces the state says the next [`Output::restored`].
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn install(&mut self, received: ReceivedSnapshot) -> Result<(), Refused> {
        self.installing = Some((received.index(), received.bytes));
        self.step_raft(received.from, &received.message)
    }

    /// Proposes an entry. Returns its index and term: it is committed if this index is committed with this term.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub fn propose(&mut self, data: Bytes) -> Result<(u64, u64), ProposeError> {
        if self.role() != Role::Leader {
            return Err(ProposeError::NotLeader);
        }
        self.raw.propose(Vec::new(), data.into()).map_err(|_| ProposeError::Busy)?;
        Ok((self.raw.raft.raft_log.last_index(), self.term()))
    }

    /// Proposes a change of the membership; without changes it ends a joint one.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub fn propose_change(&mut self, change: &ConfChange) -> Result<(), ProposeError> {
        if self.role() != Role::Leader {
            return Err(ProposeError::NotLeader);
        }
        if self.raw.raft.has_pending_conf() || (self.membership.is_joint() && !change.changes.is_empty()) {
            return Err(ProposeError::ChangePending);
        }
        self.raw.propose_conf_change(Vec::new(), change.to_raft()).map_err(|_| ProposeError::Busy)
    }

    /// Asks for the index that a read must wait for; the answer comes as [`Output::reads`] under `number`. Forgotten when
    /// this member stops leading.
    ///
    /// # Errors
    /// Not leading, or nothing of its own term is committed yet.
    pub fn read_index(&mut self, number: u64) -> Result<(), ProposeError> {
        if self.role() != Role::Leader {
            return Err(ProposeError::NotLeader);
        }
        if !self.raw.raft.commit_to_current_term() {
            return Err(ProposeError::Busy);
        }
        self.raw.read_index(number.to_be_bytes().to_vec());
        Ok(())
    }

    /// Hands the lead to a voter; given up after an election timeout.
    pub fn transfer_leader(&mut self, to: MemberId) {
        self.raw.transfer_leader(to.0);
    }

    /// Whether a hand-over is under way.
    pub fn is_transferring(&self) -> bool {
        self.raw.raft.lead_transferee.is_some()
    }

    /// A peer could not be reached.
    pub fn unreachable(&mut self, member: MemberId) {
        self.raw.report_unreachable(member.0);
    }

    /// A snapshot of the state at `applied` is encoded: it is to be written.
    pub fn snapshot_taken(&mut self, meta: SnapshotMeta, bytes: Bytes) -> Option<Write> {
        if meta.index <= self.snapshot_index() {
            return None;
        }
        self.sequence += 1;
        self.pending.push_back(Pending {
            sequence: self.sequence,
            ready: None,
            applied: None,
            own_snapshot: Some((meta.clone(), bytes.clone())),
        });
        Some(Write {
            sequence: self.sequence,
            hard_state: None,
            truncate_from: None,
            entries: Vec::new(),
            snapshot: Some((meta, bytes)),
            reset_log: false,
        })
    }

    /// Every write up to this sequence is durable.
    pub fn persisted(&mut self, sequence: u64) {
        let sequence = sequence.min(self.sequence);
        self.durable = self.durable.max(sequence);
        while let Some(first) = self.pending.pop_front_if(|first| first.sequence <= sequence) {
            if let Some(number) = first.ready {
                self.raw.on_persist_ready(number);
            }
            if let Some(index) = first.applied {
                self.raw.advance_apply_to(index);
            }
            if let Some((meta, bytes)) = first.own_snapshot {
                let upto = meta.index.saturating_sub(self.settings.keep_entries);
                let gone = self.raw.mut_store().compact(meta, bytes, upto);
                self.compacted = gone.or(self.compacted);
            }
        }
        while let Some((_, message)) = self.held.pop_front_if(|(after, _)| *after <= self.durable) {
            self.release(message);
        }
    }

    /// The next thing to do; to be called after every input until it is `None`.
    pub fn poll(&mut self) -> Option<Output> {
        let mut output = Output { compact: self.compacted.take(), ..Output::default() };
        if self.raw.has_ready() {
            self.take_ready(&mut output);
        }
        output.messages.append(&mut self.outbox);
        (output != Output::default()).then_some(output)
    }

    fn take_ready(&mut self, output: &mut Output) {
        let mut ready = self.raw.ready();
        let leading = self.role() == Role::Leader;
        let hard_state = self.hard_state();
        let new_term = (hard_state.term, hard_state.vote) != (self.written.term, self.written.vote);
        if ready.must_sync() {
            output.write = Some(self.write_ready(&ready, hard_state, output));
        }
        if new_term && output.write.is_some() {
            self.term_write = self.sequence;
        }
        let number = ready.number();
        for state in ready.take_read_states() {
            if let Ok(number) = state.request_ctx.as_slice().try_into() {
                output.reads.push((u64::from_be_bytes(number), state.index));
            }
        }
        let free = ready.take_messages();
        let vouching = ready.take_persisted_messages();
        let committed = ready.take_committed_entries();
        self.raw.advance_append_async(ready);
        match self.pending.back_mut() {
            Some(last) => last.ready = Some(number),
            None => self.raw.on_persist_ready(number),
        }
        self.apply(committed, output);
        for message in free {
            self.send_after(if leading { self.term_write } else { self.sequence }, message);
        }
        for message in vouching {
            let vouches = message.get_msg_type() != eraftpb::MessageType::MsgHeartbeatResponse
                && !planted::is(Bug::AckBeforeSync);
            self.send_after(if vouches { self.sequence } else { 0 }, message);
        }
    }

    /// Writes down in memory what the disk is to write, so that the library can read it from now on.
    fn write_ready(&mut self, ready: &raft::Ready, hard_state: HardState, output: &mut Output) -> Write {
        self.sequence += 1;
        let mut write = Write {
            sequence: self.sequence,
            hard_state: (hard_state != self.written).then_some(as_written(hard_state)),
            truncate_from: None,
            entries: ready.entries().iter().map(LogEntry::from_raft).collect(),
            snapshot: None,
            reset_log: false,
        };
        self.written = hard_state;
        let mut applied = None;
        if !ready.snapshot().is_empty() {
            let meta = SnapshotMeta::from_raft(ready.snapshot());
            let bytes = self.installing.take().filter(|(index, _)| *index == meta.index);
            let (_, bytes) = bytes.expect("the library restores only the snapshot that was installed");
            self.raw.mut_store().restore(meta.clone(), bytes.clone());
            self.membership = meta.membership.clone();
            self.applied = meta.index;
            applied = Some(meta.index);
            output.restored = Some(Restored { index: meta.index, term: meta.term });
            (write.snapshot, write.reset_log) = (Some((meta, bytes)), true);
        }
        write.truncate_from = self.raw.mut_store().append(ready.entries());
        self.pending.push_back(Pending { sequence: self.sequence, ready: None, applied, own_snapshot: None });
        write
    }

    fn apply(&mut self, committed: Vec<eraftpb::Entry>, output: &mut Output) {
        let Some(last) = committed.last().map(eraftpb::Entry::get_index) else { return };
        for entry in &committed {
            let entry = LogEntry::from_raft(entry);
            if let Body::Conf(change) = &entry.body
                && let Ok(state) = self.raw.apply_conf_change(&change.to_raft())
            {
                self.membership = Membership::from_raft(&state);
            }
            output.committed.push(entry);
        }
        self.applied = last;
        self.raw.advance_apply_to(last);
    }

    fn step_raft(&mut self, from: MemberId, message: &RaftMessage) -> Result<(), Refused> {
        let last = self.last_index();
        let far = [message.index, message.commit, message.reject_hint, message.term];
        if far.iter().any(|value| *value > MAX_INDEX) {
            return Err(Refused::OutOfRange { from, what: "a number beyond every log" });
        }
        // The library reckons with their number alone, and panics when the two differ.
        let follow = (message.index + 1..).zip(&message.entries).all(|(index, entry)| entry.index == index);
        // Beyond the log's end the library finds term 0, and takes it for a match.
        let nowhere = message.index > last && message.log_term == 0;
        if message.kind == Kind::Append && (!follow || nowhere) {
            return Err(Refused::OutOfRange { from, what: "entries that do not follow each other" });
        }
        let current = message.term >= self.term();
        match message.kind {
            Kind::Heartbeat if current && message.commit > last => {
                return Err(Refused::LostEntries { committed: message.commit, last });
            }
            Kind::AppendResponse if current && !message.reject && message.index > last => {
                return Err(Refused::OutOfRange { from, what: "it has more than this leader" });
            }
            // A leader of the same term is this member, or the sender is lying.
            Kind::Append | Kind::Heartbeat | Kind::Snapshot
                if message.term == self.term() && self.role() == Role::Leader =>
            {
                return Err(Refused::OutOfRange { from, what: "it claims to lead this member's term" });
            }
            // Until a restored snapshot is durable the library cannot campaign.
            Kind::TimeoutNow if self.pending.iter().any(|pending| pending.applied.is_some()) => return Ok(()),
            _ => {}
        }
        // An error says that the message is of no use now, such as one of a peer that has left.
        let _ = self.raw.step(message.to_raft(from, self.id));
        Ok(())
    }

    fn hard_state(&self) -> HardState {
        let state = self.raw.raft.hard_state();
        HardState { term: state.get_term(), vote: state.get_vote(), commit: state.get_commit() }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014): one word of state is plenty for timeouts.
    fn draw_timeout(&mut self) {
        self.draws = self.draws.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.draws;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        let spread = u64::from(self.settings.election_spread.max(1));
        self.timeout = self.settings.election_ticks + u32::try_from(word % spread).unwrap_or(0);
    }
}

fn as_written(state: HardState) -> HardState {
    if planted::is(Bug::VoteNotPersisted) { HardState { vote: 0, ..state } } else { state }
}

/// Every default that is wrong for us is set. The library's own election timeout is pinned to one value later than any
/// that [`Node::draw_timeout`] gives, so that it never fires and draws nothing that matters.
fn library_config(id: MemberId, settings: &RaftSettings, applied: u64) -> raft::Config {
    let pinned = (settings.election_ticks + settings.election_spread.max(1)) as usize;
    raft::Config {
        id: id.0,
        election_tick: settings.election_ticks as usize,
        heartbeat_tick: settings.heartbeat_ticks as usize,
        min_election_tick: pinned,
        max_election_tick: pinned + 1,
        applied,
        pre_vote: true,
        check_quorum: true,
        max_size_per_msg: MAX_MESSAGE_BYTES,
        max_inflight_msgs: MAX_INFLIGHT,
        max_uncommitted_size: MAX_UNCOMMITTED,
        max_committed_size_per_ready: MAX_COMMITTED,
        ..raft::Config::default()
    }
}
