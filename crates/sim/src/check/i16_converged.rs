//! I16, with I14: after the last fault, every slot that can be filled is filled by exactly one fit container, every
//! update has ended, a drained node is empty, and nothing is left behind.

use std::collections::BTreeMap;

use model::{
    id::TaskId,
    node::{Availability, NodeState},
    service::{Mode, Promotion, Rollout, RolloutState, Service, Slot},
    task::{DesiredState, Task, TaskState},
};
use store::Store;

use super::i01_linearizable::{self, Verdict};
use crate::{
    engine::{Power, app::Behaviour},
    history::Outcome,
    world::World,
};

/// What is missing, and the words that name it in the trace.
type Missing = (String, Vec<String>);

impl World {
    /// What has not converged yet.
    pub(crate) fn unconverged(&self) -> Option<Missing> {
        let store = self.checks.frontier()?;
        self.hosts_missing(store)
            .or_else(|| store.services().find_map(|service| self.service_missing(store, service)))
            .or_else(|| self.left_behind(store))
            .or_else(|| drained(store))
    }

    fn hosts_missing(&self, store: &Store) -> Option<Missing> {
        for (number, host) in self.managers.iter().enumerate() {
            let applied = host.process.as_ref().map_or(0, |process| process.core.store().applied());
            // Where hundreds of tasks crash and start again, somebody has always just applied some more.
            if applied + self.nodes.len() as u64 / 20 < store.applied() {
                let what = format!("m{number} has applied {applied}, the newest is {}", store.applied());
                return Some((what, vec![format!("m{number}"), "leader".to_owned()]));
            }
            let status = host.process.as_ref().map(|process| process.core.status());
            let votes = |members: &consensus::Membership| {
                members.voters.contains(&host.member) && !members.is_joint()
            };
            if !status.as_ref().is_some_and(|status| votes(&status.membership)) {
                let what = format!("m{number} does not vote: {status:?}");
                return Some((what, vec![format!("m{number}"), "managers".to_owned()]));
            }
        }
        for (number, host) in self.nodes.iter().enumerate() {
            if store.node(host.node).is_none() {
                // It was removed; what it runs nobody sees any more.
                continue;
            }
            let ready = store.node(host.node).is_some_and(|node| node.state == NodeState::Ready);
            let session = host.process.as_ref().is_some_and(|process| process.core.is_in_session());
            let engine = store.node(host.node).is_some_and(|node| node.facts.engine_ok);
            if !ready || !session || !engine || host.engine.power != Power::Up {
                let what =
                    format!("n{number} is ready={ready}, in session={session}, its engine ok={engine}");
                return Some((what, vec![format!("n{number}"), "leader".to_owned()]));
            }
        }
        None
    }

    fn service_missing(&self, store: &Store, service: &Service) -> Option<Missing> {
        let name = &service.spec.name;
        let about = || vec![name.clone(), service.id.to_string()];
        if service.removing {
            let left: Vec<_> = store
                .tasks_of_service(service.id)
                .map(|task| {
                    (task.id, task.desired, task.observed.state, task.node.map(|node| self.name_of(node)))
                })
                .collect();
            return Some((format!("service {name} is still being removed, with {left:?}"), about()));
        }
        if let Some(status) = &service.job {
            // One that goes on ends by its deadline, see there.
            let mut tasks = store.tasks_of_service(service.id);
            let left = tasks.find(|task| status.is_over() && task.is_active());
            return left.map(|task| (format!("job {name} is over and task {} is not", task.id), about()));
        }
        if let Some(rollout) = &service.rollout
            && rollout.state.is_under_way()
            && !waits_for_promotion(rollout)
        {
            return Some((format!("the rollout of service {name} has not ended"), about()));
        }
        let mut slots: BTreeMap<Slot, Vec<&Task>> = match service.spec.mode {
            Mode::Replicated(replicas) => {
                (1..=replicas).map(|slot| (Slot::Replica(slot), Vec::new())).collect()
            }
            Mode::Global => {
                let takes = store.nodes().filter(|node| node.spec.availability == Availability::Active);
                let admits = takes.filter(|node| {
                    service
                        .spec
                        .template
                        .placement
                        .constraints
                        .iter()
                        .all(|constraint| constraint.admits(node))
                });
                admits.map(|node| (Slot::Node(node.id), Vec::new())).collect()
            }
        };
        let paused = |task: &Task| match task.slot {
            Slot::Node(node) => store.node(node).is_some_and(|n| n.spec.availability == Availability::Pause),
            Slot::Replica(_) => false,
        };
        for task in store.replicas_of_service(service.id).filter(|task| task.desired == DesiredState::Running)
        {
            match slots.get_mut(&task.slot) {
                Some(tasks) => tasks.push(task),
                None if task.is_active() && !paused(task) => {
                    return Some((
                        format!("task {} of {name} is in no slot", task.id),
                        vec![task.id.to_string()],
                    ));
                }
                None => {}
            }
        }
        slots.into_iter().find_map(|(slot, tasks)| self.slot_missing(store, service, slot, &tasks))
    }

    fn slot_missing(&self, store: &Store, service: &Service, slot: Slot, tasks: &[&Task]) -> Option<Missing> {
        let name = &service.spec.name;
        let active: Vec<&&Task> = tasks.iter().filter(|task| task.is_active()).collect();
        match active[..] {
            [] => {
                // Ended for good on the newest template, by its policy; or rejected, with the next try on its way.
                let settled =
                    |task: &&Task| matches!(task.observed.state, TaskState::Completed | TaskState::Failed);
                if tasks.iter().any(settled) {
                    return None;
                }
                let states: Vec<_> = store
                    .tasks_of_slot(service.id, slot)
                    .map(|task| (task.id, task.observed.state))
                    .collect();
                let (rollout, time) = (service.rollout.as_ref(), store.time());
                let what =
                    format!("slot {slot} of {name} has no task at {time}, only {states:?}; {rollout:?}");
                Some((what, vec![format!("{name}.{slot} "), "leader=true".to_owned()]))
            }
            [task] => self.task_missing(store, service, task),
            // An update that was given up half-way, or in this slot, waits for a person, the old task and the new one side by side.
            [first, second] if waits_for_a_person(service) && first.template != second.template => {
                let old = if first.template < second.template { first } else { second };
                self.task_missing(store, service, old)
            }
            _ => Some((
                format!("slot {slot} of {name} has {} tasks; {:?}", active.len(), service.rollout),
                vec![format!("{name}.{slot} ")],
            )),
        }
    }

    fn task_missing(&self, store: &Store, service: &Service, task: &Task) -> Option<Missing> {
        let about = || vec![task.id.to_string()];
        let template = service.template_of(task.template)?;
        let sound =
            Behaviour::of(&template.container).0.is_sound() && !template.container.image.contains("missing");
        let Some(node) = task.node else {
            let free = template.placement.constraints.is_empty()
                && template.placement.max_per_node == 0
                && template.container.ports.is_empty()
                && template.container.resources.cpu_reserve_millis == 0;
            let takes = |node: &model::node::Node| {
                let mine = !matches!(task.slot, Slot::Node(own) if own != node.id);
                mine && node.state == NodeState::Ready
                    && node.spec.availability == Availability::Active
                    && node.facts.engine_ok
            };
            let stuck = free && sound && store.nodes().any(takes);
            let what = || {
                let (time, pending, inherited) = (store.time(), &task.pending, &task.inherited);
                format!(
                    "at {time} task {} has no node although any would do: {pending:?} {inherited:?}",
                    task.id
                )
            };
            return stuck.then(|| (what(), about()));
        };
        if !sound {
            return None;
        }
        let host = self.nodes.iter().find(|host| host.node == node)?;
        let live: Vec<_> =
            host.engine.live().filter(|c| c.labels.is_some_and(|labels| labels.task == task.id)).collect();
        let fit = matches!(live[..], [container] if container.is_healthy());
        if !fit || !task.observed.is_healthy() {
            let what = format!(
                "task {} on {} is {:?}/{:?}, with {} live containers",
                task.id,
                host.name,
                task.observed.state,
                task.observed.health,
                live.len()
            );
            return Some((what, about()));
        }
        None
    }

    fn name_of(&self, node: model::id::NodeId) -> String {
        self.nodes.iter().find(|host| host.node == node).map(|host| host.name.clone()).unwrap_or_default()
    }

    /// Containers that nobody wants.
    fn left_behind(&self, store: &Store) -> Option<Missing> {
        for (number, host) in self.nodes.iter().enumerate() {
            if store.node(host.node).is_none() {
                continue;
            }
            for container in host.engine.containers.values() {
                let Some(labels) = container.labels else { continue };
                if !container.is_live() {
                    if store.task(labels.task).is_none() {
                        let what =
                            format!("container {} of forgotten task {} is left", container.id, labels.task);
                        return Some((what, vec![container.id.clone(), labels.task.to_string()]));
                    }
                    continue;
                }
                let wanted = store
                    .task(labels.task)
                    .is_some_and(|task| task.is_active() && task.node == Some(host.node));
                if !wanted {
                    let what =
                        format!("container {} of task {} still runs on n{number}", container.id, labels.task);
                    return Some((what, vec![container.id.clone(), labels.task.to_string()]));
                }
            }
        }
        None
    }

    /// Every history has an order that explains it.
    pub(crate) fn check_histories(&mut self) {
        let histories = self.clients.history.clone();
        for (name, calls) in histories {
            // A read that nobody answered says nothing.
            let telling: Vec<_> = calls
                .iter()
                .filter(|call| call.ask != crate::history::Ask::Read || call.outcome != Outcome::Unknown)
                .cloned()
                .collect();
            match i01_linearizable::check(&telling) {
                Verdict::Linearizable => self.checks.count("histories linearizable"),
                Verdict::Undecided => self.checks.count("histories undecided"),
                Verdict::Broken(call) => {
                    let what =
                        format!("the history of {name} has no order; nothing explains {:?}", telling[call]);
                    return self.violate("I1", what, vec!["client".to_owned()]);
                }
            }
        }
    }
}

fn waits_for_a_person(service: &Service) -> bool {
    service.rollout.as_ref().is_some_and(|rollout| {
        let over = matches!(rollout.state, RolloutState::Done | RolloutState::RolledBack);
        let stopped = rollout.state == RolloutState::Paused || waits_for_promotion(rollout);
        stopped || (over && !rollout.message.is_empty())
    })
}

fn waits_for_promotion(rollout: &Rollout) -> bool {
    rollout.state == RolloutState::AwaitingPromotion
        && rollout.holding().is_some_and(|canary| canary.promotion == Promotion::Manual)
}

fn drained(store: &Store) -> Option<Missing> {
    for node in store.nodes().filter(|node| node.spec.availability == Availability::Drain) {
        let left: Vec<TaskId> =
            store.tasks_on_node(node.id).filter(|task| task.may_have_container()).map(|t| t.id).collect();
        if let Some(task) = left.first() {
            let what = format!("{} is drained and still has task {task}", node.facts.hostname);
            return Some((what, vec![task.to_string(), node.facts.hostname.clone()]));
        }
    }
    None
}
