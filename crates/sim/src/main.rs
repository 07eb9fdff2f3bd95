//! The simulator's command line; `cargo xtask sim` builds it optimised and hands its arguments on.

use std::process::ExitCode;

use clap::Parser;
use sim::{Fleet, Knobs, Report, World};

/// Lives through whole clusters under faults, one for each seed, and looks for broken invariants
#[derive(Parser)]
#[command(name = "cargo xtask sim", bin_name = "cargo xtask sim")]
struct Options {
    /// How many seeds
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// This one only
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Worlds at a time; as many as there are cores unless said otherwise
    #[arg(long)]
    jobs: Option<usize>,
    /// Print everything that happens
    #[arg(long)]
    trace: bool,
    /// Go on after the first broken seed
    #[arg(long)]
    all: bool,
}

fn show(report: &Report) {
    if let Some(violation) = report.violation() {
        println!("seed {}: {violation}", report.seed);
        println!("  replay: {}", sim::replay_command(report.seed));
        violation.trace.iter().for_each(|line| println!("  {line}"));
    }
}

fn trace(seed: u64) -> bool {
    let mut world = World::with_trace(seed, Knobs::of_seed(seed));
    let report = world.run();
    world.lines().iter().for_each(|line| println!("{line}"));
    println!("seed {seed}: trace hash {:016x}", report.trace_hash);
    show(&report);
    report.violation().is_none()
}

fn main() -> ExitCode {
    let options = Options::parse();
    let (from, seeds) = options.seed.map_or((options.from, options.seeds), |seed| (seed, 1));
    let held = if options.trace {
        (from..from + seeds).all(trace)
    } else {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = options.jobs.unwrap_or_else(cores);
        let sum = Fleet { from, seeds, jobs, all: options.all }.run(show);
        println!("{sum}");
        sum.broken.is_empty()
    };
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
