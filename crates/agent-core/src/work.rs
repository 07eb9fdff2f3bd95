//! From dirty tasks to calls, writes and reports. The only place that hands calls to the engine.

use model::{
    id::{ClusterId, NodeId, TaskId},
    time::Instant,
};

use planted::Bug;

use crate::{
    action::Action,
    agent::{Agent, Owner},
    answer,
    engine::{EngineCall, EngineError, EngineErrorKind, OpOutcome},
    pulls::May,
    reconcile::{self, Step},
    stored::StoreWrite,
    task::Call,
};

/// Characters kept of what the engine says.
const MAX_MESSAGE: usize = 500;

impl Agent {
    /// Looks at every task that something happened to, and at those whose turn it has become by it.
    pub(crate) fn evaluate_all(&mut self, now: Instant) {
        loop {
            while let Some(task) = self.dirty.pop_first() {
                self.evaluate(task, now);
            }
            let granted = if self.engine.is_ready() {
                self.starts.grant().or_else(|| self.pulls.grant())
            } else {
                None
            };
            match granted {
                Some(task) => self.dirty.insert(task),
                None => return,
            };
        }
    }

    fn evaluate(&mut self, id: TaskId, now: Instant) {
        if self.fetches.contains_key(&id) {
            return self.step_fetch(id, now);
        }
        let Some(task) = self.tasks.get_mut(&id) else {
            self.release(id);
            return;
        };
        let free = self.engine.is_ready() && self.pending.is_durable(task.gate);
        if free {
            self.probe(id, now);
        }
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if free {
            task.settle(&self.traffic);
            task.refuse_unsigned();
        }
        if !task.leaving && task.unsaved {
            task.unsaved = false;
            self.pending.records.insert(id);
            task.gate = self.pending.gate(id);
        }
        if task.is_known() {
            self.reports.note(id, &task.observed, now);
        }
        if task.is_over() {
            self.wipe_files(id);
        }
        let Some(task) = self.tasks.get_mut(&id) else { return };
        if free && self.pending.is_durable(task.gate) {
            self.step(id, now);
        } else if task.op.is_none() {
            self.release(id);
        }
    }

    fn step(&mut self, id: TaskId, now: Instant) {
        self.cancel_useless(id);
        let Some(task) = self.tasks.get(&id) else { return };
        let step = match (reconcile::next_step(task, now), self.hold_until) {
            (Step::Do(Call::Pull | Call::Create | Call::Start { .. }), Some(until))
                if task.resumed && now < until =>
            {
                Step::Wait(until)
            }
            (step, _) => step,
        };
        if task.op.is_none() {
            if step != Step::Do(Call::Pull) {
                self.pulls.release(id);
                self.end_pull(id);
            }
            if !matches!(step, Step::Do(Call::Create | Call::Start { .. })) {
                self.starts.release(id);
            }
        }
        match step {
            Step::Idle => {}
            Step::Wait(at) => {
                self.timers.insert((at, id));
            }
            Step::Do(call) => {
                if let Err(at) = self.must_wait(id, &call, now) {
                    self.timers.extend(at.map(|at| (at, id)));
                } else if self.may(id, &call) && self.has_leave(id, &call, now) {
                    self.call(id, call, now);
                }
            }
            Step::Forget => {
                self.tasks.remove(&id);
                self.reports.forget(id);
                self.wipe_files(id);
            }
        }
    }

    /// A container that is no longer wanted stops when nothing of its traffic is under way; one is made when the addresses of its
    /// networks are known. Until when to wait; `None` within: until something changes.
    fn must_wait(&mut self, id: TaskId, call: &Call, now: Instant) -> Result<(), Option<Instant>> {
        let Some(task) = self.tasks.get_mut(&id) else { return Ok(()) };
        match call {
            Call::Stop { .. } if !task.is_wanted() => self.drained(id, now).map_err(Some),
            Call::Start { .. } => self.files_ready(id, now).inspect_err(|_| self.note_wait(id, now)),
            Call::Create => {
                let mut names = task.spec().into_iter().flat_map(|spec| &spec.networks);
                let Some(name) = names.find(|name| self.traffic.network(name).is_none()) else {
                    return self.files_ready(id, now).inspect_err(|_| self.note_wait(id, now));
                };
                task.observed.message = format!("waits for this node's addresses in network {name}");
                self.starts.release(id);
                Err(None)
            }
            _ => Ok(()),
        }
    }

    fn note_wait(&mut self, id: TaskId, now: Instant) {
        if let Some(task) = self.tasks.get(&id) {
            self.reports.note(id, &task.observed, now);
        }
    }

    /// Starts and pulls wait for their turn; everything else is done at once.
    fn may(&mut self, id: TaskId, call: &Call) -> bool {
        let queue = match call {
            Call::Pull => &mut self.pulls,
            Call::Create | Call::Start { .. } => &mut self.starts,
            Call::Stop { .. }
            | Call::Remove { .. }
            | Call::Look { .. }
            | Call::LookByName
            | Call::Diagnose { .. } => return true,
        };
        let Some(task) = self.tasks.get(&id) else { return false };
        queue.request(id, task.service, task.is_failing());
        queue.holds(id)
    }

    /// A pull is asked for first.
    fn has_leave(&mut self, id: TaskId, call: &Call, now: Instant) -> bool {
        if *call != Call::Pull {
            return true;
        }
        let Some(task) = self.tasks.get(&id) else { return false };
        let EngineCall::Pull { image, .. } =
            reconcile::engine_call(task, call, self.cluster, &self.traffic, None)
        else {
            return true;
        };
        match self.may_pull(id, &image, now) {
            May::Begin => true,
            May::Wait(until, queued) => {
                self.timers.insert((until, id));
                if let Some(task) = self.tasks.get_mut(&id).filter(|_| queued) {
                    answer::waits_for_pull(task);
                    self.reports.note(id, &task.observed, now);
                }
                false
            }
        }
    }

    fn call(&mut self, id: TaskId, call: Call, now: Instant) {
        let (begun, login) = self.begin_pull(id);
        let Some(task) = self.tasks.get_mut(&id) else { return };
        answer::begun(task, &call);
        if call == Call::Pull {
            task.prepare.begun = begun;
        }
        let engine_call = reconcile::engine_call(task, &call, self.cluster, &self.traffic, login);
        self.next_op += 1;
        task.op = Some((self.next_op, call));
        task.settle(&self.traffic);
        if !task.leaving {
            self.reports.note(id, &task.observed, now);
        }
        self.ops.insert(self.next_op, Owner::Task(id));
        self.actions.push_back(Action::Engine { op: self.next_op, call: engine_call });
    }

    /// A task that is no longer wanted waits neither for its image nor for a diagnosis.
    fn cancel_useless(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(&id).filter(|task| !task.is_wanted()) else { return };
        if let Some((op, Call::Pull | Call::Diagnose { .. })) = task.op {
            task.op = None;
            self.ops.remove(&op);
            self.actions.push_back(Action::CancelEngine { op });
        }
    }

    fn release(&mut self, id: TaskId) {
        self.starts.release(id);
        self.pulls.release(id);
        self.end_pull(id);
    }

    /// The engine answered a call.
    pub(crate) fn engine_done(&mut self, op: u64, outcome: Result<OpOutcome, EngineError>, now: Instant) {
        self.note_answer(&outcome, now);
        let outcome = outcome.map_err(bounded);
        match self.ops.remove(&op) {
            Some(Owner::Task(id)) => {
                let Some(task) = self.tasks.get_mut(&id) else { return };
                let Some((_, call)) = task.op.take_if(|(own, _)| *own == op) else { return };
                if outcome.is_err() && matches!(call, Call::Create | Call::Start { .. }) {
                    self.files.doubt(id);
                }
                let outcome = only_ours(outcome, self.cluster, self.node);
                answer::answered(task, call, outcome, &mut Self::context(&mut self.rng, now));
                self.dirty.insert(id);
            }
            Some(Owner::Fetch(name)) => self.fetch_answered(name, outcome, now),
            Some(Owner::ResolveImage { connection, image }) => {
                self.image_resolved(connection, image, outcome)
            }
            // An answer after a cancellation.
            Some(Owner::Ping) | None => {}
        }
    }

    fn note_answer(&mut self, outcome: &Result<OpOutcome, EngineError>, now: Instant) {
        let news = match outcome.as_ref().map_err(|error| error.kind) {
            Err(EngineErrorKind::Unavailable | EngineErrorKind::Timeout) => self.engine.silent(),
            Ok(_) | Err(_) => self.engine.heard(now),
        };
        if news {
            self.refresh_facts();
        }
    }

    /// Asks a silent engine whether it lives.
    pub(crate) fn ping(&mut self, now: Instant) {
        if self.engine.ping_at().is_some_and(|at| at <= now) {
            self.engine.pinged(now);
            let waits = self.ops.values().any(|owner| matches!(owner, Owner::Ping));
            if !waits {
                self.next_op += 1;
                self.ops.insert(self.next_op, Owner::Ping);
                self.actions.push_back(Action::Engine { op: self.next_op, call: EngineCall::Ping });
            }
        }
    }

    /// Issues what was collected as one write.
    pub(crate) fn store(&mut self, now: Instant) {
        if self.pending.is_empty() {
            return;
        }
        let tasks = &self.tasks;
        let record = |id: TaskId| Some((id, tasks.get(&id).filter(|task| !task.leaving)?.record(now)));
        let write = StoreWrite {
            fence: std::mem::take(&mut self.pending.fence)
                .then(|| self.assignments.fence())
                .flatten()
                .filter(|_| !planted::is(Bug::FenceNotStored)),
            managers: std::mem::take(&mut self.pending.managers).then(|| self.session.managers().to_vec()),
            assignments: std::mem::take(&mut self.pending.assignments).into_values().collect(),
            removed: std::mem::take(&mut self.pending.removed).into_iter().collect(),
            records: std::mem::take(&mut self.pending.records).into_iter().filter_map(record).collect(),
        };
        let sequence = self.pending.issue();
        self.actions.push_back(Action::Store { sequence, write: Box::new(write) });
    }
}

/// What the engine says goes into reports and records: a sentence, not a page.
fn bounded(mut error: EngineError) -> EngineError {
    if let Some((end, _)) = error.message.char_indices().nth(MAX_MESSAGE) {
        error.message.truncate(end);
        error.message.push('…');
    }
    error
}

/// A container that carries other labels than ours is somebody else's, whatever its name.
fn only_ours(
    outcome: Result<OpOutcome, EngineError>,
    cluster: ClusterId,
    node: NodeId,
) -> Result<OpOutcome, EngineError> {
    match outcome {
        Ok(OpOutcome::Container(view)) if (view.labels.cluster, view.labels.node) != (cluster, node) => {
            let message = format!("the name is taken by container {}, which is not this node's", view.id);
            Err(EngineError { kind: EngineErrorKind::Conflict, message })
        }
        other => other,
    }
}
