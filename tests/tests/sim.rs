//! Worlds that once found something (`seeds.txt`), a few dozen more, and the proof that a seed is a world.
//!
//! `ORCH_SIM_SEEDS=N` runs N fixed seeds in place of the few dozen; `cargo xtask sim` runs as many as wanted.

use std::collections::BTreeSet;

use sim::{Case, Knobs, World, check_seed};

/// What the fixed seeds are when nothing else is asked for.
const SEEDS: u64 = 24;

fn kept_seeds() -> Vec<u64> {
    let lines = include_str!("../seeds.txt").lines();
    let seeds =
        lines.filter_map(|line| line.split('#').next()).map(str::trim).filter(|line| !line.is_empty());
    seeds.map(|seed| seed.parse().expect("seeds.txt has one number a line")).collect()
}

/// Runs the worlds on all cores, and tells of every broken one.
fn check(seeds: impl IntoIterator<Item = u64>) {
    let seeds: Vec<u64> = seeds.into_iter().collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let broken: Vec<String> = std::thread::scope(|scope| {
        let part = |first: usize| seeds.iter().skip(first).step_by(threads);
        let workers: Vec<_> = (0..threads)
            .map(|first| {
                scope.spawn(move || part(first).filter_map(|seed| broken(*seed)).collect::<Vec<_>>())
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a world panicked")).collect()
    });
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

fn broken(seed: u64) -> Option<String> {
    let report = check_seed(seed);
    let violation = report.violation()?;
    let replay = sim::replay_command(&Case::of_seed(seed));
    Some(format!("seed {seed}: {violation}\n  replay: {replay}\n  {}", violation.trace.join("\n  ")))
}

#[test]
fn every_world_that_once_found_something_holds_now() {
    check(kept_seeds());
}

#[test]
fn every_invariant_holds_in_worlds_of_fixed_seeds() {
    let wanted = std::env::var("ORCH_SIM_SEEDS").ok().map(|text| text.parse().expect("a number of seeds"));
    check(1..=wanted.unwrap_or(SEEDS));
}

#[test]
fn the_same_seed_is_the_same_world_to_the_last_step() {
    for seed in [3, 4] {
        let hashes: BTreeSet<u64> =
            (0..2).map(|_| World::new(seed, Knobs::of_seed(seed)).run().trace_hash).collect();
        assert_eq!(hashes.len(), 1, "seed {seed} took two courses");
    }
    let other = World::new(5, Knobs::of_seed(5)).run().trace_hash;
    assert_ne!(other, World::new(3, Knobs::of_seed(3)).run().trace_hash);
}
