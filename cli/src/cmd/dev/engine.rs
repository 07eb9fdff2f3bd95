//! The local Docker Engine: only to see that it is there, and to remove what the cluster left behind.

use std::collections::HashMap;

use bollard::{
    Docker,
    query_parameters::{
        ListContainersOptionsBuilder, ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder,
        RemoveVolumeOptionsBuilder,
    },
};

use crate::exit::Failure;

/// Every container and volume of a cluster carries this label with the cluster's id.
const LABEL: &str = "orch.cluster";

/// What was removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Containers.
    pub containers: usize,
    /// Volumes.
    pub volumes: usize,
}

/// Finds out whether there is an engine, before anything is made that would need it.
///
/// # Errors
/// There is none, or it does not answer.
pub async fn check() -> Result<(), Failure> {
    connect().await.map(drop).map_err(|error| {
        Failure::error(format!(
            "the Docker Engine of this machine cannot be reached: {error}\n\
             is it installed and started (on Debian: apt install docker.io), and may you use it?"
        ))
    })
}

/// Where the engine is, when the user's environment says that it is not in the usual place.
pub fn address() -> Option<String> {
    let host = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty())?;
    // Docker's name for plain HTTP.
    Some(host.strip_prefix("tcp://").map_or(host.clone(), |rest| format!("http://{rest}")))
}

async fn connect() -> Result<Docker, bollard::errors::Error> {
    Docker::connect_with_defaults()?.negotiate_version().await
}

/// Removes the containers and volumes of one cluster.
///
/// # Errors
/// The engine cannot be reached or refuses; what was removed until then is removed.
pub async fn clean(cluster: &str) -> Result<Removed, Failure> {
    let failed = |error: bollard::errors::Error| {
        Failure::error(format!("the containers of the cluster could not be removed: {error}"))
    };
    let docker =
        Docker::connect_with_defaults().map_err(failed)?.negotiate_version().await.map_err(failed)?;
    let filters = HashMap::from([("label".to_owned(), vec![format!("{LABEL}={cluster}")])]);
    let mut removed = Removed::default();
    let all = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    for container in docker.list_containers(Some(all)).await.map_err(failed)? {
        let Some(id) = container.id else { continue };
        let force = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        docker.remove_container(&id, Some(force)).await.map_err(failed)?;
        removed.containers += 1;
    }
    let volumes = ListVolumesOptionsBuilder::default().filters(&filters).build();
    for volume in docker.list_volumes(Some(volumes)).await.map_err(failed)?.volumes.unwrap_or_default() {
        let force = RemoveVolumeOptionsBuilder::default().force(true).build();
        docker.remove_volume(&volume.name, Some(force)).await.map_err(failed)?;
        removed.volumes += 1;
    }
    Ok(removed)
}
