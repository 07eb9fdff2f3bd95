//! What a registry asks of whom it does not know: `WWW-Authenticate`.

use std::fmt::Write as _;

/// How to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Name and password with each request.
    Basic,
    /// A token from elsewhere.
    Bearer(Bearer),
}

/// Where the token comes from, and what for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bearer {
    pub(super) realm: String,
    service: Option<String>,
    scope: Option<String>,
}

impl Challenge {
    /// Reads the header; `None` when it holds no way that is known.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut bearer = Bearer::default();
        for (name, value) in parameters(rest) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => bearer.realm = value,
                "service" => bearer.service = Some(value),
                "scope" => bearer.scope = Some(value),
                _ => {}
            }
        }
        (!bearer.realm.is_empty()).then_some(Self::Bearer(bearer))
    }
}

impl Bearer {
    /// The address to GET a token from.
    pub(super) fn question(&self) -> String {
        let glue = if self.realm.contains('?') { '&' } else { '?' };
        let pairs = self.pairs();
        if pairs.is_empty() { self.realm.clone() } else { format!("{}{glue}{}", self.realm, encoded(&pairs)) }
    }

    /// The body of a POST that exchanges an identity token.
    pub(super) fn form(&self, token: &str) -> String {
        let mut pairs = self.pairs();
        pairs.extend([("client_id", "orch"), ("grant_type", "refresh_token"), ("refresh_token", token)]);
        encoded(&pairs)
    }

    fn pairs(&self) -> Vec<(&str, &str)> {
        let service = self.service.as_deref().map(|service| ("service", service));
        let scope = self.scope.as_deref().map(|scope| ("scope", scope));
        service.into_iter().chain(scope).collect()
    }
}

/// `name="value", name=value`: a comma in quotes belongs to the value.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_owned();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => {
                let Some(end) = quoted.find('"') else { break };
                (&quoted[..end], &quoted[end + 1..])
            }
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        found.push((name, value.trim().to_owned()));
        rest = next;
    }
    found
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().map(|(name, value)| format!("{name}={}", percent(value)));
    pairs.collect::<Vec<_>>().join("&")
}

pub(super) fn percent(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_of_registries_are_read_and_others_are_none() {
        let hub = r#"Bearer realm="https://auth.example/token",service="reg.example",scope="repository:mx/web:pull,push""#;
        let Some(Challenge::Bearer(bearer)) = Challenge::parse(hub) else { panic!("a bearer challenge") };
        assert_eq!(
            bearer.question(),
            "https://auth.example/token?service=reg.example&scope=repository%3Amx%2Fweb%3Apull%2Cpush"
        );
        assert!(bearer.form("a b").ends_with("&grant_type=refresh_token&refresh_token=a%20b"));
        let bare = r#"bearer realm="https://a.example/jwt?x=1", service=s"#;
        let Some(Challenge::Bearer(bearer)) = Challenge::parse(bare) else { panic!("a bearer challenge") };
        assert_eq!(bearer.question(), "https://a.example/jwt?x=1&service=s");
        assert_eq!(Challenge::parse(r#"Basic realm="x""#), Some(Challenge::Basic));
        for nothing in
            ["", "Bearer", "Bearer service=\"x\"", "Negotiate", "Bearer realm=\"", "Bearer ==,=\"\""]
        {
            assert_eq!(Challenge::parse(nothing), None, "{nothing}");
        }
    }
}
