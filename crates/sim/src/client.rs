//! The clients: what each asked, how it went, what it remembers.

use std::collections::BTreeMap;

use model::{
    event::Revision,
    id::RequestId,
    identity::Identity,
    request::{ErrorCode, Request},
};

use crate::{
    dice::Dice,
    history::{Ask, Call},
    queue::{MS, Time},
    rotations::Holder,
    workload::Known,
};

/// Why a request is made, and what its answer is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// An operator's.
    Work { operator: usize },
    /// A token for managers or agents.
    Token(&'static str),
    /// A manager joins.
    JoinManager(usize),
    /// A node joins.
    JoinNode(usize),
    /// A manager that lost its log asks for a new id.
    ReplaceManager(usize),
    /// Whether all members vote.
    Members,
    /// Somebody's who asks at the same moment as an operator.
    Beside,
    /// A manager or a node needs another certificate.
    Paper(Holder),
    /// The last look at a service.
    Final,
}

/// One request and all its tries.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) purpose: Purpose,
    pub(crate) identity: Identity,
    pub(crate) request: Request,
    pub(crate) request_id: Option<RequestId>,
    /// Its place in the history.
    pub(crate) on: Option<(String, usize)>,
    pub(crate) ask: Option<Ask>,
    pub(crate) invoked: Time,
    pub(crate) attempt: u32,
    pub(crate) done: bool,
}

/// A client that watches.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watcher {
    pub(crate) session: u64,
    pub(crate) after: Option<Revision>,
    pub(crate) seen: u64,
    /// Nothing of its stream arrives before this.
    pub(crate) last: Time,
}

/// All of them.
pub(crate) struct Clients {
    pub(crate) dice: Dice,
    pub(crate) operations: Vec<Operation>,
    /// Finished requests are dropped from the front of the work, but keep their numbers.
    pub(crate) history: BTreeMap<String, Vec<Call>>,
    pub(crate) known: Vec<BTreeMap<String, Known>>,
    pub(crate) watchers: Vec<Watcher>,
    pub(crate) working: bool,
    counts: BTreeMap<&'static str, u64>,
}

impl Clients {
    pub(crate) fn new(dice: Dice, operators: usize) -> Self {
        Self {
            dice,
            operations: Vec::new(),
            history: BTreeMap::new(),
            known: vec![BTreeMap::new(); operators],
            watchers: vec![Watcher::default(); 2],
            working: true,
            counts: BTreeMap::new(),
        }
    }

    /// One way between a client and a manager.
    pub(crate) fn delay(&mut self) -> Time {
        self.dice.millis(0, 4) + MS / 10
    }

    /// As [`delay`](Self::delay), for a watch, whose pieces never overtake each other.
    pub(crate) fn stream_delay(&mut self, watcher: usize, now: Time) -> Time {
        let at = now + self.delay();
        let watcher = &mut self.watchers[watcher];
        watcher.last = watcher.last.max(at);
        watcher.last
    }

    /// What goes over the wire for a try.
    pub(crate) fn wire(&self, operation: usize) -> Option<(Identity, Option<RequestId>, Request)> {
        let operation = self.operations.get(operation).filter(|operation| !operation.done)?;
        Some((operation.identity.clone(), operation.request_id, operation.request.clone()))
    }

    /// Nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.operations.iter().rev().take(64).all(|operation| operation.done)
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.clone()
    }
}

/// A refusal's name, for counts.
pub(crate) fn name(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Invalid => "refused: invalid",
        ErrorCode::NotFound => "refused: not found",
        ErrorCode::AlreadyExists => "refused: exists",
        ErrorCode::Conflict => "refused: conflict",
        ErrorCode::Denied | ErrorCode::Unauthenticated => "refused: denied",
        ErrorCode::Frozen => "refused: frozen",
        ErrorCode::Deadline => "retried: deadline",
        ErrorCode::Unavailable => "retried: unavailable",
        ErrorCode::NotLeader => "redirected",
        ErrorCode::Exhausted => "retried: exhausted",
        ErrorCode::Internal => "internal error",
    }
}
