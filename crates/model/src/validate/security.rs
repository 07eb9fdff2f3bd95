//! Power over a node: whether it means anything. Whether it may be had is for a policy to say.

use super::{Problems, text};
use crate::{
    container::ContainerSpec,
    policy::places::{clean, is_under},
    probe::Check,
    security::{CAPABILITIES, Device, Security, capability_name},
};

const MAX_DEVICES: usize = 64;

pub(super) fn security(problems: &mut Problems, path: &str, spec: &ContainerSpec) {
    let security = &spec.security;
    for (field, list) in [("cap_add", &security.cap_add), ("cap_drop", &security.cap_drop)] {
        let path = format!("{path}.{field}");
        problems.at_most(list.len(), CAPABILITIES.len(), &path, "capabilities");
        for (position, name) in list.iter().enumerate() {
            problems.judge(format!("{path}[{position}]"), capability(name));
        }
    }
    problems.at_most(security.devices.len(), MAX_DEVICES, format!("{path}.devices"), "devices");
    for (position, device) in security.devices.iter().enumerate() {
        device_problems(problems, &format!("{path}.devices[{position}]"), device);
    }
    if security.network_host {
        on_host(problems, &format!("{path}.network_host"), spec);
    }
}

/// The node's own network has no place for what a container's network is for.
fn on_host(problems: &mut Problems, path: &str, spec: &ContainerSpec) {
    problems.ensure(spec.networks.is_empty(), path, || {
        "a container on its node's network is in no other; leave out one of the two".into()
    });
    problems.ensure(spec.ports.is_empty(), path, || {
        "on its node's network it listens there itself; leave out the published ports".into()
    });
    let probes = [&spec.probes.startup, &spec.probes.readiness, &spec.probes.liveness];
    let asked = probes.into_iter().flatten().any(|probe| !matches!(probe.check, Check::Exec(_)));
    problems.ensure(!asked, path, || {
        "on its node's network it has no address of its own that a probe could ask; use an exec probe".into()
    });
}

pub(super) fn capability(name: &str) -> Result<(), String> {
    if CAPABILITIES.contains(&name) {
        return Ok(());
    }
    let right = capability_name(name);
    let hint =
        if CAPABILITIES.contains(&&*right) { format!("write {right}") } else { "see capabilities(7)".into() };
    Err(format!("{} is no capability; {hint}", text::quote(name)))
}

fn device_problems(problems: &mut Problems, path: &str, device: &Device) {
    let Device { host, container, permissions } = device;
    problems.judge(
        format!("{path}.host"),
        text::absolute_path(host).and_then(|()| {
            let clean = clean(host);
            let below = clean != "/dev" && is_under(&clean, "/dev");
            below.then_some(()).ok_or_else(|| format!("{} is not below /dev", text::quote(host)))
        }),
    );
    if !container.is_empty() {
        problems.judge(format!("{path}.container"), text::absolute_path(container));
    }
    let mut seen = Vec::new();
    let right = permissions.chars().all(|letter| {
        let new = !seen.contains(&letter);
        seen.push(letter);
        new && "rwm".contains(letter)
    });
    problems.ensure(right, format!("{path}.permissions"), || {
        format!("{}; write some of r, w and m, each once", text::quote(permissions))
    });
}

pub(super) fn security_bytes(security: &Security) -> usize {
    let names = security.cap_add.iter().chain(&security.cap_drop).map(String::len).sum::<usize>();
    let devices = security.devices.iter();
    names + devices.map(|one| one.host.len() + one.container.len() + one.permissions.len()).sum::<usize>()
}
