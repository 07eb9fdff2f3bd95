//! A container as the engine describes it, as a [`ContainerView`].

use std::{collections::HashMap, net::Ipv4Addr, time::Duration};

use agent_core::{
    engine::{ContainerStatus, ContainerView, MAX_CHECK_OUTPUT},
    labels::Labels,
};
use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status, EndpointSettings,
    HealthStatusEnum, PortMap,
};
use model::{
    container::Protocol,
    task::{BoundPort, Exit, Health},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Translates; `None` when it does not carry our labels.
pub(super) fn view(inspected: ContainerInspectResponse, now: OffsetDateTime) -> Option<ContainerView> {
    let labels = labels(inspected.config?.labels.as_ref()?)?;
    let settings = inspected.network_settings.unwrap_or_default();
    let ports = settings.ports.unwrap_or_default();
    Some(ContainerView {
        id: inspected.id?,
        labels,
        status: status(inspected.state.unwrap_or_default(), now),
        image: inspected.image.unwrap_or_default(),
        ports: bound(&ports),
        addresses: addresses(settings.networks.unwrap_or_default()),
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
            check: state.health.as_ref().map(failed_check).unwrap_or_default(),
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

/// What the newest check said, where the container is unhealthy.
fn failed_check(state: &bollard::models::Health) -> String {
    let newest = state.log.as_ref().and_then(|log| log.last());
    match newest.filter(|_| state.status == Some(HealthStatusEnum::UNHEALTHY)) {
        Some(result) => line(result.output.as_deref().unwrap_or_default())
            .unwrap_or_else(|| format!("the check ended with code {}", result.exit_code.unwrap_or_default())),
        None => String::new(),
    }
}

/// The last line that says something, without control characters; of a long one the end, where causes are named.
pub(super) fn line(output: &str) -> Option<String> {
    let last = output.lines().rev().find(|line| !line.trim().is_empty())?;
    let mut clean: String = last.trim().chars().filter(|c| !c.is_control()).collect();
    if clean.len() > MAX_CHECK_OUTPUT {
        let from = clean.ceil_char_boundary(clean.len() - MAX_CHECK_OUTPUT + '…'.len_utf8());
        clean.replace_range(..from, "…");
    }
    Some(clean)
}

/// The engine writes year 1 for "never".
fn moment(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok().filter(|moment| moment.year() > 1)
}

/// The span between two readings of a wall clock; zero when it was set back between them.
fn between(earlier: OffsetDateTime, later: OffsetDateTime) -> Duration {
    (later - earlier).try_into().unwrap_or_default()
}

/// By the engine's names of the networks, sorted; a container that does not run has none.
fn addresses(networks: HashMap<String, EndpointSettings>) -> Vec<(String, Ipv4Addr)> {
    let known =
        |(name, settings): (String, EndpointSettings)| Some((name, settings.ip_address?.parse().ok()?));
    let mut addresses: Vec<_> = networks.into_iter().filter_map(known).collect();
    addresses.sort();
    addresses
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_check_is_told_by_its_last_line_and_never_by_a_page() {
        assert_eq!(line("trying\n  no such file\u{7}\n\n").as_deref(), Some("no such file"));
        assert_eq!(line(" \n"), None);
        let long = format!("{}: the cause", "ä".repeat(1_000));
        let told = line(&long).unwrap();
        assert!(
            told.len() <= MAX_CHECK_OUTPUT && told.starts_with('…') && told.ends_with("the cause"),
            "{told}"
        );
    }
}
