//! What routers saw of the replicas that a rollout brings: whether their requests fail, however well the probes answer.
//!
//! Counts stay with the leader, as heartbeats do; what follows from them goes into the log once. A mesh counts from its own
//! beginning and says nothing of replicas that never failed it, so that a healthy cluster is silent.

use std::collections::BTreeMap;

use model::{
    command::Command,
    id::{NodeId, TaskId},
    service::{RolloutState, Share, Slot},
    session::Seen,
};

use crate::{Manager, proposal::Purpose};

/// Failures that are too few to judge by: clients go away, and a start has its first moments.
const FEW: u64 = 10;
/// Replicas that one message may speak of; the others wait for the next one.
const MAX_SEEN: usize = 1_000;

/// By replica, what each node's mesh last said of it.
#[derive(Debug, Default)]
pub(crate) struct Sights(BTreeMap<TaskId, BTreeMap<NodeId, Seen>>);

impl Manager {
    pub(crate) fn on_seen(&mut self, node: NodeId, seen: Vec<Seen>) {
        let Some(lead) = &mut self.lead else { return };
        let store = &self.store;
        lead.sights.0.retain(|task, _| store.task(*task).is_some_and(|task| task.is_active()));
        let mut faults = Vec::new();
        for sight in seen.into_iter().take(MAX_SEEN) {
            if store.task(sight.task).is_some_and(|task| task.is_active()) {
                let of_task = lead.sights.0.entry(sight.task).or_default();
                of_task.insert(node, sight);
                faults.extend(judge(store, sight.task, of_task));
            }
        }
        if self.other_version().is_some() {
            return;
        }
        faults.into_iter().for_each(|command| self.propose_own(command, Purpose::Nobody));
    }
}

/// The word on a replica that is watched, once there is one.
fn judge(store: &store::Store, id: TaskId, sights: &BTreeMap<NodeId, Seen>) -> Option<Command> {
    let task = store.task(id).filter(|task| task.slot != Slot::HOOK)?;
    let service = store.service(task.service)?;
    let rollout = service.rollout.as_ref().filter(|rollout| {
        matches!(rollout.state, RolloutState::Updating | RolloutState::AwaitingPromotion)
    })?;
    if task.template != rollout.target || task.fault_since(rollout.begun()).is_some() {
        return None;
    }
    let Share::Percent(most) = service.spec.update.max_errors else { return None };
    let requests = sights.values().map(|seen| seen.requests).fold(0, u64::saturating_add);
    let failures = sights.values().map(|seen| seen.failures).fold(0, u64::saturating_add);
    let many = failures.saturating_mul(100) > requests.saturating_mul(u64::from(most));
    if failures < FEW || !many {
        return None;
    }
    let message = format!("routers saw {failures} of {requests} requests fail");
    Some(Command::NoteFault { task: id, release: rollout.target, message })
}
