//! The gate of planted bugs: each wrong variant of our code must break an invariant within a bounded number of seeds. A
//! check that no bug can break is no check.

use std::{
    fmt,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use planted::Bug;

use crate::{Case, skip::Drawn};

/// Faults and steps of a world from which a shrinker has much to leave out.
const MUCH: u32 = 20;

/// Which bugs, and how long to look for each.
#[derive(Debug, Clone)]
pub struct Gate {
    /// The bugs.
    pub bugs: Vec<Bug>,
    /// The first seed of each.
    pub from: u64,
    /// Seeds until a bug counts as missed.
    pub bound: u64,
    /// Threads.
    pub jobs: usize,
}

/// How a bug was caught.
#[derive(Debug, Clone)]
pub struct Caught {
    /// Seeds that it took.
    pub seeds: u64,
    /// The last of them.
    pub seed: u64,
    /// The invariant that broke.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
    /// Events of that world until then.
    pub events: u64,
    /// What could be left out of it.
    pub drawn: Drawn,
}

/// What became of every bug.
#[derive(Debug, Default)]
pub struct Table(Vec<(usize, Bug, Option<Caught>)>);

impl Gate {
    /// Looks for every bug.
    pub fn run(&self) -> Table {
        let next = AtomicUsize::new(0);
        let table = Mutex::new(Table::default());
        let work = || {
            loop {
                let place = next.fetch_add(1, Ordering::Relaxed);
                let Some(bug) = self.bugs.get(place).copied() else { return };
                let caught = self.look_for(bug);
                table.lock().expect("no thread panics with the lock").0.push((place, bug, caught));
            }
        };
        std::thread::scope(|scope| (0..self.jobs.max(1)).for_each(|_| drop(scope.spawn(work))));
        let mut table = table.into_inner().expect("no thread panicked");
        table.0.sort_by_key(|(place, ..)| *place);
        table
    }

    fn look_for(&self, bug: Bug) -> Option<Caught> {
        (self.from..self.from + self.bound).find_map(|seed| {
            let report = Case { bug: Some(bug), ..Case::of_seed(seed) }.live();
            let violation = report.violation()?;
            let (invariant, what) = (violation.invariant, violation.what.clone());
            let (events, drawn) = (report.events, report.drawn);
            Some(Caught { seeds: seed - self.from + 1, seed, invariant, what, events, drawn })
        })
    }
}

impl Table {
    /// Of the worlds with much to leave out the one that showed its bug after the fewest events: a try of it is cheap, so that a
    /// shrinker gets far in little time.
    pub fn smallest_caught(&self) -> Option<Case> {
        let caught = self
            .0
            .iter()
            .filter_map(|(_, bug, caught)| Some((*bug, caught.as_ref()?)))
            .filter(|(_, caught)| caught.drawn.faults + caught.drawn.steps >= MUCH);
        let (bug, smallest) = caught.min_by_key(|(_, caught)| caught.events)?;
        Some(Case { bug: Some(bug), ..Case::of_seed(smallest.seed) })
    }

    /// Bugs that no check saw.
    pub fn missed(&self) -> usize {
        self.0.iter().filter(|(.., caught)| caught.is_none()).count()
    }
}

impl fmt::Display for Table {
    /// A line for each bug, and one that counts them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (_, bug, caught) in &self.0 {
            let name = bug.to_string();
            match caught {
                Some(caught) => {
                    let what: String = caught.what.chars().take(110).collect();
                    let what = what.replace('\n', " ");
                    writeln!(
                        f,
                        "{name:<22} {:<9} after {:>4} seeds: {what}",
                        caught.invariant, caught.seeds
                    )?;
                }
                None => writeln!(f, "{name:<22} MISSED    {}", bug.what())?,
            }
        }
        let (all, missed) = (self.0.len(), self.missed());
        let seeds: u64 = self.0.iter().flat_map(|(.., caught)| caught).map(|caught| caught.seeds).sum();
        write!(f, "{} of {all} planted bugs caught, in {seeds} seeds; {missed} missed", all - missed)
    }
}
