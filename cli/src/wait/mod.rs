//! Waiting until a change has arrived: read, judge, and read again whenever an event concerns it.
//!
//! The cluster does the work; waiting only looks. So Ctrl-C and `--timeout` end the looking and never the change.

pub mod converge;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    time::{Duration, Instant},
};

use converge::{Expected, Judgement, Nodes, Verdict};
use futures_util::FutureExt as _;
use model::{
    event::{Event, EventKind, Revision},
    id::{NodeId, ServiceId},
    request::{ErrorCode, Request, Response, ServiceView},
    service::Mode,
};

use crate::{
    client::{Client, WatchItem, unexpected},
    exit::{Code, Failure},
    output::{
        self,
        progress::{Line, Progress},
    },
};

/// How long a change is waited for without `--timeout`: as long as a new replica may take by default.
const DEFAULT_WAIT: Duration = Duration::from_secs(600);
/// Reasons of pending tasks change without an event; the picture follows them at this pace.
const REFRESH: Duration = Duration::from_secs(2);

/// One service that is waited for.
#[derive(Debug, Clone)]
pub struct Target {
    /// Which.
    pub id: ServiceId,
    /// Its name.
    pub name: String,
    /// What is expected of it.
    pub expected: Expected,
}

/// Runs `work` until it is done, the time is over, or Ctrl-C. `what` names the change that goes on.
///
/// # Errors
/// Those of `work`; exit 7 or 130 with a message that says that the change goes on.
pub async fn bounded<T>(
    client: &Client,
    what: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    bounded_by(client, Some(DEFAULT_WAIT), what, work).await
}

/// The same with another limit where the user says none; without any, what is waited for must end by itself.
///
/// # Errors
/// As for [`bounded`].
pub async fn bounded_by<T>(
    client: &Client,
    limit: Option<Duration>,
    what: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    client.wait_longer();
    let end = client.deadline().or_else(|| limit.map(|limit| Instant::now() + limit));
    let over = async {
        match end {
            Some(end) => tokio::time::sleep_until(end.into()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Err(Failure::new(
            Code::INTERRUPTED,
            format!("no longer waiting; {what} goes on"),
        )),
        () = over => Err(Failure::new(
            Code::DEADLINE,
            format!("not finished in time; {what} goes on (orchctl status and orchctl why NAME say what it waits for)"),
        )),
        done = work => done,
    }
}

/// Waits until all services are as declared after log index `index`.
///
/// # Errors
/// Exit 3 when a rollout failed, 1 when tasks ended for good, and those of the calls.
pub async fn services(
    client: &Client,
    targets: &mut [Target],
    index: u64,
    progress: &mut Progress,
) -> Result<Vec<ServiceView>, Failure> {
    let ids: BTreeSet<ServiceId> = targets.iter().map(|target| target.id).collect();
    let mut nodes = Nodes::new();
    until(
        client,
        index,
        |event| concerns(event, &ids),
        async || {
            let mut views = Vec::new();
            let mut lines = Vec::new();
            let mut verdicts = Vec::new();
            let mut seen = u64::MAX;
            for target in targets.iter_mut() {
                let (view, at) = get(client, target).await?;
                seen = seen.min(at);
                refresh_nodes(client, &mut nodes, &view).await?;
                if view.service.spec.mode == Mode::Global {
                    target.expected.global_tasks = wanted_tasks(client, &view).await?;
                }
                let Judgement { verdict, lines: more } = converge::judge(&view, &target.expected, &nodes);
                lines.extend(more);
                verdicts.push((target.name.clone(), verdict));
                views.push(view);
            }
            progress.show(&lines);
            Ok((conclude(verdicts)?.then_some(views), seen))
        },
    )
    .await
}

/// Waits until no rollout of a service is under way.
///
/// # Errors
/// Those of the calls.
pub async fn idle(client: &Client, id: ServiceId, index: u64) -> Result<(), Failure> {
    let ids = BTreeSet::from([id]);
    let look = async || {
        let (view, seen) = view(client, id.to_string()).await?;
        Ok(((!view.service.is_rolling()).then_some(()), seen))
    };
    until(client, index, |event| concerns(event, &ids), look).await
}

/// Waits until a job has come to its end. With `speaks` it shows its own lines as soon as it runs.
///
/// # Errors
/// It was removed meanwhile; those of the calls.
pub async fn job(
    client: &Client,
    id: ServiceId,
    index: u64,
    speaks: bool,
    progress: &mut Progress,
) -> Result<ServiceView, Failure> {
    let ids = BTreeSet::from([id]);
    let mut nodes = Nodes::new();
    let target = Target { id, name: "of this job".into(), expected: Expected::default() };
    until(
        client,
        index,
        |event| concerns(event, &ids),
        async || {
            let (view, seen) = get(client, &target).await?;
            refresh_nodes(client, &mut nodes, &view).await?;
            progress.show(&converge::job(&view, &nodes));
            if speaks && view.tasks.iter().any(|task| task.observed.attempt > 0) {
                progress.retire();
            }
            let over = view.service.job.as_ref().is_none_or(|job| job.is_over());
            Ok((over.then_some(view), seen))
        },
    )
    .await
}

/// Waits until services are gone.
///
/// # Errors
/// Those of the calls.
pub async fn removal(
    client: &Client,
    ids: &[ServiceId],
    index: u64,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let set: BTreeSet<ServiceId> = ids.iter().copied().collect();
    let mut nodes = Nodes::new();
    until(
        client,
        index,
        |event| concerns(event, &set),
        async || {
            let mut lines = Vec::new();
            let mut seen = u64::MAX;
            let mut left = 0;
            for id in ids {
                match view(client, id.to_string()).await {
                    Ok((view, at)) => {
                        seen = seen.min(at);
                        left += 1;
                        refresh_nodes(client, &mut nodes, &view).await?;
                        lines.extend(converge::judge(&emptied(view), &Expected::default(), &nodes).lines);
                    }
                    Err(failure) if failure.api == Some(ErrorCode::NotFound) => {}
                    Err(failure) => return Err(failure),
                }
            }
            progress.show(&lines);
            Ok(((left == 0).then_some(()), if left == 0 { index } else { seen }))
        },
    )
    .await
}

/// Waits until a node holds no container of the cluster's any more.
///
/// # Errors
/// Those of the calls.
pub async fn drained(
    client: &Client,
    node: NodeId,
    index: u64,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let of_node = |event: &Event| match &event.kind {
        EventKind::Task { node: Some(on), .. } => *on == node,
        EventKind::Node { id, .. } => *id == node,
        _ => false,
    };
    let services = service_names(client).await?;
    until(client, index, of_node, async || {
        let reply = client.call(Request::GetNode(node.to_string())).await?;
        let Response::Node(view) = reply.response else { return Err(unexpected()) };
        let tasks: Vec<_> = view.tasks.iter().filter(|task| task.may_have_container()).collect();
        let lines: Vec<Line> = tasks
            .iter()
            .map(|task| Line {
                label: match services.get(&task.service) {
                    Some(service) => output::event::task_name(service, task.slot),
                    None => task.id.to_string(),
                },
                text: output::rows::state(&task.observed, task.desired),
                done: false,
            })
            .collect();
        progress.show(&lines);
        Ok((tasks.is_empty().then_some(()), reply.index))
    })
    .await
}

/// A service as its identity tells it, with the applied index of the answer.
///
/// # Errors
/// Those of the call.
pub async fn view(client: &Client, reference: String) -> Result<(ServiceView, u64), Failure> {
    let reply = client.call(Request::GetService(reference)).await?;
    match reply.response {
        Response::Service(view) => Ok((*view, reply.index)),
        _ => Err(unexpected()),
    }
}

/// Looks until there is a result: at once, after each relevant event that the last look cannot have seen, and now and
/// then. `look` returns the result, if there is one, and the applied index that it saw.
async fn until<T>(
    client: &Client,
    index: u64,
    relevant: impl Fn(&Event) -> bool,
    mut look: impl AsyncFnMut() -> Result<(Option<T>, u64), Failure>,
) -> Result<T, Failure> {
    let mut watch = client.watch(Some(Revision { index, ordinal: u32::MAX }));
    loop {
        let (result, seen) = look().await?;
        if let Some(result) = result {
            return Ok(result);
        }
        let is_news = |item: WatchItem| match item {
            WatchItem::Events(events) => events.iter().any(|e| e.revision.index > seen && relevant(e)),
            WatchItem::Resync(_) | WatchItem::End => true,
        };
        let news = async {
            while !is_news(watch.next().await?) {}
            // Whatever has arrived with it is covered by the same look.
            while let Some(item) = watch.next().now_or_never() {
                item?;
            }
            Ok::<(), Failure>(())
        };
        if let Ok(news) = tokio::time::timeout(REFRESH, news).await {
            news?;
        }
    }
}

fn concerns(event: &Event, services: &BTreeSet<ServiceId>) -> bool {
    match &event.kind {
        EventKind::Service { id, .. }
        | EventKind::Rollout { service: id, .. }
        | EventKind::Task { service: id, .. } => services.contains(id),
        EventKind::Node { .. } => true,
        EventKind::Member { .. }
        | EventKind::Network { .. }
        | EventKind::Token { .. }
        | EventKind::Item { .. } => false,
    }
}

async fn get(client: &Client, target: &Target) -> Result<(ServiceView, u64), Failure> {
    view(client, target.id.to_string()).await.map_err(|failure| match failure.api {
        Some(ErrorCode::NotFound) => Failure::error(format!("service {} was removed meanwhile", target.name)),
        _ => failure,
    })
}

/// Whether all are done.
///
/// # Errors
/// One cannot get there by itself.
fn conclude(verdicts: Vec<(String, Verdict)>) -> Result<bool, Failure> {
    let mut all = true;
    for (name, verdict) in verdicts {
        match verdict {
            Verdict::Converged => {}
            Verdict::Working => all = false,
            Verdict::RolledBack(why) => {
                return Err(Failure::new(
                    Code::ROLLED_BACK,
                    format!("service {name} was rolled back: {why}"),
                ));
            }
            Verdict::Paused(why) => {
                return Err(Failure::new(
                    Code::ROLLED_BACK,
                    format!(
                        "service {name} is not updated: {why}\nmend it, or: orchctl service rollback {name}"
                    ),
                ));
            }
            Verdict::Failed(why) => {
                return Err(Failure::error(format!("service {name} has ended with a failure: {why}")));
            }
        }
    }
    Ok(all)
}

/// The same view with no replica wanted, so that every task that is left shows.
fn emptied(mut view: ServiceView) -> ServiceView {
    let mut spec = (*view.service.spec).clone();
    spec.mode = Mode::Replicated(0);
    view.service.spec = spec.into();
    view
}

async fn wanted_tasks(client: &Client, view: &ServiceView) -> Result<u32, Failure> {
    if let Some(wanted) = view.wanted {
        return Ok(wanted);
    }
    let id = view.service.id;
    match client.call(Request::ListServices).await?.response {
        Response::Services(rows) => {
            Ok(rows.iter().find(|row| row.service.id == id).map_or(0, |row| row.wanted))
        }
        _ => Err(unexpected()),
    }
}

/// Takes the nodes from the view. Managers of before do not say them there: then they are read again, since states matter where
/// a task is to go.
async fn refresh_nodes(client: &Client, nodes: &mut Nodes, view: &ServiceView) -> Result<(), Failure> {
    if view.wanted.is_some() {
        nodes.extend(view.nodes.iter().map(|node| (node.id, (node.name.clone(), node.state))));
        return Ok(());
    }
    let known = view.tasks.iter().filter_map(|task| task.node).all(|node| nodes.contains_key(&node));
    let leaving = view.tasks.iter().any(|task| task.may_have_container() && !task.is_active());
    if known && !leaving {
        return Ok(());
    }
    *nodes = self::nodes(client).await?;
    Ok(())
}

/// The names of all services.
///
/// # Errors
/// Those of the call.
pub async fn service_names(client: &Client) -> Result<BTreeMap<ServiceId, String>, Failure> {
    match client.call(Request::ListServices).await?.response {
        Response::Services(rows) => {
            Ok(rows.into_iter().map(|row| (row.service.id, row.service.spec.name.clone())).collect())
        }
        _ => Err(unexpected()),
    }
}

/// Names and states of all nodes.
///
/// # Errors
/// Those of the call.
pub async fn nodes(client: &Client) -> Result<Nodes, Failure> {
    match client.call(Request::ListNodes).await?.response {
        Response::Nodes(views) => {
            Ok(views.into_iter().map(|v| (v.node.id, (v.node.facts.hostname, v.node.state))).collect())
        }
        _ => Err(unexpected()),
    }
}
