//! One simulated agent: the real core and the real session; engine and ledger are memory.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use agent_core::{
    action::Action,
    agent::{Agent as Core, Config},
    event::{EngineFacts, Event},
    stored::Stored,
};
use model::time::Instant;
use rpc::tls::ClientTls;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{connection::Connection, engine::Engine};

/// Messages of a manager that may wait for the core.
const QUEUE: usize = 64;
/// More than any service of the scenario asks for.
const CPU_MILLIS: u64 = 64_000;
const MEMORY: u64 = 256 << 30;

/// What all agents counted together.
#[derive(Debug, Default)]
pub struct Tally {
    /// Containers that ended by themselves.
    pub crashes: AtomicU64,
    /// Connections that ended without the agent's doing.
    pub sessions_lost: AtomicU64,
}

/// An agent.
pub struct Agent {
    core: Core,
    engine: Engine,
    begun: tokio::time::Instant,
    tls: ClientTls,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    connection: Option<Connection>,
    work: JoinSet<()>,
    tally: Arc<Tally>,
}

impl Agent {
    /// One that has just joined.
    pub fn new(config: Config, tls: ClientTls, tally: Arc<Tally>) -> Self {
        let (sender, events) = mpsc::channel(QUEUE);
        Self {
            core: Core::new(config, Stored::default(), Instant::ZERO),
            engine: Engine::default(),
            begun: tokio::time::Instant::now(),
            tls,
            events,
            sender,
            connection: None,
            work: JoinSet::new(),
            tally,
        }
    }

    /// Lives until it is told to stop, and then goes without a word.
    pub async fn live(mut self, mut stop: watch::Receiver<bool>) {
        let facts = EngineFacts {
            version: "simulated".to_owned(),
            api: "1.44".to_owned(),
            cpu_millis: CPU_MILLIS,
            memory: MEMORY,
        };
        self.take(Event::EngineUp(facts));
        self.take(Event::EngineListed { containers: Vec::new() });
        loop {
            let wake = [self.core.poll_timeout(), self.engine.next_end()].into_iter().flatten().min();
            let wake = wake.map(|at| self.begun + at.since(Instant::ZERO));
            tokio::select! {
                Some(event) = self.events.recv() => self.take(event),
                () = sleep_until(wake) => self.wake(),
                Some(_) = self.work.join_next() => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.begun.elapsed()
    }

    fn wake(&mut self) {
        let now = self.now();
        for change in self.engine.end_due(now) {
            self.tally.crashes.fetch_add(1, Ordering::Relaxed);
            self.core.handle_event(Event::EngineChanged(change), now);
        }
        self.core.handle_timeout(now);
        self.act();
    }

    fn take(&mut self, event: Event) {
        if let Event::ManagerClosed { connection, .. } = event
            && self.connection.take_if(|open| open.number == connection).is_some()
        {
            self.tally.sessions_lost.fetch_add(1, Ordering::Relaxed);
        }
        self.core.handle_event(event, self.now());
        self.act();
    }

    /// Carries out what the core wants; what is done at once is answered at once.
    fn act(&mut self) {
        while let Some(action) = self.core.poll_action() {
            let now = self.now();
            match action {
                Action::Connect { connection, address } => {
                    let (connection, work) =
                        Connection::dial(connection, address, self.tls.clone(), self.sender.clone());
                    self.connection = Some(connection);
                    self.work.spawn(work);
                }
                Action::Disconnect { connection, .. } => {
                    self.connection.take_if(|open| open.number == connection);
                }
                Action::Send { connection, message } => {
                    self.connection.take_if(|open| open.number == connection && !open.send(&message));
                }
                Action::Engine { op, call } => {
                    let outcome = self.engine.call(call, now);
                    self.core.handle_event(Event::EngineDone { op, outcome }, now);
                }
                Action::Store { sequence, .. } => self.core.handle_event(Event::Stored { sequence }, now),
                Action::Probe { probe, .. } => {
                    self.core.handle_event(Event::Probed { probe, answer: Ok(()) }, now);
                }
                Action::KeepFiles { task, .. } => {
                    self.core.handle_event(Event::FilesKept { task, outcome: Ok(()) }, now);
                }
                // No mesh and nobody to read logs; calls are never under way, and the end comes without a goodbye.
                Action::CancelEngine { .. }
                | Action::OpenLogs { .. }
                | Action::Authority { .. }
                | Action::Mesh(_)
                | Action::DrainTask { .. }
                | Action::WipeFiles { .. }
                | Action::Status(_)
                | Action::Exit => {}
            }
        }
    }
}

async fn sleep_until(wake: Option<tokio::time::Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
