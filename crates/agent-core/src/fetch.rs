//! Images that managers want here before a task needs them.
//!
//! A look says whether the image is there; if not it is pulled, in turn with the tasks' pulls. A refusal that another try will not
//! change is told; everything else is tried for as long as the managers want it.

use std::collections::BTreeMap;

use model::{
    container::PullPolicy,
    id::TaskId,
    session::{AgentMessage, FetchWish},
    time::Instant,
};

use crate::{
    action::Action,
    agent::{Agent, Owner},
    engine::{EngineCall, EngineError, EngineErrorKind, OpOutcome},
    prepare,
    pulls::{Begun, May},
};

/// Wishes at a time; managers have as many rollouts under way on one node at most.
const MAX_FETCHES: usize = 64;
/// A login may be on its way to the registry; then a refusal is one.
const MAX_DENIALS: u32 = 2;

/// One wish and how far it came.
#[derive(Debug)]
pub(crate) struct Fetching {
    wish: FetchWish,
    /// The engine said that it does not have it.
    missing: bool,
    op: Option<u64>,
    /// How the last pull began.
    begun: Begun,
    failures: u32,
    denials: u32,
    retry_at: Option<Instant>,
    outcome: Option<Result<(), String>>,
}

impl Fetching {
    fn new(wish: FetchWish) -> Self {
        // A tag that is always pulled means what the registry says, whatever is here.
        let missing = wish.pull == PullPolicy::Always && wish.pin.is_none();
        Self {
            wish,
            missing,
            op: None,
            begun: Begun::default(),
            failures: 0,
            denials: 0,
            retry_at: None,
            outcome: None,
        }
    }

    /// Whether another try will not change it.
    fn lasts(&mut self, error: &EngineError) -> bool {
        if self.begun.explains(error) {
            return false;
        }
        self.denials += u32::from(error.kind == EngineErrorKind::ImageDenied);
        match error.kind {
            EngineErrorKind::ImageMissing | EngineErrorKind::NotFound | EngineErrorKind::Invalid => true,
            EngineErrorKind::ImageDenied => self.denials >= MAX_DENIALS,
            _ => false,
        }
    }
}

/// All wishes, by name.
pub(crate) type Fetches = BTreeMap<TaskId, Fetching>;

impl Agent {
    /// The managers' whole list.
    pub(crate) fn fetch(&mut self, wishes: Vec<FetchWish>) {
        let mut old = std::mem::take(&mut self.fetches);
        for wish in wishes.into_iter().take(MAX_FETCHES) {
            let name = wish.fetch;
            let known = old.remove(&name).filter(|fetching| fetching.wish == wish);
            if let Some(outcome) = known.as_ref().and_then(|known| known.outcome.clone()) {
                self.tell(AgentMessage::Fetched { fetch: name, outcome });
            }
            self.fetches.insert(name, known.unwrap_or_else(|| Fetching::new(wish)));
            self.dirty.insert(name);
        }
        for (name, fetching) in old {
            self.pulls.release(name);
            self.end_pull(name);
            if let Some(op) = fetching.op {
                self.ops.remove(&op);
                self.actions.push_back(Action::CancelEngine { op });
            }
        }
    }

    /// The next step of a fetch: a look, its turn, the manager's leave, the pull.
    pub(crate) fn step_fetch(&mut self, name: TaskId, now: Instant) {
        let Some(fetching) = self.fetches.get(&name) else { return };
        if fetching.op.is_some() || fetching.outcome.is_some() {
            return;
        }
        if !self.engine.is_ready() {
            // Others need its turn meanwhile; it lines up again when the engine is there.
            self.pulls.release(name);
            return self.end_pull(name);
        }
        if let Some(at) = fetching.retry_at.filter(|at| *at > now) {
            self.timers.insert((at, name));
            return;
        }
        let wish = &fetching.wish;
        let (image, pull, pin) = (wish.image.as_str(), wish.pull, wish.pin.as_ref());
        if !fetching.missing {
            let images = prepare::names(image, pull, pin).into_iter().map(str::to_owned).collect();
            return self.call_for(name, EngineCall::FindImage { images });
        }
        let Some(image) = prepare::from_registry(image, pin).map(str::to_owned) else {
            return self.fetched(name, Err("it is not on this node, and an id cannot be pulled".into()));
        };
        let service = wish.service;
        self.pulls.request(name, service, false);
        if !self.pulls.holds(name) {
            return;
        }
        match self.may_pull(name, &image, now) {
            May::Begin => {
                let (begun, login) = self.begin_pull(name);
                self.fetches.entry(name).and_modify(|fetching| fetching.begun = begun);
                self.call_for(name, EngineCall::Pull { image, login });
            }
            May::Wait(until, _) => {
                self.timers.insert((until, name));
            }
        }
    }

    fn call_for(&mut self, name: TaskId, call: EngineCall) {
        self.next_op += 1;
        let op = self.next_op;
        self.fetches.entry(name).and_modify(|fetching| fetching.op = Some(op));
        self.ops.insert(op, Owner::Fetch(name));
        self.actions.push_back(Action::Engine { op, call });
    }

    /// The engine answered.
    pub(crate) fn fetch_answered(
        &mut self,
        name: TaskId,
        outcome: Result<OpOutcome, EngineError>,
        now: Instant,
    ) {
        let Some(fetching) = self.fetches.get_mut(&name) else { return };
        fetching.op = None;
        let looked = !fetching.missing;
        match outcome {
            Ok(OpOutcome::Found(false)) => fetching.missing = true,
            Ok(_) => return self.fetched(name, Ok(())),
            Err(error) => {
                fetching.failures += 1;
                let lasting = !looked && fetching.lasts(&error);
                fetching.retry_at = Some(now + prepare::pull_pause(fetching.failures));
                if lasting {
                    return self.fetched(name, Err(error.message));
                }
                self.pulls.release(name);
                self.end_pull(name);
            }
        }
        self.dirty.insert(name);
    }

    fn fetched(&mut self, name: TaskId, outcome: Result<(), String>) {
        self.pulls.release(name);
        self.end_pull(name);
        if let Some(fetching) = self.fetches.get_mut(&name) {
            fetching.outcome = Some(outcome.clone());
        }
        self.tell(AgentMessage::Fetched { fetch: name, outcome });
    }
}
