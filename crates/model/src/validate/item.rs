//! Secrets, configs, and the files that containers get of them. What is said of a value is that it is wrong, never what it is.

use std::collections::BTreeSet;

use super::{Problem, Problems, service::labels, text};
use crate::{
    container::ContainerSpec,
    item::{FileMount, ItemKind, ItemSpec, MAX_VALUE},
    sealed::Clear,
    template,
};

/// Secrets and configs of one container, each kind.
const MAX_FILES: usize = 64;

/// All that is wrong with a secret's or config's declaration.
pub fn validate_item(spec: &ItemSpec, value: &Clear) -> Vec<Problem> {
    let mut problems = Problems::default();
    problems.judge("name", text::item_name(&spec.name));
    labels(&mut problems, "labels", &spec.labels);
    problems.ensure(!spec.template || spec.kind == ItemKind::Config, "template", || {
        "only a config has placeholders; it can name secrets".into()
    });
    problems.0.extend(validate_value(value));
    if spec.template {
        problems.0.extend(validate_template(value));
    }
    problems.0
}

/// All that is wrong with a value.
pub fn validate_value(value: &Clear) -> Vec<Problem> {
    let mut problems = Problems::default();
    problems.ensure((1..=MAX_VALUE).contains(&value.len()), "value", || {
        format!("{} bytes; it has 1 to {MAX_VALUE}", value.len())
    });
    problems.0
}

/// All that is wrong with a value that is a template.
pub fn validate_template(value: &Clear) -> Vec<Problem> {
    let mut problems = Problems::default();
    match std::str::from_utf8(value.reveal()) {
        Err(_) => problems.add("value", "a template is text in UTF-8"),
        Ok(text) => {
            if let Err(error) = template::parse(text) {
                problems.add("value", error.to_string());
            }
        }
    }
    problems.0
}

/// What a container mounts of items.
pub(super) fn files(problems: &mut Problems, path: &str, spec: &ContainerSpec) {
    let mounts = spec.mounts.iter().map(|mount| text::normal_path(&mount.target));
    let mut targets: BTreeSet<String> = mounts.collect();
    for (kind, field, files) in
        [(ItemKind::Secret, "secrets", &spec.secrets), (ItemKind::Config, "configs", &spec.configs)]
    {
        problems.at_most(files.len(), MAX_FILES, format!("{path}.{field}"), field);
        for (position, mount) in files.iter().enumerate() {
            file(problems, &format!("{path}.{field}[{position}]"), kind, mount, &mut targets);
        }
    }
}

fn file(
    problems: &mut Problems,
    path: &str,
    kind: ItemKind,
    mount: &FileMount,
    targets: &mut BTreeSet<String>,
) {
    problems.judge(format!("{path}.name"), text::item_name(&mount.name));
    let target = mount.path(kind);
    problems.judge(format!("{path}.target"), text::absolute_path(&target));
    let target = text::normal_path(&target);
    problems.ensure(
        target != "/" && !mount.target.as_deref().is_some_and(|t| t.ends_with('/')),
        path,
        || "the target is a file; write its name too".into(),
    );
    problems.ensure(targets.insert(target.clone()), format!("{path}.target"), || {
        format!("{} is mounted on twice", text::quote(&target))
    });
    problems.ensure(mount.mode().0 <= 0o777, format!("{path}.mode"), || {
        format!("{} is no mode of a file; write an octal number such as 0440", mount.mode())
    });
}

/// Bytes of all texts.
pub(super) fn files_bytes(spec: &ContainerSpec) -> usize {
    spec.files().map(|(_, mount)| mount.name.len() + mount.target.as_ref().map_or(0, String::len)).sum()
}
