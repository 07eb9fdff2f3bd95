//! What daemons hold: memory, descriptors, disk; taken again and again, and judged at the end.
//!
//! Memory that a process grew into is not given back at once, tables fill until their bounds, logs grow until a snapshot; so the
//! second quarter of a run is the reference, not the first, and medians of quarters are compared, not single values.

use ::tests::cluster::{Cluster, daemon::Daemon};
use anyhow::{Context, Result};

use crate::usage;

/// What is looked at, and how much more of it is no growth: a share of what there was, and an amount.
const KINDS: [Kind; 3] = [
    // The allocator's pools and a few more tasks than before.
    Kind {
        name: "memory",
        unit: "MB",
        read: |daemon| Ok(usage::memory(daemon)? / 1e6),
        share: 0.10,
        amount: 4.0,
    },
    // Streams that happen to be open.
    Kind { name: "descriptors", unit: "", read: usage::descriptors, share: 0.05, amount: 4.0 },
    // A log that is not yet, or just was, cut.
    Kind {
        name: "disk",
        unit: "MB",
        read: |daemon| Ok(usage::disk(daemon)? / 1e6),
        share: 0.25,
        amount: 8.0,
    },
];

struct Kind {
    name: &'static str,
    unit: &'static str,
    read: fn(&Daemon) -> Result<f64>,
    share: f64,
    amount: f64,
}

/// One value over time, of one daemon or of the manager that holds most: who leads holds the agents' sessions, and the allocator keeps
/// their memory for the next ones when another one comes to lead.
pub struct Series {
    who: String,
    kind: &'static Kind,
    values: Vec<f64>,
}

/// Everything that was sampled.
pub struct Samples {
    series: Vec<Series>,
    rounds: usize,
}

impl Samples {
    /// None yet.
    pub fn new(cluster: &Cluster) -> Self {
        let agents = cluster.nodes().iter().map(|node| node.agent().name().to_owned());
        let series = std::iter::once("manager".to_owned()).chain(agents).flat_map(|who| {
            KINDS.iter().map(move |kind| Series { who: who.clone(), kind, values: Vec::new() })
        });
        Self { series: series.collect(), rounds: 0 }
    }

    /// Looks at all of them.
    ///
    /// # Errors
    /// One is gone.
    pub fn take(&mut self, cluster: &Cluster) -> Result<()> {
        let mut series = self.series.iter_mut();
        let managers: Vec<&Daemon> = cluster.managers().iter().collect();
        let agents = cluster.nodes().iter().map(|node| vec![node.agent()]);
        for daemons in std::iter::once(managers).chain(agents) {
            for _ in &KINDS {
                let series = series.next().expect("a series for each kind");
                let read = |daemon: &&Daemon| (series.kind.read)(daemon).with_context(|| daemon.last_words());
                let values = daemons.iter().map(read).collect::<Result<Vec<f64>>>()?;
                series.values.push(values.into_iter().fold(0.0, f64::max));
            }
        }
        self.rounds += 1;
        Ok(())
    }

    /// How often it was looked.
    pub fn rounds(&self) -> usize {
        self.rounds
    }

    /// A row a series: the second quarter, the last one.
    pub fn table(&self) -> String {
        let rows = self.series.iter().map(Series::row);
        let head = format!("{:<9}{:<14}{:>16}{:>16}", "who", "what", "second quarter", "last quarter");
        std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\n")
    }

    /// What grew, in words.
    pub fn grown(&self) -> Vec<String> {
        self.series.iter().filter(|series| series.grew()).map(|series| series.row()).collect()
    }
}

impl Series {
    fn quarters(&self) -> (f64, f64) {
        let quarter = self.values.len() / 4;
        (median(&self.values[quarter..2 * quarter]), median(&self.values[3 * quarter..]))
    }

    fn grew(&self) -> bool {
        let (before, after) = self.quarters();
        after > before * (1.0 + self.kind.share) + self.kind.amount
    }

    fn row(&self) -> String {
        let (before, after) = self.quarters();
        let unit = self.kind.unit;
        format!("{:<9}{:<14}{before:>13.1} {unit:<2}{after:>13.1} {unit}", self.who, self.kind.name)
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grew(kind: &'static Kind, values: impl Iterator<Item = f64>) -> bool {
        Series { who: "m1".to_owned(), kind, values: values.collect() }.grew()
    }

    #[test]
    fn leak_is_seen_and_warmth_waves_and_single_peaks_are_not() {
        let [memory, ..] = &KINDS;
        assert!(grew(memory, (0..100).map(|at| 20.0 + f64::from(at) * 0.2)), "a leak");
        assert!(!grew(memory, (0..100).map(|at| 20.0 + f64::from(at.min(20)))), "warm after a fifth");
        assert!(!grew(memory, (0..100).map(|at| 20.0 + f64::from(at % 7))), "waves");
        assert!(!grew(memory, (0..100).map(|at| if at == 90 { 900.0 } else { 20.0 })), "a peak");
    }
}
