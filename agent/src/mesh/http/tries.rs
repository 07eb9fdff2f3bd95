//! The tries of one request: whom to ask next, and whether at all.

use std::sync::Arc;

use mesh::{
    balance::Failure,
    retry::{self, Attempt, Body},
    table::{Replica, Service},
};
use model::id::TaskId;

use crate::mesh::world::{Ticket, World};

/// A request's tries among the replicas of one table.
#[derive(Debug)]
pub struct Tries<'a> {
    world: &'a Arc<World>,
    service: &'a Service,
    tried: Vec<TaskId>,
    count: usize,
    preferred: Option<TaskId>,
    /// The next one goes over a connection that was not used before.
    pub only_new: bool,
    /// Why the last one failed.
    pub failed: Failure,
}

/// A try that failed.
#[derive(Debug, Clone, Copy)]
pub struct Failed {
    /// Why.
    pub failure: Failure,
    /// It went over a connection that was idle and had ended: that says nothing about the replica.
    pub is_stale: bool,
    /// What of the request is there to be sent again.
    pub body: Body,
    /// Twice is as good as once.
    pub idempotent: bool,
    /// The time for all tries is not over.
    pub has_time: bool,
}

impl<'a> Tries<'a> {
    /// None so far; `preferred` is whom a sticky client was with.
    pub fn new(world: &'a Arc<World>, service: &'a Service, preferred: Option<TaskId>) -> Self {
        Self {
            world,
            service,
            tried: Vec::new(),
            count: 0,
            preferred,
            only_new: false,
            failed: Failure::Unreachable,
        }
    }

    /// Whom to ask next; `None` when all were asked.
    pub fn next(&mut self) -> Option<(&'a Replica, Ticket)> {
        let chosen = self.world.choose(self.service, &self.tried, self.preferred)?;
        self.count += 1;
        Some(chosen)
    }

    /// Notes a try that failed; whether there is to be another.
    pub fn go_on(&mut self, ticket: &Ticket, failed: Failed) -> bool {
        if !failed.is_stale {
            ticket.fail(failed.failure);
        }
        let attempt = Attempt { idempotent: failed.idempotent, body: failed.body, tries: self.count };
        self.failed = failed.failure;
        if !failed.has_time
            || !retry::may_retry(failed.failure, attempt, self.world.balancer().budget(self.service.id))
        {
            return false;
        }
        self.only_new = failed.is_stale;
        self.preferred = failed.is_stale.then_some(ticket.task());
        if !failed.is_stale {
            self.tried.push(ticket.task());
        }
        true
    }
}
