//! The simulator's command line; `cargo xtask sim` and `cargo xtask planted-bugs` build it optimised and hand their
//! arguments on.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use sim::{Case, Fleet, Report};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lives through whole clusters under faults, one for each seed, and looks for broken invariants
    Sim(Seeds),
    /// Shows that the checks see: plants wrong variants of the code, each of which must be caught
    #[cfg(feature = "bugs")]
    PlantedBugs(Planted),
}

#[derive(Args)]
struct Seeds {
    /// How many seeds
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// This one only
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// Before them, those that once found something
    #[arg(long)]
    kept: bool,
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

#[cfg(feature = "bugs")]
#[derive(Args)]
struct Planted {
    /// Seeds until a bug counts as missed
    #[arg(long, default_value_t = 300)]
    bound: u64,
    /// The first seed of each bug
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Only this bug
    #[arg(long)]
    bug: Option<String>,
    /// With this seed only, and print everything that happens
    #[arg(long, requires = "bug")]
    seed: Option<u64>,
    /// Bugs at a time; as many as there are cores unless said otherwise
    #[arg(long)]
    jobs: Option<usize>,
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn code(held: bool) -> ExitCode {
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(report: &Report) {
    if let Some(violation) = report.violation() {
        println!("seed {}: {violation}", report.seed);
        println!("  replay: {}", sim::replay_command(report.seed));
        violation.trace.iter().for_each(|line| println!("  {line}"));
    }
}

/// Prints all that happens in a world; says whether it held.
fn trace(case: &Case) -> bool {
    let (report, lines) = case.live_with_trace();
    lines.iter().for_each(|line| println!("{line}"));
    println!("seed {}: trace hash {:016x}", report.seed, report.trace_hash);
    show(&report);
    report.violation().is_none()
}

/// One a line, each with what it found.
fn kept_seeds() -> Vec<u64> {
    let lines = include_str!("../../../tests/seeds.txt").lines();
    let seeds =
        lines.filter_map(|line| line.split('#').next()).map(str::trim).filter(|line| !line.is_empty());
    seeds.map(|seed| seed.parse().expect("seeds.txt has one number a line")).collect()
}

fn seeds(options: &Seeds) -> bool {
    let (from, seeds) = options.seed.map_or((options.from, options.seeds), |seed| (seed, 1));
    if options.trace {
        return (from..from + seeds).all(|seed| trace(&Case::of_seed(seed)));
    }
    let kept = if options.kept { kept_seeds() } else { Vec::new() };
    let broken = kept
        .iter()
        .map(|seed| sim::check_seed(*seed))
        .inspect(show)
        .filter(|report| report.violation().is_some());
    let broken = broken.count();
    if options.kept {
        println!("{} kept seeds, {broken} violations", kept.len());
    }
    let jobs = options.jobs.unwrap_or_else(cores);
    let sum = Fleet { from, seeds, jobs, all: options.all }.run(show);
    println!("{sum}");
    sum.broken.is_empty() && broken == 0
}

#[cfg(feature = "bugs")]
fn planted(options: &Planted) -> bool {
    use planted::Bug;
    let wanted = |bug: &Bug| options.bug.as_ref().is_none_or(|name| *name == bug.to_string());
    let bugs: Vec<Bug> = Bug::ALL.iter().copied().filter(wanted).collect();
    if bugs.is_empty() {
        eprintln!("there is no such bug; there are {:?}", Bug::ALL);
        return false;
    }
    if let (Some(seed), [bug]) = (options.seed, &bugs[..]) {
        return trace(&Case { bug: Some(*bug), ..Case::of_seed(seed) });
    }
    let jobs = options.jobs.unwrap_or_else(cores);
    let table = sim::Gate { bugs, from: options.from, bound: options.bound, jobs }.run();
    println!("{table}");
    table.missed() == 0
}

fn main() -> ExitCode {
    code(match Arguments::parse().command {
        Command::Sim(options) => seeds(&options),
        #[cfg(feature = "bugs")]
        Command::PlantedBugs(options) => planted(&options),
    })
}
