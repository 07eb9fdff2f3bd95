//! The lanes: what each shows, what it needs, which commands it is.
//!
//! Tests are always chosen out of the whole workspace, by target: `--package` would give the dependencies other
//! features than the lane before did, and build them all again.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;

use ::tests::command::{cargo, line_of};
use ::tests::require::{LAB, Need, REQUIRE_ALL};
use anyhow::{Context, Result, bail};

use super::targets::Targets;

/// The package of the laboratory and its lanes.
const LABORATORY: &str = "tests";
const SIMULATOR: &str = "sim";
/// How many seeds the simulator's lane runs.
const SEEDS: &str = "ORCH_SIM_SEEDS";
const QUICK_SEEDS: u32 = 20;
const FULL_SEEDS: u32 = 40;
/// A few rounds from this seed on: between them they kill a manager, an agent, an engine and a whole node, reset connections,
/// fail syncs, fill a disk and damage a log.
const CHAOS: [&str; 6] = ["chaos", "--short", "--rounds", "4", "--seed", "45433"];

/// A minute of what takes hours: that it runs, and that nothing grows at once.
const SOAK: [&str; 7] = ["scenario", "soak", "--debug", "--hours", "0.015", "--agents", "60"];

/// Worlds at full speed: those that once found something, and fixed ones.
const WORLDS: [&str; 5] = ["sim", "--kept", "--all", "--seeds", "1000"];
/// Each bug is found within far fewer seeds; see the table that it prints.
const PLANTED: [&str; 3] = ["planted-bugs", "--bound", "1000"];

/// One part of the suite.
pub struct Lane {
    pub name: &'static str,
    /// One line for a reader of the list.
    pub shows: &'static str,
    /// Part of `--quick`.
    pub quick: bool,
    needs: &'static [Need],
    steps: Vec<Step>,
}

enum Step {
    /// Cargo with these arguments, and so many seeds for the simulator.
    Cargo {
        args: Vec<String>,
        seeds: u32,
    },
    /// Another command of this program.
    Xtask(&'static [&'static str]),
    Deny,
}

/// How a lane ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// The command that failed.
    Failed(String),
    /// What is missing.
    NotRun(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Passed => f.write_str("passed"),
            Outcome::Failed(what) => write!(f, "FAILED ({what})"),
            Outcome::NotRun(why) => write!(f, "NOT RUN ({why})"),
        }
    }
}

/// Every lane in the order in which they run: cheap and likely to fail first.
pub fn all(quick: bool, targets: &Targets) -> Vec<Lane> {
    let seeds = if quick { QUICK_SEEDS } else { FULL_SEEDS };
    let step = |line: &str, more: Vec<String>| Step::Cargo {
        args: line.split(' ').map(str::to_owned).chain(more).collect(),
        seeds,
    };
    let fast = |name, shows, steps| Lane { name, shows, quick: true, needs: &[], steps };
    let lab =
        |name, shows, line| Lane { name, shows, quick: false, needs: &LAB, steps: vec![step(line, vec![])] };
    let unit = targets.of(|package, _| package != LABORATORY && package != SIMULATOR);
    let sim = targets.of(|package, target| package == SIMULATOR || target == SIMULATOR);
    let mut lanes = vec![
        fast("fmt", "the sources are formatted", vec![step("fmt --all --check", vec![])]),
        fast(
            "clippy",
            "no lint fires; the pure crates call no clock",
            vec![step("clippy --workspace --all-targets --quiet -- --deny warnings", vec![])],
        ),
        fast(
            "architecture",
            "no import that the picture does not show, no claim about security without a test",
            vec![step("test --workspace --test=architecture --test=claims", vec![])],
        ),
        fast(
            "unit",
            "every package's own tests and scripts",
            vec![step("test --workspace --lib --bins", unit), step("test --workspace --doc --quiet", vec![])],
        ),
    ];
    // Without a target of its own, the arguments would choose every test of the workspace.
    if !sim.is_empty() {
        let mut steps = vec![step("test --workspace", sim)];
        steps.extend((!quick).then_some(Step::Xtask(&WORLDS)));
        lanes.push(fast("sim", "whole clusters under faults, by seed", steps));
    }
    let full = |name, shows, step| Lane { name, shows, quick: false, needs: &[], steps: vec![step] };
    lanes.extend([
        full("planted", "the simulator catches each planted bug", Step::Xtask(&PLANTED)),
        full(
            "processes",
            "three managers under kills, freezes, decay and bad input; earlier data",
            step("test --workspace --test=processes --test=upgrade", vec![]),
        ),
        full(
            "mesh",
            "the process that carries traffic: replicas that come, go, hang and break on loopback",
            step("test --workspace --test=mesh", vec![]),
        ),
        lab("engine", "one host with a real Docker Engine", "test --workspace --test=engine"),
        lab("nodes", "a manager, an agent and an engine, each hurt in turn", "test --workspace --test=nodes"),
        lab("hosts", "several hosts, cut links and dead hosts", "test --workspace --test=hosts"),
        lab("cluster", "three managers and three nodes on hosts", "test --workspace --test=cluster_hosts"),
        lab(
            "traffic",
            "published ports, names and sessions on hosts, under load",
            "test --workspace --test=traffic",
        ),
        Lane {
            name: "chaos",
            shows: "the same, hurt in some rounds of faults while clients write",
            quick: false,
            needs: &LAB,
            steps: vec![Step::Xtask(&CHAOS)],
        },
        Lane {
            name: "soak",
            shows: "services that crash all the time beside simulated agents: nobody grows, nobody waits",
            quick: false,
            needs: &LAB,
            steps: vec![Step::Xtask(&SOAK)],
        },
        full("deny", "licences, sources and bans of the dependencies", Step::Deny),
    ]);
    lanes
}

impl Lane {
    /// Runs the steps until one fails. `strict` makes a test that cannot run fail.
    pub fn run(&self, strict: bool) -> Outcome {
        if let Some(reason) = self.needs.iter().find_map(|need| need.missing()) {
            return Outcome::NotRun(reason);
        }
        for step in &self.steps {
            if let Err(error) = step.run(strict) {
                return Outcome::Failed(format!("{error:#}"));
            }
        }
        Outcome::Passed
    }
}

impl Step {
    fn run(&self, strict: bool) -> Result<()> {
        let mut command = match self {
            Step::Cargo { args, seeds } => {
                let mut command = cargo();
                command.args(args).env(SEEDS, seeds.to_string());
                command
            }
            Step::Xtask(args) => {
                let mut command = Command::new(own_program()?);
                command.args(*args);
                command
            }
            Step::Deny => {
                let mut command = crate::cargo::deny()?;
                command.args(["check", "bans", "licenses", "sources"]);
                command
            }
        };
        if strict {
            command.env(REQUIRE_ALL, "1");
        }
        let line = match self {
            Step::Xtask(args) => format!("cargo xtask {}", args.join(" ")),
            Step::Cargo { .. } | Step::Deny => line_of(&command),
        };
        println!("$ {line}");
        if !command.status().with_context(|| line.clone())?.success() {
            bail!(line);
        }
        Ok(())
    }
}

/// This program once more. An earlier lane may have built it anew: then its file is another one, but not the process's own.
fn own_program() -> Result<PathBuf> {
    let own = PathBuf::from("/proc/self/exe");
    if own.exists() { Ok(own) } else { Ok(std::env::current_exe()?) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_quick_lanes_need_nothing() {
        let lanes = all(true, &Targets::default());
        let mut names: Vec<&str> = lanes.iter().map(|lane| lane.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), lanes.len());
        assert!(lanes.iter().all(|lane| !lane.quick || lane.needs.is_empty()));
    }

    #[test]
    fn failing_step_fails_its_lane_and_names_the_command() {
        let steps = vec![Step::Cargo { args: vec!["no-such-subcommand".to_owned()], seeds: 0 }];
        let lane = Lane { name: "broken", shows: "", quick: true, needs: &[], steps };
        let Outcome::Failed(what) = lane.run(false) else { panic!("it cannot pass") };
        assert!(what.contains("no-such-subcommand"), "{what}");
    }
}
