//! A container's declaration in the engine's terms, with what is always set: no new privileges (unless granted), a limit of processes,
//! capped logs, and no restarts by the engine itself, since the agent decides those.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    time::Duration,
};

use agent_core::{
    engine::ContainerRequest,
    labels::{CLUSTER, NODE},
};
use bollard::models::{
    ContainerCreateBody, DeviceMapping, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig,
    Mount as DockerMount, MountTmpfsOptions, MountType, MountVolumeOptions, NetworkingConfig, PortBinding,
    PortMap, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use crate::network::plan::engine_name;
use model::{
    container::{Healthcheck, Mount, MountSource, PortSpec, Protocol},
    security::{Device, Security},
};

/// Processes and threads where the spec says nothing: plenty for a Java server, an end to a fork bomb.
const DEFAULT_PIDS: i64 = 4_096;
/// The engine's word for the node's own namespace.
const HOST: &str = "host";

/// Translates. `files`: its secrets and configs. `cpu_millis`: what the machine has; the engine refuses limits beyond it, which would bind nobody.
pub(super) fn body(
    request: &ContainerRequest,
    files: Vec<DockerMount>,
    cpu_millis: u64,
) -> ContainerCreateBody {
    let spec = &request.spec;
    ContainerCreateBody {
        image: Some(request.image.clone()),
        hostname: request.hostname.clone(),
        env: Some(request.env.iter().map(|(key, value)| format!("{key}={value}")).collect()),
        labels: Some(request.labels.clone().into_iter().collect()),
        entrypoint: some(&spec.command),
        cmd: some(&spec.args),
        user: spec.user.clone(),
        working_dir: spec.workdir.clone(),
        exposed_ports: some(&spec.ports.iter().map(port_key).collect::<Vec<_>>()),
        healthcheck: spec.healthcheck.as_ref().map(health),
        stop_signal: spec.stop_signal.clone(),
        stop_timeout: Some(whole_seconds(spec.stop_grace())),
        host_config: Some(host(request, files, cpu_millis)),
        networking_config: request.networks.first().map(|network| NetworkingConfig {
            endpoints_config: Some(HashMap::from([(engine_name(network), EndpointSettings::default())])),
        }),
        ..Default::default()
    }
}

/// Rounded up: half a second must not become a kill at once.
pub(super) fn whole_seconds(grace: Duration) -> i64 {
    i64::try_from(grace.as_millis().div_ceil(1_000)).unwrap_or(i64::MAX)
}

fn host(request: &ContainerRequest, files: Vec<DockerMount>, cpu_millis: u64) -> HostConfig {
    let mounts = request.spec.mounts.iter().map(|m| mount(m, &request.labels));
    let mounts: Vec<_> = mounts.chain(files).collect();
    let spec = &request.spec;
    let resources = &spec.resources;
    let security = &spec.security;
    let memory = limit(resources.memory_limit);
    let pids = i64::from(resources.pids_limit);
    HostConfig {
        memory,
        // The same number: no swap beside it, so the limit is the limit.
        memory_swap: memory,
        nano_cpus: limit(nano_cpus(resources.cpu_limit_millis, cpu_millis)),
        pids_limit: Some(if pids == 0 { DEFAULT_PIDS } else { pids }),
        ulimits: some(&spec.ulimits.iter().map(ulimit).collect::<Vec<_>>()),
        init: Some(spec.init),
        readonly_rootfs: Some(spec.read_only),
        mounts: some(&mounts),
        port_bindings: Some(port_bindings(&spec.ports)),
        network_mode: network_mode(request),
        dns: some(&request.networks.iter().map(|network| network.gateway().to_string()).collect::<Vec<_>>()),
        privileged: Some(security.privileged),
        cap_add: some(&security.cap_add),
        cap_drop: some(&security.cap_drop),
        devices: some(&security.devices.iter().map(device).collect::<Vec<_>>()),
        pid_mode: security.pid_host.then(|| HOST.to_owned()),
        ipc_mode: security.ipc_host.then(|| HOST.to_owned()),
        security_opt: Some(security_opt(security)),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), ..Default::default() }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), spec.log.max_size.to_string()),
                ("max-file".to_owned(), spec.log.max_files.max(1).to_string()),
            ])),
        }),
        ..Default::default()
    }
}

fn network_mode(request: &ContainerRequest) -> Option<String> {
    if request.spec.security.network_host {
        return Some(HOST.to_owned());
    }
    request.networks.first().map(engine_name)
}

/// The engine's profiles of seccomp and AppArmor are what it takes when nothing is said.
fn security_opt(security: &Security) -> Vec<String> {
    let options = [
        (!security.new_privileges, "no-new-privileges"),
        (security.seccomp_unconfined, "seccomp=unconfined"),
        (security.apparmor_unconfined, "apparmor=unconfined"),
    ];
    options.into_iter().filter(|(set, _)| *set).map(|(_, option)| option.to_owned()).collect()
}

fn device(device: &Device) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(device.host.clone()),
        path_in_container: Some(device.target().to_owned()),
        cgroup_permissions: Some(device.permissions().to_owned()),
    }
}

/// Whether the engine says that it does without a bound that every container has.
pub(super) fn is_security(warning: &str) -> bool {
    warning.to_ascii_lowercase().contains("pids limit")
}

fn nano_cpus(limit_millis: u64, machine_millis: u64) -> u64 {
    let most = if machine_millis == 0 { u64::MAX } else { machine_millis };
    limit_millis.min(most).saturating_mul(1_000_000)
}

fn limit(value: u64) -> Option<i64> {
    (value > 0).then(|| i64::try_from(value).unwrap_or(i64::MAX))
}

/// Empty means the image's own.
fn some<T: Clone>(items: &[T]) -> Option<Vec<T>> {
    (!items.is_empty()).then(|| items.to_vec())
}

fn ulimit(ulimit: &model::container::Ulimit) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(ulimit.name.clone()), soft: Some(ulimit.soft), hard: Some(ulimit.hard) }
}

/// Who made a volume is on it, so that whoever removes the cluster finds it. The engine heeds that only when it makes the
/// volume: one that was there before stays whose it was.
fn made_by(labels: &BTreeMap<String, String>) -> MountVolumeOptions {
    let ours = labels.iter().filter(|(key, _)| [CLUSTER, NODE].contains(&key.as_str()));
    MountVolumeOptions {
        labels: Some(ours.map(|(key, value)| (key.clone(), value.clone())).collect()),
        ..Default::default()
    }
}

fn mount(mount: &Mount, labels: &BTreeMap<String, String>) -> DockerMount {
    let common = DockerMount {
        target: Some(mount.target.clone()),
        read_only: Some(mount.read_only),
        ..Default::default()
    };
    match &mount.source {
        // A bind of this kind, unlike `-v`, fails when its source does not exist, instead of making an empty one.
        MountSource::Bind(path) => {
            DockerMount { typ: Some(MountType::BIND), source: Some(path.clone()), ..common }
        }
        MountSource::Volume(name) => DockerMount {
            typ: Some(MountType::VOLUME),
            source: Some(name.clone()),
            volume_options: Some(made_by(labels)),
            ..common
        },
        MountSource::Tmpfs { size, mode } => DockerMount {
            typ: Some(MountType::TMPFS),
            tmpfs_options: Some(MountTmpfsOptions {
                size_bytes: limit(*size),
                mode: (*mode > 0).then(|| i64::from(*mode)),
                ..Default::default()
            }),
            ..common
        },
    }
}

/// A secret or config, which the container only reads.
pub(super) fn file(source: &Path, target: String) -> DockerMount {
    DockerMount {
        typ: Some(MountType::BIND),
        source: Some(source.to_string_lossy().into_owned()),
        target: Some(target),
        read_only: Some(true),
        ..Default::default()
    }
}

fn port_key(port: &PortSpec) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    format!("{}/{protocol}", port.target)
}

fn port_bindings(ports: &[PortSpec]) -> PortMap {
    let mut bindings = PortMap::new();
    for port in ports {
        let host_port = (port.published > 0).then(|| port.published.to_string());
        let binding = PortBinding { host_ip: None, host_port: Some(host_port.unwrap_or_default()) };
        bindings.entry(port_key(port)).or_default().get_or_insert_default().push(binding);
    }
    bindings
}

fn health(check: &Healthcheck) -> HealthConfig {
    let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    HealthConfig {
        test: Some(check.test.clone()),
        interval: Some(nanos(check.interval)),
        timeout: Some(nanos(check.timeout)),
        start_period: Some(nanos(check.start_period)),
        retries: Some(i64::from(check.retries)),
        start_interval: None,
    }
}
