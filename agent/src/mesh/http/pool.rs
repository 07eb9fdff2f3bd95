//! Connections to replicas that wait for their next request.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Context,
    time::Duration,
};

use model::id::TaskId;
use tokio::time::Instant;

use super::{
    exchange::{Carrier, Line},
    flow::Flows,
    lean::Cable,
};
use crate::mesh::{
    lanes,
    world::{Ticket, World},
};

/// Shorter than what servers keep an idle connection for (5 s is the least of the usual ones), so that we close it, not they.
const IDLE: Duration = Duration::from_secs(4);
/// A request that cannot be repeated takes no connection that was idle for longer: the server may be closing it.
const FRESH: Duration = Duration::from_secs(1);
/// Idle connections to one port of a replica. More are closed.
const MOST_IDLE: usize = 128;

/// All idle connections.
#[derive(Debug)]
pub struct Pools {
    /// Those that the library speaks on.
    pub lines: Pool<Line>,
    /// Those that many requests share.
    pub flows: Flows,
    /// Those of each thread.
    cables: Vec<Pool<Cable>>,
}

/// Idle connections of one kind.
#[derive(Debug)]
pub struct Pool<C>(Mutex<BTreeMap<(TaskId, u16), Vec<C>>>);

/// Since when a connection must have been used to take a request.
pub fn since(now: Instant, repeatable: bool) -> Option<Instant> {
    // A clock that began later than that has no older connection.
    if repeatable { None } else { now.checked_sub(FRESH) }
}

/// A connection that takes one request after another.
pub trait Reusable {
    /// Whether it takes a request now.
    fn is_ready(&mut self) -> bool;
    /// When it was last used.
    fn used(&mut self) -> &mut Instant;
}

/// A connection in use, with the request that it is used for.
#[derive(Debug)]
pub struct Lease {
    /// It.
    pub carrier: Carrier,
    /// The request, counted until this is dropped.
    pub ticket: Ticket,
    /// Where it came from.
    pub world: Arc<World>,
    /// To which port of the replica.
    pub port: u16,
}

impl Default for Pools {
    fn default() -> Self {
        let cables = (0..lanes::count()).map(|_| Pool::default()).collect();
        Self { lines: Pool::default(), flows: Flows::default(), cables }
    }
}

impl Pools {
    /// Those of this thread.
    pub fn cables(&self) -> &Pool<Cable> {
        &self.cables[lanes::here()]
    }

    /// Closes connections to a task.
    pub fn forget(&self, task: TaskId) {
        self.keep(|known| *known != task);
    }

    /// Closes connections to tasks that take no requests any more.
    pub fn retain(&self, endpoints: &BTreeSet<TaskId>) {
        self.keep(|task| endpoints.contains(task));
    }

    /// Closes all.
    pub fn clear(&self) {
        self.keep(|_| false);
    }

    /// Closes connections that were idle for too long.
    pub fn sweep(&self) {
        self.lines.sweep();
        self.flows.sweep();
        self.cables.iter().for_each(Pool::sweep);
    }

    fn keep(&self, is_kept: impl Fn(&TaskId) -> bool) {
        self.flows.keep(&is_kept);
        self.lines.lock().retain(|(task, _), _| is_kept(task));
        for cables in &self.cables {
            cables.lock().retain(|(task, _), _| is_kept(task));
        }
    }
}

impl<C> Default for Pool<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C> Pool<C> {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(TaskId, u16), Vec<C>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C: Reusable> Pool<C> {
    /// An idle connection that is still open and was used since then, the last one used first.
    pub fn take(&self, task: TaskId, port: u16, since: Option<Instant>) -> Option<C> {
        let mut pool = self.lock();
        let lines = pool.get_mut(&(task, port))?;
        while let Some(mut line) = lines.pop() {
            if since.is_none_or(|since| *line.used() >= since) && line.is_ready() {
                return Some(line);
            }
        }
        None
    }

    fn sweep(&self) {
        let now = Instant::now();
        self.lock().retain(|_, lines| {
            lines.retain_mut(|line| now.duration_since(*line.used()) < IDLE);
            !lines.is_empty()
        });
    }

    /// Keeps a connection, unless its task is on its way out.
    pub fn put(&self, world: &World, task: TaskId, port: u16, mut line: C) {
        let mut pool = self.lock();
        let is_welcome = world.welcomes(task);
        let lines = pool.entry((task, port)).or_default();
        if is_welcome && lines.len() < MOST_IDLE {
            *line.used() = Instant::now();
            lines.push(line);
        }
    }
}

impl Lease {
    /// Lets the connection read and write.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        self.carrier.drive(cx);
    }

    /// The answer is complete: the connection may take another request, if it is whole.
    pub fn give_back(self, cx: &mut Context<'_>) {
        let Self { carrier, ticket, world, port } = self;
        // One that is shared was never taken away.
        let Carrier::Line(mut line) = carrier else { return };
        line.drive(cx);
        if line.is_ready() {
            world.pools.lines.put(&world, ticket.task(), port, *line);
        }
    }
}
