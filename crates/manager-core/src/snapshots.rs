//! Snapshots: taken every so many entries or bytes, or when a peer needs one; the log behind them is cut.

use bytes::Bytes;
use consensus::SnapshotMeta;

use crate::{Action, Manager, SpaceState, records};

/// What has gathered since the last snapshot, and the one being encoded.
#[derive(Default)]
pub(crate) struct Snapshots {
    entries: u64,
    bytes: u64,
    encoding: Option<SnapshotMeta>,
    asked: bool,
}

impl Snapshots {
    pub(crate) fn count(&mut self, size: u64) {
        self.entries += 1;
        self.bytes += size;
    }

    /// The leader's snapshot replaced everything.
    pub(crate) fn restart(&mut self) {
        *self = Self::default();
    }
}

impl Manager {
    pub(crate) fn on_space(&mut self, space: SpaceState) {
        if space > self.space {
            self.snapshots.asked = true;
            self.warn(format!(
                "the disk of the log has little room left ({space:?}): clients' changes are refused"
            ));
        }
        self.space = space;
    }

    pub(crate) fn take_due_snapshot(&mut self) {
        self.snapshots.asked |= self.node.take_snapshot_wanted();
        let knobs = &self.config.knobs;
        let due = self.snapshots.asked
            || self.snapshots.entries >= knobs.snapshot_entries
            || self.snapshots.bytes >= knobs.snapshot_bytes;
        if !due || self.snapshots.encoding.is_some() {
            return;
        }
        let index = self.node.applied();
        let Some(term) = self.node.term_of(index).filter(|_| index > self.node.snapshot_index()) else {
            self.snapshots.asked = false;
            return;
        };
        let meta = SnapshotMeta { index, term, membership: self.node.membership().clone() };
        self.snapshots = Snapshots { encoding: Some(meta), ..Snapshots::default() };
        self.act(Action::EncodeSnapshot { index, term, state: Box::new(self.store.clone()) });
    }

    pub(crate) fn on_snapshot_encoded(&mut self, index: u64, bytes: Bytes) {
        let Some(meta) = self.snapshots.encoding.take_if(|meta| meta.index == index) else { return };
        if let Some(write) = self.node.snapshot_taken(meta, bytes) {
            self.act(Action::Persist(records::persist(&write)));
        }
    }
}
