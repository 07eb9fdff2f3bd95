//! What is known of the engine itself: whether it answers, since when not, and what it is.

use std::time::Duration;

use model::{node::Facts, time::Instant};

use crate::event::EngineFacts;

/// An engine that was silent for so long is asked whether it lives.
const PING_AFTER: Duration = Duration::from_secs(5);

/// How far we are with the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reach {
    /// Not reachable, for this reason.
    Down(String),
    /// It answers; it has not yet listed our containers.
    Up,
    /// Its containers are known and its events arrive.
    Ready,
}

/// The engine's state.
#[derive(Debug)]
pub(crate) struct EngineHealth {
    reach: Reach,
    facts: EngineFacts,
    answered: Option<Instant>,
    /// It answers calls in time.
    prompt: bool,
    ping_at: Option<Instant>,
}

impl Default for EngineHealth {
    fn default() -> Self {
        Self {
            reach: Reach::Down("not reached yet".to_owned()),
            facts: EngineFacts::default(),
            answered: None,
            prompt: true,
            ping_at: None,
        }
    }
}

impl EngineHealth {
    pub(crate) fn up(&mut self, facts: EngineFacts, now: Instant) {
        self.facts = facts;
        self.reach = Reach::Up;
        self.heard(now);
    }

    pub(crate) fn down(&mut self, reason: String) {
        self.reach = Reach::Down(reason);
        self.ping_at = None;
    }

    pub(crate) fn listed(&mut self, now: Instant) {
        self.reach = Reach::Ready;
        self.heard(now);
    }

    /// It answered something. True when that is news.
    pub(crate) fn heard(&mut self, now: Instant) -> bool {
        self.answered = Some(now);
        self.ping_at = Some(now + PING_AFTER);
        !std::mem::replace(&mut self.prompt, true)
    }

    /// It did not answer in time. True when that is news.
    pub(crate) fn silent(&mut self) -> bool {
        std::mem::replace(&mut self.prompt, false)
    }

    /// Whether tasks may be worked on.
    pub(crate) fn is_ready(&self) -> bool {
        self.reach == Reach::Ready
    }

    /// When to ask whether it lives.
    pub(crate) fn ping_at(&self) -> Option<Instant> {
        self.ping_at.filter(|_| self.is_ready())
    }

    pub(crate) fn pinged(&mut self, now: Instant) {
        self.ping_at = Some(now + PING_AFTER);
    }

    /// Milliseconds since its last answer.
    pub(crate) fn age_ms(&self, now: Instant) -> Option<u64> {
        self.answered.map(|at| u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX))
    }

    /// The machine's facts with the engine's filled in. An engine that is gone for a while keeps its size: the node
    /// did not shrink.
    pub(crate) fn complete(&self, facts: Facts) -> Facts {
        Facts {
            engine: self.facts.version.clone(),
            engine_api: self.facts.api.clone(),
            cpu_millis: self.facts.cpu_millis,
            memory: self.facts.memory,
            engine_ok: self.prompt && !matches!(self.reach, Reach::Down(_)),
            ..facts
        }
    }

    /// The machine's facts before anything is known of the engine.
    pub(crate) fn without_engine(facts: Facts) -> Facts {
        Self::default().complete(facts)
    }

    pub(crate) fn status(&self) -> String {
        match &self.reach {
            Reach::Down(reason) => format!("engine not reachable: {reason}"),
            Reach::Up => "engine is listing its containers".to_owned(),
            Reach::Ready if self.prompt => format!("engine {} ready", self.facts.version),
            Reach::Ready => "engine does not answer in time".to_owned(),
        }
    }
}
