//! I11: an update takes no more replicas down than it may: in calm weather, from full health, N - parallelism stay fit for
//! work in stop-first, N in start-first.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    id::ServiceId,
    node::{Availability, NodeState},
    service::{Mode, RolloutState, Service, Slot, TemplateVersion, UpdateOrder},
};
use store::Store;

use crate::{engine::app::Behaviour, knobs::Weather, world::World};

/// What is watched of one rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Floor {
    target: TemplateVersion,
    least: usize,
    /// It began in full health, and nothing but the rollout has happened since.
    holds: bool,
}

/// All rollouts under way.
#[derive(Debug, Default)]
pub(crate) struct Floors {
    by_service: BTreeMap<ServiceId, Floor>,
}

impl World {
    /// The state has changed: which rollouts are watched?
    pub(crate) fn check_floors(&mut self, store: &Store) {
        if self.knobs.weather != Weather::Calm {
            return;
        }
        let all_there = store
            .nodes()
            .all(|node| node.state == NodeState::Ready && node.spec.availability == Availability::Active);
        for service in store.services() {
            let rolling = service.rollout.as_ref().filter(|rollout| {
                !service.removing
                    && matches!(rollout.state, RolloutState::Updating | RolloutState::RollingBack)
            });
            let (Some(rollout), Mode::Replicated(replicas)) = (rolling, service.spec.mode) else {
                self.checks.floors.by_service.remove(&service.id);
                continue;
            };
            let known = self.checks.floors.by_service.get(&service.id).copied();
            let least = least(service, replicas);
            let floor = match known.filter(|known| (known.target, known.least) == (rollout.target, least)) {
                Some(known) => Floor { holds: known.holds && all_there, ..known },
                None => {
                    let full = self.fit(service.id).len() == replicas as usize;
                    let holds = known.is_none() && all_there && full && is_sound(service);
                    Floor { target: rollout.target, least, holds }
                }
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
                let what = format!(
                    "an update of service {service} leaves {fit} replicas, {} must stay",
                    floor.least
                );
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
        UpdateOrder::StopFirst => replicas.saturating_sub(policy.parallelism.max(1)) as usize,
        UpdateOrder::StartFirst => replicas as usize,
    }
}

fn is_sound(service: &Service) -> bool {
    service.templates.values().all(|template| {
        Behaviour::of(&template.container).0.is_sound() && !template.container.image.contains("missing")
    })
}
