//! The lanes: what each shows, what it needs, which commands it is.

use std::fmt;
use std::process::Command;

use ::tests::command::{cargo, line_of};
use ::tests::require::{LAB, Need, REQUIRE_ALL};
use anyhow::{Result, bail};

/// How many seeds the simulator's lane runs.
const SEEDS: &str = "ORCH_SIM_SEEDS";
const QUICK_SEEDS: u32 = 20;
const FULL_SEEDS: u32 = 500;

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
    Cargo(Vec<&'static str>),
    Simulator { seeds: u32 },
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
pub fn all(quick: bool) -> Vec<Lane> {
    let fast = |name, shows, steps| Lane { name, shows, quick: true, needs: &[], steps };
    let lab = |name, shows, steps| Lane { name, shows, quick: false, needs: &LAB, steps };
    let seeds = if quick { QUICK_SEEDS } else { FULL_SEEDS };
    vec![
        fast("fmt", "the sources are formatted", vec![words("fmt --all --check")]),
        fast(
            "clippy",
            "no lint fires; the pure crates call no clock",
            vec![words("clippy --workspace --all-targets --quiet -- --deny warnings")],
        ),
        fast(
            "architecture",
            "no import that the picture does not show",
            vec![words("test --package tests --test architecture")],
        ),
        fast(
            "unit",
            "every package's own tests and scripts",
            vec![words("test --workspace --exclude tests --exclude sim --exclude mimic")],
        ),
        fast("sim", "whole clusters under faults, by seed", vec![Step::Simulator { seeds }]),
        fast("mimic", "the workload misbehaves as asked", vec![words("test --package mimic")]),
        lab(
            "engine",
            "one host with a real Docker Engine",
            vec![words("test --package tests --test engine")],
        ),
        lab(
            "hosts",
            "several hosts, cut links and dead hosts",
            vec![words("test --package tests --test hosts")],
        ),
        Lane {
            name: "deny",
            shows: "licences, sources and bans of the dependencies",
            quick: false,
            needs: &[],
            steps: vec![Step::Deny],
        },
    ]
}

fn words(line: &'static str) -> Step {
    Step::Cargo(line.split(' ').collect())
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
            Step::Cargo(args) => with_args(cargo(), args),
            Step::Simulator { seeds } => {
                let mut command = with_args(cargo(), &["test", "--package", "sim"]);
                command.env(SEEDS, seeds.to_string());
                command
            }
            Step::Deny => with_args(crate::cargo::deny()?, &["check", "bans", "licenses", "sources"]),
        };
        if strict {
            command.env(REQUIRE_ALL, "1");
        }
        println!("$ {}", line_of(&command));
        let status = command.status()?;
        if !status.success() {
            bail!("{}", line_of(&command));
        }
        Ok(())
    }
}

fn with_args(mut command: Command, args: &[&str]) -> Command {
    command.args(args);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_quick_lanes_need_nothing() {
        let lanes = all(true);
        let mut names: Vec<&str> = lanes.iter().map(|lane| lane.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), lanes.len());
        assert!(lanes.iter().all(|lane| !lane.quick || lane.needs.is_empty()));
    }

    #[test]
    fn failing_step_fails_its_lane_and_names_the_command() {
        let lane = Lane {
            name: "broken",
            shows: "",
            quick: true,
            needs: &[],
            steps: vec![words("no-such-subcommand --quiet")],
        };
        let Outcome::Failed(what) = lane.run(false) else { panic!("it cannot pass") };
        assert!(what.contains("no-such-subcommand"), "{what}");
    }
}
