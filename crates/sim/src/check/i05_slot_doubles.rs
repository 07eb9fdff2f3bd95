//! I5: two live containers of one slot only where one replaces the other start-first, or while a node is unreachable and
//! briefly after it is back.

use std::collections::BTreeMap;

use model::{
    id::{ServiceId, TaskId},
    node::NodeState,
    service::Slot,
};

use crate::{
    engine::{Happening, Power},
    queue::{SEC, Time},
    world::World,
};

/// After this much quiet a node is as reachable as it will ever be.
const QUIET: Time = 30 * SEC;
/// A double in quiet weather ends within this.
const BRIEFLY: Time = 20 * SEC;

/// Doubles that last.
#[derive(Debug, Default)]
pub(crate) struct Doubles {
    since: BTreeMap<(ServiceId, Slot), Time>,
}

impl World {
    /// A container started: no other of its slot lives on a node that could have been told.
    pub(crate) fn check_slot_doubles(&mut self, node: usize, happening: &Happening) {
        let Some(labels) = happening.labels.filter(|_| !self.was_removed(node)) else { return };
        let Some((service, slot)) = self.checks.slots.get(&labels.task).copied() else { return };
        let others = self.live_of_slot(service, slot, labels.task);
        let paired = |other: &TaskId| self.checks.pairs.contains(labels.task, *other);
        let double = others.into_iter().find(|(node, other)| !paired(other) && !self.may_double(*node));
        let Some((other_node, other)) = double else { return };
        let what = format!(
            "slot {slot} of service {service}: task {} started on n{node} while task {other} runs on n{other_node}",
            labels.task
        );
        self.violate("I5", what, vec![labels.task.to_string(), other.to_string()]);
    }

    fn live_of_slot(&self, service: ServiceId, slot: Slot, but: TaskId) -> Vec<(usize, TaskId)> {
        let mut found = Vec::new();
        for (node, host) in self.nodes.iter().enumerate() {
            for container in host.engine.live() {
                let Some(labels) = container.labels.filter(|labels| labels.service == service) else {
                    continue;
                };
                if labels.task != but && self.checks.slots.get(&labels.task) == Some(&(service, slot)) {
                    found.push((node, labels.task));
                }
            }
        }
        found
    }

    /// The node was, or is, not reachable, so that its old container may live on for a while.
    fn may_double(&self, node: usize) -> bool {
        let host = &self.nodes[node];
        let known = self.checks.frontier().and_then(|store| store.node(host.node));
        let reachable = host.is_awake() && host.engine.power == Power::Up;
        !reachable
            || !self.is_undisturbed(node, QUIET)
            || known.is_none_or(|known| known.state == NodeState::Down)
    }

    /// What runs on a node that was removed, and starts again there, nobody can stop any more.
    fn was_removed(&self, node: usize) -> bool {
        self.checks.frontier().is_some_and(|store| store.node(self.nodes[node].node).is_none())
    }

    /// Doubles that last although nothing is disturbed.
    pub(crate) fn check_lasting_doubles(&mut self) {
        let now = self.now();
        let mut live: BTreeMap<(ServiceId, Slot), BTreeMap<TaskId, usize>> = BTreeMap::new();
        for (node, host) in self.nodes.iter().enumerate().filter(|(node, _)| !self.was_removed(*node)) {
            for labels in host.engine.live().filter_map(|container| container.labels) {
                if let Some(slot) = self.checks.slots.get(&labels.task) {
                    live.entry(*slot).or_default().insert(labels.task, node);
                }
            }
        }
        live.retain(|_, tasks| tasks.len() > 1);
        self.checks.doubles.since.retain(|slot, _| live.contains_key(slot));
        for ((service, slot), tasks) in live {
            let since = *self.checks.doubles.since.entry((service, slot)).or_insert(now);
            let calm = tasks.values().all(|node| self.is_undisturbed(*node, BRIEFLY));
            let ids: Vec<TaskId> = tasks.keys().copied().collect();
            let is_wanted = |task: &TaskId| {
                self.checks
                    .frontier()
                    .and_then(|store| store.task(*task))
                    .is_some_and(|task| task.is_active())
            };
            let paired = matches!(ids[..], [one, other] if self.checks.pairs.contains(one, other));
            if now > since + BRIEFLY && calm && !(paired && ids.iter().all(is_wanted)) {
                let what =
                    format!("slot {slot} of service {service} has had two containers for 20 s: {tasks:?}");
                self.violate("I5", what, tasks.keys().map(TaskId::to_string).collect());
                return;
            }
        }
    }
}
