//! What of an HTTP request decides where it goes: its host, its path, its cookies.

/// How particularly a route names a host; the greater is the more particular.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostMatch {
    /// The route takes any host.
    Any,
    /// By `*.example.org`.
    Child,
    /// By its name.
    Exact,
}

/// How a request's host (without port, any case) matches a route's hosts; `None`: not at all.
pub fn host_match(host: &str, hosts: &[String]) -> Option<HostMatch> {
    if hosts.is_empty() {
        return Some(HostMatch::Any);
    }
    let rank = |pattern: &String| match pattern.strip_prefix("*.") {
        Some(parent) => is_child(host, parent).then_some(HostMatch::Child),
        None => host.eq_ignore_ascii_case(pattern).then_some(HostMatch::Exact),
    };
    hosts.iter().filter_map(rank).max()
}

fn is_child(host: &str, parent: &str) -> bool {
    let Some(cut) = host.len().checked_sub(parent.len()) else { return false };
    let is_parent = host.get(cut..).is_some_and(|end| end.eq_ignore_ascii_case(parent));
    cut > 1 && is_parent && host.as_bytes()[cut - 1] == b'.'
}

/// Whether a path is another one or lies below it: `/ispyb` has `/ispyb` and `/ispyb/x`, and not `/ispybx`.
pub fn path_lies_under(path: &str, parent: &str) -> bool {
    let parent = parent.strip_suffix('/').unwrap_or(parent);
    path.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The host of `host:port`, `[v6]:port` or a bare host.
pub fn without_port(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map_or(authority, |(host, _)| host);
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

/// A cookie's value in a Cookie header.
pub fn cookie<'a>(header: &'a str, name: &str) -> Option<&'a str> {
    header.split(';').find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name).then_some(value)
    })
}

/// The Set-Cookie that keeps a client with its replica until it closes its browser.
pub fn set_cookie(name: &str, value: &str, path: &str, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{name}={value}; Path={path}; HttpOnly; SameSite=Lax{secure}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_ends_at_a_slash_and_not_within_a_word() {
        assert!(path_lies_under("/ispyb", "/ispyb") && path_lies_under("/ispyb/rest", "/ispyb"));
        assert!(!path_lies_under("/ispybx", "/ispyb") && !path_lies_under("/", "/ispyb"));
        assert!(path_lies_under("/anything", "/") && path_lies_under("/ispyb/rest", "/ispyb/"));
    }

    #[test]
    fn an_exact_host_is_more_than_a_child_and_a_child_is_no_sibling() {
        let hosts = ["*.example.org".to_owned(), "www.example.org".to_owned()];
        assert_eq!(host_match("WWW.example.org", &hosts), Some(HostMatch::Exact));
        assert_eq!(host_match("x.example.org", &hosts), Some(HostMatch::Child));
        assert_eq!(host_match("example.org", &hosts), None);
        assert_eq!(host_match("badexample.org", &hosts), None);
        assert_eq!(host_match("anything", &[]), Some(HostMatch::Any));
    }

    #[test]
    fn a_port_is_no_part_of_a_host() {
        assert_eq!(without_port("a.b:80"), "a.b");
        assert_eq!(without_port("[::1]:80"), "::1");
        assert_eq!(without_port("a.b"), "a.b");
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        assert_eq!(cookie("JSESSIONID=1.a; orch_x=abc", "orch_x"), Some("abc"));
        assert_eq!(cookie("xorch_x=abc; orch_xy=1", "orch_x"), None);
    }
}
