//! I11, with I14: what the managers do of their own accord takes no more replicas down than it may. In calm weather, from
//! full health, N - parallelism stay fit for work in stop-first, N in start-first, through updates and drains alike.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    id::ServiceId,
    node::{Availability, NodeState},
    service::{Mode, Service, Slot, TemplateVersion, UpdateOrder},
};
use store::Store;

use crate::{engine::app::Behaviour, knobs::Weather, world::World};

/// What is watched of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Floor {
    target: TemplateVersion,
    replicas: u32,
    least: usize,
    /// It was in full health under this declaration or when it came, and every node has been there since.
    holds: bool,
}

/// All services.
#[derive(Debug, Default)]
pub(crate) struct Floors {
    by_service: BTreeMap<ServiceId, Floor>,
}

impl World {
    /// The state has changed: which floors hold?
    pub(crate) fn check_floors(&mut self, store: &Store) {
        if self.knobs.weather != Weather::Calm {
            return;
        }
        let all_there = store.nodes().all(|node| node.state == NodeState::Ready)
            && store.nodes().any(|node| node.spec.availability == Availability::Active);
        for service in store.services() {
            let Mode::Replicated(replicas) = service.spec.mode else { continue };
            if service.removing || service.job.is_some() {
                self.checks.floors.by_service.remove(&service.id);
                continue;
            }
            let known = self.checks.floors.by_service.get(&service.id).copied();
            let least = least(service, replicas);
            let full =
                self.fit(service.id).len() == replicas as usize && is_known_fit(store, service, replicas);
            let begins = full && all_there && is_plain(service);
            let floor = match known {
                Some(known)
                    if (known.target, known.replicas, known.least) == (service.template, replicas, least) =>
                {
                    Floor { holds: all_there && (known.holds || begins), ..known }
                }
                // Half-way through an update the next one begins with what the last one left.
                _ => Floor { target: service.template, replicas, least, holds: begins },
            };
            self.checks.floors.by_service.insert(service.id, floor);
        }
        self.checks.floors.by_service.retain(|id, _| store.service(*id).is_some());
        self.check_floors_now();
    }

    /// Something happened: is every floor kept?
    pub(crate) fn check_floors_now(&mut self) {
        let watched: Vec<(ServiceId, Floor)> = self
            .checks
            .floors
            .by_service
            .iter()
            .filter(|(_, floor)| floor.holds)
            .map(|(id, floor)| (*id, *floor))
            .collect();
        for (service, floor) in watched {
            self.checks.count("floors checked");
            let fit = self.fit(service).len();
            if fit < floor.least {
                let what = format!("service {service} is down to {fit} replicas, {} must stay", floor.least);
                return self.violate("I11", what, vec![service.to_string(), "task".to_owned()]);
            }
        }
    }

    /// Slots of a service with a container that is fit for work.
    fn fit(&self, service: ServiceId) -> BTreeSet<Slot> {
        let live = self.nodes.iter().flat_map(|host| host.engine.live());
        let ours =
            live.filter(|c| c.is_healthy() && c.labels.is_some_and(|labels| labels.service == service));
        ours.filter_map(|c| self.checks.slots.get(&c.labels?.task).map(|(_, slot)| *slot)).collect()
    }
}

fn least(service: &Service, replicas: u32) -> usize {
    let policy = &service.spec.update;
    match policy.order {
        // Where there is no room for two, `auto` is as stop-first.
        UpdateOrder::StopFirst | UpdateOrder::Auto => {
            replicas.saturating_sub(policy.parallelism.max(1)) as usize
        }
        UpdateOrder::StartFirst => replicas as usize,
    }
}

/// The managers know it as well: what they began before is over.
fn is_known_fit(store: &Store, service: &Service, replicas: u32) -> bool {
    (1..=replicas).all(|slot| {
        let mut active =
            store.tasks_of_slot(service.id, Slot::Replica(slot)).filter(|task| task.may_have_container());
        active.next().is_some_and(|task| task.is_active() && task.observed.is_healthy())
            && active.next().is_none()
    })
}

/// Every template of it stays up where it is put, and any node can take it.
pub(super) fn is_plain(service: &Service) -> bool {
    service.templates.values().all(|template| {
        let (container, placement) = (&template.container, &template.placement);
        Behaviour::of(container).0.is_sound()
            && !container.image.contains("missing")
            && container.ports.is_empty()
            && container.resources.cpu_reserve_millis == 0
            && placement.constraints.is_empty()
            && placement.max_per_node == 0
    })
}
