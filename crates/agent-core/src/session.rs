//! One outbound connection to whichever manager leads, and what to do without one.
//!
//! The agent dials; managers never do. It goes round the managers that it knows, follows a redirect, and leaves a
//! manager that stays silent. Every pause is jittered, so that the nodes of a cluster do not come back in one moment.
//! Nothing here touches a container: without a session the node goes on as it was.

use std::{collections::VecDeque, time::Duration};

use model::{
    session::{AgentMessage, ManagerAddress},
    time::Instant,
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::action::Action;

/// A new agent waits so long for its engine, so that its greeting can say what the engine has.
const FIRST_DIAL: Duration = Duration::from_millis(500);
/// Dialling and greeting may take so long in all; as long only when a round over all managers came to nothing. With
/// [`MAX_PAUSE_MS`], less than what a new leader grants every node: when all managers were away for long and come back,
/// one of them silent, no node is late.
const GREETING: Duration = Duration::from_secs(2);
/// In the first round. A host that lost its power does not refuse, it is silent: with more patience for it the leader
/// would hear of this node too late, and take it for lost.
const FIRST_GREETING: Duration = Duration::from_secs(1);
/// The spread of the first dial after a session ended.
const FIRST_PAUSE_MS: u64 = 200;
/// The cap of the pause between two rounds over all managers.
const MAX_PAUSE_MS: u64 = 2_000;
/// After being refused the agent asks again this rarely: it may have been a mistake of an admin.
const REFUSED_PAUSE: Duration = Duration::from_secs(300);
/// So many heartbeats without an answer are silence, but never less than [`MIN_SILENCE`].
const SILENT_BEATS: u32 = 4;
/// A busy machine may stall a manager for so long without being dead.
const MIN_SILENCE: Duration = Duration::from_secs(1);
/// Bounds of what a manager may ask for as heartbeat.
const HEARTBEATS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(60));
/// Managers remembered; more than a cluster ever has.
const MAX_MANAGERS: usize = 16;

#[derive(Debug)]
enum Phase {
    /// Between two tries.
    Waiting { until: Instant },
    /// Dialling, or greeted and not yet welcome.
    Greeting { connection: u64, until: Instant },
    /// Welcome.
    Open { connection: u64, heartbeat: Duration, beat_at: Instant, heard: Instant },
    /// Saying goodbye.
    Over,
}

/// The session's state.
#[derive(Debug)]
pub(crate) struct Session {
    managers: Vec<ManagerAddress>,
    /// From the configuration: dialled as well, they may be right where the stored ones are not.
    configured: Vec<String>,
    phase: Phase,
    /// Tries since the last welcome.
    tries: u32,
    /// The round in which a leader that was named was last dialled without a pause.
    hurried_in: Option<u32>,
    cursor: usize,
    redirect: Option<String>,
    address: String,
    connections: u64,
    beats: u64,
    /// The version of the conversation that the manager of this session speaks too.
    protocol: u32,
    rng: ChaCha8Rng,
}

impl Session {
    pub(crate) fn new(
        managers: Vec<ManagerAddress>,
        configured: Vec<String>,
        mut rng: ChaCha8Rng,
        now: Instant,
    ) -> Self {
        Self {
            cursor: rng.random_range(0..MAX_MANAGERS),
            managers,
            configured,
            phase: Phase::Waiting { until: now + FIRST_DIAL },
            tries: 0,
            hurried_in: None,
            redirect: None,
            address: String::new(),
            connections: 0,
            beats: 0,
            protocol: 0,
            rng,
        }
    }

    /// Whether this is the connection in use.
    pub(crate) fn is_current(&self, connection: u64) -> bool {
        self.connection() == Some(connection)
    }

    /// The connection on which the agent is welcome.
    pub(crate) fn open(&self) -> Option<u64> {
        match self.phase {
            Phase::Open { connection, .. } => Some(connection),
            _ => None,
        }
    }

    /// The same, if its manager speaks this version of the conversation.
    pub(crate) fn open_with(&self, protocol: u32) -> Option<u64> {
        self.open().filter(|_| self.protocol >= protocol)
    }

    /// Where it is connected or being connected to.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    fn connection(&self) -> Option<u64> {
        match self.phase {
            Phase::Greeting { connection, .. } | Phase::Open { connection, .. } => Some(connection),
            Phase::Waiting { .. } | Phase::Over => None,
        }
    }

    /// When to be woken.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waiting { until } | Phase::Greeting { until, .. } => Some(until),
            Phase::Open { beat_at, heartbeat, heard, .. } => Some(beat_at.min(heard + silence(heartbeat))),
            Phase::Over => None,
        }
    }

    /// The engine answered, or is known to be out of reach: the first dial need not wait for it any longer.
    pub(crate) fn engine_known(&mut self, now: Instant) {
        if let (Phase::Waiting { until }, 0) = (&mut self.phase, self.connections) {
            *until = now.min(*until);
        }
    }

    /// Welcome: beat from now on.
    pub(crate) fn welcome(&mut self, protocol: u32, heartbeat: Duration, now: Instant) {
        if let Phase::Greeting { connection, .. } = self.phase {
            let heartbeat = heartbeat.clamp(HEARTBEATS.0, HEARTBEATS.1);
            self.phase = Phase::Open { connection, heartbeat, beat_at: now + heartbeat, heard: now };
            self.protocol = protocol;
            self.tries = 0;
            self.hurried_in = None;
            self.beats = 0;
        }
    }

    /// The manager said something, whatever it was.
    pub(crate) fn heard(&mut self, now: Instant) {
        if let Phase::Open { heard, .. } = &mut self.phase {
            *heard = now;
        }
    }

    /// The managers as this one knows them. True when that is news.
    pub(crate) fn learn(&mut self, mut managers: Vec<ManagerAddress>) -> bool {
        managers.truncate(MAX_MANAGERS);
        if managers.is_empty() || managers == self.managers {
            return false;
        }
        self.managers = managers;
        true
    }

    pub(crate) fn managers(&self) -> &[ManagerAddress] {
        &self.managers
    }

    /// This manager does not lead: go to the one that does, or to the next.
    pub(crate) fn follow(&mut self, leader: Option<String>, now: Instant, actions: &mut VecDeque<Action>) {
        // A leader that is named over and over again without welcoming anybody earns hurry once in a round.
        let hurry = leader.is_some() && (self.rounds() < 2 || self.hurried_in != Some(self.rounds()));
        self.hurried_in = Some(self.rounds());
        self.redirect = leader;
        self.leave("it does not lead", now, actions);
        if hurry {
            self.phase = Phase::Waiting { until: now };
        }
    }

    /// The node is not wanted any more.
    pub(crate) fn refused(&mut self, why: &str, now: Instant, actions: &mut VecDeque<Action>) {
        self.leave(&format!("it refused this node: {why}"), now, actions);
        self.phase = Phase::Waiting { until: now + REFUSED_PAUSE };
    }

    /// Leaves the manager and tries another one after a pause.
    pub(crate) fn leave(&mut self, reason: &str, now: Instant, actions: &mut VecDeque<Action>) {
        if let Some(connection) = self.connection() {
            actions.push_back(Action::Disconnect { connection, reason: reason.to_owned() });
            self.closed(now);
        }
    }

    /// The connection is gone.
    pub(crate) fn closed(&mut self, now: Instant) {
        let pause = self.pause();
        self.tries = self.tries.saturating_add(1);
        self.phase = Phase::Waiting { until: now + pause };
    }

    /// Says goodbye where there is somebody to hear it.
    pub(crate) fn goodbye(&mut self, hold: Duration, actions: &mut VecDeque<Action>) {
        if let Some(connection) = self.connection() {
            if self.open().is_some() {
                let message = Box::new(AgentMessage::Goodbye { hold });
                actions.push_back(Action::Send { connection, message });
            }
            actions.push_back(Action::Disconnect { connection, reason: "the agent ends".to_owned() });
        }
        self.phase = Phase::Over;
    }

    /// Dials, beats, or gives a silent manager up. True when a session ended by it.
    pub(crate) fn timeout(
        &mut self,
        engine_age_ms: Option<u64>,
        now: Instant,
        actions: &mut VecDeque<Action>,
    ) -> bool {
        match self.phase {
            Phase::Waiting { until } if until <= now => self.dial(now, actions),
            Phase::Greeting { until, .. } if until <= now => {
                self.leave("no answer to the greeting", now, actions);
                return true;
            }
            Phase::Open { heartbeat, beat_at, heard, .. } => {
                // Who overslept must not blame the manager: its answers may lie unread.
                let overslept = now.since(beat_at) > heartbeat;
                if heard + silence(heartbeat) <= now && !overslept {
                    self.leave("it does not answer heartbeats", now, actions);
                    return true;
                }
                self.beat(engine_age_ms, overslept, now, actions);
            }
            _ => {}
        }
        false
    }

    fn beat(
        &mut self,
        engine_age_ms: Option<u64>,
        overslept: bool,
        now: Instant,
        actions: &mut VecDeque<Action>,
    ) {
        let Phase::Open { connection, heartbeat, beat_at, heard } = &mut self.phase else {
            return;
        };
        if overslept {
            *heard = now;
        }
        if *beat_at > now {
            return;
        }
        *beat_at = now + *heartbeat;
        self.beats += 1;
        let message = Box::new(AgentMessage::Heartbeat { number: self.beats, engine_age_ms });
        actions.push_back(Action::Send { connection: *connection, message });
    }

    fn dial(&mut self, now: Instant, actions: &mut VecDeque<Action>) {
        let addresses = self.addresses();
        let next = match self.redirect.take() {
            Some(address) => {
                // Who is left goes to the end of the round.
                let known = addresses.iter().position(|known| *known == address);
                self.cursor = known.unwrap_or(self.cursor);
                Some(address)
            }
            None if addresses.is_empty() => None,
            None => {
                self.cursor = (self.cursor + 1) % addresses.len();
                Some(addresses[self.cursor].clone())
            }
        };
        let Some(address) = next else {
            self.phase = Phase::Waiting { until: now + Duration::from_millis(MAX_PAUSE_MS) };
            return;
        };
        self.connections += 1;
        self.phase = Phase::Greeting { connection: self.connections, until: now + self.patience() };
        self.address.clone_from(&address);
        actions.push_back(Action::Connect { connection: self.connections, address });
    }

    fn addresses(&self) -> Vec<String> {
        let mut addresses: Vec<String> = self.managers.iter().map(|m| m.address.clone()).collect();
        addresses
            .extend(self.configured.iter().filter(|c| !addresses.contains(c)).cloned().collect::<Vec<_>>());
        addresses
    }

    /// How long a manager may take to welcome this agent: doubling from round to round.
    fn patience(&self) -> Duration {
        FIRST_GREETING.saturating_mul(1u32.checked_shl(self.rounds()).unwrap_or(u32::MAX)).min(GREETING)
    }

    /// Rounds over all managers since the last welcome.
    fn rounds(&self) -> u32 {
        self.tries / u32::try_from(self.addresses().len().max(1)).unwrap_or(1)
    }

    /// Short within a round over all managers, doubling from round to round between them.
    fn pause(&mut self) -> Duration {
        let rounds = self.rounds();
        let round_ends = ((self.tries + 1) as usize).is_multiple_of(self.addresses().len().max(1));
        let grown = FIRST_PAUSE_MS.saturating_mul(1u64.checked_shl(rounds).unwrap_or(u64::MAX));
        let most = if round_ends { grown.min(MAX_PAUSE_MS) } else { FIRST_PAUSE_MS };
        let least = if rounds == 0 || !round_ends { 0 } else { most / 2 };
        Duration::from_millis(self.rng.random_range(least..=most))
    }
}

fn silence(heartbeat: Duration) -> Duration {
    (heartbeat * SILENT_BEATS).max(MIN_SILENCE)
}
