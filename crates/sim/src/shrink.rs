//! Makes a broken world small: fewer nodes, faults and steps that still break the same invariant.
//!
//! Delta debugging: leaves out halves of what is on the agenda, then quarters, down to single items, and keeps what the same
//! invariant breaks without. Every try is a whole world, so that nothing is guessed.

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::{
    Case, Report,
    skip::{Drawn, Item},
};

/// A broken world made small.
#[derive(Debug)]
pub struct Shrunk {
    /// The small one.
    pub case: Case,
    /// How it broke.
    pub report: Report,
    /// How large it was, and is: nodes, faults and steps.
    pub sizes: [Size; 2],
    /// Worlds that were lived through.
    pub tries: u32,
}

/// How large a world is, up to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    /// Nodes.
    pub nodes: usize,
    /// Faults that were not left out.
    pub faults: usize,
    /// Steps that were not left out.
    pub steps: usize,
}

impl Size {
    fn of(case: &Case, drawn: Drawn) -> Self {
        let kept = || drawn.items().filter(|item| !case.knobs.skip.contains(*item));
        let faults = kept().filter(|item| matches!(item, Item::Fault(_))).count();
        Self { nodes: case.knobs.nodes, faults, steps: kept().count() - faults }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} nodes, {} faults, {} steps", self.nodes, self.faults, self.steps)
    }
}

struct Search {
    until: Instant,
    invariant: &'static str,
    best: Case,
    size: Size,
    report: Report,
    tries: u32,
}

/// Makes the world small, for so long at most; `None` when it holds.
pub fn shrink(case: &Case, limit: Duration) -> Option<Shrunk> {
    let report = case.live();
    let invariant = report.violation()?.invariant;
    let first = Size::of(case, report.drawn);
    let mut search = Search {
        until: Instant::now() + limit,
        invariant,
        best: case.clone(),
        size: first,
        report,
        tries: 1,
    };
    search.take_nodes();
    search.take_items();
    let Search { mut best, report, tries, .. } = search;
    best.knobs.skip = best.knobs.skip.within(report.drawn);
    let last = Size::of(&best, report.drawn);
    Some(Shrunk { case: best, report, sizes: [first, last], tries })
}

impl Search {
    /// Whether another world breaks as well and is smaller; then it is the one to go on with. One that leaves things out may live
    /// longer before it breaks, and see more in all.
    fn breaks(&mut self, smaller: Case) -> bool {
        self.tries += 1;
        let report = smaller.live();
        let same = report.violation().is_some_and(|violation| violation.invariant == self.invariant);
        let size = Size::of(&smaller, report.drawn);
        let better = same && size < self.size;
        if better {
            (self.best, self.size, self.report) = (smaller, size, report);
        }
        better
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    fn take_nodes(&mut self) {
        for nodes in 1..self.best.knobs.nodes {
            let mut smaller = self.best.clone();
            smaller.knobs.nodes = nodes;
            if self.is_over() || self.breaks(smaller) {
                return;
            }
        }
    }

    fn take_items(&mut self) {
        let mut size = self.kept().len().div_ceil(2);
        while size > 0 {
            let mut taken = false;
            let mut from = 0;
            while let Some(chunk) = chunk(&self.kept(), from, size) {
                if self.is_over() {
                    return;
                }
                let mut smaller = self.best.clone();
                smaller.knobs.skip = smaller.knobs.skip.and(&chunk);
                if self.breaks(smaller) {
                    taken = true;
                } else {
                    from += size;
                }
            }
            // Single items may become superfluous through others.
            size = if size > 1 { size.div_ceil(2) } else { usize::from(taken) };
        }
    }

    /// What is still on the agenda before the world breaks.
    fn kept(&self) -> Vec<Item> {
        let skip = &self.best.knobs.skip;
        self.report.drawn.items().filter(|item| !skip.contains(*item)).collect()
    }
}

fn chunk(items: &[Item], from: usize, size: usize) -> Option<Vec<Item>> {
    let chunk = items.get(from..)?;
    (!chunk.is_empty()).then(|| chunk[..size.min(chunk.len())].to_vec())
}

impl fmt::Display for Shrunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, after] = self.sizes;
        write!(
            f,
            "{before} became {after} in {} tries\n  replay: {}",
            self.tries,
            crate::replay_command(&self.case)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing converges in no time: every world breaks.
    fn hopeless() -> Case {
        let mut case = Case::of_seed(1);
        (case.knobs.converge_secs, case.knobs.fault_secs) = (0, 4);
        case
    }

    #[test]
    fn a_broken_world_becomes_a_small_one_that_breaks_alike() {
        let case = hopeless();
        let broken = case.live();
        let shrunk = shrink(&case, Duration::from_secs(20)).expect("it is broken");
        let [before, after] = shrunk.sizes;
        assert!(after < before && after.nodes <= before.nodes, "{after} from {before}");
        let again = shrunk.case.live();
        assert_eq!(again.trace_hash, shrunk.report.trace_hash);
        let invariant = |report: &Report| report.violation().map(|violation| violation.invariant);
        assert_eq!(invariant(&again), invariant(&broken));
    }

    #[test]
    fn a_world_that_holds_is_not_made_small() {
        assert!(shrink(&Case::of_seed(1), Duration::from_secs(5)).is_none());
    }
}
