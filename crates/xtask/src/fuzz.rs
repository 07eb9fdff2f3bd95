//! `fuzz`: every reader of bytes from outside, fed with what nobody wrote, for as long as one likes.
//!
//! The targets are tests called `fuzz_…` beside the readers; the test suite runs them for half a second each.

use std::process::{ExitCode, Stdio};
use std::time::Instant;

use ::tests::command::cargo;
use anyhow::Result;
use clap::Args;

/// Test programs that have targets: they run one after the other, their targets at the same time.
const PROGRAMS: u64 = 10;

/// Options of `fuzz`.
#[derive(Args, Debug)]
pub struct Options {
    /// How long, in all
    #[arg(long, default_value_t = 6)]
    minutes: u64,
    /// Begin with this seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs all targets.
///
/// # Errors
/// Cargo cannot be started.
pub fn run(options: &Options) -> Result<ExitCode> {
    let begun = Instant::now();
    let seconds = (options.minutes * 60 / PROGRAMS).max(1);
    let mut command = cargo();
    command.args([
        "test",
        "--workspace",
        "--no-fail-fast",
        "--lib",
        "--bin=orch-manager",
        "--test=fuzz",
        "--test=cluster",
        "fuzz_",
    ]);
    command.env("ORCH_FUZZ_SECONDS", seconds.to_string());
    command.env("ORCH_FUZZ_SEED", options.seed.to_string());
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    let targets: Vec<Target<'_>> = told.lines().filter_map(Target::read).collect();
    println!("{:<14}{:>12}{:>10}", "target", "inputs", "answers");
    for Target { name, inputs, answers } in &targets {
        println!("{name:<14}{inputs:>12}{answers:>10}");
    }
    let out = String::from_utf8_lossy(&output.stdout);
    let failed = out.lines().filter(|line| line.ends_with("... FAILED")).count();
    if !output.status.success() {
        println!("{out}{told}");
    }
    println!(
        "fuzz: seed {}, {} inputs in {} targets, {failed} failed, {:.1} min",
        options.seed,
        targets.iter().map(|target| target.inputs).sum::<u64>(),
        targets.len(),
        begun.elapsed().as_secs_f64() / 60.0
    );
    Ok(if output.status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Debug, PartialEq)]
struct Target<'a> {
    name: &'a str,
    inputs: u64,
    answers: u64,
}

impl<'a> Target<'a> {
    /// Reads `counted: 12 inputs of token, 3 answers`.
    fn read(line: &'a str) -> Option<Target<'a>> {
        let (inputs, rest) = line.strip_prefix("counted: ")?.split_once(" inputs of ")?;
        let (name, answers) = rest.split_once(", ")?;
        let answers = answers.strip_suffix(" answers")?;
        Some(Target { name, inputs: inputs.parse().ok()?, answers: answers.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_of_a_target_is_read_and_others_are_not() {
        let read = Target::read("counted: 12 inputs of token, 3 answers");
        assert_eq!(read, Some(Target { name: "token", inputs: 12, answers: 3 }));
        assert_eq!(Target::read("counted: 12 bit flips"), None);
    }
}
