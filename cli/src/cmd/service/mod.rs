//! `service …`

mod change;

use model::{
    request::{Request, Response, ServiceRow, TaskFilter},
    service::TemplateVersion,
};

pub use change::remove;

use super::{Session, inspect, logs, ps, scale};
use crate::{
    args::ServiceCommand,
    client::{Client, unexpected},
    exit::{Code, Failure},
    output::{age, json, print, rows},
    spec::file,
    wait,
};

/// Runs a command about services.
///
/// # Errors
/// Why it did not do what it was asked.
pub async fn run(session: &Session, command: ServiceCommand) -> Result<Code, Failure> {
    match command {
        ServiceCommand::Create(create) => change::create(session, &create).await,
        ServiceCommand::Update(update) => change::update(session, &update).await,
        ServiceCommand::Rollback { service, to, job, wait } => {
            change::rollback(session, service, to.map(TemplateVersion), job, &wait).await
        }
        ServiceCommand::History { service } => history(session, service).await,
        ServiceCommand::Rm { services, wait } => change::remove(session, &services, &wait).await,
        ServiceCommand::Scale(scale) => scale::run(session, scale).await,
        ServiceCommand::Ls { quiet } => list(session, quiet).await,
        ServiceCommand::Ps { services, all, quiet } => {
            let filter = |service| TaskFilter { service: Some(service), node: None, all };
            ps::list(session, services.into_iter().map(filter).collect(), quiet).await
        }
        ServiceCommand::Inspect { services, spec } => inspect_all(session, &services, spec).await,
        ServiceCommand::Endpoints { service } => endpoints(session, service).await,
        ServiceCommand::Logs(logs) => logs::run(session, logs).await,
    }
}

async fn list(session: &Session, quiet: bool) -> Result<Code, Failure> {
    let rows = rows(&session.client()?).await?;
    let rows: Vec<_> = rows.into_iter().filter(|row| row.service.job.is_none()).collect();
    session.list(quiet, &rows, |row| row.service.id.to_string(), || rows::services(&rows).to_string());
    Ok(Code::DONE)
}

async fn endpoints(session: &Session, service: String) -> Result<Code, Failure> {
    match session.client()?.call(Request::GetEndpoints(service)).await?.response {
        Response::Endpoints(view) => session.print(&view, || rows::endpoints(&view)),
        _ => return Err(unexpected()),
    }
    Ok(Code::DONE)
}

async fn history(session: &Session, service: String) -> Result<Code, Failure> {
    let (view, _) = wait::view(&session.client()?, service).await?;
    let service = &view.service;
    session.print(&service.releases, || rows::releases(service, age::now()).to_string());
    Ok(Code::DONE)
}

/// All services, jobs among them.
///
/// # Errors
/// They cannot be read.
pub async fn rows(client: &Client) -> Result<Vec<ServiceRow>, Failure> {
    match client.call(Request::ListServices).await?.response {
        Response::Services(rows) => Ok(rows),
        _ => Err(unexpected()),
    }
}

/// `service inspect` and `job inspect`
///
/// # Errors
/// One of them cannot be read.
pub async fn inspect_all(session: &Session, services: &[String], spec: bool) -> Result<Code, Failure> {
    let client = session.client()?;
    let mut views = Vec::new();
    for service in services {
        views.push(wait::view(&client, service.clone()).await?.0);
    }
    match (&views[..], spec, session.global.json) {
        ([only], true, true) => json::print(&file::tree(&only.service.spec)),
        (_, true, true) => {
            json::print(&views.iter().map(|view| file::tree(&view.service.spec)).collect::<Vec<_>>());
        }
        (_, true, false) => {
            let texts: Vec<String> = views.iter().map(|view| file::to_toml(&view.service.spec)).collect();
            print(texts.join("\n# ----\n").trim_end());
        }
        (_, false, true) => json::print(&views),
        (_, false, false) => {
            let now = age::now();
            let nodes = wait::nodes(&client).await?;
            let texts: Vec<String> = views.iter().map(|view| inspect::service(view, &nodes, now)).collect();
            print(texts.join("\n\n"));
        }
    }
    Ok(Code::DONE)
}
