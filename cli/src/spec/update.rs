//! `service update`: a declaration changed by flags, or replaced by a file with flags on top.

use std::collections::BTreeMap;

use model::{
    container::{ContainerSpec, Protocol},
    item::FileMount,
    placement::Placement,
    service::ServiceSpec,
};

use super::{constraint, env_pair, file, flags, problems::Problems, security, spread};
use crate::{
    args::{Update, UpdateLists},
    exit::Failure,
    value::{self, Published},
};

/// The changed declaration, valid, and warnings about removals that found nothing.
///
/// # Errors
/// Everything that is wrong with the flags, the file, or the whole.
pub fn spec(update: &Update, current: &ServiceSpec) -> Result<(ServiceSpec, Vec<String>), Failure> {
    let mut change = Change { problems: Problems::default(), warnings: Vec::new() };
    let mut spec = match &update.file {
        Some(path) => from_file(file::load(path)?, current, &mut change.problems),
        None => current.clone(),
    };
    let container = &mut spec.template.container;
    if let Some(image) = &update.image {
        container.image.clone_from(image);
    }
    if let Some(text) = &update.args
        && let Some(words) = change.problems.take("--args", value::words(text))
    {
        container.args = words;
    }
    change.container(&update.lists, container);
    change.ports(&update.lists, &mut spec);
    change.map("--label", &mut spec.labels, &update.lists.label_rm, &update.lists.label_add, value::pair);
    change.placement(&update.lists, &mut spec.template.placement);
    flags::apply(&update.flags, &mut spec, &mut change.problems);
    if update.force {
        spec.template.force = current.template.force + 1;
    }
    if spec.template.container.image.is_empty() {
        change.problems.add("--image", "a service needs an image");
    }
    Ok((change.problems.finish_spec(spec)?, change.warnings))
}

/// A file says everything, except for the counter of forced updates when it does not mention it: leaving that at zero
/// would replace every replica of a service that was once forced.
fn from_file(loaded: file::Loaded, current: &ServiceSpec, problems: &mut Problems) -> ServiceSpec {
    let mut spec = loaded.spec;
    if spec.name.is_empty() {
        spec.name.clone_from(&current.name);
    } else if spec.name != current.name {
        problems
            .add("name", format!("the file is for \"{}\", the service is \"{}\"", spec.name, current.name));
    }
    if !loaded.says_force {
        spec.template.force = current.template.force;
    }
    spec
}

/// A change in the making.
struct Change {
    problems: Problems,
    warnings: Vec<String>,
}

impl Change {
    fn container(&mut self, lists: &UpdateLists, container: &mut ContainerSpec) {
        self.map("--env", &mut container.env, &lists.env_rm, &lists.env_add, env_pair);
        let (remove, add) = (&lists.container_label_rm, &lists.container_label_add);
        self.map("--container-label", &mut container.labels, remove, add, value::pair);

        self.remove("--mount-rm", &mut container.mounts, &lists.mount_rm, |mount, text| mount.target == text);
        for mount in self.problems.all("--mount-add", &lists.mount_add, value::mount) {
            put(&mut container.mounts, mount, |a, b| a.target == b.target);
        }
        self.files("secret", &mut container.secrets, &lists.secret_rm, &lists.secret_add);
        self.files("config", &mut container.configs, &lists.config_rm, &lists.config_add);
        let left = |text: &&String| !security::leave_host_network(container, text);
        let rest: Vec<String> = lists.network_rm.iter().filter(left).cloned().collect();
        self.remove("--network-rm", &mut container.networks, &rest, |network, text| network == text);
        for network in &lists.network_add {
            put(&mut container.networks, network.clone(), |a, b| a == b);
        }
        security::take_host_network(container);
        self.remove("--ulimit-rm", &mut container.ulimits, &lists.ulimit_rm, |limit, text| {
            limit.name == text
        });
        for limit in self.problems.all("--ulimit-add", &lists.ulimit_add, value::ulimit) {
            put(&mut container.ulimits, limit, |a, b| a.name == b.name);
        }
    }

    /// One that is mounted already keeps its version: only a new value brings another.
    fn files(&mut self, kind: &str, files: &mut Vec<FileMount>, remove: &[String], add: &[String]) {
        self.remove(&format!("--{kind}-rm"), files, remove, |mount, text| mount.name == text);
        for mut mount in self.problems.all(&format!("--{kind}-add"), add, value::file) {
            let known = files.iter().find(|known| known.name == mount.name);
            mount.version = known.and_then(|known| known.version);
            put(files, mount, |a, b| a.name == b.name);
        }
    }

    /// Published ports of both kinds, told apart by their target: one that is added takes the place of the one before it.
    fn ports(&mut self, lists: &UpdateLists, spec: &mut ServiceSpec) {
        let own = &mut spec.template.container.ports;
        for text in &lists.publish_rm {
            let before = own.len() + spec.ports.len();
            own.retain(|port| !is_port(port.target, port.protocol, text));
            spec.ports.retain(|port| !is_port(port.target, Protocol::Tcp, text));
            if own.len() + spec.ports.len() == before {
                self.found_nothing("--publish-rm", text);
            }
        }
        for port in self.problems.all("--publish-add", &lists.publish_add, value::port) {
            match port {
                Published::Host(port) => {
                    spec.ports.retain(|other| (other.target, Protocol::Tcp) != (port.target, port.protocol));
                    put(own, port, |a, b| (a.target, a.protocol) == (b.target, b.protocol));
                }
                Published::Ingress(port) => {
                    own.retain(|other| (other.target, other.protocol) != (port.target, Protocol::Tcp));
                    put(&mut spec.ports, port, |a, b| {
                        a.target == b.target && a.http.is_some() == b.http.is_some()
                    });
                }
            }
        }
    }

    fn placement(&mut self, lists: &UpdateLists, placement: &mut Placement) {
        self.remove("--constraint-rm", &mut placement.constraints, &lists.constraint_rm, |have, text| {
            constraint(text).is_ok_and(|wanted| wanted == *have)
        });
        for added in self.problems.all("--constraint-add", &lists.constraint_add, constraint) {
            put(&mut placement.constraints, added, |a, b| a == b);
        }
        self.remove("--placement-pref-rm", &mut placement.spread, &lists.placement_pref_rm, |have, text| {
            spread(text).is_ok_and(|wanted| wanted == *have)
        });
        for added in self.problems.all("--placement-pref-add", &lists.placement_pref_add, spread) {
            put(&mut placement.spread, added, |a, b| a == b);
        }
    }

    fn map(
        &mut self,
        flag: &str,
        map: &mut BTreeMap<String, String>,
        remove: &[String],
        add: &[String],
        read: fn(&str) -> Result<(String, String), String>,
    ) {
        for key in remove {
            if map.remove(key).is_none() {
                self.found_nothing(&format!("{flag}-rm"), key);
            }
        }
        map.extend(self.problems.all(&format!("{flag}-add"), add, read));
    }

    fn remove<T>(&mut self, flag: &str, list: &mut Vec<T>, texts: &[String], is: impl Fn(&T, &str) -> bool) {
        for text in texts {
            let before = list.len();
            list.retain(|item| !is(item, text));
            if list.len() == before {
                self.found_nothing(flag, text);
            }
        }
    }

    fn found_nothing(&mut self, flag: &str, what: &str) {
        self.warnings.push(format!("{flag} {what}: there is no such thing; nothing to remove"));
    }
}

fn is_port(target: u16, protocol: Protocol, text: &str) -> bool {
    match text.split_once('/') {
        Some((number, name)) => number.parse() == Ok(target) && name == protocol_name(protocol),
        None => text.parse() == Ok(target),
    }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

fn put<T>(list: &mut Vec<T>, item: T, same: impl Fn(&T, &T) -> bool) {
    match list.iter_mut().find(|other| same(other, &item)) {
        Some(other) => *other = item,
        None => list.push(item),
    }
}
