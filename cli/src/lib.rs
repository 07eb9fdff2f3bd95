//! `orchctl`, the command line of an Orch cluster.
//!
//! In come arguments, a context file and a person's patience; out go requests to any manager, and text or JSON about
//! what came of them, with an exit code that a script can branch on. Not here: any decision about the cluster; what is
//! decided here is only how to say things.
//!
//! Reading order: [`args`] is the surface, [`cmd`] has one file per command, [`client`] talks to managers, [`context`]
//! knows which, [`spec`] and [`value`] read what people write, [`wait`] judges whether a change has arrived,
//! `oidc` and `terminal` ask people who log in, [`output`] writes, [`exit`] is how commands fail.

pub mod args;
pub mod client;
pub mod cmd;
pub mod context;
pub mod exit;
mod oidc;
pub mod output;
pub mod spec;
mod terminal;
pub mod value;
pub mod wait;

use std::ffi::OsString;

use clap::Parser as _;

/// Runs one command line and returns its exit code.
pub async fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match args::Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output and are no failure; clap knows which is which.
            let _ = error.print();
            return if error.use_stderr() { exit::Code::INVALID.0 } else { exit::Code::DONE.0 };
        }
    };
    let json = cli.global.json;
    match cmd::run(cli).await {
        Ok(code) => code.0,
        Err(failure) => {
            if json {
                output::note(failure.to_json().to_string());
            } else {
                output::note(format!("error: {failure}"));
            }
            failure.code.0
        }
    }
}
