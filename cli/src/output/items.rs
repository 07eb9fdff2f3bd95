//! Secrets, configs and their keys as text.

use model::{
    item::ItemKind,
    request::{ItemVersionView, ItemView, KeysView},
    sealed::KeyId,
};
use serde_json::Value;

use super::{age, rows, table::Table};

/// `secret ls`, `config ls`
pub fn items(views: &[ItemView]) -> Table {
    let mut table = Table::new(["NAME", "VERSION", "SIZE", "MOUNTED BY", "UPDATED", "LABELS"]);
    for view in views {
        let newest = view.versions.last();
        table.row([
            view.spec.name.clone(),
            newest.map_or(0, |version| version.number).to_string(),
            newest.map_or(0, |version| version.size).to_string(),
            names(&mounted(view)),
            age::date(view.updated),
            rows::pairs(&view.spec.labels),
        ]);
    }
    table
}

/// `secret inspect`, `config inspect`
pub fn item(view: &ItemView) -> String {
    let spec = &view.spec;
    let mut lines = vec![format!("{} {}", spec.kind, spec.name)];
    if spec.template {
        lines.push("  template  filled in for each task".into());
    }
    if !spec.labels.is_empty() {
        lines.push(format!("  labels    {}", rows::pairs(&spec.labels)));
    }
    lines.push(format!("  created   {}", age::date(view.created)));
    let mut table = Table::new(["VERSION", "SIZE", "SET", "BY", "MOUNTED BY", "KEPT FOR A WAY BACK OF"]);
    for version in &view.versions {
        let ItemVersionView { number, size, by, at, mounted_by, kept_for } = version;
        table.row([
            number.to_string(),
            size.to_string(),
            age::date(*at),
            by.to_string(),
            names(mounted_by),
            names(kept_for),
        ]);
    }
    lines.push(format!("\n{table}"));
    match (&view.value, spec.kind) {
        (Some(value), _) => lines.push(format!("\n{}", String::from_utf8_lossy(value.reveal()).trim_end())),
        (None, ItemKind::Secret) => lines.push("\nNobody can read its value back.".into()),
        (None, ItemKind::Config) => {}
    }
    lines.join("\n")
}

/// A config for programs: its value as a text where it is one.
pub fn json(view: &ItemView) -> Value {
    let mut tree = serde_json::to_value(view).expect("a view is plain data");
    if let Some(text) = view.value.as_ref().and_then(|value| std::str::from_utf8(value.reveal()).ok()) {
        tree["value"] = text.into();
    }
    tree
}

/// `secret keys`
pub fn keys(keys: &KeysView) -> String {
    let made = keys.made.map_or(String::new(), |made| format!(", made {}", age::date(made)));
    let mut lines = vec![match keys.active {
        KeyId(0) => "there is no data key yet".to_owned(),
        active => format!("data key {active}{made}"),
    }];
    lines.extend(keys.next.map(|next| format!("  data key {next} is to follow")));
    lines.extend((keys.behind > 0).then(|| format!("  {} values are sealed with an older one", keys.behind)));
    lines.extend((!keys.waits.is_empty()).then(|| format!("  {}", keys.waits)));
    lines.join("\n")
}

fn mounted(view: &ItemView) -> Vec<String> {
    view.versions.iter().flat_map(|version| version.mounted_by.clone()).collect()
}

fn names(names: &[String]) -> String {
    if names.is_empty() { "-".into() } else { names.join(", ") }
}
