//! A policy's declaration.

use super::{
    Problem, Problems,
    security::capability,
    service::{labels, labels_bytes},
    text,
};
use crate::{
    policy::{Grants, MAX_IDENTITIES, MAX_ITEM, MAX_ITEMS, MAX_KEYS, PolicySpec, Selector},
    signature::SignerIdentity,
};

/// All texts of one policy together: it lies in the cluster's own object, which every manager hashes when it changes.
const MAX_BYTES: usize = 16 << 10;

/// All that is wrong with a policy.
pub fn validate_policy(spec: &PolicySpec) -> Vec<Problem> {
    let mut problems = Problems::default();
    problems.judge("name", text::dns_label(&spec.name));
    problems.ensure(line(&spec.contact), "contact", || format!("write at most {MAX_ITEM} bytes on one line"));
    selector(&mut problems, &spec.services);
    items(&mut problems, "require.images", &spec.require.images, image_pattern);
    problems.at_most(spec.require.constraints.len(), MAX_ITEMS, "require.constraints", "constraints");
    problems.at_most(spec.require.signed_by.len(), MAX_KEYS, "require.signed_by", "keys");
    identities(&mut problems, &spec.require.signed_by_identity);
    grants(&mut problems, spec);
    let Grants { capabilities, devices, binds, ports, node_labels, .. } = &spec.grants;
    items(&mut problems, "grants.capabilities", capabilities, capability);
    items(&mut problems, "grants.devices", devices, device);
    items(&mut problems, "grants.binds", binds, |bind| {
        text::absolute_path(bind.strip_suffix(":ro").unwrap_or(bind))
    });
    items(&mut problems, "grants.node_labels", node_labels, node_label);
    items(&mut problems, "forbid.binds", &spec.forbid.binds, text::absolute_path);
    items(&mut problems, "forbid.node_labels", &spec.forbid.node_labels, node_label);
    let lists = [capabilities, devices, binds, node_labels, &spec.forbid.binds, &spec.forbid.node_labels];
    let texts = lists.into_iter().chain([&spec.require.images, &spec.services.names, &spec.services.except]);
    let identities = spec.require.signed_by_identity.iter().map(SignerIdentity::bytes);
    let bytes = texts.flatten().map(String::len).chain(identities).sum::<usize>()
        + labels_bytes(&spec.services.labels);
    problems.ensure(bytes <= MAX_BYTES, "", || {
        format!("the policy has {bytes} bytes of text; at most {MAX_BYTES} are allowed: make two of it")
    });
    for (path, ranges) in [("grants.ports", ports), ("forbid.ports", &spec.forbid.ports)] {
        problems.at_most(ranges.len(), MAX_ITEMS, path, "ranges");
    }
    problems.0
}

/// A site's own provider may be anybody's by another name: only whole URLs say who vouches.
fn identities(problems: &mut Problems, identities: &[SignerIdentity]) {
    const AT: &str = "require.signed_by_identity";
    problems.at_most(identities.len(), MAX_IDENTITIES, AT, "identities");
    for (position, one) in identities.iter().enumerate() {
        identity(problems, &format!("{AT}[{position}]"), one);
    }
}

pub(super) fn identity(problems: &mut Problems, path: &str, of: &SignerIdentity) {
    let SignerIdentity { issuer, subject, .. } = of;
    let is_url = issuer.starts_with("https://") || issuer.starts_with("http://");
    problems.ensure(is_url && line(issuer), format!("{path}.issuer"), || {
        format!("{} is no URL, such as https://gitlab.example.org, of whoever vouches", text::quote(issuer))
    });
    let name = subject.strip_suffix('*').unwrap_or(subject);
    let is_one = !name.is_empty() && !name.contains('*') && line(subject);
    problems.ensure(is_one, format!("{path}.subject"), || {
        format!("write whom it vouches for, at most {MAX_ITEM} bytes; a * stands for anything at the end, and not alone")
    });
}

/// A grant names its services: labels are in the hands of whoever may change a service, and a grant to all is none.
fn grants(problems: &mut Problems, spec: &PolicySpec) {
    let Selector { names, .. } = &spec.services;
    let some = spec.grants != Grants::default();
    problems.ensure(!some || !names.is_empty(), "services.names", || {
        "a grant names its services; write names, or leave the grants out".into()
    });
    problems.ensure(!some || names.iter().all(|name| name != "*"), "services.names", || {
        "a grant to * would be one to everybody; name the services".into()
    });
}

fn selector(problems: &mut Problems, selector: &Selector) {
    for (path, names) in [("services.names", &selector.names), ("services.except", &selector.except)] {
        items(problems, path, names, |name| match name.strip_suffix('*') {
            Some("") => Ok(()),
            Some(beginning) => text::dns_label(beginning.trim_end_matches('-')),
            None => text::dns_label(name),
        });
    }
    labels(problems, "services.labels", &selector.labels);
}

fn items(problems: &mut Problems, path: &str, items: &[String], check: impl Fn(&str) -> Result<(), String>) {
    problems.at_most(items.len(), MAX_ITEMS, path, "items");
    for (position, item) in items.iter().enumerate() {
        let path = format!("{path}[{position}]");
        problems.ensure(line(item), &path, || format!("write 1 to {MAX_ITEM} bytes on one line"));
        problems.judge(&path, check(item));
    }
}

fn line(text: &str) -> bool {
    text.len() <= MAX_ITEM && !text.contains(char::is_control)
}

fn image_pattern(pattern: &str) -> Result<(), String> {
    let name = pattern.strip_suffix("/*").unwrap_or(pattern);
    let host = name.len() < pattern.len() && !name.contains('/') && text::registry_host(name).is_ok();
    let whole =
        |name: &str| !name.contains('@') && !name.rsplit('/').next().unwrap_or_default().contains(':');
    if host || (whole(name) && text::image(name).is_ok()) {
        return Ok(());
    }
    Err(format!(
        "{} is no repository; write HOST/PATH without a tag, or HOST/* or HOST/PATH/* for all below",
        text::quote(pattern)
    ))
}

fn device(path: &str) -> Result<(), String> {
    text::absolute_path(path)?;
    let below = path.strip_prefix("/dev/").is_some_and(|rest| !rest.is_empty());
    below.then_some(()).ok_or_else(|| format!("{} is not below /dev", text::quote(path)))
}

fn node_label(label: &str) -> Result<(), String> {
    text::label_key(label.split_once('=').map_or(label, |(key, _)| key))
}
