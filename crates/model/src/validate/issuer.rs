//! Issuers, deploy bindings and ID tokens.

use super::{
    Problems,
    cluster::{MAX_AUTHORITY, granted},
    text,
};
use crate::{
    binding::{BindingSpec, ExchangeRequest},
    issuer::IssuerSpec,
};

/// Bytes of an issuer's URL and of an audience.
const MAX_URL: usize = 256;
/// Bytes of a branch's, tag's or environment's name: more than git and GitLab take.
const MAX_REF: usize = 255;
/// Bytes of an ID token; `idtoken` reads no more.
const MAX_ID_TOKEN: usize = 16 << 10;

pub(super) fn validate_issuer(problems: &mut Problems, spec: &IssuerSpec) {
    problems.judge("name", text::dns_label(&spec.name));
    problems.ensure(is_url(&spec.url), "url", || {
        format!(
            "{} is no issuer: write its tokens' iss, to the letter, such as https://gitlab.example",
            text::quote(&spec.url)
        )
    });
    one_line(problems, "audience", &spec.audience, MAX_URL);
    if let Some(authority) = &spec.authority {
        let right = authority.len() <= MAX_AUTHORITY && authority.contains("-----BEGIN CERTIFICATE-----");
        problems.ensure(right, "authority", || {
            format!("no PEM certificates, or more than {MAX_AUTHORITY} bytes of them")
        });
    }
}

pub(super) fn validate_binding(problems: &mut Problems, spec: &BindingSpec) {
    granted(problems, &spec.grant());
    problems.judge("issuer", text::dns_label(&spec.issuer));
    for (path, id) in [("project_id", Some(spec.project_id)), ("job_project_id", spec.job_project_id)] {
        problems.ensure(id != Some(0), path, || "write the project's number, as GitLab shows it".into());
    }
    one_line(problems, "ref", &spec.ref_name, MAX_REF);
    problems.ensure(
        !spec.ref_name.contains(['*', '?', '[']) && !spec.ref_name.starts_with("refs/"),
        "ref",
        || {
            "write one branch or tag as it is called, such as main: no pattern, and without refs/heads/"
                .into()
        },
    );
    spec.environment.iter().for_each(|name| one_line(problems, "environment", name, MAX_REF));
}

/// What a problem says of an ID token is that it is wrong, never what it is.
pub(super) fn validate_exchange(problems: &mut Problems, exchange: &ExchangeRequest) {
    let length = exchange.id_token.reveal().len();
    problems.ensure(length <= MAX_ID_TOKEN, "id_token", || {
        format!("it has {length} bytes; at most {MAX_ID_TOKEN} are read")
    });
    exchange.binding.iter().for_each(|name| problems.judge("binding", text::dns_label(name)));
}

fn one_line(problems: &mut Problems, path: &str, text: &str, most: usize) {
    let right = (1..=most).contains(&text.len()) && !text.contains(char::is_control);
    problems.ensure(right, path, || format!("it has 1 to {most} bytes on one line"));
}

/// `https`, a host, perhaps a port and a path; no login, query or fragment.
fn is_url(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://").filter(|_| url.len() <= MAX_URL) else { return false };
    let (authority, path) = rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
    let host = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    let step = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~/".contains(&byte);
    !authority.is_empty()
        && !authority.starts_with(':')
        && authority.bytes().all(host)
        && path.bytes().all(step)
        && !path.split('/').any(|part| part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Request;

    #[test]
    fn issuers_are_https_and_named_to_the_letter() {
        for url in ["https://gitlab.example", "https://[::1]:8443/", "https://sso.example/realms/mx"] {
            assert!(is_url(url), "{url}");
        }
        for url in [
            "",
            "http://gitlab.example",
            "https://",
            "https://a@b",
            "https://a?b",
            "https://a/../b",
            "https://:1",
        ] {
            assert!(!is_url(url), "{url}");
        }
    }

    #[test]
    fn every_wrong_field_of_a_binding_is_named() {
        let spec = BindingSpec {
            ref_name: "release/*".into(),
            environment: Some(String::new()),
            ..BindingSpec::default()
        };
        let problems = super::super::validate_request(&Request::CreateBinding(Box::new(spec)));
        let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(
            paths,
            ["name", "service", "image", "allow", "issuer", "project_id", "ref", "environment"]
        );
    }
}
