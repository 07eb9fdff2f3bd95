//! The mesh beside HAProxy and nginx, as Debian has them, and beside the kernel.
//!
//! Three hosts on one switch: clients, the proxies, two replicas. All take turns in every round, with the same load, the same
//! replicas and the same machine, so that what is compared is the ratio within a round; its median is the figure. What counts is the CPU of
//! the proxy's processes for each request: how many requests a second pass depends on what else the machine does.
//!
//! Read in this order: this file, [`stage`] (hosts and proxies), [`load`] (clients).

mod load;
mod stage;

use std::time::Duration;

use anyhow::Result;
use tests::{packages, require};

use super::table::Table;
use load::Sample;
use stage::{Stage, Way};

use crate::times::{Times, short};

/// A round of one contestant.
const ROUND: Duration = Duration::from_secs(1);
const CONNECTIONS: usize = 1_000;

/// Adds the rows.
///
/// # Errors
/// A proxy does not come up, or answers wrongly.
pub fn measure(table: &mut Table, rounds: usize) -> Result<()> {
    if !require::is_root() {
        println!("NOT RUN: traffic: hosts in network namespaces need root");
        return Ok(());
    }
    packages::ensure(&packages::PROXIES)?;
    let stage = Stage::set()?;
    requests(table, &stage, rounds)?;
    bulk(table, &stage, rounds)?;
    memory(table, &stage)
}

/// Requests of layer 7 and connections of layer 4.
fn requests(table: &mut Table, stage: &Stage, rounds: usize) -> Result<()> {
    let mesh = stage.mesh()?;
    let layer7 = [Way::Direct, Way::MeshHttp, Way::HaproxyHttp, Way::Nginx];
    let layer4 = [Way::Direct, Way::MeshTcp, Way::HaproxyTcp];
    for (what, ways, is_kept, mark) in [
        ("layer 7, kept connections", &layer7[..], true, ">= 1.0, >= 0.9"),
        ("layer 7, a connection for each request", &layer7, false, ">= 1.0, >= 0.9"),
        ("layer 4, a connection for each request", &layer4, false, ">= 0.95"),
        ("layer 4, kept connections", &layer4, true, ">= 0.95"),
    ] {
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); ways.len()];
        for _ in 0..rounds {
            for (way, samples) in ways.iter().zip(&mut samples) {
                samples.push(load::requests(stage, &mesh, *way, ROUND, is_kept)?);
            }
        }
        let [direct, ours, peers @ ..] = &samples[..] else { unreachable!("two at least") };
        let named: Vec<String> =
            ways[2..].iter().zip(peers).map(|(way, peer)| format!("{way}: {}", told(peer))).collect();
        let against: Vec<String> = ways[2..]
            .iter()
            .zip(peers)
            .map(|(way, peer)| format!("{:.2} x {way}", against(ours, peer)))
            .collect();
        let floor = format!("{}; no proxy: {}", named.join("; "), told(direct));
        table.row(what, told(ours), floor, format!("{} (requests per CPU second)", against.join(", ")), mark);
    }
    Ok(())
}

fn bulk(table: &mut Table, stage: &Stage, rounds: usize) -> Result<()> {
    let _mesh = stage.mesh()?;
    load::send_to_all(stage)?;
    let ways = [Way::Kernel, Way::MeshBulk, Way::HaproxyBulk];
    let mut speeds = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        for (way, speeds) in ways.iter().zip(&mut speeds) {
            speeds.push(load::bulk(stage, *way)?);
        }
    }
    let [kernel, ours, haproxy] =
        speeds.map(|speeds| speeds.into_iter().map(|bytes| bytes * 8.0 / 1e9).collect());
    let said = |speeds: &Vec<f64>| format!("{:.1} Gbit/s", median(speeds.clone()));
    table.row(
        "layer 4, bulk, one connection",
        said(&ours),
        format!("kernel (DNAT): {}; HAProxy: {}", said(&kernel), said(&haproxy)),
        format!("{:.2} x kernel, {:.2} x HAProxy", ratio(&ours, &kernel), ratio(&ours, &haproxy)),
        ">= 0.9 x kernel",
    );
    Ok(())
}

fn memory(table: &mut Table, stage: &Stage) -> Result<()> {
    let mut said = Vec::new();
    for (what, way) in
        [("idle", None), ("1,000 of layer 4", Some(Way::MeshTcp)), ("1,000 of HTTP", Some(Way::MeshHttp))]
    {
        let mesh = stage.mesh()?;
        let held = way.map(|way| load::hold(stage, way, CONNECTIONS)).transpose()?;
        said.push(format!("{what} {:.1} MB", mesh.memory()? / 1e6));
        drop(held);
    }
    table.row("mesh process, resident, by connections", said.join(", "), "-".into(), "-".into(), "<= 20 MB");
    Ok(())
}

/// `20123/s, 11.2 us CPU, p50 1.1 ms, p99 2.0 ms`: medians over the rounds.
fn told(samples: &[Sample]) -> String {
    let of = |pick: &dyn Fn(&Sample) -> f64| median(samples.iter().map(pick).collect());
    let cpu = of(&|sample| sample.cpu_each() * 1e6);
    let cpu = if cpu > 0.0 { format!("{cpu:.1} us CPU, ") } else { String::new() };
    let time =
        |pick: &dyn Fn(&Sample) -> Duration| short(Times::new(samples.iter().map(pick).collect()).p50());
    format!(
        "{:.0}/s, {cpu}p50 {}, p99 {}",
        of(&Sample::rate),
        time(&|sample| sample.p50),
        time(&|sample| sample.p99)
    )
}

/// The median over the rounds of how many requests ours answers in the CPU time that a peer takes for one.
fn against(ours: &[Sample], peer: &[Sample]) -> f64 {
    let each = |samples: &[Sample]| samples.iter().map(Sample::cpu_each).collect::<Vec<_>>();
    ratio(&each(peer), &each(ours))
}

fn ratio(ours: &[f64], floor: &[f64]) -> f64 {
    median(ours.iter().zip(floor).map(|(ours, floor)| ours / floor).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
