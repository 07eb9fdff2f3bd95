//! Looks at the engines all the time: no slot twice on nodes that nobody hurt, no container of the untouched service gone
//! from them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tests::cluster::containers::{self, Container};
use tests::meanwhile;

use super::site::{STEADY, Site, by_slot};

/// Between two looks at one engine.
const LOOK: Duration = Duration::from_millis(250);
/// A slot may be there twice for so long: one is told to stop while its successor is ordered, and a busy engine takes
/// its time to stop one.
const MOMENT: Duration = Duration::from_secs(5);

/// What was seen.
pub struct Probe<'a> {
    site: &'a Site,
    stop: AtomicBool,
    looks: AtomicUsize,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Nodes that were hurt, from then until the round is over.
    excused: BTreeSet<usize>,
    /// The newest answer of each engine.
    running: BTreeMap<usize, (Instant, Vec<Container>)>,
    /// Slots that are there twice, since when.
    doubled: BTreeMap<(String, String), Instant>,
    /// By node, as the round began.
    steady: Vec<Vec<String>>,
    wrong: BTreeSet<String>,
}

impl<'a> Probe<'a> {
    /// `steady` are the containers of the untouched service, by node.
    pub fn new(site: &'a Site, steady: Vec<Vec<String>>) -> Probe<'a> {
        let seen = Seen { steady, ..Seen::default() };
        Probe { site, stop: AtomicBool::new(false), looks: AtomicUsize::new(0), seen: Mutex::new(seen) }
    }

    /// Looks while `work` runs.
    pub fn while_running<T>(&self, work: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            for node in 0..self.site.cluster.nodes().len() {
                scope.spawn(move || self.watch(node));
            }
            meanwhile::work(&self.stop, work)
        })
    }

    /// These nodes are hurt from now on: what they run does not count until the round is over.
    pub fn excuse(&self, nodes: &BTreeSet<usize>) {
        self.held().excused.extend(nodes);
    }

    /// What was wrong, and how often it looked.
    pub fn verdict(self) -> (Vec<String>, usize) {
        let seen = self.seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        (seen.wrong.into_iter().collect(), self.looks.into_inner())
    }

    fn watch(&self, node: usize) {
        while !self.stop.load(Ordering::Relaxed) {
            let asked = Instant::now();
            if let Ok(running) = containers::running(self.site.node(node).engine()) {
                self.looks.fetch_add(1, Ordering::Relaxed);
                self.held().look(node, asked, running);
            }
            std::thread::park_timeout(LOOK);
        }
    }

    fn held(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn look(&mut self, node: usize, asked: Instant, running: Vec<Container>) {
        self.running.insert(node, (asked, running));
        if !self.excused.contains(&node) {
            self.look_for_restarts(node);
        }
        self.look_for_doubles();
    }

    fn look_for_restarts(&mut self, node: usize) {
        let Some((_, running)) = self.running.get(&node) else { return };
        let gone = self.steady[node].iter().filter(|id| running.iter().all(|container| container.id != **id));
        for id in gone {
            self.wrong.insert(format!("container {:.12} of {STEADY} ended on h{}", id, node + 1));
        }
    }

    fn look_for_doubles(&mut self) {
        let fresh = self.running.iter().filter(|(node, (asked, _))| {
            !self.excused.contains(node) && asked.elapsed() < Duration::from_secs(1)
        });
        let slots = by_slot(fresh.flat_map(|(_, (_, running))| running));
        let doubled = |containers: &Vec<&Container>| containers.len() > 1;
        self.doubled.retain(|slot, _| slots.get(slot).is_some_and(doubled));
        for (slot, containers) in slots.into_iter().filter(|(_, containers)| doubled(containers)) {
            let since = *self.doubled.entry(slot.clone()).or_insert_with(Instant::now);
            if since.elapsed() > MOMENT {
                let names: Vec<&str> = containers.iter().map(|c| c.name.as_str()).collect();
                self.wrong.insert(format!("slot {} of {} runs as {}", slot.1, slot.0, names.join(" and ")));
            }
        }
    }
}
