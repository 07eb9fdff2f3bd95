//! Events as lines.

use model::{
    event::{Event, EventKind, ObjectChange},
    node::NodeState,
    service::{RolloutState, Slot},
    task::Health,
};

use super::age;

/// One event in one line: revision, time, what, and the message.
pub fn line(event: &Event) -> String {
    let mut text =
        format!("{:<10} {} {}", event.revision.to_string(), age::date(event.at), what(&event.kind));
    if !event.message.is_empty() {
        text.push_str(": ");
        text.push_str(&event.message);
    }
    text
}

/// What happened to what.
pub fn what(kind: &EventKind) -> String {
    match kind {
        EventKind::Service { name, change: how, .. } => format!("service {name} {}", change(*how)),
        EventKind::Rollout { name, state, .. } => format!("service {name} rollout {}", rollout(*state)),
        EventKind::Task { id, name, slot, state, health, .. } => {
            format!("task {} ({id}) {state}{}", task_name(name, *slot), health_note(*health))
        }
        EventKind::Node { name, change: how, state, .. } => {
            format!("node {name} {}, {}", change(*how), node_state(*state))
        }
        EventKind::Member { id, name, change: how } => format!("manager {name} ({id}) {}", change(*how)),
        EventKind::Network { name, change: how, .. } => format!("network {name} {}", change(*how)),
        EventKind::Token { id, change: how } => format!("token {id} {}", change(*how)),
        EventKind::Item { kind, name, change: how } => format!("{kind} {name} {}", change(*how)),
    }
}

/// `ispyb.3`
pub fn task_name(service: &str, slot: Slot) -> String {
    format!("{service}.{slot}")
}

/// A rollout's state in a word or two.
pub fn rollout(state: RolloutState) -> &'static str {
    match state {
        RolloutState::Updating => "updating",
        RolloutState::Paused => "paused",
        RolloutState::RollingBack => "rolling back",
        RolloutState::Done => "done",
        RolloutState::RolledBack => "rolled back",
        RolloutState::AwaitingPromotion => "awaiting promotion",
    }
}

/// A node's state in a word.
pub fn node_state(state: NodeState) -> &'static str {
    match state {
        NodeState::Joining => "joining",
        NodeState::Ready => "ready",
        NodeState::Down => "down",
    }
}

/// The health check's word, where there is a check.
pub fn health_note(health: Health) -> &'static str {
    match health {
        Health::None => "",
        Health::Starting => ", starting",
        Health::Healthy => ", healthy",
        Health::Unhealthy => ", unhealthy",
        Health::Unready => ", not ready",
    }
}

fn change(change: ObjectChange) -> &'static str {
    match change {
        ObjectChange::Created => "created",
        ObjectChange::Updated => "updated",
        ObjectChange::Removed => "removed",
    }
}
