//! The way of a question: who may ask, where the answer may come from, and that every handle is answered once.
//!
//! Linearizable reads are batched: all that wait while one round is under way share the next one. A round asks Raft for
//! the index that was committed when it began and confirms with a quorum that this member still leads; the answers come
//! from the state once that index is applied.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use model::{
    audit::Origin,
    id::RequestId,
    identity::Identity,
    request::{ApiError, Consistency, ErrorCode, Reply, Request},
    time::Instant,
};

use planted::Bug;

use crate::{Action, Manager, audit::Asked, manager::ByHandle};

/// A client that names no deadline waits so long.
const DEADLINE: Duration = Duration::from_secs(30);
/// Handles open at once, watches included: each costs a few hundred bytes, and a client that is refused retries.
const MAX_OPEN: usize = 16_384;

/// One request, as it was asked.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) handle: u64,
    pub(crate) identity: Identity,
    pub(crate) request_id: Option<RequestId>,
    pub(crate) consistency: Consistency,
    pub(crate) request: Request,
    pub(crate) origin: Origin,
}

/// Everything asked and not answered.
#[derive(Default)]
pub(crate) struct Queries {
    /// Deadlines of open handles; `None` for a watch, which has none.
    open: ByHandle<Option<Instant>>,
    deadlines: BTreeSet<(Instant, u64)>,
    /// Asked while this member leads but has not applied everything yet.
    parked: VecDeque<Ask>,
    /// Reads that the next round will answer.
    next: Vec<Ask>,
    /// The round under way.
    round: Option<(u64, Vec<Ask>)>,
    /// Confirmed, waiting for the index to be applied.
    confirmed: Vec<(u64, Vec<Ask>)>,
    rounds: u64,
}

impl Queries {
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    pub(crate) fn is_open(&self, handle: u64) -> bool {
        self.open.contains_key(&handle)
    }

    /// A watch begins: its handle has no deadline any more.
    pub(crate) fn lift_deadline(&mut self, handle: u64) {
        if let Some(at) = self.open.get_mut(&handle).and_then(Option::take) {
            self.deadlines.remove(&(at, handle));
        }
    }

    fn close(&mut self, handle: u64) -> bool {
        let Some(deadline) = self.open.remove(&handle) else { return false };
        if let Some(at) = deadline {
            self.deadlines.remove(&(at, handle));
        }
        true
    }
}

impl Manager {
    pub(crate) fn on_request(&mut self, ask: Ask, deadline: Option<Duration>) {
        if self.open(ask.handle, deadline) {
            self.route(ask);
        }
    }

    /// The shell has refused a change already.
    pub(crate) fn on_refused(&mut self, asked: &Asked, error: ApiError) {
        if !self.open(asked.handle, None) {
            return;
        }
        if asked.about.is_some() && !self.can_work() {
            // The lead went, or came, after the shell had looked: whoever leads now refuses and records it.
            let error = self.refer();
            return self.reply(asked.handle, Err(error));
        }
        self.refuse(asked, error);
    }

    /// Takes a handle, unless there are too many.
    fn open(&mut self, handle: u64, deadline: Option<Duration>) -> bool {
        if self.queries.open.len() >= MAX_OPEN {
            let message = format!("{MAX_OPEN} requests are open already; retry in a moment");
            let result = Err(ApiError::new(ErrorCode::Exhausted, message));
            self.act(Action::Reply { handle, result, more: false });
            return false;
        }
        let at = self.now.mono + deadline.unwrap_or(DEADLINE);
        self.queries.open.insert(handle, Some(at));
        self.queries.deadlines.insert((at, handle));
        true
    }

    /// Refuses, refers, parks or takes a request. Changes are judged by the leader alone, who can record a refusal.
    fn route(&mut self, ask: Ask) {
        if let Some(error) = self.not_verified_here(&ask.identity) {
            return self.reply(ask.handle, Err(error));
        }
        let change = !ask.request.is_read();
        if change && self.node.role() != consensus::Role::Leader {
            let error = self.refer();
            return self.reply(ask.handle, Err(error));
        }
        if change && !self.can_work() {
            return self.queries.parked.push_back(ask);
        }
        // What a user may do is for whoever answers to decide: the state of a manager that refers to the leader may lag behind it.
        let stale = ask.consistency == Consistency::Stale && can_be_stale(&ask.request);
        let local = stale && self.knows(&ask.identity);
        let decides = local || self.is_serving() || !matches!(ask.identity, Identity::User { .. });
        if let Err(error) = self.judge(&ask, decides) {
            return self.refuse(&Asked::of(&ask), error);
        }
        if local {
            return self.answer(ask, true);
        }
        if self.node.role() != consensus::Role::Leader {
            let error = self.refer();
            return self.reply(ask.handle, Err(error));
        }
        if !self.can_work() {
            self.queries.parked.push_back(ask);
        } else if ask.request.is_read() {
            self.queries.next.push(ask);
        } else {
            self.change(ask);
        }
    }

    /// Whether this state has heard of an identity; it may lag behind the one that has.
    fn knows(&self, identity: &Identity) -> bool {
        match identity {
            Identity::User { id, .. } => self.store.user(*id).is_some(),
            _ => true,
        }
    }

    /// Only the leader verifies deploy tokens, so that nobody else answers anything to their bearers.
    fn not_verified_here(&self, identity: &Identity) -> Option<ApiError> {
        let by_token = matches!(identity, Identity::Bearer(_) | Identity::Deployer { .. });
        let serves = self.is_serving() && self.lead.is_some() && self.store.cluster().is_some();
        match (by_token, serves, identity) {
            (false, ..) | (true, true, Identity::Deployer { .. }) => None,
            (true, false, _) if self.node.role() != consensus::Role::Leader => Some(self.refer()),
            // The lead came here after the shell had looked.
            (true, ..) => Some(ApiError::new(ErrorCode::Unavailable, "the lead has just changed; ask again")),
        }
    }

    /// Leads, and knows what was decided before.
    fn can_work(&self) -> bool {
        self.is_serving() && self.lead.is_some() && self.store.cluster().is_some()
    }

    /// Whether the request may be asked, and is valid in itself.
    fn judge(&self, ask: &Ask, decides: bool) -> Result<(), ApiError> {
        if decides {
            self.authorize(&ask.identity, &ask.request)?;
        }
        let problems = model::validate::validate_request(&ask.request);
        if problems.is_empty() { Ok(()) } else { Err(problems.into()) }
    }

    /// Who leads instead.
    fn refer(&self) -> ApiError {
        match self.node.leader().filter(|leader| *leader != self.config.member) {
            Some(leader) => ApiError {
                leader: Some(leader),
                ..ApiError::new(ErrorCode::NotLeader, format!("manager {leader} leads, not this one"))
            },
            None => ApiError::new(
                ErrorCode::Unavailable,
                "no manager leads at the moment: an election is under way, or a majority of the managers is not reachable. \
                 Stale reads are answered all the same",
            ),
        }
    }

    /// This member does not lead: what was parked goes to the leader.
    pub(crate) fn refer_parked(&mut self) {
        if self.queries.parked.is_empty() {
            return;
        }
        let error = self.refer();
        for ask in std::mem::take(&mut self.queries.parked) {
            self.reply(ask.handle, Err(error.clone()));
        }
    }

    pub(crate) fn take_parked(&mut self) {
        for ask in std::mem::take(&mut self.queries.parked) {
            if self.queries.is_open(ask.handle) {
                self.route(ask);
            }
        }
    }

    /// The lead ended: no read can be confirmed.
    pub(crate) fn end_reads(&mut self) {
        let queries = &mut self.queries;
        let mut asks = std::mem::take(&mut queries.next);
        asks.extend(queries.round.take().into_iter().flat_map(|(_, asks)| asks));
        asks.extend(std::mem::take(&mut queries.confirmed).into_iter().flat_map(|(_, asks)| asks));
        let error = self.refer();
        for ask in asks {
            self.reply(ask.handle, Err(error.clone()));
        }
    }

    pub(crate) fn begin_read_round(&mut self) {
        if !self.queries.parked.is_empty() {
            self.take_parked();
        }
        if self.queries.round.is_some() || self.queries.next.is_empty() {
            return;
        }
        if planted::is(Bug::ReadWithoutQuorum) {
            let asks = std::mem::take(&mut self.queries.next);
            self.queries.confirmed.push((self.node.applied(), asks));
            return self.answer_reads();
        }
        let number = self.queries.rounds + 1;
        if self.node.read_index(number).is_ok() {
            self.queries.rounds = number;
            self.queries.round = Some((number, std::mem::take(&mut self.queries.next)));
        }
    }

    pub(crate) fn on_read_index(&mut self, number: u64, index: u64) {
        if let Some((_, asks)) = self.queries.round.take_if(|(current, _)| *current == number) {
            self.queries.confirmed.push((index, asks));
        }
    }

    pub(crate) fn answer_reads(&mut self) {
        let applied = self.node.applied();
        let ready: Vec<_> = self.queries.confirmed.extract_if(.., |(index, _)| *index <= applied).collect();
        for ask in ready.into_iter().flat_map(|(_, asks)| asks) {
            self.answer(ask, false);
        }
    }

    fn answer(&mut self, ask: Ask, stale: bool) {
        if !self.queries.is_open(ask.handle) {
            return;
        }
        let Ask { handle, identity, request, .. } = ask;
        // Since it asked, what it may do can have changed.
        if let Err(error) = self.authorize(&identity, &request) {
            return self.reply(handle, Err(error));
        }
        match &request {
            Request::Watch { after, until } => {
                self.hold(handle, &identity, &request);
                let only = self.events_for(&identity);
                self.begin_watch(handle, (*after, *until), only, stale);
            }
            Request::Whoami | Request::CanI { .. } => {
                let result = self.about_oneself(&identity, &request);
                self.reply_with(handle, result, stale);
            }
            Request::Logs { of, options } => {
                let result = self.plan_logs(of, options);
                if let Ok(plan) = &result
                    && self.hold(handle, &identity, &request)
                {
                    self.queries.lift_deadline(handle);
                    return self.stream(handle, plan.clone(), stale);
                }
                self.reply_with(handle, result, stale);
            }
            request => {
                let result = self.view(request).map(|response| Self::shown_to(&identity, response));
                self.reply_with(handle, result, stale);
            }
        }
    }

    fn reply_with(&mut self, handle: u64, result: Result<model::request::Response, ApiError>, stale: bool) {
        let index = self.node.applied();
        self.reply(handle, result.map(|response| Reply { response, index, stale }));
    }

    /// The only way to a final answer: a handle that is not open any more gets none.
    pub(crate) fn reply(&mut self, handle: u64, result: Result<Reply, ApiError>) {
        self.held.remove(handle);
        if self.queries.close(handle) {
            self.act(Action::Reply { handle, result, more: false });
        }
    }

    pub(crate) fn on_cancel(&mut self, handle: u64) {
        self.queries.close(handle);
        self.held.remove(handle);
        self.watchers.remove(handle);
    }

    pub(crate) fn expire_requests(&mut self) {
        while let Some((_, handle)) =
            self.queries.deadlines.first().copied().filter(|(at, _)| *at <= self.now.mono)
        {
            let message = "not decided in time; it may still happen: ask again with the same request id";
            self.reply(handle, Err(ApiError::new(ErrorCode::Deadline, message)));
        }
    }
}

/// Logs need the leader's sessions; everything else that reads can be read anywhere.
fn can_be_stale(request: &Request) -> bool {
    request.is_read() && !matches!(request, Request::Logs { .. })
}
