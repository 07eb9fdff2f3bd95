//! `job …`

use model::{
    command::Answer,
    id::ServiceId,
    job::{JobState, JobStatus},
    request::{Request, ServiceView, TaskFilter},
    validate::lint_service,
};

use super::{Session, logs, ps, service};
use crate::{
    args::{JobCommand, JobCreate, WaitFlags},
    client::{Client, unexpected},
    exit::{Code, Failure},
    output::{self, age, jobs, json, progress::Progress},
    spec, wait,
};

/// Runs a command about jobs.
///
/// # Errors
/// Why it did not do what it was asked.
pub async fn run(session: &Session, command: JobCommand) -> Result<Code, Failure> {
    match command {
        JobCommand::Create(create) => self::create(session, &create).await,
        JobCommand::Ls { quiet } => {
            let rows = service::rows(&session.client()?).await?;
            let rows: Vec<_> = rows.into_iter().filter(|row| row.service.job.is_some()).collect();
            session.list(
                quiet,
                &rows,
                |row| row.service.id.to_string(),
                || jobs::jobs(&rows, age::now()).to_string(),
            );
            Ok(Code::DONE)
        }
        JobCommand::Ps { jobs, quiet } => {
            let filter = |job| TaskFilter { service: Some(job), node: None, all: true };
            ps::list(session, jobs.into_iter().map(filter).collect(), quiet).await
        }
        JobCommand::Inspect { jobs, spec } => service::inspect_all(session, &jobs, spec).await,
        JobCommand::Wait { job, quiet } => {
            let client = session.client()?;
            let (view, index) = wait::view(&client, job).await?;
            is_job(&view)?;
            follow(session, &client, view.service.id, index, quiet).await
        }
        JobCommand::Logs(logs) => logs::run(session, logs).await,
        JobCommand::Rm { jobs, wait } => {
            let client = session.client()?;
            for job in &jobs {
                is_job(&wait::view(&client, job.clone()).await?.0)?;
            }
            service::remove(session, &jobs, &wait).await
        }
    }
}

/// `job rm ispyb` would be a sad mistake.
fn is_job(view: &ServiceView) -> Result<(), Failure> {
    match view.service.job {
        Some(_) => Ok(()),
        None => Err(Failure::invalid(format!(
            "\"{}\" is a service, not a job; see orchctl service",
            view.service.spec.name
        ))),
    }
}

async fn create(session: &Session, create: &JobCreate) -> Result<Code, Failure> {
    let spec = spec::job::created(create)?;
    lint_service(&spec).iter().for_each(|advice| output::warn(advice.to_string()));
    let client = session.client()?;
    let name = spec.name.clone();
    let (answer, index) = client.change(Request::CreateService(spec.into())).await?;
    let id = made(&answer)?;
    begun(session, &client, (id, &name), index, &create.create.wait).await
}

/// The job that a change made.
///
/// # Errors
/// It made none.
pub fn made(answer: &Answer) -> Result<ServiceId, Failure> {
    match answer {
        Answer::Service { id, .. } => Ok(*id),
        _ => Err(unexpected()),
    }
}

/// Waits for the end of a job that was just made, unless that is not wanted.
///
/// # Errors
/// Those of waiting.
pub async fn begun(
    session: &Session,
    client: &Client,
    (id, name): (ServiceId, &str),
    index: u64,
    flags: &WaitFlags,
) -> Result<Code, Failure> {
    if !flags.detach {
        return follow(session, client, id, index, flags.quiet).await;
    }
    if session.global.json {
        json::print(&serde_json::json!({ "index": index, "state": "accepted", "id": id, "name": name }));
    } else {
        output::print(if flags.quiet { id.to_string() } else { format!("{name}: accepted ({id})") });
    }
    Ok(Code::DONE)
}

async fn follow(
    session: &Session,
    client: &Client,
    id: ServiceId,
    index: u64,
    quiet: bool,
) -> Result<Code, Failure> {
    let mut progress = Progress::new(quiet || session.global.json);
    let waited = ended(client, id, index, &mut progress).await;
    progress.finish();
    let view = waited?;
    let Some(status) = &view.service.job else { return Err(unexpected()) };
    let name = &view.service.spec.name;
    let code = code(status);
    if session.global.json {
        json::print(&serde_json::json!({ "id": id, "name": name, "job": status }));
    } else if code == Code::DONE {
        output::print(if quiet { id.to_string() } else { format!("{name}: complete ({id})") });
    } else {
        return Err(Failure::new(code, format!("job {name} has failed: {}", status.message)));
    }
    Ok(code)
}

/// Waits for the end of a job: as long as its own deadline, unless `--timeout` says less.
///
/// # Errors
/// Exit 7 or 130, and the job goes on; those of the calls.
pub async fn ended(
    client: &Client,
    id: ServiceId,
    index: u64,
    progress: &mut Progress,
) -> Result<ServiceView, Failure> {
    wait::bounded_by(client, None, "the job", wait::job(client, id, index, false, progress)).await
}

fn code(status: &JobStatus) -> Code {
    match status.state {
        JobState::Complete => Code::DONE,
        JobState::Running | JobState::Failed => Code::ERROR,
    }
}
