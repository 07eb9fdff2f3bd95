//! What each answer of the engine changes about a task.

use std::time::Duration;

use model::{session::Assignment, task::TaskState};

use planted::Bug;

use crate::{
    container::{Container, Phase},
    engine::{EngineError, EngineErrorKind, OpOutcome},
    prepare::Failure,
    task::{Call, Context, Task},
};

/// A look, stop or removal that failed is tried again after this.
const PAUSE: Duration = Duration::from_secs(1);

/// Takes the answer to the task's call.
pub(crate) fn answered(
    task: &mut Task,
    call: Call,
    outcome: Result<OpOutcome, EngineError>,
    context: &mut Context<'_>,
) {
    task.pause_until = None;
    match outcome {
        Ok(outcome) => succeeded(task, call, outcome, context),
        Err(error) => failed(task, call, &error, context),
    }
}

fn succeeded(task: &mut Task, call: Call, outcome: OpOutcome, context: &mut Context<'_>) {
    match (call, outcome) {
        (Call::Pull, _) => {
            if let Some(assignment) = &task.assignment {
                task.prepare.pulled(assignment);
            }
        }
        (Call::Create, OpOutcome::Created { id }) => {
            let attempt = task.attempt;
            task.containers.entry(id).or_insert_with(|| Container::new(attempt));
        }
        (Call::Start { .. } | Call::Stop { .. }, OpOutcome::Container(view)) => {
            task.seen(&view, false, context)
        }
        (Call::Look { container }, OpOutcome::Container(view)) => {
            task.looked(&view, context);
            if task.containers.get(&container).is_some_and(|container| container.overtaken) {
                task.doubt(&container);
            }
        }
        (Call::LookByName, OpOutcome::Container(view)) => {
            task.prepare.name_doubted = false;
            if view.labels.task == task.id {
                task.looked(&view, context);
            } else {
                task.reject(format!("the name of its container is taken by container {}", view.id));
            }
        }
        (Call::Remove { container }, _) => {
            task.gone(&container, context);
        }
        (Call::Diagnose { .. }, _) => {}
        // An answer of the wrong kind says nothing; whatever it was about is looked at.
        (call, _) => doubt(task, &call),
    }
}

fn failed(task: &mut Task, call: Call, error: &EngineError, context: &mut Context<'_>) {
    match &call {
        Call::Pull => prepare_failed(task, error, context, |task, a| task.prepare.pull_failed(a, error)),
        Call::Create if error.kind == EngineErrorKind::ImageMissing => {
            prepare_failed(task, error, context, |task, a| task.prepare.image_missing(a));
        }
        Call::Create => {
            doubt_if_uncertain(task, &call, error);
            prepare_failed(task, error, context, |task, _| task.prepare.start_failed(error));
        }
        Call::Start { container } => {
            if error.kind == EngineErrorKind::NotFound {
                task.gone(container, context);
            }
            doubt_if_uncertain(task, &call, error);
            prepare_failed(task, error, context, |task, _| task.prepare.start_failed(error));
        }
        Call::LookByName if error.kind == EngineErrorKind::NotFound => task.prepare.name_doubted = false,
        // The name belongs to a container that is not ours.
        Call::LookByName if error.kind == EngineErrorKind::Conflict => {
            task.prepare.name_doubted = false;
            if task.is_wanted() {
                task.reject(error.message.clone());
            }
        }
        Call::Stop { container } | Call::Remove { container } | Call::Look { container }
            if error.kind == EngineErrorKind::NotFound || planted::is(Bug::ErrorMeansGone) =>
        {
            task.gone(container, context);
        }
        Call::Stop { container } => {
            if let Some(container) = task.containers.get_mut(container) {
                container.stop_failures += u32::from(error.kind != EngineErrorKind::Unavailable);
            }
            doubt(task, &call);
            task.pause_until = Some(context.now + PAUSE);
        }
        Call::Remove { .. } => {
            doubt(task, &call);
            task.pause_until = Some(context.now + PAUSE);
        }
        Call::Look { .. } | Call::LookByName => task.pause_until = Some(context.now + PAUSE),
        // It is stopped next, whatever became of the question.
        Call::Diagnose { .. } => doubt(task, &call),
    }
}

fn doubt_if_uncertain(task: &mut Task, call: &Call, error: &EngineError) {
    if error.kind.is_uncertain() {
        doubt(task, call);
    }
}

fn doubt(task: &mut Task, call: &Call) {
    match call {
        Call::Create | Call::LookByName => task.prepare.name_doubted = true,
        Call::Start { container }
        | Call::Stop { container }
        | Call::Remove { container }
        | Call::Look { container }
        | Call::Diagnose { container } => task.doubt(container),
        Call::Pull => {}
    }
}

fn prepare_failed(
    task: &mut Task,
    error: &EngineError,
    context: &mut Context<'_>,
    judge: impl FnOnce(&mut Task, &Assignment) -> Failure,
) {
    let Some(assignment) = task.assignment.clone().filter(|_| task.is_wanted()) else { return };
    match judge(task, &assignment) {
        Failure::Retry(pause) => {
            task.retry_at = Some(context.now + pause);
            if !pause.is_zero() {
                error.message.clone_into(&mut task.observed.message);
            }
        }
        // What was made without an answer is looked for all the same: the task winds down, and nothing stays behind.
        Failure::Reject(message) => task.reject(message),
    }
}

/// Shows that the call is under way.
pub(crate) fn begun(task: &mut Task, call: &Call) {
    match call {
        Call::Pull => show(task, TaskState::Preparing, "pulling the image"),
        Call::Create | Call::Start { .. } => show(task, TaskState::Starting, ""),
        Call::Stop { container } => {
            let unfit = task.is_wanted();
            if let Some(container) = task.containers.get_mut(container).filter(|c| c.phase == Phase::Running)
            {
                container.unfit = unfit;
            }
        }
        Call::Look { container } => {
            if let Some(container) = task.containers.get_mut(container) {
                container.overtaken = false;
            }
        }
        Call::Diagnose { container } => {
            if let Some(container) = task.containers.get_mut(container) {
                container.diagnosed = true;
            }
        }
        Call::Remove { .. } | Call::LookByName => {}
    }
}

/// Shows that others pull first.
pub(crate) fn waits_for_pull(task: &mut Task) {
    task.observed.attempt = task.attempt;
    task.observed.state = TaskState::Preparing;
    "waits for its turn to pull: as many nodes as may are pulling".clone_into(&mut task.observed.message);
}

/// A further try keeps the message: it says why there had to be one.
fn show(task: &mut Task, state: TaskState, message: &str) {
    task.observed.attempt = task.attempt;
    if task.observed.state != state {
        task.observed.state = state;
        message.clone_into(&mut task.observed.message);
    }
}
