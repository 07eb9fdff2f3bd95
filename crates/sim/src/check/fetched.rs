//! Images before stops: in calm weather a rollout stops no healthy replica on a node that has not fetched the new image, unless
//! its patience is over.

use model::{
    node::{Availability, NodeState},
    service::{ImagePin, Mode, Service, Slot, UpdateOrder},
    task::{DesiredState, Task},
};
use store::Store;

use super::i11_floor::is_plain;
use crate::{knobs::Weather, world::World};

impl World {
    /// Tasks that the managers want stopped now.
    pub(crate) fn check_fetched(&mut self, before: &Store, store: &Store) {
        if self.knobs.weather != Weather::Calm {
            return;
        }
        for task in store.tasks().filter(|task| task.desired == DesiredState::Stopped) {
            let Some(old) = before.task(task.id).filter(|old| old.is_active() && old.observed.is_healthy())
            else {
                continue;
            };
            let (Some(was), Some(service)) = (before.service(task.service), store.service(task.service))
            else {
                continue;
            };
            if !is_by_rollout(was, service, old) || !stays_there(before, store, task) || !is_plain(service) {
                continue;
            }
            self.checks.count("stops after fetches");
            if !self.has_image(service, task) {
                let what = format!("task {} is stopped before its node has the new image", task.id);
                return self.violate("fetch", what, vec![task.id.to_string()]);
            }
        }
    }

    fn has_image(&self, service: &Service, task: &Task) -> bool {
        let Some(host) = self.nodes.iter().find(|host| Some(host.node) == task.node) else { return true };
        let tag = &service.spec.template.container.image;
        let pin = match service.pins.get(&service.template) {
            Some(ImagePin::Digest(pin) | ImagePin::LocalId(pin)) => Some(pin),
            None => None,
        };
        pin.into_iter().chain([tag]).any(|image| host.engine.images.contains(image))
    }
}

/// The same stop-first rollout as before, with patience left, and a replica that has another image.
fn is_by_rollout(before: &Service, now: &Service, task: &Task) -> bool {
    let (Some(was), Some(rollout)) = (&before.rollout, &now.rollout) else { return false };
    let same = (was.target, was.begun(), was.state) == (rollout.target, rollout.begun(), rollout.state);
    let image = |service: &Service, template| {
        service.template_of(template).map(|template| template.container.image.clone())
    };
    let wanted = match (now.spec.mode, task.slot) {
        (Mode::Replicated(replicas), Slot::Replica(number)) => (1..=replicas).contains(&number),
        _ => false,
    };
    same && wanted
        && !now.removing
        && rollout.state.is_under_way()
        && now.spec == before.spec
        && now.spec.update.order == UpdateOrder::StopFirst
        && image(now, task.template) != image(now, rollout.target)
}

/// Its node keeps it, and no other task of its slot is there.
fn stays_there(before: &Store, store: &Store, task: &Task) -> bool {
    let fit = |store: &Store| {
        let node = task.node.and_then(|node| store.node(node));
        node.is_some_and(|node| {
            node.state == NodeState::Ready
                && node.facts.engine_ok
                && node.spec.availability == Availability::Active
        })
    };
    let alone = |store: &Store| {
        store.tasks_of_slot(task.service, task.slot).filter(|other| other.is_active()).count() <= 1
    };
    let patient = |service: &Service| {
        let begun = service.rollout.as_ref().map(|rollout| rollout.begun()).unwrap_or_default();
        store.time() < begun + service.spec.update.progress_deadline / 2
    };
    fit(before) && fit(store) && alone(before) && store.service(task.service).is_some_and(patient)
}
