//! A service's declaration.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Problem, Problems,
    container::{container, container_bytes, words},
    job::job,
    placement::placement,
    probe::restarted,
    text::{dns_label, label_key, quote},
    traffic::{ports, ports_bytes},
};
use crate::{
    hook::Hook,
    request::Reference,
    service::{CanaryPolicy, MAX_HISTORY, Mode, RestartPolicy, ServiceSpec, Share, UpdatePolicy},
};

/// Replicas of one service: what one plan of the managers places in one go.
pub const MAX_REPLICAS: u32 = 10_000;
/// All texts of one declaration together. It lies in one log entry, in the snapshot twice, and in every assignment.
pub const MAX_SPEC_BYTES: usize = 64 << 10;
/// Services scaled by one request.
const MAX_SCALES: usize = 1_000;
/// A hook that fails more often than this does not succeed by itself.
const MAX_HOOK_RETRIES: u32 = 10;
/// Labels of one object, and bytes of one label's value.
const MAX_LABELS: usize = 256;
const MAX_LABEL_VALUE: usize = 4096;
/// A pause or a window longer than this is a slip of the pen: nobody watches a rollout for days.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// A crash loop that pauses longer than this looks like a service that is off.
const MAX_BACKOFF: Duration = Duration::from_secs(3600);

/// All that is wrong with a declaration; empty when it is valid.
pub fn validate_service(spec: &ServiceSpec) -> Vec<Problem> {
    let mut problems = Problems::default();
    problems.judge("name", dns_label(&spec.name));
    labels(&mut problems, "labels", &spec.labels);
    if let Mode::Replicated(count) = spec.mode {
        replicas(&mut problems, "mode.replicated", count);
    }
    container(&mut problems, "template.container", &spec.template.container, &spec.name);
    placement(&mut problems, "template.placement", &spec.template.placement);
    restart(&mut problems, "template.restart", &spec.template.restart);
    restarted(&mut problems, &spec.template.container, &spec.template.restart);
    update(&mut problems, "update", &spec.update);
    ports(&mut problems, "ports", &spec.ports, &spec.template.container.ports);
    problems.ensure(!spec.template.container.security.network_host || spec.ports.is_empty(), "ports", || {
        "a container on its node's network has no address that routers could reach; leave out one of the two".into()
    });
    if let Some(policy) = &spec.job {
        job(&mut problems, spec, policy);
    }
    let bytes = spec.name.len()
        + labels_bytes(&spec.labels)
        + container_bytes(&spec.template.container)
        + ports_bytes(&spec.ports)
        + spec.update.pre_deploy.iter().flat_map(|hook| &hook.command).map(String::len).sum::<usize>();
    problems.ensure(bytes <= MAX_SPEC_BYTES, "", || {
        format!("the declaration has {bytes} bytes of text; at most {MAX_SPEC_BYTES} are allowed: mount large files instead")
    });
    problems.0
}

/// All that is wrong with new replica counts.
pub fn validate_scale(scales: &[(Reference, u32)]) -> Vec<Problem> {
    let mut problems = Problems::default();
    problems.ensure(!scales.is_empty(), "", || "name a service and its replicas, such as web=3".into());
    problems.at_most(scales.len(), MAX_SCALES, "", "services in one request");
    let mut seen = BTreeSet::new();
    for (service, count) in scales {
        replicas(&mut problems, service, *count);
        problems.ensure(seen.insert(service), service, || format!("{} occurs twice", quote(service)));
    }
    problems.0
}

fn replicas(problems: &mut Problems, path: impl std::fmt::Display, count: u32) {
    problems.ensure(count <= MAX_REPLICAS, path, || {
        format!("{count} replicas; a service has at most {MAX_REPLICAS}")
    });
}

fn restart(problems: &mut Problems, path: &str, policy: &RestartPolicy) {
    let spans = [("delay", policy.delay, MAX_BACKOFF), ("max_delay", policy.max_delay, MAX_BACKOFF)];
    at_most(problems, path, &spans);
    at_most(
        problems,
        path,
        &[("window", policy.window, 30 * DAY), ("stable_after", policy.stable_after, DAY)],
    );
    problems.ensure(policy.delay <= policy.max_delay, format!("{path}.delay"), || {
        format!(
            "{:?} is longer than max_delay, {:?}, the cap that it grows to",
            policy.delay, policy.max_delay
        )
    });
    problems.ensure(policy.max_attempts != Some(0), format!("{path}.max_attempts"), || {
        "0 restarts; write condition: none instead, or leave it out to never give up".into()
    });
}

fn update(problems: &mut Problems, path: &str, policy: &UpdatePolicy) {
    problems.ensure((1..=MAX_REPLICAS).contains(&policy.parallelism), format!("{path}.parallelism"), || {
        format!("{}; write 1 to {MAX_REPLICAS} slots replaced at a time", policy.parallelism)
    });
    let deadline = policy.progress_deadline;
    at_most(
        problems,
        path,
        &[
            ("delay", policy.delay, DAY),
            ("monitor", policy.monitor, DAY),
            ("progress_deadline", deadline, DAY),
        ],
    );
    problems.ensure(deadline >= Duration::from_secs(1), format!("{path}.progress_deadline"), || {
        format!("{deadline:?}; no replica becomes healthy in less than a second")
    });
    if let Some(whole) = policy.deadline {
        at_most(problems, path, &[("deadline", whole, 7 * DAY)]);
        problems.ensure(whole >= deadline, format!("{path}.deadline"), || {
            format!("{whole:?} is shorter than progress_deadline, {deadline:?}, which one replica may take")
        });
    }
    if let Some(policy) = &policy.canary {
        canary(problems, &format!("{path}.canary"), policy);
    }
    problems.ensure(matches!(policy.max_errors, Share::Percent(_)), format!("{path}.max_errors"), || {
        format!(
            "{}; write a part of the requests, such as 25%; 100% = whatever routers see",
            policy.max_errors
        )
    });
    if let Some(declared) = &policy.pre_deploy {
        hook(problems, &format!("{path}.pre_deploy"), declared);
    }
    problems.ensure((1..=MAX_HISTORY).contains(&policy.history), format!("{path}.history"), || {
        format!("{} releases; 1 to {MAX_HISTORY} can be kept", policy.history)
    });
}

fn hook(problems: &mut Problems, path: &str, hook: &Hook) {
    let command = format!("{path}.command");
    problems.ensure(!hook.command.is_empty(), &command, || "the hook has no command".into());
    words(problems, &command, &hook.command);
    at_most(problems, path, &[("timeout", hook.timeout, DAY)]);
    problems.ensure(hook.timeout >= Duration::from_secs(1), format!("{path}.timeout"), || {
        format!("{:?}; no container ends in less than a second", hook.timeout)
    });
    problems.ensure(hook.retries <= MAX_HOOK_RETRIES, format!("{path}.retries"), || {
        format!("{}; write at most {MAX_HOOK_RETRIES}", hook.retries)
    });
}

/// A first part of a rollout.
pub(super) fn canary(problems: &mut Problems, path: &str, policy: &CanaryPolicy) {
    at_most(problems, path, &[("soak", policy.soak, 7 * DAY)]);
    let some = !matches!(policy.replicas, Share::Count(0) | Share::Percent(0));
    problems.ensure(some, format!("{path}.replicas"), || {
        "0 canaries; write 1 or more, a part such as 10%, or leave it out".into()
    });
}

/// Durations within their bounds.
pub(super) fn at_most(problems: &mut Problems, path: &str, spans: &[(&str, Duration, Duration)]) {
    for (name, span, bound) in spans {
        problems.ensure(span <= bound, format!("{path}.{name}"), || {
            format!("{span:?} is longer than the {bound:?} that are allowed")
        });
    }
}

/// Labels of any object.
pub(super) fn labels(problems: &mut Problems, path: &str, labels: &BTreeMap<String, String>) {
    problems.at_most(labels.len(), MAX_LABELS, path, "labels");
    for (key, value) in labels {
        problems.judge(path, label_key(key));
        problems.ensure(
            value.len() <= MAX_LABEL_VALUE && !value.contains('\0'),
            format!("{path}.{key}"),
            || format!("a label's value has at most {MAX_LABEL_VALUE} bytes and no zero byte"),
        );
    }
}

pub(super) fn labels_bytes(labels: &BTreeMap<String, String>) -> usize {
    labels.iter().map(|(key, value)| key.len() + value.len()).sum()
}
