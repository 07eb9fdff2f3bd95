//! The probes of a running container: when each is due, and what their answers and the engine's health check say together.
//!
//! Intuition: each probe counts successes and failures in a row, and its verdict changes only at the declared thresholds. Start-up
//! gates the others. Only start-up and liveness end an attempt, by the same way as an unhealthy check; readiness is only told.
//!
//! Failure it prevents: an agent that begins anew knows no verdicts. It says nothing of a container that it found running until
//! the probes have one, so that a restart of the agent takes nothing out of rotation.

use std::{net::Ipv4Addr, time::Duration};

use model::{
    id::TaskId,
    probe::{Check, Probe, Probes},
    task::Health,
    time::Instant,
};
use planted::Bug;

use crate::{
    action::Action,
    agent::Agent,
    container::{Container, Phase},
    engine::MAX_CHECK_OUTPUT,
    exit::seconds,
    task::Task,
};

/// A container that never answered well is asked so often, or as often as is declared.
const STARTING_INTERVAL: Duration = Duration::from_millis(500);

/// An answer that came so much later than twice its time is no answer.
const STANDSTILL: Duration = Duration::from_secs(1);

/// One question to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeRequest {
    /// The engine's id of the container.
    pub container: String,
    /// Where this host reaches it; `None`: nowhere.
    pub address: Option<Ipv4Addr>,
    /// The question.
    pub check: Check,
    /// How long the answer may take.
    pub timeout: Duration,
}

/// Which probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Startup,
    Readiness,
    Liveness,
}

/// Whose answer it will be.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    task: TaskId,
    container: String,
    kind: Kind,
}

/// One probe's past.
#[derive(Debug)]
struct Track {
    kind: Kind,
    /// When to ask next; of a question that is under way: when it was asked.
    at: Instant,
    under_way: bool,
    right: u32,
    wrong: u32,
    verdict: Option<bool>,
    /// It succeeded at some time.
    succeeded: bool,
    /// What it said when it failed as often as it may.
    because: String,
}

/// The probes of one container.
#[derive(Debug)]
pub(crate) struct Probing {
    tracks: Vec<Track>,
    /// A start-up probe that is asked from here on and fails has failed for good. Counted from the first question, not from the
    /// start: an agent that was away does not know whether the container had started before.
    deadline: Instant,
}

impl Probing {
    fn new(probes: &Probes, now: Instant) -> Self {
        let declared = [Kind::Startup, Kind::Readiness, Kind::Liveness].into_iter().filter_map(|kind| {
            let probe = of_kind(probes, kind)?;
            // A process that has just started is seldom past all use.
            let at = if kind == Kind::Liveness { now + probe.interval() } else { now };
            Some(Track {
                kind,
                at,
                under_way: false,
                right: 0,
                wrong: 0,
                verdict: None,
                succeeded: false,
                because: String::new(),
            })
        });
        Self { tracks: declared.collect(), deadline: now + probes.start_deadline() }
    }

    fn track(&self, kind: Kind) -> Option<&Track> {
        self.tracks.iter().find(|track| track.kind == kind)
    }

    fn has_started(&self) -> bool {
        self.track(Kind::Startup).is_none_or(|track| track.verdict == Some(true))
    }
}

impl Track {
    fn succeeded(&mut self, probe: &Probe) {
        (self.right, self.wrong) = (self.right.saturating_add(1), 0);
        if self.right >= probe.successes() {
            (self.verdict, self.succeeded) = (Some(true), true);
            self.because.clear();
        }
    }

    fn failed(&mut self, probe: &Probe, said: String) {
        (self.right, self.wrong) = (0, self.wrong.saturating_add(1));
        // A later failure says the same in other words, and every change of it costs a commit.
        if self.wrong == probe.failures() {
            self.because = bounded(said);
            // Start-up has a deadline, no count.
            if self.kind != Kind::Startup {
                self.verdict = Some(false);
            }
        }
    }

    /// Start-up is given up: it was asked when it had to have started, and had not.
    fn gave_up(&mut self, limit: Duration) {
        self.verdict = Some(false);
        let last = said("start-up", &self.because);
        let colon = if last.is_empty() { "" } else { "; " };
        self.because = bounded(format!("it did not start within {}{colon}{last}", seconds(limit)));
    }

    /// When to ask again what was asked at `self.at`.
    fn schedule(&mut self, probe: &Probe, now: Instant) {
        let hurried = !self.succeeded && self.kind != Kind::Liveness;
        let interval = if hurried { probe.interval().min(STARTING_INTERVAL) } else { probe.interval() };
        self.at = now.max(self.at + interval);
    }
}

impl Container {
    /// What the engine's check and the probes say together, and why.
    pub(crate) fn fitness(&self) -> (Health, String) {
        if self.health == Health::Unhealthy {
            return (Health::Unhealthy, unfit_because(&self.check));
        }
        let Some(probing) = &self.probing else { return (self.health, String::new()) };
        if let Some(startup) = probing.track(Kind::Startup) {
            match startup.verdict {
                Some(true) => {}
                Some(false) => return (Health::Unhealthy, startup.because.clone()),
                None => return (Health::Starting, said("start-up", &startup.because)),
            }
        }
        if let Some(liveness) = probing.track(Kind::Liveness).filter(|track| track.verdict == Some(false)) {
            return (Health::Unhealthy, said("liveness", &liveness.because));
        }
        match probing.track(Kind::Readiness).map(|track| (track, track.verdict)) {
            None | Some((_, Some(true))) => {}
            Some((track, Some(false))) if planted::is(Bug::UnreadyRestarted) => {
                return (Health::Unhealthy, said("readiness", &track.because));
            }
            Some((track, Some(false))) if track.succeeded || self.adopted => {
                return (Health::Unready, said("readiness", &track.because));
            }
            Some((track, _)) => return (Health::Starting, said("readiness", &track.because)),
        }
        match self.health {
            Health::Starting => (Health::Starting, String::new()),
            _ => (Health::Healthy, String::new()),
        }
    }
}

impl Container {
    /// Whether its start-up probe has succeeded, as far as anybody knows: one that an agent found running may have begun long ago.
    pub(crate) fn has_started(&self) -> bool {
        let startup = self.probing.as_ref().and_then(|probing| probing.track(Kind::Startup));
        self.adopted || startup.is_none_or(|track| track.verdict == Some(true))
    }
}

/// Why a container counts as unhealthy by the engine's check.
fn unfit_because(check: &str) -> String {
    if check.is_empty() {
        "its health check failed again and again".to_owned()
    } else {
        format!("its health check says: {check}")
    }
}

fn said(probe: &str, because: &str) -> String {
    if because.is_empty() { String::new() } else { format!("its {probe} probe says: {because}") }
}

fn bounded(mut said: String) -> String {
    said.truncate(said.floor_char_boundary(MAX_CHECK_OUTPUT));
    said
}

fn of_kind(probes: &Probes, kind: Kind) -> Option<&Probe> {
    match kind {
        Kind::Startup => probes.startup.as_ref(),
        Kind::Readiness => probes.readiness.as_ref(),
        Kind::Liveness => probes.liveness.as_ref(),
    }
}

impl Task {
    fn probes(&self) -> Option<&Probes> {
        self.spec().map(|spec| &spec.probes).filter(|probes| !probes.is_empty())
    }

    /// It was found running, and its probes have no verdict yet: nothing is known that could be told.
    pub(crate) fn awaits_probes(&self) -> bool {
        let Some(probes) = self.probes().filter(|_| self.is_wanted()) else { return false };
        let Some((_, container)) = self.current().filter(|(_, c)| c.adopted && c.phase == Phase::Running)
        else {
            return false;
        };
        if planted::is(Bug::ProbesForgotten) {
            return false;
        }
        let Some(probing) = &container.probing else { return true };
        match (probing.track(Kind::Startup), probing.track(Kind::Readiness)) {
            (Some(startup), _) if startup.verdict.is_none() => {
                probes.startup.as_ref().is_some_and(|probe| startup.wrong < probe.failures())
            }
            (Some(startup), _) if startup.verdict == Some(false) => false,
            (_, Some(readiness)) => readiness.verdict.is_none(),
            _ => false,
        }
    }
}

impl Agent {
    /// Asks what is due of a task's running container.
    pub(crate) fn probe(&mut self, id: TaskId, now: Instant) {
        let Some(task) = self.tasks.get_mut(&id).filter(|task| task.is_wanted()) else { return };
        let Some(spec) = task.assignment.as_ref().map(|assignment| assignment.container.clone()) else {
            return;
        };
        if spec.probes.is_empty() {
            return;
        }
        let attempt = task.attempt;
        let current = task.containers.iter_mut().find(|(_, container)| container.attempt == attempt);
        let Some((name, container)) = current.filter(|(_, c)| c.phase == Phase::Running && !c.doubted) else {
            return;
        };
        let address = container.addresses.first().map(|(_, address)| *address);
        let probing = container.probing.get_or_insert_with(|| Probing::new(&spec.probes, now));
        let mut wake = Vec::new();
        let has_started = probing.has_started();
        for track in &mut probing.tracks {
            let gated = track.kind != Kind::Startup && !has_started;
            let over = track.kind == Kind::Startup && track.verdict.is_some();
            if track.under_way || gated || over {
                continue;
            }
            if track.at > now {
                wake.push(track.at);
                continue;
            }
            let probe = of_kind(&spec.probes, track.kind).expect("only declared probes have tracks");
            (track.under_way, track.at) = (true, now);
            self.next_probe += 1;
            let asked = Asked { task: id, container: name.clone(), kind: track.kind };
            self.probes.insert(self.next_probe, asked);
            let request = ProbeRequest {
                container: name.clone(),
                address,
                check: probe.check.clone(),
                timeout: probe.timeout(),
            };
            self.actions.push_back(Action::Probe { probe: self.next_probe, request: Box::new(request) });
        }
        self.timers.extend(wake.into_iter().map(|at| (at, id)));
    }

    /// A container answered, or did not.
    pub(crate) fn probed(&mut self, probe: u64, answer: Result<(), String>, now: Instant) {
        let Some(Asked { task: id, container, kind }) = self.probes.remove(&probe) else { return };
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let Some(spec) = task.assignment.as_ref().map(|assignment| assignment.container.clone()) else {
            return;
        };
        let probing = task.containers.get_mut(&container).and_then(|container| container.probing.as_mut());
        let (Some(probing), Some(probe)) = (probing, of_kind(&spec.probes, kind)) else { return };
        let deadline = probing.deadline;
        let Some(track) = probing.tracks.iter_mut().find(|track| track.kind == kind) else { return };
        track.under_way = false;
        let (asked, waited) = (track.at, now.since(track.at));
        match answer {
            Ok(()) => track.succeeded(probe),
            // The agent itself stood still: it was not the container that did not answer.
            Err(_) if waited > probe.timeout() * 2 + STANDSTILL => {}
            Err(said) => {
                track.failed(probe, said);
                if kind == Kind::Startup && asked >= deadline {
                    track.gave_up(spec.probes.start_deadline());
                }
            }
        }
        track.schedule(probe, now);
        self.dirty.insert(id);
    }
}
