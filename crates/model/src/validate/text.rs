//! The forms of names, paths and references. Each check says what would be right.

use crate::access::MAX_USER_NAME;

/// A path of the host or of a container: the kernel's own bound.
const MAX_PATH: usize = 4096;
/// A DNS label.
const MAX_LABEL: usize = 63;
/// A DNS name.
const MAX_NAME: usize = 253;
/// A whole image name without tag and digest.
const MAX_IMAGE: usize = 255;
/// A label's key.
const MAX_KEY: usize = 128;

/// A text in a message: quoted, cut, on one line.
pub(super) fn quote(text: &str) -> String {
    let shown: String = text.chars().take(64).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("{shown:?}{more}")
}

/// A DNS label: `a-z`, `0-9` and `-`, not at an end.
pub(super) fn dns_label(text: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let good = (1..=MAX_LABEL).contains(&text.len())
        && text.bytes().all(fits)
        && !text.starts_with('-')
        && !text.ends_with('-');
    good.then_some(()).ok_or_else(|| {
        let text = quote(text);
        format!("{text} is no DNS label; write 1 to {MAX_LABEL} of a-z, 0-9 and -, without - at the ends")
    })
}

/// A host's name: DNS labels with dots between them; upper case is taken as lower case.
pub(super) fn host_name(text: &str) -> Result<(), String> {
    let lower = text.to_ascii_lowercase();
    let good = text.len() <= MAX_NAME && lower.split('.').all(|label| dns_label(label).is_ok());
    good.then_some(()).ok_or_else(|| {
        format!("{} is no host name; write labels of a-z, 0-9 and - with dots between", quote(text))
    })
}

/// `host:port`, where a host is a name, an IPv4 address, or an IPv6 address in brackets.
pub(super) fn address(text: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{} is no address: {why}; write HOST:PORT", quote(text)));
    let Some((host, port)) = text.rsplit_once(':') else { return wrong("it has no port") };
    if !port.parse::<u16>().is_ok_and(|port| port != 0) || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return wrong("its port is not in 1-65535");
    }
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => Ok(()),
        Some(_) => wrong("what is in the brackets is no IPv6 address"),
        None if host_name(host).is_ok() => Ok(()),
        None => wrong("its host is neither a name nor an IP address (IPv6 in brackets)"),
    }
}

/// An absolute path without `..`.
pub(super) fn absolute_path(text: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{} {why}", quote(text)));
    if !text.starts_with('/') {
        return wrong("is not absolute; begin it with /");
    }
    if text.len() > MAX_PATH {
        return wrong(&format!("is longer than {MAX_PATH} bytes"));
    }
    if text.contains('\0') || text.split('/').any(|part| part == "..") {
        return wrong("may contain neither .. nor a zero byte; write the path that it stands for");
    }
    Ok(())
}

/// A path without what does not change its meaning: double slashes, `.`, a slash at the end.
pub(super) fn normal_path(text: &str) -> String {
    let parts = text.split('/').filter(|part| !part.is_empty() && *part != ".");
    let path: String = parts.flat_map(|part| ["/", part]).collect();
    if path.is_empty() { "/".into() } else { path }
}

/// A name of a volume.
pub(super) fn volume_name(text: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let good = (2..=MAX_KEY).contains(&text.len())
        && text.bytes().all(fits)
        && text.as_bytes()[0].is_ascii_alphanumeric();
    good.then_some(()).ok_or_else(|| {
        let text = quote(text);
        format!("{text} is no volume name; write 2 to {MAX_KEY} of letters, digits, _ . and -, a letter or digit first")
    })
}

/// The name of a secret or config: what Docker takes for one.
pub(super) fn item_name(text: &str) -> Result<(), String> {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let bytes = text.as_bytes();
    let good =
        (1..=64).contains(&text.len()) && text.bytes().all(fits) && ends(bytes.first()) && ends(bytes.last());
    good.then_some(()).ok_or_else(|| {
        format!(
            "{} is no name; write 1 to 64 of letters, digits, _ . and -, a letter or digit at both ends",
            quote(text)
        )
    })
}

/// The name of an environment variable.
pub(super) fn env_name(text: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'=';
    let good = (1..=256).contains(&text.len()) && text.bytes().all(fits);
    good.then_some(())
        .ok_or_else(|| format!("{} is no variable's name; write letters, digits and _", quote(text)))
}

/// The key of a label.
pub(super) fn label_key(text: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'/');
    let good = (1..=MAX_KEY).contains(&text.len()) && text.bytes().all(fits);
    good.then_some(()).ok_or_else(|| {
        format!("{} is no label; write 1 to {MAX_KEY} of letters, digits, . _ - and /", quote(text))
    })
}

/// The name of a user of the cluster: it stands in a certificate's URI.
pub(super) fn user_name(text: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'@');
    let good = (1..=MAX_USER_NAME).contains(&text.len())
        && text.bytes().all(fits)
        && text.starts_with(|letter: char| letter.is_ascii_alphanumeric());
    good.then_some(()).ok_or_else(|| {
        format!(
            "{} is no user's name; write 1 to {MAX_USER_NAME} of letters, digits, . _ - and @, beginning with a letter or digit",
            quote(text)
        )
    })
}

/// `user`, `uid`, `user:group` or `uid:gid`.
pub(super) fn user(text: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'$' | b'@');
    let part = |text: &str| {
        let number = text.bytes().all(|byte| byte.is_ascii_digit());
        (1..=64).contains(&text.len()) && text.bytes().all(fits) && (!number || text.parse::<u32>().is_ok())
    };
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    (part(user) && group.is_none_or(part))
        .then_some(())
        .ok_or_else(|| format!("{} is no user; write USER, UID, USER:GROUP or UID:GID", quote(text)))
}

/// An image: `[HOST[:PORT]/]NAME[:TAG][@sha256:HEX]`, or `sha256:HEX` for an image id.
pub(super) fn image(text: &str) -> Result<(), String> {
    let wrong = |why: String| Err(format!("{} is no image: {why}", quote(text)));
    if text.is_empty() {
        return Err("an image is needed, such as registry.example.org/team/app:1.2".into());
    }
    if text.starts_with("sha256:") {
        return digest(text).or_else(wrong);
    }
    let (rest, pinned) = text.split_once('@').map_or((text, None), |(rest, digest)| (rest, Some(digest)));
    if let Some(Err(why)) = pinned.map(digest) {
        return wrong(why);
    }
    let (name, tag) = split_tag(rest);
    if let Some(Err(why)) = tag.map(image_tag) {
        return wrong(why);
    }
    if name.len() > MAX_IMAGE {
        return wrong(format!("its name is longer than {MAX_IMAGE} bytes"));
    }
    let (host, path) = split_registry(name);
    if host.is_some_and(|host| !is_registry(host)) {
        return wrong("its registry is no HOST or HOST:PORT".into());
    }
    if !path.split('/').all(is_image_part) {
        return wrong(
            "its name has parts of a-z and 0-9 with . _ __ or - between, and / between parts".into(),
        );
    }
    Ok(())
}

/// The name and the tag: a colon after the last slash.
pub(super) fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

/// What is before the first slash is a registry when it looks like a host.
fn split_registry(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), path),
        _ => (None, name),
    }
}

fn is_registry(host: &str) -> bool {
    host_name(host).is_ok() || address(host).is_ok()
}

fn is_image_part(part: &str) -> bool {
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let words = part.split(|c: char| !c.is_ascii() || !lower(c as u8));
    let between: Vec<&str> =
        part.split(|c: char| c.is_ascii() && lower(c as u8)).filter(|text| !text.is_empty()).collect();
    let separator = |text: &str| {
        matches!(text, "." | "_" | "__") || (!text.is_empty() && text.bytes().all(|byte| byte == b'-'))
    };
    let ends = part.bytes().next().is_some_and(lower) && part.bytes().last().is_some_and(lower);
    ends && words.count() > 0 && between.into_iter().all(separator)
}

/// A registry as images name it, in its one spelling.
pub(super) fn registry_host(host: &str) -> Result<(), String> {
    let wrong = |why: &str| Err(format!("{} is no registry: {why}", quote(host)));
    if crate::registry::canonical_host(host) != host {
        return wrong("images of it are docker.io's; write docker.io");
    }
    let named = host.contains(['.', ':']) || host == "localhost";
    if !named || !is_registry(host) {
        return wrong(
            "write HOST or HOST:PORT as images name it, such as registry.example or localhost:5000",
        );
    }
    Ok(())
}

fn image_tag(tag: &str) -> Result<(), String> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let good = (1..=128).contains(&tag.len())
        && tag.bytes().all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
        && tag.bytes().next().is_some_and(word);
    good.then_some(()).ok_or_else(|| {
        format!(
            "its tag {} is not 1 to 128 of letters, digits, _ . and -, beginning with a letter, digit or _",
            quote(tag)
        )
    })
}

fn digest(text: &str) -> Result<(), String> {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let good =
        text.strip_prefix("sha256:").is_some_and(|digits| digits.len() == 64 && digits.bytes().all(hex));
    good.then_some(()).ok_or_else(|| "its digest is not sha256: and 64 of 0-9 and a-f".to_owned())
}

/// A signal: `SIGTERM`, `TERM`, `SIGRTMIN+3` or a number.
pub(super) fn signal(text: &str) -> Result<(), String> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let number = |text: &str, bound: u8| {
        text.bytes().all(|byte| byte.is_ascii_digit())
            && text.parse::<u8>().is_ok_and(|number| number <= bound)
    };
    let offset = |from: &str, sign: char, bound: u8| {
        let rest = name.strip_prefix(from);
        rest.is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix(sign).is_some_and(|rest| number(rest, bound))
        })
    };
    let good = NAMES.contains(&name)
        || offset("RTMIN", '+', 15)
        || offset("RTMAX", '-', 14)
        || (text != "0" && number(text, 64));
    good.then_some(()).ok_or_else(|| {
        format!(
            "{} is no signal; write a name such as SIGTERM or SIGRTMIN+3, or a number of 1-64",
            quote(text)
        )
    })
}

/// The templates that an agent fills in.
pub(super) const TEMPLATES: [&str; 5] =
    ["{{.Service.Name}}", "{{.Task.Slot}}", "{{.Task.ID}}", "{{.Node.Hostname}}", "{{.Node.ID}}"];

/// The first thing in braces that no agent fills in.
pub(super) fn unknown_template(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        rest = &rest[start..];
        match TEMPLATES.iter().find(|known| rest.starts_with(**known)) {
            Some(known) => rest = &rest[known.len()..],
            None => return Some(rest.split_inclusive("}}").next().unwrap_or(rest)),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(of: fn(&str) -> Result<(), String>, right: &[&str], wrong: &[&str]) {
        for text in right {
            assert_eq!(of(text), Ok(()), "{text:?}");
        }
        for text in wrong {
            assert!(of(text).is_err(), "{text:?} passes");
        }
    }

    #[test]
    fn images_are_told_from_what_is_none() {
        let hex = "0123456789abcdef".repeat(4);
        let (pinned, id) = (format!("reg:5000/a/b:1@sha256:{hex}"), format!("sha256:{hex}"));
        check(
            image,
            &[
                "redis",
                "redis:7",
                "a/b",
                "host.org/a__b/c-d.e:1.2-x_Y",
                "localhost/a",
                "localhost:5000/a",
                &pinned,
                &id,
            ],
            &[
                "",
                "Redis",
                "a//b",
                "a/",
                "/a",
                "a:",
                "a b",
                "-a",
                "a-",
                "a..b",
                "a___b",
                "a:-x",
                "redis@sha256:12",
                "sha256:12",
                "host_x.org:1/a:b:c",
                "a.b:x/c",
                "é",
                "redis:7@",
                "http://host/a",
            ],
        );
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        check(
            address,
            &["m1:4400", "m1.site.org:1", "10.0.0.1:65535", "[::1]:4400"],
            &["m1", "m1:", ":4400", "m1:0", "m1:65536", "m1:+1", "::1:4400", "[m1]:1", "m 1:4400", "m1/x:1"],
        );
    }

    #[test]
    fn names_users_signals_and_paths_have_their_forms() {
        check(dns_label, &["a", "web-1", "1"], &["", "-a", "a-", "A", "a.b", "a_b", &"a".repeat(64)]);
        check(
            user,
            &["jboss", "1000", "1000:1000", "a:b"],
            &["", ":", "a:", ":b", "a:b:c", "4294967296", "a b"],
        );
        check(
            signal,
            &["SIGTERM", "TERM", "SIGRTMIN+3", "SIGRTMAX", "9"],
            &["", "SIG", "sigterm", "0", "65", "+9", "SIGRTMIN+16", "RTMIN-1", "RTMAX+1"],
        );
        check(absolute_path, &["/", "/a/b", "/a..b"], &["", "a", "./a", "/a/../b", "/a\0b"]);
        check(env_name, &["A", "java.opts", "_x1"], &["", "A=B", "A B", "\n"]);
        check(volume_name, &["data", "a.b_c-d"], &["", "a", "/a", "-ab", "a/b"]);
    }

    #[test]
    fn templates_that_nobody_fills_in_are_found() {
        assert_eq!(unknown_template("{{.Service.Name}}-{{.Task.Slot}}"), None);
        assert_eq!(unknown_template("a{{.Task.Slot}}{{.Task.Nmae}}b"), Some("{{.Task.Nmae}}"));
        assert_eq!(unknown_template("{{"), Some("{{"));
    }

    #[test]
    fn paths_are_compared_by_their_meaning() {
        assert_eq!(normal_path("//a/./b/"), "/a/b");
        assert_eq!(normal_path("/"), "/");
    }
}
