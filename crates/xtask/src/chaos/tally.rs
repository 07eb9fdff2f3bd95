//! What was done and what went wrong, counted.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::fault::{KINDS, Kind};

/// One round's outcome.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was done.
    pub faults: Vec<Kind>,
    pub operations: usize,
    pub acknowledged: usize,
    pub unknown: usize,
    pub changes: usize,
    pub looks: usize,
    /// From the last heal to everything as declared.
    pub recovery: Duration,
    pub violations: Vec<String>,
}

/// The sum of all rounds.
#[derive(Debug, Default)]
pub struct Tally {
    rounds: usize,
    faults: BTreeMap<Kind, (usize, usize)>,
    sum: Outcome,
    slowest: Duration,
}

impl Tally {
    /// Adds a round.
    pub fn add(&mut self, outcome: Outcome) {
        self.rounds += 1;
        for kind in &outcome.faults {
            let (count, violations) = self.faults.entry(*kind).or_default();
            *count += 1;
            *violations += outcome.violations.len();
        }
        self.sum.operations += outcome.operations;
        self.sum.acknowledged += outcome.acknowledged;
        self.sum.unknown += outcome.unknown;
        self.sum.changes += outcome.changes;
        self.sum.looks += outcome.looks;
        self.slowest = self.slowest.max(outcome.recovery);
        self.sum.violations.extend(outcome.violations);
    }

    /// How many violations there were.
    pub fn violations(&self) -> usize {
        self.sum.violations.len()
    }

    /// How many rounds.
    pub fn rounds(&self) -> usize {
        self.rounds
    }

    /// A line a fault that was done; a violation counts for every fault of its round.
    pub fn table(&self) -> String {
        let mut text = format!("{:<34}{:>7}{:>12}\n", "fault", "count", "violations");
        for (kind, name) in KINDS {
            if let Some((count, violations)) = self.faults.get(&kind) {
                writeln!(text, "{name:<34}{count:>7}{violations:>12}").expect("a string takes every write");
            }
        }
        text
    }

    /// Everything in one line.
    pub fn line(&self, seed: u64, took: Duration) -> String {
        let faults: usize = self.faults.values().map(|(count, _)| count).sum();
        format!(
            "chaos: seed {seed}, {} rounds, {faults} faults, {} operations checked ({} acknowledged, {} without an answer), \
             {} changes by the operator, {} looks at engines, slowest recovery {:.1} s, {} violations, {:.1} min",
            self.rounds,
            self.sum.operations,
            self.sum.acknowledged,
            self.sum.unknown,
            self.sum.changes,
            self.sum.looks,
            self.slowest.as_secs_f64(),
            self.violations(),
            took.as_secs_f64() / 60.0,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violation_counts_for_every_fault_of_its_round_and_once_in_the_line() {
        let mut tally = Tally::default();
        tally.add(Outcome { faults: vec![Kind::NodeCut], ..Outcome::default() });
        let faults = vec![Kind::NodeCut, Kind::DiskFull];
        tally.add(Outcome { faults, violations: vec!["lost".to_owned()], ..Outcome::default() });
        let table = tally.table();
        assert!(table.contains("disk full                               1           1\n"), "{table}");
        assert!(table.contains("link of a node cut                      2           1\n"), "{table}");
        let line = tally.line(5, Duration::ZERO);
        assert!(line.contains("2 rounds, 3 faults") && line.contains("1 violations"), "{line}");
    }
}
