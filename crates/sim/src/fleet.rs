//! Many worlds, one after the other on every core, and what they came to together.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{Case, Report, check_case};

/// One seed in so many is lived through twice and must take the same course.
const TWICE_EVERY: u64 = 100;

/// Which worlds.
#[derive(Debug, Clone, Copy)]
pub struct Fleet {
    /// The first seed.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// Threads.
    pub jobs: usize,
    /// Go on after the first broken world.
    pub all: bool,
    /// So many nodes in each of them, if not as its seed says.
    pub nodes: Option<usize>,
}

/// What all worlds together came to.
#[derive(Debug, Default)]
pub struct Sum {
    /// Worlds lived through.
    pub worlds: u64,
    /// Of these without faults.
    pub calm: u64,
    /// Lived through a second time, with the same course.
    pub repeated: u64,
    /// In all worlds.
    pub simulated_ms: u64,
    /// Steps.
    pub events: u64,
    /// By kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Requests and tries, by how they were answered.
    pub requests: BTreeMap<&'static str, u64>,
    /// What else was counted.
    pub observed: BTreeMap<&'static str, u64>,
    /// From healing to convergence, one number a world.
    pub converge_ms: Vec<u64>,
    /// Broken worlds with their invariants.
    pub broken: BTreeMap<u64, &'static str>,
    /// The time that it took.
    pub took: Duration,
}

impl Fleet {
    /// The world of one of its seeds.
    fn case(self, seed: u64) -> Case {
        let case = Case::of_seed(seed);
        match self.nodes {
            Some(nodes) => case.with_nodes(nodes),
            None => case,
        }
    }

    /// Lives through the worlds; `tell` hears of each as it ends.
    pub fn run(self, tell: impl Fn(&Report) + Sync) -> Sum {
        let begun = Instant::now();
        let next = AtomicU64::new(self.from);
        let end = self.from + self.seeds;
        let sum = Mutex::new(Sum::default());
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    return;
                }
                let case = self.case(seed);
                let report = check_case(&case);
                let repeated = seed.is_multiple_of(TWICE_EVERY);
                if repeated {
                    let again = case.live().trace_hash;
                    assert_eq!(report.trace_hash, again, "seed {seed} took another course the second time");
                }
                tell(&report);
                let mut sum = sum.lock().expect("no thread panics with the lock");
                sum.add(&report);
                sum.repeated += u64::from(repeated);
                if !sum.broken.is_empty() && !self.all {
                    next.store(end, Ordering::Relaxed);
                }
            }
        };
        std::thread::scope(|scope| (0..self.jobs.max(1)).for_each(|_| drop(scope.spawn(work))));
        let mut sum = sum.into_inner().expect("no thread panicked");
        sum.took = begun.elapsed();
        sum
    }
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.worlds += 1;
        self.calm += u64::from(report.calm);
        self.simulated_ms += report.simulated_ms;
        self.events += report.events;
        let pairs = [
            (&mut self.faults, &report.faults),
            (&mut self.requests, &report.requests),
            (&mut self.observed, &report.observed),
        ];
        for (sum, more) in pairs {
            for (name, count) in more {
                *sum.entry(name).or_default() += count;
            }
        }
        self.converge_ms.extend(report.converge_ms);
        if let Some(violation) = report.violation() {
            self.broken.insert(report.seed, violation.invariant);
        }
    }

    /// How long convergence took in so many of a hundred worlds.
    fn converged_within(&self, percent: usize) -> u64 {
        let mut sorted = self.converge_ms.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() * percent / 100).copied().unwrap_or(0)
    }
}

impl fmt::Display for Sum {
    /// The tables, and one line that says what was counted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables =
            [("faults", &self.faults), ("requests and tries", &self.requests), ("observed", &self.observed)];
        for (title, counts) in tables {
            writeln!(f, "{title}: {}", counts.values().sum::<u64>())?;
            counts.iter().try_for_each(|(name, count)| writeln!(f, "  {count:>9}  {name}"))?;
        }
        let (half, most) = (self.converged_within(50), self.converged_within(95));
        writeln!(f, "converged after the last fault within p50 {half} ms, p95 {most} ms")?;
        for (seed, invariant) in &self.broken {
            writeln!(f, "seed {seed} breaks {invariant}")?;
        }
        let secs = self.took.as_secs_f64().max(1e-9);
        let hours = self.simulated_ms as f64 / 3_600_000.0;
        write!(
            f,
            "{} seeds ({} calm, {} run twice), {hours:.2} simulated hours, {} events, {} faults of {} kinds, {} violations; \
             {:.0} seeds a minute, {:.0} simulated hours an hour",
            self.worlds,
            self.calm,
            self.repeated,
            self.events,
            self.faults.values().sum::<u64>(),
            self.faults.len(),
            self.broken.len(),
            self.worlds as f64 * 60.0 / secs,
            hours * 3_600.0 / secs
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_counts_every_world_once_on_however_many_threads() {
        let sum = Fleet { from: 1, seeds: 3, jobs: 2, all: true, nodes: None }.run(|_| {});
        assert_eq!((sum.worlds, sum.broken.len()), (3, 0));
        assert!(sum.to_string().lines().last().is_some_and(|line| line.starts_with("3 seeds")));
    }
}
