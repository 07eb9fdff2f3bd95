//! People who log in with what proves nothing: ID tokens that are forged or for somebody else, and guessed passwords.

use anyhow::{Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use manager_core::matrix::{Kind, row};
use model::login::{LogInRequest, Password, Proof};
use model::request::{Reply, Request, Response};
use pki::KeyAndCsr;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::client::block_on;
use crate::directory::Directory;
use crate::issuer::{Issuer, unsigned};
use crate::require::{Need, can_run};
use crate::trust::answer::Answer;
use crate::trust::canaries;
use crate::trust::cast::Papers;
use crate::trust::site::{CALL, Site};
use crate::trust::tally::Tally;

/// Under which the cluster is known to the issuer.
const CLIENT: &str = "orch";

pub fn run(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    id_tokens(site, tally)?;
    if can_run("attacks on logins of a directory", &[Need::Directory]) {
        passwords(site, tally)?;
    }
    Ok(())
}

fn id_tokens(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let issuer = Issuer::start()?;
    let ca = site.path("login-issuer.pem");
    std::fs::write(&ca, issuer.authority())?;
    let ca = ca.display().to_string();
    let method = ["login-method", "set", "sso", "--oidc", issuer.url(), "--client-id", CLIENT, "--ca", &ca];
    site.done(&[&method[..], &["--role", "viewer@staff"]].concat())?;

    let pair = KeyAndCsr::generate()?;
    let good = issuer.sign(&person(&issuer, &pair, &[]));
    plant(site, &good);
    let Response::Joined { certificate, .. } = by_token(site, &good, &pair)?.response else {
        bail!("ann is let in")
    };
    let ann = Papers { certificate, key: pair.key_pem() };
    forged(site, &issuer, tally)?;

    // Without the key's name in it, as issuers give it for codes that are typed in, it is good once.
    let other = KeyAndCsr::generate()?;
    let bare = issuer.sign(&person(&issuer, &other, &[("nonce", Value::Null)]));
    ensure!(by_token(site, &bare, &other).is_ok(), "ann is let in by a code");
    attempt(
        tally,
        "an ID token that was used",
        &by_token(site, &bare, &KeyAndCsr::generate()?),
        "used before",
    );
    attempt(tally, "somebody's ID token with another key", &by_token(site, &good, &other), "another login");

    for (name, request) in [
        ("a viewer's login that changes something", row(Kind::ScaleServices).request),
        ("a viewer's login that makes an admin", row(Kind::CreateUser).request),
    ] {
        let answer = site.ask(&site.client(&ann, 0)?, &request);
        let verb = model::audit::about::about(&request).map(|about| about.verb).unwrap_or_default();
        tally.tried(name, &answer).saying(&["takes the role"]).on_record("user sso:ann", &verb);
    }
    site.done(&["login-method", "rm", "sso"])?;
    let answer = site.ask(&site.client(&ann, 0)?, &row(Kind::ScaleServices).request);
    tally
        .tried("a login whose method was removed", &answer)
        .saying(&["worth nothing"])
        .on_record("user sso:ann", "scale");
    Ok(())
}

/// Tokens that are not the issuer's, or not for this login.
fn forged(site: &Site<'_>, issuer: &Issuer, tally: &mut Tally) -> Result<()> {
    let stranger = Issuer::start()?;
    stranger.rotate();
    for (name, claim, value, says) in [
        ("for another audience", "aud", json!("another"), "audience"),
        ("for another audience, too", "aud", json!([CLIENT, "another"]), "audience"),
        ("of another issuer", "iss", json!("https://another.example"), "issuer"),
        ("for another login", "nonce", json!("of-another-login"), "another login"),
        ("that expired", "exp", json!(1_000_000), "expired"),
        ("of long ago", "iat", json!(1_000_000), "issued"),
        ("of nobody's group", "groups", json!(["Staff", "none"]), "none of its groups"),
        ("with a path for a name", "preferred_username", json!("ann/../admin"), "no name"),
        ("without a name", "preferred_username", Value::Null, "names nobody"),
        ("of somebody else with the same name", "sub", json!("8"), "somebody else"),
    ] {
        let pair = KeyAndCsr::generate()?;
        let token = issuer.sign(&person(issuer, &pair, &[(claim, value)]));
        attempt(tally, &format!("a login's ID token {name}"), &by_token(site, &token, &pair), says);
    }
    let pair = KeyAndCsr::generate()?;
    let claims = person(issuer, &pair, &[]);
    let header = |alg: &str| json!({ "alg": alg, "typ": "JWT", "kid": "one" });
    for (name, token, says) in [
        ("without a signature (alg none)", format!("{}.", unsigned(&header("none"), &claims)), "only RS256"),
        ("signed with the public key (HS256)", issuer.sign_by_public_key(&claims), "only RS256"),
        (
            "signed by another under a known key's name",
            stranger.sign_as(&header("RS256"), &claims),
            "signature",
        ),
        ("signed with an unknown key", stranger.sign(&claims), "does not publish"),
        ("of a pipeline", issuer.sign(&issuer.claims()), "audience"),
    ] {
        plant(site, &token);
        attempt(tally, &format!("a login's ID token {name}"), &by_token(site, &token, &pair), says);
    }
    Ok(())
}

/// What the issuer claims of ann, who logs in with this key; some of it otherwise.
fn person(issuer: &Issuer, pair: &KeyAndCsr, otherwise: &[(&str, Value)]) -> Value {
    let mut claims = issuer.claims();
    let nonce = URL_SAFE_NO_PAD.encode(digest(&SHA256, pair.csr_pem.as_bytes()));
    let own = json!({
        "aud": CLIENT, "sub": "7", "preferred_username": "ann", "groups": ["staff"], "nonce": nonce,
    });
    let changes = own.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value.clone()));
    for (name, value) in changes.chain(otherwise.iter().cloned()) {
        claims[name] = value;
    }
    if let Some(claims) = claims.as_object_mut() {
        claims.retain(|_, value| !value.is_null());
    }
    claims
}

/// A token that must lie nowhere.
fn plant(site: &Site<'_>, token: &str) {
    let part = token.rsplit('.').find(|part| part.len() > 40);
    if let Some(part) = part {
        site.plant_text("ID token of a login", part);
    }
}

fn passwords(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    // Of its own: the directory itself has to have the passwords.
    let place = tempfile::tempdir()?;
    let directory = Directory::start(place.path())?;
    let (right, guess) = (canaries::fresh()?, canaries::fresh()?);
    site.plant("login's password", right.as_bytes());
    site.plant("guessed password", guess.as_bytes());
    for name in ["ann", "bob", "eve"] {
        directory.person(name, &right)?;
    }
    directory.group("staff", &["ann", "bob"])?;
    let (right, guess) = (right.as_str(), guess.as_str());
    let (url, ca) = (directory.ldaps(), directory.authority().display().to_string());
    let people = ["--user-dn", "uid={user},ou=people,dc=example", "--group-base", "ou=groups,dc=example"];
    let method = ["login-method", "set", "ldap", "--ldap", &url, "--ca", &ca];
    let role = ["--role", "viewer@cn=staff,ou=groups,dc=example"];
    site.done(&[&method[..], &people, &role].concat())?;

    let wrong = "the name or the password is wrong";
    for (name, user, password, says) in [
        ("a wrong password", "ann", guess, wrong),
        ("a name that nobody has", "nobody", guess, wrong),
        ("no password", "ann", "", "password"),
        ("somebody without a role", "eve", right, "none of its groups"),
        ("a star for a name", "*", right, "user"),
        ("a filter for a name", "ann)(uid=*", right, "user"),
        ("an escaped star for a name", "a\\2a", right, "user"),
        ("a place in the directory for a name", "ann,ou=people", right, "user"),
        ("two attributes for a name", "ann+cn=x", right, "user"),
        ("no name", "", right, "user"),
    ] {
        attempt(tally, name, &by_password(site, user, password), says);
    }
    ensure!(by_password(site, "ann", right).is_ok(), "ann is let in");
    for _ in 0..3 {
        attempt(tally, "a guess of somebody's password", &by_password(site, "bob", guess), wrong);
    }
    let answer = Answer::of(&by_password(site, "bob", right));
    tally.tried("one guess too many, even the right one", &answer).saying(&["too many logins of this name"]);
    site.done(&["login-method", "rm", "ldap"])
}

fn attempt(tally: &mut Tally, name: &str, outcome: &Result<Reply>, says: &'static str) {
    tally.tried(name, &Answer::of(outcome)).saying(&[says]).on_record("anonymous", "log in");
}

fn by_token(site: &Site<'_>, token: &str, pair: &KeyAndCsr) -> Result<Reply> {
    log_in(site, "sso", Proof::IdToken(Password::new(token)), pair)
}

fn by_password(site: &Site<'_>, user: &str, password: &str) -> Result<Reply> {
    let proof = Proof::Password { user: user.into(), password: Password::new(password) };
    log_in(site, "ldap", proof, &KeyAndCsr::generate()?)
}

/// From an address that nobody had before.
fn log_in(site: &Site<'_>, method: &str, proof: Proof, pair: &KeyAndCsr) -> Result<Reply> {
    let request = LogInRequest { method: method.into(), proof, csr: pair.csr_pem.clone() };
    site.heard(block_on(site.nobody(0)?.call(&Request::LogIn(Box::new(request)), CALL)))
}
