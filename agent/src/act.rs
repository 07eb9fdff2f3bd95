//! The agent's hands: each action is carried out as it stands.

use std::{collections::BTreeMap, sync::PoisonError, time::Duration};

use agent_core::{action::Action, event::Event};
use model::{route::NetworkRoute, session::AgentMessage};
use rpc::tls::ClientTls;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, JoinError, JoinSet},
};

use crate::{
    connection::{Connection, Troubles},
    engine::Engine,
    files::Files,
    logs::{Logs, Wanted},
    memory::Memory,
    notify,
    renew::{Addresses, News},
    traffic::Wish,
};

/// Where what the core wants of traffic goes.
#[derive(Debug)]
pub struct Traffic {
    /// To the mesh's keeper.
    pub wishes: mpsc::UnboundedSender<Wish>,
    /// To the networks' keeper: those to be kept whole.
    pub networks: watch::Sender<Vec<NetworkRoute>>,
}

/// What is on this machine.
#[derive(Debug)]
pub struct Local {
    /// The Docker Engine.
    pub engine: Engine,
    /// What the agent remembers.
    pub memory: Memory,
    /// Logs of containers.
    pub logs: Logs,
    /// Secrets and configs.
    pub files: Files,
}

/// Everything that actions reach.
#[derive(Debug)]
pub struct Hands {
    engine: Engine,
    memory: Memory,
    logs: Logs,
    files: Files,
    traffic: Traffic,
    tls: ClientTls,
    events: mpsc::Sender<Event>,
    addresses: Addresses,
    news: News,
    connection: Option<Connection>,
    troubles: Troubles,
    calls: BTreeMap<u64, AbortHandle>,
    /// The last work on files: each waits for the one before, so that what was asked for last holds.
    last_files: Option<oneshot::Receiver<()>>,
    /// Every piece of work that actions began; joined by the loop.
    work: JoinSet<Option<u64>>,
}

impl Hands {
    /// Hands that have nothing to do yet.
    pub fn new(
        local: Local,
        traffic: Traffic,
        tls: ClientTls,
        events: mpsc::Sender<Event>,
        (addresses, news): (Addresses, News),
    ) -> Self {
        let Local { engine, memory, logs, files } = local;
        Self {
            engine,
            memory,
            logs,
            files,
            traffic,
            tls,
            events,
            addresses,
            news,
            connection: None,
            troubles: Troubles::default(),
            calls: BTreeMap::new(),
            last_files: None,
            work: JoinSet::new(),
        }
    }

    /// Carries out an action; false when it is the last one.
    pub fn act(&mut self, action: Action) -> bool {
        match action {
            Action::Connect { connection, address } => self.connect(connection, address),
            Action::Disconnect { connection, reason } => self.disconnect(connection, &reason),
            Action::Send { connection, message } => self.send(connection, &message),
            Action::Engine { op, call } => {
                tracing::debug!(op, ?call, "asking the engine");
                let (engine, events) = (self.engine.clone(), self.events.clone());
                let call = self.work.spawn(async move {
                    let outcome = engine.call(call).await;
                    // An agent that has ended needs no answer.
                    drop(events.send(Event::EngineDone { op, outcome }).await);
                    Some(op)
                });
                self.calls.insert(op, call);
            }
            Action::CancelEngine { op } => {
                if let Some(call) = self.calls.remove(&op) {
                    call.abort();
                }
            }
            Action::Store { sequence, write } => {
                if let Some(managers) = &write.managers {
                    let known = managers.iter().map(|manager| manager.address.clone()).collect();
                    *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = known;
                }
                for (task, record) in &write.records {
                    let observed = &record.observed;
                    tracing::info!(%task, state = %observed.state, attempt = observed.attempt, cause = %observed.message, "a task ended");
                }
                self.memory.write(sequence, *write);
            }
            Action::OpenLogs { connection, stream, task, containers, options } => {
                if let Some(address) = self.current(connection).map(|current| current.address.clone()) {
                    let push = self.logs.clone().push(address, Wanted { stream, task, containers, options });
                    self.spawn(push);
                }
            }
            Action::Mesh(config) => {
                self.traffic.networks.send_if_modified(|networks| {
                    let changed = *networks != config.table.networks;
                    networks.clone_from(&config.table.networks);
                    changed
                });
                self.wish(Wish::Configure(config));
            }
            Action::Authority { bundle, renew } => self.news.authority(bundle, renew),
            Action::DrainTask { task } => self.wish(Wish::Drain(task)),
            Action::Probe { probe, request } => {
                let (engine, events) = (self.engine.clone(), self.events.clone());
                self.spawn(async move {
                    let answer = crate::probe::ask(engine, *request).await;
                    drop(events.send(Event::Probed { probe, answer }).await);
                });
            }
            Action::KeepFiles { task, files } => {
                let (kept, events) = (self.files.clone(), self.events.clone());
                let (before, done) = self.files_turn();
                self.spawn(async move {
                    before.await;
                    let keep = tokio::task::spawn_blocking(move || kept.keep(task, &files)).await;
                    let outcome = keep.unwrap_or_else(|error| Err(error.to_string()));
                    drop(done);
                    drop(events.send(Event::FilesKept { task, outcome }).await);
                });
            }
            Action::WipeFiles { task } => {
                let kept = self.files.clone();
                let (before, done) = self.files_turn();
                self.spawn(async move {
                    before.await;
                    match tokio::task::spawn_blocking(move || kept.wipe(task)).await {
                        Ok(Ok(())) => {}
                        failed => tracing::error!(%task, ?failed, "secrets of a task could not be wiped from memory"),
                    }
                    drop(done);
                });
            }
            Action::Status(status) => {
                tracing::info!(%status, "status");
                notify::status(&status);
            }
            Action::Exit => return false,
        }
        true
    }

    /// What the next work on files waits for, and what it drops at its end.
    fn files_turn(&mut self) -> (impl Future<Output = ()> + Send + 'static, oneshot::Sender<()>) {
        let (done, ended) = oneshot::channel();
        let before = self.last_files.replace(ended);
        let before = async move {
            if let Some(before) = before {
                // Its end drops the sender, whatever became of it.
                let _ = before.await;
            }
        };
        (before, done)
    }

    fn wish(&self, wish: Wish) {
        // Its keeper ends with the agent only.
        drop(self.traffic.wishes.send(wish));
    }

    /// The next piece of work that ended, if one did.
    pub async fn ended(&mut self) -> Option<Result<(), JoinError>> {
        let ended = self.work.join_next().await?;
        Some(match ended {
            Ok(op) => {
                op.and_then(|op| self.calls.remove(&op));
                Ok(())
            }
            Err(error) if error.is_cancelled() => Ok(()),
            Err(error) => Err(error),
        })
    }

    /// Ends: what was said leaves, what was asked of the engine is left to the engine.
    pub async fn finish(mut self, limit: Duration) {
        self.connection = None;
        for call in std::mem::take(&mut self.calls).into_values() {
            call.abort();
        }
        let rest = async { while self.work.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, rest).await.is_err() {
            tracing::debug!("some streams did not end in time");
        }
    }

    fn connect(&mut self, number: u64, address: String) {
        tracing::debug!(%address, "dialling a manager");
        let about = (self.troubles.clone(), self.news.clone());
        let (connection, work) =
            Connection::dial(number, address, self.tls.clone(), about, self.events.clone());
        self.connection = Some(connection);
        self.spawn(work);
    }

    fn disconnect(&mut self, number: u64, reason: &str) {
        if self.current(number).is_some() {
            let address = self.connection.take().map(|connection| connection.address).unwrap_or_default();
            tracing::info!(%address, reason, "left the manager");
        }
    }

    fn send(&mut self, number: u64, message: &AgentMessage) {
        if self.current(number).is_some_and(|connection| !connection.send(message)) {
            // Its work reports the end.
            self.connection = None;
        }
    }

    fn current(&self, number: u64) -> Option<&Connection> {
        self.connection.as_ref().filter(|connection| connection.number == number)
    }

    fn spawn(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.work.spawn(async move {
            work.await;
            None
        });
    }
}
