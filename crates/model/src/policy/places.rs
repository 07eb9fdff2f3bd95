//! Places of a node whose owner owns the node: who may read or write them needs a grant.
//!
//! Managers judge the path that is declared; an agent judges, by the same list, where it leads there, since only the node knows its
//! symbolic links. The list is a part of how entries are applied: a longer one comes with a new field of the state that says from when
//! it holds, or managers of two versions would judge one entry differently.

/// The kernel's own files, the machine's secrets, the engines, ourselves.
const PLACES: [&str; 23] = [
    "/etc",
    "/proc",
    "/sys",
    "/dev",
    "/boot",
    "/root",
    "/run/containerd",
    "/run/crio",
    "/run/dbus",
    "/run/docker",
    "/run/docker.sock",
    "/run/orch",
    "/run/podman",
    "/run/systemd",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/lib/kubelet",
    "/var/lib/orch-agent",
    "/var/lib/orch-manager",
    "/var/lib/systemd",
    "/var/log/audit",
    "/var/spool/cron",
];
/// What the machine runs: everybody may read it.
const PROGRAMS: [&str; 7] = ["/bin", "/lib", "/lib32", "/lib64", "/opt/containerd", "/sbin", "/usr"];
/// What of [`PLACES`] everybody may read: containers often need it, and it holds no secret.
const READABLE: [&str; 14] = [
    "/etc/ca-certificates",
    "/etc/grid-security/certificates",
    "/etc/group",
    "/etc/hosts",
    "/etc/krb5.conf",
    "/etc/localtime",
    "/etc/machine-id",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki/ca-trust",
    "/etc/resolv.conf",
    "/etc/ssl/certs",
    "/etc/timezone",
    "/run/systemd/resolve",
];
/// Engines' sockets, wherever they are.
const SOCKETS: [&str; 4] = ["docker.sock", "containerd.sock", "podman.sock", "crio.sock"];

/// A path without what does not change its meaning: double slashes, `.`, `..`, a slash at the end; `/var/run` is `/run`.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if parts.starts_with(&["var", "run"]) {
        parts.remove(0);
    }
    if parts.is_empty() { "/".into() } else { parts.iter().flat_map(|part| ["/", part]).collect() }
}

/// Whether a clean path is a clean place or lies in it.
pub fn is_under(path: &str, place: &str) -> bool {
    place == "/" || path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The place that a [clean](clean) path leads into, or holds; `None`: it needs no grant.
pub fn protected(path: &str, read_only: bool) -> Option<&'static str> {
    if read_only && READABLE.iter().any(|place| is_under(path, place)) {
        return None;
    }
    let file = path.rsplit('/').next().unwrap_or_default();
    if let Some(socket) = SOCKETS.iter().find(|socket| **socket == file) {
        return Some(socket);
    }
    let meets = |place: &&&str| is_under(path, place) || is_under(place, path);
    let found = PLACES.iter().find(meets);
    found.or_else(|| PROGRAMS.iter().filter(|_| !read_only).find(meets)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_write_a_path_are_one_path() {
        for (written, clean_path) in [
            ("/data/", "/data"),
            ("//var/run//docker.sock", "/run/docker.sock"),
            ("/srv/../etc/./shadow", "/etc/shadow"),
            ("/../..", "/"),
            ("/var/running", "/var/running"),
        ] {
            assert_eq!(clean(written), clean_path);
        }
    }

    #[test]
    fn places_that_own_the_node_are_told_from_data() {
        let refused = [
            "/",
            "/etc",
            "/etc/shadow",
            "/proc/1",
            "/sys",
            "/dev/mem",
            "/var",
            "/var/lib",
            "/run",
            "/var/lib/docker/x",
            "/run/docker.sock",
            "/srv/x/docker.sock",
            "/run/containerd/containerd.sock",
            "/var/lib/orch-agent",
            "/root/.ssh",
        ];
        for path in refused {
            assert!(protected(path, true).is_some(), "{path}");
        }
        for path in
            ["/data", "/srv/etc", "/home/ann", "/var/lib/mysql", "/var/log/app", "/etcetera", "/run/munge"]
        {
            assert_eq!(protected(path, false), None, "{path}");
        }
        for path in ["/etc/localtime", "/etc/ssl/certs", "/usr/share/zoneinfo", "/etc/passwd"] {
            assert_eq!(protected(path, true), None, "{path}");
            assert!(protected(path, false).is_some(), "{path}, to write");
        }
    }
}
