//! `deploy`: another image for a service, from a pipeline or by hand.
//!
//! The managers make the new declaration, of the stored one and the image, and refuse a second deployment while one is under
//! way. Here is only asked, looked and told: a deployment whose `orchctl` was killed goes on, and the same command again
//! follows it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use model::{
    id::NodeId,
    request::{ErrorCode, Request, ServiceView},
    service::{
        ImagePin, ReleaseNote, ReleaseResult, Rollout, RolloutState, RolloutStep, Service, Slot,
        TemplateVersion,
    },
    task::Task,
};

use super::{Session, freeze, logs};
use crate::{
    args::{Deploy, DeployCommand, DeployRelease, Steer, WaitFlags},
    client::{Client, unexpected},
    exit::{Code, Failure},
    output::{self, age, event, json, progress::Progress, rows},
    wait::{self, Target, converge::Expected},
};

/// The managers' own bookkeeping may come between our reading and our writing so often.
const ATTEMPTS: usize = 5;
/// A task's last lines come on a stream of their own, which may open after the event that ends the waiting.
const LINES_PATIENCE: Duration = Duration::from_secs(1);

/// Runs `deploy`.
///
/// # Errors
/// Exit 3 when it failed, 5 when another one is under way, 7 when it took too long, and those of the calls.
pub async fn run(session: &Session, deploy: Deploy) -> Result<Code, Failure> {
    match deploy.command {
        None => release(session, &deploy.release).await,
        Some(DeployCommand::Status { service }) => status(session, service).await,
        Some(DeployCommand::Pause(args)) => steer(session, &args, RolloutStep::Pause).await,
        Some(DeployCommand::Resume(args)) => steer(session, &args, RolloutStep::Resume).await,
        Some(DeployCommand::Promote(args)) => steer(session, &args, RolloutStep::Promote).await,
        Some(DeployCommand::Abort(args)) => steer(session, &args, RolloutStep::Abort).await,
    }
}

/// What stands in the way of a new release, or that it is there.
enum Present {
    /// It runs, and its rollout is over.
    Already,
    /// It is under way.
    Coming,
    /// It was brought, and stopped half-way.
    Stopped(String),
    /// Another one runs.
    Other,
}

async fn release(session: &Session, args: &DeployRelease) -> Result<Code, Failure> {
    let (Some(reference), Some(image)) = (&args.service, &args.image) else { return Err(unexpected()) };
    let client = session.client()?;
    let mut patience = args.wait_busy.map(|patience| Instant::now() + patience);
    let mut attempt = 1;
    loop {
        let (view, index) = wait::view(&client, reference.clone()).await?;
        let service = view.service;
        match present(&service, image) {
            Present::Already => return Ok(finished(session, &args.flags, &service, "already")),
            Present::Stopped(why) => return Err(stopped(&service, &why)),
            Present::Coming => {
                output::note(format!(
                    "{}: release {} with this image is under way",
                    service.spec.name, service.template.0
                ));
                return follow(session, &client, &service, None, index, &args.flags).await;
            }
            Present::Other => {}
        }
        let note = ReleaseNote {
            job: args.job.clone().unwrap_or_default(),
            after: Some(service.template),
            canary: args.canary_policy(),
            at_next_window: args.at_next_window,
            despite_freeze: args.despite_freeze.clone(),
        };
        let request =
            Request::Deploy { service: service.id.to_string(), image: image.clone(), note: Box::new(note) };
        let refused = match client.change(request).await {
            Ok((_, index)) => {
                let (now, _) = wait::view(&client, service.id.to_string()).await?;
                output::note(format!(
                    "{}: release {} begins: {image}",
                    service.spec.name, now.service.template.0
                ));
                if args.at_next_window && is_held(&client, &now).await? {
                    return Ok(finished(session, &args.flags, &now.service, "frozen"));
                }
                return follow(session, &client, &now.service, service.rollout, index, &args.flags).await;
            }
            Err(failure) if failure.api == Some(ErrorCode::Conflict) => failure,
            Err(failure) => return Err(failure),
        };
        let (again, index) = wait::view(&client, service.id.to_string()).await?;
        let came = again.service.is_rolling();
        match patience.filter(|_| came && matches!(present(&again.service, image), Present::Other)) {
            Some(until) if until > Instant::now() => {
                output::note(format!("{refused}; waiting for its end"));
                free(&client, &again.service, index, until).await?;
            }
            _ if attempt >= ATTEMPTS => return Err(refused),
            _ if came && matches!(present(&again.service, image), Present::Other) => return Err(refused),
            _ => attempt += 1,
        }
        patience = patience.filter(|until| *until > Instant::now());
    }
}

/// Whether a freeze holds some of its replicas back.
async fn is_held(client: &Client, view: &ServiceView) -> Result<bool, Failure> {
    let behind = |task: &&Task| task.is_active() && task.template != view.service.template;
    let mut behind = view.tasks.iter().filter(behind).filter_map(|task| task.node);
    if view.wanted.is_some() {
        let frozen = |id| view.nodes.iter().any(|node| node.id == id && node.frozen);
        return Ok(behind.any(frozen));
    }
    // Managers of before do not say it with the service.
    let open = freeze::views(client).await?.into_iter().filter(|freeze| freeze.open_until.is_some());
    let frozen: BTreeSet<NodeId> = open.flat_map(|freeze| freeze.nodes).map(|(id, _)| id).collect();
    Ok(behind.any(|node| frozen.contains(&node)))
}

fn present(service: &Service, image: &str) -> Present {
    let pinned = matches!(service.pins.get(&service.template), Some(ImagePin::Digest(text)) if text == image);
    if !service.spec.template.container.has_image(image) && !pinned {
        return Present::Other;
    }
    match &service.rollout {
        Some(rollout) if rollout.state.is_under_way() => Present::Coming,
        Some(rollout) if rollout.state == RolloutState::Paused => Present::Stopped(rollout.message.clone()),
        _ => Present::Already,
    }
}

/// Waits until no deployment is under way, or until the time is over.
async fn free(client: &Client, service: &Service, index: u64, until: Instant) -> Result<(), Failure> {
    let idle = wait::idle(client, service.id, index);
    match tokio::time::timeout_at(until.into(), idle).await {
        Ok(done) => done,
        Err(_) => Ok(()),
    }
}

/// Follows a release to its end, and keeps the last lines of what it starts.
async fn follow(
    session: &Session,
    client: &Client,
    service: &Service,
    before: Option<Rollout>,
    index: u64,
    flags: &WaitFlags,
) -> Result<Code, Failure> {
    if flags.detach {
        return Ok(finished(session, flags, service, "accepted"));
    }
    let returning =
        service.rollout.as_ref().is_some_and(|rollout| rollout.state == RolloutState::RollingBack);
    let expected = Expected { before, rollback: returning, release: true, ..Expected::default() };
    let number = service.template;
    let mut targets = [Target { id: service.id, name: service.spec.name.clone(), expected }];
    let kept = logs::Kept::default();
    let mut progress = Progress::new(flags.quiet || session.global.json);
    let waited = {
        let waiting = wait::services(client, &mut targets, index, &mut progress);
        let waiting = wait::bounded(client, "the deployment", waiting);
        let keeping = logs::keep(client, service.id, index, kept.clone());
        tokio::pin!(waiting, keeping);
        let ended = tokio::select! {
            biased;
            done = &mut waiting => done,
            () = &mut keeping => return Err(unexpected()),
        };
        if ended.as_ref().is_err_and(|failure| failure.code == Code::ROLLED_BACK) {
            // What is on its way is worth a moment.
            let _ = tokio::time::timeout(LINES_PATIENCE, &mut keeping).await;
        }
        ended
    };
    progress.finish();
    match waited {
        Ok(views) => {
            let view = views.first().ok_or_else(unexpected)?;
            let waits =
                view.service.rollout.as_ref().is_some_and(|r| r.state == RolloutState::AwaitingPromotion);
            Ok(finished(session, flags, &view.service, if waits { "awaiting-promotion" } else { "done" }))
        }
        Err(mut failure) if failure.code == Code::ROLLED_BACK => {
            let (view, _) = wait::view(client, service.id.to_string()).await?;
            failure.message.push_str(&last_lines(&view, number, &kept));
            Err(failure)
        }
        Err(failure) => Err(failure),
    }
}

/// What the failed replicas of a release said last.
fn last_lines(view: &ServiceView, release: TemplateVersion, kept: &logs::Kept) -> String {
    let kept = kept.borrow();
    let mut tasks: Vec<_> = view.tasks.iter().filter(|task| task.template == release).collect();
    tasks.sort_by_key(|task| (task.observed.exit.is_none(), std::cmp::Reverse(task.since)));
    let lines = |task: &&model::task::Task| {
        let lines = kept.get(&task.id.to_string()).filter(|lines| !lines.is_empty())?;
        let name = event::task_name(&view.service.spec.name, task.slot);
        let text: Vec<String> = lines.iter().map(|line| format!("\n  | {line}")).collect();
        Some(format!("\nlast lines of {name} ({}):{}", task.id, text.concat()))
    };
    tasks.iter().find_map(lines).unwrap_or_default()
}

fn stopped(service: &Service, why: &str) -> Failure {
    let name = &service.spec.name;
    Failure::new(
        Code::ROLLED_BACK,
        format!(
            "service {name} has this image as release {}, which is paused: {why}\ngo on with: orchctl deploy resume {name}, \
             or return with: orchctl deploy abort {name}",
            service.template.0
        ),
    )
}

/// Says how it ended.
fn finished(session: &Session, flags: &WaitFlags, service: &Service, state: &str) -> Code {
    let (name, number) = (&service.spec.name, service.template.0);
    let image = &service.spec.template.container.image;
    if session.global.json {
        json::print(&serde_json::json!({
            "id": service.id, "name": name, "release": number, "image": image, "state": state,
        }));
    } else if flags.quiet {
        output::print(service.id.to_string());
    } else {
        output::print(match state {
            "already" => format!("{name}: release {number} runs {image} already"),
            "accepted" => format!("{name}: release {number} accepted: {image}"),
            "frozen" => format!(
                "{name}: release {number} accepted: {image}; replicas on frozen nodes follow when their freeze ends \
                 (orchctl why {name})"
            ),
            "awaiting-promotion" => format!(
                "{name}: the canaries of release {number} are good; the others follow on: orchctl deploy promote {name}"
            ),
            _ => format!("{name}: release {number} is done: {image}"),
        });
    }
    Code::DONE
}

async fn steer(session: &Session, args: &Steer, step: RolloutStep) -> Result<Code, Failure> {
    let client = session.client()?;
    let (seen, _) = wait::view(&client, args.service.clone()).await?;
    let service = seen.service;
    let release = Some(args.release.map_or(service.template, TemplateVersion));
    let request = Request::SteerRollout { service: service.id.to_string(), release, step };
    let (_, index) = client.change(request).await?;
    let (now, _) = wait::view(&client, service.id.to_string()).await?;
    match step {
        RolloutStep::Pause => {
            let name = &service.spec.name;
            session.print(&serde_json::json!({ "id": service.id, "name": name, "state": "paused" }), || {
                format!("{name}: release {} is paused", service.template.0)
            });
            Ok(Code::DONE)
        }
        RolloutStep::Resume | RolloutStep::Promote | RolloutStep::Abort => {
            follow(session, &client, &now.service, service.rollout, index, &args.wait).await
        }
    }
}

async fn status(session: &Session, service: String) -> Result<Code, Failure> {
    let client = session.client()?;
    let (view, _) = wait::view(&client, service).await?;
    let service = &view.service;
    let newest = service.release(service.template);
    let frozen = service.is_rolling() && is_held(&client, &view).await?;
    let document = serde_json::json!({
        "id": service.id, "name": service.spec.name, "release": newest, "rollout": service.rollout,
        "frozen": frozen,
    });
    session.print(&document, || {
        let held = format!(
            "\n  replicas on frozen nodes follow when their freeze ends (orchctl why {})",
            service.spec.name
        );
        format!("{}{}", describe(&view), if frozen { held.as_str() } else { "" })
    });
    Ok(Code::DONE)
}

fn describe(view: &ServiceView) -> String {
    let service = &view.service;
    let now = age::now();
    let name = &service.spec.name;
    let mut lines = vec![match service.release(service.template) {
        Some(release) => {
            let by = release.by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
            let job = if release.job.is_empty() { String::new() } else { format!(" ({})", release.job) };
            let image = rows::release_image(service, release);
            let when = age::since(release.at, now);
            format!("{name}: release {}{by}{job} {when} ago: {image}", release.number.0)
        }
        None => format!("{name}: release {}: {}", service.template.0, service.spec.template.container.image),
    }];
    if let Some(rollout) = &service.rollout {
        let message =
            if rollout.message.is_empty() { String::new() } else { format!(": {}", rollout.message) };
        let state = event::rollout(rollout.state);
        lines.push(format!("  {state} for {}{message}", age::since(rollout.since, now)));
        let deadline = rollout.deadline.filter(|_| rollout.state.is_under_way());
        lines.extend(deadline.map(|at| format!("  ends {} at the latest", age::until(at, now))));
    } else if let Some(release) =
        service.release(service.template).filter(|r| r.result != ReleaseResult::Done)
    {
        lines.push(format!("  {}", release.result));
    }
    let replicas = view.tasks.iter().filter(|task| task.slot != Slot::HOOK);
    let moved = replicas.filter(|task| task.is_active() && task.template == service.template);
    let (there, good) =
        moved.fold((0, 0), |(there, good), task| (there + 1, good + u32::from(task.observed.is_healthy())));
    lines.push(format!("  {there} replicas run it, {good} of them healthy"));
    lines.join("\n")
}
