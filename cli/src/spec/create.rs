//! `service create`: a declaration from flags, or from a file with flags on top.

use model::service::{Mode, ServiceSpec};

use super::{constraint, env_file, env_pair, file, flags, problems::Problems, security, spread};
use crate::{
    args::{Create, CreateLists, ModeArg},
    exit::Failure,
    value::{self, Published},
};

/// The declaration that a command line describes, valid.
///
/// # Errors
/// Everything that is wrong with the flags, the file, or the whole.
pub fn spec(create: &Create) -> Result<ServiceSpec, Failure> {
    let (spec, problems) = draft(create, ServiceSpec::default())?;
    problems.finish_spec(spec)
}

/// The same before it is looked at as a whole; `base` is what flags apply on top of without a file.
///
/// # Errors
/// The file cannot be read.
pub fn draft(create: &Create, base: ServiceSpec) -> Result<(ServiceSpec, Problems), Failure> {
    let mut spec = match &create.file {
        Some(path) => file::load(path)?.spec,
        None => base,
    };
    let mut problems = Problems::default();
    if let Some(name) = &create.name {
        spec.name.clone_from(name);
    }
    if spec.name.is_empty() {
        problems.add("--name", "a service needs a name");
    }
    if let Some(image) = &create.image {
        spec.template.container.image.clone_from(image);
    }
    if spec.template.container.image.is_empty() {
        problems.add("IMAGE", "a service needs an image");
    }
    if !create.args.is_empty() {
        spec.template.container.args.clone_from(&create.args);
    }
    match (create.mode, spec.mode) {
        (Some(ModeArg::Global), _) => spec.mode = Mode::Global,
        (Some(ModeArg::Replicated), Mode::Global) => spec.mode = Mode::default(),
        _ => {}
    }
    lists(&create.lists, &mut spec, &mut problems);
    flags::apply(&create.flags, &mut spec, &mut problems);
    Ok((spec, problems))
}

fn lists(lists: &CreateLists, spec: &mut ServiceSpec, problems: &mut Problems) {
    let container = &mut spec.template.container;
    for path in &lists.env_file {
        container.env.extend(env_file(path, problems));
    }
    container.env.extend(problems.all("--env", &lists.env, env_pair));
    spec.labels.extend(problems.all("--label", &lists.label, value::pair));
    container.labels.extend(problems.all("--container-label", &lists.container_label, value::pair));
    container.mounts.extend(problems.all("--mount", &lists.mount, value::mount));
    container.mounts.extend(problems.all("--tmpfs", &lists.tmpfs, value::tmpfs));
    container.secrets.extend(problems.all("--secret", &lists.secret, value::file));
    container.configs.extend(problems.all("--config", &lists.config, value::file));
    container.networks.extend(lists.network.iter().cloned());
    security::take_host_network(container);
    for port in problems.all("--publish", &lists.publish, value::port) {
        match port {
            Published::Host(port) => container.ports.push(port),
            Published::Ingress(port) => spec.ports.push(port),
        }
    }
    container.ulimits.extend(problems.all("--ulimit", &lists.ulimit, value::ulimit));
    let placement = &mut spec.template.placement;
    placement.constraints.extend(problems.all("--constraint", &lists.constraint, constraint));
    placement.spread.extend(problems.all("--placement-pref", &lists.placement_pref, spread));
}
