//! The daemon: waits, feeds the core, carries out what it wants. No decision is made here.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use agent_core::{
    agent::{Agent, Config as CoreConfig},
    event::Event,
    stored::Stored,
};
use anyhow::{Context, Result, bail};
use model::node::Facts;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    act::{Hands, Local, Traffic},
    args::Run,
    attempts::Attempts,
    clock::Clock,
    config::Config,
    directory::Directory,
    engine::{self, Engine, Logins, Ours},
    entropy, facts,
    files::Files,
    identity::Identity,
    logs::Logs,
    memory::{self, Memory},
    mesh,
    network::Networks,
    renew::{Keeper, News},
    traffic,
};

/// Events that may wait for the core; producers wait when it is full.
const QUEUE: usize = 1_024;
/// Events taken in before the actions that follow are carried out.
const BATCH: usize = 64;
/// For so long the managers hold the node's tasks during a planned restart of the agent.
const HOLD: Duration = Duration::from_secs(30);
/// What is under way gets so long to end with the process.
const FAREWELL: Duration = Duration::from_secs(2);

/// Runs until a signal asks it to end.
///
/// # Errors
/// The node has not joined, or the disk fails.
pub async fn run(args: Run) -> Result<()> {
    let default = args.dir.join("agent.toml");
    let config = Config::read(args.config.as_deref(), &default)?;
    start_log(&config)?;
    let directory = Arc::new(Directory::take(&args.dir)?);
    let Some(identity) = Identity::load(&directory)? else {
        bail!(
            "this machine is no node yet; first: orch-agent join --dir {} --token … --manager …",
            args.dir.display()
        );
    };
    tracing::info!(node = %identity.node, cluster = %identity.cluster, version = env!("CARGO_PKG_VERSION"), "the agent starts");
    let daemon = Daemon::start(identity, &config, directory)?;
    daemon.serve().await
}

fn start_log(config: &Config) -> Result<()> {
    let format = if config.log_json { telemetry::LogFormat::Json } else { telemetry::LogFormat::Auto };
    let level = config.log.clone().unwrap_or_else(|| telemetry::LogConfig::default().level);
    telemetry::init(&telemetry::LogConfig { level, format })?;
    telemetry::abort_on_panic();
    Ok(())
}

struct Daemon {
    agent: Agent,
    clock: Clock,
    events: mpsc::Receiver<Event>,
    hands: Hands,
    disk_failed: tokio::sync::oneshot::Receiver<ledger::LedgerError>,
    /// Work that lasts as long as the daemon.
    keepers: JoinSet<()>,
}

impl Daemon {
    fn start(identity: Identity, config: &Config, directory: Arc<Directory>) -> Result<Self> {
        let clock = Clock::start();
        let (sender, events) = mpsc::channel(QUEUE);
        let ledger_path: PathBuf = directory.join("ledger");
        let (ledger, stored) = memory::open(&ledger_path)?;
        let mut configured = config.managers.clone();
        configured.extend(identity.managers.iter().cloned());
        let mut known = configured.clone();
        known.extend(stored.managers.iter().map(|manager| manager.address.clone()));
        let addresses = Arc::new(Mutex::new(known));
        let mut labels: BTreeMap<_, _> = identity.labels.clone();
        labels.extend(config.labels.clone());
        let hostname = config.hostname.as_deref().or(identity.hostname.as_deref());
        let reached = facts::mesh(config, &configured);
        let files = Files::new(config.memory_dir.as_deref(), identity.node);
        let core = CoreConfig {
            cluster: identity.cluster,
            node: identity.node,
            managers: configured,
            facts: Facts {
                mesh: reached.advertised,
                files: files.is_usable(),
                ..facts::read(hostname, labels)
            },
            mesh: reached.listen,
            seed: entropy::number()?,
        };
        let routes = mesh::last_routes(directory.path());
        let stored = Stored { routes, files: files.kept(), ..stored };
        let agent = Agent::new(core, stored, clock.now());
        let variable =
            |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let logins = Logins::new(config.docker_config.as_deref(), variable);
        let address = config.engine.as_deref().unwrap_or(engine::DEFAULT_ADDRESS);
        let ours = Ours { cluster: identity.cluster, node: identity.node };
        let networks = Networks::new(ours);
        let attempts = Attempts::new(directory.path());
        let own = [directory.path(), Path::new(address.strip_prefix("unix://").unwrap_or_default())];
        let engine = Engine::of_node(
            address,
            logins,
            Some(networks.clone()),
            Some(attempts.clone()),
            Some(files.clone()),
            &own,
        );
        let (memory, disk_failed) = Memory::start(ledger, sender.clone())?;
        let (tls, reloader) = identity.tls()?;
        let mut keepers = JoinSet::new();
        let (wishes, heard) = mpsc::unbounded_channel();
        let traffic = traffic::keep(
            directory.path().to_owned(),
            identity.node,
            config.access_log(),
            heard,
            sender.clone(),
        );
        keepers.spawn(traffic);
        let (wanted, wanted_networks) = watch::channel(Vec::new());
        keepers.spawn(networks.keep(engine.clone(), wanted_networks, sender.clone()));
        keepers.spawn(engine::watch(engine.clone(), ours, sender.clone()));
        let news = News::none();
        let keeper = Keeper {
            identity,
            directory,
            managers: addresses.clone(),
            tls: tls.clone(),
            reloader,
            news: news.clone(),
        };
        keepers.spawn(keeper.keep_fresh());
        let logs = Logs::new(engine.clone(), attempts, tls.clone());
        let hands = Hands::new(
            Local { engine, memory, logs, files },
            Traffic { wishes, networks: wanted },
            tls,
            sender,
            (addresses, news),
        );
        Ok(Self { agent, clock, events, hands, disk_failed, keepers })
    }

    async fn serve(mut self) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate()).context("signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("signals")?;
        crate::notify::ready();
        self.agent.handle_timeout(self.clock.now());
        while self.act() {
            let wake = self.agent.poll_timeout().map(|at| self.clock.deadline(at));
            tokio::select! {
                Some(event) = self.events.recv() => self.take(event),
                () = sleep_until(wake) => self.agent.handle_timeout(self.clock.now()),
                _ = terminate.recv() => self.shut_down(),
                _ = interrupt.recv() => self.shut_down(),
                Ok(error) = &mut self.disk_failed => return Err(error).context("stopping: nothing can be stored"),
                Some(ended) = self.keepers.join_next() => bail!("a part of the agent ended: {ended:?}"),
                Some(ended) = self.hands.ended() => ended.context("a call of the agent panicked")?,
            }
        }
        self.hands.finish(FAREWELL).await;
        Ok(())
    }

    fn take(&mut self, event: Event) {
        self.agent.handle_event(event, self.clock.now());
        for _ in 1..BATCH {
            let Ok(event) = self.events.try_recv() else { return };
            self.agent.handle_event(event, self.clock.now());
        }
    }

    fn shut_down(&mut self) {
        tracing::info!("the agent ends; containers go on");
        crate::notify::stopping();
        self.agent.handle_event(Event::ShutdownRequested { hold: HOLD }, self.clock.now());
    }

    /// Carries out everything the core wants; false when it wants to end.
    fn act(&mut self) -> bool {
        while let Some(action) = self.agent.poll_action() {
            if !self.hands.act(action) {
                return false;
            }
        }
        true
    }
}

async fn sleep_until(wake: Option<tokio::time::Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
