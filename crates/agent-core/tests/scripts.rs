//! Agents as text: each file in `tests/scripts` is a story, with what the agent does after every line of it.
//!
//! `UPDATE=1 cargo test -p agent-core --test scripts` writes what happens now; the diff is the review.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "the test reads its scripts; the crate does not")]

mod world;

use std::{fmt::Write, fs, path::Path, sync::Arc, time::Duration};

use agent_core::{engine::EngineErrorKind, event::Event};
use model::{
    container::{ContainerSpec, PullPolicy},
    id::TaskId,
    probe::{Check, Diagnosis, DiagnosisBy, Probe},
    service::{ImagePin, RestartCondition, RestartPolicy},
    session::{FetchWish, LogOptions, ManagerAddress, ManagerMessage},
    task::{DesiredState, Health},
};
use world::{World, assignment, print};

#[test]
fn every_script_tells_what_happens() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    let mut differing = Vec::new();
    for path in paths {
        let expected = fs::read_to_string(&path).unwrap();
        let actual = play(&expected);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, actual).unwrap();
        } else if actual != expected {
            differing.push(format!("{}:\n{actual}", path.display()));
        }
    }
    assert!(differing.is_empty(), "scripts differ; this happens now:\n{}", differing.join("\n"));
}

/// Lines that begin with a space are what happened; they are written anew. `#` and empty lines stay.
fn play(script: &str) -> String {
    let mut world = World::new(1);
    world.log.clear();
    let mut out = String::new();
    for line in script.lines().filter(|line| !line.starts_with(' ')) {
        writeln!(out, "{line}").unwrap();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if words[0] == "state" {
            for (task, observed) in world.agent.tasks() {
                writeln!(out, "  {} {}", task.0, print::state(observed)).unwrap();
            }
            continue;
        }
        command(&mut world, &words);
        for action in std::mem::take(&mut world.log) {
            if let Some(text) = print::action(&action) {
                writeln!(out, "  {text}").unwrap();
            }
        }
    }
    out
}

fn command(world: &mut World, words: &[&str]) {
    let number = |index: usize| words[index].parse::<u64>().unwrap();
    match words[0] {
        "session" => world.open_session(),
        "grant" => {
            let password = model::registry::Secret::new("secret");
            let login = words.get(2).map(|name| model::registry::Login::Password {
                username: (*name).into(),
                password: password.clone(),
            });
            world.say(ManagerMessage::PullGranted { pull: TaskId(number(1)), login });
        }
        "fetch" => {
            let wish = |pair: &[&str]| FetchWish {
                fetch: TaskId(pair[0].parse().unwrap()),
                service: model::id::ServiceId(1),
                image: pair[1].into(),
                pull: PullPolicy::Missing,
                pin: None,
            };
            world.say(ManagerMessage::Fetch(words[1..].chunks(2).map(wish).collect()));
        }
        "queue" => world.say(ManagerMessage::PullQueued { pull: TaskId(number(1)) }),
        "speaks" => world.protocol = u32::try_from(number(1)).unwrap(),
        "connect" => world.connect(),
        "welcome" => world.welcome(),
        "hang-up" => world.close_session(),
        "redirect" => world.say(ManagerMessage::Redirect {
            leader: Some(ManagerAddress { id: model::id::MemberId(2), address: words[1].into() }),
            managers: vec![],
        }),
        "older-session" => {
            world.fence.session -= 2;
            world.open_session();
        }
        "same-session" => {
            world.fence.session -= 1;
            world.open_session();
        }
        "refuse" => world.say(ManagerMessage::Refused { message: "removed".into() }),
        "want" => want(world, number(1), &words[2..]),
        "drop" => {
            world.desired.remove(&TaskId(number(1)));
        }
        "assign" => world.assign(),
        "assign-again" => {
            world.fence.sequence -= 1;
            world.assign();
        }
        "stored" => world.store_all(),
        "engine" if words[1] == "up" => world.engine_up(),
        "engine" if words[1] == "awakes" => world.engine_awakes(),
        "engine" => world.engine_down(),
        "power-off" => world.engine.power_off(world.now),
        "missing" => world.engine.missing.push(words[1].into()),
        "answer" => (0..words.get(1).map_or(1, |n| n.parse().unwrap())).for_each(|_| world.answer_one()),
        "carry-out" => world.carry_out_one(),
        "hear" => world.hear_answers(),
        "fail" => world.fail_one(kind(words[1]), &words[2..].join(" "), false),
        "lose-answer" => world.fail_one(kind(words[1]), &words[2..].join(" "), true),
        "run" => world.run(),
        "advance" => world.advance(Duration::from_millis(number(1))),
        "restart" if words.get(1) == Some(&"while-hung") => world.restart_while_hung(),
        "restart" => world.restart(),
        "lose-ledger" => world.ledger = agent_core::stored::Stored::default(),
        "mute" => world.mute = true,
        "die" => {
            let container = world.container_of(number(1)).unwrap();
            world.engine.end(&container, number(2).try_into().unwrap(), world.now);
            world.deliver_events();
        }
        "health" => {
            let container = world.container_of(number(1)).unwrap();
            let labels = world.engine.containers[&container].labels;
            let health = if words[2] == "unhealthy" { Health::Unhealthy } else { Health::Healthy };
            let checked = world.engine.containers.get_mut(&container).unwrap();
            (checked.health, checked.check) = (health, words[3..].join(" "));
            let change = agent_core::engine::Change::Health(health);
            world.feed(Event::EngineChanged(agent_core::engine::ContainerChange {
                id: container,
                labels,
                change,
            }));
        }
        "probe-ok" => world.answer_probe(words[1], Ok(())),
        "probe-fails" => world.answer_probe(words[1], Err(words[2..].join(" "))),
        "destroy" => {
            let container = world.container_of(number(1)).unwrap();
            let call = agent_core::engine::EngineCall::Remove { container, keep: None };
            world.engine.call(&call, world.now).unwrap();
            world.deliver_events();
        }
        "foreign" => {
            let container = world.container_of(number(1)).unwrap();
            world.engine.containers.get_mut(&container).unwrap().labels.node = model::id::NodeId(99);
        }
        "resolve" => world.say(ManagerMessage::ResolveImage { image: words[1].into() }),
        "logs" => world.say(ManagerMessage::OpenLogs {
            stream: 1,
            task: TaskId(number(1)),
            options: LogOptions::default(),
        }),
        "shutdown" => world.feed(Event::ShutdownRequested { hold: Duration::from_secs(30) }),
        other => panic!("no command {other}"),
    }
}

fn want(world: &mut World, task: u64, options: &[&str]) {
    let mut wanted = assignment(task);
    let mut spec = ContainerSpec { image: "app:1".into(), ..Default::default() };
    for option in options {
        match option.split_once('=').unwrap_or((option, "")) {
            ("stopped", _) => wanted.desired = DesiredState::Stopped,
            ("pull", "never") => spec.pull = PullPolicy::Never,
            ("pull", _) => spec.pull = PullPolicy::Always,
            ("digest", digest) => wanted.pin = Some(ImagePin::Digest(digest.into())),
            ("local", id) => wanted.pin = Some(ImagePin::LocalId(id.into())),
            ("service", id) => {
                wanted.service = model::id::ServiceId(id.parse().unwrap());
                wanted.service_name = format!("service{id}");
            }
            ("startup", _) => spec.probes.startup = probe("startup"),
            ("readiness", _) => spec.probes.readiness = probe("readiness"),
            ("liveness", _) => spec.probes.liveness = probe("liveness"),
            ("diagnose", _) => {
                let by = DiagnosisBy::Signal("SIGQUIT".into());
                spec.probes.diagnosis = Some(Diagnosis { by, within: Duration::ZERO });
            }
            ("restart", "none") => wanted.restart.condition = RestartCondition::None,
            ("restart", _) => wanted.restart.condition = RestartCondition::OnFailure,
            ("max", n) => {
                wanted.restart =
                    RestartPolicy { max_attempts: Some(n.parse().unwrap()), ..wanted.restart.clone() };
            }
            other => panic!("no option {other:?}"),
        }
    }
    wanted.container = Arc::new(spec);
    world.desired.insert(TaskId(task), wanted);
}

fn probe(word: &str) -> Option<Probe> {
    Some(Probe::of(Check::Exec(vec![word.to_owned()])))
}

fn kind(text: &str) -> EngineErrorKind {
    use EngineErrorKind as E;
    match text {
        "not-found" => E::NotFound,
        "conflict" => E::Conflict,
        "pull-failed" => E::ImagePullFailed,
        "image-missing" => E::ImageMissing,
        "image-denied" => E::ImageDenied,
        "port-taken" => E::PortTaken,
        "mount-missing" => E::MountMissing,
        "invalid" => E::Invalid,
        "unavailable" => E::Unavailable,
        "timeout" => E::Timeout,
        _ => E::Other,
    }
}
