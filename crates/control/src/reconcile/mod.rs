//! Keeps the right tasks in a service's slots.
//!
//! Flow: [`mod@slot`] reads one slot; [`fill`] does what cannot wait (an empty slot, a lost node, a slot that is not wanted any
//! more); what may be done in an order of our choice (a new template, a drained node) is left to [`update`],
//! which holds the budget. [`replicated`] and [`global`] say which slots there should be. A [`mod@job`] looks at its slots by itself.

pub(crate) mod fill;
pub(crate) mod global;
mod job;
pub(crate) mod replicated;
pub(crate) mod slot;

use model::{
    id::ServiceId,
    service::{Mode, Service, Slot},
};

use crate::{pass::Pass, reap, update};
use slot::SlotTasks;

/// Looks at a whole service. `resume` is the replica to begin with; returns where to go on when the plan is full.
pub(crate) fn service(pass: &mut Pass<'_>, id: ServiceId, resume: u32) -> Option<u32> {
    let store = pass.store;
    let Some(service) = store.service(id) else {
        pass.soft.forget_service(id);
        pass.nodes.forget_service(id);
        return None;
    };
    if service.removing {
        return reap::removed_service(pass, service).then_some(0);
    }
    if service.spec.mode == Mode::Global {
        pass.soft.global.insert(id);
    }
    if let (Some(policy), Some(status)) = (&service.spec.job, &service.job) {
        return job::job(pass, service, policy, status).then_some(0);
    }
    let mut moves = false;
    for slot in slots(pass, service, resume) {
        if pass.is_full() {
            return Some(match slot {
                Slot::Replica(number) if wants(pass, service, slot) => number,
                Slot::Replica(_) | Slot::Node(_) => 0,
            });
        }
        moves |= fill::slot(pass, service, slot);
    }
    if !moves && !update::is_under_way(service) {
        pass.soft.moving.remove(&id);
        return None;
    }
    pass.soft.moving.insert(id);
    if pass.is_full() {
        return Some(0);
    }
    if pass.advanced.insert(id) {
        update::advance(pass, service);
    }
    None
}

/// Looks at one slot; returns whether the whole service must be looked at.
pub(crate) fn slot(pass: &mut Pass<'_>, id: ServiceId, slot: Slot) -> bool {
    match pass.store.service(id) {
        Some(service) if !service.removing && service.job.is_none() => fill::slot(pass, service, slot),
        Some(_) => true,
        None => false,
    }
}

/// The slots to look at: surplus ones first, then the wanted ones from replica `resume` on.
fn slots(pass: &Pass<'_>, service: &Service, resume: u32) -> Vec<Slot> {
    let mut slots: Vec<Slot> = Vec::new();
    if resume == 0 {
        let mut present: Vec<Slot> = pass.store.tasks_of_service(service.id).map(|task| task.slot).collect();
        present.dedup();
        slots.extend(present.into_iter().filter(|slot| !wants(pass, service, *slot)));
    }
    slots.extend(wanted(pass, service, resume));
    slots
}

/// The wanted slots, in order.
pub(crate) fn wanted(pass: &Pass<'_>, service: &Service, resume: u32) -> Vec<Slot> {
    match service.spec.mode {
        Mode::Replicated(replicas) => replicated::slots(replicas, resume).collect(),
        Mode::Global => {
            let nodes = pass.store.nodes().map(|node| Slot::Node(node.id));
            nodes.filter(|slot| wants(pass, service, *slot)).collect()
        }
    }
}

/// Whether the service should have this slot.
pub(crate) fn wants(pass: &Pass<'_>, service: &Service, slot: Slot) -> bool {
    if slot == Slot::HOOK {
        return update::hook::is_wanted(service);
    }
    match (service.spec.mode, slot) {
        (Mode::Replicated(replicas), Slot::Replica(number)) => replicated::wants(replicas, number),
        (Mode::Global, Slot::Node(id)) => pass.store.node(id).is_some_and(|node| {
            let has_task = || pass.store.tasks_of_slot(service.id, slot).any(|task| task.is_active());
            global::wants(&service.spec.template, node, has_task())
        }),
        (Mode::Replicated(_), Slot::Node(_)) | (Mode::Global, Slot::Replica(_)) => false,
    }
}

/// Reads a slot of a service.
pub(crate) fn read<'a>(pass: &Pass<'a>, service: &Service, slot: Slot) -> SlotTasks<'a> {
    SlotTasks::read(pass.store, service.id, slot)
}
