//! Policies as TOML or JSON files, and from flags.

use std::path::Path;

use model::{policy::PolicySpec, security::capability_name, validate::validate_policy};
use serde_json::{Map, Value};

use super::{
    constraint,
    file::{find_unknown, prune, read_text, tree_of_text},
    problems::Problems,
};
use crate::{
    args::{GrantFlags, PolicySet},
    exit::Failure,
    value,
};

const SIZES: [&str; 2] = ["memory", "memory_total"];

/// Reads a policy; `-` is standard input.
///
/// # Errors
/// It cannot be read; or all unknown fields and wrong values, each with its path.
pub fn load(path: &Path) -> Result<PolicySpec, Failure> {
    let spec = read_text(path).and_then(|text| parse(&text)).map_err(|mut failure| {
        failure.message = format!("{}: {}", path.display(), failure.message);
        failure
    })?;
    valid(Problems::default(), spec)
}

/// Flags on top of what there is.
///
/// # Errors
/// Everything that is wrong.
pub fn apply(set: &PolicySet, mut spec: PolicySpec) -> Result<PolicySpec, Failure> {
    let mut problems = Problems::default();
    if let Some(name) = &set.name {
        spec.name.clone_from(name);
    }
    if let Some(contact) = &set.contact {
        spec.contact.clone_from(contact);
    }
    add(&mut spec.services.names, &set.service);
    spec.services.labels.extend(set.label.iter().cloned());
    add(&mut spec.services.except, &set.except);
    add(&mut spec.require.images, &set.image);
    spec.require.digest = set.digest.unwrap_or(spec.require.digest);
    add(&mut spec.require.signed_by, &set.require_signed_by);
    add(&mut spec.require.signed_by_identity, &set.require_signed_by_identity);
    add(&mut spec.require.constraints, &problems.all("--constraint", &set.constraint, constraint));
    add(&mut spec.forbid.binds, &set.forbid_bind);
    add(&mut spec.forbid.ports, &set.forbid_port);
    add(&mut spec.forbid.node_labels, &set.forbid_node_label);
    let caps = &mut spec.caps;
    caps.replicas = set.max_replicas.unwrap_or(caps.replicas);
    caps.memory = set.max_memory.unwrap_or(caps.memory);
    caps.memory_total = set.max_memory_total.unwrap_or(caps.memory_total);
    caps.connections = set.max_connections.unwrap_or(caps.connections);
    grant(&set.grants, &mut spec);
    valid(problems, spec)
}

fn grant(flags: &GrantFlags, spec: &mut PolicySpec) {
    let grants = &mut spec.grants;
    grants.privileged |= flags.grant_privileged;
    grants.network_host |= flags.grant_network_host;
    grants.pid_host |= flags.grant_pid_host;
    grants.ipc_host |= flags.grant_ipc_host;
    grants.seccomp_unconfined |= flags.grant_seccomp_unconfined;
    grants.apparmor_unconfined |= flags.grant_apparmor_unconfined;
    grants.new_privileges |= flags.grant_new_privileges;
    let names: Vec<String> = flags.grant_cap.iter().map(|name| capability_name(name)).collect();
    add(&mut grants.capabilities, &names);
    add(&mut grants.devices, &flags.grant_device);
    add(&mut grants.binds, &flags.grant_bind);
    add(&mut grants.ports, &flags.grant_port);
    add(&mut grants.node_labels, &flags.grant_node_label);
}

fn add<T: Clone + PartialEq>(list: &mut Vec<T>, more: &[T]) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

fn valid(mut problems: Problems, spec: PolicySpec) -> Result<PolicySpec, Failure> {
    for problem in validate_policy(&spec) {
        problems.add(&problem.path, problem.message);
    }
    problems.finish(spec)
}

fn parse(text: &str) -> Result<PolicySpec, Failure> {
    let mut tree = tree_of_text(text)?;
    let mut problems = Problems::default();
    if let Some(Value::Object(caps)) = tree.get_mut("caps") {
        read_sizes(caps, &mut problems);
    }
    each_alone(&tree, &mut problems);
    problems.finish(())?;
    serde_json::from_value(tree).map_err(|error| Failure::invalid(error.to_string()))
}

fn read_sizes(caps: &mut Map<String, Value>, problems: &mut Problems) {
    for field in SIZES {
        if let Some(Value::String(text)) = caps.get(field) {
            let bytes = problems.take(&format!("caps.{field}"), value::bytes(text)).unwrap_or_default();
            caps.insert(field.into(), bytes.into());
        }
    }
}

/// Reads every field in an otherwise empty policy: those of a wrong type, and those that no policy has, are problems.
fn each_alone(tree: &Value, problems: &mut Problems) {
    let Value::Object(sections) = tree else { return };
    for (section, value) in sections {
        let fields = value.as_object().map_or_else(Vec::new, |fields| fields.iter().collect());
        let alone = |value: Value| Value::Object(Map::from_iter([(section.clone(), value)]));
        let parts: Vec<(String, Value)> = if fields.is_empty() {
            vec![(section.clone(), alone(value.clone()))]
        } else {
            let part = |(field, value): (&String, &Value)| {
                (
                    format!("{section}.{field}"),
                    alone(Value::Object(Map::from_iter([(field.clone(), value.clone())]))),
                )
            };
            fields.into_iter().map(part).collect()
        };
        for (path, part) in parts {
            match serde_json::from_value::<PolicySpec>(part.clone()) {
                Err(error) => problems.add(&path, error.to_string()),
                Ok(spec) => find_unknown(&part, &plain(&spec), &mut String::new(), problems),
            }
        }
    }
}

fn plain(spec: &PolicySpec) -> Value {
    serde_json::to_value(spec).expect("a policy is plain data")
}

/// The policy as a TOML file: without what equals the default.
pub fn to_toml(spec: &PolicySpec) -> String {
    let mut tree = plain(spec);
    prune(&mut tree, &plain(&PolicySpec::default()));
    if let Some(Value::Object(caps)) = tree.get_mut("caps") {
        for field in SIZES {
            if let Some(size) = caps.get(field).and_then(Value::as_u64).filter(|size| *size >= 1024) {
                caps.insert(field.into(), value::bytes_text(size).into());
            }
        }
    }
    if let Value::Object(sections) = &mut tree {
        sections.retain(|_, section| section.as_object().is_none_or(|fields| !fields.is_empty()));
    }
    toml::to_string_pretty(&tree).expect("a tree without null is TOML")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
name = "team-mx"
contact = "mx-it@example.org"

[services]
names = ["ispyb", "mx-*"]

[require]
images = ["registry.example/mx/*"]
digest = true
constraints = ["node.labels.beamline==id23-1"]

[grants]
capabilities = ["NET_ADMIN"]
binds = ["/etc/grid-security:ro"]

[forbid]
ports = ["1-1023"]

[caps]
replicas = 10
memory = "4GiB"
"#;

    #[test]
    fn a_file_reads_back_as_it_was_written() {
        let spec = parse(FILE).expect("a policy");
        assert_eq!((spec.caps.memory, spec.forbid.ports[0].last), (4 << 30, 1023));
        assert_eq!(parse(&to_toml(&spec)).expect("what we wrote"), spec);
        assert!(validate_policy(&spec).is_empty());
    }

    #[test]
    fn every_wrong_field_is_told_with_its_path() {
        let failure = parse("name = 3\n[caps]\nreplica = 1\nmemory = \"much\"\n[forbid]\nports = [\"0\"]")
            .expect_err("wrong");
        let paths: Vec<&str> = failure.problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, ["caps.memory", "caps.replica", "forbid.ports", "name"]);
    }

    #[test]
    fn flags_add_to_what_there_is() {
        let before = parse(FILE).expect("a policy");
        let set = PolicySet {
            service: vec!["sync".into()],
            max_replicas: Some(0),
            grants: GrantFlags {
                grant_cap: vec!["cap_sys_time".into(), "net_admin".into()],
                ..GrantFlags::default()
            },
            ..PolicySet::default()
        };
        let spec = apply(&set, before).expect("right flags");
        assert_eq!(spec.services.names, ["ispyb", "mx-*", "sync"]);
        assert_eq!(spec.grants.capabilities, ["NET_ADMIN", "SYS_TIME"]);
        assert_eq!((spec.caps.replicas, spec.caps.memory), (0, 4 << 30));
        let unnamed = PolicySet { name: Some("x".into()), ..PolicySet::default() };
        let spec = PolicySpec { grants: spec.grants, ..PolicySpec::default() };
        assert!(apply(&unnamed, spec).is_err(), "a grant names its services");
    }
}
