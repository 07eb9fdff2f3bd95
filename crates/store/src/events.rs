//! The bounded, resumable stream of events (invariant I18).
//!
//! A watcher names the last revision that it saw and gets everything after it, or is told that the ring has moved on.
//! Never a gap in silence.

use std::sync::Arc;

use imbl::Vector;
use model::event::{Event, Revision};
use planted::Bug;
use serde::{Deserialize, Serialize};

use crate::hash::{Table, object_hash};

/// Events kept. A watcher that was away for longer starts again from the objects themselves; at 100 events a second
/// that is 40 s, far beyond a reconnect.
pub const MAX_EVENTS: usize = 4096;

/// The events between the wanted revision and now are not all kept: read the objects again, then watch from `at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the events after that revision are no longer kept; the stream stands at {at}")]
pub struct Resync {
    /// Where the stream stands now.
    pub at: Revision,
}

/// The newest [`MAX_EVENTS`] events, in order.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct EventRing {
    /// Oldest first.
    ring: Vector<Arc<Event>>,
    /// The newest event that is no longer kept.
    dropped: Option<Revision>,
}

impl EventRing {
    /// Adds the newest event; gives back what the sum of hashes gains.
    pub fn push(&mut self, event: Event) -> u64 {
        let mut gain = object_hash(Table::Event, &event);
        self.ring.push_back(Arc::new(event));
        if self.ring.len() > planted::ring(MAX_EVENTS)
            && let Some(oldest) = self.ring.pop_front()
        {
            gain = gain.wrapping_sub(object_hash(Table::Event, &*oldest));
            self.dropped = Some(oldest.revision);
        }
        gain
    }

    /// The newest revision, zero before the first event.
    pub fn newest(&self) -> Revision {
        self.ring.back().map_or_else(Revision::default, |event| event.revision)
    }

    /// Everything after a revision, or everything kept.
    pub fn after(
        &self,
        after: Option<Revision>,
        applied: u64,
    ) -> Result<impl Iterator<Item = &Event>, Resync> {
        let start = match after {
            None => 0,
            Some(seen) if seen.index > applied || self.has_dropped(seen) => {
                return Err(Resync { at: self.newest() });
            }
            Some(seen) => match self.ring.binary_search_by(|event| event.revision.cmp(&seen)) {
                Ok(found) => found + 1,
                Err(next) => next,
            },
        };
        Ok((start..self.ring.len()).filter_map(|position| self.ring.get(position)).map(|event| &**event))
    }

    fn has_dropped(&self, seen: Revision) -> bool {
        self.dropped.is_some_and(|dropped| seen < dropped) && !planted::is(Bug::RingWrapsSilently)
    }

    /// The sum of the hashes of all kept events.
    pub fn sum(&self) -> u64 {
        self.ring.iter().fold(0, |sum, event| sum.wrapping_add(object_hash(Table::Event, &**event)))
    }

    /// Whether the order and the bound hold.
    pub fn is_ordered(&self) -> bool {
        let mut last = self.dropped;
        self.ring.len() <= MAX_EVENTS
            && self.ring.iter().all(|event| {
                let grows = last.is_none_or(|last| last < event.revision);
                last = Some(event.revision);
                grows
            })
    }
}
