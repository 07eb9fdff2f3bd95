//! Published ports of services, and networks.

use std::time::Duration;

use super::{
    Problem, Problems,
    service::{at_most, labels},
    text,
};
use crate::{
    container::{PortSpec, Protocol},
    network::NetworkSpec,
    route::{HttpPort, IngressPort, VIRTUAL_PORT},
};

/// Published ports of one service, counting each host and path.
const MAX_PORTS: usize = 100;
/// Hosts of one port.
const MAX_HOSTS: usize = 32;
/// Patterns for the access log of one port, and the bytes of one.
const MAX_MASKS: usize = 32;
const MAX_MASK: usize = 256;
/// Fewer of the requests are as good as none.
const MAX_LOG: u32 = 1_000_000;
/// Whoever waits longer than this for an answer to begin has gone.
const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

pub(super) fn ports(problems: &mut Problems, path: &str, ports: &[IngressPort], own: &[PortSpec]) {
    problems.at_most(ports.len(), MAX_PORTS, path, "ports");
    for (position, port) in ports.iter().enumerate() {
        let path = format!("{path}[{position}]");
        for (field, number) in [("published", port.published), ("target", port.target)] {
            problems.ensure(number != 0, format!("{path}.{field}"), || "0; write 1 to 65535".into());
        }
        problems.ensure(port.published != VIRTUAL_PORT, format!("{path}.published"), || {
            format!("{VIRTUAL_PORT} is where every node takes connections to service names; choose another")
        });
        problems.ensure(
            port.http.is_none() || !port.proxy_protocol,
            format!("{path}.proxy_protocol"),
            || "only for TCP: HTTP requests name their client in X-Forwarded-For".into(),
        );
        if let Some(http) = &port.http {
            http_port(problems, &format!("{path}.http"), http);
        }
        if let Some(earlier) = ports[..position].iter().position(|earlier| earlier.clashes(port)) {
            problems.add(
                &path,
                format!("claims the same as ports[{earlier}]: each host and path of a port once"),
            );
        }
        let host = own.iter().any(|own| own.published == port.published && own.protocol == Protocol::Tcp);
        problems.ensure(!host, format!("{path}.published"), || {
            format!(
                "{} is published on the task's own node as well (template.container.ports)",
                port.published
            )
        });
    }
}

fn http_port(problems: &mut Problems, path: &str, http: &HttpPort) {
    problems.at_most(http.hosts.len(), MAX_HOSTS, format!("{path}.hosts"), "hosts");
    for (position, host) in http.hosts.iter().enumerate() {
        let name = host.strip_prefix("*.").unwrap_or(host);
        let path = format!("{path}.hosts[{position}]");
        problems.judge(&path, text::host_name(name));
        problems.ensure(name.to_ascii_lowercase() == *name, path, || "write it in lower case".into());
    }
    let good = http.path.starts_with('/')
        && http.path.len() <= 1024
        && (http.path == "/" || !http.path.ends_with('/'))
        && http
            .path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'"' | b';'));
    problems.ensure(good, format!("{path}.path"), || {
        format!("{} is no path such as / or /ispyb (without / at its end)", text::quote(&http.path))
    });
    let spans = [("try_timeout", http.try_timeout, MAX_TIMEOUT), ("timeout", http.timeout, MAX_TIMEOUT)];
    at_most(problems, path, &spans);
    for (field, span, _) in spans {
        problems.ensure(span >= Duration::from_millis(10), format!("{path}.{field}"), || {
            format!("{span:?}; at least 10 ms")
        });
    }
    problems.ensure(http.try_timeout <= http.timeout, format!("{path}.try_timeout"), || {
        format!("{:?} is longer than timeout, {:?}, which all tries share", http.try_timeout, http.timeout)
    });
    problems.ensure(http.log <= MAX_LOG, format!("{path}.log"), || {
        format!("one of {} requests; write off, all, or 1/2 to 1/{MAX_LOG}", http.log)
    });
    problems.at_most(http.log_mask.len(), MAX_MASKS, format!("{path}.log_mask"), "patterns");
    for (position, mask) in http.log_mask.iter().enumerate() {
        problems.ensure(is_mask(mask), format!("{path}.log_mask[{position}]"), || {
            format!(
                "{} is no pattern such as rest/* or /api/*/keys/*: whole segments are *",
                text::quote(mask)
            )
        });
    }
    if let Some(tls) = &http.tls {
        problems.judge(format!("{path}.tls.certificate"), text::absolute_path(&tls.certificate));
        problems.judge(format!("{path}.tls.key"), text::absolute_path(&tls.key));
    }
}

/// Segments between slashes, some of which are `*` as a whole.
fn is_mask(mask: &str) -> bool {
    let mut segments = mask.strip_prefix('/').unwrap_or(mask).split('/');
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#' | b'%' | b';');
    mask.len() <= MAX_MASK
        && segments.clone().any(|segment| segment == "*")
        && segments.all(|segment| {
            !segment.is_empty() && (segment == "*" || !segment.contains('*') && segment.bytes().all(is_plain))
        })
}

/// Bytes of all texts.
pub(super) fn ports_bytes(ports: &[IngressPort]) -> usize {
    let http = ports.iter().filter_map(|port| port.http.as_ref());
    http.map(|http| {
        let tls = http.tls.as_ref().map_or(0, |tls| tls.certificate.len() + tls.key.len());
        let texts = http.hosts.iter().chain(&http.log_mask);
        texts.map(String::len).sum::<usize>() + http.path.len() + tls
    })
    .sum()
}

/// All that is wrong with a network's declaration.
pub fn validate_network(spec: &NetworkSpec) -> Vec<Problem> {
    let mut problems = Problems::default();
    problems.judge("name", text::dns_label(&spec.name));
    problems.ensure(!matches!(&*spec.name, "host" | "none" | "bridge" | "default"), "name", || {
        format!("{} is a network of the engine's own; choose another name", text::quote(&spec.name))
    });
    labels(&mut problems, "labels", &spec.labels);
    problems.0
}
