//! What cosign itself wrote, read from a registry that has it and judged as a policy judges it.
//!
//! Made by cosign 2.6.5 (`…-2.json`) and 3.1.3 (`…-3.json`), with a key and with the ID token of a GitLab's job, a Fulcio 1.8.8 whose
//! authority is authority.pem, and a log that answers as Rekor 1 does and signs with the key of log.pub. Each file is what the
//! registry of one image has then.

use std::{collections::BTreeMap, sync::mpsc};

use fuzz::Fuzz;
use manager_core::{RegistryWish, RegistryWord};
use model::{
    policy::{
        Require,
        signing::{choose, is_signed, why_not},
    },
    signature::{FoundSignature, SignerIdentity},
};
use serde::Deserialize;

use super::{super::bundles::read, Seen, ask, http, serve};

const KEY: &str = include_str!("cosign/key.pub");
const AUTHORITY: &str = include_str!("cosign/authority.pem");
const OTHER_AUTHORITY: &str = include_str!("cosign/other-authority.pem");
const LOG: &str = include_str!("cosign/log.pub");
const BY_KEY: [&str; 2] = [include_str!("cosign/key-2.json"), include_str!("cosign/key-3.json")];
const BY_IDENTITY: [&str; 2] =
    [include_str!("cosign/identity-2.json"), include_str!("cosign/identity-3.json")];
const PIPELINE: &str = "https://gitlab.example/mx/ispyb//.gitlab-ci.yml@refs/heads/main";

#[derive(Clone, Deserialize)]
struct Content {
    digest: String,
    files: BTreeMap<String, String>,
}

/// How a registry tells what refers to an image.
#[derive(Clone, Copy, PartialEq)]
enum List {
    /// As one of before OCI distribution 1.1: not at all, and clients keep an index.
    Kept,
    /// By itself.
    Own,
}

fn host(content: Content, list: List) -> (String, mpsc::Receiver<Seen>) {
    serve(move |_, request| {
        let path = request[0].split(' ').nth(1).unwrap();
        let path = path.strip_prefix("/v2/mx/web/").unwrap();
        if request[0].starts_with("HEAD ") {
            return format!("HTTP/1.1 200 OK\r\nDocker-Content-Digest: {}\r\n\r\n", content.digest);
        }
        let kept = format!("manifests/{}", content.digest.replace(':', "-"));
        let index = content.files.get(&kept).map_or(r#"{"manifests": []}"#, String::as_str);
        let unknown = r#"{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}"#;
        match (path.starts_with("referrers/"), list) {
            (true, List::Own) => http("200 OK", "", index),
            (true, List::Kept) => http("404 Not Found", "", "404 page not found\n"),
            (false, List::Own) if path == kept => http("404 Not Found", "", unknown),
            _ => match content.files.get(path) {
                Some(text) => http("200 OK", "", text),
                None => http("404 Not Found", "", unknown),
            },
        }
    })
}

/// What is found of an image, and the image by its digest.
fn found(text: &str, list: List) -> (String, Vec<FoundSignature>) {
    let content: Content = serde_json::from_str(text).unwrap();
    let image = format!("registry.example/mx/web:prod@{}", content.digest);
    let (host, _seen) = host(content, list);
    let wish = RegistryWish::Signatures { repository: "mx/web".into(), reference: "prod".into() };
    match ask(&host, None, wish) {
        Ok(RegistryWord::Signatures(_, found)) => (image, found),
        other => panic!("{other:?}"),
    }
}

fn key() -> Require {
    Require { signed_by: vec![KEY.parse().unwrap()], ..Require::default() }
}

fn identity(change: impl Fn(&mut SignerIdentity)) -> Require {
    let mut identity = SignerIdentity {
        issuer: "http://gitlab.example".into(),
        subject: PIPELINE.into(),
        authority: AUTHORITY.parse().unwrap(),
        log: LOG.parse().unwrap(),
    };
    change(&mut identity);
    Require { signed_by_identity: vec![identity], ..Require::default() }
}

#[test]
fn signatures_of_both_forms_are_found_and_hold_for_their_image_alone() {
    let pipelines = |identity: &mut SignerIdentity| {
        identity.subject = "https://gitlab.example/mx/ispyb//.gitlab-ci.yml@refs/heads/*".into();
    };
    for (texts, requires) in
        [(BY_KEY, vec![key()]), (BY_IDENTITY, vec![identity(|_| {}), identity(pipelines)])]
    {
        for (text, list) in texts.into_iter().flat_map(|text| [(text, List::Kept), (text, List::Own)]) {
            let (image, found) = found(text, list);
            assert_eq!(found.len(), 1, "{image}");
            for require in &requires {
                let chosen = choose(&image, &[require], &found);
                assert!(is_signed(&image, &chosen, &[require]), "{}", why_not(&image, &[require], &found));
                let (start, digest) = image.split_once("sha256:").unwrap();
                let other = format!("{start}sha256:{}", digest.chars().rev().collect::<String>());
                assert!(choose(&other, &[require], &found).is_empty());
                assert!(why_not(&other, &[require], &found).contains("another image"));
            }
        }
    }
}

#[test]
fn who_did_not_sign_is_told_from_who_did_and_by_whom_it_was() {
    type Change = fn(&mut SignerIdentity);
    let changes: [(Change, &str); 6] = [
        (|identity| identity.subject.push('x'), PIPELINE),
        (|identity| identity.subject = "https://gitlab.example/mx/other*".into(), PIPELINE),
        (|identity| identity.issuer = "https://gitlab.example".into(), "(http://gitlab.example)"),
        (|identity| identity.issuer = "http://gitlab.example/".into(), "(http://gitlab.example)"),
        (|identity| identity.log = KEY.parse().unwrap(), "another log"),
        (|identity| identity.authority = OTHER_AUTHORITY.parse().unwrap(), "certificate does not hold"),
    ];
    for text in BY_IDENTITY {
        let (image, found) = found(text, List::Kept);
        for (change, why) in changes {
            let require = identity(change);
            assert!(choose(&image, &[&require], &found).is_empty(), "{why}");
            let said = why_not(&image, &[&require], &found);
            assert!(said.contains(why), "{why}: {said}");
        }
        assert!(why_not(&image, &[&key()], &found).contains("all by other keys"));
    }
}

#[test]
fn changed_in_any_part_a_signature_by_an_identity_holds_no_longer() {
    type Change = fn(&mut FoundSignature);
    let changes: [(Change, &str); 8] = [
        (|one| one.signature = one.signature.replacen('M', "N", 1), "another key"),
        (|one| one.payload = format!("{} ", one.payload), "another key"),
        (
            |one| entry(one, |entry| entry.replacen("\"integratedTime\":1", "\"integratedTime\":2", 1)),
            "did not sign",
        ),
        (|one| entry(one, |entry| entry.replacen("\"logIndex\":1", "\"logIndex\":2", 1)), "did not sign"),
        (|one| entry(one, |_| String::new()), "there is none"),
        (|one| entry(one, |_| "{}".into()), "damaged"),
        // Another one of the same authority and log, of another signature.
        (
            |one| {
                *one = FoundSignature {
                    certified: found(BY_IDENTITY[0], List::Kept).1[0].certified.clone(),
                    ..one.clone()
                }
            },
            "another key",
        ),
        (|one| one.certified.as_mut().unwrap().certificate = AUTHORITY.into(), "all by others"),
    ];
    let (image, found) = found(BY_IDENTITY[1], List::Kept);
    let require = identity(|_| {});
    for (change, why) in changes {
        let mut changed = found.clone();
        change(&mut changed[0]);
        assert_ne!(changed, found, "{why}");
        assert!(choose(&image, &[&require], &changed).is_empty(), "{why}");
        let said = why_not(&image, &[&require], &changed);
        assert!(said.contains(why), "{why}: {said}");
    }
}

fn entry(one: &mut FoundSignature, change: impl Fn(&str) -> String) {
    let certified = one.certified.as_mut().unwrap();
    certified.entry = change(&certified.entry);
}

#[test]
fn fuzz_bundles() {
    let content: Content = serde_json::from_str(BY_IDENTITY[1]).unwrap();
    let image = format!("registry.example/mx/web@{}", content.digest);
    let blobs = content.files.into_iter().filter(|(path, _)| path.starts_with("blobs/"));
    let samples = blobs.map(|(_, text)| text.into_bytes());
    let require = identity(|_| {});
    Fuzz::new(env!("CARGO_MANIFEST_DIR"), "bundle").samples(samples).run(|input| {
        let found: Vec<FoundSignature> = read(&String::from_utf8_lossy(input)).into_iter().collect();
        match &choose(&image, &[&require], &found)[..] {
            [] => why_not(&image, &[&require], &found),
            [_, ..] => "it holds".into(),
        }
    });
}
