//! The simulator's command line; `cargo xtask sim` and `cargo xtask planted-bugs` build it optimised and hand their
//! arguments on.

use std::{process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use sim::{Case, Fleet, Report, Skip};

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
    /// So many nodes in each world, in place of what its seed says
    #[arg(long)]
    nodes: Option<usize>,
    /// Leave these faults and steps out: f1-3,s7
    #[arg(long, requires = "seed")]
    skip: Option<Skip>,
    /// Look for a smaller world that breaks alike: fewer nodes, faults and steps
    #[arg(long, requires = "seed")]
    shrink: bool,
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
    /// With this seed only
    #[arg(long, requires = "bug")]
    seed: Option<u64>,
    /// Print everything that happens with this seed
    #[arg(long, requires = "seed")]
    trace: bool,
    /// So many nodes in its world
    #[arg(long, requires = "seed")]
    nodes: Option<usize>,
    /// Leave these faults and steps out: f1-3,s7
    #[arg(long, requires = "seed")]
    skip: Option<Skip>,
    /// Look for a smaller world that breaks alike
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// Bugs at a time; as many as there are cores unless said otherwise
    #[arg(long)]
    jobs: Option<usize>,
}

/// A shrinker looks for so long at most.
const SHRINK: Duration = Duration::from_secs(120);

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn code(held: bool) -> ExitCode {
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(case: &Case, report: &Report) {
    if let Some(violation) = report.violation() {
        println!("seed {}: {violation}", report.seed);
        println!("  replay: {}", sim::replay_command(case));
        violation.trace.iter().for_each(|line| println!("  {line}"));
    }
}

/// Prints all that happens in a world; says whether it held.
fn trace(case: &Case) -> bool {
    let (report, lines) = case.live_with_trace();
    lines.iter().for_each(|line| println!("{line}"));
    println!("seed {}: trace hash {:016x}", report.seed, report.trace_hash);
    show(case, &report);
    report.violation().is_none()
}

/// One a line, each with what it found.
fn kept_seeds() -> Vec<u64> {
    let lines = include_str!("../../../tests/seeds.txt").lines();
    let seeds =
        lines.filter_map(|line| line.split('#').next()).map(str::trim).filter(|line| !line.is_empty());
    seeds.map(|seed| seed.parse().expect("seeds.txt has one number a line")).collect()
}

/// A world as these options say.
fn case(seed: u64, nodes: Option<usize>, skip: Option<&Skip>) -> Case {
    let mut case = Case::of_seed(seed);
    if let Some(nodes) = nodes {
        case = case.with_nodes(nodes);
    }
    case.knobs.skip = skip.cloned().unwrap_or_default();
    case
}

/// Makes a broken world small and shows what is left of it; says whether it holds.
fn shrink(case: &Case) -> bool {
    let Some(shrunk) = sim::shrink(case, SHRINK) else {
        println!("seed {} holds", case.seed);
        return true;
    };
    trace(&shrunk.case);
    println!("seed {}: {shrunk}", case.seed);
    false
}

fn seeds(options: &Seeds) -> bool {
    let (from, seeds) = options.seed.map_or((options.from, options.seeds), |seed| (seed, 1));
    let world = |seed| case(seed, options.nodes, options.skip.as_ref());
    match options.seed.map(world) {
        Some(case) if options.shrink => return shrink(&case),
        Some(case) if options.trace => return trace(&case),
        Some(case) if options.skip.is_some() => {
            let report = sim::check_case(&case);
            show(&case, &report);
            return report.violation().is_none();
        }
        _ => {}
    }
    if options.trace {
        return (from..from + seeds).all(|seed| trace(&world(seed)));
    }
    let kept = if options.kept { kept_seeds() } else { Vec::new() };
    let broken = kept
        .iter()
        .map(|seed| sim::check_seed(*seed))
        .inspect(|report| show(&Case::of_seed(report.seed), report))
        .filter(|report| report.violation().is_some());
    let broken = broken.count();
    if options.kept {
        println!("{} kept seeds, {broken} violations", kept.len());
    }
    let jobs = options.jobs.unwrap_or_else(cores);
    let fleet = Fleet { from, seeds, jobs, all: options.all, nodes: options.nodes };
    let sum = fleet.run(|report| show(&world(report.seed), report));
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
        let case = Case { bug: Some(*bug), ..case(seed, options.nodes, options.skip.as_ref()) };
        if options.shrink {
            return shrink(&case);
        }
        if options.trace {
            return trace(&case);
        }
        let report = sim::check_case(&case);
        show(&case, &report);
        return report.violation().is_none();
    }
    let jobs = options.jobs.unwrap_or_else(cores);
    let table = sim::Gate { bugs, from: options.from, bound: options.bound, jobs }.run();
    println!("{table}");
    let small = table.smallest_caught().is_none_or(|case| shrinks(&case));
    table.missed() == 0 && small
}

/// That the shrinker does what it is there for: shown by one of the bugs.
#[cfg(feature = "bugs")]
fn shrinks(case: &Case) -> bool {
    let Some(shrunk) = sim::shrink(case, SHRINK) else { return false };
    println!("{} with seed {}: {shrunk}", case.bug.map(|bug| bug.to_string()).unwrap_or_default(), case.seed);
    let [before, after] = shrunk.sizes;
    after < before && after.faults + after.steps < before.faults + before.steps
}

fn main() -> ExitCode {
    code(match Arguments::parse().command {
        Command::Sim(options) => seeds(&options),
        #[cfg(feature = "bugs")]
        Command::PlantedBugs(options) => planted(&options),
    })
}
