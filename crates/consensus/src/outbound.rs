//! What leaves a member: held until what it vouches for is durable; snapshots through senders of their own.

use model::id::MemberId;
use raft::{SnapshotStatus, eraftpb};

use crate::{
    Node, Role,
    message::{Kind, Message, RaftMessage},
    transfer::{Progress, Sender},
};

impl Node {
    pub(crate) fn send_after(&mut self, sequence: u64, message: eraftpb::Message) {
        if sequence <= self.durable {
            self.release(message);
        } else {
            self.held.push_back((sequence, message));
        }
    }

    pub(crate) fn release(&mut self, message: eraftpb::Message) {
        let to = MemberId(message.get_to());
        let Some(message) = RaftMessage::from_raft(&message) else { return };
        if message.kind == Kind::Snapshot {
            let bytes = self.raw.store().snapshot_bytes().clone();
            let current = self.raw.store().snapshot_meta().index;
            if message.snapshot.as_ref().is_some_and(|meta| meta.index == current) {
                self.senders.insert(to, Sender::new(message, bytes));
                self.fill_sender(to);
            } else {
                self.raw.report_snapshot(to.0, SnapshotStatus::Failure);
            }
            return;
        }
        self.outbox.push((to, Message::Raft(message)));
    }

    pub(crate) fn fill_sender(&mut self, to: MemberId) {
        let Some(sender) = self.senders.get_mut(&to) else { return };
        self.outbox.extend(sender.fill().into_iter().map(|chunk| (to, Message::Chunk(chunk))));
    }

    pub(crate) fn end_sender(&mut self, to: MemberId, status: SnapshotStatus) {
        self.senders.remove(&to);
        self.raw.report_snapshot(to.0, status);
    }

    pub(crate) fn tick_senders(&mut self) {
        if self.role() != Role::Leader {
            self.senders.clear();
            return;
        }
        let patience = self.settings.election_ticks;
        let peers: Vec<MemberId> = self.senders.keys().copied().collect();
        for peer in peers {
            match self.senders.get_mut(&peer).map(|sender| sender.tick(patience)) {
                Some(Progress::GivenUp) => self.end_sender(peer, SnapshotStatus::Failure),
                _ => self.fill_sender(peer),
            }
        }
    }
}
