//! A container's probes.

use std::time::Duration;

use super::{
    Problems,
    container::words,
    service::at_most,
    text::{self, quote},
};
use crate::{
    container::ContainerSpec,
    probe::{Check, Diagnosis, DiagnosisBy, HttpCheck, Probe, Probes, pattern, ranges},
    service::{RestartCondition, RestartPolicy},
};

/// Probes are cheap, not free: nobody needs an answer ten times a second.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
const HOUR: Duration = Duration::from_secs(3600);
const MAX_COUNT: u32 = 1_000;
/// A container that is of no use any more runs on for so long at most.
const MAX_DIAGNOSIS: Duration = Duration::from_secs(60);
const MAX_HEADERS: usize = 32;
const MAX_PATH: usize = 2_048;
const MAX_EXPECTED: usize = 32;

pub(super) fn probes(problems: &mut Problems, path: &str, probes: &Probes) {
    let all =
        [("startup", &probes.startup), ("readiness", &probes.readiness), ("liveness", &probes.liveness)];
    for (name, probe) in all {
        if let Some(declared) = probe {
            one(problems, &format!("{path}.{name}"), declared);
        }
    }
    at_most(problems, path, &[("start_deadline", probes.start_deadline, 24 * HOUR)]);
    if let Some(declared) = &probes.diagnosis {
        diagnosis(problems, &format!("{path}.diagnosis"), declared);
    }
    problems.ensure(
        probes.start_deadline.is_zero() || probes.startup.is_some(),
        format!("{path}.start_deadline"),
        || "only a start-up probe has one; declare startup, or leave it out".into(),
    );
}

fn diagnosis(problems: &mut Problems, path: &str, diagnosis: &Diagnosis) {
    at_most(problems, path, &[("within", diagnosis.within, MAX_DIAGNOSIS)]);
    match &diagnosis.by {
        DiagnosisBy::Signal(signal) => problems.judge(format!("{path}.by.signal"), text::signal(signal)),
        DiagnosisBy::Exec(command) => program(problems, &format!("{path}.by.exec"), command),
    }
}

/// Probes that end an attempt need a policy that has another one follow.
pub(super) fn restarted(problems: &mut Problems, container: &ContainerSpec, restart: &RestartPolicy) {
    problems.ensure(
        container.probes.liveness.is_none() || restart.condition != RestartCondition::None,
        "template.container.probes.liveness",
        || {
            "a liveness probe restarts, and the restart condition is none; declare readiness, or a condition"
                .into()
        },
    );
}

fn one(problems: &mut Problems, path: &str, probe: &Probe) {
    let at = |field: &str| format!("{path}.{field}");
    at_most(problems, path, &[("interval", probe.interval, HOUR), ("timeout", probe.timeout, HOUR)]);
    for (name, span) in [("interval", probe.interval), ("timeout", probe.timeout)] {
        problems.ensure(span.is_zero() || span >= MIN_INTERVAL, at(name), || {
            format!("{span:?}; write at least {MIN_INTERVAL:?}")
        });
    }
    for (name, count) in [("failures", probe.failures), ("successes", probe.successes)] {
        problems.ensure(count <= MAX_COUNT, at(name), || format!("{count}; write at most {MAX_COUNT}"));
    }
    match &probe.check {
        Check::Http(http) => request(problems, &at("check.http"), http),
        Check::Tcp(number) => port(problems, &at("check.tcp"), *number),
        Check::Grpc(grpc) => {
            port(problems, &at("check.grpc.port"), grpc.port);
            problems.ensure(grpc.service.len() <= MAX_PATH, at("check.grpc.service"), || {
                format!("{} bytes; at most {MAX_PATH} are allowed", grpc.service.len())
            });
        }
        Check::Exec(command) => program(problems, &at("check.exec"), command),
    }
}

fn program(problems: &mut Problems, path: &str, command: &[String]) {
    words(problems, path, command);
    problems.ensure(command.first().is_some_and(|word| !word.is_empty()), path, || {
        "write the program and its arguments".into()
    });
}

fn port(problems: &mut Problems, path: &str, port: u16) {
    problems.ensure(port != 0, path, || "0; write the container's port, 1 to 65535".into());
}

fn request(problems: &mut Problems, path: &str, http: &HttpCheck) {
    let at = |field: &str| format!("{path}.{field}");
    port(problems, &at("port"), http.port);
    let target = &http.path;
    let fits = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    problems.ensure(target.is_empty() || (target.starts_with('/') && fits), at("path"), || {
        format!("{} is no path; write such as /health?full=1, with spaces as %20", quote(target))
    });
    problems.ensure(target.len() <= MAX_PATH, at("path"), || {
        format!("{} bytes; at most {MAX_PATH} are allowed", target.len())
    });
    let method = http.method.as_str();
    problems.ensure(matches!(method, "" | "GET" | "HEAD" | "POST" | "OPTIONS"), at("method"), || {
        format!("{} is not asked by probes; write GET, HEAD, POST or OPTIONS", quote(method))
    });
    problems.ensure(!(method == "HEAD" && http.reads_body()), at("method"), || {
        "the answer to HEAD has no body to look at".into()
    });
    problems.at_most(http.headers.len(), MAX_HEADERS, at("headers"), "headers");
    for (name, value) in &http.headers {
        let known = !name.is_empty() && name.bytes().all(is_token);
        problems.ensure(known, at("headers"), || format!("{} is no header's name", quote(name)));
        let clean = value.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
        problems
            .ensure(clean, at("headers"), || format!("{}: a value has no control characters", quote(name)));
    }
    if !http.status.is_empty() {
        problems.judge(at("status"), ranges(&http.status).map(drop));
    }
    for (name, expression) in [("body", &http.body), ("body_not", &http.body_not)] {
        if !expression.is_empty() {
            problems.judge(at(name), pattern(expression).map(drop));
        }
    }
    problems.at_most(http.json.len(), MAX_EXPECTED, at("json"), "expected values");
    for pointer in http.json.keys() {
        problems.ensure(pointer.is_empty() || pointer.starts_with('/'), at("json"), || {
            format!("{} is no JSON pointer such as /status", quote(pointer))
        });
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Bytes of all texts.
pub(super) fn probes_bytes(probes: &Probes) -> usize {
    let all = [&probes.startup, &probes.readiness, &probes.liveness];
    let diagnosis = probes.diagnosis.as_ref().map_or(0, |diagnosis| match &diagnosis.by {
        DiagnosisBy::Signal(signal) => signal.len(),
        DiagnosisBy::Exec(command) => command_bytes(command),
    });
    diagnosis + all.into_iter().flatten().map(|probe| check_bytes(&probe.check)).sum::<usize>()
}

fn check_bytes(check: &Check) -> usize {
    let pairs = |(key, value): (&String, &String)| key.len() + value.len();
    match check {
        Check::Http(http) => {
            http.path.len()
                + http.method.len()
                + http.status.len()
                + http.body.len()
                + http.body_not.len()
                + http.headers.iter().map(pairs).sum::<usize>()
                + http.json.iter().map(pairs).sum::<usize>()
        }
        Check::Tcp(_) => 0,
        Check::Grpc(grpc) => grpc.service.len(),
        Check::Exec(command) => command_bytes(command),
    }
}

fn command_bytes(command: &[String]) -> usize {
    command.iter().map(String::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(declared: Probes) -> Vec<String> {
        let mut problems = Problems::default();
        probes(&mut problems, "p", &declared);
        problems.0.into_iter().map(|problem| problem.path).collect()
    }

    fn ready(check: Check) -> Probes {
        Probes { readiness: Some(Probe::of(check)), ..Probes::default() }
    }

    #[test]
    fn what_is_wrong_with_a_probe_names_its_field() {
        let http = |http: HttpCheck| told(ready(Check::Http(HttpCheck { port: 80, ..http })));
        assert!(
            http(HttpCheck { path: "/a?b=c".into(), body: "^OK".into(), ..HttpCheck::default() }).is_empty()
        );
        let wrong = [
            (HttpCheck { path: "health".into(), ..HttpCheck::default() }, "path"),
            (HttpCheck { path: "/a b".into(), ..HttpCheck::default() }, "path"),
            (HttpCheck { method: "BREW".into(), ..HttpCheck::default() }, "method"),
            (HttpCheck { method: "HEAD".into(), body: "OK".into(), ..HttpCheck::default() }, "method"),
            (HttpCheck { status: "2xx".into(), ..HttpCheck::default() }, "status"),
            (HttpCheck { body_not: "(".into(), ..HttpCheck::default() }, "body_not"),
            (HttpCheck { json: [("status".into(), "UP".into())].into(), ..HttpCheck::default() }, "json"),
            (HttpCheck { headers: [("a b".into(), "c".into())].into(), ..HttpCheck::default() }, "headers"),
        ];
        for (check, field) in wrong {
            assert_eq!(http(check.clone()), [format!("p.readiness.check.http.{field}")], "{check:?}");
        }
        assert_eq!(told(ready(Check::Tcp(0))), ["p.readiness.check.tcp"]);
        assert_eq!(told(ready(Check::Exec(Vec::new()))), ["p.readiness.check.exec"]);
        let hasty = Probe { interval: Duration::from_millis(1), ..Probe::of(Check::Tcp(1)) };
        let deadline = Probes { liveness: Some(hasty), start_deadline: HOUR, ..Probes::default() };
        assert_eq!(told(deadline), ["p.liveness.interval", "p.start_deadline"]);
    }
}
