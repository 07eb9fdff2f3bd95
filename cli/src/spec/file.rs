//! Declarations as TOML or JSON files, as `service inspect --spec` prints them and `--file` reads them.
//!
//! The structure is the model's own. Durations are written as `1m30s` and sizes as `512MiB` in the fields that hold
//! such. A field that is not known is refused with its path, and so is every value of a wrong type, all at once: each
//! field is tried alone in an otherwise empty declaration. What equals the default is not printed.

use std::{path::Path, time::Duration};

use model::{
    probe::{Check, Diagnosis, DiagnosisBy, GrpcCheck, HttpCheck, Probe},
    security::Security,
    service::ServiceSpec,
};
use serde_json::{Map, Value, json};

use super::problems::Problems;
use crate::{exit::Failure, value};

const DURATIONS: &[&str] = &[
    "template.container.stop_grace",
    "template.container.drain",
    "ports[].http.try_timeout",
    "ports[].http.timeout",
    "template.container.healthcheck.interval",
    "template.container.healthcheck.timeout",
    "template.container.healthcheck.start_period",
    "template.container.probes.start_deadline",
    "template.container.probes.diagnosis.within",
    "template.container.probes.startup.interval",
    "template.container.probes.startup.timeout",
    "template.container.probes.readiness.interval",
    "template.container.probes.readiness.timeout",
    "template.container.probes.liveness.interval",
    "template.container.probes.liveness.timeout",
    "template.restart.delay",
    "template.restart.max_delay",
    "template.restart.window",
    "template.restart.stable_after",
    "update.delay",
    "update.monitor",
    "update.progress_deadline",
    "update.deadline",
    "update.canary.soak",
    "update.pre_deploy.timeout",
    "job.deadline",
    "job.keep",
];
const SHARES: &[&str] = &["ports[].http.log"];
const SIZES: &[&str] = &[
    "template.container.resources.memory_limit",
    "template.container.resources.memory_reserve",
    "template.container.log.max_size",
    "template.container.mounts[].source.tmpfs.size",
];

/// What a file says.
#[derive(Debug)]
pub struct Loaded {
    /// The declaration.
    pub spec: ServiceSpec,
    /// Whether it mentions `template.force`.
    pub says_force: bool,
}

/// Reads a declaration; `-` is standard input. JSON when the text begins with `{`, TOML otherwise.
///
/// # Errors
/// It cannot be read; or all unknown fields and wrong values, each with its path.
pub fn load(path: &Path) -> Result<Loaded, Failure> {
    parse(&read_text(path)?).map_err(|mut failure| {
        failure.message = format!("{}: {}", path.display(), failure.message);
        failure
    })
}

/// The text of a file; `-` is standard input.
pub(super) fn read_text(path: &Path) -> Result<String, Failure> {
    let text = if path.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(path)
    };
    text.map_err(|error| Failure::file("read", path, &error))
}

/// JSON when the text begins with `{`, TOML otherwise.
pub(super) fn tree_of_text(text: &str) -> Result<Value, Failure> {
    if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| Failure::invalid(format!("is no JSON: {error}")))
    } else {
        toml::from_str(text).map_err(|error| Failure::invalid(format!("is no TOML: {error}")))
    }
}

/// Reads a declaration.
///
/// # Errors
/// As for [`load`].
pub fn parse(text: &str) -> Result<Loaded, Failure> {
    let mut tree = tree_of_text(text)?;
    let mut problems = Problems::default();
    visit(&mut tree, &mut String::new(), &mut |path, value| read_units(path, value, &mut problems));
    let default = tree_of(&ServiceSpec::default());
    check_fields(&tree, &default, &default, &mut Vec::new(), &mut problems);
    problems.finish(())?;
    let says_force = tree.pointer("/template/force").is_some();
    let spec = serde_json::from_value(tree).map_err(|error| Failure::invalid(error.to_string()))?;
    Ok(Loaded { spec, says_force })
}

/// The declaration as a tree in this file's words: without what equals the default.
pub fn tree(spec: &ServiceSpec) -> Value {
    let [mut tree, mut default] = [spec, &ServiceSpec::default()].map(tree_of);
    let probes = &tree["template"]["container"]["probes"];
    for kind in ["startup", "readiness", "liveness"].into_iter().filter(|kind| probes[kind].is_object()) {
        default["template"]["container"]["probes"][kind] = default_probe();
    }
    if probes["diagnosis"].is_object() {
        let open = Diagnosis { by: DiagnosisBy::Signal(String::new()), within: Duration::ZERO };
        default["template"]["container"]["probes"]["diagnosis"] =
            serde_json::to_value(open).expect("a diagnosis is plain data");
    }
    visit(&mut tree, &mut String::new(), &mut write_units);
    visit(&mut default, &mut String::new(), &mut write_units);
    forget_versions(&mut tree);
    prune(&mut tree, &default);
    drop_nulls(&mut tree);
    if let (Value::Object(fields), mode) = (&mut tree, spec.mode) {
        fields.insert("mode".into(), serde_json::to_value(mode).expect("a mode is plain data"));
    }
    tree
}

/// Which version of a secret or config is mounted is the cluster's to say: a file that is read again later must not bring an old one back.
fn forget_versions(tree: &mut Value) {
    for files in ["secrets", "configs"] {
        let files = tree.pointer_mut(&format!("/template/container/{files}")).and_then(Value::as_array_mut);
        for file in files.into_iter().flatten().filter_map(Value::as_object_mut) {
            file.remove("version");
        }
    }
}

/// A probe that leaves open whatever it can: none is there by default, and yet what one leaves open has its default.
fn default_probe() -> Value {
    let mut probe = serde_json::to_value(Probe::of(Check::Tcp(0))).expect("a probe is plain data");
    probe["check"] = json!({ "http": HttpCheck::default(), "grpc": GrpcCheck::default() });
    probe
}

/// What an item of a list leaves open is left out: TOML has no word for it.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// The declaration as a TOML file.
pub fn to_toml(spec: &ServiceSpec) -> String {
    toml::to_string_pretty(&tree(spec)).expect("a tree without null is TOML")
}

fn tree_of(spec: &ServiceSpec) -> Value {
    let mut tree = serde_json::to_value(spec).expect("a declaration is plain data");
    // A declaration that asks for none of them says nothing of them, so that it is stored as it always was.
    if let Value::Object(fields) = &mut tree {
        fields.entry("job").or_insert(Value::Null);
        fields.entry("connections").or_insert(0.into());
    }
    if let Value::Object(container) = &mut tree["template"]["container"] {
        let none = serde_json::to_value(Security::default()).expect("security is plain data");
        container.entry("security").or_insert(none);
    }
    if let Some(Value::Object(container)) = tree.pointer_mut("/template/container") {
        for files in ["secrets", "configs"] {
            container.entry(files).or_insert_with(|| Value::Array(Vec::new()));
        }
    }
    tree
}

/// Calls `act` on every value below the root, outermost first, with its path; lists have `[]` in theirs.
fn visit(value: &mut Value, path: &mut String, act: &mut impl FnMut(&str, &mut Value)) {
    if !path.is_empty() {
        act(path, value);
    }
    let length = path.len();
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                if length > 0 {
                    path.push('.');
                }
                path.push_str(key);
                visit(field, path, act);
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            path.push_str("[]");
            for item in items {
                visit(item, path, act);
            }
            path.truncate(length);
        }
        _ => {}
    }
}

/// `"1m30s"` and `"512MiB"` become what the model reads. What cannot be read becomes zero and a problem, so that it does
/// not hide the others.
fn read_units(path: &str, value: &mut Value, problems: &mut Problems) {
    let Value::String(text) = value else { return };
    if DURATIONS.contains(&path) {
        let duration = problems.take(path, value::duration(text)).unwrap_or_default();
        *value = serde_json::to_value(duration).expect("a duration is plain data");
    } else if SIZES.contains(&path) {
        *value = problems.take(path, value::bytes(text)).unwrap_or_default().into();
    } else if SHARES.contains(&path) {
        *value = problems.take(path, value::share(text)).unwrap_or_default().into();
    }
}

/// The reverse of [`read_units`].
fn write_units(path: &str, value: &mut Value) {
    if DURATIONS.contains(&path) {
        if let Ok(duration) = serde_json::from_value::<Duration>(value.clone()) {
            *value = value::duration_text(duration).into();
        }
    } else if SHARES.contains(&path) {
        if let Some(every) = value.as_u64().and_then(|every| u32::try_from(every).ok()) {
            *value = value::share_text(every).into();
        }
    } else if SIZES.contains(&path)
        && let Some(size) = value.as_u64()
    {
        *value = if size < 1024 { size.into() } else { value::bytes_text(size).into() };
    }
}

/// Tries each field alone: those of a wrong type, and those that no declaration has, are problems.
fn check_fields(
    value: &Value,
    known: &Value,
    default: &Value,
    place: &mut Vec<String>,
    problems: &mut Problems,
) {
    match (value, known) {
        (Value::Object(fields), Value::Object(names)) if !names.is_empty() && !is_choice(place) => {
            for (key, field) in fields {
                place.push(key.clone());
                match names.get(key) {
                    Some(known) => check_fields(field, known, default, place, problems),
                    None => problems.add(&place.join("."), unknown(names)),
                }
                place.pop();
            }
        }
        (Value::Array(items), Value::Array(_)) => {
            for (number, item) in items.iter().enumerate() {
                let path = format!("{}[{number}]", place.join("."));
                try_alone(item, true, default, place, path, problems);
            }
        }
        _ => try_alone(value, false, default, place, place.join("."), problems),
    }
}

/// `mode` is one of several shapes; it is tried as a whole.
fn is_choice(place: &[String]) -> bool {
    place == ["mode"]
}

/// Reads a declaration that says nothing but this value, as the only item of a list where it is one.
fn try_alone(
    value: &Value,
    is_item: bool,
    default: &Value,
    place: &[String],
    mut path: String,
    problems: &mut Problems,
) {
    let pointer: String = place.iter().map(|key| format!("/{key}")).collect();
    let mut alone = default.clone();
    let spot = alone.pointer_mut(&pointer).expect("the place was found in the default");
    *spot = if is_item { Value::Array(vec![value.clone()]) } else { value.clone() };
    match serde_json::from_value::<ServiceSpec>(alone) {
        Err(error) => problems.add(&path, error.to_string()),
        Ok(spec) => {
            let tree = tree_of(&spec);
            let kept = tree.pointer(&pointer).expect("the place is in every declaration");
            find_unknown(value, if is_item { &kept[0] } else { kept }, &mut path, problems);
        }
    }
}

/// Fields that reading and writing again has lost were not understood.
pub(super) fn find_unknown(given: &Value, kept: &Value, path: &mut String, problems: &mut Problems) {
    let length = path.len();
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            for (key, field) in given {
                if length > 0 {
                    path.push('.');
                }
                path.push_str(key);
                match kept.get(key) {
                    Some(kept) => find_unknown(field, kept, path, problems),
                    None => problems.add(path, unknown(kept)),
                }
                path.truncate(length);
            }
        }
        (Value::Array(given), Value::Array(kept)) => {
            for (number, (given, kept)) in given.iter().zip(kept).enumerate() {
                path.push_str(&format!("[{number}]"));
                find_unknown(given, kept, path, problems);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

fn unknown(known: &Map<String, Value>) -> String {
    let names: Vec<&str> = known.keys().map(String::as_str).collect();
    format!("unknown field; known here are {}", names.join(", "))
}

/// Removes what equals the default, and null, which TOML does not have.
pub(super) fn prune(value: &mut Value, default: &Value) {
    let Value::Object(fields) = value else { return };
    fields.retain(|key, field| {
        let default = default.get(key).unwrap_or(&Value::Null);
        if field.is_null() || field == default {
            return false;
        }
        prune(field, default);
        true
    });
}
