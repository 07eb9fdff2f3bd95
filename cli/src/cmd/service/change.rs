//! What changes services: create, update, rollback, remove.

use std::sync::Arc;

use model::{
    command::Answer,
    id::ServiceId,
    request::{ErrorCode, Request, ServiceView},
    service::{ReleaseNote, Rollout, ServiceSpec, TemplateVersion},
    validate::lint_service,
};

use super::Session;
use crate::{
    args::{Create, Update, WaitFlags},
    client::{Client, unexpected},
    cmd::scale,
    exit::{Code, Failure},
    output::{self, json, progress::Progress},
    spec,
    wait::{self, Target, converge::Expected},
};

/// A service may be touched by the cluster itself (an image was resolved, a rollout moved) between our reading and our
/// writing; so often we look again before we call it a conflict.
const UPDATE_ATTEMPTS: usize = 5;

/// `service create`
pub async fn create(session: &Session, create: &Create) -> Result<Code, Failure> {
    let spec = spec::create::spec(create)?;
    advise(&spec);
    let name = spec.name.clone();
    let client = session.client()?;
    let (answer, index) = client.change(Request::CreateService(spec.into())).await?;
    let target = Target { id: service_of(&answer)?, name, expected: Expected::default() };
    scale::finish(session, &client, vec![target], index, &create.wait).await
}

/// `service update`
pub async fn update(session: &Session, update: &Update) -> Result<Code, Failure> {
    let client = session.client()?;
    let (seen, _) = wait::view(&client, update.service.clone()).await?;
    let (spec, warnings) = spec::update::spec(update, &seen.service.spec)?;
    warnings.iter().for_each(output::warn);
    advise(&spec);
    let (before, index) = send(&client, &seen, &spec.into()).await?;
    let expected = Expected { before, ..Expected::default() };
    let target = Target { id: seen.service.id, name: seen.service.spec.name.clone(), expected };
    scale::finish(session, &client, vec![target], index, &update.wait).await
}

/// Sends the declaration until it meets the version that it was made from. A conflict with another person's change is
/// a conflict; one with the cluster's own bookkeeping is not.
async fn send(
    client: &Client,
    seen: &ServiceView,
    spec: &Arc<ServiceSpec>,
) -> Result<(Option<Rollout>, u64), Failure> {
    let service = seen.service.id.to_string();
    let mut now = seen.service.clone();
    let mut attempt = 1;
    loop {
        let request =
            Request::UpdateService { service: service.clone(), expected: now.generation, spec: spec.clone() };
        match client.change(request).await {
            Ok((_, index)) => return Ok((now.rollout, index)),
            Err(failure) if failure.api == Some(ErrorCode::Conflict) && attempt < UPDATE_ATTEMPTS => {
                let (again, _) = wait::view(client, service.clone()).await?;
                if again.service.spec != seen.service.spec || again.service.removing {
                    return Err(failure);
                }
                now = again.service;
                attempt += 1;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// `service rollback`
pub async fn rollback(
    session: &Session,
    service: String,
    to: Option<TemplateVersion>,
    job: Option<String>,
    flags: &WaitFlags,
) -> Result<Code, Failure> {
    let client = session.client()?;
    let (seen, _) = wait::view(&client, service).await?;
    let service = seen.service;
    let id = service.id.to_string();
    let left = to.unwrap_or(TemplateVersion(service.template.0.saturating_sub(1)));
    for release in service.migrations_after(left) {
        output::warn(format!(
            "release {} came with a migration: what its pre-deploy hook changed is not changed back",
            release.0
        ));
    }
    let request = match (to, job) {
        (None, None) => Request::RollbackService(id),
        (release, job) => {
            let note = ReleaseNote { job: job.unwrap_or_default(), ..ReleaseNote::default() };
            Request::ReturnTo { service: id, release, note: Box::new(note) }
        }
    };
    let (_, index) = client.change(request).await?;
    let expected = Expected { before: service.rollout, rollback: true, ..Expected::default() };
    let target = Target { id: service.id, name: service.spec.name.clone(), expected };
    scale::finish(session, &client, vec![target], index, flags).await
}

/// `service rm`
pub async fn remove(session: &Session, services: &[String], flags: &WaitFlags) -> Result<Code, Failure> {
    let client = session.client()?;
    let mut seen = Vec::new();
    for service in services {
        seen.push(wait::view(&client, service.clone()).await?.0.service);
    }
    let mut index = 0;
    for service in &seen {
        index = client.change(Request::RemoveService(service.id.to_string())).await?.1;
    }
    let ids: Vec<ServiceId> = seen.iter().map(|service| service.id).collect();
    if !flags.detach {
        let mut progress = Progress::new(flags.quiet || session.global.json);
        let what = "the removal";
        let waited = wait::bounded(&client, what, wait::removal(&client, &ids, index, &mut progress)).await;
        progress.finish();
        waited?;
    }
    if session.global.json {
        let names: Vec<&str> = seen.iter().map(|service| service.spec.name.as_str()).collect();
        json::print(&serde_json::json!({ "removed": names, "index": index, "waited": !flags.detach }));
        return Ok(Code::DONE);
    }
    for service in &seen {
        output::print(if flags.quiet { service.id.to_string() } else { service.spec.name.clone() });
    }
    Ok(Code::DONE)
}

/// Warns about what the cluster accepts but nobody should want.
fn advise(spec: &ServiceSpec) {
    lint_service(spec).iter().for_each(|advice| output::warn(advice.to_string()));
}

/// The service that a change speaks of.
///
/// # Errors
/// It speaks of none.
fn service_of(answer: &Answer) -> Result<ServiceId, Failure> {
    match answer {
        Answer::Service { id, .. } => Ok(*id),
        _ => Err(unexpected()),
    }
}
