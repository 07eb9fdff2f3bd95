//! The manager: inputs in, outputs out.

use std::collections::VecDeque;

use model::time::{Instant, Now};
use store::Store;

use crate::{Action, Config, Event, Recovered};

/// One manager.
pub struct Manager {
    store: Store,
    actions: VecDeque<Action>,
}

impl Manager {
    /// A manager as it starts: with what its disk has, or with nothing.
    ///
    /// # Errors
    /// What was recovered cannot be read: refuse to start and say why.
    pub fn new(_config: Config, _recovered: Recovered, _now: Now) -> Result<Self, String> {
        Ok(Self { store: Store::new(), actions: VecDeque::new() })
    }

    /// Takes one input.
    pub fn handle_event(&mut self, _event: Event, _now: Now) {}

    /// Does what is due.
    pub fn handle_timeout(&mut self, _now: Now) {}

    /// The next thing to carry out.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// The replicated state as applied here.
    pub fn store(&self) -> &Store {
        &self.store
    }
}
