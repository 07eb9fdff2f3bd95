//! I18: a watch is ordered and gap-free against what was committed, or says that it starts anew.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
};

use model::{
    event::{Event, Revision},
    hash::Fnv,
};
use store::Store;

use crate::world::World;

/// Every event that was ever committed.
#[derive(Debug, Default)]
pub(crate) struct Events {
    by_revision: BTreeMap<Revision, u64>,
    newest: Option<Revision>,
    /// Before this there may have been events that were never seen here.
    known_from: Revision,
}

fn digest(event: &Event) -> u64 {
    let mut hash = Fnv::new();
    hash.write(format!("{:?}", event.kind).as_bytes());
    hash.write_u64(event.at.0);
    hash.finish()
}

impl World {
    /// What the newest state says has happened.
    pub(crate) fn check_events(&mut self, store: &Store) {
        let events = &mut self.checks.events;
        let new: Vec<&Event> = match store.events_after(events.newest) {
            Ok(new) => new.collect(),
            Err(_) => {
                // More happened at once than is kept: what was dropped is not known here either.
                let kept: Vec<&Event> = store.events_after(None).into_iter().flatten().collect();
                events.known_from = kept.first().map(|event| event.revision).unwrap_or_default();
                kept
            }
        };
        for event in new {
            events.by_revision.insert(event.revision, digest(event));
        }
        events.newest = Some(store.revision());
    }

    /// A watcher was told of an event.
    pub(crate) fn check_watched(&mut self, watcher: usize, manager: usize, event: &Event) {
        self.checks.count("events watched");
        let after = self.clients.watchers[watcher].after.unwrap_or_default();
        if after < self.checks.events.known_from {
            return;
        }
        let expected = self.checks.events.by_revision.range((Excluded(after), Unbounded)).next();
        let right =
            expected.is_some_and(|(revision, hash)| (*revision, *hash) == (event.revision, digest(event)));
        if !right {
            let what = format!(
                "watcher {watcher} at {after} was told {} by m{manager}, the next one is {:?}",
                event.revision,
                expected.map(|(revision, _)| revision.to_string())
            );
            self.violate("I18", what, vec![format!("m{manager}")]);
        }
    }

    /// A watcher was told to start anew.
    pub(crate) fn check_resync(&mut self, _watcher: usize, _at: Revision) {
        self.checks.count("watches resynced");
    }
}
