//! `service update`: a declaration changed by flags, or replaced by a file with flags on top.

use std::collections::BTreeMap;

use model::{
    container::{ContainerSpec, PortSpec},
    placement::Placement,
    service::ServiceSpec,
};

use super::{constraint, env_pair, file, flags, problems::Problems, spread};
use crate::{
    args::{Update, UpdateLists},
    exit::Failure,
    value,
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
        self.remove("--publish-rm", &mut container.ports, &lists.publish_rm, is_port);
        for port in self.problems.all("--publish-add", &lists.publish_add, value::port) {
            put(&mut container.ports, port, |a, b| (a.target, a.protocol) == (b.target, b.protocol));
        }
        self.remove("--ulimit-rm", &mut container.ulimits, &lists.ulimit_rm, |limit, text| {
            limit.name == text
        });
        for limit in self.problems.all("--ulimit-add", &lists.ulimit_add, value::ulimit) {
            put(&mut container.ulimits, limit, |a, b| a.name == b.name);
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

fn is_port(port: &PortSpec, text: &str) -> bool {
    match text.split_once('/') {
        Some(_) => value::port(text).is_ok_and(|p| (p.target, p.protocol) == (port.target, port.protocol)),
        None => text.parse() == Ok(port.target),
    }
}

fn put<T>(list: &mut Vec<T>, item: T, same: impl Fn(&T, &T) -> bool) {
    match list.iter_mut().find(|other| same(other, &item)) {
        Some(other) => *other = item,
        None => list.push(item),
    }
}
