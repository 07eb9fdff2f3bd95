//! `sim`: whole clusters under faults, by seed. The program is the simulator's own, built optimised: its worlds are a
//! hundred times the work of everything else here.

use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::Args;
use tests::command::cargo;

/// Options of the simulator's own; `--help` lists them.
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub struct Options {
    /// See `--help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// One of the simulator's commands, to be given its arguments. The bugs and rare paths are compiled into this program
/// and no other, and off unless a world switches them on.
pub fn program(command: &str) -> Command {
    let mut cargo = cargo();
    cargo.args(["run", "--quiet", "--profile=sim", "--package=sim", "--features=bugs", "--", command]);
    cargo
}

/// Runs a command of the simulator to its end.
pub(crate) fn hand_on(command: &str, options: &Options) -> Result<ExitCode> {
    let status = program(command).args(&options.args).status()?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}

/// Runs the seeds.
///
/// # Errors
/// Cargo cannot be started.
pub fn run(options: &Options) -> Result<ExitCode> {
    hand_on("sim", options)
}
