//! `run`: something once, as if it ran here.
//!
//! Its lines come as it writes them, and the exit code is its own. The cluster runs it, not this process: Ctrl-C, or a terminal that
//! goes away, ends the looking only.

use model::{
    id::ServiceId,
    job::{JobState, JobStatus},
    request::{ErrorCode, Request, ServiceView},
    service::{Mode, ServiceSpec},
    task::{Task, TaskState},
};

use super::{Session, job, logs};
use crate::{
    args::Run,
    client::{Client, random, unexpected},
    exit::{Code, Failure},
    output::{self, json, progress::Progress},
    spec, wait,
};

/// Runs something once.
///
/// # Errors
/// It did not run, or nobody knows how it ended.
pub async fn run(session: &Session, run: Run) -> Result<Code, Failure> {
    let client = session.client()?;
    let like = match &run.like {
        Some(service) => Some(wait::view(&client, service.clone()).await?.0.service.spec),
        None => None,
    };
    let spec = spec::job::run(&run, like.as_deref(), &tail())?;
    let name = spec.name.clone();
    let (answer, index) = client.change(Request::CreateService(spec.clone().into())).await?;
    let id = job::made(&answer)?;
    if run.create.wait.detach {
        return job::begun(session, &client, (id, &name), index, &run.create.wait).await;
    }
    let view = attached(session, &client, (id, &spec), index, run.create.wait.quiet).await?;
    let code = end(session, &view);
    if run.rm {
        remove(&client, id).await?;
    }
    code
}

/// Five letters that tell the runs of one image apart.
fn tail() -> String {
    let id = ServiceId(random::id()).to_string();
    id[id.len() - 5..].to_owned()
}

/// Prints what it writes until it has ended.
async fn attached(
    session: &Session,
    client: &Client,
    (id, spec): (ServiceId, &ServiceSpec),
    index: u64,
    quiet: bool,
) -> Result<ServiceView, Failure> {
    let mut progress = Progress::new(quiet || session.global.json);
    let done = wait::job(client, id, index, true, &mut progress);
    let style = match session.global.json {
        true => logs::Style::Json,
        false if is_alone(spec) => logs::Style::Bare,
        false => logs::Style::Prefixed,
    };
    let all = logs::until(client, id, index, style, done);
    let name = &spec.name;
    let what = format!("job {name}");
    let waited = wait::bounded_by(client, None, &what, all).await;
    progress.finish();
    waited.map_err(|mut failure| {
        if matches!(failure.code, Code::INTERRUPTED | Code::DEADLINE) {
            failure.message = format!(
                "{}\nfollow it: orchctl logs --follow {name}; its end: orchctl job wait {name}; stop it: orchctl job rm {name}",
                failure.message
            );
        }
        failure
    })
}

fn is_alone(spec: &ServiceSpec) -> bool {
    spec.mode == Mode::Replicated(1)
}

/// The exit code of its container; 1 where there is none to take it from, and the job has failed.
fn end(session: &Session, view: &ServiceView) -> Result<Code, Failure> {
    let Some(status) = &view.service.job else { return Err(unexpected()) };
    let exit = exit(view, status);
    if session.global.json {
        let (id, name) = (view.service.id, &view.service.spec.name);
        json::print(&serde_json::json!({ "id": id, "name": name, "job": status, "exit": exit.0 }));
        return Ok(exit);
    }
    if status.state != JobState::Complete {
        output::note(format!("job {} has failed: {}", view.service.spec.name, status.message));
    }
    Ok(exit)
}

fn exit(view: &ServiceView, status: &JobStatus) -> Code {
    if status.state == JobState::Complete {
        return Code::DONE;
    }
    let failed = view.tasks.iter().filter(|task| task.observed.state == TaskState::Failed);
    let code = |task: &Task| u8::try_from(task.observed.exit.as_ref()?.code).ok().filter(|code| *code != 0);
    failed.max_by_key(|task| task.since).and_then(code).map_or(Code::ERROR, Code)
}

async fn remove(client: &Client, id: ServiceId) -> Result<(), Failure> {
    let removed = client.change(Request::RemoveService(id.to_string())).await;
    match removed {
        // The managers were first.
        Err(failure) if failure.api == Some(ErrorCode::NotFound) => Ok(()),
        other => other.map(|_| ()),
    }
}
