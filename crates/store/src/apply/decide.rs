//! The managers' own decisions. Each names what it was decided on, and is rejected when that has changed: two leaders, or
//! one with an old view, can never fill a slot twice (invariant I4).

use std::sync::Arc;

use model::{
    command::{Decision, Rejection},
    event::ObjectChange,
    id::{Generation, NodeId, ServiceId, TaskId, TokenId},
    node::{Availability, NodeState},
    service::{Mode, Rollout, Service, Slot, UpdateOrder},
    task::{DesiredState, Observed, PendingReason, Task, TaskState},
};

use planted::Bug;

use super::expect_generation;
use crate::{resolve::missing, write::Writer};

pub(super) type Decided = Result<(), Rejection>;

impl Writer<'_> {
    pub(super) fn decide(&mut self, decision: &Decision) -> Decided {
        match decision {
            Decision::CreateTask { id, service, slot, template, node, pending, inherited, alongside } => {
                let task = Task {
                    id: *id,
                    generation: self.generation,
                    service: *service,
                    slot: *slot,
                    template: *template,
                    node: *node,
                    desired: DesiredState::Running,
                    observed: Observed { state: state_on(*node), ..Observed::default() },
                    created: self.at,
                    since: self.at,
                    healthy_since: None,
                    pending: node.is_none().then(|| Box::new(pending.clone().unwrap_or_default())),
                    inherited: inherited.clone(),
                    faulted: None,
                };
                self.create_task(task, *alongside)
            }
            Decision::AssignTask { id, expected, node } => self.assign_task(*id, *expected, *node),
            Decision::ExplainPending { id, expected, reason } => self.explain_pending(*id, *expected, reason),
            Decision::StopTask { id, expected, service, keeps, node, reason } => {
                if let Some(kept) =
                    keeps.filter(|kept| !self.store.tasks.get(kept).is_some_and(|task| task.is_active()))
                {
                    return conflict(format!(
                        "task {kept}, which was to be kept in place of {id}, is not active any more"
                    ));
                }
                self.stop_task(*id, *expected, (*service, *node), reason)
            }
            Decision::LoseTask { id, expected, reason } => self.lose_task(*id, *expected, reason),
            Decision::ReapTask { id, expected } => self.reap_task(*id, *expected),
            Decision::SetRollout { service, expected, rollout } => {
                self.set_rollout(*service, *expected, rollout)
            }
            Decision::RollBack { service, expected, reason } => self.roll_back(*service, *expected, reason),
            Decision::DropService { service, expected } => self.drop_service(*service, *expected),
            Decision::EndJob { service, expected, state, message } => {
                self.end_job(*service, *expected, *state, message)
            }
            Decision::RemoveJob { service, expected } => self.remove_job(*service, *expected),
            Decision::RunCron { cron, expected, due, next, step } => {
                self.run_cron(*cron, *expected, (*due, *next), step)
            }
            Decision::DropToken { id } => self.drop_token(*id),
        }
    }
}

impl Writer<'_> {
    fn create_task(&mut self, task: Task, alongside: Option<TaskId>) -> Decided {
        if self.store.tasks.contains_key(&task.id) {
            return conflict(format!("task id {} is taken", task.id));
        }
        let service = self.changeable(task.service)?;
        if !service.templates.contains_key(&task.template) {
            return conflict(format!(
                "service \"{}\" has no template {}",
                service.spec.name, task.template.0
            ));
        }
        self.slot_exists(&service, task.slot, task.node)?;
        self.job_takes(&service, task.slot, alongside)?;
        if let Some(node) = task.node {
            self.node_takes_tasks(node)?;
        }
        if task.slot == Slot::HOOK && task.template != service.template {
            return conflict(format!(
                "the hook of service \"{}\" is another release's by now",
                service.spec.name
            ));
        }
        self.slot_is_free(&service, task.slot, alongside)?;
        let message = task.pending.as_ref().map_or_else(String::new, |pending| pending.message.clone());
        self.task_event(&task, message);
        self.put_task(task);
        Ok(())
    }

    /// `alongside` was decided on while the service was start-first; it may be stop-first again by now. What `auto` comes to
    /// is for whoever decided.
    fn slot_is_free(&self, service: &Service, slot: Slot, alongside: Option<TaskId>) -> Decided {
        let alongside = alongside.filter(|_| service.spec.update.order != UpdateOrder::StopFirst);
        let mut active = self.store.tasks_of_slot(service.id, slot).filter(|task| task.is_active());
        match active.find(|task| Some(task.id) != alongside) {
            None => Ok(()),
            Some(_) if planted::is(Bug::SlotFilledTwice) => Ok(()),
            Some(other) => {
                let name = &service.spec.name;
                conflict(format!("slot {slot} of service \"{name}\" is filled by task {}", other.id))
            }
        }
    }

    /// A slot is a place of its service now, and a global service's slot is filled on its own node only.
    fn slot_exists(&self, service: &Service, slot: Slot, node: Option<NodeId>) -> Decided {
        let name = &service.spec.name;
        match (service.spec.mode, slot) {
            (Mode::Replicated(replicas), Slot::Replica(number)) if (1..=replicas).contains(&number) => Ok(()),
            (Mode::Global, Slot::Node(of)) if node.is_none_or(|node| node == of) => {
                self.known(of).map(|_| ())
            }
            (Mode::Global, Slot::Node(of)) => {
                conflict(format!("slot {of} of service \"{name}\" is filled on that node only"))
            }
            (_, Slot::HOOK) if service.rollout.as_ref().and_then(Rollout::awaited_hook).is_some() => Ok(()),
            (Mode::Replicated(_) | Mode::Global, _) => {
                conflict(format!("service \"{name}\" has no slot {slot}"))
            }
        }
    }

    fn node_takes_tasks(&self, id: NodeId) -> Decided {
        let node = self.known(id)?;
        match (node.state, node.spec.availability) {
            (NodeState::Ready, Availability::Active) => Ok(()),
            (NodeState::Joining | NodeState::Down, _) => {
                conflict(format!("node \"{}\" is not ready", node.facts.hostname))
            }
            (NodeState::Ready, Availability::Pause | Availability::Drain) => {
                conflict(format!("node \"{}\" takes no tasks", node.facts.hostname))
            }
        }
    }

    fn assign_task(&mut self, id: TaskId, expected: Generation, node: NodeId) -> Decided {
        let old = self.unplaced(id, expected)?;
        if matches!(old.slot, Slot::Node(of) if of != node) {
            return conflict(format!("task {id} is bound to node {}", old.slot));
        }
        self.node_takes_tasks(node)?;
        let mut task = (*old).clone();
        task.node = Some(node);
        task.pending = None;
        task.observed.state = TaskState::Assigned;
        task.since = self.at;
        self.change_task(task, "");
        Ok(())
    }

    fn explain_pending(&mut self, id: TaskId, expected: Generation, reason: &PendingReason) -> Decided {
        let old = self.unplaced(id, expected)?;
        if old.pending.as_deref() != Some(reason) {
            let task = Task { pending: Some(Box::new(reason.clone())), ..(*old).clone() };
            self.change_task(task, &reason.message);
        }
        Ok(())
    }

    /// A service that was scaled to nothing and back at once wants the tasks whose stop was decided in between; so does one whose node
    /// was drained and activated at once.
    fn stop_task(
        &mut self,
        id: TaskId,
        expected: Generation,
        (service, node): (Option<Generation>, Option<Generation>),
        reason: &str,
    ) -> Decided {
        let old = self.task_at(id, expected)?;
        if let (Some(expected), Some(service)) = (service, self.store.services.get(&old.service)) {
            expect_generation("service", &service.spec.name, expected, service.generation)?;
        }
        let on = old.node.and_then(|node| self.store.nodes.get(&node));
        if let (Some(expected), Some(node)) = (node, on) {
            expect_generation("node", &node.facts.hostname, expected, node.generation)?;
        }
        if old.desired == DesiredState::Stopped {
            return Ok(());
        }
        let task = Task { desired: DesiredState::Stopped, ..(*old).clone() };
        if task.node.is_none() && !task.observed.state.is_terminal() {
            self.end_task(&task, TaskState::Stopped, reason);
        } else {
            self.change_task(task, reason);
        }
        Ok(())
    }

    fn lose_task(&mut self, id: TaskId, expected: Generation, reason: &str) -> Decided {
        let old = self.task_at(id, expected)?;
        if old.observed.state.is_terminal() {
            return conflict(format!("task {id} has ended: {}", old.observed.state));
        }
        self.lose(id, reason);
        Ok(())
    }

    fn reap_task(&mut self, id: TaskId, expected: Generation) -> Decided {
        let old = self.task_at(id, expected)?;
        if !old.observed.state.is_terminal() {
            return conflict(format!("task {id} has not ended: {}", old.observed.state));
        }
        self.remove_task(id);
        if self.store.template_uses(old.service, old.template) == 0 {
            self.trim_templates(old.service);
        }
        Ok(())
    }

    fn set_rollout(&mut self, id: ServiceId, expected: Generation, rollout: &Rollout) -> Decided {
        let old = self.service_at(id, expected)?;
        if rollout.target != old.template {
            return conflict(format!(
                "the newest template of service \"{}\" is {}, not {}",
                old.spec.name, old.template.0, rollout.target.0
            ));
        }
        if old.rollout.as_ref() == Some(rollout) {
            return Ok(());
        }
        self.move_rollout(&old, rollout.clone());
        Ok(())
    }

    fn roll_back(&mut self, id: ServiceId, expected: Generation, reason: &str) -> Decided {
        let old = self.service_at(id, expected)?;
        self.return_to_previous(&old, reason)
    }

    fn drop_service(&mut self, id: ServiceId, expected: Generation) -> Decided {
        let old = self.store.services.get(&id).cloned().ok_or_else(|| missing("service", id))?;
        expect_generation("service", &old.spec.name, expected, old.generation)?;
        if !old.removing {
            return conflict(format!("nobody removed service \"{}\"", old.spec.name));
        }
        if self.store.tasks_of_service(id).next().is_some() {
            return conflict(format!("service \"{}\" still has tasks", old.spec.name));
        }
        self.remove_service(id);
        self.service_event(&old, ObjectChange::Removed, "removed");
        Ok(())
    }

    fn drop_token(&mut self, id: TokenId) -> Decided {
        let token = self.store.tokens.get(&id).cloned().ok_or_else(|| missing("token", id))?;
        let message = match (token.uses_left, token.expires <= self.at) {
            (0, _) => "used up",
            (_, true) => "expired",
            (_, false) => return conflict(format!("token {id} is still good")),
        };
        self.remove_token(id);
        self.token_event(id, ObjectChange::Removed, message);
        Ok(())
    }

    fn task_at(&self, id: TaskId, expected: Generation) -> Result<Arc<Task>, Rejection> {
        let task = self.store.tasks.get(&id).cloned().ok_or_else(|| missing("task", id))?;
        expect_generation("task", id, expected, task.generation)?;
        Ok(task)
    }

    /// A task that waits for a node.
    fn unplaced(&self, id: TaskId, expected: Generation) -> Result<Arc<Task>, Rejection> {
        let task = self.task_at(id, expected)?;
        if task.node.is_some() || !task.is_active() {
            let message = format!("task {id} does not wait for a node: {}", task.observed.state);
            return Err(Rejection::Conflict(message));
        }
        Ok(task)
    }

    pub(super) fn service_at(&self, id: ServiceId, expected: Generation) -> Result<Arc<Service>, Rejection> {
        let service = self.changeable(id)?;
        expect_generation("service", &service.spec.name, expected, service.generation)?;
        Ok(service)
    }

    fn change_task(&mut self, mut task: Task, message: &str) {
        task.generation = self.generation;
        self.task_event(&task, message);
        self.put_task(task);
    }
}

fn state_on(node: Option<NodeId>) -> TaskState {
    if node.is_some() { TaskState::Assigned } else { TaskState::Pending }
}

pub(super) fn conflict(message: String) -> Decided {
    Err(Rejection::Conflict(message))
}
