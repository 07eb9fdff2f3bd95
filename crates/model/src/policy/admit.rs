//! The one decision: may this declaration come, from this identity, in this way, under these policies? A pure function: the leader asks
//! it before it proposes, every manager asks it again when the entry is applied, on the policies of that moment.
//!
//! Who may ask at all was decided before, by role. An admin is judged as everybody is: whoever wants an exception writes it down as a
//! grant, which others can read.
//!
//! One way is not judged: back to what ran, when a release fails or somebody aborts it. It was admitted when it came, its replicas may
//! still run, and a failed release must never stay because its predecessor could not be declared anew today. A rollback that a person
//! asks for is judged by today's policies.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Policy, Require, image_is_of,
    places::{clean, is_under, protected},
    signing::is_signed,
};
use crate::{
    container::MountSource,
    identity::Identity,
    placement::Attribute,
    registry::ImageName,
    security::Security,
    service::{Mode, ServiceSpec},
    validate::Problem,
};

/// Breaches that are told at once; nobody reads more, and each is kept with the request that it refused.
const MAX_BREACHES: usize = 16;
/// Of a name that the line of advice makes.
const MAX_NAME: usize = 63;
/// The rule that asks for a signature.
const SIGNED_BY: &str = "require.signed_by";

/// In which way a declaration comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// A service or a job is new.
    Create,
    /// It changes, by a deployment too.
    Update,
    /// Only its replicas do.
    Scale,
    /// It returns to an older declaration because somebody asked.
    Rollback,
    /// It returns to what ran because its release failed or was aborted.
    Return,
    /// A cron is to make such jobs.
    Schedule,
    /// A cron makes one.
    Run,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Scale => "scale",
            Self::Rollback | Self::Return => "roll back",
            Self::Schedule => "schedule",
            Self::Run => "run",
        })
    }
}

/// One rule that is against it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Breach {
    /// Which, as a policy calls it: `grants.privileged`, `require.images`, `caps.replicas`.
    pub rule: String,
    /// Whose; empty: what holds without any policy.
    pub policy: String,
    /// Where in the declaration.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
    /// Whom to ask, and what an admin could do about it.
    pub ask: String,
}

impl Breach {
    /// As a problem of the declaration.
    pub fn problem(&self) -> Problem {
        Problem {
            path: self.path.clone(),
            message: format!("{} ({}); {}", self.message, self.source(), self.ask),
        }
    }

    fn source(&self) -> String {
        match self.policy.as_str() {
            "" => format!("{}, by default", self.rule),
            policy => format!("{} of policy \"{policy}\"", self.rule),
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problem().fmt(f)
    }
}

/// Why a declaration may not come.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Refusal {
    /// Who wanted what: "operator ann may not update service \"web\"".
    pub what: String,
    /// Every rule against it, of the first ones.
    pub breaches: Vec<Breach>,
}

impl Refusal {
    /// Says why there is no signature, where that is what is missing: who judges a declaration sees only that there is none.
    pub fn explain_signature(&mut self, why: &str) {
        for breach in self.breaches.iter_mut().filter(|breach| breach.rule == SIGNED_BY) {
            breach.message = format!("{}: {why}", breach.message);
        }
    }

    /// Whether a signature is missing.
    pub fn lacks_signature(&self) -> bool {
        self.breaches.iter().any(|breach| breach.rule == SIGNED_BY)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.breaches[..] {
            [only] => write!(f, "{}: {only}", self.what),
            breaches => write!(f, "{}: {} rules are against it", self.what, breaches.len()),
        }
    }
}

/// Judges a declaration. `old`: what it replaces; a policy about either is a policy about the change, so that nobody leaves a policy's
/// reach by a change of labels.
///
/// # Errors
/// What is against it.
pub fn admit(
    identity: &Identity,
    verb: Verb,
    old: Option<&ServiceSpec>,
    new: &ServiceSpec,
    policies: &[Policy],
) -> Result<(), Refusal> {
    let breaches = match verb {
        Verb::Return => return Ok(()),
        Verb::Scale if old.is_some_and(|old| running(new) <= running(old)) => return Ok(()),
        Verb::Scale => Judge::new(old, new, policies).amounts(),
        Verb::Create | Verb::Update | Verb::Rollback | Verb::Schedule | Verb::Run => {
            Judge::new(old, new, policies).whole()
        }
    };
    if breaches.is_empty() {
        return Ok(());
    }
    let kind = if new.job.is_some() { "job" } else { "service" };
    Err(Refusal { what: format!("{identity} may not {verb} {kind} \"{}\"", new.name), breaches })
}

/// What the policies have against a declaration that is part of the state, if it came today. Its signatures, which were verified when it
/// came, are not verified again: that takes up to a millisecond each, and who asks for the cluster's status asks it of all.
pub fn review(spec: &ServiceSpec, policies: &[Policy]) -> Vec<Breach> {
    Judge { verified: true, ..Judge::new(None, spec, policies) }.whole()
}

/// Replicas that run at a time; `None`: as many as there are nodes.
fn running(spec: &ServiceSpec) -> Option<u32> {
    let concurrency = spec.job.as_ref().map_or(0, |job| job.concurrency);
    match spec.mode {
        Mode::Replicated(count) if concurrency > 0 => Some(count.min(concurrency)),
        Mode::Replicated(count) => Some(count),
        Mode::Global if concurrency > 0 => Some(concurrency),
        Mode::Global => None,
    }
}

/// The most that run at a time while it is updated: what comes before the old one goes, and the hook.
fn at_most(spec: &ServiceSpec) -> Option<u64> {
    let replicas = running(spec)?;
    let first = if spec.job.is_none() && spec.order().start_first {
        spec.update.parallelism.min(replicas)
    } else {
        0
    };
    let hook = u64::from(spec.update.pre_deploy.is_some() && spec.job.is_none());
    Some(u64::from(replicas) + u64::from(first) + hook)
}

struct Judge<'a> {
    new: &'a ServiceSpec,
    /// About the old declaration or the new one.
    restricting: Vec<&'a Policy>,
    /// About the new one.
    granting: Vec<&'a Policy>,
    /// Whether its signatures are known to hold.
    verified: bool,
    breaches: Vec<Breach>,
}

impl<'a> Judge<'a> {
    fn new(old: Option<&ServiceSpec>, new: &'a ServiceSpec, policies: &'a [Policy]) -> Self {
        let covers = |policy: &&Policy, spec: &ServiceSpec| policy.spec.services.covers(spec);
        let about = |policy: &&Policy| covers(policy, new) || old.is_some_and(|old| covers(policy, old));
        let granting = policies.iter().filter(|policy| covers(policy, new));
        Self {
            new,
            restricting: policies.iter().filter(about).collect(),
            granting: granting.collect(),
            verified: false,
            breaches: Vec::new(),
        }
    }

    fn whole(mut self) -> Vec<Breach> {
        self.security();
        self.binds();
        self.images();
        self.ports();
        self.nodes();
        self.amounts()
    }

    /// Notes a breach of what holds by default, or what a policy forbids: with the line that grants it.
    fn needs_grant(
        &mut self,
        (rule, flag): (&str, &str),
        by: Option<&Policy>,
        path: String,
        message: String,
    ) {
        let service = &self.new.name;
        let mut name = format!("grants-{service}");
        name.truncate(MAX_NAME);
        let name = name.trim_end_matches('-');
        let advice = format!("orchctl policy set {name} --service {service} {flag}");
        let contacts = by.into_iter().chain(self.restricting.iter().copied());
        let contact = contacts.map(|policy| policy.spec.contact.as_str()).find(|contact| !contact.is_empty());
        let whom = contact.unwrap_or("an admin");
        self.note(rule, by, path, message, format!("ask {whom}, who can grant it: {advice}"));
    }

    fn asks(&mut self, rule: &str, by: &Policy, path: &str, message: String) {
        let contact = &by.spec.contact;
        let whom =
            if contact.is_empty() { format!("{}, who set it, or an admin", by.by) } else { contact.clone() };
        self.note(rule, Some(by), path.to_owned(), message, format!("ask {whom}"));
    }

    fn note(&mut self, rule: &str, by: Option<&Policy>, path: String, message: String, ask: String) {
        if self.breaches.len() < MAX_BREACHES {
            let policy = by.map(|policy| policy.spec.name.clone()).unwrap_or_default();
            self.breaches.push(Breach { rule: rule.to_owned(), policy, path, message, ask });
        }
    }

    fn is_granted(&self, grants: impl Fn(&super::Grants) -> bool) -> bool {
        self.granting.iter().any(|policy| grants(&policy.spec.grants))
    }

    fn security(&mut self) {
        let security = &self.new.template.container.security;
        if security.is_default() || self.is_granted(|grants| grants.privileged) {
            return;
        }
        let at = |field: &str| format!("template.container.security.{field}");
        let Security { privileged, network_host, pid_host, ipc_host, .. } = *security;
        let Security { seccomp_unconfined, apparmor_unconfined, new_privileges, .. } = *security;
        let has = |field: fn(&super::Grants) -> bool| self.is_granted(field);
        let items = [
            (privileged, false, "privileged", "root in a privileged container is root on its node"),
            (network_host, has(|g| g.network_host), "network_host", "it would hear and speak as its node"),
            (pid_host, has(|g| g.pid_host), "pid_host", "it would see and end its node's processes"),
            (ipc_host, has(|g| g.ipc_host), "ipc_host", "it would read its node's shared memory"),
            (
                seccomp_unconfined,
                has(|g| g.seccomp_unconfined),
                "seccomp_unconfined",
                "every system call is one way more out",
            ),
            (
                apparmor_unconfined,
                has(|g| g.apparmor_unconfined),
                "apparmor_unconfined",
                "nothing would hold it but its user's rights",
            ),
            (
                new_privileges,
                has(|g| g.new_privileges),
                "new_privileges",
                "a program in it could become root",
            ),
        ];
        for (asked, granted, item, why) in items {
            if asked && !granted {
                let flag = format!("--grant-{}", item.replace('_', "-"));
                let message = format!("{why}; it needs a grant");
                self.needs_grant((&format!("grants.{item}"), &flag), None, at(item), message);
            }
        }
        for (position, capability) in security.cap_add.iter().enumerate() {
            let known = |have: &String| have == "ALL" || have == capability;
            if !self.is_granted(|grants| grants.capabilities.iter().any(known)) {
                let message = format!("capability {capability} needs a grant");
                let flag = format!("--grant-cap {capability}");
                self.needs_grant(
                    ("grants.capabilities", &flag),
                    None,
                    at(&format!("cap_add[{position}]")),
                    message,
                );
            }
        }
        for (position, device) in security.devices.iter().enumerate() {
            let host = clean(&device.host);
            let is =
                |have: &String| clean(have) == host || (have.ends_with('/') && is_under(&host, &clean(have)));
            if !self.is_granted(|grants| grants.devices.iter().any(is)) {
                let message = format!("device {host} needs a grant");
                let flag = format!("--grant-device {host}");
                self.needs_grant(
                    ("grants.devices", &flag),
                    None,
                    at(&format!("devices[{position}].host")),
                    message,
                );
            }
        }
    }

    fn binds(&mut self) {
        for (position, mount) in self.new.template.container.mounts.iter().enumerate() {
            let MountSource::Bind(source) = &mount.source else { continue };
            let path = clean(source);
            let of = |have: &String| match have.strip_suffix(":ro") {
                Some(have) => mount.read_only && is_under(&path, &clean(have)),
                None => is_under(&path, &clean(have)),
            };
            if self.is_granted(|grants| grants.binds.iter().any(of)) {
                continue;
            }
            let mode = if mount.read_only { ":ro" } else { "" };
            let flag = format!("--grant-bind {path}{mode}");
            let at = format!("template.container.mounts[{position}].source");
            if let Some(place) = protected(&path, mount.read_only) {
                let message = if place == path {
                    format!("{place} gives power over the node; it needs a grant")
                } else {
                    format!("{path} leads to {place}, which gives power over the node; it needs a grant")
                };
                self.needs_grant(("grants.binds", &flag), None, at, message);
                continue;
            }
            let meets = |place: &String| is_under(&path, &clean(place)) || is_under(&clean(place), &path);
            let forbids = |policy: &&&Policy| policy.spec.forbid.binds.iter().any(meets);
            if let Some(policy) = self.restricting.iter().find(forbids).copied() {
                let message = format!("{path} may not be mounted");
                self.needs_grant(("forbid.binds", &flag), Some(policy), at, message);
            }
        }
    }

    fn images(&mut self) {
        const AT: &str = "template.container.image";
        let image = &self.new.template.container.image;
        for policy in self.restricting.clone() {
            let require = &policy.spec.require;
            if !require.images.is_empty() && !require.images.iter().any(|have| image_is_of(image, have)) {
                let message = format!("\"{image}\" is none of {}", require.images.join(", "));
                self.asks("require.images", policy, AT, message);
            }
            let by_digest = ImageName::parse(image).is_none_or(|name| name.is_digest());
            if require.digest && !by_digest {
                let message = format!(
                    "\"{image}\" is a tag, which can come to mean other contents; name it with @sha256:…"
                );
                self.asks("require.digest", policy, AT, message);
            }
            let signatures = &self.new.template.container.signatures;
            let is_signed = match self.verified {
                true => !require.asks_signature() || signatures.iter().any(|one| require.names_signer(one)),
                false => is_signed(image, signatures, &[require]),
            };
            if !is_signed {
                let message = format!("\"{image}\" has no signature by {}", one_of(require));
                self.asks(SIGNED_BY, policy, AT, message);
            }
        }
    }

    fn ports(&mut self) {
        let ingress = self.new.ports.iter().map(|port| port.published);
        let ingress = ingress.enumerate().map(|(n, port)| (format!("ports[{n}].published"), port));
        let own = self.new.template.container.ports.iter().map(|port| port.published).enumerate();
        let own = own.map(|(n, port)| (format!("template.container.ports[{n}].published"), port));
        // 0: the engine chooses one of its own range.
        let published: Vec<_> = ingress.chain(own).filter(|(_, port)| *port > 0).collect();
        for (at, port) in published {
            let has = |policy: &&&Policy| policy.spec.forbid.ports.iter().any(|range| range.has(port));
            let Some(policy) = self.restricting.iter().find(has).copied() else { continue };
            if !self.is_granted(|grants| grants.ports.iter().any(|range| range.has(port))) {
                let message = format!("port {port} may not be published");
                let flag = format!("--grant-port {port}");
                self.needs_grant(("forbid.ports", &flag), Some(policy), at, message);
            }
        }
    }

    fn nodes(&mut self) {
        let constraints = &self.new.template.placement.constraints;
        for (position, constraint) in constraints.iter().enumerate().filter(|(_, one)| one.equal) {
            let Attribute::Label(key) = &constraint.attribute else { continue };
            let pair = format!("{key}={}", constraint.value);
            let names = |label: &String| *label == *key || *label == pair;
            let forbids = |policy: &&&Policy| policy.spec.forbid.node_labels.iter().any(names);
            let Some(policy) = self.restricting.iter().find(forbids).copied() else { continue };
            if !self.is_granted(|grants| grants.node_labels.iter().any(names)) {
                let message = format!("nodes with the label {pair} may not be asked for");
                let flag = format!("--grant-node-label {pair}");
                let at = format!("template.placement.constraints[{position}]");
                self.needs_grant(("forbid.node_labels", &flag), Some(policy), at, message);
            }
        }
        for policy in self.restricting.clone() {
            for needed in &policy.spec.require.constraints {
                if !constraints.contains(needed) {
                    let message = format!("the constraint {needed} has to be declared");
                    self.asks("require.constraints", policy, "template.placement.constraints", message);
                }
            }
        }
    }

    fn amounts(mut self) -> Vec<Breach> {
        const MEMORY: &str = "template.container.resources.memory_limit";
        let limit = self.new.template.container.resources.memory_limit;
        let most = at_most(self.new);
        for policy in self.restricting.clone() {
            let caps = policy.spec.caps;
            if caps.replicas > 0 {
                let cap = caps.replicas;
                match running(self.new) {
                    Some(count) if count <= cap => {}
                    Some(count) => {
                        self.asks(
                            "caps.replicas",
                            policy,
                            "mode",
                            format!("{count} replicas; at most {cap} may run"),
                        );
                    }
                    None => {
                        self.asks("caps.replicas", policy, "mode", without_count("replicas", u64::from(cap)))
                    }
                }
            }
            if (caps.memory > 0 || caps.memory_total > 0) && limit == 0 {
                let message = "a limit of memory has to be declared where memory is capped".to_owned();
                self.asks("caps.memory", policy, MEMORY, message);
            }
            if caps.memory > 0 && limit > caps.memory {
                let message = format!("{limit} bytes; a replica may have at most {}", caps.memory);
                self.asks("caps.memory", policy, MEMORY, message);
            }
            self.total(
                policy,
                ("caps.memory_total", MEMORY, "bytes of memory"),
                limit,
                (most, caps.memory_total),
            );
            let each = self.new.connections;
            if caps.connections > 0 && each == 0 {
                let message = "how many connections to databases a replica makes has to be declared: the size of its pool";
                self.asks("caps.connections", policy, "connections", message.into());
            }
            let cap = u64::from(caps.connections);
            self.total(
                policy,
                ("caps.connections", "connections", "connections"),
                u64::from(each),
                (most, cap),
            );
        }
        self.breaches
    }

    fn total(
        &mut self,
        policy: &Policy,
        (rule, at, what): (&str, &str, &str),
        each: u64,
        (most, cap): (Option<u64>, u64),
    ) {
        if cap == 0 || each == 0 {
            return;
        }
        match most {
            None => self.asks(rule, policy, "mode", without_count(what, cap)),
            Some(most) if each.saturating_mul(most) > cap => {
                let sum = each.saturating_mul(most);
                let message = format!(
                    "{each} for each of {most} replicas, with those that an update starts first, are {sum} {what}; at most \
                     {cap} are allowed"
                );
                self.asks(rule, policy, at, message);
            }
            Some(_) => {}
        }
    }
}

fn one_of(require: &Require) -> String {
    let keys = require.signed_by.iter().map(|key| format!("the key {}", key.short()));
    let names: Vec<String> = keys.chain(require.signed_by_identity.iter().map(ToString::to_string)).collect();
    match &names[..] {
        [only] => only.clone(),
        _ => format!("any of {}", names.join(", ")),
    }
}

fn without_count(what: &str, cap: u64) -> String {
    format!(
        "a global service has a replica on every node, and nobody can say that this stays within {cap} {what}"
    )
}
