//! `orch-agent`: the daemon around `agent-core`. It waits, feeds the core and carries out what the core wants.
//!
//! Read in this order: `args`, `join`, `leave` and `identity` (being a node), `run` (the loop), `act` (the hands), `engine`
//! (Docker), `connection` and `logs` (managers), `memory` (the ledger), `renew`; `mesh` is a process of its own.

mod act;
mod args;
mod ask;
mod attempts;
mod clock;
mod config;
mod connection;
mod directory;
mod engine;
mod entropy;
mod facts;
mod files;
mod frame;
mod identity;
mod join;
mod leave;
mod logs;
mod memory;
mod mesh;
mod network;
mod notify;
mod probe;
mod renew;
mod run;
mod traffic;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use crate::args::{Cli, Command};

// The simulator's wrong variants of our code are never shipped.
const _: () = assert!(!planted::COMPILED_IN);

fn main() -> ExitCode {
    match start(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("orch-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(cli: Cli) -> Result<()> {
    telemetry::forbid_core_dumps().context("core dumps cannot be forbidden")?;
    if let Command::Mesh(asked) = &cli.command {
        let log = mesh::AccessLogBounds { size: asked.access_log_size, files: asked.access_log_files };
        return mesh::run(&asked.dir, &asked.resolv_conf, log);
    }
    // One thread: the work is waiting, and an idle agent is to be small.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime")?;
    match cli.command {
        Command::Join(join) => runtime.block_on(join::join(join)),
        Command::Run(run) => runtime.block_on(run::run(run)),
        Command::Leave(leave) => runtime.block_on(leave::leave(leave)),
        // It has a runtime of its own.
        Command::Mesh(_) => Ok(()),
        Command::Version => {
            println!("orch-agent {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}
