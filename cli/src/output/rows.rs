//! The lists of `… ls` and `ps` as tables.

use std::fmt::Display;

use model::{
    cluster::Token,
    container::Protocol,
    deployer::DeployTokenView,
    network::AddressPool,
    node::{Availability, Node},
    registry::LoginKind,
    request::{
        EndpointsView, FreezeView, JoinerView, MemberStatus, NetworkView, NodeView, RegistrySaid,
        RegistryView, ServiceRow, TaskRow,
    },
    route::IngressPort,
    service::{ImagePin, Mode, Release, RolloutState, Service, ServiceSpec},
    task::{DesiredState, Health, Observed, PendingReason, TaskState},
    time::ClusterTime,
};

use super::{age, event, table::Table};
use crate::value;

/// `service ls`
pub fn services(rows: &[ServiceRow]) -> Table {
    let mut table = Table::new(["ID", "NAME", "MODE", "HEALTHY", "IMAGE", "PORTS", "NOTE"]);
    for row in rows {
        let spec = &row.service.spec;
        table.row([
            row.service.id.to_string(),
            spec.name.clone(),
            mode(spec.mode).into(),
            format!("{}/{}", row.healthy, row.wanted),
            spec.template.container.image.clone(),
            published(spec),
            service_note(&row.service).into(),
        ]);
    }
    table
}

/// `ps` and `service ps`
pub fn tasks(rows: &[TaskRow], now: ClusterTime) -> Table {
    let mut table = Table::new(["ID", "TASK", "NODE", "STATE", "SINCE", "RESTARTS", "IMAGE", "NOTE"]);
    for row in rows {
        let task = &row.task;
        table.row([
            task.id.to_string(),
            event::task_name(&row.service, task.slot),
            dash(&row.node),
            task_state(row),
            age::since(task.since, now),
            task.observed.restarts.to_string(),
            row.image.clone(),
            task_note(row),
        ]);
    }
    table
}

/// `node ls`
pub fn nodes(views: &[NodeView], now: ClusterTime) -> Table {
    let headings =
        ["ID", "NAME", "STATE", "SINCE", "AVAILABILITY", "CLASS", "TASKS", "CPU", "MEMORY", "ENGINE"];
    let mut table = Table::new(headings);
    for view in views {
        let node = &view.node;
        let facts = &node.facts;
        let tasks = view.tasks.iter().filter(|task| task.may_have_container()).count();
        table.row([
            node.id.to_string(),
            facts.hostname.clone(),
            event::node_state(node.state).into(),
            age::since(node.since, now),
            availability(node.spec.availability).into(),
            node.spec.class.to_string(),
            tasks.to_string(),
            format!("{}/{}", cores(view.reserved.0), cores(facts.cpu_millis)),
            format!("{}/{}", size(view.reserved.1), size(facts.memory)),
            engine(node),
        ]);
    }
    table
}

/// `manager ls`
pub fn members(members: &[MemberStatus], now: ClusterTime) -> Table {
    let headings = ["ID", "NAME", "ADDRESS", "ROLE", "REACHABLE", "LOG", "VERSION", "JOINED"];
    let mut table = Table::new(headings);
    for status in members {
        let role = match (status.leader, status.voter) {
            (true, _) => "leader",
            (false, true) => "voter",
            (false, false) => "learner",
        };
        table.row([
            status.member.id.to_string(),
            status.member.name.clone(),
            status.member.address.clone(),
            role.into(),
            yes_no(status.reachable).into(),
            status.matched.to_string(),
            status.member.version.clone(),
            age::since(status.member.joined, now),
        ]);
    }
    table
}

/// `manager pending`
pub fn joiners(views: &[JoinerView], now: ClusterTime) -> Table {
    let mut table = Table::new(["NAME", "ADDRESS", "FROM", "FINGERPRINT", "WAITS"]);
    for view in views {
        table.row([
            view.name.clone(),
            view.address.clone(),
            view.source.clone().unwrap_or_default(),
            view.fingerprint.clone(),
            age::since(view.since, now),
        ]);
    }
    table
}

/// `freeze ls`
pub fn freezes(views: &[FreezeView]) -> Table {
    let mut table = Table::new(["NAME", "STATE", "NODES", "BY", "REASON"]);
    for view in views {
        let spec = &view.freeze.spec;
        let nodes = match view.nodes.len() {
            0 => "none".to_owned(),
            count => count.to_string(),
        };
        let by = view.freeze.by.to_string();
        table.row([spec.name.clone(), freeze_state(view), nodes, by, spec.reason.clone()]);
    }
    table
}

/// `freeze inspect`
pub fn freeze(view: &FreezeView) -> String {
    let spec = &view.freeze.spec;
    let names: Vec<&str> = view.nodes.iter().map(|(_, name)| name.as_str()).collect();
    let with = if spec.nodes.is_empty() { "all".to_owned() } else { pairs(&spec.nodes) };
    let mut lines = vec![
        format!("{}: {}", spec.name, freeze_state(view)),
        format!("  nodes   {with}: {}", if names.is_empty() { "none now".into() } else { names.join(", ") }),
        format!("  set     {} by {}", age::date(view.freeze.set), view.freeze.by),
    ];
    lines.extend((!spec.reason.is_empty()).then(|| format!("  reason  {}", spec.reason)));
    let windows = spec.windows.iter();
    lines.extend(
        windows.map(|window| format!("  window  {} to {}", age::date(window.from), age::date(window.until))),
    );
    lines.join("\n")
}

fn freeze_state(view: &FreezeView) -> String {
    match (view.open_until, &view.next) {
        (Some(until), _) => format!("open until {}", age::date(until)),
        (None, Some(next)) => format!("next from {}", age::date(next.from)),
        (None, None) => "over".to_owned(),
    }
}

/// `registry ls`
pub fn registries(views: &[RegistryView]) -> Table {
    let mut table = Table::new(["HOST", "LOGIN", "WAY", "SERVICES", "SAID LAST"]);
    for view in views {
        let services = view.services.len().to_string();
        table.row([view.host.clone(), login_of(view), way_of(view).into(), services, said_of(view)]);
    }
    table
}

/// `registry inspect`
pub fn registry(view: &RegistryView) -> String {
    let services = if view.services.is_empty() { "none".to_owned() } else { view.services.join(", ") };
    [
        format!("{}: {}", view.host, said_of(view)),
        format!("  login     {}", login_of(view)),
        format!("  way       {}", way_of(view)),
        format!("  services  {services}"),
        format!("  set       {} by {}", age::date(view.set), view.by),
    ]
    .join("\n")
}

fn login_of(view: &RegistryView) -> String {
    match &view.login {
        Some(LoginKind::Password { username }) => username.clone(),
        Some(LoginKind::Token) => "by token".to_owned(),
        None => "none".to_owned(),
    }
}

fn way_of(view: &RegistryView) -> &'static str {
    match (view.plain_http, &view.authority) {
        (true, _) => "plain HTTP",
        (false, Some(_)) => "TLS, own authority",
        (false, None) => "TLS",
    }
}

fn said_of(view: &RegistryView) -> String {
    match &view.said {
        Some(RegistrySaid { problem: Some(problem), .. }) => problem.clone(),
        Some(RegistrySaid { problem: None, .. }) => "answers".to_owned(),
        None => "not asked lately".to_owned(),
    }
}

/// `deploy-token ls`
pub fn deploy_tokens(views: &[DeployTokenView], now: ClusterTime) -> Table {
    let mut table = Table::new(["NAME", "SERVICE", "IMAGES", "ALLOWS", "EXPIRES", "LAST USE", "BY"]);
    for view in views {
        let spec = &view.spec;
        let expires = if view.expired { "expired".to_owned() } else { age::until(view.expires, now) };
        let used = view.used.map_or_else(|| "never".to_owned(), |at| age::since(at, now));
        let by = view.by.to_string();
        table.row([
            spec.name.clone(),
            spec.service.clone(),
            spec.image.clone(),
            spec.verbs(),
            expires,
            used,
            by,
        ]);
    }
    table
}

/// `token ls`
pub fn tokens(tokens: &[Token], now: ClusterTime) -> Table {
    let mut table = Table::new(["ID", "ROLE", "USES LEFT", "EXPIRES", "CREATED", "CLASS", "LABELS"]);
    for token in tokens {
        table.row([
            token.id.to_string(),
            token.role.to_string(),
            token.uses_left.to_string(),
            age::until(token.expires, now),
            age::since(token.created, now),
            token.node_spec.class.to_string(),
            pairs(&token.node_spec.labels),
        ]);
    }
    table
}

/// A task's state with its health check, as `running (healthy)`.
pub fn state(observed: &Observed, desired: DesiredState) -> String {
    let health = match (observed.state, observed.health) {
        (TaskState::Running, Health::Starting) => " (starting)",
        (TaskState::Running, Health::Healthy) => " (healthy)",
        (TaskState::Running, Health::Unhealthy) => " (unhealthy)",
        (TaskState::Running, Health::Unready) => " (not ready)",
        _ => "",
    };
    let wanted = match (desired, observed.state.is_terminal(), observed.state) {
        (DesiredState::Stopped, false, state) if state != TaskState::Stopping => ", to stop",
        _ => "",
    };
    format!("{}{health}{wanted}", observed.state)
}

/// What is known of a task: the last word of a node that is down may not be true any more.
fn task_state(row: &TaskRow) -> String {
    let text = state(&row.task.observed, row.task.desired);
    if is_hearsay(row) { format!("was {text}") } else { text }
}

fn is_hearsay(row: &TaskRow) -> bool {
    row.node_down && !row.task.observed.state.is_terminal()
}

/// Why a task is in its state: the pending reason, the message, or the exit.
pub fn why(observed: &Observed, pending: Option<&PendingReason>) -> String {
    if let Some(reason) = pending {
        return pending_text(reason);
    }
    if !observed.message.is_empty() {
        return observed.message.clone();
    }
    let Some(exit) = observed.exit.as_ref().filter(|exit| exit.oom || exit.code != 0) else {
        return String::new();
    };
    let end = match (exit.oom, exit.message.is_empty()) {
        (true, _) => format!("killed for memory (exit code {})", exit.code),
        (false, true) => format!("exit code {}", exit.code),
        (false, false) => exit.message.clone(),
    };
    // What runs now is not what ended.
    if observed.state == TaskState::Running { format!("last end: {end}") } else { end }
}

/// A pending reason with what each filter removed.
pub fn pending_text(reason: &PendingReason) -> String {
    let counts: Vec<String> = reason.filters.iter().map(|f| format!("{}: {}", f.filter, f.nodes)).collect();
    match (counts.is_empty(), reason.message.is_empty()) {
        (true, _) => reason.message.clone(),
        (false, true) => format!("of {} nodes, removed by {}", reason.nodes, counts.join(", ")),
        (false, false) => {
            format!("{} (of {} nodes, removed by {})", reason.message, reason.nodes, counts.join(", "))
        }
    }
}

/// A mode in a word.
pub fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Replicated(_) => "replicated",
        Mode::Global => "global",
    }
}

/// An availability in a word.
pub fn availability(availability: Availability) -> &'static str {
    match availability {
        Availability::Active => "active",
        Availability::Pause => "pause",
        Availability::Drain => "drain",
    }
}

/// `80:8080/http, 5432:5432/tcp, host 53:53/udp`: those of the ingress nodes first.
pub fn published(spec: &ServiceSpec) -> String {
    let shared = spec.ports.iter().map(ingress_port);
    let own = spec.template.container.ports.iter().map(|port| {
        let protocol = match port.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        match port.published {
            0 => format!("host {}/{protocol}", port.target),
            published => format!("host {published}:{}/{protocol}", port.target),
        }
    });
    shared.chain(own).collect::<Vec<_>>().join(", ")
}

fn ingress_port(port: &IngressPort) -> String {
    let how = match &port.http {
        Some(http) if http.tls.is_some() => "https",
        Some(_) => "http",
        None => "tcp",
    };
    format!("{}:{}/{how}", port.published, port.target)
}

/// `network ls`
pub fn networks(views: &[NetworkView]) -> Table {
    let mut table = Table::new(["ID", "NAME", "ADDRESSES", "SERVICES", "NODES"]);
    for view in views {
        table.row([
            view.network.id.to_string(),
            view.network.spec.name.clone(),
            format!("{}/16", view.network.base),
            view.services.len().to_string(),
            view.nodes.to_string(),
        ]);
    }
    table
}

/// `network pool show`
pub fn pool(pool: &AddressPool, taken: usize) -> String {
    format!("{pool}, {} networks of which {taken} are taken", pool.networks)
}

/// `network inspect`
pub fn network(view: &NetworkView) -> String {
    let mut table = Table::new(["SERVICE", "ADDRESS"]);
    for (service, address) in &view.services {
        table.row([service.clone(), address.to_string()]);
    }
    let network = &view.network;
    format!(
        "{} ({}), {}/16, on {} nodes{}\n\n{table}",
        network.spec.name,
        network.id,
        network.base,
        view.nodes,
        match network.spec.labels.is_empty() {
            true => String::new(),
            false => format!(", labels {}", pairs(&network.spec.labels)),
        }
    )
}

/// `service endpoints`
pub fn endpoints(view: &EndpointsView) -> String {
    let mut lines = Vec::new();
    for port in &view.ports {
        let nodes: Vec<&str> = view.ingress.iter().map(|(name, _)| name.as_str()).collect();
        let http = port.http.as_ref().map(|http| {
            let hosts = if http.hosts.is_empty() { "any host".to_owned() } else { http.hosts.join(", ") };
            format!(", {hosts}, path {}{}", http.path, if http.sticky { ", sticky" } else { "" })
        });
        let nodes = if nodes.is_empty() { "no node that is up".to_owned() } else { nodes.join(", ") };
        lines.push(format!("port     {}{} on {nodes}", ingress_port(port), http.unwrap_or_default()));
    }
    for (network, address) in &view.addresses {
        lines.push(format!("address  {address} as \"{}\" in network {network}", view.service));
    }
    if lines.is_empty() {
        lines.push(format!(
            "{} has no published port and no network: only its own nodes reach it",
            view.service
        ));
    }
    if !view.behind.is_empty() {
        lines.push(format!(
            "behind   {}: these nodes do not go by the newest routes yet",
            view.behind.join(", ")
        ));
    }
    let mut table = Table::new(["TASK", "NODE", "TRAFFIC", "ADDRESSES"]);
    for row in &view.endpoints {
        let addresses: Vec<String> = row.addresses.iter().map(ToString::to_string).collect();
        table.row([
            event::task_name(&view.service, row.slot),
            dash(&row.node),
            if row.ready { "yes".into() } else { format!("no: {}", row.why) },
            addresses.join(", "),
        ]);
    }
    format!("{}\n\n{table}", lines.join("\n"))
}

/// `a=1, b=2`
pub fn pairs<K: Display, V: Display>(map: impl IntoIterator<Item = (K, V)>) -> String {
    map.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

/// Thousandths of a core as cores.
pub fn cores(millis: u64) -> String {
    if millis.is_multiple_of(1000) {
        (millis / 1000).to_string()
    } else {
        format!("{:.1}", millis as f64 / 1000.0)
    }
}

/// Bytes, rounded for people.
pub fn size(bytes: u64) -> String {
    match bytes {
        0 => "0".into(),
        1..0x10_0000 => value::bytes_text(bytes),
        0x10_0000..0x4000_0000 => format!("{}MiB", bytes >> 20),
        _ => format!("{:.1}GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

/// The releases of a service, the newest first.
pub fn releases(service: &Service, now: ClusterTime) -> Table {
    let mut table = Table::new(["RELEASE", "RESULT", "IMAGE", "BY", "WHEN", "TOOK", "JOB", "NOTE"]);
    for release in service.releases.iter().rev() {
        let number = match release.returns_to {
            Some(of) => format!("{} (as {})", release.number.0, of.0),
            None => release.number.0.to_string(),
        };
        table.row([
            number,
            release.result.to_string(),
            release_image(service, release),
            release.by.as_ref().map_or_else(|| "-".into(), ToString::to_string),
            format!("{} ago", age::since(release.at, now)),
            release.ended.map_or_else(|| "-".into(), |ended| age::since(release.at, ended)),
            dash(&release.job),
            release.message.clone(),
        ]);
    }
    table
}

/// What a release runs: its image, and what its tag meant.
pub fn release_image(service: &Service, release: &Release) -> String {
    let image = &release.spec.template.container.image;
    match service.pins.get(&release.number) {
        Some(ImagePin::Digest(text)) => match text.split_once('@') {
            Some((_, digest)) if !image.contains('@') => format!("{image}@{digest}"),
            _ => image.clone(),
        },
        Some(ImagePin::LocalId(_)) | None => image.clone(),
    }
}

fn service_note(service: &Service) -> &'static str {
    match (&service.rollout, service.removing) {
        (_, true) => "removing",
        (Some(rollout), false) if rollout.state != RolloutState::Done => event::rollout(rollout.state),
        _ => "",
    }
}

fn task_note(row: &TaskRow) -> String {
    let pending = row.task.pending.as_deref().filter(|_| row.task.node.is_none());
    let why = why(&row.task.observed, pending);
    if why.is_empty() && is_hearsay(row) { "its node is down".into() } else { why }
}

fn engine(node: &Node) -> String {
    match (node.facts.engine.is_empty(), node.facts.engine_ok) {
        (true, _) => "unreachable".into(),
        (false, true) => node.facts.engine.clone(),
        (false, false) => format!("{} (unreachable)", node.facts.engine),
    }
}

fn dash(text: &str) -> String {
    if text.is_empty() { "-".into() } else { text.into() }
}

fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}
