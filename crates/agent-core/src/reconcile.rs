//! From the picture of a task to the next call: level-triggered, so that it does not matter how the picture came about.
//!
//! Intuition: look at what is doubted; then, for a wanted task, make the present attempt's container exist and run; for
//! any other, make everything stop and go. One step at a time; the answer changes the picture, and the next step follows.
//!
//! Rule: what may have a container is looked at before anything is made. This prevents the double that every
//! orchestrator has shipped once: a create whose answer was lost, followed by another create.

use std::time::Duration;

use model::{
    id::ClusterId,
    registry::Login,
    task::{DesiredState, Health},
    time::Instant,
};

use planted::Bug;

use crate::{
    container::{Container, Phase},
    engine::{AttemptId, ContainerRequest, EngineCall},
    labels::{Labels, container_name},
    prepare,
    task::{Call, Task},
    template,
    traffic::Traffic,
};

/// Stop tries that may fail before the container is removed by force.
pub(crate) const STOP_TRIES: u32 = 3;

/// What the task needs next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing until something changes.
    Idle,
    /// Nothing before this time.
    Wait(Instant),
    /// This call.
    Do(Call),
    /// A leaving task has nothing left here.
    Forget,
}

/// The next step of a task whose engine has listed its containers and whose gate is open.
pub(crate) fn next_step(task: &Task, now: Instant) -> Step {
    if task.op.is_some() {
        return Step::Idle;
    }
    if let Some(call) = doubt(task) {
        return paused(task, call, now);
    }
    if task.is_wanted() { run(task, now) } else { wind_down(task, now) }
}

fn doubt(task: &Task) -> Option<Call> {
    if task.prepare.name_doubted && task.assignment.is_some() && !planted::is(Bug::CreateNotLookedFor) {
        return Some(Call::LookByName);
    }
    let doubted = task.containers.iter().find(|(_, container)| container.doubted);
    doubted.map(|(id, _)| Call::Look { container: id.clone() })
}

fn run(task: &Task, now: Instant) -> Step {
    let stray = task.containers.iter().find(|(_, c)| c.attempt != task.attempt && c.phase == Phase::Running);
    if let Some((id, container)) = stray {
        return paused(task, stop(id, container), now);
    }
    match task.current() {
        Some((id, container)) if container.phase == Phase::Running => {
            if container.fitness().0 == Health::Unhealthy && task.restarts_unfit() {
                let ask = task.diagnosis().is_some() && !container.diagnosed;
                let call = if ask { Call::Diagnose { container: id.clone() } } else { stop(id, container) };
                paused(task, call, now)
            } else {
                tidy(task, now)
            }
        }
        Some((id, container)) if container.phase == Phase::Created => {
            due(task, Call::Start { container: id.clone() }, now)
        }
        // Its end made the next attempt the present one, or the task was final; there is nothing in between.
        Some(_) => Step::Idle,
        None => due(task, make(task), now),
    }
}

fn make(task: &Task) -> Call {
    let pull = task.assignment.as_ref().is_some_and(|a| task.prepare.needs_pull(a));
    if pull { Call::Pull } else { Call::Create }
}

/// An attempt's call, once its time has come; until then there is time to tidy up.
fn due(task: &Task, call: Call, now: Instant) -> Step {
    match task.retry_at {
        Some(at) if at > now => match tidy(task, now) {
            Step::Idle => Step::Wait(at),
            Step::Wait(other) => Step::Wait(at.min(other)),
            step => step,
        },
        _ => Step::Do(call),
    }
}

fn wind_down(task: &Task, now: Instant) -> Step {
    if let Some((id, container)) = task.containers.iter().find(|(_, c)| c.phase == Phase::Running) {
        return paused(task, stop(id, container), now);
    }
    match tidy(task, now) {
        Step::Idle if task.leaving && task.containers.is_empty() => Step::Forget,
        step => step,
    }
}

/// Removes containers that are of no more use. The newest ended one of a task that the managers still want is kept: its
/// logs say why it ended.
fn tidy(task: &Task, now: Instant) -> Step {
    let is_live = |c: &Container| task.is_wanted() && c.attempt == task.attempt;
    let useless = || task.containers.iter().filter(|(_, c)| c.phase != Phase::Running && !is_live(c));
    let ended = useless().filter(|(_, c)| c.phase == Phase::Ended);
    let kept = ended.max_by_key(|(_, c)| c.attempt).filter(|_| task.is_kept()).map(|(id, _)| id);
    match useless().find(|(id, _)| Some(*id) != kept) {
        Some((id, _)) => paused(task, Call::Remove { container: id.clone() }, now),
        None => Step::Idle,
    }
}

fn stop(id: &str, container: &Container) -> Call {
    if container.stop_failures >= STOP_TRIES {
        Call::Remove { container: id.to_owned() }
    } else {
        Call::Stop { container: id.to_owned() }
    }
}

fn paused(task: &Task, call: Call, now: Instant) -> Step {
    match task.pause_until {
        Some(until) if until > now => Step::Wait(until),
        _ => Step::Do(call),
    }
}

/// The call in the engine's terms.
pub(crate) fn engine_call(
    task: &Task,
    call: &Call,
    cluster: ClusterId,
    traffic: &Traffic,
    login: Option<Login>,
) -> EngineCall {
    let assignment = || task.assignment.as_ref().expect("only an assigned task makes containers");
    match call {
        Call::Pull => {
            let image =
                prepare::pullable(assignment()).expect("a pull is only decided on when it is possible");
            EngineCall::Pull { image: image.to_owned(), login }
        }
        Call::Create => EngineCall::Create(Box::new(request(task, cluster, traffic))),
        Call::Start { container } => EngineCall::Start { container: container.clone() },
        Call::Stop { container } => EngineCall::Stop { container: container.clone(), grace: grace(task) },
        Call::Remove { container } => {
            let ran = task.containers.get(container).filter(|c| c.phase != Phase::Created);
            EngineCall::Remove { container: container.clone(), keep: ran.map(|c| attempt(task, c.attempt)) }
        }
        Call::Diagnose { container } => EngineCall::Diagnose {
            container: container.clone(),
            diagnosis: task.diagnosis().expect("a diagnosis is only decided on when one is declared").clone(),
            attempt: attempt(task, task.attempt),
        },
        Call::Look { container } => EngineCall::Inspect { container: container.clone() },
        Call::LookByName => EngineCall::Inspect { container: container_name(assignment(), task.attempt) },
    }
}

fn attempt(task: &Task, number: u32) -> AttemptId {
    AttemptId { task: task.id, number }
}

fn grace(task: &Task) -> Option<Duration> {
    task.spec().map(model::container::ContainerSpec::stop_grace)
}

fn request(task: &Task, cluster: ClusterId, traffic: &Traffic) -> ContainerRequest {
    let assignment = task.assignment.as_ref().expect("only an assigned task makes containers");
    debug_assert_eq!(assignment.desired, DesiredState::Running, "only a wanted task makes containers");
    let spec = &assignment.container;
    let fill = |text: &String| template::render(text, assignment);
    ContainerRequest {
        name: container_name(assignment, task.attempt),
        image: task.prepare.image(assignment).to_owned(),
        hostname: spec.hostname.as_ref().map(fill),
        env: spec.env.iter().map(|(key, value)| (key.clone(), fill(value))).collect(),
        labels: Labels::of(cluster, assignment, task.attempt).render(assignment),
        files: spec.has_files().then_some(task.id),
        networks: spec.networks.iter().filter_map(|name| traffic.network(name)).cloned().collect(),
        spec: spec.clone(),
    }
}
