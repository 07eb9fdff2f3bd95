//! A pull's leave: before an image is fetched the manager is asked, which knows how many pulls the cluster bears and how to log
//! in to the registry.
//!
//! Nothing waits for managers that are away: without a session, or without an answer within a bounded time, the node pulls with
//! what it has itself. A registry's refusal of such a pull says nothing, since the login that was missing may be the cluster's:
//! it is tried again for as long as nobody gave leave. A login lies here from the answer to the end of the pull and nowhere
//! else.

use std::{collections::BTreeMap, time::Duration};

use model::{id::TaskId, registry::Login, session::AgentMessage, time::Instant};

use crate::{
    agent::Agent,
    engine::{EngineError, EngineErrorKind},
};

/// The version of the conversation that knows pulls.
const PROTOCOL: u32 = 3;
/// A manager answers at once; one that has just gone has a successor by then.
const ANSWER: Duration = Duration::from_secs(5);
/// So long a pull waits for its turn in the cluster, then it begins all the same: a bound that is lost somewhere must stop nobody.
const TURN: Duration = Duration::from_secs(1_800);

/// What became of the question.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Leave {
    /// Asked on this connection, if on any.
    Asked { connection: Option<u64>, until: Instant },
    /// Others pull first.
    Queued { until: Instant },
    /// With this login, if there is one.
    Given(Option<Login>),
}

/// Every pull that a manager was asked for and that has not ended, by its task.
#[derive(Debug, Default)]
pub(crate) struct Leaves(BTreeMap<TaskId, Leave>);

/// Whether a pull may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum May {
    /// Now.
    Begin,
    /// Not before it is answered, or this time has come. True: others pull first.
    Wait(Instant, bool),
}

/// How a pull began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Begun {
    /// A manager gave leave, with the login that the cluster has.
    WithLeave,
    /// Nobody answered: with what the node has itself. Where it is not known, a further try is the lesser evil.
    #[default]
    Alone,
}

impl Begun {
    /// Whether a registry's refusal may be for want of the cluster's login. Registries deny that there is what they do not show.
    pub(crate) fn explains(self, error: &EngineError) -> bool {
        let refused = matches!(
            error.kind,
            EngineErrorKind::ImageMissing | EngineErrorKind::ImageDenied | EngineErrorKind::NotFound
        );
        self == Self::Alone && refused
    }
}

impl Leaves {
    /// The login that came with the leave; the outer `None`: it was not given.
    fn given(&self, pull: TaskId) -> Option<Option<Login>> {
        match self.0.get(&pull) {
            Some(Leave::Given(login)) => Some(login.clone()),
            _ => None,
        }
    }

    /// The session is over: its answers will not come. The next one has a little time to give them.
    pub(crate) fn session_ended(&mut self, now: Instant) {
        for leave in self.0.values_mut() {
            // Each dial that comes to nothing ends one; the time runs on, or it would never come.
            if matches!(leave, Leave::Asked { connection: Some(_), .. } | Leave::Queued { .. }) {
                *leave = Leave::Asked { connection: None, until: now + ANSWER };
            }
        }
    }

    /// Those that nobody is asked for at the moment.
    pub(crate) fn unasked(&self) -> Vec<TaskId> {
        let unasked = |(pull, leave): (&TaskId, &Leave)| {
            matches!(leave, Leave::Asked { connection: None, .. }).then_some(*pull)
        };
        self.0.iter().filter_map(unasked).collect()
    }
}

impl Agent {
    /// Asks for a pull once, and says whether it may begin.
    pub(crate) fn may_pull(&mut self, pull: TaskId, image: &str, now: Instant) -> May {
        let open = self.session.open_with(PROTOCOL);
        match (self.leaves.0.get(&pull), open) {
            (Some(Leave::Given(_)), _) | (None, None) => return May::Begin,
            (Some(Leave::Asked { until, .. } | Leave::Queued { until }), _) if *until <= now => {
                return May::Begin;
            }
            (Some(Leave::Queued { until }), _) => return May::Wait(*until, true),
            (Some(Leave::Asked { connection: Some(_), until }), _)
            | (Some(Leave::Asked { until, .. }), None) => return May::Wait(*until, false),
            (None | Some(Leave::Asked { connection: None, .. }), Some(_)) => {}
        }
        self.tell(AgentMessage::PullWish { pull, image: image.to_owned() });
        let until = now + ANSWER;
        self.leaves.0.insert(pull, Leave::Asked { connection: open, until });
        May::Wait(until, false)
    }

    /// What a pull that begins now has from a manager. One that does not know pulls has given leave by wanting the image.
    pub(crate) fn begin_pull(&self, pull: TaskId) -> (Begun, Option<Login>) {
        let older = self.session.open().is_some() && self.session.open_with(PROTOCOL).is_none();
        match self.leaves.given(pull) {
            Some(login) => (Begun::WithLeave, login),
            None if older => (Begun::WithLeave, None),
            None => (Begun::Alone, None),
        }
    }

    /// The pull has ended, or is not wanted any more.
    pub(crate) fn end_pull(&mut self, pull: TaskId) {
        if self.leaves.0.remove(&pull).is_some() && self.session.open_with(PROTOCOL).is_some() {
            self.tell(AgentMessage::PullEnded { pull });
        }
    }

    pub(crate) fn pull_granted(&mut self, pull: TaskId, login: Option<Login>) {
        match self.leaves.0.get_mut(&pull) {
            Some(leave) => {
                *leave = Leave::Given(login);
                self.dirty.insert(pull);
            }
            // It was not wanted any more when the answer came: the turn is somebody else's.
            None => self.tell(AgentMessage::PullEnded { pull }),
        }
    }

    pub(crate) fn pull_queued(&mut self, pull: TaskId, now: Instant) {
        if let Some(leave @ Leave::Asked { .. }) = self.leaves.0.get_mut(&pull) {
            *leave = Leave::Queued { until: now + TURN };
            self.dirty.insert(pull);
        }
    }
}
