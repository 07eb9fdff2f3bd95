//! The engine's side of the cluster's networks: one bridge network each, with our labels.

use std::{collections::HashMap, net::Ipv4Addr};

use agent_core::labels::{CLUSTER, NODE};
use bollard::{
    errors::Error as DockerError,
    models::{
        EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest, NetworkInspect,
    },
    query_parameters::ListNetworksOptionsBuilder,
};
use model::route::NetworkRoute;

use super::{Engine, Ours, error::chain};
use crate::network::plan::{self, bridge_name, engine_name};

/// The option that names a bridge.
const BRIDGE: &str = "com.docker.network.bridge.name";

impl Engine {
    /// Makes the engine's network of this name, unless it is there as it should be.
    ///
    /// # Errors
    /// It is there and somebody else's, or the engine refuses; in words.
    pub async fn make_network(&self, network: &NetworkRoute, ours: Ours) -> Result<(), String> {
        let client = self.client().await.map_err(|error| chain(&error))?;
        let name = engine_name(network);
        match client.inspect_network(&name, None).await {
            Ok(found) if is_right(&found, network, ours) => return Ok(()),
            Ok(_) => {
                return Err(format!(
                    "the engine has another network of the name {name}; remove it with `docker network rm {name}`"
                ));
            }
            Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(error) => return Err(chain(&error)),
        }
        match client.create_network(request(&name, network, ours)).await {
            Ok(_) => Ok(()),
            // Two at once: the other one made it.
            Err(DockerError::DockerResponseServerError { status_code: 409, .. }) => Ok(()),
            Err(error) => Err(chain(&error)),
        }
    }

    /// The addresses of all networks of the engine, whoever made them, with their names.
    ///
    /// # Errors
    /// The engine does not answer; in words.
    pub async fn subnets(&self) -> Result<Vec<(String, Ipv4Addr, u8)>, String> {
        let client = self.client().await.map_err(|error| chain(&error))?;
        let found = client.list_networks(None).await.map_err(|error| chain(&error))?;
        let subnets = found.into_iter().flat_map(|network| {
            let name = network.name.unwrap_or_default();
            let all = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
            all.into_iter().filter_map(move |config| {
                let subnet = config.subnet?;
                let (base, length) = subnet.split_once('/')?;
                Some((name.clone(), base.parse().ok()?, length.parse().ok()?))
            })
        });
        Ok(subnets.collect())
    }

    /// Our networks by the engine's name, each with its bridge.
    ///
    /// # Errors
    /// The engine does not answer; in words.
    pub async fn networks(&self, ours: Ours) -> Result<Vec<(String, String)>, String> {
        let client = self.client().await.map_err(|error| chain(&error))?;
        let options = ListNetworksOptionsBuilder::new().filters(&ours.filters()).build();
        let found = client.list_networks(Some(options)).await.map_err(|error| chain(&error))?;
        let named = found.into_iter().filter_map(|network| {
            let bridge = network.options?.get(BRIDGE)?.clone();
            Some((network.name?, bridge))
        });
        Ok(named.collect())
    }

    /// Removes a network; false when containers still use it.
    pub async fn remove_network(&self, name: &str) -> bool {
        let Ok(client) = self.client().await else { return false };
        match client.remove_network(name).await {
            Ok(()) | Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => true,
            Err(error) => {
                tracing::debug!(name, error = %chain(&error), "a network is still in use");
                false
            }
        }
    }

    /// Puts a container that was just made into further networks: older engines take only one at the creation.
    pub(super) async fn connect(
        &self,
        container: &str,
        networks: &[NetworkRoute],
    ) -> Result<(), DockerError> {
        let client = self.client().await?;
        for network in networks {
            let request = NetworkConnectRequest {
                container: container.to_owned(),
                endpoint_config: Some(EndpointSettings::default()),
            };
            client.connect_network(&engine_name(network), request).await?;
        }
        Ok(())
    }
}

fn request(name: &str, network: &NetworkRoute, ours: Ours) -> NetworkCreateRequest {
    NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".to_owned()),
        ipam: Some(Ipam {
            config: Some(vec![IpamConfig {
                subnet: Some(plan::whole(network)),
                ip_range: Some(plan::own(network)),
                gateway: Some(network.gateway().to_string()),
                // Legal in a /16, but people and programs stumble over it.
                auxiliary_addresses: Some(HashMap::from([(
                    "net".to_owned(),
                    plan::first(network).to_string(),
                )])),
            }]),
            ..Ipam::default()
        }),
        options: Some(HashMap::from([(BRIDGE.to_owned(), bridge_name(network))])),
        labels: Some(labels(ours)),
        ..NetworkCreateRequest::default()
    }
}

fn labels(ours: Ours) -> HashMap<String, String> {
    HashMap::from([(CLUSTER.to_owned(), ours.cluster.to_string()), (NODE.to_owned(), ours.node.to_string())])
}

fn is_right(found: &NetworkInspect, network: &NetworkRoute, ours: Ours) -> bool {
    let labelled = found
        .labels
        .as_ref()
        .is_some_and(|own| labels(ours).iter().all(|(key, value)| own.get(key) == Some(value)));
    let bridge = found.options.as_ref().and_then(|options| options.get(BRIDGE));
    labelled && bridge == Some(&bridge_name(network))
}
