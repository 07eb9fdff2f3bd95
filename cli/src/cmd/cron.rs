//! `cron …`

use model::{
    cron::Cron,
    request::{Request, Response},
    validate::{lint_service, validate_cron},
};

use super::{Session, job};
use crate::{
    args::{CronCommand, CronSet},
    client::{Client, unexpected},
    exit::{Code, Failure},
    output::{self, age, jobs},
    spec, wait,
};

/// Runs a command about crons.
///
/// # Errors
/// Why it did not do what it was asked.
pub async fn run(session: &Session, command: CronCommand) -> Result<Code, Failure> {
    match command {
        CronCommand::Set(set) => self::set(session, &set).await?,
        CronCommand::Ls { quiet } => {
            let crons = crons(&session.client()?).await?;
            let name = |cron: &Cron| cron.spec.name.clone();
            session.list(quiet, &crons, name, || jobs::crons(&crons, age::now()).to_string());
        }
        CronCommand::Inspect { name } => show(session, &session.client()?, &name).await?,
        CronCommand::Suspend { name } => suspend(session, name, true).await?,
        CronCommand::Resume { name } => suspend(session, name, false).await?,
        CronCommand::RunNow { name, wait } => {
            let client = session.client()?;
            let (answer, index) = client.change(Request::RunCron(name)).await?;
            let id = job::made(&answer)?;
            let job = wait::view(&client, id.to_string()).await?.0.service.spec.name.clone();
            return job::begun(session, &client, (id, &job), index, &wait).await;
        }
        CronCommand::Rm { names } => {
            let client = session.client()?;
            for name in &names {
                client.change(Request::RemoveCron(name.clone())).await?;
                if !session.global.json {
                    output::print(name);
                }
            }
            if session.global.json {
                output::json::print(&names);
            }
        }
    }
    Ok(Code::DONE)
}

async fn set(session: &Session, set: &CronSet) -> Result<(), Failure> {
    let spec = spec::job::cron(set)?;
    let problems = validate_cron(&spec);
    if !problems.is_empty() {
        return Err(problems.into());
    }
    lint_service(&spec.job).iter().for_each(|advice| output::warn(advice.to_string()));
    let client = session.client()?;
    let name = spec.name.clone();
    client.change(Request::SetCron(spec.into())).await?;
    show(session, &client, &name).await
}

async fn suspend(session: &Session, name: String, suspended: bool) -> Result<(), Failure> {
    let client = session.client()?;
    client.change(Request::SuspendCron { name: name.clone(), suspended }).await?;
    show(session, &client, &name).await
}

async fn show(session: &Session, client: &Client, name: &str) -> Result<(), Failure> {
    let crons = crons(client).await?;
    let cron = crons.iter().find(|cron| cron.spec.name == name);
    let cron = cron.ok_or_else(|| Failure::error(format!("there is no cron \"{name}\"")))?;
    session.print(cron, || jobs::cron(cron, age::now()));
    Ok(())
}

async fn crons(client: &Client) -> Result<Vec<Cron>, Failure> {
    match client.call(Request::ListCrons).await?.response {
        Response::Crons(crons) => Ok(crons),
        _ => Err(unexpected()),
    }
}
