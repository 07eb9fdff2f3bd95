//! `sim`: whole clusters under faults, by seed. The program is the simulator's own, built optimised: its worlds are a
//! hundred times the work of everything else here.

use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::Args;
use tests::command::cargo;

/// Options of `sim`: the simulator's own; `--help` lists them.
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub struct Options {
    /// See `cargo xtask sim --help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// The simulator's program, to be given its arguments.
pub fn program() -> Command {
    let mut command = cargo();
    command.args(["run", "--quiet", "--profile=sim", "--package=sim", "--"]);
    command
}

/// Runs it.
///
/// # Errors
/// Cargo cannot be started.
pub fn run(options: &Options) -> Result<ExitCode> {
    let status = program().args(&options.args).status()?;
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}
