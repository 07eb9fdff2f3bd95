//! Login methods, and what somebody who logs in sends. What is wrong with a secret is said without it.

use std::time::Duration;

use super::{Problems, cluster::user, text};
use crate::login::{
    Directory, Dn, EVERYBODY, LogInRequest, LoginMethodSpec, MAX_LIFE, MAX_RULES, Oidc, Password, People,
    Proof, Provider, Search, user_name,
};

/// Names of entries, filters, URLs and claims.
const MAX_TEXT: usize = 1_024;
/// Room for a person's name beside it.
const MAX_METHOD: usize = 24;
/// A password; a directory's own bound is below it.
const MAX_PASSWORD: usize = 1_024;
/// An ID token that names hundreds of groups.
const MAX_TOKEN: usize = 32 << 10;
/// Certificates of authorities: a chain or two.
const MAX_AUTHORITY: usize = 32 << 10;
/// Scopes to ask for.
const MAX_SCOPES: usize = 16;
/// Where a name goes.
const USER: &str = "{user}";
/// Where the name of somebody's entry goes.
const ENTRY: &str = "{dn}";

pub(super) fn method(problems: &mut Problems, spec: &LoginMethodSpec, password: Option<&Password>) {
    problems.judge("name", text::dns_label(&spec.name));
    problems.ensure(spec.name.len() <= MAX_METHOD, "name", || {
        format!("it stands before every name that logs in: at most {MAX_METHOD} letters")
    });
    problems.ensure((Duration::from_secs(1)..=MAX_LIFE).contains(&spec.life), "life", || {
        format!("{:?}; a login holds for 1 s to 12 hours", spec.life)
    });
    problems.ensure(!spec.rules.is_empty(), "rules", || {
        "nobody would be let in: --role ROLE@GROUP, such as viewer@*".into()
    });
    problems.at_most(spec.rules.len(), MAX_RULES, "rules", "rules");
    for (place, rule) in spec.rules.iter().enumerate() {
        let path = format!("rules[{place}]");
        user(problems, Some(std::slice::from_ref(&rule.role)), None);
        short(problems, &path, &rule.group);
        let named = rule.group == EVERYBODY
            || matches!(spec.provider, Provider::Oidc(_))
            || Dn::parse(&rule.group).is_some();
        problems.ensure(named, &path, || {
            format!(
                "{} is no group of a directory; write its whole name, such as cn=admins,ou=groups,dc=example, or *",
                text::quote(&rule.group)
            )
        });
    }
    match &spec.provider {
        Provider::Ldap(spec) => directory(problems, spec),
        Provider::Oidc(spec) => issuer(problems, spec),
    }
    let (searches, length) = (spec.account().is_some(), password.map(|password| password.reveal().len()));
    problems.ensure(searches || length.is_none(), "password", || {
        "nobody searches with it: a password belongs to the account that searches a directory".into()
    });
    let good = length.is_some_and(|length| (1..=MAX_PASSWORD).contains(&length));
    problems.ensure(!searches || good, "password", || {
        format!("who searches has a password of 1 to {MAX_PASSWORD} bytes")
    });
}

fn directory(problems: &mut Problems, spec: &Directory) {
    let host = spec.url.strip_prefix("ldaps://").or_else(|| spec.url.strip_prefix("ldap://"));
    let good = host.is_some_and(|host| {
        let bare = text::address(&format!("{host}:1")).is_ok();
        bare || text::address(host).is_ok()
    });
    problems.ensure(good, "provider.url", || {
        format!(
            "{} is no directory; write ldaps://HOST[:PORT], or ldap://HOST[:PORT] for StartTLS",
            text::quote(&spec.url)
        )
    });
    authority(problems, spec.authority.as_deref());
    match &spec.people {
        People::At(template) => {
            short(problems, "provider.user_dn", template);
            problems.ensure(template.matches(USER).count() == 1, "provider.user_dn", || {
                format!(
                    "it has {USER} in it once, where the name goes, such as uid={USER},ou=people,dc=example"
                )
            });
            entry(problems, "provider.user_dn", &template.replace(USER, "x"));
        }
        People::Found { search: by, account } => {
            search(problems, "provider.search", by, &[USER]);
            entry(problems, "provider.account", account);
        }
    }
    if let Some(groups) = &spec.groups {
        search(problems, "provider.groups", groups, &[USER, ENTRY]);
    }
}

fn search(problems: &mut Problems, path: &str, search: &Search, wanted: &[&str]) {
    entry(problems, &format!("{path}.base"), &search.base);
    let path = format!("{path}.filter");
    short(problems, &path, &search.filter);
    let (open, close) = (search.filter.matches('(').count(), search.filter.matches(')').count());
    let form = search.filter.starts_with('(') && search.filter.ends_with(')') && open == close;
    problems.ensure(form, &path, || {
        format!("{} is no filter; write it in parentheses, such as (uid={USER})", text::quote(&search.filter))
    });
    problems.ensure(wanted.iter().any(|word| search.filter.contains(word)), &path, || {
        format!("it would fit everybody alike: it has {} in it", wanted.join(" or "))
    });
}

fn entry(problems: &mut Problems, path: &str, name: &str) {
    short(problems, path, name);
    problems.ensure(Dn::parse(name).is_some(), path, || {
        format!("{} names no entry; write it as ou=people,dc=example", text::quote(name))
    });
}

fn issuer(problems: &mut Problems, spec: &Oidc) {
    short(problems, "provider.url", &spec.url);
    let rest = spec.url.strip_prefix("https://").unwrap_or_default();
    let host = rest.split('/').next().unwrap_or_default();
    let named = text::address(host).is_ok() || text::address(&format!("{host}:1")).is_ok();
    let plain = !spec.url.contains(['?', '#', ' ', '@']);
    problems.ensure(named && plain, "provider.url", || {
        format!("{} is no issuer; write https://HOST[:PORT][/PATH] as its tokens say", text::quote(&spec.url))
    });
    authority(problems, spec.authority.as_deref());
    let words = [
        ("provider.client", &spec.client),
        ("provider.groups_claim", &spec.groups_claim),
        ("provider.name_claim", &spec.name_claim),
    ];
    for (path, word) in words {
        short(problems, path, word);
        problems.ensure(!word.is_empty(), path, || "it is empty".into());
    }
    problems.at_most(spec.scopes.len(), MAX_SCOPES, "provider.scopes", "scopes");
    for scope in &spec.scopes {
        let good = !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic());
        problems.ensure(good, "provider.scopes", || format!("{} is no scope", text::quote(scope)));
    }
}

fn authority(problems: &mut Problems, authority: Option<&str>) {
    let Some(authority) = authority else { return };
    let right = authority.len() <= MAX_AUTHORITY && authority.contains("-----BEGIN CERTIFICATE-----");
    problems.ensure(right, "provider.authority", || {
        format!("no PEM certificates, or more than {MAX_AUTHORITY} bytes of them")
    });
}

fn short(problems: &mut Problems, path: &str, text: &str) {
    problems.ensure(text.len() <= MAX_TEXT && !text.contains(char::is_control), path, || {
        format!("{} bytes; at most {MAX_TEXT} on one line", text.len())
    });
}

/// A password that is empty would be no proof: directories take it for a stranger's word and say yes (RFC 4513, 5.1.2).
pub(super) fn request(problems: &mut Problems, request: &LogInRequest) {
    problems.judge("method", text::dns_label(&request.method));
    match &request.proof {
        Proof::Password { user, password } => {
            problems.judge("user", user_name(&request.method, user).map(drop));
            problems.ensure((1..=MAX_PASSWORD).contains(&password.reveal().len()), "password", || {
                format!("it has 1 to {MAX_PASSWORD} bytes")
            });
        }
        Proof::IdToken(token) => {
            problems.ensure((1..=MAX_TOKEN).contains(&token.reveal().len()), "token", || {
                format!("an ID token has 1 to {MAX_TOKEN} bytes")
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> LoginMethodSpec {
        LoginMethodSpec {
            name: "ldap".into(),
            provider: Provider::Ldap(Box::new(Directory {
                url: "ldaps://ldap.example:636".into(),
                authority: None,
                people: People::At("uid={user},ou=people,dc=example".into()),
                groups: None,
            })),
            rules: vec!["viewer@*".parse().expect("a rule")],
            life: MAX_LIFE,
        }
    }

    fn directory_with(change: impl FnOnce(&mut Directory)) -> LoginMethodSpec {
        let mut spec = spec();
        let Provider::Ldap(directory) = &mut spec.provider else { panic!("a directory") };
        change(directory);
        spec
    }

    fn paths(spec: &LoginMethodSpec) -> Vec<String> {
        paths_with(spec, spec.account().map(|_| "x"))
    }

    fn paths_with(spec: &LoginMethodSpec, password: Option<&str>) -> Vec<String> {
        let mut problems = Problems::default();
        method(&mut problems, spec, password.map(Password::new).as_ref());
        problems.0.into_iter().map(|problem| problem.path).collect()
    }

    #[test]
    fn a_directory_is_reached_encrypted_or_not_at_all_and_its_templates_have_their_places() {
        assert_eq!(paths(&spec()), [""; 0]);
        assert_eq!(paths(&directory_with(|it| it.url = "ldap://[::1]".into())), [""; 0]);
        for url in ["http://x", "ldap.example", "ldaps://", "ldaps://a b", "ldaps://h/dc=x", "ldapi://x"] {
            assert_eq!(paths(&directory_with(|it| it.url = url.into())), ["provider.url"], "{url}");
        }
        for name in ["uid=ann,dc=x", "uid={user},cn={user}", "{user}"] {
            assert_eq!(
                paths(&directory_with(|it| it.people = People::At(name.into())))[0],
                "provider.user_dn"
            );
        }
        assert_eq!(paths(&searched("(uid={user})")), [""; 0]);
        for filter in ["uid={user}", "(uid=*)", "(uid={user}", "(uid={dn})"] {
            assert_eq!(paths(&searched(filter)), ["provider.search.filter"], "{filter}");
        }
    }

    fn searched(filter: &str) -> LoginMethodSpec {
        let search = Search { base: "dc=x".into(), filter: filter.into() };
        directory_with(|it| it.people = People::Found { search, account: "cn=orch,dc=x".into() })
    }

    #[test]
    fn the_account_that_searches_has_a_password_and_nobody_else_has_one() {
        let long = "x".repeat(MAX_PASSWORD + 1);
        for wrong in [None, Some(""), Some(long.as_str())] {
            assert_eq!(paths_with(&searched("(uid={user})"), wrong), ["password"], "{wrong:?}");
        }
        assert_eq!(paths_with(&spec(), Some("x")), ["password"]);
    }

    #[test]
    fn a_rule_of_a_directory_names_a_whole_group_and_a_login_ends_within_a_day() {
        let mut wrong = spec();
        wrong.rules = vec!["admin@admins".parse().expect("a rule")];
        assert_eq!(paths(&wrong), ["rules[0]"]);
        wrong.rules = Vec::new();
        wrong.life = MAX_LIFE + Duration::from_secs(1);
        assert_eq!(paths(&wrong), ["life", "rules"]);
    }

    #[test]
    fn an_issuer_is_an_https_address_without_a_query() {
        let of = |url: &str| {
            let issuer = Oidc {
                url: url.into(),
                client: "orch".into(),
                groups_claim: "groups".into(),
                name_claim: "sub".into(),
                ..Oidc::default()
            };
            paths(&LoginMethodSpec { provider: Provider::Oidc(Box::new(issuer)), ..spec() })
        };
        assert_eq!(of("https://gitlab.example"), [""; 0]);
        assert_eq!(of("https://sso.example:8443/realms/mx"), [""; 0]);
        for url in ["http://x.example", "https://", "https://x?y=1", "https://ann@x", "x.example"] {
            assert_eq!(of(url), ["provider.url"], "{url}");
        }
    }

    #[test]
    fn an_empty_password_is_refused_before_anybody_is_asked() {
        let judge = |user: &str, password: &str| {
            let proof = Proof::Password { user: user.into(), password: Password::new(password) };
            let mut problems = Problems::default();
            request(&mut problems, &LogInRequest { method: "ldap".into(), proof, csr: String::new() });
            problems.0.into_iter().map(|problem| problem.path).collect::<Vec<_>>()
        };
        assert_eq!(judge("ann", "x"), [""; 0]);
        assert_eq!(judge("ann", ""), ["password"]);
        assert_eq!(judge("*", "x"), ["user"]);
    }
}
