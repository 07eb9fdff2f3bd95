//! Whether a service has become what was declared: a pure judgement of one view.
//!
//! Converged means: each wanted slot has a healthy task on the current template, no rollout is under way, and no other
//! task may still have a container. Tasks on a node that is down are not waited for, because nobody can say when it
//! returns; the cluster ends them when it does.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    id::NodeId,
    node::NodeState,
    request::ServiceView,
    service::{Mode, Promotion, Rollout, RolloutState, Service, Slot, TemplateVersion},
    task::{DesiredState, Task, TaskState},
};

use crate::output::{event, progress::Line, rows};

/// Failed tasks that are named: a few are enough to see the cause.
const FAILURES_TOLD: usize = 3;

/// Names and states of nodes.
pub type Nodes = BTreeMap<NodeId, (String, NodeState)>;

/// What is waited for.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// The rollout before the change: its end says nothing about the change.
    pub before: Option<Rollout>,
    /// The change asks for the previous template: its return is a success.
    pub rollback: bool,
    /// How many tasks a global service should have.
    pub global_tasks: u32,
    /// A line tells how far the release has come.
    pub release: bool,
}

/// Where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// On the way.
    Working,
    /// As declared.
    Converged,
    /// The rollout failed and the previous template is back.
    RolledBack(String),
    /// The rollout failed and waits for a person.
    Paused(String),
    /// Every slot has ended for good, and some failed.
    Failed(String),
}

/// A judgement, with a line per slot.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// Where it stands.
    pub verdict: Verdict,
    /// The slots and whatever else is still there.
    pub lines: Vec<Line>,
}

/// How far one slot has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Working,
    Done,
    Failed,
}

/// Judges a view. Linear in the tasks.
pub fn judge(view: &ServiceView, expected: &Expected, nodes: &Nodes) -> Judgement {
    let service = &view.service;
    let ours = service.rollout.as_ref().filter(|rollout| expected.before.as_ref() != Some(*rollout));
    let frozen = ours.is_none() && state_of(service) == Some(RolloutState::Paused);
    let mut lines: Vec<Line> =
        ours.filter(|_| expected.release).map(|rollout| release_line(service, rollout)).into_iter().collect();
    let mut main_tasks = BTreeSet::new();
    let mut slots = Vec::new();
    for slot in wanted_slots(view, expected) {
        let task = slot.and_then(|slot| main_task(view, slot));
        main_tasks.extend(task.map(|task| task.id));
        let standing = task.map_or(Standing::Working, |task| standing(task, service, frozen));
        slots.push(standing);
        lines.push(slot_line(service, slot, task, standing, nodes));
    }
    let leftovers =
        view.tasks.iter().filter(|task| task.may_have_container() && !main_tasks.contains(&task.id));
    let leftovers: Vec<&Task> = leftovers.filter(|task| !is_away(task, nodes)).collect();
    for task in &leftovers {
        let label = format!("{} ({})", event::task_name(&service.spec.name, task.slot), task.id);
        lines.push(Line { label, text: task_text(task, nodes), done: false });
    }
    Judgement { verdict: verdict(view, expected, ours, &slots, leftovers.is_empty(), nodes), lines }
}

/// How far a job has come: a line for each of its slots that has begun, and one for all.
pub fn job(view: &ServiceView, nodes: &Nodes) -> Vec<Line> {
    let service = &view.service;
    let slots: BTreeSet<Slot> = view.tasks.iter().map(|task| task.slot).collect();
    let mains: Vec<(Slot, &Task)> =
        slots.into_iter().filter_map(|slot| Some((slot, job_task(view, slot)?))).collect();
    let done = mains.iter().filter(|(_, task)| task.observed.state == TaskState::Completed).count();
    let of = match service.spec.mode {
        Mode::Replicated(completions) => format!("{done} of {completions} completed"),
        Mode::Global => format!("{done} nodes completed"),
    };
    let mut lines = vec![Line { label: service.spec.name.clone(), text: of, done: false }];
    lines.extend(mains.into_iter().map(|(slot, task)| {
        let standing =
            if task.observed.state == TaskState::Completed { Standing::Done } else { Standing::Working };
        slot_line(service, Some(slot), Some(task), standing, nodes)
    }));
    lines
}

/// The task of a slot that completed, or the newest one.
fn job_task(view: &ServiceView, slot: Slot) -> Option<&Task> {
    let tasks = view.tasks.iter().filter(|task| task.slot == slot);
    tasks.max_by_key(|task| (task.observed.state == TaskState::Completed, task.is_active(), task.created))
}

fn verdict(
    view: &ServiceView,
    expected: &Expected,
    ours: Option<&Rollout>,
    slots: &[Standing],
    no_leftovers: bool,
    nodes: &Nodes,
) -> Verdict {
    match ours.map(|rollout| (rollout.state, rollout)) {
        Some((RolloutState::Paused, rollout)) => return Verdict::Paused(failure(view, rollout, nodes)),
        Some((RolloutState::RolledBack, rollout)) if !expected.rollback => {
            return Verdict::RolledBack(failure(view, rollout, nodes));
        }
        // A person decides: there is nothing to wait for until then.
        Some((RolloutState::AwaitingPromotion, rollout)) if waits_for_a_person(rollout) => {
            return Verdict::Converged;
        }
        _ => {}
    }
    if view.service.is_rolling() || !no_leftovers || slots.contains(&Standing::Working) {
        return Verdict::Working;
    }
    if slots.contains(&Standing::Failed) {
        return Verdict::Failed(failures(view, None, nodes).join("\n"));
    }
    Verdict::Converged
}

fn waits_for_a_person(rollout: &Rollout) -> bool {
    rollout.holding().is_some_and(|canary| canary.promotion == Promotion::Manual)
}

fn release_line(service: &Service, rollout: &Rollout) -> Line {
    let label = format!("{} release {}", service.spec.name, rollout.target.0);
    let mut text = event::rollout(rollout.state).to_owned();
    if let Some(canary) = rollout.holding().filter(|_| rollout.state.is_under_way()) {
        text.push_str(&format!(", {} first", canary.replicas));
    }
    if !rollout.message.is_empty() {
        text.push_str(&format!(": {}", rollout.message));
    }
    let done = matches!(rollout.state, RolloutState::Done | RolloutState::RolledBack);
    Line { label, text, done }
}

fn state_of(service: &Service) -> Option<RolloutState> {
    service.rollout.as_ref().map(|rollout| rollout.state)
}

/// The slots that must be filled; `None` for a task of a global service that does not exist yet.
fn wanted_slots(view: &ServiceView, expected: &Expected) -> Vec<Option<Slot>> {
    match view.service.spec.mode {
        Mode::Replicated(replicas) => (1..=replicas).map(|number| Some(Slot::Replica(number))).collect(),
        Mode::Global => {
            // The hook of a release is no task of a node.
            let wanted = view.tasks.iter().filter(|task| task.slot != Slot::HOOK);
            let wanted = wanted.filter(|task| task.desired == DesiredState::Running);
            let mut slots: Vec<Option<Slot>> =
                wanted.map(|task| task.slot).collect::<BTreeSet<_>>().into_iter().map(Some).collect();
            slots.resize(slots.len().max(expected.global_tasks as usize), None);
            slots
        }
    }
}

/// The task that stands for a slot: wanted before unwanted, newer template before older.
fn main_task(view: &ServiceView, slot: Slot) -> Option<&Task> {
    let tasks = view.tasks.iter().filter(|task| task.slot == slot && task.desired == DesiredState::Running);
    tasks.max_by_key(|task| (task.is_active(), task.template, task.created))
}

fn standing(task: &Task, service: &Service, frozen: bool) -> Standing {
    if !is_current(task, service) && !frozen {
        return Standing::Working;
    }
    match task.observed.state {
        TaskState::Completed => Standing::Done,
        TaskState::Failed => Standing::Failed,
        _ if task.observed.is_healthy() => Standing::Done,
        _ => Standing::Working,
    }
}

/// Whether a task runs what is declared now: a rollback leaves tasks alone that carry an older template of the same contents
/// and the same image, under its old number.
fn is_current(task: &Task, service: &Service) -> bool {
    let (theirs, newest) = (task.template, service.template);
    let same_contents =
        || service.template_of(theirs).is_some_and(|t| Some(t) == service.template_of(newest));
    let same_image = || service.pins.get(&theirs) == service.pins.get(&newest);
    theirs == newest || (same_contents() && same_image())
}

fn slot_line(
    service: &Service,
    slot: Option<Slot>,
    task: Option<&Task>,
    standing: Standing,
    nodes: &Nodes,
) -> Line {
    let name = &service.spec.name;
    let label = match slot {
        Some(Slot::Replica(_)) | None => {
            slot.map_or(format!("{name}.?"), |slot| event::task_name(name, slot))
        }
        Some(Slot::Node(node)) => format!("{name}@{}", node_name(node, nodes)),
    };
    let mut text = task.map_or("waiting for a task".into(), |task| task_text(task, nodes));
    if standing == Standing::Working && task.is_some_and(|task| !is_current(task, service)) {
        text.push_str(" (old)");
    }
    Line { label, text, done: standing == Standing::Done }
}

fn task_text(task: &Task, nodes: &Nodes) -> String {
    let mut text = rows::state(&task.observed, task.desired);
    if let Some(node) = task.node {
        text.push_str(&format!(" on {}", node_name(node, nodes)));
    }
    let why = rows::why(&task.observed, task.pending.as_deref().filter(|_| task.node.is_none()));
    if !why.is_empty() {
        text.push_str(&format!(": {why}"));
    }
    text
}

/// A node's name, its id where it is not known.
pub fn node_name(node: NodeId, nodes: &Nodes) -> String {
    nodes.get(&node).map_or_else(|| node.to_string(), |(name, _)| name.clone())
}

fn is_away(task: &Task, nodes: &Nodes) -> bool {
    task.node.and_then(|node| nodes.get(&node)).is_some_and(|(_, state)| *state == NodeState::Down)
}

/// The rollout's message and what its failed tasks said.
fn failure(view: &ServiceView, rollout: &Rollout, nodes: &Nodes) -> String {
    let mut lines = vec![if rollout.message.is_empty() {
        format!("rollout {}", event::rollout(rollout.state))
    } else {
        format!("rollout {}: {}", event::rollout(rollout.state), rollout.message)
    }];
    // After a way back the tasks to blame are those of the release that was left.
    let blamed = match rollout.state {
        RolloutState::RolledBack => rollout.from,
        _ => Some(rollout.target),
    };
    lines.extend(failures(view, blamed, nodes));
    lines.join("\n  ")
}

/// The newest failed tasks of the service, or of one release.
fn failures(view: &ServiceView, release: Option<TemplateVersion>, nodes: &Nodes) -> Vec<String> {
    let failed = |task: &&Task| {
        let exit = task.observed.exit.as_ref().is_some_and(|exit| exit.code != 0 || exit.oom);
        exit || matches!(task.observed.state, TaskState::Failed | TaskState::Rejected | TaskState::CrashLoop)
    };
    let ours = |task: &&Task| release.is_none_or(|release| task.template == release);
    let mut tasks: Vec<&Task> = view.tasks.iter().filter(failed).filter(ours).collect();
    tasks.sort_by_key(|task| std::cmp::Reverse((task.template, task.since)));
    let newest = tasks.first().map(|task| task.template);
    let mut told: Vec<String> = Vec::new();
    for task in tasks.iter().filter(|task| Some(task.template) == newest) {
        let name = event::task_name(&view.service.spec.name, task.slot);
        let mut text = format!("{name}: {}", task_text(task, nodes));
        if let Some(exit) = task.observed.exit.as_ref().filter(|exit| !text.contains(&exit.code.to_string()))
        {
            text.push_str(&format!(" (exit code {})", exit.code));
        }
        // A slot that was tried again and again fails for the same reason each time.
        if told.len() < FAILURES_TOLD && !told.contains(&text) {
            told.push(text);
        }
    }
    told
}
