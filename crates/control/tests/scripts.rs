//! Clusters as text: each file of `scripts/` holds operations (lines that begin with `>`) and what they print.
//!
//! `UPDATE=1 cargo test -p control --test scripts` writes the outputs anew; the diff is the review.

mod common;
#[path = "common/jobs.rs"]
mod jobs;

use std::{fmt::Write as _, path::Path, time::Duration};

use common::{World, facts};
use model::{
    command::{Command, Decision},
    container::PortSpec,
    freeze::{FreezeSpec, Window},
    id::{NodeId, ServiceId, TaskId},
    node::{Availability, NodeClass},
    service::{
        CanaryPolicy, FailureAction, Mode, Promotion, ReleaseNote, RolloutState, RolloutStep, ServiceSpec,
        Slot, TemplateVersion, UpdateOrder,
    },
    task::{Health, Task, TaskState},
};

#[test]
#[expect(clippy::disallowed_methods, reason = "a test reads its scripts and its switch")]
fn every_script_prints_what_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let update = std::env::var("UPDATE").is_ok();
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .expect("the scripts are there")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 10, "the scripts are found");
    let mut wrong = Vec::new();
    for path in paths {
        let expected = std::fs::read_to_string(&path).expect("a readable script");
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        let actual = run(&name, &expected);
        if actual != expected {
            match update {
                true => std::fs::write(&path, &actual).expect("a writable script"),
                false => wrong.push(format!("{name}:\n{}", first_difference(&expected, &actual))),
            }
        }
    }
    assert!(wrong.is_empty(), "{}\nUPDATE=1 writes what is printed now", wrong.join("\n"));
}

fn first_difference(expected: &str, actual: &str) -> String {
    let mut pairs = expected
        .lines()
        .map(Some)
        .chain(std::iter::repeat(None))
        .zip(actual.lines().map(Some).chain(std::iter::repeat(None)));
    let (number, (old, new)) = (1..)
        .map(|number| (number, pairs.next().expect("endless")))
        .find(|(_, (old, new))| old != new || old.is_none())
        .expect("endless");
    format!("  line {number}\n  - {}\n  + {}", old.unwrap_or("(end)"), new.unwrap_or("(end)"))
}

fn run(name: &str, script: &str) -> String {
    let mut world = World::new();
    let mut output = String::new();
    for (number, line) in script.lines().enumerate() {
        if let Some(operation) = line.strip_prefix("> ") {
            writeln!(output, "{line}").expect("text");
            let words: Vec<&str> = operation.split_whitespace().collect();
            let at = format!("{name}:{}", number + 1);
            operate(&mut world, &words, operation, &at, &mut output);
        } else if line.starts_with('#') || line.trim().is_empty() {
            writeln!(output, "{line}").expect("text");
        }
    }
    output
}

fn operate(world: &mut World, words: &[&str], line: &str, at: &str, output: &mut String) {
    match words {
        ["node", name, options @ ..] => add_node(world, name, options, at),
        ["down", name] => world.down(node(world, name)),
        ["up", name] => world.up(node(world, name)),
        ["drain", name] => availability(world, name, Availability::Drain),
        ["pause", name] => availability(world, name, Availability::Pause),
        ["activate", name] => availability(world, name, Availability::Active),
        ["label", name, label] => {
            let (key, value) = label.split_once('=').expect(at);
            world.change_node(node(world, name), |spec| {
                spec.labels.insert(key.into(), value.into());
            });
        }
        ["engine", name, state] => {
            let id = node(world, name);
            let node = world.store.node(id).expect(at).clone();
            let facts = model::node::Facts { engine_ok: *state == "on", ..node.facts };
            world.must(Command::NodeFacts { id, incarnation: node.incarnation, facts });
        }
        ["forget", name] => {
            let id = node(world, name);
            world.must(Command::RemoveNode { id, force: true });
        }
        ["service", name, options @ ..] => {
            let mut spec = ServiceSpec { name: (*name).into(), ..ServiceSpec::default() };
            spec.update.order = UpdateOrder::StopFirst;
            spec.template.container.image = "app:1".into();
            options.iter().for_each(|option| set(&mut spec, option, at));
            world.create(spec);
        }
        ["job" | "cron" | "uncron" | "run" | "jobs" | "crons", ..] => jobs::operate(world, words, at, output),
        ["update", name, options @ ..] => {
            world
                .update(service(world, name), |spec| options.iter().for_each(|option| set(spec, option, at)));
        }
        ["scale", change] => {
            let (name, replicas) = change.split_once('=').expect(at);
            let scales = vec![(service(world, name), replicas.parse().expect(at))];
            world.must(Command::ScaleServices(scales));
        }
        ["rollback", name] => {
            let command =
                Command::RollbackService { id: service(world, name), to: None, note: Default::default() };
            tell(world.commit(command).0, output);
        }
        ["rollback", name, to] => {
            let (id, to) = (service(world, name), Some(TemplateVersion(to.parse().expect(at))));
            let command = Command::RollbackService { id, to, note: Default::default() };
            tell(world.commit(command).0, output);
        }
        ["freeze", name, from, until, labels @ ..] => {
            let now = world.store.time();
            let at_seconds = |text: &&str| now + Duration::from_secs(text.parse().expect(at));
            let window = Window { from: at_seconds(from), until: at_seconds(until) };
            let pair = |label: &&str| label.split_once('=').map(|(key, value)| (key.into(), value.into()));
            let nodes = labels.iter().map(pair).collect::<Option<_>>().expect(at);
            let (name, reason) = ((*name).into(), "users are here".into());
            let spec = FreezeSpec { name, nodes, windows: vec![window], reason };
            tell(world.commit(Command::SetFreeze(spec)).0, output);
        }
        ["thaw", name] => {
            tell(world.commit(Command::RemoveFreeze { name: (*name).into() }).0, output);
        }
        ["deploy", name, image, options @ ..] => deploy(world, name, image, options, at, output),
        ["steer", name, step] => {
            let id = service(world, name);
            let step = match *step {
                "pause" => RolloutStep::Pause,
                "resume" => RolloutStep::Resume,
                "abort" => RolloutStep::Abort,
                "promote" => RolloutStep::Promote,
                _ => panic!("{at}: {step}"),
            };
            let release = world.service(id).template;
            tell(world.commit(Command::SteerRollout { id, release, step }).0, output);
        }
        ["history", name] => {
            for release in &world.service(service(world, name)).releases {
                let of = release.returns_to.map_or(String::new(), |of| format!(" (that of {})", of.0));
                let image = &release.spec.template.container.image;
                let (number, result, message) = (release.number.0, release.result, &release.message);
                let job = if release.job.is_empty() { String::new() } else { format!(" by {}", release.job) };
                let line = format!("  {number}{of} {image}{job}: {result} {message}");
                writeln!(output, "{}", line.trim_end()).expect("text");
            }
        }
        ["rm", name] => {
            let id = service(world, name);
            world.must(Command::RemoveService { id });
        }
        ["fault", task, ..] => {
            let task = TaskId(task.strip_prefix('t').and_then(|id| id.parse().ok()).expect(at));
            let release = world.store.task(task).expect(at).template;
            let message = "routers saw 31 of 60 requests fail".to_owned();
            tell(world.commit(Command::NoteFault { task, release, message }).0, output);
        }
        ["report", task, state, ..] => report(world, task, state, line, at),
        ["advance", time] => world.advance(duration(time, at)),
        ["decide"] => {
            let (plan, rejected) = world.decide();
            show(world, &plan.decisions, output);
            for (place, rejection) in rejected {
                writeln!(output, "  REFUSED {place}: {rejection}").expect("text");
            }
            let soon = |at: &model::time::ClusterTime| at.since(world.now) < Duration::from_secs(86_400);
            if let Some(wake) = plan.wake_at.filter(soon) {
                let wait = wake.since(world.now).as_millis();
                writeln!(output, "  wakes in {} s", wait.div_ceil(1_000)).expect("text");
            }
        }
        ["settle"] => {
            let decisions = world.settle();
            show(world, &decisions, output);
        }
        ["tasks"] => tasks(world, false, output),
        ["tasks", "all"] => tasks(world, true, output),
        ["rollout", name] => {
            let service = world.service(service(world, name));
            let rollout = service.rollout.as_ref().expect(at);
            let message =
                if rollout.message.is_empty() { String::new() } else { format!(": {}", rollout.message) };
            writeln!(output, "  {:?} to template {}{message}", rollout.state, rollout.target.0)
                .expect("text");
        }
        ["why", reference] => {
            let reference = reference
                .strip_prefix('t')
                .and_then(|id| id.parse().ok())
                .map_or_else(|| (*reference).to_owned(), |id| TaskId(id).to_string());
            for line in control::explain(&world.store, &reference) {
                writeln!(output, "  {line}").expect("text");
            }
        }
        ["waiting"] => {
            for waiting in control::waiting(&world.store) {
                writeln!(output, "  {}: {}", waiting.what, waiting.why).expect("text");
            }
        }
        _ => panic!("{at}: no such operation: {line}"),
    }
}

/// The newest release is the one that is compared with, unless `after=` says another.
fn deploy(world: &mut World, name: &str, image: &str, options: &[&str], at: &str, output: &mut String) {
    let service = world.service(service(world, name)).clone();
    let mut spec = (*service.spec).clone();
    spec.template.container.image = image.into();
    let mut note = ReleaseNote { after: Some(service.template), ..ReleaseNote::default() };
    for option in options {
        match option.split_once('=').unwrap_or((option, "")) {
            ("after", number) => note.after = Some(TemplateVersion(number.parse().expect(at))),
            ("job", job) => note.job = job.into(),
            ("despite", why) => note.despite_freeze = Some(why.into()),
            _ => panic!("{at}: {option}"),
        }
    }
    let (id, expected) = (service.id, service.generation);
    tell(world.commit(Command::UpdateService { id, expected, spec: spec.into(), note }).0, output);
}

fn tell(outcome: Result<model::command::Answer, model::command::Rejection>, output: &mut String) {
    if let Err(rejection) = outcome {
        writeln!(output, "  REFUSED: {rejection}").expect("text");
    }
}

fn add_node(world: &mut World, name: &str, options: &[&str], at: &str) {
    let mut facts = facts(name, 4_000, 8_000);
    let mut spec = model::node::NodeSpec::default();
    for option in options {
        match option.split_once('=').expect(at) {
            ("cpu", value) => facts.cpu_millis = value.parse().expect(at),
            ("memory", value) => facts.memory = value.parse().expect(at),
            ("arch", value) => facts.arch = value.into(),
            ("class", "workstation") => spec.class = NodeClass::Workstation,
            (key, value) => {
                spec.labels.insert(key.into(), value.into());
            }
        }
    }
    world.join(facts, spec);
}

fn set(spec: &mut ServiceSpec, option: &str, at: &str) {
    let resources = &mut spec.template.container.resources;
    let (key, value) = option.split_once('=').unwrap_or((option, ""));
    match key {
        "replicas" => spec.mode = Mode::Replicated(value.parse().expect(at)),
        "global" => spec.mode = Mode::Global,
        "image" => spec.template.container.image = value.into(),
        "cpu" => resources.cpu_reserve_millis = value.parse().expect(at),
        "memory" => resources.memory_reserve = value.parse().expect(at),
        "port" => {
            let published = value.parse().expect(at);
            spec.template.container.ports =
                vec![PortSpec { target: 80, published, protocol: Default::default() }];
        }
        "constraint" => spec.template.placement.constraints.push(value.parse().expect(at)),
        "spread" => spec.template.placement.spread.push(value.parse().expect(at)),
        "max" => spec.template.placement.max_per_node = value.parse().expect(at),
        "parallelism" => spec.update.parallelism = value.parse().expect(at),
        "start-first" => spec.update.order = UpdateOrder::StartFirst,
        "auto" => spec.update.order = UpdateOrder::Auto,
        "max-failures" => spec.update.max_failures = value.parse().expect(at),
        "whole" => spec.update.deadline = Some(duration(value, at)),
        "canary" => canary(spec).replicas = value.parse().expect(at),
        "soak" => canary(spec).soak = duration(value, at),
        "manual" => canary(spec).promotion = Promotion::Manual,
        "hook" if value == "none" => spec.update.pre_deploy = None,
        "hook" => spec.update.pre_deploy.get_or_insert_default().command = vec![value.into()],
        "hook-timeout" => spec.update.pre_deploy.get_or_insert_default().timeout = duration(value, at),
        "migration" => spec.update.pre_deploy.get_or_insert_default().migration = true,
        "history" => spec.update.history = value.parse().expect(at),
        "delay" => spec.update.delay = duration(value, at),
        "monitor" => spec.update.monitor = duration(value, at),
        "deadline" => spec.update.progress_deadline = duration(value, at),
        "on-failure" => {
            spec.update.failure_action = match value {
                "pause" => FailureAction::Pause,
                "continue" => FailureAction::Continue,
                "rollback" => FailureAction::Rollback,
                _ => panic!("{at}: {value}"),
            }
        }
        _ => panic!("{at}: no such option: {option}"),
    }
}

fn canary(spec: &mut ServiceSpec) -> &mut CanaryPolicy {
    spec.update.canary.get_or_insert_default()
}

fn report(world: &mut World, task: &str, state: &str, line: &str, at: &str) {
    let id = TaskId(task.strip_prefix('t').and_then(|id| id.parse().ok()).expect(at));
    let message = line.split_once('"').map(|(_, message)| message.trim_end_matches('"').to_owned());
    world.report(id, |observed| {
        (observed.state, observed.health) = match state {
            "running" => (TaskState::Running, Health::None),
            "starting" => (TaskState::Running, Health::Starting),
            "unhealthy" => (TaskState::Running, Health::Unhealthy),
            "unready" => (TaskState::Running, Health::Unready),
            "restarting" => (TaskState::Restarting, Health::None),
            "crash-loop" => (TaskState::CrashLoop, Health::None),
            "rejected" => (TaskState::Rejected, Health::None),
            "failed" => (TaskState::Failed, Health::None),
            "completed" => (TaskState::Completed, Health::None),
            "stopping" => (TaskState::Stopping, Health::None),
            "stopped" => (TaskState::Stopped, Health::None),
            _ => panic!("{at}: no such state: {state}"),
        };
        observed.message = message.unwrap_or_default();
    });
}

fn duration(text: &str, at: &str) -> Duration {
    Duration::from_secs(text.strip_suffix('s').and_then(|n| n.parse().ok()).expect(at))
}

fn availability(world: &mut World, name: &str, availability: Availability) {
    world.change_node(node(world, name), |spec| spec.availability = availability);
}

fn node(world: &World, name: &str) -> NodeId {
    world.store.node_by_name(name).unwrap_or_else(|| panic!("no node {name}")).id
}

fn service(world: &World, name: &str) -> ServiceId {
    world.store.service_by_name(name).unwrap_or_else(|| panic!("no service {name}")).id
}

fn show(world: &World, decisions: &[Decision], output: &mut String) {
    if decisions.is_empty() {
        writeln!(output, "  nothing").expect("text");
    }
    for decision in decisions {
        writeln!(output, "  {}", text(world, decision)).expect("text");
    }
}

fn text(world: &World, decision: &Decision) -> String {
    let name = |id: &ServiceId| world.store.service(*id).map_or("(gone)".into(), |s| s.spec.name.clone());
    let host = |id: &NodeId| world.store.node(*id).map_or("(gone)".into(), |n| n.facts.hostname.clone());
    let task = |id: &TaskId| format!("t{}", id.0);
    match decision {
        Decision::CreateTask { id, service, slot, template, node, pending, alongside, .. } => {
            let beside = alongside.map(|id| format!(" beside {}", task(&id))).unwrap_or_default();
            let place = match (node, pending) {
                (Some(node), _) => format!("on {}", host(node)),
                (None, Some(pending)) => format!("waits: {}", pending.message),
                (None, None) => "waits".into(),
            };
            let slot = slot_text(world, *slot);
            format!("create {} {}.{slot} template {}{beside} {place}", task(id), name(service), template.0)
        }
        Decision::AssignTask { id, node, .. } => format!("assign {} to {}", task(id), host(node)),
        Decision::ExplainPending { id, reason, .. } => format!("explain {}: {}", task(id), reason.message),
        Decision::StopTask { id, reason, .. } => format!("stop {}: {reason}", task(id)),
        Decision::LoseTask { id, reason, .. } => format!("lose {}: {reason}", task(id)),
        Decision::ReapTask { id, .. } => format!("reap {}", task(id)),
        Decision::SetRollout { service, rollout, .. } => {
            let message =
                if rollout.message.is_empty() { String::new() } else { format!(": {}", rollout.message) };
            let going = matches!(rollout.state, RolloutState::Updating | RolloutState::RollingBack);
            let whole = rollout.deadline.filter(|_| going);
            let whole = whole.map_or(String::new(), |at| {
                format!(", {} s in all", at.since(rollout.since).as_millis().div_ceil(1_000))
            });
            format!("rollout {}: {:?}{whole}{message}", name(service), rollout.state)
        }
        Decision::RollBack { service, reason, .. } => format!("roll back {}: {reason}", name(service)),
        Decision::DropService { service, .. } => format!("drop service {}", name(service)),
        Decision::EndJob { .. } | Decision::RemoveJob { .. } | Decision::RunCron { .. } => {
            jobs::text(world, decision)
        }
        Decision::DropToken { id } => format!("drop token {id}"),
    }
}

fn slot_text(world: &World, slot: Slot) -> String {
    match slot {
        Slot::Replica(_) => slot.to_string(),
        Slot::Node(id) => world.store.node(id).map_or("(gone)".into(), |node| node.facts.hostname.clone()),
    }
}

fn tasks(world: &World, all: bool, output: &mut String) {
    let shown = |task: &&Task| all || !task.observed.state.is_terminal();
    for service in world.store.services() {
        for task in world.store.tasks_of_service(service.id).filter(shown) {
            let slot = slot_text(world, task.slot);
            let host = task.node.and_then(|id| world.store.node(id)).map_or("-", |node| &node.facts.hostname);
            let wanted =
                if task.is_active() || task.observed.state.is_terminal() { "" } else { " (to stop)" };
            let health = match task.observed.health {
                Health::None => String::new(),
                health => format!(" {health:?}"),
            };
            writeln!(
                output,
                "  {}.{slot} t{} template {} {host} {}{health}{wanted}",
                service.spec.name, task.id.0, task.template.0, task.observed.state
            )
            .expect("text");
        }
    }
}
