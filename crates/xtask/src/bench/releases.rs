//! Updates and rollbacks against the engine's own stops and starts.

use std::time::{Duration, Instant};

use anyhow::Result;
use tests::{cluster::Cluster, image::MIMIC_1};

use super::table::Table;
use crate::{
    raw_engine::Raw,
    times::{Times, ratio},
};

const SERVICE: &str = "bench-releases";
/// Replicas that are updated one after the other.
const BATCHES: usize = 5;
/// Replicas that are rolled back at once.
const AT_ONCE: usize = 10;

/// Adds the rows.
///
/// # Errors
/// A release does not land.
pub fn measure(table: &mut Table, cluster: &Cluster, rounds: usize) -> Result<()> {
    let engine = Raw::of(cluster.node(0).engine());
    let flags = ["--drain", "0s", "--update-order", "stop-first", "--quiet"];
    let replicas = ["--replicas", "5", MIMIC_1];
    cluster.ctl().ok(&[&["service", "create", "--name", SERVICE][..], &flags, &replicas].concat())?;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        floor.push(in_turn(&engine, round)?);
        ours.push(update(cluster, &format!("ROUND={round}"), &[])?);
    }
    let (ours, floor) = (Times::new(ours), Times::new(floor));
    let said = format!("engine {BATCHES} x (stop + create + start) {}", floor.said());
    let what = "rolling update of 5 replicas, one after the other";
    table.row(what, ours.said(), said, ratio(&ours, &floor), "1.10x p50");

    cluster.ctl().ok(&["scale", &format!("{SERVICE}={AT_ONCE}"), "--quiet"])?;
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        floor.push(at_once(&engine, round)?);
        update(cluster, &format!("AGAIN={round}"), &["--update-parallelism", "10"])?;
        let begun = Instant::now();
        cluster.ctl().ok(&["service", "rollback", SERVICE, "--quiet"])?;
        ours.push(begun.elapsed());
    }
    cluster.ctl().ok(&["service", "rm", SERVICE, "--quiet"])?;
    let (ours, floor) = (Times::new(ours), Times::new(floor));
    let said = format!("engine {AT_ONCE} x (stop + create + start) at once {}", floor.said());
    table.row("rollback of 10 replicas at once", ours.said(), said, ratio(&ours, &floor), "1.10x p50");
    Ok(())
}

/// As a person does it: the command ends when every replica runs the new release.
fn update(cluster: &Cluster, variable: &str, more: &[&str]) -> Result<Duration> {
    let begun = Instant::now();
    let args = ["service", "update", SERVICE, "--env-add", variable, "--quiet"];
    cluster.ctl().ok(&[&args[..], more].concat())?;
    Ok(begun.elapsed())
}

fn in_turn(engine: &Raw, round: usize) -> Result<Duration> {
    let names: Vec<String> = (0..=BATCHES).map(|number| name(round, number)).collect();
    engine.create_and_start(&names[0])?;
    let mut whole = Duration::ZERO;
    for pair in names.windows(2) {
        whole += engine.renew(&pair[0], &pair[1])?;
    }
    names.iter().try_for_each(|name| engine.remove(name))?;
    Ok(whole)
}

fn at_once(engine: &Raw, round: usize) -> Result<Duration> {
    let pairs: Vec<(String, String)> =
        (0..AT_ONCE).map(|number| (name(round, 2 * number), name(round, 2 * number + 1))).collect();
    for (old, _) in &pairs {
        engine.create_and_start(old)?;
    }
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let renewals: Vec<_> =
            pairs.iter().map(|(old, new)| scope.spawn(|| engine.renew(old, new))).collect();
        renewals.into_iter().try_for_each(|renewal| renewal.join().expect("no panic").map(drop))
    })?;
    let whole = begun.elapsed();
    for (old, new) in &pairs {
        engine.remove(old)?;
        engine.remove(new)?;
    }
    Ok(whole)
}

/// Of a container of the floor.
fn name(round: usize, number: usize) -> String {
    format!("orch-bench-{}-r{round}-{number}", std::process::id())
}
