//! Calls: begun, in effect, answered; three moments, and a fault may come between any two.

use std::net::Ipv4Addr;

use agent_core::engine::{Change, ContainerRequest, EngineCall, EngineError, EngineErrorKind, OpOutcome};
use model::{service::ImagePin, task::Health};

use super::{
    Container, Engine, Plan, Power, Status,
    app::{self, Behaviour},
};
use crate::queue::{MS, Time};

/// How long the agent's shell waits for an answer that may be quick.
pub(crate) const CALL_TIMEOUT: Time = 10_000 * MS;

/// A call that was not answered yet.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    /// Of which life of the agent.
    pub(crate) life: u64,
    /// The agent's name for it.
    pub(crate) op: u64,
    pub(crate) call: EngineCall,
    /// The agent no longer waits: it had its answer, or cancelled.
    pub(crate) abandoned: bool,
    /// A stop whose container has ended.
    pub(crate) stopped: bool,
    /// A stop that has sent its signal.
    signalled: bool,
}

/// A call that has begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    pub(crate) number: u64,
    /// When it takes effect.
    pub(crate) after: Time,
    /// When the shell gives up; `None`: never.
    pub(crate) timeout: Option<Time>,
}

/// What follows from a call's effect.
#[derive(Debug, Clone)]
pub(crate) enum Effect {
    Answer(Result<OpOutcome, EngineError>),
    /// Look again then.
    Later(Time),
    /// Nothing; the call is no more.
    Gone,
}

fn refusal<T>(kind: EngineErrorKind, message: impl Into<String>) -> Result<T, EngineError> {
    Err(EngineError { kind, message: message.into() })
}

impl Engine {
    /// Begins a call.
    pub(crate) fn begin(&mut self, life: u64, op: u64, call: EngineCall) -> Begun {
        let after = match &call {
            EngineCall::Ping => self.slowness(1, 3),
            EngineCall::Pull { .. } => self.slowness(100, 3_000),
            EngineCall::Create(_) => self.slowness(5, 40),
            EngineCall::Start { .. } => self.slowness(80, 350),
            EngineCall::Stop { .. } | EngineCall::Inspect { .. } => self.slowness(1, 8),
            EngineCall::Remove { .. } => self.slowness(5, 60),
            EngineCall::Diagnose { .. } => self.slowness(5, 5_000),
            EngineCall::ResolveImage { .. } => self.slowness(5, 500),
            EngineCall::FindImage { .. } => self.slowness(1, 5),
        };
        let endless = matches!(call, EngineCall::Pull { .. } | EngineCall::Stop { .. });
        self.next_call += 1;
        let pending = Pending { life, op, call, abandoned: false, stopped: false, signalled: false };
        self.calls.insert(self.next_call, pending);
        Begun { number: self.next_call, after, timeout: (!endless).then_some(CALL_TIMEOUT) }
    }

    /// The agent stops waiting. Whether the engine still does it is open.
    pub(crate) fn cancel(&mut self, life: u64, op: u64) {
        let found = self.calls.iter().find(|(_, pending)| (pending.life, pending.op) == (life, op));
        let Some(number) = found.map(|(number, _)| *number) else { return };
        if self.dice.permille(500) {
            self.calls.remove(&number);
        } else if let Some(pending) = self.calls.get_mut(&number) {
            pending.abandoned = true;
        }
    }

    /// A call takes effect. An answer ends it.
    pub(crate) fn effect(&mut self, number: u64, now: Time) -> Effect {
        let Some(pending) = self.calls.get(&number).cloned() else { return Effect::Gone };
        match self.power {
            Power::Down => return Effect::Gone,
            Power::Hung => return Effect::Later(50 * MS),
            Power::Up => {}
        }
        let outcome = match &pending.call {
            EngineCall::Ping => Ok(OpOutcome::Done),
            EngineCall::Pull { image, .. } => self.pull(image),
            EngineCall::Create(request) => self.create(request),
            EngineCall::Start { container } => self.start(container, now),
            EngineCall::Stop { container, grace } => {
                if !pending.stopped && self.containers.get(container).is_some_and(Container::is_live) {
                    let grace = grace.map_or(10_000 * MS, |grace| grace.as_nanos() as Time);
                    return self.signal(number, pending.signalled, container, grace, now);
                }
                self.inspect(container, now)
            }
            EngineCall::Remove { container, .. } => self.remove(container, now),
            EngineCall::Diagnose { container, .. } => self.inspect(container, now).map(|_| OpOutcome::Done),
            EngineCall::Inspect { container } => self.inspect(container, now),
            EngineCall::ResolveImage { image } => self.resolve(image),
            EngineCall::FindImage { images } => {
                Ok(OpOutcome::Found(images.iter().any(|image| self.known_image(image))))
            }
        };
        self.calls.remove(&number);
        Effect::Answer(outcome)
    }

    fn known_image(&self, image: &str) -> bool {
        self.images.contains(image)
    }

    fn pull(&mut self, image: &str) -> Result<OpOutcome, EngineError> {
        if !self.registry_up {
            return refusal(EngineErrorKind::ImagePullFailed, "the registry does not answer");
        }
        if image.contains("missing") {
            return refusal(EngineErrorKind::ImageMissing, "manifest unknown");
        }
        self.images.insert(image.to_owned());
        Ok(OpOutcome::Done)
    }

    fn resolve(&mut self, image: &str) -> Result<OpOutcome, EngineError> {
        if !self.registry_up || image.contains("missing") {
            return refusal(
                EngineErrorKind::ImagePullFailed,
                "the registry does not know it or does not answer",
            );
        }
        let mut hash = model::hash::Fnv::new();
        hash.write(image.as_bytes());
        Ok(OpOutcome::Resolved(ImagePin::Digest(format!("app@sha256:{:064x}", hash.finish()))))
    }

    fn create(&mut self, request: &ContainerRequest) -> Result<OpOutcome, EngineError> {
        if self.containers.values().any(|container| container.name == request.name) {
            return refusal(EngineErrorKind::Conflict, format!("the name {} is in use", request.name));
        }
        if !self.known_image(&request.image) {
            return refusal(EngineErrorKind::ImageMissing, format!("no such image: {}", request.image));
        }
        if Behaviour::of(&request.spec).0 == Behaviour::Broken {
            return refusal(EngineErrorKind::Invalid, "the engine cannot make this");
        }
        self.next_id += 1;
        let id = format!("c{:06x}{:04x}", self.next_id, self.dice.range(0, 0xffff));
        // More than a world ever makes.
        let address = Ipv4Addr::from(0xac10_0000 | self.next_id as u32);
        self.containers.insert(id.clone(), Container::new(id.clone(), address, request));
        self.tell(&id, Change::Created, "made");
        Ok(OpOutcome::Created { id })
    }

    fn start(&mut self, id: &str, now: Time) -> Result<OpOutcome, EngineError> {
        let Some(container) = self.containers.get(id) else {
            return refusal(EngineErrorKind::NotFound, format!("no such container: {id}"));
        };
        if container.is_live() {
            return self.inspect(id, now);
        }
        let wanted = &container.ports;
        let clash = self.live().flat_map(|other| &other.ports).find(|port| {
            wanted.iter().any(|own| (own.published, own.protocol) == (port.published, port.protocol))
        });
        if let Some(port) = clash {
            return refusal(EngineErrorKind::PortTaken, format!("port {} is allocated", port.published));
        }
        let container = self.containers.get_mut(id).expect("looked up above");
        container.runs += 1;
        let run = container.runs;
        let health = if container.spec.healthcheck.is_some() { Health::Starting } else { Health::None };
        container.status = Status::Running { since: now, health, run };
        for (after, act) in app::plan(&container.spec, &mut self.dice) {
            self.plans.push((after, Plan { container: id.to_owned(), run, act }));
        }
        self.tell(id, Change::Started, "started");
        self.inspect(id, now)
    }

    fn signal(&mut self, number: u64, signalled: bool, id: &str, grace: Time, now: Time) -> Effect {
        let container = self.containers.get_mut(id).expect("the caller has seen it");
        if signalled {
            self.die(id, 137, false, "killed after its grace", now);
            return Effect::Later(0);
        }
        container.stop_waiters.push(number);
        let (spec, run) = (container.spec.clone(), container.runs);
        if let Some(pending) = self.calls.get_mut(&number) {
            pending.signalled = true;
        }
        if let Some(after) = app::stop(&spec, &mut self.dice).filter(|after| *after < grace) {
            let act = app::Act::Exit { code: 143 };
            self.plans.push((after, Plan { container: id.to_owned(), run, act }));
        }
        Effect::Later(grace)
    }

    fn remove(&mut self, id: &str, now: Time) -> Result<OpOutcome, EngineError> {
        if !self.containers.contains_key(id) {
            return refusal(EngineErrorKind::NotFound, format!("no such container: {id}"));
        }
        self.die(id, 137, false, "removed while it ran", now);
        self.tell(id, Change::Destroyed, "removed");
        self.containers.remove(id);
        Ok(OpOutcome::Done)
    }

    fn inspect(&mut self, id: &str, now: Time) -> Result<OpOutcome, EngineError> {
        let named = || self.containers.values().find(|container| container.name == id);
        let Some(container) = self.containers.get(id).or_else(named) else {
            return refusal(EngineErrorKind::NotFound, format!("no such container: {id}"));
        };
        match container.view(now) {
            Some(view) => Ok(OpOutcome::Container(view)),
            None => refusal(EngineErrorKind::Conflict, "the container is somebody else's"),
        }
    }
}
