//! One task on this node: what is wanted, what is observed, and what every answer of the engine changes about it.
//!
//! Nothing here calls the engine. Answers and events change the picture; [`crate::reconcile`] looks at the picture and
//! names the next call. At most one call per task is under way, so a picture never has two authors.

use std::{collections::BTreeMap, time::Duration};

use model::{
    container::ContainerSpec,
    id::{ServiceId, TaskId},
    probe::Diagnosis,
    service::RestartCondition,
    session::Assignment,
    signature,
    task::{Attempt, DesiredState, Exit, Health, MAX_ATTEMPTS_KEPT, Observed, TaskState},
    time::Instant,
};
use rand_chacha::ChaCha8Rng;

use crate::{
    container::{Container, Phase},
    engine::{ContainerStatus, ContainerView},
    exit,
    prepare::Prepare,
    restart::{self, End, History, Verdict},
    stored::TaskRecord,
    traffic::{Drain, Traffic, addresses},
};

/// What every change of the picture may use.
pub(crate) struct Context<'a> {
    pub now: Instant,
    pub rng: &'a mut ChaCha8Rng,
}

/// The call under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    Pull,
    Create,
    Start { container: String },
    Stop { container: String },
    Remove { container: String },
    Look { container: String },
    LookByName,
    Diagnose { container: String },
}

/// One task.
#[derive(Debug)]
pub(crate) struct Task {
    pub id: TaskId,
    pub service: ServiceId,
    /// `None` for containers of a task that this agent was never told of, or has forgotten.
    pub assignment: Option<Assignment>,
    /// No longer in the desired set: its containers go, then it is forgotten.
    pub leaving: bool,
    /// Nothing is done before this write is durable.
    pub gate: u64,
    /// The engine has listed its containers since the agent began: what is observed is true, not only remembered.
    pub verified: bool,
    /// The attempt that exists, or the next one to be made.
    pub attempt: u32,
    pub containers: BTreeMap<String, Container>,
    pub observed: Observed,
    pub history: History,
    pub prepare: Prepare,
    pub op: Option<(u64, Call)>,
    /// No attempt before this time.
    pub retry_at: Option<Instant>,
    /// No look, stop or removal before this time: the last one failed.
    pub pause_until: Option<Instant>,
    /// The record changed and is to be stored.
    pub unsaved: bool,
    /// The agent took it up again after a restart: the present attempt may have been begun, and told, before.
    pub resumed: bool,
    /// The wait before its container is stopped.
    pub drain: Drain,
}

impl Task {
    /// A task as assigned, with what was stored of it.
    pub(crate) fn new(assignment: Assignment, record: Option<TaskRecord>, gate: u64, now: Instant) -> Self {
        let record = record.unwrap_or_else(|| TaskRecord {
            observed: Observed { state: TaskState::Assigned, ..Default::default() },
            ..Default::default()
        });
        let mut task = Self::blank(assignment.task, assignment.service, gate);
        let used = match record.observed.state {
            TaskState::Restarting | TaskState::CrashLoop => record.observed.attempt,
            state if state.is_terminal() => record.observed.attempt,
            _ => record.observed.attempt.saturating_sub(1),
        };
        task.attempt = used.saturating_add(1);
        task.history = History {
            failures: record.failures,
            restarts: record.restarts.iter().map(|age| Instant(now.0.saturating_sub(nanos(*age)))).collect(),
        };
        if matches!(record.observed.state, TaskState::Restarting | TaskState::CrashLoop) {
            task.retry_at = Some(now + restart::pause_again(&assignment.restart, &task.history));
        }
        task.assignment = Some(assignment);
        task.observed = record.observed;
        task
    }

    /// A task that is only known by a container's labels.
    pub(crate) fn stranger(id: TaskId, service: ServiceId, gate: u64) -> Self {
        Self { leaving: true, verified: true, ..Self::blank(id, service, gate) }
    }

    fn blank(id: TaskId, service: ServiceId, gate: u64) -> Self {
        Self {
            id,
            service,
            assignment: None,
            leaving: false,
            gate,
            verified: false,
            attempt: 1,
            containers: BTreeMap::new(),
            observed: Observed::default(),
            history: History::default(),
            prepare: Prepare::default(),
            op: None,
            retry_at: None,
            pause_until: None,
            unsaved: false,
            resumed: false,
            drain: Drain::NotBegun,
        }
    }

    /// What to remember of it.
    pub(crate) fn record(&self, now: Instant) -> TaskRecord {
        TaskRecord {
            observed: self.observed.clone(),
            failures: self.history.failures,
            restarts: self.history.restarts.iter().map(|at| now.since(*at)).collect(),
        }
    }

    /// Its container is to run.
    pub(crate) fn is_wanted(&self) -> bool {
        let wanted = |a: &Assignment| a.desired == DesiredState::Running;
        !self.leaving && self.assignment.as_ref().is_some_and(wanted) && !self.observed.state.is_terminal()
    }

    /// Nothing of it runs, and nothing will again.
    pub(crate) fn is_over(&self) -> bool {
        let runs = self.containers.values().any(|container| container.phase == Phase::Running);
        self.observed.state.is_terminal() && self.verified && !runs
    }

    /// The managers still want it running; it may have ended for good all the same.
    pub(crate) fn is_kept(&self) -> bool {
        !self.leaving && self.assignment.as_ref().is_some_and(|a| a.desired == DesiredState::Running)
    }

    /// What is observed of it is true, not only remembered: it can be told.
    pub(crate) fn is_known(&self) -> bool {
        !self.leaving && (self.verified && !self.awaits_probes() || self.observed.state.is_terminal())
    }

    /// The container of the present attempt.
    pub(crate) fn current(&self) -> Option<(&String, &Container)> {
        self.containers.iter().find(|(_, c)| c.attempt == self.attempt)
    }

    /// Whether its attempts end one after the other.
    pub(crate) fn is_failing(&self) -> bool {
        self.history.failures > 1
    }

    /// An unhealthy container is replaced only where an ended one would be.
    pub(crate) fn restarts_unfit(&self) -> bool {
        self.assignment.as_ref().is_some_and(|a| a.restart.condition != RestartCondition::None)
    }

    /// What a container is asked before it is stopped as unhealthy.
    pub(crate) fn diagnosis(&self) -> Option<&Diagnosis> {
        self.spec()?.probes.diagnosis.as_ref()
    }

    pub(crate) fn spec(&self) -> Option<&ContainerSpec> {
        self.assignment.as_ref().map(|a| &*a.container)
    }

    /// The engine's whole list of this task's containers. What is not on it is doubted, not forgotten: a call may have
    /// made it after the list was taken.
    pub(crate) fn listed(&mut self, views: &[ContainerView], context: &mut Context<'_>) {
        for (id, container) in &mut self.containers {
            container.doubted |= !views.iter().any(|view| view.id == *id);
        }
        // The newest attempt first: what ended before it has been dealt with.
        let mut newest_first: Vec<_> = views.iter().collect();
        newest_first.sort_by_key(|view| std::cmp::Reverse(view.labels.attempt));
        for view in newest_first {
            let revived = self.containers.get(&view.id).is_some_and(|c| c.phase == Phase::Ended)
                && matches!(view.status, ContainerStatus::Running { .. });
            if revived {
                self.doubt(&view.id);
            } else {
                self.seen(view, true, context);
            }
        }
        self.verified = true;
        self.pause_until = None;
    }

    /// A container as an answer or a list shows it. `away`: an end happened while nobody watched.
    pub(crate) fn seen(&mut self, view: &ContainerView, away: bool, context: &mut Context<'_>) {
        let attempt = view.labels.attempt;
        if attempt > self.attempt {
            self.attempt = attempt;
            self.prepare = Prepare::default();
            self.retry_at = None;
        }
        let is_new = !self.containers.contains_key(&view.id);
        let container = self.containers.entry(view.id.clone()).or_insert_with(|| Container::new(attempt));
        container.adopted |= is_new && matches!(view.status, ContainerStatus::Running { .. });
        container.doubted = false;
        container.image.clone_from(&view.image);
        match &view.status {
            ContainerStatus::Created => {}
            ContainerStatus::Running { health, check, running_for } => {
                if container.phase != Phase::Ended {
                    container.phase = Phase::Running;
                    container.started = Some(Instant(context.now.0.saturating_sub(nanos(*running_for))));
                    container.health = *health;
                    container.check.clone_from(check);
                    container.ports.clone_from(&view.ports);
                    container.addresses.clone_from(&view.addresses);
                }
            }
            ContainerStatus::Ended { exit, ran } => {
                let (exit, ran) = (exit.clone(), *ran);
                self.ended(&view.id.clone(), exit, ran, away, context);
            }
        }
    }

    /// A look shows that an ended container runs again: somebody else started it.
    pub(crate) fn looked(&mut self, view: &ContainerView, context: &mut Context<'_>) {
        if matches!(view.status, ContainerStatus::Running { .. })
            && let Some(container) = self.containers.get_mut(&view.id)
        {
            container.phase = Phase::Created;
            container.probing = None;
        }
        self.seen(view, true, context);
    }

    /// It was made, as the event stream says. One that nobody here waits for was asked for by a former life of this agent, of an
    /// engine that hung meanwhile: it is looked at, and then used or removed like any other.
    pub(crate) fn event_created(&mut self, id: &str, attempt: u32) {
        let ours = matches!(self.op, Some((_, Call::Create))) && attempt == self.attempt;
        let new = || Container { doubted: !ours, ..Container::new(attempt) };
        self.containers.entry(id.to_owned()).or_insert_with(new);
    }

    /// The process started, as the event stream says.
    pub(crate) fn event_started(&mut self, id: &str, attempt: u32) {
        let ours = matches!(&self.op, Some((_, Call::Start { container })) if container == id);
        if !ours {
            self.containers.entry(id.to_owned()).or_insert_with(|| Container::new(attempt)).doubted = true;
        }
    }

    /// The process ended, as the event stream says.
    pub(crate) fn event_died(&mut self, id: &str, code: i64, context: &mut Context<'_>) {
        let Some(container) = self.containers.get(id) else { return };
        let ran = container.started.map_or(Duration::ZERO, |started| context.now.since(started));
        let exit = Exit { code, oom: container.out_of_memory && code == 137, message: String::new() };
        self.ended(id, exit, ran, false, context);
    }

    /// It is not there any more; if it ran, that ended it.
    pub(crate) fn gone(&mut self, id: &str, context: &mut Context<'_>) {
        let Some(container) = self.containers.get(id) else { return };
        if container.phase == Phase::Running {
            let ran = container.started.map_or(Duration::ZERO, |started| context.now.since(started));
            let message = "its container was removed by somebody else".to_owned();
            self.ended(id, Exit { code: 137, oom: false, message }, ran, false, context);
        }
        self.containers.remove(id);
    }

    pub(crate) fn doubt(&mut self, id: &str) {
        if let Some(container) = self.containers.get_mut(id) {
            container.doubted = true;
        }
    }

    fn ended(&mut self, id: &str, exit: Exit, ran: Duration, away: bool, context: &mut Context<'_>) {
        let spec = self.assignment.as_ref().map(|a| a.container.clone());
        let Some(container) = self.containers.get_mut(id).filter(|c| c.phase != Phase::Ended) else { return };
        let (attempt, unfit) = (container.attempt, container.unfit);
        let stable = if container.has_started() { ran } else { Duration::ZERO };
        let unhealthy = unfit.then(|| format!("unhealthy: {}", container.fitness().1));
        container.phase = Phase::Ended;
        container.ports.clear();
        if attempt != self.attempt || self.leaving || self.observed.state.is_terminal() {
            return;
        }
        let message = unhealthy.unwrap_or_else(|| cause(&exit, spec.as_deref()));
        let exit = Exit { message, ..exit };
        let failed = unfit || exit.oom || exit.code != 0;
        self.remember(Attempt { number: attempt, container: id.to_owned(), ran, exit });
        if self.is_wanted() {
            self.follow(End { failed, ran: stable, blameless: away }, context);
        }
        self.unsaved = true;
    }

    fn remember(&mut self, attempt: Attempt) {
        let observed = &mut self.observed;
        observed.attempt = attempt.number;
        observed.container.clone_from(&attempt.container);
        observed.exit = Some(Box::new(attempt.exit.clone()));
        observed.attempts.push(attempt);
        let surplus = observed.attempts.len().saturating_sub(MAX_ATTEMPTS_KEPT);
        observed.attempts.drain(..surplus);
        observed.health = Health::None;
        observed.ports.clear();
    }

    /// What follows from the end of a wanted container.
    fn follow(&mut self, end: End, context: &mut Context<'_>) {
        let policy = &self.assignment.as_ref().expect("a wanted task has an assignment").restart;
        let verdict = restart::judge(policy, &mut self.history, end, context.now, context.rng);
        let cause = self.observed.exit.as_ref().map(|exit| exit.message.clone()).unwrap_or_default();
        let observed = &mut self.observed;
        match verdict {
            Verdict::Restart { after, crash_loop } => {
                observed.state = if crash_loop { TaskState::CrashLoop } else { TaskState::Restarting };
                observed.restarts = observed.restarts.saturating_add(1);
                observed.message = match after {
                    Duration::ZERO => cause,
                    after => format!("{cause}; next attempt in {}", exit::seconds(after)),
                };
                self.attempt = self.attempt.saturating_add(1);
                self.prepare = Prepare::default();
                self.retry_at = Some(context.now + after);
            }
            Verdict::Completed => {
                observed.state = TaskState::Completed;
                observed.message.clear();
            }
            Verdict::Failed { reason } => {
                observed.state = TaskState::Failed;
                observed.message = match reason {
                    Some(reason) => format!("{cause}; {reason}"),
                    None => cause,
                };
            }
        }
    }

    /// The node cannot run it: the managers choose another place.
    pub(crate) fn reject(&mut self, message: String) {
        self.observed.state = TaskState::Rejected;
        self.observed.message = message;
        self.unsaved = true;
    }

    /// No container is made, and nothing pulled, of an image whose signatures do not hold.
    pub(crate) fn refuse_unsigned(&mut self) {
        let waits = self.verified && self.is_wanted() && self.current().is_none();
        if !waits || self.leaving || self.observed.state.is_terminal() {
            return;
        }
        let flaw = self.spec().and_then(|spec| Some((spec.image.clone(), signature::check(spec).err()?)));
        if let Some((image, flaw)) = flaw {
            self.reject(format!("a signature of image {image} does not hold on this node: {flaw}"));
        }
    }

    /// Brings the observed state in line with the containers.
    pub(crate) fn settle(&mut self, traffic: &Traffic) {
        if self.leaving || !self.verified || self.observed.state.is_terminal() {
            return;
        }
        if !self.is_wanted() {
            self.settle_stopping();
        } else if !self.awaits_probes() {
            self.settle_running(traffic);
        }
    }

    fn settle_running(&mut self, traffic: &Traffic) {
        let Some((id, container)) = self.current() else { return };
        if container.phase != Phase::Running || container.doubted {
            return;
        }
        let (id, (health, why), image) = (id.clone(), container.fitness(), container.image.clone());
        let ports = container.ports.clone();
        let addresses = self
            .assignment
            .as_ref()
            .map(|assignment| addresses(container, assignment, traffic))
            .unwrap_or_default();
        let observed = &mut self.observed;
        if observed.state != TaskState::Running || observed.container != id {
            observed.state = TaskState::Running;
            observed.message.clear();
            self.prepare = Prepare::default();
        }
        if !why.is_empty() || !matches!(observed.health, Health::None | Health::Healthy) {
            observed.message = why;
        }
        observed.attempt = self.attempt;
        observed.container = id;
        observed.health = health;
        if *observed.image != image {
            observed.image = image.into();
        }
        (observed.ports, observed.addresses) = (ports, addresses);
    }

    fn settle_stopping(&mut self) {
        let uncertain = self.prepare.name_doubted
            || matches!(self.op, Some((_, Call::Create | Call::Start { .. } | Call::LookByName)))
            || self.containers.values().any(|c| c.doubted);
        if self.containers.values().any(|c| c.phase == Phase::Running) {
            self.observed.state = TaskState::Stopping;
        } else if !uncertain {
            self.observed.state = TaskState::Stopped;
            // A report on an older attempt than the managers have heard of would be passed over.
            if self.resumed {
                self.observed.attempt = self.observed.attempt.max(self.attempt);
            }
            self.observed.message.clear();
            self.observed.health = Health::None;
            self.unsaved = true;
        }
    }
}

fn cause(exit: &Exit, spec: Option<&ContainerSpec>) -> String {
    if exit.message.is_empty() { exit::words(exit, spec) } else { exit.message.clone() }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
