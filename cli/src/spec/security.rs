//! The flags of what a container may do to its node.

use model::{
    container::ContainerSpec,
    security::{Device, Security, capability_name},
    service::ServiceSpec,
};

use super::problems::Problems;
use crate::args::{NamespaceArg, SecurityFlags};

/// The network of this name is the node's own, as Docker has it.
const HOST: &str = "host";

/// Writes what the flags say into a declaration; what they do not say stays.
pub fn apply(flags: &SecurityFlags, spec: &mut ServiceSpec, problems: &mut Problems) {
    let security = &mut spec.template.container.security;
    security.privileged = flags.privileged.unwrap_or(security.privileged);
    for name in flags.cap_add.iter().map(|name| capability_name(name)) {
        move_to(name, &mut security.cap_drop, &mut security.cap_add);
    }
    for name in flags.cap_drop.iter().map(|name| capability_name(name)) {
        move_to(name, &mut security.cap_add, &mut security.cap_drop);
    }
    for path in &flags.device_rm {
        security.devices.retain(|device| device.host != *path);
    }
    for added in problems.all("--device", &flags.device, device) {
        security.devices.retain(|device| device.host != added.host);
        security.devices.push(added);
    }
    let is_host = |arg: NamespaceArg| arg == NamespaceArg::Host;
    security.pid_host = flags.pid.map_or(security.pid_host, is_host);
    security.ipc_host = flags.ipc.map_or(security.ipc_host, is_host);
    for text in &flags.security_opt {
        if let Err(message) = option(security, text) {
            problems.add("--security-opt", message);
        }
    }
    spec.connections = flags.connections.unwrap_or(spec.connections);
}

/// `--network host` is no network of the cluster.
pub fn take_host_network(container: &mut ContainerSpec) {
    let before = container.networks.len();
    container.networks.retain(|network| network != HOST);
    container.security.network_host |= container.networks.len() < before;
}

/// `--network-rm host`; whether that was it.
pub fn leave_host_network(container: &mut ContainerSpec, network: &str) -> bool {
    network == HOST && std::mem::take(&mut container.security.network_host)
}

fn move_to(name: String, from: &mut Vec<String>, to: &mut Vec<String>) {
    from.retain(|other| *other != name);
    if !to.contains(&name) {
        to.push(name);
    }
}

/// Reads `/dev/x`, `/dev/x:/dev/y`, `/dev/x:r` or `/dev/x:/dev/y:rw`.
fn device(text: &str) -> Result<Device, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, permissions) = match parts[..] {
        [host] => (host, "", ""),
        [host, second] if second.starts_with('/') => (host, second, ""),
        [host, permissions] => (host, "", permissions),
        [host, container, permissions] => (host, container, permissions),
        _ => return Err(format!("\"{text}\" is no device; write /dev/NAME[:/dev/NAME][:rwm]")),
    };
    Ok(Device { host: host.into(), container: container.into(), permissions: permissions.into() })
}

fn option(security: &mut Security, text: &str) -> Result<(), String> {
    let (name, value) = text.split_once(['=', ':']).unwrap_or((text, "true"));
    let (field, value) = match (name, value) {
        ("seccomp", "unconfined") => (&mut security.seccomp_unconfined, true),
        ("seccomp", "default" | "builtin") => (&mut security.seccomp_unconfined, false),
        ("apparmor", "unconfined") => (&mut security.apparmor_unconfined, true),
        ("apparmor", "default" | "docker-default") => (&mut security.apparmor_unconfined, false),
        ("no-new-privileges", "true") => (&mut security.new_privileges, false),
        ("no-new-privileges", "false") => (&mut security.new_privileges, true),
        _ => {
            return Err(format!(
                "\"{text}\" is not known; write seccomp=unconfined, apparmor=unconfined or no-new-privileges=false, or default and true in \
                 their place"
            ));
        }
    };
    *field = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_as_docker_reads_them_and_an_update_takes_back_what_was_said() {
        let mut spec = ServiceSpec::default();
        let read = |flags: &SecurityFlags, spec: &mut ServiceSpec| {
            let mut problems = Problems::default();
            apply(flags, spec, &mut problems);
            problems.finish(())
        };
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let flags = SecurityFlags {
            privileged: Some(true),
            cap_add: words(&["cap_net_admin", "SYS_TIME"]),
            device: words(&["/dev/ttyUSB0:/dev/ups:rw", "/dev/kvm"]),
            security_opt: words(&["seccomp=unconfined", "no-new-privileges:false"]),
            connections: Some(20),
            ..SecurityFlags::default()
        };
        read(&flags, &mut spec).expect("right flags");
        let security = &spec.template.container.security;
        assert!(security.privileged && security.seccomp_unconfined && security.new_privileges);
        assert_eq!(security.cap_add, ["NET_ADMIN", "SYS_TIME"]);
        assert_eq!((security.devices[0].target(), security.devices[0].permissions()), ("/dev/ups", "rw"));
        assert_eq!((security.devices[1].target(), security.devices[1].permissions()), ("/dev/kvm", "rwm"));
        assert_eq!(spec.connections, 20);
        let flags = SecurityFlags {
            cap_drop: words(&["NET_ADMIN"]),
            device_rm: words(&["/dev/kvm"]),
            security_opt: words(&["seccomp=default"]),
            ..SecurityFlags::default()
        };
        read(&flags, &mut spec).expect("right flags");
        let security = &spec.template.container.security;
        assert_eq!(
            (&security.cap_add[..], &security.cap_drop[..]),
            (&["SYS_TIME".into()][..], &["NET_ADMIN".into()][..])
        );
        assert!(!security.seccomp_unconfined && security.devices.len() == 1);
        let wrong = SecurityFlags { security_opt: words(&["label=disable"]), ..SecurityFlags::default() };
        assert!(read(&wrong, &mut spec).is_err());
    }
}
