//! Actions and states as short lines.

use agent_core::{action::Action, engine::EngineCall, stored::StoreWrite};
use model::{
    probe::Check,
    session::AgentMessage,
    task::{Health, Observed},
};

pub fn action(action: &Action) -> Option<String> {
    Some(match action {
        Action::Connect { address, .. } => format!("connect {address}"),
        Action::Disconnect { reason, .. } => format!("disconnect: {reason}"),
        Action::Send { message, .. } => format!("say {}", message_of(message)?),
        Action::Engine { call, .. } => call_of(call),
        Action::CancelEngine { .. } => "cancel".to_owned(),
        Action::Store { write, .. } => format!("store {}", write_of(write)),
        Action::OpenLogs { containers, .. } => {
            let ids: Vec<&str> = containers.iter().map(|(_, id)| id.as_str()).collect();
            format!("logs {}", ids.join(" "))
        }
        Action::Mesh(config) => format!(
            "mesh: {} services, containers {}",
            config.table.services.len(),
            config.locals.iter().map(|local| local.task.0.to_string()).collect::<Vec<_>>().join(" ")
        ),
        Action::DrainTask { task } => format!("drain {}", task.0),
        Action::KeepFiles { task, files } => format!("keep {} files of {}", files.len(), task.0),
        Action::Authority { bundle, renew } => format!("trust {}, renew {renew}", bundle.trim_end()),
        Action::WipeFiles { task } => format!("wipe files of {}", task.0),
        Action::Probe { request, .. } => match &request.check {
            Check::Exec(words) => format!("probe {} {}", request.container, words.join(" ")),
            other => format!("probe {} {other:?}", request.container),
        },
        Action::Status(_) => return None,
        Action::Exit => "exit".to_owned(),
    })
}

fn message_of(message: &AgentMessage) -> Option<String> {
    Some(match message {
        AgentMessage::Hello { reports, fence, .. } => {
            let fence = fence.map_or("none".to_owned(), |f| format!("{}.{}", f.session, f.sequence));
            let reports: String =
                reports.iter().map(|r| format!("\n    {} {}", r.task.0, state(&r.observed))).collect();
            format!("hello, fence {fence}{reports}")
        }
        AgentMessage::Heartbeat { .. } => return None,
        AgentMessage::Report(reports) => reports
            .iter()
            .map(|r| format!("{} {}", r.task.0, state(&r.observed)))
            .collect::<Vec<_>>()
            .join("\n    "),
        AgentMessage::Facts(facts) => format!("facts, engine ok {}", facts.engine_ok),
        AgentMessage::NeedFullSet => "need full set".to_owned(),
        AgentMessage::ImageResolved { image, outcome } => format!("{image} is {outcome:?}"),
        AgentMessage::Routed(version) => format!("routed by {}.{}", version.session, version.sequence),
        AgentMessage::Seen(seen) => format!("saw {} replicas that failed", seen.len()),
        AgentMessage::Fetched { fetch, outcome } => format!("fetched {fetch}: {outcome:?}"),
        AgentMessage::PullWish { pull, image } => format!("may {pull} pull {image}?"),
        AgentMessage::PullEnded { pull } => format!("{pull} pulls no more"),
        AgentMessage::Goodbye { .. } => "goodbye".to_owned(),
        AgentMessage::FileWish { task } => format!("files of {}?", task.0),
    })
}

pub fn state(observed: &Observed) -> String {
    let mut text = format!("{} attempt {}", observed.state, observed.attempt);
    if observed.restarts > 0 {
        text += &format!(" restarts {}", observed.restarts);
    }
    match observed.health {
        Health::None => {}
        health => text += &format!(" {health:?}"),
    }
    if !observed.message.is_empty() {
        text += &format!(" ({})", observed.message);
    }
    text
}

fn call_of(call: &EngineCall) -> String {
    match call {
        EngineCall::Ping => "ping".to_owned(),
        EngineCall::Pull { image, login: None } => format!("pull {image}"),
        EngineCall::Pull { image, login: Some(_) } => format!("pull {image} with a login"),
        EngineCall::Create(request) => format!("create {} from {}", short(&request.name), request.image),
        EngineCall::Start { container } => format!("start {container}"),
        EngineCall::Stop { container, .. } => format!("stop {container}"),
        EngineCall::Remove { container, .. } => format!("remove {container}"),
        EngineCall::Diagnose { container, .. } => format!("diagnose {container}"),
        EngineCall::Inspect { container } => format!("inspect {}", short(container)),
        EngineCall::FindImage { images } => format!("find {}", images.join(" or ")),
        EngineCall::ResolveImage { image } => format!("resolve {image}"),
    }
}

/// `orch-web.1.0000000000001.2` is task 1, attempt 2.
fn short(name: &str) -> String {
    match name.rsplitn(4, '.').collect::<Vec<_>>()[..] {
        [attempt, _, slot, _] => format!("task {slot} attempt {attempt}"),
        _ => name.to_owned(),
    }
}

fn write_of(write: &StoreWrite) -> String {
    let mut parts = Vec::new();
    if let Some(fence) = write.fence {
        parts.push(format!("fence {}.{}", fence.session, fence.sequence));
    }
    if write.managers.is_some() {
        parts.push("managers".to_owned());
    }
    parts.extend(write.assignments.iter().map(|a| format!("task {} {:?}", a.task.0, a.desired)));
    parts.extend(write.removed.iter().map(|task| format!("forget {}", task.0)));
    parts.extend(write.records.iter().map(|(task, r)| format!("record {} {}", task.0, r.observed.state)));
    parts.join(", ")
}
