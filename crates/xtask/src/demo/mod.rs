//! `demo`: all set-up, then the main job on screen: replicas that come back, whatever dies.
//!
//! Read in this order: this file (set-up and end), [`story`] (what happens), [`stage`] (how it looks).

mod stage;
mod story;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tests::binaries::Binaries;
use tests::cluster::{Cluster, Place, Plan};
use tests::command::call;
use tests::packages::{self, ENGINE, NETWORK};
use tests::{engine, image, require};

use stage::Stage;

/// Options of `demo`.
#[derive(Args, Debug)]
pub struct Options {
    /// End after the story instead of leaving the cluster running until Ctrl-C
    #[arg(long)]
    exit: bool,
    /// Use this machine's one engine even as root
    #[arg(long)]
    one_engine: bool,
}

/// Sets everything up, tells the story, and waits for Ctrl-C.
///
/// # Errors
/// The set-up fails, or the cluster does not do what the story says.
pub fn run(options: &Options) -> Result<ExitCode> {
    let mut stage = Stage::new();
    stage.title("Orch: replicas that come back, whatever dies");
    let begun = Instant::now();
    let cluster = set_up(&stage, options.one_engine || !require::is_root())?;
    stage.time("set up in", begun.elapsed());
    story::tell(&mut stage, &cluster)?;
    if options.exit {
        return Ok(ExitCode::SUCCESS);
    }
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    by_hand(&stage, &cluster);
    signals.forever().next().context("no signal came")?;
    stage.print("\nending the cluster, and everything that the demo made");
    drop(cluster);
    Ok(ExitCode::SUCCESS)
}

fn set_up(stage: &Stage, one_engine: bool) -> Result<Cluster> {
    stage.title("Setting up");
    if one_engine {
        engine::system()?;
    } else {
        packages::ensure(&[&ENGINE[..], &NETWORK[..]].concat())?;
    }
    stage.fact("engine", &call("dockerd", &["--version"]).or_else(|_| call("docker", &["version"]))?);
    stage.fact("programs", "cargo build --release (the first time takes a few minutes)");
    Binaries::release()?;
    image::mimic_archive()?;
    stage.fact(
        "image",
        &format!("{}, a small server that misbehaves on request, built without a registry", image::MIMIC_1),
    );
    let place = if one_engine { Place::Loopback } else { Place::Lab { uplink: true } };
    let cluster = Cluster::start(Plan { managers: 3, nodes: 3, place, release: true })?;
    cluster.load_mimic()?;
    stage.fact("managers", "m1, m2 and m3: three processes that agree through Raft");
    stage.fact(
        "nodes",
        if one_engine {
            "h1, h2 and h3: three agents on this machine's ONE engine (root would give each its own host)"
        } else {
            "h1, h2 and h3: each with its own Docker Engine in its own network namespace"
        },
    );
    Ok(cluster)
}

fn by_hand(stage: &Stage, cluster: &Cluster) {
    let bin = cluster.ctl().program().parent().map(|dir| dir.display().to_string()).unwrap_or_default();
    stage.title("The cluster keeps running. Try in another terminal:");
    stage.print(&format!("  export ORCH_CONFIG={}", cluster.ctl().config().display()));
    stage.print(&format!("  export PATH={bin}:$PATH\n"));
    let commands = [
        ("orchctl status", "quorum, leader, nodes, whatever waits and why"),
        ("orchctl ps", "every replica, where it runs, how often it was restarted"),
        ("orchctl scale ispyb=2", "fewer"),
        ("orchctl service update --image orch/mimic:2 ispyb", "a new version, replica by replica"),
        ("orchctl service rollback ispyb", "and back"),
        ("orchctl node drain h2", "empty a node before maintenance"),
        ("orchctl logs --follow ispyb", "what they print, from all nodes"),
        ("orchctl events --follow", "what happens, as it happens"),
    ];
    for (command, why) in commands {
        stage.print(&format!("  {command:<52}# {why}"));
    }
    stage.print("");
    for node in cluster.nodes() {
        stage.print(&format!("  docker --host {} ps   # the engine of {}", node.engine().url(), node.name()));
    }
    stage.print("\nCtrl-C ends it all and leaves nothing behind.");
}
