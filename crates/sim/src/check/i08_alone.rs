//! I8: with or without managers, a container that ended is started again by its policy.

use std::collections::BTreeMap;

use model::{
    id::TaskId,
    service::RestartCondition,
    task::{DesiredState, TaskState},
};

use crate::{
    engine::{Happening, Power},
    queue::{SEC, Time},
    world::{Event, World},
};

/// What an agent may take beyond the policy's longest pause: an engine that starts slowly, several at once.
const SLACK: Time = 20 * SEC;
/// A crash loop's starts are counted over this span.
const WINDOW: Time = 10 * SEC;
/// More starts of one task than this within the span are no backoff: the pauses of 0, 0.1, 0.2, 0.4, 0.8, 1, 1… s.
const MAX_STARTS: usize = 20;

/// When a task's containers started.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    by_task: BTreeMap<TaskId, Vec<Time>>,
}

/// A task whose container ended must have started again by now.
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    node: usize,
    task: TaskId,
    ended: Time,
}

impl World {
    /// A container started.
    pub(crate) fn started(&mut self, node: usize, happening: &Happening) {
        let now = self.now();
        let Some(labels) = happening.labels else { return };
        let starts = self.checks.starts.by_task.entry(labels.task).or_default();
        starts.retain(|at| *at + WINDOW >= now);
        starts.push(now);
        let many = starts.len() > MAX_STARTS;
        if many && self.nodes[node].disturbed + WINDOW < now {
            let what = format!("task {} was started {MAX_STARTS} times within 10 s", labels.task);
            self.violate("I15", what, vec![labels.task.to_string()]);
        }
    }

    /// A container ended: unless somebody wanted that, it comes back.
    pub(crate) fn died(&mut self, node: usize, happening: &Happening) {
        let now = self.now();
        let Some(labels) = happening.labels else { return };
        let Some(store) = self.checks.frontier() else { return };
        let Some(task) = store.task(labels.task) else { return };
        let Some(template) =
            store.service(task.service).and_then(|service| service.template_of(task.template))
        else {
            return;
        };
        let policy = &template.restart;
        if task.desired != DesiredState::Running
            || policy.condition != RestartCondition::Any
            || policy.max_attempts.is_some()
        {
            return;
        }
        let pause = 2 * policy.max_delay.as_nanos() as Time;
        let deadline = Deadline { node, task: labels.task, ended: now };
        self.queue.after(pause + SLACK, Event::Deadline(deadline));
    }

    pub(crate) fn deadline(&mut self, deadline: &Deadline) {
        let host = &self.nodes[deadline.node];
        let Some(process) = &host.process else { return };
        let quiet = host.disturbed < deadline.ended && host.is_awake() && host.engine.power == Power::Up;
        let waits = process.core.tasks().find(|(task, _)| *task == deadline.task);
        let Some((_, observed)) = waits.filter(|_| quiet) else { return };
        self.checks.count("restarts watched");
        let again = self
            .checks
            .starts
            .by_task
            .get(&deadline.task)
            .is_some_and(|starts| starts.last().is_some_and(|at| *at >= deadline.ended));
        let wanted = self
            .checks
            .frontier()
            .and_then(|store| store.task(deadline.task))
            .is_some_and(|task| task.is_active());
        let stuck = matches!(
            observed.state,
            TaskState::Running | TaskState::Restarting | TaskState::CrashLoop | TaskState::Starting
        );
        if !again && wanted && stuck {
            let (task, node) = (deadline.task, deadline.node);
            let what = format!(
                "task {task} on n{node} ended and was not started again; its agent says {:?}",
                observed.state
            );
            self.violate("I8", what, vec![task.to_string()]);
        }
    }
}
