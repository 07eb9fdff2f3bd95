//! Networks: their addresses, and whose they are.

use std::{net::Ipv4Addr, sync::Arc};

use model::{
    command::{Answer, Rejection},
    event::ObjectChange,
    id::{NetworkId, ServiceId},
    network::{Network, NetworkSpec},
    service::{Service, ServiceSpec},
};

use crate::{requests::Outcome, resolve::missing, write::Writer};

impl Writer<'_> {
    pub(super) fn create_network(&mut self, id: NetworkId, base: Ipv4Addr, spec: &NetworkSpec) -> Outcome {
        if self.store.network_by_name(&spec.name).is_some() {
            return Err(Rejection::Exists { kind: "network".into(), name: spec.name.clone() });
        }
        if self.store.networks.contains_key(&id) {
            return Err(Rejection::Conflict(format!("network id {id} is taken; ask again")));
        }
        if let Some(other) = self.store.networks().find(|network| network.base == base) {
            return Err(Rejection::Conflict(format!(
                "network \"{}\" has {base}/16; ask again",
                other.spec.name
            )));
        }
        let network = Network {
            id,
            generation: self.generation,
            spec: spec.clone(),
            base,
            addresses: [].into(),
            last: 0,
            created: self.at,
        };
        self.network_event(&network, ObjectChange::Created, format!("created with {base}/16"));
        self.put_network(network);
        Ok(Answer::Network { id })
    }

    pub(super) fn remove_network_of(&mut self, id: NetworkId) -> Outcome {
        let network = self.store.networks.get(&id).cloned().ok_or_else(|| missing("network", id))?;
        let name = &network.spec.name;
        if let Some(user) = self.store.services().find(|service| uses(service, name)) {
            return Err(Rejection::Conflict(format!(
                "service \"{}\" is in network \"{name}\", or a rollback would bring it back there",
                user.spec.name
            )));
        }
        self.remove_network(id);
        self.network_event(&network, ObjectChange::Removed, "removed");
        Ok(Answer::Network { id })
    }

    /// The service's networks with an address for it in each.
    pub(super) fn attached(&self, id: ServiceId, spec: &ServiceSpec) -> Result<Vec<Network>, Rejection> {
        let names = &spec.template.container.networks;
        let attach = |name: &String| {
            let network = self.store.network_by_name(name).ok_or_else(|| missing("network", name))?;
            let mut network = network.clone();
            network.attach(id).then_some(network).ok_or_else(|| {
                Rejection::Conflict(format!("network \"{name}\" has as many services as it has addresses"))
            })
        };
        names.iter().map(attach).collect()
    }

    pub(super) fn attach_all(&mut self, networks: Vec<Network>) {
        for network in networks {
            let known = self.store.networks.get(&network.id);
            if known.is_none_or(|known| **known != network) {
                self.put_network(network);
            }
        }
    }
}

fn uses(service: &Service, network: &str) -> bool {
    let in_it = |template: &model::service::TaskTemplate| {
        template.container.networks.iter().any(|name| name == network)
    };
    let kept = service.templates.values().any(|template| in_it(template));
    let previous: Option<&Arc<ServiceSpec>> = service.previous.as_ref();
    kept || in_it(&service.spec.template) || previous.is_some_and(|previous| in_it(&previous.template))
}
