//! ID tokens that must let nobody in: for the tests of pipelines, and for the attacks of `scenario trust`.

use serde_json::{Value, json};

use crate::issuer::{AUDIENCE, Issuer, unsigned};

/// One, and what its refusal says.
pub struct Wrong {
    pub name: &'static str,
    pub token: String,
    pub says: &'static str,
}

/// A token that claims one thing otherwise.
pub fn claiming(issuer: &Issuer, name: &str, value: Value) -> String {
    let mut claims = issuer.claims();
    claims[name] = value;
    issuer.sign(&claims)
}

/// Tokens that are not the issuer's, not for us, or not of now. The stranger is another issuer.
pub fn not_ours(issuer: &Issuer, stranger: &Issuer) -> Vec<Wrong> {
    stranger.rotate();
    let now = issuer.claims()["iat"].as_u64().expect("a time");
    let none =
        format!("{}.", unsigned(&json!({ "alg": "none", "typ": "JWT", "kid": "one" }), &issuer.claims()));
    let of = |name, value| claiming(issuer, name, value);
    let named_as_ours = stranger.sign_as(&json!({ "alg": "RS256", "kid": "one" }), &issuer.claims());
    [
        ("without a signature (alg none)", none, "only RS256"),
        ("signed with the public key (HS256)", issuer.sign_by_public_key(&issuer.claims()), "only RS256"),
        ("signed by another under a known key's name", named_as_ours, "signature is not the issuer's"),
        ("signed with an unknown key", stranger.sign(&issuer.claims()), "does not publish"),
        ("of another issuer", stranger.sign(&stranger.claims()), "is not declared here"),
        ("for another audience", of("aud", json!("vault.example")), "audience"),
        ("for another audience, too", of("aud", json!([AUDIENCE, "vault.example"])), "audience"),
        ("that names another issuer", of("iss", json!("https://gitlab.evil")), "is not declared here"),
        ("that expired", of("exp", json!(now - 300)), "s ago by this manager's clock"),
        ("of the future", of("nbf", json!(now + 300)), "compare the clocks"),
        ("without a number", of("jti", Value::Null), "jti"),
        ("that is none", "not.a.token".to_owned(), "not an ID token"),
    ]
    .map(|(name, token, says)| Wrong { name, token, says })
    .into()
}

/// Claims of jobs of the issuer that a binding of project 42, its protected branch main and the environment production does not let in.
pub fn other_jobs() -> [(&'static str, Value, &'static str); 7] {
    [
        ("pipeline_source", json!("merge_request_event"), "rule pipeline_source"),
        ("job_project_id", json!("99"), "rule job_project_id"),
        ("ref_protected", json!("false"), "rule ref_protected"),
        ("project_id", json!("43"), "no deploy binding is for project 43"),
        ("ref", json!("main-2"), "rule ref:"),
        ("ref_type", json!("tag"), "rule ref_type"),
        ("environment", json!("review/1"), "rule environment"),
    ]
}

/// More than is read.
pub fn oversized(issuer: &Issuer) -> String {
    claiming(issuer, "padding", json!("x".repeat(20_000)))
}
