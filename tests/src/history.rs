//! Is a recorded history of one register linearizable? A depth-first search over the orders that respect real time,
//! after Wing and Gong, with a memory of (operations done, value) so that no state is visited twice.

use std::collections::HashSet;

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A read that returned this value.
    Read(u64),
    /// A change of the register from one value to another, which succeeds only from the first.
    Change { from: u64, to: u64 },
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It took effect between call and return.
    Done,
    /// It was refused: the value was another one.
    Refused,
    /// Nobody knows: it may take effect at any time after the call, or never.
    Unknown,
}

/// One operation; the times only have to order.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    pub op: Op,
    pub end: End,
    pub called: u64,
    pub returned: u64,
}

/// Whether some order explains all entries, beginning with `initial`.
pub fn is_linearizable(initial: u64, entries: &[Entry]) -> bool {
    // An unknown one may take effect late: for the search it never returns, and need not happen.
    let mut entries = entries.to_vec();
    for entry in entries.iter_mut().filter(|entry| entry.end == End::Unknown) {
        entry.returned = u64::MAX;
    }
    entries.sort_by_key(|entry| entry.called);
    Search { entries: &entries, seen: HashSet::new() }.from(&mut vec![false; entries.len()], initial)
}

struct Search<'a> {
    entries: &'a [Entry],
    seen: HashSet<(Vec<bool>, u64)>,
}

impl Search<'_> {
    fn from(&mut self, done: &mut Vec<bool>, value: u64) -> bool {
        let open =
            || self.entries.iter().zip(done.iter()).filter(|(_, done)| !**done).map(|(entry, _)| entry);
        if open().all(|entry| entry.end == End::Unknown) {
            return true;
        }
        if !self.seen.insert((done.clone(), value)) {
            return false;
        }
        // Whatever was called after something else had returned comes after it.
        let horizon = open().map(|entry| entry.returned).min().unwrap_or(u64::MAX);
        for index in 0..self.entries.len() {
            let entry = self.entries[index];
            if done[index] || entry.called > horizon {
                continue;
            }
            let Some(next) = after(entry, value) else { continue };
            done[index] = true;
            if self.from(done, next) {
                return true;
            }
            done[index] = false;
        }
        false
    }
}

/// The value after `entry` takes effect at `value`; `None` when it could not have ended so.
fn after(entry: Entry, value: u64) -> Option<u64> {
    match (entry.op, entry.end) {
        (Op::Read(read), End::Done) => (read == value).then_some(value),
        (Op::Change { from, to }, End::Done) => (from == value).then_some(to),
        (Op::Change { from, .. }, End::Refused) => (from != value).then_some(value),
        (Op::Change { from, to }, End::Unknown) => (from == value).then_some(to),
        (Op::Read(_), End::Refused | End::Unknown) => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(op: Op, end: End, called: u64, returned: u64) -> Entry {
        Entry { op, end, called, returned }
    }

    #[test]
    fn history_that_some_order_explains_passes() {
        let change = |from, to| Op::Change { from, to };
        let history = [
            entry(change(0, 1), End::Done, 0, 10),
            entry(Op::Read(0), End::Done, 1, 5),
            entry(Op::Read(1), End::Done, 2, 12),
            entry(change(1, 2), End::Unknown, 13, 20),
            entry(Op::Read(1), End::Done, 21, 22),
            entry(Op::Read(2), End::Done, 23, 24),
            entry(change(1, 3), End::Refused, 25, 26),
        ];
        assert!(is_linearizable(0, &history));
    }

    #[test]
    fn stale_read_lost_write_and_double_effect_are_found() {
        let change = |from, to| Op::Change { from, to };
        let written = entry(change(0, 1), End::Done, 0, 10);
        assert!(!is_linearizable(0, &[written, entry(Op::Read(0), End::Done, 11, 12)]), "stale read");
        assert!(!is_linearizable(0, &[written, entry(change(0, 2), End::Done, 11, 12)]), "lost write");
        let back = [
            entry(change(0, 1), End::Unknown, 0, 1),
            entry(Op::Read(1), End::Done, 2, 3),
            entry(Op::Read(0), End::Done, 4, 5),
        ];
        assert!(!is_linearizable(0, &back), "an effect that was seen and went away");
        assert!(
            !is_linearizable(0, &[written, entry(change(1, 2), End::Refused, 11, 12)]),
            "refused for nothing"
        );
    }
}
