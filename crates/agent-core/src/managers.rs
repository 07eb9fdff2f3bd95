//! The conversation with the manager: greeting, desired sets, questions.

use model::{
    session::{AgentMessage, Assignment, AssignmentSet, Fence, ManagerMessage, PROTOCOL, TaskReport},
    time::Instant,
};

use crate::{
    action::Action,
    agent::{Agent, Owner},
    assignment::{Difference, Outcome},
    container::Container,
    engine::{EngineCall, EngineError, OpOutcome},
    task::Task,
};

impl Agent {
    pub(crate) fn manager_connected(&mut self, connection: u64) {
        if !self.session.is_current(connection) {
            return;
        }
        let reports = self.known();
        self.reports.restart(&reports);
        self.told_facts = self.facts.clone();
        let fence = self.assignments.fence();
        let hello = AgentMessage::Hello {
            protocol: PROTOCOL,
            facts: self.facts.clone(),
            fence,
            hash: self.assignments.hash(),
            incarnation: fence.map(|fence| fence.incarnation),
            reports,
        };
        self.actions.push_back(Action::Send { connection, message: Box::new(hello) });
    }

    /// What is known to be true. What was only remembered from before a restart is left out until the engine has
    /// listed its containers: the managers' memory is at least as good.
    fn known(&self) -> Vec<TaskReport> {
        let known = |task: &&Task| task.is_known();
        let report = |task: &Task| TaskReport { task: task.id, observed: task.observed.clone() };
        self.tasks.values().filter(known).map(report).collect()
    }

    pub(crate) fn manager_closed(&mut self, connection: u64, now: Instant) {
        if self.session.is_current(connection) {
            self.session.closed(now);
            self.session_ended(now);
        }
    }

    pub(crate) fn session_ended(&mut self, now: Instant) {
        self.leaves.session_ended(now);
        self.dirty.extend(self.leaves.unasked());
        self.assignments.close();
        self.traffic.close();
        self.confirmed = false;
    }

    pub(crate) fn manager_message(&mut self, connection: u64, message: ManagerMessage, now: Instant) {
        if !self.session.is_current(connection) {
            return;
        }
        self.session.heard(now);
        match message {
            ManagerMessage::Welcome { protocol, fence, heartbeat, managers } => {
                self.learn(managers);
                self.welcome(fence, (protocol, heartbeat), now);
            }
            ManagerMessage::Redirect { leader, managers } => {
                self.learn(managers);
                self.session.follow(leader.map(|leader| leader.address), now, &mut self.actions);
                self.session_ended(now);
            }
            ManagerMessage::Refused { message } => {
                self.session.refused(&message, now, &mut self.actions);
                self.session_ended(now);
            }
            ManagerMessage::HeartbeatAck { .. } => {}
            ManagerMessage::Assign(set) => self.assign(set, now),
            ManagerMessage::Routes(change) => self.route(*change),
            ManagerMessage::Managers(managers) => self.learn(managers),
            ManagerMessage::ResolveImage { image } => self.resolve_image(connection, image),
            ManagerMessage::PullGranted { pull, login } => self.pull_granted(pull, login),
            ManagerMessage::Fetch(wishes) => self.fetch(wishes),
            ManagerMessage::PullQueued { pull } => self.pull_queued(pull, now),
            ManagerMessage::Files { task, answer } => self.files_answered(task, answer, now),
            ManagerMessage::Authority { bundle, renew } => {
                self.actions.push_back(Action::Authority { bundle, renew });
            }
            ManagerMessage::OpenLogs { stream, task, options } => {
                let containers = self.containers_of(task);
                self.actions.push_back(Action::OpenLogs { connection, stream, task, containers, options });
            }
        }
    }

    fn welcome(&mut self, fence: Fence, (protocol, heartbeat): (u32, std::time::Duration), now: Instant) {
        match self.assignments.open(fence) {
            Ok(()) => {
                self.pending.fence = true;
                self.session.welcome(protocol, heartbeat, now);
                self.dirty.extend(self.leaves.unasked());
                // Those that wait for files ask this manager.
                self.dirty.extend(self.tasks.keys().copied());
            }
            Err(reason) => self.leave(&reason, now),
        }
    }

    fn leave(&mut self, reason: &str, now: Instant) {
        self.session.leave(reason, now, &mut self.actions);
        self.session_ended(now);
    }

    fn learn(&mut self, managers: Vec<model::session::ManagerAddress>) {
        self.pending.managers |= self.session.learn(managers);
    }

    fn assign(&mut self, set: AssignmentSet, now: Instant) {
        match self.assignments.apply(set) {
            Outcome::Applied(difference) => self.take(difference, now),
            Outcome::NeedFullSet => self.tell(AgentMessage::NeedFullSet),
            Outcome::Ignored => {}
            Outcome::Refused(reason) => self.leave(&reason, now),
        }
    }

    fn take(&mut self, difference: Difference, now: Instant) {
        self.pending.fence = true;
        for assignment in difference.upserted {
            self.upsert(assignment, now);
        }
        for id in difference.removed {
            self.pending.removed.insert(id);
            self.pending.assignments.remove(&id);
            self.reports.forget(id);
            if let Some(task) = self.tasks.get_mut(&id) {
                task.leaving = true;
                task.gate = self.pending.gate(id);
                self.dirty.insert(id);
            }
        }
        self.confirmed = true;
        if self.hold_until.take().is_some() {
            self.dirty.extend(self.tasks.keys().copied());
        }
        self.expel_strangers();
        self.wipe_strange_files();
    }

    fn upsert(&mut self, assignment: Assignment, now: Instant) {
        let id = assignment.task;
        let gate = self.pending.gate(id);
        self.pending.removed.remove(&id);
        self.pending.assignments.insert(id, assignment.clone());
        self.dirty.insert(id);
        if let Some(task) = self.tasks.get_mut(&id) {
            task.assignment = Some(assignment);
            task.leaving = false;
            task.gate = gate;
            return;
        }
        let mut task = Task::new(assignment, None, gate, now);
        task.verified = self.engine.is_ready();
        for (container, labels) in self.strangers.extract_if(.., |_, labels| labels.task == id) {
            adopt(&mut task, container, labels.attempt);
        }
        self.tasks.insert(id, task);
    }

    /// Containers that a confirmed set does not know: they are ours by their labels, and nobody wants them.
    pub(crate) fn expel_strangers(&mut self) {
        if !self.confirmed {
            return;
        }
        for (container, labels) in std::mem::take(&mut self.strangers) {
            let gate = self.pending.gate(labels.task);
            let stranger = || Task::stranger(labels.task, labels.service, gate);
            adopt(self.tasks.entry(labels.task).or_insert_with(stranger), container, labels.attempt);
            self.dirty.insert(labels.task);
            // The gate must open: something has to be written.
            self.pending.fence = true;
        }
    }

    fn resolve_image(&mut self, connection: u64, image: String) {
        self.next_op += 1;
        let call = EngineCall::ResolveImage { image: image.clone() };
        self.ops.insert(self.next_op, Owner::ResolveImage { connection, image });
        self.actions.push_back(Action::Engine { op: self.next_op, call });
    }

    pub(crate) fn image_resolved(
        &mut self,
        connection: u64,
        image: String,
        outcome: Result<OpOutcome, EngineError>,
    ) {
        let outcome = match outcome {
            Ok(OpOutcome::Resolved(pin)) => Ok(pin),
            Ok(_) => Err("the engine gave another answer than asked for".to_owned()),
            Err(error) => Err(error.message),
        };
        if self.session.is_current(connection) {
            self.tell(AgentMessage::ImageResolved { image, outcome });
        }
    }

    /// A task's containers, oldest first.
    fn containers_of(&self, task: model::id::TaskId) -> Vec<(u32, String)> {
        let Some(task) = self.tasks.get(&task) else { return Vec::new() };
        let mut containers: Vec<_> = task.containers.iter().map(|(id, c)| (c.attempt, id.clone())).collect();
        containers.sort();
        containers
    }
}

/// The container is this task's; what it does shows a look.
fn adopt(task: &mut Task, container: String, attempt: u32) {
    task.attempt = task.attempt.max(attempt);
    task.containers.entry(container).or_insert_with(|| Container::new(attempt)).doubted = true;
}
