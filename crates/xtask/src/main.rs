//! The commands that the README names: `cargo xtask setup`, `test`, and the rest.
//!
//! Each sub-command is one file. What needs root, an engine or a network namespace comes from the `tests` library, so
//! that the commands and the tests stand on the same ground.

mod advisories;
mod bench;
mod cargo;
mod chaos;
mod demo;
mod fuzz;
mod planted;
mod raw_engine;
mod sbom;
mod scenario;
mod setup;
mod sim;
mod storage;
mod test;
mod times;
mod usage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tests::client;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Sets up, tests and shows Orch")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Installs and starts a Docker Engine if there is none, and puts the mimic's images into it
    Setup,
    /// Sets everything up and shows the main job: replicas that come back, whatever dies
    Demo(demo::Options),
    /// Measures, and prints each figure beside its floor
    Bench(bench::Options),
    /// Runs the test suite, lane by lane
    Test(test::Options),
    /// Hurts a cluster of real processes and engines, round after round, while clients write
    Chaos(chaos::Options),
    /// Lives through something that users fear, with clients that count what they missed
    Scenario(scenario::Options),
    /// Feeds every reader of bytes from outside with what nobody wrote
    Fuzz(fuzz::Options),
    /// Damages, cuts and kills the managers' log a million times, and says how often it lost anything
    Storage(storage::Options),
    /// Lives through whole clusters under faults, by seed
    Sim(sim::Options),
    /// Plants wrong variants of the code, each of which the simulator must catch
    PlantedBugs(sim::Options),
    /// Runs the test suite as the CI does: a lane that cannot run is a failure
    Ci,
    /// Asks the advisory database about the dependencies; needs the network
    Advisories,
    /// Writes what the three programs are made of, as CycloneDX JSON
    Sbom(sbom::Options),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Setup => setup::run().map(|()| ExitCode::SUCCESS),
        Command::Demo(options) => demo::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Chaos(options) => chaos::run(&options),
        Command::Scenario(options) => scenario::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Storage(options) => storage::run(&options),
        Command::Sim(options) => sim::run(&options),
        Command::PlantedBugs(options) => planted::run(&options),
        Command::Ci => test::run(&test::Options::ci()),
        Command::Advisories => advisories::run(),
        Command::Sbom(options) => sbom::run(&options),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
