//! Why something is as it is, in sentences: for `orchctl why`, `orchctl status`, and every refusal.
//!
//! Everything is read from the store, so that any manager explains alike, and what is said is what was decided.

use model::{
    id::NodeId,
    node::{Availability, Node, NodeState},
    request::Waiting,
    service::{Mode, Promotion, RolloutState, Service, Slot},
    task::{DesiredState, Health, Task, TaskState},
};
use store::Store;

use crate::{
    enforce,
    explain_jobs::{cron, job_summary, waiting_cron},
    reconcile::slot::{is_healthy, is_on_lost_node, node_of},
    routes,
    update::fetches,
};

/// Waiting things listed at most; more are counted in one line.
const MAX_WAITING: usize = 100;

/// Sentences about a service, job, cron, task or node, the most telling first; empty when nothing of that name exists.
pub fn explain(store: &Store, reference: &str) -> Vec<String> {
    let known = store.cron_by_name(reference).map(|known| cron(store, known)).unwrap_or_default();
    if let Ok(service) = store.resolve_service(reference) {
        return [explain_service(store, service), known].concat();
    }
    if !known.is_empty() {
        return known;
    }
    if let Ok(task) = store.resolve_task(reference) {
        return explain_task(store, task);
    }
    store.resolve_node(reference).map(|node| explain_node(store, node)).unwrap_or_default()
}

/// Everything that waits, and why. Linear in the number of tasks that are wanted or on their way out.
pub fn waiting(store: &Store) -> Vec<Waiting> {
    let mut list: Vec<Waiting> =
        store.services().flat_map(|service| waiting_service(store, service)).collect();
    list.extend(store.nodes().filter_map(|node| waiting_node(store, node)));
    list.extend(store.crons().filter_map(waiting_cron));
    let more = list.len().saturating_sub(MAX_WAITING);
    if more > 0 {
        list.truncate(MAX_WAITING);
        let what = format!("{more} more");
        list.push(Waiting { what, why: "see `orchctl ps`".into(), since: store.time() });
    }
    list
}

fn waiting_service(store: &Store, service: &Service) -> Vec<Waiting> {
    let name = &service.spec.name;
    let kind = if service.job.is_some() { "job" } else { "service" };
    let mut list = Vec::new();
    if service.removing {
        let tasks =
            store.tasks_of_service(service.id).filter(|task| !task.observed.state.is_terminal()).count();
        let why = format!("is being removed: {tasks} tasks have not ended yet");
        list.push(Waiting { what: format!("{kind} {name}"), why, since: service.updated });
        return list;
    }
    if let Some(rollout) = &service.rollout
        && let Some(why) = rollout_sentence(store, service)
    {
        list.push(Waiting { what: format!("rollout of {name}"), why, since: rollout.since });
    }
    let stuck = store.tasks_of_service(service.id).filter_map(|task| {
        let what = format!("{kind} {name} slot {}", slot_name(store, task.slot));
        task_waits(store, service, task).map(|why| Waiting { what, why, since: task.since })
    });
    list.extend(stuck);
    list
}

fn waiting_node(store: &Store, node: &Node) -> Option<Waiting> {
    let what = format!("node {}", node.facts.hostname);
    let why = match (node.state, node.spec.availability) {
        (NodeState::Down, _) => format!("down: {}", node.message),
        (NodeState::Joining, _) => "joined, but its agent has not connected yet".into(),
        (NodeState::Ready, Availability::Drain) if node.facts.problems.is_empty() => {
            drain_sentence(store, node)?
        }
        (NodeState::Ready, _) if !node.facts.problems.is_empty() => node.facts.problems.join("; "),
        (NodeState::Ready, _) if !node.facts.engine_ok => "its container engine does not answer".into(),
        (NodeState::Ready, _) => return None,
    };
    Some(Waiting { what, why, since: node.since })
}

fn drain_sentence(store: &Store, node: &Node) -> Option<String> {
    let left = store.tasks_on_node(node.id).filter(|task| !task.observed.state.is_terminal()).count();
    (left > 0).then(|| format!("is being drained: {left} tasks are still on it"))
}

/// Why an active task is not (or may not stay) where it should be.
fn task_waits(store: &Store, service: &Service, task: &Task) -> Option<String> {
    if !task.is_active() {
        return None;
    }
    if let Some(pending) = &task.pending {
        return Some(pending.message.clone());
    }
    if is_on_lost_node(store, task) {
        let node = node_of(store, task).map_or_else(
            || "a removed node".into(),
            |node| {
                let down = store.time().since(node.since).as_secs();
                format!("node {}, down {down} s", node.facts.hostname)
            },
        );
        return Some(match service.spec.mode {
            Mode::Global => format!("waits for {node}"),
            Mode::Replicated(_) => format!("waits for {node}; no other node fits"),
        });
    }
    match (task.observed.state, task.observed.health) {
        (TaskState::CrashLoop, _) => Some(format!("ends again and again{}", with_cause(task))),
        (TaskState::Running, Health::Unhealthy) => Some(format!("is unhealthy{}", with_cause(task))),
        (TaskState::Running, Health::Unready) => Some(format!("is not ready{}", with_cause(task))),
        (TaskState::Running, Health::Starting) if !task.observed.message.is_empty() => {
            Some(format!("has not started yet{}", with_cause(task)))
        }
        _ => {
            enforce::must_leave(store, service, task).map(|why| format!("{why}; waits for its turn to move"))
        }
    }
}

fn explain_service(store: &Store, service: &Service) -> Vec<String> {
    let mut lines = vec![summary(store, service)];
    lines.extend(rollout_sentence(store, service).map(|why| format!("rollout: {why}")));
    lines.extend(waiting_service(store, service).into_iter().filter(|w| !w.what.starts_with("rollout")).map(
        |waiting| {
            let age = store.time().since(waiting.since).as_secs();
            format!("{}: {} (for {age} s)", waiting.what, waiting.why)
        },
    ));
    lines.extend(traffic(store, service));
    let newest = store.tasks_of_service(service.id).filter(|task| {
        task.observed.state.is_terminal() && !matches!(task.observed.state, TaskState::Stopped)
    });
    if let Some(last) = newest.max_by_key(|task| (task.since, task.id)) {
        let slot = slot_name(store, last.slot);
        lines.push(format!("last end: slot {slot} {}{}", last.observed.state, with_cause(last)));
    }
    lines
}

/// How a service is reached, and what stands in the way.
fn traffic(store: &Store, service: &Service) -> Vec<String> {
    let Some(route) = routes::service_route(store, service) else { return Vec::new() };
    let mut lines = Vec::new();
    let tasks = || store.replicas_of_service(service.id).filter(|task| task.is_active());
    let ports: Vec<String> = route.ports.iter().map(|port| port.published.to_string()).collect();
    let names: Vec<&str> =
        routes::networks_of(store, service).map(|network| network.spec.name.as_str()).collect();
    let places = match (ports.is_empty(), names.is_empty()) {
        (false, true) => format!("port {}", ports.join(", ")),
        (true, _) => format!("its name in network {}", names.join(", ")),
        (false, false) => format!("port {} and its name in network {}", ports.join(", "), names.join(", ")),
    };
    lines.push(format!(
        "traffic: {} of {} tasks take it, by {places}",
        route.endpoints.len(),
        tasks().count()
    ));
    if route.endpoints.is_empty() {
        lines.push("traffic: nobody takes it, so that HTTP ports answer 503 and others close at once".into());
    }
    for task in tasks() {
        if let Some(why) = routes::out_of_rotation(store, task) {
            lines.push(format!("traffic: slot {} takes none: {why}", slot_name(store, task.slot)));
        }
    }
    let ready = |node: &&Node| node.state == NodeState::Ready;
    if !route.ports.is_empty() && !store.nodes().filter(ready).any(routes::is_ingress) {
        lines
            .push("traffic: no node of class server is up, so that nobody answers on published ports".into());
    }
    for node in store.nodes().filter(ready).filter(|node| !node.facts.problems.is_empty()) {
        lines.push(format!("traffic: on node {}: {}", node.facts.hostname, node.facts.problems.join("; ")));
    }
    lines
}

fn summary(store: &Store, service: &Service) -> String {
    if let Some(job) = job_summary(store, service) {
        return job;
    }
    let tasks = || store.replicas_of_service(service.id).filter(|task| task.is_active());
    let healthy = tasks().filter(|task| is_healthy(store, task)).count();
    let wanted = match service.spec.mode {
        Mode::Replicated(replicas) => format!("{replicas} replicas"),
        Mode::Global => "one task on every node that its constraints admit".to_owned(),
    };
    format!(
        "service {}: wants {wanted}; {} placed or waiting, {healthy} healthy",
        service.spec.name,
        tasks().count()
    )
}

fn rollout_sentence(store: &Store, service: &Service) -> Option<String> {
    let rollout = service.rollout.as_ref()?;
    let behind =
        store.replicas_of_service(service.id).filter(|task| task.is_active() && !store.is_current(task));
    let behind = behind.count();
    match rollout.state {
        RolloutState::Updating if rollout.hook.is_some() => {
            let tasks = store.tasks_of_slot(service.id, Slot::HOOK);
            let hook = tasks.filter(|task| task.template == rollout.target).max_by_key(|task| task.created);
            let state = hook.map_or_else(
                || "has not begun".to_owned(),
                |task| format!("is {}{}", task.observed.state, with_cause(task)),
            );
            Some(format!(
                "its pre-deploy hook {state}; {behind} tasks follow on template {} when it succeeds",
                rollout.target.0
            ))
        }
        RolloutState::Updating => {
            let now = holds_rollout(store, service);
            Some(format!("moving to template {}: {behind} tasks to go{now}", rollout.target.0))
        }
        RolloutState::RollingBack => {
            let now = holds_rollout(store, service);
            Some(format!("returning, because {}: {behind} tasks to go{now}", rollout.message))
        }
        RolloutState::Paused => Some(format!(
            "paused: {}; {behind} tasks keep the older template; resume, update or roll back to go on",
            rollout.message
        )),
        RolloutState::AwaitingPromotion => {
            let soak = rollout.holding().filter(|policy| policy.promotion == Promotion::Automatic);
            Some(match soak {
                Some(policy) => {
                    let left = (rollout.since + policy.soak).since(store.time()).as_secs();
                    format!("its canaries are good: {behind} tasks follow in {left} s if they stay so")
                }
                None => format!("its canaries are good: {behind} tasks wait for `orchctl deploy promote`"),
            })
        }
        RolloutState::Done | RolloutState::RolledBack => None,
    }
}

/// What the next step of a rollout waits for.
fn holds_rollout(store: &Store, service: &Service) -> String {
    if let Some(fetches) = service.rollout.as_ref().and_then(fetches) {
        return format!("; it {fetches} before it stops a replica");
    }
    let next = service.rollout.as_ref().map_or(store.time(), |rollout| rollout.next_batch_at);
    if next > store.time() {
        let wait = next.since(store.time()).as_secs();
        return format!("; pauses {wait} s before the next batch");
    }
    let tasks = || store.replicas_of_service(service.id).filter(|task| task.is_active());
    let mut frozen = tasks().filter(|task| !store.is_current(task));
    let frozen = frozen.find_map(|task| frozen_sentence(store, task.node?));
    if let Some(why) = frozen.filter(|_| !goes_on(service)) {
        return format!("; waits for {why}");
    }
    let unfit = store
        .tasks_of_service(service.id)
        .find(|task| task.is_active() && !is_healthy(store, task) && !is_on_lost_node(store, task));
    unfit.map_or_else(String::new, |task| {
        let slot = slot_name(store, task.slot);
        format!("; waits for slot {slot} to be healthy: it is {}{}", task.observed.state, with_cause(task))
    })
}

fn goes_on(service: &Service) -> bool {
    service.rollout.as_ref().is_some_and(|rollout| rollout.despite_freeze.is_some())
}

/// Whose freeze a node is in, and for how long; `None` when it is in none.
pub fn frozen_sentence(store: &Store, node: NodeId) -> Option<String> {
    Some(format!("node {}, which is {}", node_name(store, node), frozen(store, node)?))
}

fn frozen(store: &Store, node: NodeId) -> Option<String> {
    let (freeze, until) = store.freeze_of(node, store.time())?;
    let minutes = until.since(store.time()).as_secs().div_ceil(60);
    let span = match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    };
    let reason = &freeze.spec.reason;
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    Some(format!("frozen for {span} by \"{}\"{why}", freeze.spec.name))
}

fn explain_task(store: &Store, task: &Task) -> Vec<String> {
    let name = store.service(task.service).map_or_else(|| task.service.to_string(), |s| s.spec.name.clone());
    let place = task.node.map_or_else(|| "no node".into(), |node| node_name(store, node));
    let age = store.time().since(task.since).as_secs();
    let mut lines = vec![format!(
        "task {} is slot {} of {name} on {place}: {} for {age} s{}",
        task.id,
        slot_name(store, task.slot),
        task.observed.state,
        with_cause(task)
    )];
    if let Some(service) = store.service(task.service) {
        lines.extend(task_waits(store, service, task));
    }
    if let Some(pending) = &task.pending {
        lines.extend(
            pending
                .filters
                .iter()
                .map(|count| format!("{} of {} nodes {}", count.nodes, pending.nodes, count.filter)),
        );
    }
    if task.desired == DesiredState::Stopped && !task.observed.state.is_terminal() {
        lines.push("it is to stop; its node has not confirmed that yet".into());
    }
    if task.observed.restarts > 0 {
        lines.push(format!("its container was restarted {}", times(task.observed.restarts)));
    }
    lines
}

fn explain_node(store: &Store, node: &Node) -> Vec<String> {
    let age = store.time().since(node.since).as_secs();
    let (cpu, memory) = store.reserved_on(node.id);
    let availability = match node.spec.availability {
        Availability::Active => "takes tasks",
        Availability::Pause => "is paused: keeps its tasks, takes no new one",
        Availability::Drain => "is drained: takes no task",
    };
    let state = match node.state {
        NodeState::Joining => "has joined but never connected",
        NodeState::Ready => "is ready",
        NodeState::Down => "is down",
    };
    let mut lines = vec![format!("node {} {state} for {age} s and {availability}", node.facts.hostname)];
    lines.extend(waiting_node(store, node).map(|waiting| waiting.why));
    lines.extend(frozen(store, node.id).map(|words| format!("it is {words}")));
    lines.push(format!(
        "reserved: {cpu} of {} thousandths of a core, {memory} of {} bytes",
        node.facts.cpu_millis, node.facts.memory
    ));
    lines
}

/// A node's name, or its id when it is gone.
pub(crate) fn node_name(store: &Store, id: NodeId) -> String {
    store.node(id).map_or_else(|| id.to_string(), |node| node.facts.hostname.clone())
}

/// A slot as people know it: its number, or its node's name.
pub(crate) fn slot_name(store: &Store, slot: Slot) -> String {
    match slot {
        Slot::Replica(_) => slot.to_string(),
        Slot::Node(id) => node_name(store, id),
    }
}

/// `: why` where the task says why, or where it has no node.
pub(crate) fn with_cause(task: &Task) -> String {
    let exit = task.observed.exit.as_ref();
    let cause = match (&task.pending, task.observed.message.as_str(), exit) {
        (Some(pending), "", _) => pending.message.clone(),
        (None, "", Some(exit)) if task.observed.state != TaskState::Running => {
            format!("exit code {}{}", exit.code, if exit.oom { ", out of memory" } else { "" })
        }
        (_, message, _) => message.to_owned(),
    };
    if cause.is_empty() { cause } else { format!(": {cause}") }
}

pub(crate) fn times(count: u32) -> String {
    match count {
        1 => "once".into(),
        2 => "twice".into(),
        more => format!("{more} times"),
    }
}
