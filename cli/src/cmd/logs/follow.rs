//! `logs --follow`: a service's logs over all the tasks that it ever gets.
//!
//! A stream covers the tasks that there were when it was opened. Events tell which tasks run later; each gets a stream
//! of its own. One that broke is opened again, from the moment on at which it broke.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use model::{
    event::{Event, EventKind, ObjectChange, Revision},
    id::{ServiceId, TaskId},
    request::{ErrorCode, Request, ServiceView},
    session::{LogFrame, LogOptions},
    task::{DesiredState, Task, TaskState},
};

use super::{Kept, Printer, Style, name_end};
use crate::{
    client::{Client, LogItem, LogStream, WatchItem},
    exit::{Code, Failure},
    wait,
};

/// Between two attempts to reach a source that broke; its node may be away for hours.
const RETRY: Duration = Duration::from_secs(2);

/// For the last lines of a container that has ended.
const LAST_LINES: Duration = Duration::from_secs(10);

/// One stream's next frame, and the stream.
type Next = BoxFuture<'static, (usize, LogStream, Result<Option<LogItem>, String>)>;

/// Whose logs are followed.
#[derive(Clone, Copy)]
pub struct Subject {
    /// The service, if it is one; a single task never gets another.
    service: Option<ServiceId>,
    /// Events after this index may tell of tasks that the first plan does not have.
    index: Option<u64>,
    /// Tasks that end are looked at as well: one that ends at once may never be told to run.
    ended: bool,
}

/// Finds out whose logs are meant; to be asked before they are opened, so that no task is missed in between.
///
/// # Errors
/// Those of the call.
pub async fn subject(client: &Client, of: &str) -> Result<Subject, Failure> {
    match wait::view(client, of.to_owned()).await {
        Ok((view, index)) => Ok(Subject { service: Some(view.service.id), index: Some(index), ended: false }),
        Err(failure) if failure.api == Some(ErrorCode::NotFound) => {
            Ok(Subject { service: None, index: None, ended: false })
        }
        Err(failure) => Err(failure),
    }
}

/// Follows until the service is removed.
///
/// # Errors
/// The watch was refused, or no manager can be reached.
pub async fn follow(
    client: &Client,
    subject: Subject,
    options: LogOptions,
    stream: Option<LogStream>,
    printer: Printer,
) -> Result<Code, Failure> {
    client.wait_longer();
    let service = subject.service;
    let mut follower = Follower::new(client, options, printer);
    stream.into_iter().for_each(|stream| follower.take(stream));
    let mut watch = client.watch(subject.index.map(|index| Revision { index, ordinal: u32::MAX }));
    loop {
        let retry = !follower.broken.is_empty();
        tokio::select! {
            Some((first, stream, item)) = follower.streams.next() => follower.frame(first, stream, item),
            item = watch.next() => {
                let WatchItem::Events(events) = item? else { continue };
                for event in events {
                    if is_removal(&event, service) {
                        return Ok(Code::DONE);
                    }
                    if let Some(task) = starts(&event, &subject) {
                        follower.reopen(task).await?;
                    }
                }
            }
            () = tokio::time::sleep(RETRY), if retry => {
                follower.reopen_broken().await?;
            }
        }
    }
}

/// Keeps the last lines of every task of a service that starts after an index of the log, for as long as it is polled: a task
/// that a failed rollout stopped has no container any more, and its lines are gone with it.
pub async fn keep(client: &Client, service: ServiceId, index: u64, kept: Kept) {
    let subject = Subject { service: Some(service), index: Some(index), ended: true };
    let options = LogOptions { follow: true, ..LogOptions::default() };
    // Lines are a help, not the matter: without them the deployment is followed all the same.
    let _ = follow(client, subject, options, None, Printer::keeping(kept)).await;
    std::future::pending::<()>().await;
}

/// Prints what the tasks of a job write until it has come to its end, and then what is left of it. `done` resolves at the end.
///
/// # Errors
/// Those of `done`, and of following.
pub async fn until(
    client: &Client,
    service: ServiceId,
    index: u64,
    style: Style,
    done: impl Future<Output = Result<ServiceView, Failure>>,
) -> Result<ServiceView, Failure> {
    client.wait_longer();
    let subject = Subject { service: Some(service), index: Some(index), ended: true };
    let options = LogOptions { follow: true, ..LogOptions::default() };
    let mut follower = Follower::new(client, options, Printer::new(style));
    let mut watch = client.watch(Some(Revision { index, ordinal: u32::MAX }));
    let mut done = std::pin::pin!(done);
    let view = loop {
        let retry = !follower.broken.is_empty();
        tokio::select! {
            view = &mut done => break view?,
            Some((first, stream, item)) = follower.streams.next() => follower.frame(first, stream, item),
            item = watch.next() => {
                let WatchItem::Events(events) = item? else { continue };
                for task in events.iter().filter_map(|event| starts(event, &subject)) {
                    follower.reopen(task).await?;
                }
            }
            () = tokio::time::sleep(RETRY), if retry => follower.reopen_broken().await?,
        }
    };
    follower.finish(&view).await?;
    Ok(view)
}

fn is_removal(event: &Event, service: Option<ServiceId>) -> bool {
    matches!(&event.kind, EventKind::Service { id, change: ObjectChange::Removed, .. } if Some(*id) == service)
}

/// The task that has something to say now, if it is one of ours.
fn starts(event: &Event, of: &Subject) -> Option<TaskId> {
    let EventKind::Task { id, service, state, .. } = &event.kind else { return None };
    let ended = matches!(
        state,
        TaskState::Restarting | TaskState::CrashLoop | TaskState::Failed | TaskState::Completed
    );
    let speaks = *state == TaskState::Running || (ended && of.ended);
    (speaks && Some(*service) == of.service).then_some(*id)
}

struct Follower<'a> {
    client: &'a Client,
    options: LogOptions,
    printer: Printer,
    streams: FuturesUnordered<Next>,
    /// Tasks with a stream.
    open: BTreeSet<TaskId>,
    /// When a task's last stream ended.
    ended: BTreeMap<TaskId, Instant>,
    /// Tasks whose stream did not end by itself.
    broken: BTreeSet<TaskId>,
}

impl<'a> Follower<'a> {
    fn new(client: &'a Client, options: LogOptions, printer: Printer) -> Self {
        Self {
            client,
            options,
            printer,
            streams: FuturesUnordered::new(),
            open: BTreeSet::new(),
            ended: BTreeMap::new(),
            broken: BTreeSet::new(),
        }
    }

    async fn reopen_broken(&mut self) -> Result<(), Failure> {
        for task in std::mem::take(&mut self.broken) {
            self.reopen(task).await?;
        }
        Ok(())
    }

    /// What the tasks of a job that is over have still to say; a node that is away is not waited for.
    async fn finish(&mut self, view: &ServiceView) -> Result<(), Failure> {
        let unheard = |task: &&Task| !self.open.contains(&task.id) && !self.ended.contains_key(&task.id);
        let ran = |task: &&Task| task.observed.attempt > 0 && task.desired == DesiredState::Running;
        let late: Vec<TaskId> = view.tasks.iter().filter(ran).filter(unheard).map(|task| task.id).collect();
        for task in late {
            self.reopen(task).await?;
        }
        let end = tokio::time::Instant::now() + LAST_LINES;
        while !self.open.is_empty()
            && let Ok(Some((first, stream, item))) = tokio::time::timeout_at(end, self.streams.next()).await
        {
            self.frame(first, stream, item);
        }
        Ok(())
    }

    fn take(&mut self, stream: LogStream) {
        for source in &stream.plan {
            if source.missing.is_some() {
                self.broken.insert(source.task);
            } else {
                self.open.insert(source.task);
            }
        }
        let first = self.printer.add(&stream.plan);
        self.push(first, stream);
    }

    fn push(&mut self, first: usize, mut stream: LogStream) {
        self.streams.push(Box::pin(async move {
            let item = stream.next().await;
            (first, stream, item)
        }));
    }

    fn frame(&mut self, first: usize, stream: LogStream, item: Result<Option<LogItem>, String>) {
        match item {
            Ok(Some(LogItem { source, frame: LogFrame::Data { stderr, bytes } })) => {
                self.printer.data(first + source, stderr, &bytes);
            }
            Ok(Some(LogItem { source, frame: LogFrame::End(why) })) => {
                self.printer.end(first + source);
                if let Some(of) = stream.plan.get(source) {
                    if let Some(why) = &why {
                        name_end(of, why);
                    }
                    self.end(of.task, why.is_some());
                }
            }
            Ok(None) | Err(_) => {
                for (number, source) in stream.plan.iter().enumerate() {
                    self.printer.end(first + number);
                    self.end(source.task, true);
                }
                return;
            }
        }
        self.push(first, stream);
    }

    fn end(&mut self, task: TaskId, broken: bool) {
        if self.open.remove(&task) {
            self.ended.insert(task, Instant::now());
            if broken {
                self.broken.insert(task);
            }
        }
    }

    /// Opens a task's logs from where they ended, or from the beginning for a new one.
    async fn reopen(&mut self, task: TaskId) -> Result<(), Failure> {
        if self.open.contains(&task) {
            return Ok(());
        }
        self.broken.remove(&task);
        let since = self.ended.get(&task).map(Instant::elapsed);
        let options = LogOptions { tail: None, since, ..self.options.clone() };
        match self.client.logs(Request::Logs { of: task.to_string(), options }).await {
            Ok(stream) => {
                self.take(stream);
                Ok(())
            }
            // It was forgotten meanwhile: there is nothing to follow.
            Err(failure) if failure.api == Some(ErrorCode::NotFound) => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}
