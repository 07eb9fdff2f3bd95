//! `test`: named lanes one after the other, what each took, and a summary that hides nothing.
//!
//! A lane that cannot run here is listed as NOT RUN with the reason; with `CI=true` that is a failure. Later lanes run
//! after a failed one, so that one run shows everything.

mod lane;
mod summary;
mod targets;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use lane::{Lane, Outcome};
use targets::Targets;

/// Options of `test`.
#[derive(Args, Debug, Default)]
pub struct Options {
    /// Only what needs neither engine nor root, with few simulator seeds: under two minutes
    #[arg(long)]
    quick: bool,
    /// Only this lane; may be given several times
    #[arg(long, value_name = "NAME")]
    lane: Vec<String>,
    /// Print the lanes and what each shows, and run nothing
    #[arg(long)]
    list: bool,
    #[arg(skip)]
    ci: bool,
}

impl Options {
    /// Everything, and nothing may be left out.
    pub fn ci() -> Options {
        Options { ci: true, ..Options::default() }
    }

    fn chosen(&self) -> Result<Vec<Lane>> {
        let lanes = lane::all(self.quick, &Targets::read()?);
        if let Some(unknown) = self.lane.iter().find(|name| !lanes.iter().any(|lane| lane.name == **name)) {
            let names: Vec<&str> = lanes.iter().map(|lane| lane.name).collect();
            bail!("there is no lane {unknown}; there are {}", names.join(", "));
        }
        let wanted = |lane: &Lane| match self.lane.as_slice() {
            [] => lane.quick || !self.quick,
            names => names.iter().any(|name| name == lane.name),
        };
        Ok(lanes.into_iter().filter(wanted).collect())
    }
}

/// Runs the chosen lanes.
///
/// # Errors
/// A lane is not known by that name. Failing lanes are no error but a failing exit code.
pub fn run(options: &Options) -> Result<ExitCode> {
    let lanes = options.chosen()?;
    if options.list {
        for lane in &lanes {
            println!("{:<14}{}", lane.name, lane.shows);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let strict = options.ci || std::env::var("CI").is_ok_and(|value| value == "true");
    let begun = Instant::now();
    let mut outcomes = Vec::new();
    for (index, lane) in lanes.iter().enumerate() {
        println!("\n=== [{}/{}] {}: {}", index + 1, lanes.len(), lane.name, lane.shows);
        let started = Instant::now();
        let outcome = lane.run(strict);
        println!("=== {}: {outcome}, {:.1} s", lane.name, started.elapsed().as_secs_f64());
        outcomes.push((lane.name, outcome, started.elapsed()));
    }
    print!("{}", summary::table(&outcomes, begun.elapsed()));
    let failed = outcomes.iter().any(|(_, outcome, _)| match outcome {
        Outcome::Passed => false,
        Outcome::Failed(_) => true,
        Outcome::NotRun(_) => strict,
    });
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
