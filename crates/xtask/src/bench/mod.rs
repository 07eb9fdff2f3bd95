//! `bench`: the table of figures, each with its floor from the same run.
//!
//! A time on a shared machine says little by itself, so every row stands beside what the disk or the engine needs for the
//! same thing, taken in turns with it. Marks are what the project set itself; a missed one is printed as it is.
//!
//! Read in this order: this file, [`table`] (the rows), then one file a
//! subject: [`commits`], [`containers`], [`releases`], [`nodes`], [`leader`], [`idle`], [`traffic`], [`kernels`].

mod commits;
mod containers;
mod idle;
mod kernels;
mod leader;
mod nodes;
mod releases;
mod table;
mod traffic;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use tests::cluster::{Cluster, Place, Plan};

use table::Table;

/// Options of `bench`.
#[derive(Args, Debug)]
pub struct Options {
    /// Repetitions of what takes seconds (killed leaders, lost nodes)
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Only these subjects
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Subject>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Commits against the disk
    Commits,
    /// Scale and crash against the engine
    Containers,
    /// Updates and rollbacks against the engine
    Releases,
    /// Lost leaders
    Leader,
    /// Lost nodes; needs root
    Nodes,
    /// Memory and CPU at rest
    Idle,
    /// Requests, connections and bulk through the mesh, against HAProxy and nginx; needs root
    Traffic,
    /// Placements, and the simulator
    Kernels,
}

/// Measures and prints the table.
///
/// # Errors
/// Something does not come up. A missed mark is no error.
pub fn run(options: &Options) -> Result<ExitCode> {
    let wanted = |subject| options.only.is_empty() || options.only.contains(&subject);
    let mut table = Table::begin();
    if wanted(Subject::Commits) {
        commits::measure(&mut table)?;
    }
    if [Subject::Idle, Subject::Containers, Subject::Releases].into_iter().any(wanted) {
        let cluster = local(1, 1)?;
        if wanted(Subject::Idle) {
            idle::measure(&mut table, &cluster)?;
        }
        if wanted(Subject::Containers) {
            containers::measure(&mut table, &cluster, options.rounds)?;
        }
        if wanted(Subject::Releases) {
            releases::measure(&mut table, &cluster, options.rounds.div_ceil(2))?;
        }
    }
    if wanted(Subject::Leader) {
        leader::measure(&mut table, options.rounds)?;
    }
    if wanted(Subject::Nodes) {
        nodes::measure(&mut table, options.rounds.div_ceil(2))?;
    }
    if wanted(Subject::Traffic) {
        traffic::measure(&mut table, options.rounds)?;
    }
    if wanted(Subject::Kernels) {
        kernels::measure(&mut table)?;
    }
    table.print();
    Ok(ExitCode::SUCCESS)
}

/// A cluster of optimised programs on this machine's loopback, with this machine's engine.
fn local(managers: usize, nodes: usize) -> Result<Cluster> {
    if nodes > 0 {
        tests::engine::system()?;
    }
    let cluster = Cluster::start(Plan { managers, nodes, place: Place::Loopback, release: true })?;
    if nodes > 0 {
        cluster.load_mimic()?;
    }
    Ok(cluster)
}
