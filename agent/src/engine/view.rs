//! A container as the engine describes it, as a [`ContainerView`].

use std::{collections::HashMap, time::Duration};

use agent_core::{
    engine::{ContainerStatus, ContainerView},
    labels::Labels,
};
use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status, HealthStatusEnum, PortMap,
};
use model::{
    container::Protocol,
    task::{BoundPort, Exit, Health},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Translates; `None` when it does not carry our labels.
pub(super) fn view(inspected: ContainerInspectResponse, now: OffsetDateTime) -> Option<ContainerView> {
    let labels = labels(inspected.config?.labels.as_ref()?)?;
    let ports = inspected.network_settings.and_then(|settings| settings.ports).unwrap_or_default();
    Some(ContainerView {
        id: inspected.id?,
        labels,
        status: status(inspected.state.unwrap_or_default(), now),
        image: inspected.image.unwrap_or_default(),
        ports: bound(&ports),
    })
}

pub(super) fn labels(labels: &HashMap<String, String>) -> Option<Labels> {
    Labels::parse(|key| labels.get(key).map(String::as_str))
}

fn status(state: ContainerState, now: OffsetDateTime) -> ContainerStatus {
    let started = state.started_at.as_deref().and_then(moment);
    let finished = state.finished_at.as_deref().and_then(moment);
    match state.status.unwrap_or(Status::EMPTY) {
        Status::RUNNING | Status::PAUSED | Status::RESTARTING => ContainerStatus::Running {
            health: health(state.health.and_then(|health| health.status)),
            running_for: started.map_or(Duration::ZERO, |started| between(started, now)),
        },
        Status::CREATED => ContainerStatus::Created,
        Status::EXITED | Status::DEAD | Status::REMOVING | Status::STOPPING | Status::EMPTY => {
            ContainerStatus::Ended {
                exit: Exit {
                    code: state.exit_code.unwrap_or_default(),
                    oom: state.oom_killed.unwrap_or_default(),
                    message: String::new(),
                },
                ran: started
                    .zip(finished)
                    .map_or(Duration::ZERO, |(started, finished)| between(started, finished)),
            }
        }
    }
}

pub(super) fn health(status: Option<HealthStatusEnum>) -> Health {
    match status {
        None | Some(HealthStatusEnum::EMPTY | HealthStatusEnum::NONE) => Health::None,
        Some(HealthStatusEnum::STARTING) => Health::Starting,
        Some(HealthStatusEnum::HEALTHY) => Health::Healthy,
        Some(HealthStatusEnum::UNHEALTHY) => Health::Unhealthy,
    }
}

/// The engine writes year 1 for "never".
fn moment(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().filter(|moment| moment.year() > 1)
}

/// The span between two readings of a wall clock; zero when it was set back between them.
fn between(earlier: OffsetDateTime, later: OffsetDateTime) -> Duration {
    (later - earlier).try_into().unwrap_or_default()
}

/// The engine lists a port once per address family.
fn bound(ports: &PortMap) -> Vec<BoundPort> {
    let mut bound: Vec<BoundPort> = ports
        .iter()
        .flat_map(|(port, bindings)| bindings.iter().flatten().map(move |b| (port, b)))
        .filter_map(|(port, binding)| {
            let (target, protocol) = port.split_once('/')?;
            let protocol = if protocol == "udp" { Protocol::Udp } else { Protocol::Tcp };
            let published = binding.host_port.as_ref()?.parse().ok()?;
            Some(BoundPort { target: target.parse().ok()?, published, protocol })
        })
        .collect();
    bound.sort();
    bound.dedup();
    bound
}
