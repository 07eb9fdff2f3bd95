//! `… inspect` for people: what an object is, in a page.

use std::collections::BTreeMap;

use model::{
    id::ServiceId,
    node::Node,
    request::{NodeView, ServiceView},
    service::{ImagePin, Mode},
    task::Task,
    time::ClusterTime,
};

use crate::output::{age, event, jobs, rows, table::Table};
use crate::{
    spec::file,
    wait::converge::{self, Nodes},
};

/// A service.
pub fn service(view: &ServiceView, nodes: &Nodes, now: ClusterTime) -> String {
    let service = &view.service;
    let spec = &service.spec;
    let mut lines = vec![
        field("name", &spec.name),
        field("id", service.id),
        field(
            "mode",
            match spec.mode {
                Mode::Replicated(completions) if spec.job.is_some() => {
                    format!("job, {completions} completions")
                }
                Mode::Global if spec.job.is_some() => "job, one completion on every node".into(),
                Mode::Replicated(replicas) => format!("replicated, {replicas} wanted"),
                Mode::Global => "global".into(),
            },
        ),
        field("image", &spec.template.container.image),
    ];
    if let Some(pin) = service.pins.get(&service.template) {
        let text = match pin {
            ImagePin::Digest(text) => text.clone(),
            ImagePin::LocalId(text) => format!("{text} (known to no registry)"),
        };
        lines.push(field("  meaning", text));
    }
    for signature in &spec.template.container.signatures {
        lines.push(field("  signed by", signature.to_string()));
    }
    for (kind, mount) in spec.template.container.files() {
        let version = mount.version.map_or(String::new(), |version| format!(" version {version}"));
        lines.push(field(&kind.to_string(), format!("{}{version} at {}", mount.name, mount.path(kind))));
    }
    lines.push(field("template", format!("{} (generation {})", service.template.0, service.generation)));
    if spec.job.is_none() {
        let order = spec.order();
        let first = if order.start_first { "start-first" } else { "stop-first" };
        lines.push(field("order", format!("{first} ({})", order.why)));
    }
    lines.extend(jobs::job(service, now).into_iter().map(|(name, value)| field(name, value)));
    let ages =
        format!("{} ago, changed {} ago", age::since(service.created, now), age::since(service.updated, now));
    lines.push(field("created", ages));
    if let Some(rollout) = &service.rollout {
        let since = age::since(rollout.since, now);
        let message =
            if rollout.message.is_empty() { String::new() } else { format!(": {}", rollout.message) };
        lines.push(field("rollout", format!("{} for {since}{message}", event::rollout(rollout.state))));
    }
    if service.removing {
        lines.push(field("removing", "yes: it goes when its tasks have ended"));
    }
    lines.push(format!(
        "\n{}",
        tasks(&view.tasks, now, "NODE", |task| {
            let node = task.node.map_or("-".into(), |node| converge::node_name(node, nodes));
            (event::task_name(&spec.name, task.slot), node)
        })
    ));
    lines.push(format!("\n{}", file::to_toml(spec).trim_end()));
    lines.join("\n")
}

/// A node.
pub fn node(view: &NodeView, services: &BTreeMap<ServiceId, String>, now: ClusterTime) -> String {
    let node = &view.node;
    let facts = &node.facts;
    let mut lines = vec![
        field("name", &facts.hostname),
        field("id", node.id),
        field(
            "state",
            format!("{} for {}{}", event::node_state(node.state), age::since(node.since, now), reason(node)),
        ),
        field("availability", rows::availability(node.spec.availability)),
        field("class", node.spec.class),
        field("labels", none_or(rows::pairs(&node.spec.labels))),
        field("machine", format!("{} {}, kernel {}", facts.os, facts.arch, facts.kernel)),
        field(
            "engine",
            format!("{} (API {})", none_or(facts.engine.clone()), none_or(facts.engine_api.clone())),
        ),
        field("engine labels", none_or(rows::pairs(&facts.labels))),
        field("agent", none_or(facts.agent.clone())),
        field(
            "cpu",
            format!("{} of {} reserved", rows::cores(view.reserved.0), rows::cores(facts.cpu_millis)),
        ),
        field("memory", format!("{} of {} reserved", rows::size(view.reserved.1), rows::size(facts.memory))),
        field("joined", format!("{} ago", age::since(node.joined, now))),
    ];
    lines.push(format!(
        "\n{}",
        tasks(&view.tasks, now, "SERVICE", |task| {
            let service = services.get(&task.service).cloned().unwrap_or_else(|| task.service.to_string());
            (event::task_name(&service, task.slot), service)
        })
    ));
    lines.join("\n")
}

/// The tasks; `describe` names one and says the other thing that it belongs to.
fn tasks(
    tasks: &[Task],
    now: ClusterTime,
    other: &str,
    describe: impl Fn(&Task) -> (String, String),
) -> String {
    if tasks.is_empty() {
        return "no tasks".into();
    }
    let mut table = Table::new(["ID", "TASK", other, "STATE", "SINCE", "RESTARTS", "TEMPLATE", "NOTE"]);
    for task in tasks {
        let (name, owner) = describe(task);
        table.row([
            task.id.to_string(),
            name,
            owner,
            rows::state(&task.observed, task.desired),
            age::since(task.since, now),
            task.observed.restarts.to_string(),
            task.template.0.to_string(),
            rows::why(&task.observed, task.pending.as_deref().filter(|_| task.node.is_none())),
        ]);
    }
    table.to_string()
}

fn reason(node: &Node) -> String {
    if node.message.is_empty() { String::new() } else { format!(": {}", node.message) }
}

fn field(name: &str, value: impl std::fmt::Display) -> String {
    format!("{name:<14}{value}")
}

fn none_or(text: String) -> String {
    if text.is_empty() { "none".into() } else { text }
}
