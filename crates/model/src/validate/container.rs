//! A container's declaration.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    Problems,
    item::{files, files_bytes},
    policy::identity,
    probe::{probes, probes_bytes},
    resources::{log, resources, ulimits},
    security::{security, security_bytes},
    service::{at_most, labels, labels_bytes},
    text,
};
use crate::{
    container::{ContainerSpec, Healthcheck, Mount, MountSource, PortSpec, PullPolicy},
    signature::{
        ImageSignature, MAX_CERTIFICATE, MAX_ENCODED, MAX_ENTRY, MAX_PAYLOAD, MAX_SIGNATURES,
        MAX_SIGNED_BYTES,
    },
};

/// Environment variables, and bytes of one value: the kernel's own bound for one string is 128 KiB.
const MAX_ENV: usize = 1_000;
const MAX_ENV_VALUE: usize = 32 << 10;
/// Words of a command.
const MAX_WORDS: usize = 256;
const MAX_MOUNTS: usize = 64;
const MAX_PORTS: usize = 100;
/// Networks of one container: an interface each.
const MAX_NETWORKS: usize = 16;
/// A host name inside a container: the kernel's bound is 64.
const MAX_HOSTNAME: usize = 63;
/// The kill path is a normal path: nobody waits longer for a stop.
const MAX_GRACE: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const MAX_RETRIES: u32 = 1_000;

pub(super) fn container(problems: &mut Problems, path: &str, spec: &ContainerSpec, service: &str) {
    let at = |field: &str| format!("{path}.{field}");
    problems.judge(at("image"), text::image(&spec.image));
    let local = spec.image.starts_with("sha256:");
    problems.ensure(!(local && spec.pull == PullPolicy::Always), at("pull"), || {
        "an image id cannot be pulled; write pull: missing or never, or name the image".into()
    });
    words(problems, &at("command"), &spec.command);
    words(problems, &at("args"), &spec.args);
    env(problems, &at("env"), &spec.env);
    labels(problems, &at("labels"), &spec.labels);
    for key in spec.labels.keys().filter(|key| key.starts_with("orch.")) {
        problems.add(at("labels"), format!("{}: labels that begin with orch. are ours", text::quote(key)));
    }
    if let Some(user) = &spec.user {
        problems.judge(at("user"), text::user(user));
    }
    if let Some(workdir) = &spec.workdir {
        problems.judge(at("workdir"), text::absolute_path(workdir));
    }
    if let Some(name) = &spec.hostname {
        problems.judge(at("hostname"), hostname(name, service));
    }
    mounts(problems, &at("mounts"), &spec.mounts);
    ports(problems, &at("ports"), &spec.ports);
    resources(problems, &at("resources"), &spec.resources);
    if let Some(check) = &spec.healthcheck {
        healthcheck(problems, &at("healthcheck"), check);
    }
    probes(problems, &at("probes"), &spec.probes);
    if let Some(signal) = &spec.stop_signal {
        problems.judge(at("stop_signal"), text::signal(signal));
    }
    at_most(
        problems,
        path,
        &[("stop_grace", spec.stop_grace(), MAX_GRACE), ("drain", spec.drain(), MAX_GRACE)],
    );
    networks(problems, &at("networks"), &spec.networks);
    ulimits(problems, &at("ulimits"), &spec.ulimits);
    log(problems, &at("log"), &spec.log);
    security(problems, &at("security"), spec);
    files(problems, path, spec);
    signatures(problems, &at("signatures"), &spec.signatures);
}

fn signatures(problems: &mut Problems, path: &str, signatures: &[ImageSignature]) {
    problems.at_most(signatures.len(), MAX_SIGNATURES, path, "signatures");
    for (position, signature) in signatures.iter().enumerate() {
        let path = format!("{path}[{position}]");
        let small = signature.payload.len() <= MAX_PAYLOAD && signature.signature.len() <= MAX_ENCODED;
        problems.ensure(small, &path, || {
            format!("a payload has at most {MAX_PAYLOAD} bytes, and its signature {MAX_ENCODED}")
        });
        let Some(certified) = &signature.certified else { continue };
        let small = certified.certificate.len() <= MAX_CERTIFICATE && certified.entry.len() <= MAX_ENTRY;
        problems.ensure(small, format!("{path}.certified"), || {
            format!("a certificate has at most {MAX_CERTIFICATE} bytes, and the log's entry {MAX_ENTRY}")
        });
        identity(problems, &format!("{path}.certified.by"), &certified.by);
    }
    let bytes = signatures.iter().map(ImageSignature::bytes).sum::<usize>();
    problems.ensure(bytes <= MAX_SIGNED_BYTES, path, || {
        format!("signatures have {bytes} bytes; at most {MAX_SIGNED_BYTES} are allowed")
    });
}

pub(super) fn words(problems: &mut Problems, path: &str, words: &[String]) {
    problems.at_most(words.len(), MAX_WORDS, path, "words");
    problems.ensure(words.iter().all(|word| !word.contains('\0')), path, || {
        "a word may not contain a zero byte".into()
    });
    let is_command = path.ends_with(".command");
    problems.ensure(!is_command || words.first().is_none_or(|word| !word.is_empty()), path, || {
        "the first word names the program; leave the list out for the image's own".into()
    });
}

fn env(problems: &mut Problems, path: &str, env: &BTreeMap<String, String>) {
    problems.at_most(env.len(), MAX_ENV, path, "variables");
    for (name, value) in env {
        problems.judge(path, text::env_name(name));
        let path = format!("{path}.{name}");
        problems.ensure(value.len() <= MAX_ENV_VALUE && !value.contains('\0'), &path, || {
            format!("a value has at most {MAX_ENV_VALUE} bytes and no zero byte; mount a file for more")
        });
        // Braces that do not look like ours belong to the program.
        let ours = |template: &&str| {
            ["{{.Service.", "{{.Task.", "{{.Node."].iter().any(|prefix| template.starts_with(prefix))
        };
        if let Some(template) = text::unknown_template(value).filter(ours) {
            problems.add(&path, unknown(template));
        }
    }
}

fn hostname(name: &str, service: &str) -> Result<(), String> {
    if let Some(template) = text::unknown_template(name) {
        return Err(unknown(template));
    }
    let longest = ["10000", "0000000000000", "host", "0000000000000"];
    let values = std::iter::once(service).chain(longest);
    let filled = text::TEMPLATES
        .iter()
        .zip(values)
        .fold(name.to_owned(), |name, (template, value)| name.replace(template, value));
    text::host_name(&filled)?;
    let length = filled.len();
    (length <= MAX_HOSTNAME)
        .then_some(())
        .ok_or_else(|| format!("{length} bytes when filled in; a host name has at most {MAX_HOSTNAME}"))
}

fn unknown(template: &str) -> String {
    format!("{} is not filled in; known are {}", text::quote(template), text::TEMPLATES.join(" "))
}

fn mounts(problems: &mut Problems, path: &str, mounts: &[Mount]) {
    problems.at_most(mounts.len(), MAX_MOUNTS, path, "mounts");
    let mut targets = BTreeSet::new();
    for (position, mount) in mounts.iter().enumerate() {
        let path = format!("{path}[{position}]");
        let target = text::normal_path(&mount.target);
        problems.judge(format!("{path}.target"), text::absolute_path(&mount.target));
        problems.ensure(target != "/", format!("{path}.target"), || {
            "nothing can be mounted over the root; mount on a directory in it".into()
        });
        match &mount.source {
            MountSource::Bind(source) => {
                problems.judge(format!("{path}.source"), text::absolute_path(source))
            }
            MountSource::Volume(name) => problems.judge(format!("{path}.source"), text::volume_name(name)),
            MountSource::Tmpfs { mode, .. } => {
                problems.ensure(*mode <= 0o7777, format!("{path}.source.mode"), || {
                    format!("{mode:o} is no mode; write an octal number such as 1777")
                });
            }
        }
        problems.ensure(targets.insert(target), format!("{path}.target"), || {
            format!("{} is mounted on twice", text::quote(&mount.target))
        });
    }
}

fn ports(problems: &mut Problems, path: &str, ports: &[PortSpec]) {
    problems.at_most(ports.len(), MAX_PORTS, path, "ports");
    let (mut published, mut chosen) = (BTreeMap::new(), BTreeSet::new());
    for (position, port) in ports.iter().enumerate() {
        let path = format!("{path}[{position}]");
        problems.ensure(port.target != 0, format!("{path}.target"), || "0; write 1 to 65535".into());
        if port.published == 0 {
            problems.ensure(chosen.insert((port.target, port.protocol)), &path, || {
                format!("port {} is listed twice", port.target)
            });
        } else if let Some(first) = published.insert((port.published, port.protocol), position) {
            problems.add(
                format!("{path}.published"),
                format!("host port {} is published by ports[{first}] already; each once", port.published),
            );
        }
    }
}

fn networks(problems: &mut Problems, path: &str, networks: &[String]) {
    problems.at_most(networks.len(), MAX_NETWORKS, path, "networks");
    let mut seen = BTreeSet::new();
    for (position, name) in networks.iter().enumerate() {
        let path = format!("{path}[{position}]");
        problems.judge(&path, text::dns_label(name));
        problems.ensure(seen.insert(name), &path, || format!("{} is listed twice", text::quote(name)));
    }
}

fn healthcheck(problems: &mut Problems, path: &str, check: &Healthcheck) {
    let words: Vec<&str> = check.test.iter().map(String::as_str).collect();
    let right = match words[..] {
        [] | ["NONE"] => true,
        ["CMD", program, ..] => !program.is_empty(),
        ["CMD-SHELL", line] => !line.trim().is_empty(),
        _ => false,
    };
    problems.ensure(right, format!("{path}.test"), || {
        r#"write ["CMD", PROGRAM, ARGUMENT…], ["CMD-SHELL", LINE], or ["NONE"] to turn the image's check off"#.into()
    });
    problems.ensure(words.iter().all(|word| !word.contains('\0')), format!("{path}.test"), || {
        "a word may not contain a zero byte".into()
    });
    problems.at_most(words.len(), MAX_WORDS, format!("{path}.test"), "words");
    let spans = [
        ("interval", check.interval, DAY),
        ("timeout", check.timeout, DAY),
        ("start_period", check.start_period, DAY),
    ];
    at_most(problems, path, &spans);
    for (name, span, _) in spans {
        problems.ensure(span.is_zero() || span >= Duration::from_millis(1), format!("{path}.{name}"), || {
            format!("{span:?}; the engine knows nothing below 1 ms")
        });
    }
    problems.ensure(check.retries <= MAX_RETRIES, format!("{path}.retries"), || {
        format!("{}; write at most {MAX_RETRIES}", check.retries)
    });
}

/// Bytes of all texts.
pub(super) fn container_bytes(spec: &ContainerSpec) -> usize {
    let list = |words: &[String]| words.iter().map(String::len).sum::<usize>();
    let option = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let mounts = spec.mounts.iter().map(|mount| {
        let source = match &mount.source {
            MountSource::Bind(text) | MountSource::Volume(text) => text.len(),
            MountSource::Tmpfs { .. } => 0,
        };
        source + mount.target.len()
    });
    spec.image.len()
        + list(&spec.command)
        + list(&spec.args)
        + labels_bytes(&spec.env)
        + labels_bytes(&spec.labels)
        + [&spec.user, &spec.workdir, &spec.hostname, &spec.stop_signal]
            .into_iter()
            .map(option)
            .sum::<usize>()
        + mounts.sum::<usize>()
        + list(&spec.networks)
        + spec.healthcheck.as_ref().map_or(0, |check| list(&check.test))
        + probes_bytes(&spec.probes)
        + security_bytes(&spec.security)
        + files_bytes(spec)
}
