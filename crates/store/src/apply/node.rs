//! Nodes: joining, registering, falling silent, leaving.

use std::{collections::BTreeSet, sync::Arc};

use model::{
    command::{Answer, Rejection},
    event::ObjectChange,
    id::{Generation, NodeId, TaskId, TokenId},
    identity::JoinRole,
    node::{Availability, Facts, Incarnation, Node, NodeSpec, NodeState},
    route::MAX_NODE_NUMBER,
    task::{Observed, Task, TaskState},
};

use super::expect_generation;
use crate::{requests::Outcome, resolve::missing, write::Writer};

impl Writer<'_> {
    pub(super) fn join_node(
        &mut self,
        id: NodeId,
        token: TokenId,
        facts: &Facts,
        serial: u64,
        key: Option<&String>,
    ) -> Outcome {
        let token = self.usable_token(token, JoinRole::Agent)?;
        let cluster = self.next_serial(serial)?;
        if self.store.nodes.contains_key(&id) || self.store.removed_nodes.contains(&id) {
            return Err(Rejection::Conflict(format!("node id {id} is or was taken; ask again")));
        }
        self.use_token(&token);
        self.take_serial(&cluster, serial);
        let node = Node {
            id,
            generation: self.generation,
            spec: token.node_spec.clone(),
            facts: facts.clone(),
            state: NodeState::Joining,
            since: self.at,
            message: "joined, not connected yet".into(),
            incarnation: Incarnation(0),
            joined: self.at,
            certificate: serial,
            number: self.free_number(),
            proven: None,
            key: key.cloned(),
        };
        self.node_event(&node, ObjectChange::Created, format!("joined as {}", node.spec.class));
        self.put_node(node);
        Ok(Answer::Node { id, generation: self.generation })
    }

    /// The lowest /24 that no node has; 0 when there is none.
    fn free_number(&self) -> u8 {
        let taken: BTreeSet<u8> = self.store.nodes().map(|node| node.number).collect();
        (1..=MAX_NODE_NUMBER).find(|number| !taken.contains(number)).unwrap_or(0)
    }

    pub(super) fn update_node(
        &mut self,
        id: NodeId,
        expected: Option<Generation>,
        spec: &NodeSpec,
    ) -> Outcome {
        let old = self.known(id)?;
        if let Some(expected) = expected {
            expect_generation("node", &old.facts.hostname, expected, old.generation)?;
        }
        if old.spec == *spec {
            return Ok(Answer::Node { id, generation: old.generation });
        }
        let message = match (old.spec.availability == spec.availability, spec.availability) {
            (true, _) => "class or labels changed",
            (_, Availability::Active) => "takes tasks",
            (_, Availability::Pause) => "takes no new task",
            (_, Availability::Drain) => "is drained",
        };
        let mut node = (*old).clone();
        node.spec = spec.clone();
        self.change_node(node, message);
        Ok(Answer::Node { id, generation: self.generation })
    }

    pub(super) fn remove_node_of(&mut self, id: NodeId, force: bool) -> Outcome {
        let node = self.known(id)?;
        if node.state != NodeState::Down && !force {
            return Err(Rejection::Conflict(format!(
                "node \"{}\" is not down; drain it and stop its agent first, or use force",
                node.facts.hostname
            )));
        }
        let tasks: Vec<TaskId> = self.store.tasks_on_node(id).map(|task| task.id).collect();
        for task in tasks {
            self.lose(task, "its node was removed");
        }
        self.remove_node(id);
        self.node_event(&node, ObjectChange::Removed, "removed; its certificate is refused from now on");
        Ok(Answer::Node { id, generation: self.generation })
    }

    /// Ends a task that nobody will report on again; one that has ended stays as it is.
    pub(super) fn lose(&mut self, id: TaskId, reason: &str) {
        let Some(old) = self.store.tasks.get(&id).cloned() else { return };
        if !old.observed.state.is_terminal() {
            self.end_task(&old, TaskState::Lost, reason);
        }
    }

    /// Ends a task by the managers' word.
    pub(super) fn end_task(&mut self, old: &Task, state: TaskState, reason: &str) {
        let mut task = old.clone();
        task.observed.state = state;
        task.observed.message = reason.to_owned();
        task.since = self.at;
        task.healthy_since = None;
        task.pending = None;
        task.generation = self.generation;
        self.task_event(&task, reason);
        self.put_task(task);
    }

    pub(super) fn node_up(&mut self, id: NodeId, incarnation: Incarnation, facts: &Facts) -> Outcome {
        let old = self.known(id)?;
        if incarnation < old.incarnation {
            return Err(Rejection::Conflict(format!(
                "registration {} of node \"{}\" is older than {}",
                incarnation.0, old.facts.hostname, old.incarnation.0
            )));
        }
        let anew = incarnation > old.incarnation;
        if !anew && old.state == NodeState::Ready && old.facts == *facts {
            return Ok(Answer::Node { id, generation: old.generation });
        }
        let mut node = (*old).clone();
        node.incarnation = incarnation;
        node.facts = facts.clone();
        node.message = String::new();
        if node.number == 0 {
            node.number = self.free_number();
        }
        if anew || node.state != NodeState::Ready {
            node.state = NodeState::Ready;
            node.since = self.at;
        }
        self.change_node(node, if anew { "registered anew" } else { "connected" });
        if anew {
            self.forget_observations(id);
        }
        Ok(Answer::Node { id, generation: self.generation })
    }

    /// A new registration means that the machine or its agent's memory began anew: nothing that was observed before holds
    /// until it is reported again, and attempts are counted from the start.
    fn forget_observations(&mut self, node: NodeId) {
        let held = self
            .store
            .tasks_on_node(node)
            .filter(|task| !task.observed.state.is_terminal() && task.observed.state > TaskState::Assigned);
        let held: Vec<Task> = held.cloned().collect();
        for mut task in held {
            task.observed = Observed {
                state: TaskState::Assigned,
                message: "its node registered anew".into(),
                restarts: task.observed.restarts,
                attempts: std::mem::take(&mut task.observed.attempts),
                ..Observed::default()
            };
            task.since = self.at;
            task.healthy_since = None;
            task.generation = self.generation;
            self.task_event(&task, task.observed.message.clone());
            self.put_task(task);
        }
    }

    pub(super) fn node_facts(&mut self, id: NodeId, incarnation: Incarnation, facts: &Facts) -> Outcome {
        let old = self.known(id)?;
        if incarnation != old.incarnation {
            return Err(Rejection::Conflict(format!(
                "node \"{}\" is registered as {}, not {}",
                old.facts.hostname, old.incarnation.0, incarnation.0
            )));
        }
        if old.facts != *facts {
            let mut node = (*old).clone();
            node.facts = facts.clone();
            let message = match (old.facts.engine_ok, facts.engine_ok) {
                (true, false) => "its engine does not answer",
                (false, true) => "its engine answers",
                _ => "reported other facts",
            };
            self.change_node(node, message);
        }
        Ok(Answer::Done)
    }

    pub(super) fn node_down(&mut self, id: NodeId, expected: Generation, message: &str) -> Outcome {
        let old = self.known(id)?;
        expect_generation("node", &old.facts.hostname, expected, old.generation)?;
        if old.state != NodeState::Down {
            let mut node = (*old).clone();
            node.state = NodeState::Down;
            node.since = self.at;
            message.clone_into(&mut node.message);
            self.change_node(node, message);
        }
        Ok(Answer::Done)
    }

    pub(super) fn known(&self, id: NodeId) -> Result<Arc<Node>, Rejection> {
        self.store.nodes.get(&id).cloned().ok_or_else(|| missing("node", id))
    }

    fn change_node(&mut self, mut node: Node, message: &str) {
        node.generation = self.generation;
        self.node_event(&node, ObjectChange::Updated, message);
        self.put_node(node);
    }
}
