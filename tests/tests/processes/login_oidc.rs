//! People log in to real managers with an issuer of OpenID Connect: by a code that is typed in, and by a browser; tokens that are
//! forged, stolen, or for somebody else let nobody in.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tests::cluster::ctl::Ctl;
use tests::cluster::{Cluster, Plan};
use tests::http;
use tests::issuer::Issuer;

use super::PATIENCE;

/// The exit code of a refusal.
const DENIED: i32 = 4;

struct Site {
    cluster: Cluster,
    issuer: Issuer,
    place: tempfile::TempDir,
    fingerprint: String,
}

impl Site {
    fn open(managers: usize) -> Site {
        let place = tempfile::tempdir().expect("a directory");
        let issuer = Issuer::start().expect("an issuer");
        let cluster = Cluster::start(Plan::loopback(managers)).expect("managers");
        let ca = place.path().join("issuer.pem");
        std::fs::write(&ca, issuer.authority()).expect("written");
        let ca = ca.display().to_string();
        let words = [
            "login-method",
            "set",
            "sso",
            "--oidc",
            issuer.url(),
            "--client-id",
            "orch",
            "--ca",
            &ca,
            "--role",
            "admin@ops",
            "--role",
            "viewer@staff",
        ];
        cluster.ctl().ok(&words).expect("declared");
        let token = cluster.token("agent", 1).expect("a join token");
        let fingerprint = token.split('-').find(|part| part.len() == 64).expect("a fingerprint").to_owned();
        Site { cluster, issuer, place, fingerprint }
    }

    fn nobody(&self, name: &str) -> Ctl {
        self.cluster.ctl().with_config(self.place.path().join(format!("{name}.toml")))
    }

    fn start(&self, own: &Ctl, flags: &[&str]) -> Child {
        let manager = self.cluster.address(0);
        let words = ["login", "--manager", &manager, "--ca-fingerprint", &self.fingerprint, "--force"];
        let mut command = own.command(&[&words[..], flags].concat());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started")
    }

    /// Somebody whose code is typed in at once: exit code, and what was said.
    fn by_code(&self, own: &Ctl, person: &Value) -> (i32, String) {
        self.issuer.person(Some(person.clone()));
        end(self.start(own, &[]), String::new())
    }
}

fn end(mut child: Child, mut said: String) -> (i32, String) {
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("read");
    child.stdout.take().expect("piped").read_to_string(&mut said).expect("read");
    (child.wait().expect("ended").code().unwrap_or(-1), said)
}

/// The first line with this in it.
fn line_with(child: &mut Child, text: &str) -> String {
    let mut lines = BufReader::new(child.stderr.as_mut().expect("piped"));
    loop {
        let mut line = String::new();
        assert_ne!(lines.read_line(&mut line).expect("read"), 0, "it ended before it said {text}");
        if line.contains(text) {
            return line.trim().to_owned();
        }
    }
}

fn ann(groups: &[&str]) -> Value {
    json!({ "sub": "7", "preferred_username": "ann", "groups": groups })
}

#[test]
fn a_code_that_is_typed_in_elsewhere_lets_a_person_in_and_tokens_that_are_wrong_do_not() {
    let site = Site::open(3);
    let own = site.nobody("ann");
    site.issuer.person(None);
    let mut child = site.start(&own, &[]);
    line_with(&mut child, "WDJB-MJHT");
    assert!(child.try_wait().expect("a child").is_none(), "it waits for the person");
    site.issuer.person(Some(ann(&["staff", "others"])));
    let (code, said) = end(child, String::new());
    assert_eq!(code, 0, "{said}");
    let me = own.json(&["whoami"]).expect("known");
    assert_eq!((me["roles"][0].as_str(), me["origin"]["subject"].as_str()), (Some("viewer"), Some("7")));
    assert!(own.ok(&["whoami"]).expect("known").contains("user sso:ann"));
    own.ok(&["service", "ls"]).expect("a viewer");

    let with = |name: &str, value: Value| {
        let mut person = ann(&["ops"]);
        person[name] = value;
        person
    };
    let eve = site.nobody("eve");
    for (name, value, words) in [
        ("aud", json!("another"), "audience"),
        ("aud", json!(["orch", "another"]), "audience"),
        ("iss", json!("https://another.example"), "issuer"),
        ("nonce", json!("of-another-login"), "another login"),
        ("exp", json!(1_000_000), "expired"),
        ("iat", json!(1_000_000), "issued"),
        ("groups", json!(["Ops", "none"]), "none of its groups"),
        ("preferred_username", json!("ann/../admin"), "no name"),
        ("preferred_username", Value::Null, "names nobody"),
    ] {
        let (code, said) = site.by_code(&eve, &with(name, value));
        assert!(code == DENIED && said.contains(words), "{name}: {code} {said}");
    }
    // Somebody else who may choose a name at the issuer.
    let (code, said) = site.by_code(&eve, &with("sub", json!("8")));
    assert!(code != 0 && said.contains("somebody else"), "{said}");
    site.issuer.forge(true);
    let (code, said) = site.by_code(&eve, &ann(&["ops"]));
    assert!(code == DENIED && said.contains("signature"), "{said}");
    site.issuer.forge(false);
    site.issuer.deny();
    let (code, said) = end(site.start(&eve, &[]), String::new());
    assert!(code == DENIED && said.contains("access_denied"), "{said}");
    assert!(!eve.config().exists(), "nobody was let in");

    let (code, said) = site.by_code(&own, &ann(&["ops"]));
    assert_eq!(code, 0, "{said}");
    own.ok(&["token", "create", "--quiet"]).expect("an admin since this login");
    let audit = site.cluster.ctl().ok(&["audit", "ls", "--json"]).expect("the audit");
    assert!(audit.contains("sso:ann") && audit.contains("signature"), "{audit}");
}

#[test]
fn a_browser_comes_back_to_this_machine_with_a_code_that_nobody_else_can_use() {
    let site = Site::open(1);
    let own = site.nobody("ann");
    site.issuer.person(Some(ann(&["staff"])));
    let mut child = site.start(&own, &["--browser"]);
    let link = line_with(&mut child, "https://");
    assert!(link.contains("code_challenge_method=S256") && link.contains("nonce="), "{link}");
    let back = site.issuer.visit(&link);
    let (address, path) =
        back.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("loopback");
    let address: SocketAddr = address.parse().expect("an address");
    assert!(address.ip().is_loopback());
    let knock = |path: &str| http::get(address, path, Duration::from_secs(5)).expect("answered").status;
    assert_eq!(knock("/callback?code=stolen&state=guessed"), 404);
    assert_eq!(knock("/favicon.ico"), 404);
    assert_eq!(knock(&format!("/{path}")), 200);
    let ended = site.cluster.ask("the login to end", PATIENCE, || child.try_wait().expect("a child"));
    assert_eq!(ended.expect("it ends").code(), Some(0));
    assert_eq!(own.json(&["whoami"]).expect("known")["roles"][0], "viewer");

    // A token that was made for another key is of no use.
    let mut person = ann(&["ops"]);
    person["nonce"] = "of-another-login".into();
    site.issuer.person(Some(person));
    let mut child = site.start(&own, &["--browser"]);
    let back = site.issuer.visit(&line_with(&mut child, "https://"));
    let (address, path) =
        back.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("loopback");
    http::get(address.parse().expect("an address"), &format!("/{path}"), Duration::from_secs(5))
        .expect("answered");
    let (code, said) = end(child, String::new());
    assert!(code == DENIED && said.contains("another login"), "{said}");
    assert_eq!(own.json(&["whoami"]).expect("as before")["roles"][0], "viewer");
}
