//! A disk that knows what is durable.

use manager_core::{LogRecord, Persist, Recovered};

#[derive(Default)]
pub struct Disk {
    durable: Recovered,
    pending: Vec<Persist>,
}

impl Disk {
    pub fn holding(recovered: Recovered) -> Self {
        Self { durable: recovered, pending: Vec::new() }
    }

    pub fn write(&mut self, persist: Persist) {
        self.pending.push(persist);
    }

    /// The sync is done.
    pub fn sync(&mut self, sequence: u64) {
        while self.pending.first().is_some_and(|first| first.sequence <= sequence) {
            let persist = self.pending.remove(0);
            self.apply(persist);
        }
    }

    /// The power fails: what was not synced is there in part, from the front.
    pub fn crash(&mut self, survives: usize) {
        let pending = std::mem::take(&mut self.pending);
        for persist in pending.into_iter().take(survives) {
            self.apply(persist);
        }
    }

    pub fn recovered(&self) -> Recovered {
        self.durable.clone()
    }

    pub fn compact(&mut self, index: u64) {
        self.durable.entries.retain(|entry| entry.index > index);
    }

    fn apply(&mut self, persist: Persist) {
        let durable = &mut self.durable;
        if persist.reset_log {
            durable.entries.clear();
        }
        durable.snapshot = persist.snapshot.or(durable.snapshot.take());
        if let Some(from) = persist.truncate_from {
            durable.entries.retain(|entry| entry.index < from);
        }
        for entry in persist.entries {
            let last = durable.entries.last().map(|last: &LogRecord| last.index);
            assert!(
                last.is_none_or(|last| last + 1 == entry.index),
                "a gap in the log: {last:?}, {}",
                entry.index
            );
            durable.entries.push(entry);
        }
        durable.hard_state = persist.hard_state.or(durable.hard_state.take());
    }
}
