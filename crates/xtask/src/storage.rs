//! `storage`: the log's tests against flips, cuts, failures, kills and power cuts, many times over, with one line that says
//! how often.

use std::collections::BTreeMap;
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use ::tests::command::cargo;
use anyhow::Result;
use clap::Args;

/// Multiplies what each test does by itself.
const ROUNDS: &str = "ORCH_WAL_ROUNDS";
/// Each test file, and the factor with which it comes to a million flips, a thousand power cuts and so on.
const FILES: [(&str, u64); 5] =
    [("damage", 50), ("crash", 20), ("failure", 20), ("kill", 50), ("power_cut", 167)];

/// Options of `storage`.
#[derive(Args, Debug)]
pub struct Options {
    /// Do so many percent of it
    #[arg(long, default_value_t = 100)]
    percent: u64,
}

/// Runs them.
///
/// # Errors
/// Cargo cannot be started.
pub fn run(options: &Options) -> Result<ExitCode> {
    let begun = Instant::now();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let mut failed = Vec::new();
    for (file, factor) in FILES {
        let started = Instant::now();
        let factor = (factor * options.percent / 100).max(1);
        let mut command = cargo();
        command.args(["test", "--workspace", "--quiet", &format!("--test={file}")]);
        let output = command.env(ROUNDS, factor.to_string()).stdout(Stdio::piped()).output()?;
        let told = String::from_utf8_lossy(&output.stderr);
        for (what, count) in told.lines().filter_map(count) {
            *counts.entry(what.to_owned()).or_default() += count;
        }
        if !output.status.success() {
            println!("{told}{}", String::from_utf8_lossy(&output.stdout));
            failed.push(file);
        }
        println!("{file}: {}, {:.1} s", output.status, started.elapsed().as_secs_f64());
    }
    let counts: Vec<String> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
    println!(
        "storage: {}; {} of {} test files failed; nothing acknowledged was lost silently: {}; {:.1} min",
        counts.join(", "),
        failed.len(),
        FILES.len(),
        failed.is_empty(),
        begun.elapsed().as_secs_f64() / 60.0
    );
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads `counted: 12 bit flips`.
fn count(line: &str) -> Option<(&str, u64)> {
    let (count, what) = line.strip_prefix("counted: ")?.split_once(' ')?;
    Some((what, count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_and_other_lines_are_not() {
        assert_eq!(count("counted: 12 bit flips"), Some(("bit flips", 12)));
        assert_eq!(count("counted: many bit flips"), None);
        assert_eq!(count("running 3 tests"), None);
    }
}
