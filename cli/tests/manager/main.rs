//! `orchctl` against a manager that answers from a script: waiting, retrying, refusals and their exit codes.

mod dev;
mod fake;
mod objects;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use fake::{Site, service_event, task_runs, within};
use model::{
    event::ObjectChange,
    id::{Generation, TaskId},
    request::{ApiError, ErrorCode, LogSource, Request, Response},
    service::RolloutState,
    session::LogFrame,
    task::TaskState,
};
use objects::{changed, failed, service, source, view};
use tokio::io::{AsyncBufReadExt as _, BufReader};

const CREATE: &str = "service create --name ispyb ispyb:1.2";

fn unexpected(request: &Request) -> Result<Response, ApiError> {
    Err(ApiError::new(ErrorCode::Internal, format!("not in the script: {request:?}")))
}

/// A manager whose service stands as `view` says.
fn standing(
    view: impl Fn() -> model::request::ServiceView + Send + Sync + 'static,
) -> impl Fn(&Request, usize) -> Result<Response, ApiError> + Send + Sync + 'static {
    move |request, _| match request {
        Request::GetService(_) => Ok(Response::Service(Box::new(view()))),
        Request::ListNodes => Ok(Response::Nodes(Vec::new())),
        request if !request.is_read() => Ok(changed()),
        request => unexpected(request),
    }
}

#[tokio::test]
async fn create_waits_until_the_service_is_healthy_and_tells_each_change() {
    let site = Site::new();
    let healthy = Arc::new(AtomicBool::new(false));
    let script = {
        let healthy = healthy.clone();
        standing(move || {
            view(if healthy.load(Ordering::SeqCst) { TaskState::Running } else { TaskState::Starting })
        })
    };
    let manager = site.manager(Vec::new(), script).await;
    let mut orchctl = site.start(&manager, CREATE);
    let mut lines = BufReader::new(orchctl.stderr()).lines();
    // Warnings about the declaration come first; then the state that it waits in.
    let mut seen = Vec::new();
    while let Some(line) = within(lines.next_line()).await.expect("readable") {
        let ready = line.contains("ispyb.1: starting");
        seen.push(line);
        if ready {
            healthy.store(true, Ordering::SeqCst);
            manager.tell(vec![service_event(8, ObjectChange::Updated)]);
        }
    }
    orchctl.end().await.check(0, &["ispyb: 1 task healthy"]);
    assert!(seen.iter().any(|line| line == "ispyb.1: running"), "{seen:?}");
}

#[tokio::test]
async fn a_failed_rollout_exits_3_with_the_reason_and_the_exit_of_the_task() {
    for (state, words) in [(RolloutState::Paused, "rollback"), (RolloutState::RolledBack, "was rolled back")]
    {
        let site = Site::new();
        let updated = AtomicBool::new(false);
        let manager = site
            .manager(Vec::new(), move |request, number| {
                if matches!(request, Request::UpdateService { .. }) {
                    updated.store(true, Ordering::SeqCst);
                }
                let now =
                    if updated.load(Ordering::SeqCst) { failed(state) } else { view(TaskState::Running) };
                standing(move || now.clone())(request, number)
            })
            .await;
        let ended = site.run(&manager, "service update ispyb --image ispyb:1.3").await;
        ended.check(3, &[words, "replica 1 crashed", "exit code 9"]);
    }
}

#[tokio::test]
async fn a_timeout_exits_7_and_says_that_the_change_goes_on() {
    let site = Site::new();
    let manager = site.manager(Vec::new(), standing(|| view(TaskState::Starting))).await;
    site.run(&manager, &format!("{CREATE} --timeout 1s")).await.check(7, &["goes on"]);
    let detached = site.run(&manager, "--json service create --detach --name ispyb ispyb:1.2").await;
    detached.check(0, &["\"accepted\""]);
}

#[tokio::test]
async fn ctrl_c_exits_130_and_changes_nothing() {
    let site = Site::new();
    let manager = site.manager(Vec::new(), standing(|| view(TaskState::Starting))).await;
    let mut orchctl = site.start(&manager, CREATE);
    let mut lines = BufReader::new(orchctl.stderr()).lines();
    let mut said = String::new();
    while let Some(line) = within(lines.next_line()).await.expect("readable") {
        if line.contains("starting") {
            let pid = rustix::process::Pid::from_raw(orchctl.pid()).expect("it runs");
            rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("interrupted");
        }
        said.push_str(&line);
    }
    assert_eq!(orchctl.end().await.code, Some(130));
    assert!(said.contains("goes on"), "{said}");
    let changes = manager.asked().into_iter().filter(|(_, request)| !request.is_read()).count();
    assert_eq!(changes, 1, "nothing but the creation was sent");
}

#[tokio::test]
async fn a_change_is_tried_again_under_the_same_request_id() {
    let site = Site::new();
    let manager = site
        .manager(Vec::new(), |_, number| match number {
            0 | 1 => Err(ApiError::new(ErrorCode::Unavailable, "an election is under way")),
            _ => Ok(changed()),
        })
        .await;
    site.run(&manager, &format!("{CREATE} --detach")).await.check(0, &["accepted"]);
    let asked = manager.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|(id, _)| *id == asked[0].0 && *id != 0), "{asked:?}");
}

#[tokio::test]
async fn a_stale_answer_is_marked_as_such() {
    let site = Site::new();
    let manager = site.manager(Vec::new(), |_, _| Ok(Response::Services(Vec::new()))).await;
    site.run(&manager, "service ls --stale").await.check(0, &["newer changes may be missing"]);
    let fresh = site.run(&manager, "service ls").await;
    fresh.check(0, &["HEALTHY"]);
    assert_eq!(fresh.err, "");
}

#[tokio::test]
async fn a_manager_that_is_away_is_passed_over() {
    let site = Site::new();
    let manager = site.manager(Vec::new(), standing(|| view(TaskState::Running))).await;
    let nobody = free_address();
    let orchctl = site.start_with(&[&nobody, &manager.address], CREATE);
    orchctl.end().await.check(0, &["1 task healthy"]);
}

/// It takes connections as a stopped process does: the kernel does, and nobody answers.
#[tokio::test]
async fn a_manager_that_is_frozen_costs_a_moment() {
    let site = Site::new();
    let manager = site.manager(Vec::new(), standing(|| view(TaskState::Running))).await;
    let frozen = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let frozen = frozen.local_addr().expect("bound").to_string();
    let began = std::time::Instant::now();
    site.start_with(&[&frozen, &manager.address], "node ls").end().await.check(0, &[]);
    assert!(began.elapsed() < Duration::from_secs(3), "it took {:?}", began.elapsed());
    let orchctl = site.start_with(&[&frozen, &manager.address], CREATE);
    orchctl.end().await.check(0, &["1 task healthy"]);
    assert!(began.elapsed() < Duration::from_secs(6), "it took {:?}", began.elapsed());
}

#[tokio::test]
async fn when_no_manager_can_be_reached_each_address_is_named_with_the_cause() {
    let site = Site::new();
    let nobody = free_address();
    let ended = site.start_with(&[&nobody], "status --timeout 1s").end().await;
    ended.check(1, &["no manager of context \"test\" can be reached", &nobody, "refused"]);
}

#[tokio::test]
async fn a_manager_of_another_cluster_is_refused_as_such() {
    let site = Site::new();
    let other = Site::new().manager(Vec::new(), standing(|| view(TaskState::Running))).await;
    site.run(&other, "status").await.check(4, &[&other.address, "wrong CA"]);
}

#[tokio::test]
async fn every_refusal_has_its_exit_code() {
    let refusals = [
        (ErrorCode::Invalid, 2),
        (ErrorCode::NotFound, 1),
        (ErrorCode::AlreadyExists, 5),
        (ErrorCode::Denied, 4),
        (ErrorCode::Frozen, 6),
        (ErrorCode::Deadline, 7),
        (ErrorCode::Exhausted, 1),
    ];
    for (code, exit) in refusals {
        let site = Site::new();
        let manager = site.manager(Vec::new(), move |_, _| Err(ApiError::new(code, "because of that"))).await;
        site.run(&manager, &format!("{CREATE} --timeout 5s")).await.check(exit, &["because of that"]);
    }
}

#[tokio::test]
async fn a_conflict_with_the_clusters_own_bookkeeping_is_resolved_and_one_with_a_person_is_told() {
    for by_a_person in [false, true] {
        let site = Site::new();
        let manager = site
            .manager(Vec::new(), move |request, number| match request {
                Request::GetService(_) => {
                    let mut view = view(TaskState::Running);
                    view.service = service(if number == 0 { 1 } else { 2 });
                    if by_a_person && number > 0 {
                        let mut spec = (*view.service.spec).clone();
                        spec.template.container.image = "another:2".into();
                        view.service.spec = spec.into();
                    }
                    Ok(Response::Service(Box::new(view)))
                }
                Request::UpdateService { expected, .. } if *expected == Generation(2) => Ok(changed()),
                Request::UpdateService { .. } => Err(ApiError::new(ErrorCode::Conflict, "it has changed")),
                request => unexpected(request),
            })
            .await;
        let ended = site.run(&manager, "service update ispyb --env-add A=1 --detach").await;
        ended.check(
            if by_a_person { 5 } else { 0 },
            &[if by_a_person { "it has changed" } else { "accepted" }],
        );
    }
}

#[tokio::test]
async fn logs_print_what_they_can_and_name_the_node_that_is_away() {
    let line = |text: &'static str| LogFrame::Data { stderr: false, bytes: text.as_bytes().into() };
    let frames = vec![(0, line("hello\nwor")), (0, line("ld\n")), (0, LogFrame::End(None))];
    let site = Site::new();
    let partial = site
        .manager(frames, |_, _| {
            Ok(Response::LogPlan(vec![source("ispyb.1", None), source("ispyb.2", Some("the node is down"))]))
        })
        .await;
    let ended = site.run(&partial, "logs ispyb").await;
    ended.check(0, &["ispyb.2 on node-of-ispyb.2: the node is down"]);
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines, ["ispyb.1@node-of-ispyb.1 | hello", "ispyb.1@node-of-ispyb.1 | world"]);

    let nothing = site
        .manager(Vec::new(), |_, _| Ok(Response::LogPlan(vec![source("ispyb.2", Some("the node is down"))])))
        .await;
    site.run(&nothing, "logs ispyb").await.check(1, &["node-of-ispyb.2", "none of the logs"]);
}

#[tokio::test]
async fn following_logs_picks_up_tasks_that_start_later_until_the_service_is_removed() {
    let line = |text: &'static str| LogFrame::Data { stderr: false, bytes: text.as_bytes().into() };
    let site = Site::new();
    let frames = vec![(0, line("hello\n")), (0, LogFrame::End(None))];
    let manager = site
        .manager(frames, |request, _| match request {
            Request::Logs { of, .. } if of == "ispyb" => Ok(Response::LogPlan(vec![source("ispyb.1", None)])),
            Request::Logs { of, .. } if *of == TaskId(2).to_string() => {
                Ok(Response::LogPlan(vec![LogSource { task: TaskId(2), ..source("ispyb.2", None) }]))
            }
            Request::GetService(_) => Ok(Response::Service(Box::new(view(TaskState::Running)))),
            request => unexpected(request),
        })
        .await;
    let mut orchctl = site.start(&manager, "logs --follow ispyb");
    let mut lines = BufReader::new(orchctl.stdout()).lines();
    let mut next = async || within(lines.next_line()).await.expect("readable");
    assert_eq!(next().await.as_deref(), Some("ispyb.1@node-of-ispyb.1 | hello"));
    within(manager.watched()).await;
    manager.tell(vec![task_runs(8, TaskId(2))]);
    assert_eq!(next().await.as_deref(), Some("ispyb.2@node-of-ispyb.2 | hello"));
    manager.tell(vec![service_event(9, ObjectChange::Removed)]);
    assert_eq!(next().await, None);
    assert_eq!(orchctl.end().await.code, Some(0));
}

#[tokio::test]
async fn a_declaration_that_is_inspected_can_be_sent_back() {
    let site = Site::new();
    let manager = site.manager(Vec::new(), standing(|| view(TaskState::Running))).await;
    let printed = site.run(&manager, "service inspect ispyb --spec").await;
    printed.check(0, &["image = \"ispyb:1.2\""]);
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("ispyb.toml");
    std::fs::write(&path, printed.out.replace("1.2", "1.3")).expect("written");
    let line = format!("service update ispyb --detach --file {}", path.display());
    site.run(&manager, &line).await.check(0, &["accepted"]);
    let sent = manager.asked().into_iter().find_map(|(_, request)| match request {
        Request::UpdateService { spec, .. } => Some(spec),
        _ => None,
    });
    assert_eq!(sent.expect("an update").template.container.image, "ispyb:1.3");
}

/// An address that nobody listens on: it was free a moment ago.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.expect("a port").to_string()
}
