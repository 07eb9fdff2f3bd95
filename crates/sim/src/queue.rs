//! The world's only clock and its agenda: what happens next, ordered by time and, within one instant, by when it was
//! put there.

use std::{cmp::Ordering, collections::BinaryHeap};

/// Nanoseconds since the beginning of the world.
pub(crate) type Time = u64;

/// A millisecond.
pub(crate) const MS: Time = 1_000_000;
/// A second.
pub(crate) const SEC: Time = 1_000 * MS;

struct Entry<E> {
    at: Time,
    number: u64,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    /// The earliest is the greatest: the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

/// The agenda.
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Entry<E>>,
    now: Time,
    number: u64,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), now: 0, number: 0 }
    }

    /// The present.
    pub(crate) fn now(&self) -> Time {
        self.now
    }

    /// Puts an event at a time; what lies in the past happens now.
    pub(crate) fn at(&mut self, at: Time, event: E) {
        self.number += 1;
        self.heap.push(Entry { at: at.max(self.now), number: self.number, event });
    }

    /// Puts an event after a span.
    pub(crate) fn after(&mut self, span: Time, event: E) {
        self.at(self.now + span, event);
    }

    /// Moves on to the next event.
    pub(crate) fn next(&mut self) -> Option<E> {
        let entry = self.heap.pop()?;
        self.now = entry.at;
        Some(entry.event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_instant_happen_in_the_order_they_were_put() {
        let mut queue = Queue::new();
        queue.at(5, 'b');
        queue.at(5, 'c');
        queue.at(1, 'a');
        let order: Vec<_> = std::iter::from_fn(|| queue.next()).collect();
        assert_eq!(order, ['a', 'b', 'c']);
        assert_eq!(queue.now(), 5);
    }
}
