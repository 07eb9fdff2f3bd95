//! What is allowed and will hurt one night. A warning names the night.

use super::{
    Problem, Problems,
    text::{quote, split_tag},
};
use crate::{
    container::ContainerSpec,
    service::{ServiceSpec, UpdateOrder},
};

/// Warnings about a valid declaration.
pub fn lint_service(spec: &ServiceSpec) -> Vec<Problem> {
    let mut problems = Problems::default();
    let container = &spec.template.container;
    image(&mut problems, &container.image);
    if spec.job.is_none() {
        health(&mut problems, container);
    }
    java(&mut problems, container);
    stops(&mut problems, container);
    if spec.update.order == UpdateOrder::StartFirst {
        for (position, port) in container.ports.iter().enumerate().filter(|(_, port)| port.published != 0) {
            let message = format!(
                "host port {} is held by the old replica while the new one starts: start-first needs another node for \
                 every replica that it replaces",
                port.published
            );
            problems.add(format!("template.container.ports[{position}].published"), message);
        }
    }
    problems.0
}

/// What is still under way when the drain is over has the grace and no more.
fn stops(problems: &mut Problems, container: &ContainerSpec) {
    let (grace, drain) = (container.stop_grace(), container.drain());
    if grace < drain {
        problems.add(
            "template.container.stop_grace",
            format!("{grace:?} is shorter than the drain of {drain:?}: a request that outlasts the drain is cut sooner than it waited"),
        );
    }
}

fn image(problems: &mut Problems, image: &str) {
    if image.contains("sha256:") {
        return;
    }
    let says = match split_tag(image).1 {
        None => "no tag means latest, which",
        Some("latest") => "latest",
        Some(_) => return,
    };
    let message = format!(
        "{}: {says} is another build at every update, and nobody can tell which; name a version",
        quote(image)
    );
    problems.add("template.container.image", message);
}

fn health(problems: &mut Problems, container: &ContainerSpec) {
    let path = "template.container.healthcheck";
    if container.probes.readiness.is_some() || container.probes.liveness.is_some() {
        return;
    }
    match &container.healthcheck {
        None => problems.add(
            path,
            "none: unless the image has one, a process that hangs counts as healthy, and so does a bad update",
        ),
        Some(check) if check.test.first().is_some_and(|word| word == "NONE") => {
            problems.add(path, "turned off: a process that hangs counts as healthy, and so does a bad update");
        }
        Some(_) => {}
    }
}

/// The heap against the limit, and what happens when it is full: the two usual ends of a Java server.
fn java(problems: &mut Problems, container: &ContainerSpec) {
    let limit = container.resources.memory_limit;
    let mut heap = false;
    for (path, word) in words(container) {
        let Some(size) = word.strip_prefix("-Xmx").and_then(java_size) else { continue };
        heap = true;
        if limit != 0 && size >= limit {
            let message = format!(
                "-Xmx allows a heap of {size} bytes but the memory limit is {limit}: the kernel kills it before Java \
                 collects; leave a quarter of the limit to the rest of the process"
            );
            problems.add(path, message);
        }
    }
    let ends = |word: &str| matches!(word, "-XX:+ExitOnOutOfMemoryError" | "-XX:+CrashOnOutOfMemoryError");
    if heap && !words(container).any(|(_, word)| ends(word)) {
        problems.add(
            "template.container",
            "-Xmx without -XX:+ExitOnOutOfMemoryError: with a full heap Java lives on and answers nothing",
        );
    }
}

/// Every word that may reach a Java command line, with its place.
fn words(container: &ContainerSpec) -> impl Iterator<Item = (String, &str)> {
    let lists = [("command", &container.command), ("args", &container.args)];
    let listed = lists.into_iter().flat_map(|(name, list)| {
        list.iter()
            .enumerate()
            .map(move |(position, text)| (format!("template.container.{name}[{position}]"), text))
    });
    let env = container.env.iter().map(|(name, value)| (format!("template.container.env.{name}"), value));
    listed.chain(env).flat_map(|(path, text)| {
        let words = text.split_whitespace().map(|word| word.trim_matches(['"', '\'']));
        words.map(move |word| (path.clone(), word))
    })
}

/// `512m`, `2G`, `1073741824`.
fn java_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &*text[digits.len()..].to_ascii_lowercase() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}
