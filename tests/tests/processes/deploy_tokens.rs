//! Deploy tokens: one service's image may be changed with one, and nothing else, by whomever and however it is tried.

use std::path::Path;
use std::process::Stdio;

use pki::{DeploySecret, DeployToken};
use tests::cluster::ctl::Said;
use tests::cluster::{Cluster, Plan};
use tests::command::finish;
use tests::trust::attacks::deploys::{BEYOND, Beyond};

use super::PATIENCE;

/// The exit code of a refusal.
const DENIED: i32 = 4;
const REPOSITORY: &str = "registry.example/mx/ispyb";

struct Door {
    cluster: Cluster,
}

impl Door {
    /// A cluster with the service and another one.
    fn open(managers: usize) -> Door {
        let cluster = Cluster::start(Plan::loopback(managers)).expect("managers");
        for (name, image) in [("ispyb", "registry.example/mx/ispyb:1"), ("shop", "registry.example/shop:1")] {
            let args = ["service", "create", "--name", name, "--replicas", "1", "--detach"];
            cluster.ctl().ok(&[&args[..], &["--env", "PASSWORD=hunter2", image]].concat()).expect("created");
        }
        Door { cluster }
    }

    fn token(&self, name: &str, more: &[&str]) -> String {
        let args = ["deploy-token", "create", "--quiet", name, "--service", "ispyb", "--image", REPOSITORY];
        self.cluster.ctl().ok(&[&args, more].concat()).expect("a token")
    }

    /// A pipeline that knows nothing but its token and one manager.
    fn command(&self, token: &str, manager: usize, args: &[&str]) -> std::process::Command {
        let mut command = self.cluster.ctl().command(args);
        command.env("ORCH_CONFIG", "/nowhere/config.toml");
        command.env("ORCH_TOKEN", token).env("ORCH_MANAGERS", self.cluster.address(manager));
        command
    }

    fn say(&self, token: &str, args: &[&str]) -> Said {
        finish(&mut self.command(token, 0, args)).expect("orchctl starts").into()
    }

    fn deploy(&self, token: &str, image: &str) -> Said {
        self.say(token, &["deploy", "ispyb", "--image", image, "--detach"])
    }

    fn declared(&self) -> serde_json::Value {
        self.cluster.service("ispyb").expect("the service")["service"]["spec"].clone()
    }
}

fn digest(letter: char) -> String {
    format!("{REPOSITORY}@sha256:{}", letter.to_string().repeat(64))
}

fn refused(said: &Said, text: &str) {
    assert_eq!(said.code, DENIED, "{said:?}");
    assert!(said.err.contains(text), "it says {text:?}: {}", said.err);
}

#[test]
fn pipeline_with_a_token_brings_an_image_by_any_manager_and_sees_its_own_service_only() {
    let door = Door::open(3);
    let token = door.token("ci", &["--allow", "deploy,rollback,logs"]);
    let before = door.declared();
    for (manager, letter) in ['a', 'b', 'c'].into_iter().enumerate() {
        let args = ["deploy", "ispyb", "--image", &digest(letter), "--job", "https://ci/1", "--detach"];
        // The releases before it find no node: the next one takes their place.
        door.cluster.ctl().say(&["deploy", "pause", "ispyb"]);
        let said: Said = finish(&mut door.command(&token, manager, &args)).expect("orchctl starts").into();
        assert_eq!(said.code, 0, "manager {manager}: {said:?}");
    }
    let mut after = door.declared();
    assert_eq!(after["template"]["container"]["image"], digest('c'));
    after["template"]["container"]["image"] = before["template"]["container"]["image"].clone();
    assert_eq!(after, before, "nothing but the image has changed");

    let status = door.say(&token, &["deploy", "status", "ispyb"]);
    assert_eq!(status.code, 0, "{status:?}");
    let history = door.say(&token, &["service", "history", "ispyb"]);
    assert!(history.code == 0 && history.out.contains("deploy token ci"), "{history:?}");
    let inspected = door.say(&token, &["service", "inspect", "ispyb", "--json"]);
    assert!(inspected.code == 0 && !inspected.out.contains("hunter2"), "{inspected:?}");
    let events = door.say(&token, &["events", "--after", "0.0", "--json"]);
    assert_eq!(events.code, 0, "{events:?}");
    assert!(events.out.contains("ispyb") && !events.out.contains("shop"), "{}", events.out);

    let list = door.cluster.ctl().json(&["deploy-token", "ls"]).expect("a list");
    assert_eq!(list[0]["spec"]["name"], "ci");
    assert!(list[0]["used"].is_number() || list[0]["used"].is_string(), "{list}");
    assert!(list[0].get("digest").is_none(), "{list}");
}

#[test]
fn token_allows_nothing_beyond_the_image_of_its_service() {
    let door = Door::open(1);
    let ctl = door.cluster.ctl();
    let token = door.token("ci", &[]);
    let before = (door.declared(), ctl.json(&["service", "ls"]).expect("a list"));
    let good = digest('a');
    for Beyond { args, says: text, .. } in BEYOND {
        let said = door.say(&token, args);
        assert_eq!(said.code, DENIED, "{args:?}: {said:?}");
        assert!(said.err.contains(text), "{args:?} says {text:?}: {}", said.err);
    }
    let after = (door.declared(), ctl.json(&["service", "ls"]).expect("a list"));
    assert_eq!(after.0, before.0);
    assert_eq!(after.1.as_array().map(Vec::len), before.1.as_array().map(Vec::len));
    assert_eq!(door.deploy(&token, &good).code, 0, "what it allows it still allows");
}

#[test]
fn refusal_says_what_the_token_allows_and_whom_to_ask() {
    let door = Door::open(1);
    let token = door.token("ci", &[]);
    let said = door.say(&token, &["scale", "ispyb=9"]);
    for part in ["\"ci\"", "deploy,status,logs", "\"ispyb\"", REPOSITORY, "administrator"] {
        refused(&said, part);
    }
}

#[test]
fn way_back_over_more_than_an_image_is_an_operators() {
    let door = Door::open(1);
    let ctl = door.cluster.ctl();
    let token = door.token("ci", &["--allow", "deploy,rollback"]);
    ctl.ok(&["service", "update", "ispyb", "--env-add", "A=b", "--detach"]).expect("updated");
    refused(&door.say(&token, &["service", "rollback", "ispyb", "--detach"]), "more than its image");
    refused(&door.say(&token, &["deploy", "abort", "ispyb", "--detach"]), "more than its image");
    ctl.ok(&["deploy", "pause", "ispyb"]).expect("paused");
    assert_eq!(door.deploy(&token, &digest('a')).code, 0);
    let back = door.say(&token, &["service", "rollback", "ispyb", "--detach"]);
    assert_eq!(back.code, 0, "{back:?}");
    assert_eq!(door.declared()["template"]["container"]["image"], "registry.example/mx/ispyb:1");
}

#[test]
fn wrong_tokens_are_refused_and_all_alike() {
    let door = Door::open(3);
    let good = door.token("ci", &[]);
    let mut flipped: Vec<char> = good.chars().collect();
    let at = flipped.len() / 2;
    flipped[at] = if flipped[at] == '0' { '1' } else { '0' };
    for text in [good[..good.len() - 9].to_owned(), flipped.into_iter().collect()] {
        refused(&door.deploy(&text, &digest('a')), "cut off or mistyped");
    }
    let joins = door.cluster.token("agent", 1).expect("a join token");
    refused(&door.deploy(&joins, &digest('a')), "not a deploy token");

    // Well formed, and of this cluster as far as the bearer can tell.
    let token: DeployToken = good.parse().expect("a token");
    let secret = DeploySecret::from_bytes([7; 32]);
    let unknown = DeployToken::new(token.fingerprint(), model::id::DeployTokenId(7), token.secret().clone());
    let guessed = DeployToken::new(token.fingerprint(), token.id(), secret);
    let said: Vec<Said> =
        [unknown, guessed].iter().map(|token| door.deploy(&token.reveal(), &digest('a'))).collect();
    said.iter().for_each(|said| refused(said, "not accepted"));
    assert_eq!(said[0].err, said[1].err, "which part was wrong is not said");

    let other = Door::open(1);
    let foreign = other.token("ci", &[]);
    let said = door.deploy(&foreign, &digest('a'));
    assert_eq!(said.code, DENIED, "{said:?}");
    assert!(said.err.contains("fingerprint") || said.err.contains("authority"), "{}", said.err);
    assert_eq!(door.declared()["template"]["container"]["image"], "registry.example/mx/ispyb:1");
}

#[test]
fn expired_and_removed_tokens_change_nothing_and_their_streams_end() {
    let door = Door::open(3);
    let ctl = door.cluster.ctl();
    let watch = |token: &str, manager| {
        let mut command = door.command(token, manager, &["events", "--follow"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("orchctl starts")
    };
    let leader = door.cluster.leader().expect("a leader");
    let token = door.token("ci", &[]);
    let short = door.token("short", &["--ttl", "4s"]);
    // By the leader and by another one.
    let open: Vec<_> = [leader, (leader + 1) % 3].into_iter().map(|manager| watch(&token, manager)).collect();
    let expires = watch(&short, leader);
    assert_eq!(door.deploy(&token, &digest('a')).code, 0);
    ctl.ok(&["deploy-token", "rm", "ci"]).expect("removed");
    for child in open {
        let said: Said = child.wait_with_output().expect("it ends").into();
        refused(&said, "deploy token");
    }
    refused(&door.deploy(&token, &digest('b')), "not accepted");
    let again = door.token("ci", &[]);
    refused(&door.deploy(&token, &digest('b')), "not accepted");

    let said: Said = expires.wait_with_output().expect("it ends").into();
    refused(&said, "expired");
    refused(&door.deploy(&short, &digest('b')), "expired");
    let list = ctl.ok(&["deploy-token", "ls"]).expect("a list");
    assert!(list.contains("expired"), "{list}");
    assert_eq!(door.declared()["template"]["container"]["image"], digest('a'));
    ctl.ok(&["deploy", "pause", "ispyb"]).expect("paused");
    assert_eq!(door.deploy(&again, &digest('b')).code, 0, "the new one of the name is good");
}

#[test]
fn tokens_outlive_leaders_and_their_secrets_lie_nowhere() {
    let door = Door::open(3);
    let token = door.token("ci", &[]);
    assert_eq!(door.deploy(&token, &digest('a')).code, 0);
    let leader = door.cluster.leader().expect("a leader");
    door.cluster.manager(leader).kill().expect("killed");
    let next = (leader + 1) % 3;
    let args = ["deploy", "status", "ispyb"];
    let asked = door.cluster.ask("the next leader to know the token", PATIENCE, || {
        let said: Said = finish(&mut door.command(&token, next, &args)).ok()?.into();
        (said.code == 0).then_some(())
    });
    asked.expect("it is in the state");
    let secret = token.split('-').nth(3).expect("a secret");
    assert!(secret.len() == 64 && !found(door.cluster.dir(), secret), "the secret was written down");
}

/// Whether a text is in any file.
fn found(dir: &Path, text: &str) -> bool {
    let entries = std::fs::read_dir(dir).expect("a directory").flatten();
    entries.into_iter().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return found(&path, text);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}
