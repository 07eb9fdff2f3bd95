//! The pure parts alone: placements a second, and the simulator's seeds a minute.

use anyhow::Result;
use tests::command::{cargo, run};

use super::table::Table;

/// Seeds for the simulator's speed.
const SEEDS: &str = "40";

/// Adds the rows.
///
/// # Errors
/// A program does not build, or a seed fails.
pub fn measure(table: &mut Table) -> Result<()> {
    let placements =
        run(cargo().args(["run", "--release", "--quiet", "--package=control", "--example=placement_bench"]))?;
    println!("{placements}");
    for line in placements.lines().filter(|line| line.contains(" nodes")) {
        let (what, figures) = line.split_at(44.min(line.len()));
        let fields: Vec<&str> = figures.split_whitespace().collect();
        if let [_, decide, apply] = fields[..] {
            table.row(
                &format!("placements: {}", what.trim()),
                format!("{decide}/s"),
                "-".into(),
                format!("{apply}/s with apply"),
                ">= 100,000/s at 10,000 nodes",
            );
        }
    }
    let seeds = run(crate::sim::program("sim").args(["--seeds", SEEDS]))?;
    println!("{seeds}");
    let last =
        seeds.lines().rev().find(|line| line.contains("seeds a minute")).unwrap_or("no figure").to_owned();
    table.row("simulator, 3 managers, seeds with faults", last, "-".into(), "-".into(), "-");
    Ok(())
}
