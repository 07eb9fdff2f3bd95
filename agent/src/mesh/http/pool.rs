//! Connections to replicas that wait for their next request.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Context,
    time::Duration,
};

use model::id::TaskId;
use tokio::time::Instant;

use super::exchange::Line;
use crate::mesh::world::{Ticket, World};

/// Shorter than what servers keep an idle connection for (5 s is the least of the usual ones), so that we close it, not they.
const IDLE: Duration = Duration::from_secs(4);
/// A request that cannot be repeated takes no connection that was idle for longer: the server may be closing it.
pub const FRESH: Duration = Duration::from_secs(1);
/// Idle connections to one port of a replica. More are closed.
const MOST_IDLE: usize = 128;

/// All idle connections.
#[derive(Debug, Default)]
pub struct Pool(Mutex<BTreeMap<(TaskId, u16), Vec<Line>>>);

/// A connection in use, with the request that it is used for.
#[derive(Debug)]
pub struct Lease {
    /// It.
    pub line: Line,
    /// The request, counted until this is dropped.
    pub ticket: Ticket,
    /// Where it came from.
    pub world: Arc<World>,
    /// To which port of the replica.
    pub port: u16,
}

impl Pool {
    /// An idle connection that is still open, the last one used first.
    pub fn take(&self, task: TaskId, port: u16, idle_at_most: Duration) -> Option<Line> {
        let mut pool = self.lock();
        let lines = pool.get_mut(&(task, port))?;
        while let Some(mut line) = lines.pop() {
            if line.used.elapsed() <= idle_at_most && line.is_ready() {
                return Some(line);
            }
        }
        None
    }

    /// Closes connections to a task.
    pub fn forget(&self, task: TaskId) {
        self.lock().retain(|(known, _), _| *known != task);
    }

    /// Closes connections to tasks that take no requests any more.
    pub fn retain(&self, endpoints: &BTreeSet<TaskId>) {
        self.lock().retain(|(task, _), _| endpoints.contains(task));
    }

    /// Closes all.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Closes connections that were idle for too long.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.lock().retain(|_, lines| {
            lines.retain(|line| now.duration_since(line.used) < IDLE);
            !lines.is_empty()
        });
    }

    /// Keeps a connection, unless its task is on its way out. That is asked under the lock, and whoever closes the connections
    /// of a task says so before it takes the lock: none is kept behind its back.
    fn put(&self, world: &World, task: TaskId, port: u16, mut line: Line) {
        let mut pool = self.lock();
        let is_welcome = world.table.load().endpoints.contains(&task)
            && !world.gates.is_draining(task)
            && !world.retiring.is_cancelled();
        let lines = pool.entry((task, port)).or_default();
        if is_welcome && lines.len() < MOST_IDLE {
            line.used = Instant::now();
            lines.push(line);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(TaskId, u16), Vec<Line>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Lets the connection read and write.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        self.line.drive(cx);
    }

    /// The answer is complete: the connection may take another request, if it is whole.
    pub fn give_back(self, cx: &mut Context<'_>) {
        let Self { mut line, ticket, world, port } = self;
        line.drive(cx);
        if line.is_ready() {
            world.pool.put(&world, ticket.task(), port, line);
        }
    }
}
