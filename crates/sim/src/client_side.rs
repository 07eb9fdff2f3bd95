//! Clients at work: asking, retrying with the same request id, following the leader, watching.

use model::{
    event::Revision,
    id::RequestId,
    identity::Identity,
    request::{ApiError, Consistency, ErrorCode, Reply, Request, Response},
};

use crate::{
    client::{Operation, Purpose, name},
    exchanges::Step,
    history::{Ask, Call, Outcome, Seen},
    manager::Caller,
    queue::{MS, SEC, Time},
    skip::Item,
    workload::{Known, SERVICES, Wish, value_of},
    world::{Event, Phase, World},
};

/// A client waits so long for one try.
const TRY: Time = 3_500 * MS;
/// And so long for all of them.
const PATIENCE: Time = 15 * SEC;

impl World {
    /// Asks something.
    pub(crate) fn submit(&mut self, purpose: Purpose, identity: Identity, wish: Wish) -> usize {
        let now = self.now();
        let id = if wish.request.is_read() { None } else { Some(RequestId(self.clients.dice.any())) };
        let mut ask = None;
        let on = wish.on.map(|(key, what)| {
            ask = Some(what);
            let calls = self.clients.history.entry(key.clone()).or_default();
            calls.push(Call { ask: what, invoked: now, returned: None, outcome: Outcome::Unknown });
            (key, calls.len() - 1)
        });
        let operation = self.clients.operations.len();
        self.trace.line(now, || format!("client asks {operation}: {}", short(&wish.request)));
        self.trace.mark(now, 50, operation as u64);
        let request = wish.request;
        let (request_id, invoked) = (id, now);
        self.clients.operations.push(Operation {
            purpose,
            identity,
            request,
            request_id,
            on,
            ask,
            invoked,
            attempt: 0,
            done: false,
        });
        let manager = self.clients.dice.below(self.managers.len());
        self.attempt(operation, manager);
        operation
    }

    fn attempt(&mut self, operation: usize, manager: usize) {
        let delay = self.clients.delay();
        let open = &mut self.clients.operations[operation];
        open.attempt += 1;
        let attempt = open.attempt;
        self.queue.after(delay, Event::Ask { operation, attempt, manager });
        self.queue.after(TRY, Event::Impatient { operation, attempt });
    }

    /// An operator looks for something to do.
    pub(crate) fn think(&mut self, operator: usize) {
        if self.phase != Phase::Storm || !self.clients.working {
            return;
        }
        if let Some((identity, request)) =
            self.guests.as_mut().and_then(|guests| guests.step(Self::operator()))
        {
            self.submit(Purpose::Work { operator }, identity, Wish { request, on: None });
            return;
        }
        if self.prove_and_ask(operator) {
            return;
        }
        let members: Vec<_> = self.managers.iter().map(|host| host.member).collect();
        let pipeline =
            self.workload.pipelines.as_mut().and_then(|pipelines| pipelines.step(Self::operator()));
        let (identity, wish) = match pipeline {
            Some((identity, request)) => {
                self.workload.steps += 1;
                (identity, Wish { request, on: None })
            }
            None => (Self::operator(), self.workload.wish(&self.clients.known[operator], &members)),
        };
        if self.knobs.skip.contains(Item::Step(self.workload.steps)) {
            return self.think_again(operator);
        }
        self.submit(Purpose::Work { operator }, identity, wish);
        if let Some(wish) = self.workload.beside() {
            self.submit(Purpose::Beside, Self::operator(), wish);
        }
    }

    /// What those do who bring a proof of somebody else, and their administrators; says whether this step was theirs.
    fn prove_and_ask(&mut self, operator: usize) -> bool {
        let time = self.checks.frontier().map(store::Store::time).unwrap_or_default();
        let exchanges = self.workload.exchanges.as_mut();
        let mut steps =
            exchanges.map(|exchanges| exchanges.steps(&Self::operator(), time)).unwrap_or_default();
        if let (Some(logins), true) = (&mut self.workload.logins, steps.is_empty()) {
            let asked = logins.steps(&Self::operator()).into_iter();
            steps = asked.map(|(identity, request)| Step { identity, request, id: None }).collect();
        }
        if let (Some(rotations), true) = (&mut self.rotations, steps.is_empty()) {
            let cluster = self.checks.frontier().and_then(store::Store::cluster);
            let asked = cluster.and_then(|cluster| rotations.step(&cluster.authority));
            let step = |request| Step { identity: Self::operator(), request, id: None };
            steps.extend(asked.map(step));
        }
        if steps.is_empty() {
            return false;
        }
        self.workload.steps += 1;
        if self.knobs.skip.contains(Item::Step(self.workload.steps)) {
            self.think_again(operator);
            return true;
        }
        let beside = std::iter::repeat(Purpose::Beside);
        let purposes = std::iter::once(Purpose::Work { operator }).chain(beside);
        for (Step { identity, request, id }, purpose) in steps.into_iter().zip(purposes) {
            let operation = self.submit(purpose, identity, Wish { request, on: None });
            let asked = &mut self.clients.operations[operation];
            asked.request_id = id.or(asked.request_id);
            self.checks.sessions.asked(asked);
            self.checks.logins.asked(asked);
        }
        true
    }

    fn think_again(&mut self, operator: usize) {
        let pause = self.clients.dice.millis(1, 2 * self.knobs.think_ms);
        self.queue.after(pause, Event::Think { operator });
    }

    /// The answer to one try.
    pub(crate) fn answer(
        &mut self,
        operation: usize,
        attempt: u32,
        manager: usize,
        result: Result<Reply, ApiError>,
    ) {
        let now = self.now();
        let open = &self.clients.operations[operation];
        if open.done || open.attempt != attempt {
            return;
        }
        self.trace.mark(now, 51, operation as u64);
        self.trace.line(now, || match &result {
            Ok(reply) => format!(
                "client is answered {operation} at index {}: {}",
                reply.index,
                answer_text(&reply.response)
            ),
            Err(error) => {
                format!("client is refused {operation} by m{manager}: {:?} {}", error.code, error.message)
            }
        });
        match result {
            Ok(reply) => self.settled(operation, Ok(reply)),
            Err(error) => {
                self.clients.count(name(error.code));
                match error.code {
                    ErrorCode::NotLeader => {
                        let led = error
                            .leader
                            .and_then(|id| self.managers.iter().position(|host| host.member == id));
                        self.try_again(operation, led.filter(|led| *led != manager));
                    }
                    ErrorCode::Deadline | ErrorCode::Unavailable | ErrorCode::Exhausted => {
                        self.try_again(operation, None);
                    }
                    ErrorCode::Internal => {
                        self.violate("internal", error.message, vec![format!("m{manager}")]);
                    }
                    _ => self.settled(operation, Err(error)),
                }
            }
        }
    }

    /// A try took too long.
    pub(crate) fn impatient(&mut self, operation: usize, attempt: u32) {
        let open = &self.clients.operations[operation];
        if !open.done && open.attempt == attempt {
            self.clients.count("retried: silence");
            self.try_again(operation, None);
        }
    }

    fn try_again(&mut self, operation: usize, to: Option<usize>) {
        let now = self.now();
        let open = &mut self.clients.operations[operation];
        let given_up =
            open.invoked + PATIENCE < now && matches!(open.purpose, Purpose::Work { .. } | Purpose::Beside);
        if given_up {
            open.done = true;
            self.clients.count("given up");
            if let Purpose::Work { operator } = self.clients.operations[operation].purpose {
                self.think_again(operator);
            }
            return;
        }
        open.attempt += 1;
        let attempt = open.attempt;
        let manager = to.unwrap_or_else(|| self.clients.dice.below(self.managers.len()));
        let pause = if to.is_some() { MS / 2 } else { self.clients.dice.millis(20, 150) };
        self.queue.after(pause, Event::Ask { operation, attempt, manager });
        self.queue.after(pause + TRY, Event::Impatient { operation, attempt });
    }

    /// The final answer.
    fn settled(&mut self, operation: usize, result: Result<Reply, ApiError>) {
        let now = self.now();
        let open = &mut self.clients.operations[operation];
        open.done = true;
        let purpose = open.purpose.clone();
        let (on, ask) = (open.on.clone(), open.ask);
        let open = &self.clients.operations[operation];
        let wrong = self
            .guests
            .as_mut()
            .and_then(|guests| guests.settled(&open.identity, &open.request, open.attempt == 1, &result));
        if let Some(wrong) = wrong {
            self.violate("I19", wrong, Vec::new());
        }
        let open = &self.clients.operations[operation];
        let wrong = self.workload.pipelines.as_mut().and_then(|pipelines| {
            pipelines.answered(&open.identity, &open.request, open.invoked, now, &result)
        });
        if let Some(what) = wrong {
            self.violate("I21", what, Vec::new());
        }
        let open = &self.clients.operations[operation];
        let exchanges = self.workload.exchanges.as_mut();
        if let Some(what) = exchanges.and_then(|exchanges| exchanges.answered(open, now, &result)) {
            self.violate("I21", what, Vec::new());
        }
        let open = &self.clients.operations[operation];
        self.checks.sessions.answered(open, &result);
        let logins = self.workload.logins.as_mut();
        if let Some(what) = logins.and_then(|logins| logins.answered(&open.request, &result)) {
            self.violate("I19", what, Vec::new());
        }
        self.clients.count(if result.is_ok() { "answered" } else { "refused" });
        if let (Some((key, number)), Some(ask)) = (on, ask) {
            let outcome = outcome_of(ask, &result);
            if let Some(call) = self.clients.history.get_mut(&key).and_then(|calls| calls.get_mut(number)) {
                call.returned = Some(now);
                call.outcome = outcome;
            }
            if ask == Ask::Rollback {
                self.check_rollback(&key, &result);
            }
            if let (Purpose::Work { operator }, Ok(reply)) = (&purpose, &result) {
                self.remember(*operator, &key, &reply.response);
            }
        }
        if let (Some(deployers), Ok(Reply { response: Response::Service(view), .. })) =
            (&mut self.workload.deployers, &result)
        {
            deployers.saw(&view.service);
        }
        self.check_recorded(operation, &result);
        match purpose {
            Purpose::Work { operator } => self.think_again(operator),
            Purpose::Final | Purpose::Beside => {}
            Purpose::Paper(holder) => self.paper_came(operation, holder, &result),
            setup => self.set_up(setup, result),
        }
    }

    fn remember(&mut self, operator: usize, key: &str, response: &Response) {
        let known = &mut self.clients.known[operator];
        match response {
            Response::Service(view) if !view.service.removing => {
                if let Some(value) = value_of(&view.service.spec) {
                    let (generation, spec) = (view.service.generation, view.service.spec.clone());
                    known.insert(key.to_owned(), Known { generation, value, spec });
                }
            }
            Response::Service(_) => {
                known.remove(key);
            }
            _ => {}
        }
    }

    /// The last look at everything, when all has converged.
    pub(crate) fn final_reads(&mut self) {
        for service in SERVICES {
            let wish = Wish {
                request: Request::GetService(service.to_owned()),
                on: Some((service.to_owned(), Ask::Read)),
            };
            self.submit(Purpose::Final, Self::operator(), wish);
        }
    }

    /// A watcher opens its watch where it left off.
    pub(crate) fn open_watch(&mut self, watcher: usize, session: u64) {
        if self.clients.watchers[watcher].session != session {
            return;
        }
        let manager = self.clients.dice.below(self.managers.len());
        let after = self.clients.watchers[watcher].after;
        let consistency =
            if self.clients.dice.permille(500) { Consistency::Stale } else { Consistency::Linearizable };
        self.request(manager, Caller::Watch { watcher, session }, |handle| manager_core::Event::Request {
            handle,
            identity: Self::operator(),
            request_id: None,
            consistency,
            deadline: Some(std::time::Duration::from_secs(3)),
            request: Request::Watch { after, until: None },
            origin: model::audit::Origin::default(),
        });
    }

    /// A piece of a watch.
    pub(crate) fn watched(
        &mut self,
        watcher: usize,
        session: u64,
        manager: usize,
        result: Result<Reply, ApiError>,
    ) {
        if self.clients.watchers[watcher].session != session {
            return;
        }
        let reopen = match result {
            Ok(Reply { response: Response::Events(events), .. }) => {
                for event in events {
                    self.check_watched(watcher, manager, &event);
                    self.clients.watchers[watcher].after = Some(event.revision);
                    self.clients.watchers[watcher].seen += 1;
                }
                false
            }
            Ok(Reply { response: Response::Resync { at }, .. }) => {
                self.check_resync(watcher, at);
                self.clients.watchers[watcher].after = Some(at);
                true
            }
            Ok(_) | Err(_) => true,
        };
        if reopen {
            self.reopen_watch(watcher);
        }
    }

    fn reopen_watch(&mut self, watcher: usize) {
        let open = &mut self.clients.watchers[watcher];
        open.session += 1;
        let session = open.session;
        // Some come back after so long that what they missed is no longer kept.
        let most = if self.clients.dice.permille(200) { 8_000 } else { 500 };
        let pause = self.clients.dice.millis(50, most);
        self.queue.after(pause, Event::OpenWatch { watcher, session });
    }

    /// From now on the watchers resume after this.
    pub(crate) fn start_watches(&mut self, at: Revision) {
        for watcher in 0..self.clients.watchers.len() {
            self.clients.watchers[watcher].after = Some(at);
            self.reopen_watch(watcher);
        }
    }
}

fn outcome_of(ask: Ask, result: &Result<Reply, ApiError>) -> Outcome {
    match result {
        Ok(reply) => match (&reply.response, ask) {
            (Response::Service(view), _) if view.service.removing => Outcome::Saw(Seen::Removing),
            (Response::Service(view), _) => match value_of(&view.service.spec) {
                Some(value) => Outcome::Saw(Seen::Present(value)),
                None => Outcome::Unknown,
            },
            (_, Ask::Read) => Outcome::Unknown,
            _ => Outcome::Done,
        },
        Err(error) => match (error.code, ask) {
            (ErrorCode::NotFound, Ask::Read) => Outcome::Saw(Seen::Absent),
            (ErrorCode::NotFound, _) => Outcome::Missing,
            (ErrorCode::AlreadyExists, _) => Outcome::Exists,
            (ErrorCode::Conflict, _) => Outcome::Conflict,
            _ => Outcome::Unknown,
        },
    }
}

fn short(request: &Request) -> String {
    match request {
        Request::CreateService(spec) => format!("create service {} {:?}", spec.name, value_of(spec)),
        Request::UpdateService { service, expected, spec } => {
            format!("update service {service} from {expected} to {:?}", value_of(spec))
        }
        other => format!("{other:?}").chars().take(160).collect(),
    }
}

fn answer_text(response: &Response) -> String {
    match response {
        Response::Service(view) => format!(
            "service {} generation {} {:?} removing={}",
            view.service.spec.name,
            view.service.generation,
            value_of(&view.service.spec),
            view.service.removing
        ),
        other => format!("{other:?}").chars().take(160).collect(),
    }
}
