//! Against a real Docker Engine in a laboratory of its own.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use agent_core::{
    engine::{
        AttemptId, Change, ContainerRequest, ContainerStatus, ContainerView, EngineCall, EngineErrorKind,
        OpOutcome,
    },
    event::Event,
    labels::{Labels, container_name},
};
use model::{
    container::{ContainerSpec, Healthcheck, Mount, MountSource, PortSpec, Protocol, Resources, Ulimit},
    id::{ClusterId, NodeId, ServiceId, TaskId},
    probe::{Diagnosis, DiagnosisBy},
    service::{ImagePin, RestartPolicy, Slot, TemplateVersion},
    session::{Assignment, LogFrame, LogOptions},
    task::{DesiredState, Health},
};
use tests::{
    hosts::Lab,
    image::{self, MIMIC_1, MIMIC_CHECKED},
    require::{LAB, can_run},
};
use tokio::sync::mpsc;

use super::{Engine, Logins, Ours, watch};
use crate::{
    attempts::{Attempts, Line, What},
    logs::{self, Wanted},
};

/// For one thing to happen on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
const OURS: Ours = Ours { cluster: ClusterId(1), node: NodeId(2) };

/// One host for all tests of this process; each test has tasks of its own.
static HOST: LazyLock<Lab> = LazyLock::new(|| {
    let lab = Lab::start(1).expect("a host with an engine");
    lab.host(0).engine().load(&image::mimic_archive().expect("the mimic's image")).expect("the image loads");
    lab
});

fn engine() -> Engine {
    Engine::new(&HOST.host(0).engine().url())
}

fn run(test: &str, work: impl AsyncFnOnce()) {
    if can_run(&format!("agent: {test}"), &LAB) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work());
    }
}

fn request(task: u64, spec: ContainerSpec) -> ContainerRequest {
    let spec = Arc::new(spec);
    let assignment = Assignment {
        task: TaskId(task),
        service: ServiceId(3),
        service_name: "web".into(),
        slot: Slot::Replica(1),
        template: TemplateVersion(1),
        desired: DesiredState::Running,
        container: spec.clone(),
        restart: RestartPolicy::default(),
        pin: None,
        node: OURS.node,
        node_name: "host".into(),
    };
    ContainerRequest {
        name: container_name(&assignment, 1),
        image: spec.image.clone(),
        hostname: None,
        env: spec.env.clone(),
        labels: Labels::of(OURS.cluster, &assignment, 1).render(&assignment),
        files: None,
        networks: Vec::new(),
        spec,
    }
}

fn mimic() -> ContainerSpec {
    ContainerSpec { image: MIMIC_1.into(), stop_grace: Some(Duration::from_secs(5)), ..Default::default() }
}

async fn create(engine: &Engine, task: u64, spec: ContainerSpec) -> String {
    match engine.call(EngineCall::Create(Box::new(request(task, spec)))).await {
        Ok(OpOutcome::Created { id }) => id,
        other => panic!("expected a container, got {other:?}"),
    }
}

async fn view(engine: &Engine, call: EngineCall) -> ContainerView {
    match engine.call(call).await {
        Ok(OpOutcome::Container(view)) => view,
        other => panic!("expected a container, got {other:?}"),
    }
}

async fn refused(engine: &Engine, call: EngineCall) -> EngineErrorKind {
    engine.call(call).await.expect_err("it is refused").kind
}

#[test]
fn a_container_is_made_started_stopped_and_removed() {
    run("a container's life", async || {
        let engine = engine();
        let id = create(&engine, 10, mimic()).await;
        let created = view(&engine, EngineCall::Inspect { container: request(10, mimic()).name }).await;
        assert_eq!((created.id.as_str(), &created.status), (id.as_str(), &ContainerStatus::Created));
        assert_eq!(created.labels.task, TaskId(10));
        let started = view(&engine, EngineCall::Start { container: id.clone() }).await;
        assert!(
            matches!(started.status, ContainerStatus::Running { health: Health::None, .. }),
            "{started:?}"
        );
        let stop = EngineCall::Stop { container: id.clone(), grace: Some(Duration::from_secs(5)) };
        let stopped = view(&engine, stop.clone()).await;
        assert!(matches!(stopped.status, ContainerStatus::Ended { .. }), "{stopped:?}");
        assert_eq!(view(&engine, stop).await.status, stopped.status);
        assert_eq!(
            engine.call(EngineCall::Remove { container: id.clone(), keep: None }).await,
            Ok(OpOutcome::Done)
        );
        assert_eq!(
            refused(&engine, EngineCall::Inspect { container: id.clone() }).await,
            EngineErrorKind::NotFound
        );
        assert_eq!(
            refused(&engine, EngineCall::Remove { container: id, keep: None }).await,
            EngineErrorKind::NotFound
        );
    });
}

#[test]
fn a_second_container_of_one_attempt_is_a_conflict() {
    run("a conflict", async || {
        let engine = engine();
        create(&engine, 20, mimic()).await;
        let again = EngineCall::Create(Box::new(request(20, mimic())));
        assert_eq!(refused(&engine, again).await, EngineErrorKind::Conflict);
    });
}

#[test]
fn what_cannot_run_is_refused_by_kind() {
    run("refusals", async || {
        let engine = engine();
        let make = |task, spec| EngineCall::Create(Box::new(request(task, spec)));
        let missing = ContainerSpec { image: "orch/absent:1".into(), ..mimic() };
        assert_eq!(refused(&engine, make(30, missing)).await, EngineErrorKind::ImageMissing);
        let bind = Mount {
            source: MountSource::Bind("/nowhere/at/all".into()),
            target: "/data".into(),
            read_only: true,
        };
        let unbound = ContainerSpec { mounts: vec![bind], ..mimic() };
        let error = engine.call(make(31, unbound)).await.unwrap_err();
        assert_eq!(error.kind, EngineErrorKind::MountMissing);
        assert!(error.message.contains("/nowhere/at/all"), "{error:?}");
        let absent = ContainerSpec { command: vec!["/absent".into()], ..mimic() };
        let id = create(&engine, 32, absent).await;
        assert_eq!(refused(&engine, EngineCall::Start { container: id }).await, EngineErrorKind::Invalid);
        let port = ContainerSpec {
            ports: vec![PortSpec { target: 8080, published: 18_080, protocol: Protocol::Tcp }],
            ..mimic()
        };
        let first = create(&engine, 33, port.clone()).await;
        let second = create(&engine, 34, port).await;
        let bound = view(&engine, EngineCall::Start { container: first }).await;
        assert_eq!(bound.ports.len(), 1);
        assert_eq!((bound.ports[0].target, bound.ports[0].published), (8080, 18_080));
        assert_eq!(
            refused(&engine, EngineCall::Start { container: second }).await,
            EngineErrorKind::PortTaken
        );
    });
}

#[test]
fn an_image_is_resolved_here_or_refused_with_what_the_registry_said() {
    run("images", async || {
        let engine = engine();
        let local = engine.call(EngineCall::ResolveImage { image: MIMIC_1.into() }).await;
        let Ok(OpOutcome::Resolved(ImagePin::LocalId(id))) = local else { panic!("{local:?}") };
        assert!(id.starts_with("sha256:"), "{id}");
        let nowhere = "127.0.0.1:9/absent:1".to_owned();
        let unresolved = engine.call(EngineCall::ResolveImage { image: nowhere.clone() }).await.unwrap_err();
        assert!(unresolved.message.contains("127.0.0.1:9"), "{unresolved:?}");
        assert_eq!(
            refused(&engine, EngineCall::Pull { image: nowhere, login: None }).await,
            EngineErrorKind::ImagePullFailed
        );
    });
}

#[test]
fn a_spec_reaches_the_engine_whole_with_what_is_always_set() {
    run("a spec", async || {
        let spec = ContainerSpec {
            env: [("A".to_owned(), "b=c".to_owned())].into(),
            resources: Resources { cpu_limit_millis: 500_000, memory_limit: 64 << 20, ..Default::default() },
            init: true,
            read_only: true,
            ulimits: vec![Ulimit { name: "nofile".into(), soft: 1_000, hard: 2_000 }],
            mounts: vec![
                Mount {
                    source: MountSource::Volume("orch-vol".into()),
                    target: "/v".into(),
                    read_only: false,
                },
                Mount {
                    source: MountSource::Tmpfs { size: 1 << 20, mode: 0o700 },
                    target: "/t".into(),
                    read_only: false,
                },
            ],
            healthcheck: Some(Healthcheck { test: vec!["NONE".into()], ..Default::default() }),
            stop_signal: Some("SIGINT".into()),
            workdir: Some("/tmp".into()),
            ..mimic()
        };
        let engine = engine();
        let (sender, mut events) = mpsc::channel(100);
        let watcher = tokio::spawn(watch(engine.clone(), OURS, sender));
        next(&mut events, |event| matches!(event, Event::EngineUp(_)).then_some(())).await;
        let id = create(&engine, 50, spec).await;
        watcher.abort();
        let inspect = |template: &str| HOST.host(0).engine().inspect(&id, template).unwrap();
        assert_eq!(inspect("{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}"), "67108864 67108864");
        assert_eq!(inspect("{{.HostConfig.PidsLimit}}"), "4096");
        assert_ne!(inspect("{{.HostConfig.NanoCpus}}"), "0");
        assert_eq!(inspect("{{.HostConfig.RestartPolicy.Name}}"), "no");
        assert_eq!(inspect("{{.HostConfig.SecurityOpt}}"), "[no-new-privileges]");
        assert_eq!(inspect("{{.HostConfig.LogConfig}}"), "{json-file map[max-file:3 max-size:10485760]}");
        assert_eq!(inspect("{{.HostConfig.Init}} {{.HostConfig.ReadonlyRootfs}}"), "true true");
        assert_eq!(inspect("{{len .HostConfig.Mounts}} {{len .HostConfig.Ulimits}}"), "2 1");
        assert_eq!(
            inspect("{{.Config.StopSignal}} {{.Config.StopTimeout}} {{.Config.WorkingDir}}"),
            "SIGINT 5 /tmp"
        );
        assert!(inspect("{{.Config.Env}}").contains("A=b=c"));
        assert_eq!(inspect("{{.Config.Healthcheck.Test}}"), "[NONE]");
        view(&engine, EngineCall::Start { container: id.clone() }).await;
    });
}

#[test]
fn logs_of_old_and_new_containers_come_in_order_and_end() {
    run("logs", async || {
        let engine = engine();
        let failing =
            ContainerSpec { env: [("MIMIC_FAIL_INIT".to_owned(), "3".to_owned())].into(), ..mimic() };
        let old = create(&engine, 60, failing).await;
        view(&engine, EngineCall::Start { container: old.clone() }).await;
        let new = create(&engine, 61, mimic()).await;
        view(&engine, EngineCall::Start { container: new.clone() }).await;
        let (sender, mut frames) = mpsc::channel(100);
        let place = tempfile::tempdir().unwrap();
        let attempts = Attempts::new(place.path());
        let line = |text: &str| Line { stderr: false, text: format!("2026-01-01T00:00:00Z {text}").into() };
        let first = AttemptId { task: TaskId(60), number: 1 };
        attempts.keep(first, What::Output, &[line("of the first attempt")]).unwrap();
        attempts.keep(first, What::Diagnosis, &[line("hung")]).unwrap();
        let wanted = Wanted {
            stream: 1,
            task: TaskId(60),
            containers: vec![(2, "absent".to_owned()), (3, old), (4, new.clone())],
            options: LogOptions { follow: true, ..Default::default() },
        };
        let pouring = tokio::spawn({
            let (engine, attempts) = (engine.clone(), attempts.clone());
            async move { logs::pour(&engine, &attempts, wanted, &sender).await }
        });
        let mut text = String::new();
        while !text.contains("starting") {
            match tokio::time::timeout(PATIENCE, frames.recv()).await.unwrap() {
                Some(LogFrame::Data { bytes, .. }) => text.push_str(&String::from_utf8_lossy(&bytes)),
                other => panic!("{other:?} after {text}"),
            }
        }
        assert!(text.starts_with("of the first attempt\nhung\n"), "{text}");
        engine.call(EngineCall::Remove { container: new, keep: None }).await.unwrap();
        let end = loop {
            match tokio::time::timeout(PATIENCE, frames.recv()).await.unwrap() {
                Some(LogFrame::Data { .. }) => {}
                other => break other,
            }
        };
        assert!(matches!(end, Some(LogFrame::End(_))), "{end:?}");
        pouring.await.unwrap();
    });
}

/// The engine counts in whole seconds: what was read a moment ago would come again.
#[test]
fn lines_that_are_older_than_asked_for_do_not_come_again() {
    run("logs since", async || {
        let engine = engine();
        let failing =
            ContainerSpec { env: [("MIMIC_FAIL_INIT".to_owned(), "3".to_owned())].into(), ..mimic() };
        let id = create(&engine, 62, failing).await;
        view(&engine, EngineCall::Start { container: id.clone() }).await;
        let read = async |options: LogOptions| {
            let (sender, mut frames) = mpsc::channel(100);
            engine.pour_log(&id, &options, &sender).await.unwrap();
            drop(sender);
            let mut text = String::new();
            while let Some(LogFrame::Data { bytes, .. }) = frames.recv().await {
                text.push_str(&String::from_utf8_lossy(&bytes));
            }
            text
        };
        // Followed, it has ended when this returns.
        let all = read(LogOptions { follow: true, ..Default::default() }).await;
        assert!(all.contains("initialisation failed"), "{all}");
        let since = |span| LogOptions { since: Some(span), ..Default::default() };
        assert_eq!(read(since(Duration::ZERO)).await, "");
        assert_eq!(read(since(Duration::from_secs(600))).await, all, "without stamps, as it was asked for");
        let stamped = read(LogOptions { timestamps: true, ..since(Duration::from_secs(600)) }).await;
        assert!(stamped.len() > all.len() && stamped.starts_with("20"), "{stamped}");
    });
}

#[test]
fn removed_container_leaves_its_last_lines_and_what_its_diagnosis_printed() {
    run("last words", async || {
        let place = tempfile::tempdir().unwrap();
        let attempts = Attempts::new(place.path());
        let url = HOST.host(0).engine().url();
        let engine = Engine::of_node(&url, Logins::default(), None, Some(attempts.clone()), None, &[]);
        let id = create(&engine, 70, mimic()).await;
        view(&engine, EngineCall::Start { container: id.clone() }).await;
        let attempt = AttemptId { task: TaskId(70), number: 2 };
        let diagnose = async |by: DiagnosisBy, within: u64| {
            let diagnosis = Diagnosis { by, within: Duration::from_millis(within) };
            let call = EngineCall::Diagnose { container: id.clone(), diagnosis, attempt };
            assert_eq!(engine.call(call).await, Ok(OpOutcome::Done));
        };
        let program = |words: &[&str]| DiagnosisBy::Exec(words.iter().map(ToString::to_string).collect());
        diagnose(program(&["/no-such-program"]), 5_000).await;
        let said = |what: What| {
            let kept = attempts.of(TaskId(70)).remove(&2).unwrap_or_default();
            let lines = if what == What::Output { kept.output } else { kept.diagnosis };
            lines.iter().map(|line| String::from_utf8_lossy(&line.text).into_owned()).collect::<Vec<_>>()
        };
        let diagnosis = said(What::Diagnosis);
        assert!(diagnosis[0].contains("diagnosis: /no-such-program ended with 12"), "{diagnosis:?}");
        diagnose(program(&["/mimic"]), 1).await;
        let diagnosis = said(What::Diagnosis);
        assert!(diagnosis[0].contains("/mimic did not end within 1ms"), "{diagnosis:?}");
        diagnose(program(&["/mimic"]), 5_000).await;
        let diagnosis = said(What::Diagnosis);
        assert!(diagnosis[0].contains("/mimic ended with 1"), "{diagnosis:?}");
        assert!(diagnosis.iter().any(|line| line.contains("cannot listen")), "{diagnosis:?}");
        diagnose(DiagnosisBy::Signal("SIGTERM".to_owned()), 1_000).await;
        engine.call(EngineCall::Remove { container: id.clone(), keep: Some(attempt) }).await.unwrap();
        let output = said(What::Output);
        assert!(output.iter().any(|line| line.starts_with("20") && line.contains("starting")), "{output:?}");
        let gone = EngineCall::Diagnose {
            container: id,
            diagnosis: Diagnosis { by: DiagnosisBy::Signal("SIGQUIT".to_owned()), within: Duration::ZERO },
            attempt,
        };
        assert_eq!(refused(&engine, gone).await, EngineErrorKind::NotFound);
    });
}

/// Waits for the event that `wanted` picks out.
async fn next<T>(events: &mut mpsc::Receiver<Event>, wanted: impl Fn(&Event) -> Option<T>) -> T {
    let look = async {
        loop {
            let event = events.recv().await.expect("the watch goes on");
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("the event comes in time")
}

fn changed(task: u64, change: Change) -> impl Fn(&Event) -> Option<()> {
    move |event| match event {
        Event::EngineChanged(seen) if seen.labels.task == TaskId(task) && seen.change == change => Some(()),
        _ => None,
    }
}

#[test]
fn events_follow_the_list_and_both_come_again_after_the_engine_was_killed() {
    run("events", async || {
        // An engine of its own: it is killed here.
        let lab = Lab::start(1).unwrap();
        let host = lab.host(0).engine();
        host.load(&image::mimic_archive().unwrap()).unwrap();
        let engine = Engine::new(&host.url());
        let old = create(&engine, 70, mimic()).await;
        view(&engine, EngineCall::Start { container: old }).await;
        let (sender, mut events) = mpsc::channel(100);
        let watcher = tokio::spawn(watch(engine.clone(), OURS, sender));
        let up = next(&mut events, |event| match event {
            Event::EngineUp(facts) => Some(facts.clone()),
            _ => None,
        })
        .await;
        assert!(up.cpu_millis >= 1_000 && up.memory > 0 && !up.version.is_empty(), "{up:?}");
        let listed = |event: &Event| match event {
            Event::EngineListed { containers } => Some(containers.len()),
            _ => None,
        };
        assert_eq!(next(&mut events, listed).await, 1);
        let checked = create(&engine, 71, ContainerSpec { image: MIMIC_CHECKED.into(), ..mimic() }).await;
        next(&mut events, changed(71, Change::Created)).await;
        view(&engine, EngineCall::Start { container: checked.clone() }).await;
        next(&mut events, changed(71, Change::Started)).await;
        next(&mut events, changed(71, Change::Health(Health::Healthy))).await;
        host.docker(&["kill", &checked]).unwrap();
        next(&mut events, changed(71, Change::Died { code: 137 })).await;
        host.docker(&["rm", &checked]).unwrap();
        next(&mut events, changed(71, Change::Destroyed)).await;
        host.kill().unwrap();
        next(&mut events, |event| matches!(event, Event::EngineDown { .. }).then_some(())).await;
        assert_eq!(refused(&engine, EngineCall::Ping).await, EngineErrorKind::Unavailable);
        host.start().unwrap();
        assert_eq!(next(&mut events, listed).await, 1);
        watcher.abort();
    });
}
