//! The process from its start to its end.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    control::{self, Desk},
    identity::Paper,
    peers,
    ports::Ports,
    storage::Storage,
    world::World,
};
use crate::entropy;

/// What could not be done (a port was taken) is tried again so often.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Connections that are under way at the end may go on this long; then they are cut.
const DRAIN: Duration = Duration::from_secs(60);

/// Serves until SIGTERM.
///
/// # Errors
/// The directory or the identity cannot be used.
pub async fn serve(directory: &Path) -> Result<()> {
    raise_descriptors();
    let mut paper = Paper::read(directory)?;
    let node = paper.node();
    let world = Arc::new(World::new(node, paper.tls()?, entropy::number()?));
    let desk = Arc::new(Desk {
        ports: Ports::new(world.clone()),
        storage: Storage::new(directory),
        listener: Mutex::default(),
        seal: paper.cookie_key(),
        world: world.clone(),
    });
    match desk.storage.load() {
        Ok(Some(config)) => report(&desk.apply(&config)),
        Ok(None) => {}
        // The agent brings a fresh one.
        Err(error) => tracing::warn!(error = %format!("{error:#}"), "the last configuration is lost"),
    }
    let listener = control::listen(&directory.join("mesh.sock"))?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    tracing::info!(node = %node, "the mesh serves");
    tokio::select! {
        () = control::serve(desk.clone(), listener) => {}
        () = try_again(&desk, &mut paper) => {}
        () = peers::keep_links(&world) => {}
        _ = terminate.recv() => {}
    }
    drain(&desk).await;
    Ok(())
}

/// What is done again and again: listeners that could not be opened, idle connections, our own certificate.
async fn try_again(desk: &Desk, paper: &mut Paper) {
    let mut tick = interval(TRY_AGAIN);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        desk.reconcile();
        desk.world.pool.sweep();
        paper.refresh();
    }
}

/// Accepts nothing any more, and waits for what is under way.
async fn drain(desk: &Desk) {
    desk.close();
    let world = &desk.world;
    world.retiring.cancel();
    world.connections.close();
    world.peers.retire().await;
    tracing::info!(connections = world.connections.len(), "the mesh ends when they have");
    if timeout(DRAIN, world.connections.wait()).await.is_err() {
        tracing::warn!(connections = world.connections.len(), "connections are cut");
    }
}

fn report(problems: &[String]) {
    for problem in problems {
        tracing::warn!(problem, "not served");
    }
}

/// Thousands of connections need more descriptors than the usual 1,024.
fn raise_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files stays");
    }
}
