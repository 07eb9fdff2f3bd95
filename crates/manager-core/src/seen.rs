//! What routers saw of the replicas that a rollout brings: whether their requests fail, however well the probes answer.
//!
//! Counts stay with the leader, as heartbeats do; what follows from them goes into the log once. A mesh counts from its own
//! beginning. What came before the rollout, or before a person let it go on, does not count.

use std::collections::BTreeMap;

use model::{
    command::Command,
    id::{NodeId, TaskId},
    service::{Rollout, RolloutState, Service, Share, Slot},
    session::Seen,
    task::Task,
    time::ClusterTime,
};
use store::Store;

use crate::{Manager, proposal::Purpose};

/// Failures that are too few to judge by: clients go away, and a start has its first moments.
const FEW: u64 = 10;

/// What one node's mesh saw of one replica.
#[derive(Debug, Clone, Copy)]
struct Sight {
    /// Of which rollout's time.
    begun: ClusterTime,
    /// What it had counted by then.
    before: Seen,
    latest: Seen,
}

/// By replica that is watched, what each node's mesh last said of it.
#[derive(Debug, Default)]
pub(crate) struct Sights(BTreeMap<TaskId, BTreeMap<NodeId, Sight>>);

impl Manager {
    pub(crate) fn on_seen(&mut self, node: NodeId, seen: Vec<Seen>) {
        let Some(lead) = &mut self.lead else { return };
        let store = &self.store;
        let sights = &mut lead.sights.0;
        sights.retain(|task, _| watched(store, *task).is_some());
        let mut faults = Vec::new();
        for now in seen {
            let Some((task, service, rollout)) = watched(store, now.task) else { continue };
            let of_task = sights.entry(now.task).or_default();
            of_task.retain(|node, _| store.node(*node).is_some());
            of_task.insert(node, Sight::renewed(of_task.get(&node).copied(), now, task, rollout));
            faults.extend(judge(task, service, rollout, of_task));
        }
        if self.other_version().is_some() {
            return;
        }
        faults.into_iter().for_each(|command| self.propose_own(command, Purpose::Nobody));
    }
}

impl Sight {
    fn renewed(known: Option<Self>, latest: Seen, task: &Task, rollout: &Rollout) -> Self {
        let begun = rollout.begun();
        let none = Seen { requests: 0, failures: 0, ..latest };
        let before = match known {
            // It began to count anew.
            Some(known) if known.latest.requests > latest.requests => none,
            Some(known) if known.begun == begun => known.before,
            Some(known) => known.latest,
            None if task.created >= begun => none,
            None => latest,
        };
        Self { begun, before, latest }
    }
}

/// A replica that a rollout has brought and that nobody has spoken of yet.
fn watched(store: &Store, id: TaskId) -> Option<(&Task, &Service, &Rollout)> {
    let task = store.task(id).filter(|task| task.is_active() && task.slot != Slot::HOOK)?;
    let service = store.service(task.service)?;
    let rollout = service.rollout.as_ref().filter(|rollout| {
        matches!(rollout.state, RolloutState::Updating | RolloutState::AwaitingPromotion)
    })?;
    let open = task.template == rollout.target && task.fault_since(rollout.begun()).is_none();
    open.then_some((task, service, rollout))
}

/// The word on a replica, once there is one.
fn judge(
    task: &Task,
    service: &Service,
    rollout: &Rollout,
    sights: &BTreeMap<NodeId, Sight>,
) -> Option<Command> {
    let Share::Percent(most) = service.spec.update.max_errors else { return None };
    let sum = |count: fn(&Seen) -> u64| -> u64 {
        let since = sights.values().map(|sight| count(&sight.latest).saturating_sub(count(&sight.before)));
        since.fold(0, u64::saturating_add)
    };
    let (requests, failures) = (sum(|seen| seen.requests), sum(|seen| seen.failures));
    let many = failures.saturating_mul(100) > requests.saturating_mul(u64::from(most));
    if failures < FEW || !many {
        return None;
    }
    let message = format!("routers saw {failures} of {requests} requests fail");
    Some(Command::NoteFault { task: task.id, release: rollout.target, message })
}
