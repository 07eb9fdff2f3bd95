//! What agents observed.
//!
//! An agent may be wrong, late or hostile: it speaks only of tasks that its node holds, under its present registration; an
//! ended task stays ended; an older attempt never hides a newer one; and what it says is cut to a size.

use model::{
    command::Answer,
    id::NodeId,
    node::Incarnation,
    session::TaskReport,
    task::{Attempt, Exit, MAX_ATTEMPTS_KEPT, Observed, Task, TaskState},
};

use crate::{intern::Texts, requests::Outcome, write::Writer};

/// Bytes kept of any text of a report: enough for an engine's error, and a bound on what a node can make all managers keep.
const MAX_TEXT: usize = 512;
/// Addresses kept: more than any container may have.
const MAX_NETWORKS: usize = 16;
/// Bound ports kept: more than any service may publish.
const MAX_PORTS: usize = 256;

impl Writer<'_> {
    pub(super) fn observe(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        reports: &[TaskReport],
    ) -> Outcome {
        if self.known(node)?.incarnation == incarnation {
            for report in reports {
                self.observe_task(node, report);
            }
        }
        Ok(Answer::Done)
    }

    fn observe_task(&mut self, node: NodeId, report: &TaskReport) {
        let Some(old) = self.store.tasks.get(&report.task).cloned() else { return };
        if old.node != Some(node)
            || old.observed.state.is_terminal()
            || report.observed.state == TaskState::Pending
            || report.observed.attempt < old.observed.attempt
        {
            return;
        }
        let observed = clip(&report.observed, &mut self.store.images);
        if observed == old.observed {
            return;
        }
        let mut task = (*old).clone();
        let before = std::mem::replace(&mut task.observed, observed);
        self.stamp(&mut task, &before);
        let (now, then) = (&task.observed, &before);
        if (now.state, now.health, now.attempt) != (then.state, then.health, then.attempt) {
            let message = describe(now);
            self.task_event(&task, message);
        }
        self.put_task(task);
    }

    /// Since when the state holds and the process is healthy: of the same attempt it goes on, another begins anew.
    fn stamp(&self, task: &mut Task, before: &Observed) {
        let same_attempt = task.observed.attempt == before.attempt;
        if task.observed.state != before.state || !same_attempt {
            task.since = self.at;
        }
        task.healthy_since = match task.observed.is_healthy() {
            false => None,
            true => task.healthy_since.filter(|_| same_attempt).or(Some(self.at)),
        };
        task.generation = self.generation;
    }
}

fn describe(observed: &Observed) -> String {
    match &observed.exit {
        Some(exit) if observed.message.is_empty() && observed.state != TaskState::Running => {
            let oom = if exit.oom { ", out of memory" } else { "" };
            format!("exit code {}{oom}", exit.code)
        }
        _ => observed.message.clone(),
    }
}

fn clip(observed: &Observed, images: &mut Texts) -> Observed {
    let attempts = observed.attempts.len().saturating_sub(MAX_ATTEMPTS_KEPT);
    Observed {
        state: observed.state,
        health: observed.health,
        attempt: observed.attempt,
        restarts: observed.restarts,
        container: clip_text(&observed.container),
        image: images.share(clipped(&observed.image)),
        message: clip_text(&observed.message),
        exit: observed.exit.as_deref().map(clip_exit).map(Box::new),
        attempts: observed.attempts[attempts..].iter().map(clip_attempt).collect(),
        ports: observed.ports.iter().take(MAX_PORTS).copied().collect(),
        addresses: observed.addresses.iter().take(MAX_NETWORKS).copied().collect(),
    }
}

fn clip_attempt(attempt: &Attempt) -> Attempt {
    Attempt {
        number: attempt.number,
        container: clip_text(&attempt.container),
        ran: attempt.ran,
        exit: clip_exit(&attempt.exit),
    }
}

fn clip_exit(exit: &Exit) -> Exit {
    Exit { code: exit.code, oom: exit.oom, message: clip_text(&exit.message) }
}

fn clip_text(text: &str) -> String {
    clipped(text).to_owned()
}

fn clipped(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}
