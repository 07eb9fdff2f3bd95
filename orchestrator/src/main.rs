//! `orch-manager`: keeps the desired state of a cluster, replicated, and decides what runs where.
//!
//! The deciding is `manager-core`'s; this program waits, feeds it and carries out what it says. Reading order: [`args`],
//! [`run`], [`renewal`], [`replace`], [`keyring`], [`unlock`], [`core_loop`], [`storage`], [`api`], [`peers`], [`streams`], [`registry`]; then the one-time commands [`init`], [`join`],
//! [`recover`], [`membership`].

mod api;
mod args;
mod client;
mod config;
mod context;
mod core_loop;
mod dir;
mod edge;
mod entropy;
mod init;
mod inputs;
mod issuers;
mod join;
mod keyring;
mod login;
mod membership;
mod peers;
mod recover;
mod registry;
mod renewal;
mod replace;
mod run;
mod storage;
mod strangers;
mod streams;
mod unlock;

use std::process::ExitCode;

use anyhow::Context as _;

/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

// The simulator's wrong variants of our code are never shipped.
const _: () = assert!(!planted::COMPILED_IN);

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("orch-manager: {error:#}");
            ExitCode::from(args::exit_code(&error))
        }
    }
}

fn start() -> anyhow::Result<()> {
    telemetry::forbid_core_dumps().context("core dumps cannot be forbidden")?;
    args::execute()
}
