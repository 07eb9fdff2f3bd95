//! `orch-manager run`: opens the log, starts the core's thread and the sockets, and ends cleanly.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use manager_core::{Config, Entropy, Manager};
use model::request::{ApiError, ErrorCode};
use proto::v1::{agents_server::AgentsServer, control_server::ControlServer, peers_server::PeersServer};
use rpc::{
    local::LocalIncoming,
    tls::{CertReloader, ClientTls, Connections, Incoming, ServerTls},
};
use seal::Keyring;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{
        Context, MAX_CALL, MAX_MESSAGE, agents::Agents, control::Control, forward::Forwarder,
        peers::Peers as PeersApi,
    },
    config::{FileConfig, listen_for, with_port},
    core_loop::{CoreLoop, Cutter, Ended, Input, Parts, Shared, now},
    dir::{DataDir, Identity, Seed},
    entropy,
    inputs::{Class, Inputs},
    peers::Peers,
    renewal::Renewal,
    replace,
    storage::{self, Storage, Written},
    strangers::{self, Strangers},
    streams::LogStreams,
    unlock,
};

/// A removed identity's connections are cut after so long: the answer to its own `leave` has to arrive. Whatever it asks
/// from the removal on is refused anyway.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Open calls get so long to end at a shutdown.
const DRAIN: Duration = Duration::from_secs(2);

/// Runs until a signal or until the core must not go on.
pub async fn run(root: &Path) -> Result<()> {
    let dir = DataDir::new(root);
    let file = FileConfig::read(&dir)?;
    telemetry::init(&log_config(&file))?;
    telemetry::abort_on_panic();
    let mut identity = match replace::finish(&dir)? {
        Some(identity) => identity,
        None => dir.identity()?,
    };
    let address = file.address.as_deref().map_or_else(|| identity.address.clone(), with_port);
    let listen = file.listen.as_deref().map_or_else(|| listen_for(&address), with_port);

    // The log first: it is locked, so that a second start on the same directory ends here and disturbs nothing.
    let origin = std::time::Instant::now();
    let (wal, recovered) = match storage::open(&dir.raft(), false, 0) {
        Err(damage) if storage::is_lost(&damage) => {
            identity = replace::replace(&dir, &identity, &address, damage).await?;
            storage::open(&dir.raft(), false, 0)?
        }
        opened => opened?,
    };
    let (key_file, keyring) = unlock::wait(&dir).await?;
    tracing::debug!(opened_with = key_file.words(), "the keyring is open");
    let pems = dir.pems()?;
    let listener = TcpListener::bind(&listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let credentials = CertReloader::new(pems.credentials()?);
    let server_tls = ServerTls::new(&pems.authority, credentials.clone())?;
    let client_tls = ClientTls::mutual(&pems.authority, credentials.clone())?;
    let mut incoming = Incoming::new(listener, server_tls.clone());
    let at_the_door = incoming.refused();
    let (turned_away, inside) = strangers::channel();

    let config = Config { keyring, ..core_config(&identity, &file, &address)? };
    let manager = Manager::new(config, recovered, now(origin))
        .map_err(|error| anyhow!("the log in {} cannot be used: {error}", dir.raft().display()))?;
    let (inputs, queues) = Inputs::new();
    let own = inputs.of(Class::Raft).clone();
    let reports = own.clone();
    let storage = Storage::start(wal, move |written: Written| {
        let _ = reports.blocking_send(Input::Written(written));
    })?;
    let peers = Peers::new(client_tls.clone(), own.clone(), tokio::runtime::Handle::current());
    let parts = Parts {
        manager,
        storage,
        peers,
        inputs: (inputs.clone(), queues),
        cut: cutter(incoming.connections()),
        sockets: tokio::runtime::Handle::current(),
        key_file: Arc::new(key_file),
        origin,
    };
    let (core_loop, shared) = CoreLoop::new(parts);
    let ended = spawn_core(core_loop)?;
    let connections = incoming.connections();
    let stop = CancellationToken::new();
    let context =
        Context::new(inputs, shared.clone(), LogStreams::default(), incoming.offences(), turned_away);
    let local = serve_local(&dir, context.clone(), client_tls.clone(), stop.clone());
    let server = tokio::spawn(serve(context, identity.member, client_tls.clone(), incoming, stop.clone()));
    let memory = tokio::spawn(remember_peers(dir.clone(), shared.clone()));
    let (member, core) = (identity.member, own.clone());
    let strangers = Strangers {
        at_the_door,
        inside,
        tls: client_tls.clone(),
        address: address.clone(),
        shared: shared.clone(),
    };
    let strangers = tokio::spawn(strangers.record());
    let renewal = Renewal {
        dir: dir.clone(),
        pems,
        tls: client_tls,
        server: server_tls,
        connections,
        credentials,
        address: address.clone(),
        member,
        core,
        shared,
    };
    let renewal = tokio::spawn(renewal.keep_fresh());

    tracing::info!(member = %identity.member, cluster = %identity.cluster, %listen, %address, "ready");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let ended = wait(ended, own).await?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    renewal.abort();
    strangers.abort();
    memory.abort();
    stop.cancel();
    let server = async { tokio::join!(server, local) };
    if tokio::time::timeout(DRAIN, server).await.is_err() {
        tracing::debug!("calls were still open at the end");
    }
    match ended {
        Ended::Stopped => {
            tracing::info!("stopped");
            Ok(())
        }
        Ended::Retired(reason) => Err(ApiError::new(ErrorCode::Denied, reason).into()),
        Ended::Halted(reason) => bail!("stopped, because going on could damage the cluster: {reason}"),
    }
}

fn log_config(file: &FileConfig) -> telemetry::LogConfig {
    let format = if file.log_json { telemetry::LogFormat::Json } else { telemetry::LogFormat::Auto };
    telemetry::LogConfig { level: file.log.clone().unwrap_or_else(|| "info".to_owned()), format }
}

fn core_config(identity: &Identity, file: &FileConfig, address: &str) -> Result<Config> {
    Ok(Config {
        member: identity.member,
        cluster: identity.cluster,
        name: identity.name.clone(),
        address: address.to_owned(),
        version: crate::VERSION.to_owned(),
        rng_seed: entropy::number()?,
        seeds: identity.seeds.iter().map(|s| (s.member, s.address.clone())).collect(),
        bootstrap: None,
        keyring: Keyring::default(),
        entropy: Entropy(entropy::bytes()?),
        knobs: file.knobs(),
    })
}

fn cutter(connections: Connections) -> Cutter {
    let runtime = tokio::runtime::Handle::current();
    Box::new(move |revoked| {
        let (connections, revoked) = (connections.clone(), revoked.to_vec());
        runtime.spawn(async move {
            tokio::time::sleep(LAST_WORDS).await;
            let cut = connections.disconnect(|peer| revoked.contains(&peer.identity()));
            if cut > 0 {
                tracing::info!(cut, "cut connections of identities that were removed");
            }
        });
    })
}

/// Runs the loop on a thread of its own; the receiver hears how it ended.
fn spawn_core(core_loop: CoreLoop) -> Result<tokio::sync::oneshot::Receiver<Ended>> {
    let (tell, ended) = tokio::sync::oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new()
        .name("core".into())
        .spawn(move || {
            let _ = tell.send(runtime.block_on(core_loop.run()));
        })
        .context("cannot start the core's thread")?;
    Ok(ended)
}

async fn serve(
    context: Context,
    member: model::id::MemberId,
    tls: ClientTls,
    incoming: Incoming,
    stop: CancellationToken,
) -> Result<()> {
    let control = Control { context: context.clone(), forwarder: Forwarder::new(tls) };
    let agents = Agents { context: context.clone() };
    let peers = PeersApi { context, member };
    macro_rules! bounded {
        ($server:expr, $largest:expr) => {
            $server.max_decoding_message_size($largest).max_encoding_message_size(MAX_MESSAGE)
        };
    }
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_service(bounded!(ControlServer::new(control), MAX_CALL))
        .add_service(bounded!(AgentsServer::new(agents), MAX_MESSAGE))
        .add_service(bounded!(PeersServer::new(peers), MAX_MESSAGE))
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
        .context("the server failed")
}

/// Serves root on this machine. A manager that cannot do so says it and goes on: everybody else reaches it.
fn serve_local(
    dir: &DataDir,
    context: Context,
    tls: ClientTls,
    stop: CancellationToken,
) -> tokio::task::JoinHandle<()> {
    let path = dir.socket();
    let incoming = LocalIncoming::bind(&path);
    tokio::spawn(async move {
        let control = Control { context, forwarder: Forwarder::new(tls) };
        let control = ControlServer::new(control)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let server = tonic::transport::Server::builder().add_service(control);
        let served = match incoming {
            Ok(incoming) => {
                let served = server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned());
                served.await.map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = served {
            tracing::warn!(path = %path.display(), error, "no local socket: root here has no way in without a certificate");
        }
    })
}

/// Waits for the core's end; a signal asks it to stop.
async fn wait(
    mut ended: tokio::sync::oneshot::Receiver<Ended>,
    inputs: mpsc::Sender<Input>,
) -> Result<Ended> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let panicked = || anyhow!("the core's thread ended without a word");
    tokio::select! {
        result = &mut ended => return result.map_err(|_| panicked()),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping; a second signal ends at once");
    let _ = inputs.send(Input::Stop).await;
    tokio::select! {
        result = ended => result.map_err(|_| panicked()),
        _ = terminate.recv() => Ok(Ended::Stopped),
        _ = interrupt.recv() => Ok(Ended::Stopped),
    }
}

/// Keeps a note of where the other managers are: without its log, a manager has nobody else to ask.
async fn remember_peers(dir: DataDir, mut shared: Shared) {
    let mut written = None;
    loop {
        let addresses = shared.standing.borrow_and_update().addresses.clone();
        if !addresses.is_empty() && written.as_ref() != Some(&addresses) {
            let peers = addresses.iter().map(|(id, address)| Seed { member: *id, address: address.clone() });
            let (dir, peers) = (dir.clone(), peers.collect());
            match tokio::task::spawn_blocking(move || dir.write_peers(peers)).await {
                Ok(Ok(())) => written = Some(addresses),
                Ok(Err(error)) => tracing::warn!(error = format!("{error:#}"), "the peers are not noted"),
                Err(_) => return,
            }
        }
        if shared.standing.changed().await.is_err() {
            return;
        }
    }
}
