//! `planted-bugs`: the simulator against wrong variants of our code, each of which its checks must see.

use std::process::ExitCode;

use anyhow::Result;

use crate::sim;

/// Runs the gate with the simulator's own options; `--help` lists them.
///
/// # Errors
/// Cargo cannot be started.
pub fn run(options: &sim::Options) -> Result<ExitCode> {
    sim::hand_on("planted-bugs", options)
}
