//! `orch-agent mesh`: the process that carries a node's traffic.
//!
//! It is a process of its own, started by the agent and outliving it, so that an agent's crash or upgrade cuts no connection. It
//! serves the last configuration that an agent gave it, from its own file after a crash. What is decided is decided in the crate
//! `mesh`; here are the sockets.
//!
//! Reading order: `process` (start and end), `handover` and `predecessor` (from one process to the next), `control` (the agent), `world` (what all connections share), `ports` (listeners),
//! `lanes` (threads), `tcp` and `http` (what a listener accepts), `dial`, `gate` and `duplex` (towards a container), `peers` (other
//! nodes), `dns` (names), `addresses` (services by their own address), `access` (the log of requests).

mod access;
mod addresses;
mod control;
mod dial;
mod dns;
mod duplex;
mod gate;
mod handover;
mod http;
mod identity;
mod lanes;
mod peers;
mod ports;
mod predecessor;
mod process;
mod random;
mod socket;
mod sockets;
mod splice;
mod storage;
mod tcp;
mod world;

use std::path::Path;

use anyhow::{Context, Result};
use model::route::RouteTable;

/// Bytes of one file of the access log, and how many files there are, unless something else is said.
pub const ACCESS_LOG_SIZE: u64 = 16 << 20;
/// See [`ACCESS_LOG_SIZE`].
pub const ACCESS_LOG_FILES: u32 = 4;

/// How much of the access log is kept.
#[derive(Debug, Clone, Copy)]
pub struct AccessLogBounds {
    /// Bytes of one file.
    pub size: u64,
    /// Files.
    pub files: u32,
}

/// More threads than this help nobody on a node that runs containers.
const MOST_THREADS: usize = 4;

/// What the mesh of an agent's directory last went by; `None` when that is not known.
pub fn last_routes(directory: &Path) -> Option<RouteTable> {
    storage::Storage::new(directory).load().ok().flatten().map(|config| config.table)
}

/// Serves until it is told to end.
///
/// # Errors
/// The directory or the identity cannot be used.
pub fn run(directory: &Path, resolv_conf: &Path, log: AccessLogBounds) -> Result<()> {
    telemetry::init(&telemetry::LogConfig::default())?;
    telemetry::abort_on_panic();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .context("the runtime")?;
    let path = directory.join("access").join("access.log");
    let log = access::AccessLog::new(access::Place { path, size: log.size, files: log.files.max(1) });
    runtime.block_on(process::serve(directory, resolv_conf, log))
}
