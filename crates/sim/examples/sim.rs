//! Runs many worlds and says what was counted: `sim [--seeds N] [--from S] [--jobs J] [--trace]`, or one: `sim --seed S`.
//!
//! Ends with exit code 1 when an invariant broke in any of them, after one command to replay each.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use sim::{Knobs, Report, World, check_seed};

struct Options {
    seeds: u64,
    from: u64,
    jobs: usize,
    trace: bool,
    /// Go on after the first broken seed.
    all: bool,
}

fn options() -> Result<Options, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut options = Options { seeds: 100, from: 1, jobs: cores, trace: false, all: false };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || {
            let value = args.next().ok_or(format!("{arg} needs a number"))?;
            value.parse::<u64>().map_err(|_| format!("\"{value}\" is no number"))
        };
        match arg.as_str() {
            "--seeds" => options.seeds = number()?,
            "--from" => options.from = number()?,
            "--jobs" => options.jobs = number()?.max(1) as usize,
            "--seed" => (options.from, options.seeds) = (number()?, 1),
            "--trace" => options.trace = true,
            "--all" => options.all = true,
            _ => {
                return Err(format!(
                    "unknown argument \"{arg}\"; known: --seeds --from --seed --jobs --trace --all"
                ));
            }
        }
    }
    Ok(options)
}

/// What all worlds together came to.
#[derive(Default)]
struct Sum {
    worlds: u64,
    calm: u64,
    simulated_ms: u64,
    events: u64,
    faults: BTreeMap<&'static str, u64>,
    requests: BTreeMap<&'static str, u64>,
    observed: BTreeMap<&'static str, u64>,
    converge_ms: Vec<u64>,
    broken: BTreeMap<u64, &'static str>,
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.worlds += 1;
        self.calm += u64::from(report.calm);
        self.simulated_ms += report.simulated_ms;
        self.events += report.events;
        let pairs = [
            (&mut self.faults, &report.faults),
            (&mut self.requests, &report.requests),
            (&mut self.observed, &report.observed),
        ];
        for (sum, more) in pairs {
            for (name, count) in more {
                *sum.entry(name).or_default() += count;
            }
        }
        self.converge_ms.extend(report.converge_ms);
        if let Some(violation) = report.violation() {
            self.broken.insert(report.seed, violation.invariant);
        }
    }

    fn print(&mut self, secs: f64) {
        let table = |title: &str, counts: &BTreeMap<&'static str, u64>| {
            println!("{title}: {}", counts.values().sum::<u64>());
            counts.iter().for_each(|(name, count)| println!("  {count:>9}  {name}"));
        };
        table("faults", &self.faults);
        table("requests and tries", &self.requests);
        table("observed", &self.observed);
        self.converge_ms.sort_unstable();
        let at =
            |share: usize| self.converge_ms.get(self.converge_ms.len() * share / 100).copied().unwrap_or(0);
        println!("converged after the last fault within p50 {} ms, p95 {} ms", at(50), at(95));
        let hours = self.simulated_ms as f64 / 3_600_000.0;
        println!(
            "{} worlds ({} calm), {hours:.2} simulated hours, {} steps, {} faults, {} violations; \
             {:.0} seeds a minute, {:.0} simulated seconds a second",
            self.worlds,
            self.calm,
            self.events,
            self.faults.values().sum::<u64>(),
            self.broken.len(),
            self.worlds as f64 * 60.0 / secs,
            self.simulated_ms as f64 / 1_000.0 / secs
        );
        for (seed, invariant) in &self.broken {
            println!("  seed {seed} breaks {invariant}");
        }
    }
}

fn show(report: &Report) {
    if let Some(violation) = report.violation() {
        println!("seed {}: {violation}", report.seed);
        println!("  replay: cargo run -p sim --release --example sim -- --seed {} --trace", report.seed);
        violation.trace.iter().for_each(|line| println!("  {line}"));
    }
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(message) => {
            eprintln!("sim: {message}");
            return ExitCode::from(2);
        }
    };
    if options.trace {
        for seed in options.from..options.from + options.seeds {
            let mut world = World::with_trace(seed, Knobs::of_seed(seed));
            let report = world.run();
            world.lines().iter().for_each(|line| println!("{line}"));
            println!("seed {seed}: trace hash {:016x}", report.trace_hash);
            show(&report);
        }
        return ExitCode::SUCCESS;
    }
    let begun = Instant::now();
    let next = AtomicU64::new(options.from);
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= options.from + options.seeds {
                        return;
                    }
                    let report = check_seed(seed);
                    let mut sum = sum.lock().expect("no thread panics with the lock");
                    show(&report);
                    sum.add(&report);
                    if !sum.broken.is_empty() && !options.all {
                        next.store(options.from + options.seeds, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let mut sum = sum.into_inner().expect("no thread panicked");
    sum.print(begun.elapsed().as_secs_f64());
    if sum.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
