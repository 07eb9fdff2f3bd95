//! `scenario trust`: the security model, tried from outside. Who may ask what, attack after attack, and where secrets lie.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use tests::cluster::{Cluster, Plan};
use tests::trust;

/// Managers of either cluster.
const MANAGERS: usize = 3;
/// Nodes with engines.
const NODES: usize = 2;

/// Options of `scenario trust`.
#[derive(Args, Debug)]
pub struct Options {
    /// With programs that are not optimised, as the test suite has them
    #[arg(long)]
    debug: bool,
}

/// Tries it, and prints what was let through.
///
/// # Errors
/// It cannot be set up, or a cluster does not come along.
pub fn run(options: &Options) -> Result<ExitCode> {
    let release = !options.debug;
    let cluster = Cluster::start(Plan { release, ..Plan::loopback(MANAGERS) })?;
    let mut outcome = trust::managers(&cluster, true).with_context(|| cluster.last_words())?;
    println!("managers: {outcome}");
    drop(cluster);
    outcome.add(engines(release)?);
    outcome.wrong.iter().for_each(|what| println!("{what}"));
    println!("trust: {outcome}");
    Ok(if outcome.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn engines(release: bool) -> Result<trust::Outcome> {
    let cluster = Cluster::start(Plan { release, ..Plan::lab(MANAGERS, NODES) })?;
    cluster.load_mimic()?;
    let outcome = trust::engines::run(&cluster).with_context(|| cluster.last_words())?;
    println!("nodes: {outcome}");
    Ok(outcome)
}
