//! Policies as people read them.

use model::{
    policy::{Caps, Forbid, Grants, Policy, Require, Selector},
    request::PolicyVerdict,
};

use super::{age, rows, table::Table};

/// `policy ls`
pub fn policies(policies: &[Policy]) -> Table {
    let mut table = Table::new(["NAME", "SERVICES", "REQUIRES", "GRANTS", "FORBIDS", "CAPS"]);
    for Policy { spec, .. } in policies {
        let count =
            |items: Vec<String>| if items.is_empty() { "-".to_owned() } else { items.len().to_string() };
        table.row([
            spec.name.clone(),
            services(&spec.services),
            count(require(&spec.require)),
            count(grants(&spec.grants)),
            count(forbid(&spec.forbid)),
            count(caps(&spec.caps)),
        ]);
    }
    table
}

/// `policy inspect`
pub fn policy(policy: &Policy) -> String {
    let spec = &policy.spec;
    let mut lines = vec![spec.name.clone(), format!("  services  {}", services(&spec.services))];
    let parts = [
        ("requires", require(&spec.require)),
        ("grants", grants(&spec.grants)),
        ("forbids", forbid(&spec.forbid)),
        ("caps", caps(&spec.caps)),
    ];
    for (title, items) in parts {
        for (position, item) in items.iter().enumerate() {
            lines.push(format!("  {:<9} {item}", if position == 0 { title } else { "" }));
        }
    }
    if !spec.contact.is_empty() {
        lines.push(format!("  contact   {}", spec.contact));
    }
    lines.push(format!("  set       {} by {}", age::date(policy.set), policy.by));
    lines.join("\n")
}

/// `policy check`
pub fn verdicts(verdicts: &[PolicyVerdict]) -> String {
    if verdicts.is_empty() {
        return "everything that runs or is scheduled would be admitted today".into();
    }
    let mut lines = Vec::new();
    for verdict in verdicts {
        lines.push(verdict.what.clone());
        lines.extend(verdict.refusal.breaches.iter().map(|breach| format!("  {breach}")));
    }
    lines.join("\n")
}

fn services(selector: &Selector) -> String {
    let mut parts = selector.names.clone();
    parts.extend(selector.labels.iter().map(|(key, value)| format!("{key}={value}")));
    let but = selector.except.join(" ");
    let all = if parts.is_empty() { "all".to_owned() } else { parts.join(" ") };
    if but.is_empty() { all } else { format!("{all} but {but}") }
}

fn require(require: &Require) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    if !require.images.is_empty() {
        items.push(format!("image of {}", require.images.join(", ")));
    }
    items.extend(require.digest.then(|| "image by digest".to_owned()));
    let keys = require.signed_by.iter().map(|key| format!("key {}", key.fingerprint()));
    let signers: Vec<String> =
        keys.chain(require.signed_by_identity.iter().map(ToString::to_string)).collect();
    items.extend((!signers.is_empty()).then(|| format!("image signed by {}", signers.join(" or "))));
    items.extend(require.constraints.iter().map(|constraint| format!("constraint {constraint}")));
    items
}

fn grants(grants: &Grants) -> Vec<String> {
    let flags = [
        (grants.privileged, "privileged"),
        (grants.network_host, "the node's network"),
        (grants.pid_host, "the node's processes"),
        (grants.ipc_host, "the node's shared memory"),
        (grants.seccomp_unconfined, "seccomp off"),
        (grants.apparmor_unconfined, "AppArmor off"),
        (grants.new_privileges, "new privileges"),
    ];
    let mut items: Vec<String> =
        flags.iter().filter(|(is, _)| *is).map(|(_, what)| (*what).to_owned()).collect();
    let lists = [
        ("capability", &grants.capabilities),
        ("device", &grants.devices),
        ("bind", &grants.binds),
        ("node label", &grants.node_labels),
    ];
    items.extend(
        lists.into_iter().flat_map(|(kind, list)| list.iter().map(move |item| format!("{kind} {item}"))),
    );
    items.extend(grants.ports.iter().map(|ports| format!("port {ports}")));
    items
}

fn forbid(forbid: &Forbid) -> Vec<String> {
    let lists = [("bind", &forbid.binds), ("node label", &forbid.node_labels)];
    let lists =
        lists.into_iter().flat_map(|(kind, list)| list.iter().map(move |item| format!("{kind} {item}")));
    lists.chain(forbid.ports.iter().map(|ports| format!("port {ports}"))).collect()
}

fn caps(caps: &Caps) -> Vec<String> {
    let amounts = [
        (u64::from(caps.replicas), format!("{} replicas", caps.replicas)),
        (caps.memory, format!("{} of memory a replica", rows::size(caps.memory))),
        (caps.memory_total, format!("{} of memory in all", rows::size(caps.memory_total))),
        (u64::from(caps.connections), format!("{} connections in all", caps.connections)),
    ];
    amounts.into_iter().filter(|(cap, _)| *cap > 0).map(|(_, text)| text).collect()
}
