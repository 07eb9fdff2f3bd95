//! The process from its start to its end.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::spawn_blocking,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    access::AccessLog,
    control::{self, Desk},
    dns::Names,
    handover::{self, Succession},
    identity::Paper,
    lanes::Lanes,
    peers,
    ports::Ports,
    predecessor,
    storage::Storage,
    world::World,
};
use crate::entropy;

/// What could not be done (a port was taken) is tried again so often.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// Connections that are under way at the end may go on this long; then they are cut.
const DRAIN: Duration = Duration::from_secs(60);

/// Serves until SIGTERM, or until another process takes over.
///
/// # Errors
/// The directory or the identity cannot be used.
pub async fn serve(directory: &Path, resolv_conf: &Path, access: AccessLog) -> Result<()> {
    raise_descriptors();
    let mut paper = Paper::read(directory)?;
    let node = paper.node();
    let lanes = Lanes::start().context("threads")?;
    let world = Arc::new(World::new(node, paper.tls(), entropy::number()?, lanes, access));
    let desk = Arc::new(Desk {
        ports: Ports::new(world.clone()),
        listener: Mutex::default(),
        names: Names::new(world.clone(), resolv_conf),
        redirected: Mutex::default(),
        seal: paper.cookie_key(),
        storage: Storage::new(directory),
        contradictions: Mutex::default(),
        problems: watch::Sender::default(),
        world: world.clone(),
    });
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let serving = async {
        let succession = take_over(&desk, directory).await?;
        let agents = control::listen(&directory.join("mesh.sock"))?;
        let newcomers = control::listen(&directory.join(handover::SOCKET))?;
        if let Some(succession) = succession {
            let old = spawn_blocking(|| succession.ready()).await?.context("the mesh that served before")?;
            world.predecessor.follow(old)?;
        }
        tracing::info!(%node, "the mesh serves");
        tokio::select! {
            () = control::serve(desk.clone(), agents) => {}
            newcomer = hand_over(&desk, newcomers) => {
                tokio::spawn(predecessor::answer(world.clone(), newcomer));
            }
            () = try_again(&desk, &mut paper) => {}
        }
        anyhow::Ok(())
    };
    tokio::select! {
        served = serving => served?,
        () = peers::keep_links(&world) => {}
        _ = terminate.recv() => {}
    }
    drain(&desk).await;
    Ok(())
}

/// Serves the last configuration, with the sockets of the process that served before, if there is one.
async fn take_over(desk: &Desk, directory: &Path) -> Result<Option<Succession>> {
    let place = directory.to_owned();
    let given = spawn_blocking(move || handover::ask(&place)).await??;
    let succession = given.map(|(succession, sockets)| {
        tracing::info!(sockets = sockets.len(), "taken over");
        desk.world.sockets.inherit(sockets);
        succession
    });
    match desk.storage.load() {
        Ok(Some(config)) => {
            desk.adopt(&config);
            if succession.is_some() {
                // What stands in the way is noted with everything else below.
                drop(desk.hear_nodes());
                meet_nodes(desk).await;
            }
            desk.reconcile();
        }
        Ok(None) => {}
        // The agent brings a fresh one.
        Err(error) => tracing::warn!(error = %format!("{error:#}"), "the last configuration is lost"),
    }
    desk.world.sockets.drop_unused();
    Ok(succession)
}

/// Waits for connections with the nodes that traffic goes to, but not for ever: some node may be down.
async fn meet_nodes(desk: &Desk) {
    let world = &desk.world;
    let nodes = peers::expected(world);
    let met = async {
        for node in nodes {
            world.peers.met(node).await;
        }
    };
    if timeout(handover::LINKS, met).await.is_err() {
        tracing::warn!("not all nodes are connected yet");
    }
}

/// Serves until a newcomer has taken over.
async fn hand_over(desk: &Desk, newcomers: UnixListener) -> UnixStream {
    loop {
        let Ok((newcomer, _)) = newcomers.accept().await else { continue };
        match give(desk, newcomer).await {
            Ok(newcomer) => {
                tracing::info!("another process has taken over");
                return newcomer;
            }
            Err(error) => {
                tracing::warn!(error = %format!("{error:#}"), "the newcomer did not take over");
                desk.reconcile();
            }
        }
    }
}

async fn give(desk: &Desk, newcomer: UnixStream) -> Result<UnixStream> {
    let newcomer = newcomer.into_std()?;
    newcomer.set_nonblocking(false)?;
    let sockets = desk.world.sockets.copies()?;
    let newcomer = spawn_blocking(move || handover::give(&newcomer, &sockets).map(|()| newcomer)).await??;
    desk.hear_no_nodes();
    desk.world.peers.retire().await;
    let newcomer = spawn_blocking(move || handover::wait_ready(newcomer)).await??;
    newcomer.set_nonblocking(true)?;
    Ok(UnixStream::from_std(newcomer)?)
}

/// What is done again and again: listeners that could not be opened, idle connections, our own certificate.
async fn try_again(desk: &Desk, paper: &mut Paper) {
    let mut tick = interval(TRY_AGAIN);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first one is at once, and nothing is served yet.
    tick.tick().await;
    loop {
        tick.tick().await;
        desk.reconcile();
        desk.world.pools.sweep();
        paper.refresh();
    }
}

/// Accepts nothing any more, and waits for what is under way.
async fn drain(desk: &Desk) {
    desk.close();
    let world = &desk.world;
    world.retiring.cancel();
    world.pools.clear();
    world.connections.close();
    world.peers.retire().await;
    tracing::info!(connections = world.connections.len(), "the mesh ends when they have");
    if timeout(DRAIN, world.connections.wait()).await.is_err() {
        tracing::warn!(connections = world.connections.len(), "connections are cut");
    }
    world.access.close();
}

/// Thousands of connections need more descriptors than the usual 1,024.
fn raise_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files stays");
    }
}
