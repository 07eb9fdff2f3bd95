//! The conversation with the agent: one at a time, the newest.

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result, bail};
use mesh::{
    Table,
    control::{AgentFrame, MeshConfig, MeshFrame},
};
use model::id::{ServiceId, TaskId};
use rustix::fs::Mode;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{mpsc, watch},
};
use tokio_util::sync::CancellationToken;

use super::{
    addresses::Redirected, dns::Names, peers::Listener, ports::Ports, storage::Storage, world::World,
};
use crate::frame;

/// Answers that an agent has not read yet. One that reads nothing is waited for no further than this.
const ANSWERS: usize = 256;

/// What a configuration changes.
#[derive(Debug)]
pub struct Desk {
    /// What all connections share.
    pub world: Arc<World>,
    /// The published ports.
    pub ports: Ports,
    /// Where other nodes dial this one.
    pub listener: Mutex<Listener>,
    /// Names in this node's networks.
    pub names: Names,
    /// Connections to services' own addresses.
    pub redirected: Mutex<Redirected>,
    /// The file.
    pub storage: Storage,
    /// Makes cookies opaque.
    pub seal: ring::hmac::Key,
    /// What in the configuration contradicts itself.
    pub contradictions: Mutex<Vec<String>>,
    /// What cannot be done at the moment.
    pub problems: watch::Sender<Vec<String>>,
}

impl Desk {
    /// Serves a configuration from now on.
    pub fn apply(&self, config: &MeshConfig) {
        self.adopt(config);
        self.reconcile();
    }

    /// Routes by a configuration, and hears nobody yet who was not heard.
    pub fn adopt(&self, config: &MeshConfig) {
        let seal = |service: ServiceId, task: TaskId| self.opaque(service, task);
        let (table, contradictions) = Table::compile(config, &seal);
        *self.contradictions.lock().unwrap_or_else(PoisonError::into_inner) = contradictions;
        let locals: BTreeSet<TaskId> = config.locals.iter().map(|local| local.task).collect();
        self.world.exchange(table, &locals);
    }

    /// Hears other nodes where the table says.
    ///
    /// # Errors
    /// The address cannot be had.
    pub fn hear_nodes(&self) -> Result<(), String> {
        let wanted = self.world.table.load().listen.clone();
        self.listener().reconcile(&self.world, wanted.as_deref())
    }

    /// Hears other nodes no more.
    pub fn hear_no_nodes(&self) {
        self.listener().close();
    }

    /// Makes listeners match the table, and notes what cannot be done; repeated, because a port may become free.
    pub fn reconcile(&self) {
        let table = self.world.table.load();
        let mut problems = self.contradictions.lock().unwrap_or_else(PoisonError::into_inner).clone();
        problems.extend(self.world.certificates.reconcile(&table));
        problems.extend(self.ports.reconcile(&table));
        problems.extend(self.hear_nodes().err());
        problems.extend(self.names.reconcile(&table));
        problems.extend(self.redirected().reconcile(&self.world, &table).err());
        self.problems.send_if_modified(|known| {
            for problem in problems.iter().filter(|problem| !known.contains(problem)) {
                tracing::warn!(problem, "not served");
            }
            let changed = *known != problems;
            *known = problems;
            changed
        });
    }

    /// Accepts nothing any more.
    pub fn close(&self) {
        self.ports.close();
        self.listener().close();
        self.names.close();
        self.redirected().close();
    }

    fn redirected(&self) -> MutexGuard<'_, Redirected> {
        self.redirected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listener(&self) -> MutexGuard<'_, Listener> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opaque(&self, service: ServiceId, task: TaskId) -> String {
        let mut ids = service.0.to_be_bytes().to_vec();
        ids.extend(task.0.to_be_bytes());
        let tag = ring::hmac::sign(&self.seal, &ids);
        tag.as_ref()[..9].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Opens the socket, for its owner only; one that a dead process left is replaced.
///
/// # Errors
/// The directory cannot be used.
pub fn listen(path: &Path) -> Result<UnixListener> {
    let fresh = path.with_extension("fresh");
    for old in [&fresh, path] {
        match std::fs::remove_file(old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("{}", old.display()));
            }
            _ => {}
        }
    }
    // Bound under another name, so that nobody finds it before it is closed to others.
    let listener = UnixListener::bind(&fresh).with_context(|| format!("{}", path.display()))?;
    rustix::fs::chmod(&fresh, Mode::RUSR | Mode::WUSR).with_context(|| format!("{}", path.display()))?;
    std::fs::rename(&fresh, path).with_context(|| format!("{}", path.display()))?;
    Ok(listener)
}

/// Talks with agents for as long as it is polled.
pub async fn serve(desk: Arc<Desk>, listener: UnixListener) {
    let mut current = CancellationToken::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        current.cancel();
        current = CancellationToken::new();
        let (desk, replaced) = (desk.clone(), current.clone());
        tokio::spawn(async move {
            match replaced.run_until_cancelled(converse(desk, stream)).await {
                Some(Err(error)) => {
                    tracing::info!(error = %format!("{error:#}"), "the agent's connection ended");
                }
                Some(Ok(())) => tracing::info!("the agent went away; its last configuration stays"),
                None => tracing::info!("another agent connected"),
            }
        });
    }
}

async fn converse(desk: Arc<Desk>, stream: UnixStream) -> Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let (answers, mut queue) = mpsc::channel::<MeshFrame>(ANSWERS);
    let mut problems = desk.problems.subscribe();
    let writing = async {
        // The greeting goes first.
        while let Some(frame) = queue.recv().await {
            frame::write(&mut writer, &frame).await?;
            if matches!(frame, MeshFrame::Hello { .. }) {
                break;
            }
        }
        if !problems.borrow_and_update().is_empty() {
            problems.mark_changed();
        }
        loop {
            let frame = tokio::select! {
                frame = queue.recv() => match frame {
                    Some(frame) => frame,
                    None => return Ok(()),
                },
                changed = problems.changed() => match changed {
                    Ok(()) => MeshFrame::Problems(problems.borrow_and_update().clone()),
                    Err(_) => return Ok(()),
                },
            };
            frame::write(&mut writer, &frame).await?;
        }
    };
    let reading = async {
        while let Some(frame) = frame::read(&mut reader).await? {
            handle(&desk, frame, &answers).await?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        ended = reading => ended,
        ended = writing => ended,
    }
}

async fn handle(desk: &Arc<Desk>, frame: AgentFrame, answers: &mpsc::Sender<MeshFrame>) -> Result<()> {
    let answer = match frame {
        AgentFrame::Hello { version, node } => {
            if node != desk.world.node {
                bail!("it is the agent of node {node}, this is the mesh of {}", desk.world.node);
            }
            tracing::info!(version, "an agent connected");
            MeshFrame::Hello { version: env!("CARGO_PKG_VERSION").to_owned(), pid: std::process::id() }
        }
        AgentFrame::Configure { number, config } => {
            desk.apply(&config);
            if let Err(error) = desk.storage.save(&config) {
                tracing::error!(error = %format!("{error:#}"), "the configuration is not kept: a crash would lose it");
            }
            let problems = desk.problems.borrow().clone();
            MeshFrame::Applied { number, version: config.table.version, problems }
        }
        AgentFrame::Drain { task } => {
            let over = desk.world.drain(task);
            let (world, answers) = (desk.world.clone(), answers.clone());
            tokio::spawn(async move {
                if over.await.is_ok() {
                    world.predecessor.drained(task).await;
                    // An agent that went away asks again when it is back.
                    drop(answers.send(MeshFrame::Drained { task }).await);
                }
            });
            return Ok(());
        }
        AgentFrame::Stats => MeshFrame::Stats(desk.world.balancer().stats(desk.world.clock.now())),
    };
    answers.send(answer).await.context("the agent's connection ended")
}
