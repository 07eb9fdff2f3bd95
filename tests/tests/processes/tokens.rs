//! Join tokens that must not admit anybody.

use std::path::Path;
use std::process::Command;

use tests::binaries::Binaries;
use tests::cluster::ctl::Said;
use tests::cluster::{Cluster, Plan};
use tests::command::finish;

use super::PATIENCE;

struct Door {
    cluster: Cluster,
    place: tempfile::TempDir,
}

impl Door {
    fn open() -> Door {
        let cluster = Cluster::start(Plan::loopback(1)).expect("one manager");
        Door { cluster, place: tempfile::tempdir().expect("a directory") }
    }

    fn join(&self, program: &Path, dir: &str, token: &str) -> Said {
        let dir = self.place.path().join(dir);
        let mut join = Command::new(program);
        join.args(["join", "--manager", &self.cluster.address(0), "--token", token, "--dir"]).arg(&dir);
        finish(&mut join).expect("it ends").into()
    }

    fn agent(&self, dir: &str, token: &str) -> Said {
        self.join(&Binaries::get().expect("programs").agent, dir, token)
    }

    fn nodes(&self) -> usize {
        self.cluster.ctl().json(&["node", "ls"]).expect("a list").as_array().expect("a list").len()
    }
}

#[test]
fn token_admits_once_and_not_in_another_role() {
    let door = Door::open();
    let token = door.cluster.token("agent", 1).expect("a token");
    let wrong = door.join(&Binaries::get().expect("programs").manager, "as-manager", &token);
    assert_ne!(wrong.code, 0);
    assert!(wrong.err.contains("admits"), "it says what the token is for: {}", wrong.err);
    let first = door.agent("first", &token);
    assert_eq!(first.code, 0, "{first:?}");
    let second = door.agent("second", &token);
    assert_ne!(second.code, 0);
    assert!(second.err.contains("token"), "{}", second.err);
    let twice = door.agent("first", &token);
    assert!(twice.code != 0 && twice.err.contains("already"), "{}", twice.err);
    assert_eq!(door.nodes(), 1);
}

#[test]
fn token_with_one_wrong_letter_is_refused_before_anything_is_sent() {
    let door = Door::open();
    let token = door.cluster.token("agent", 1).expect("a token");
    let mut letters: Vec<char> = token.chars().collect();
    let at = letters.len() / 2;
    letters[at] = if letters[at] == '0' { '1' } else { '0' };
    let said = door.agent("wrong", &letters.into_iter().collect::<String>());
    assert_ne!(said.code, 0);
    assert!(said.err.contains("token"), "{}", said.err);
    assert_eq!(door.nodes(), 0);
    assert_eq!(door.agent("right", &token).code, 0, "the attempt did not use the token up");
}

#[test]
fn expired_and_revoked_tokens_are_refused() {
    let door = Door::open();
    let ctl = door.cluster.ctl();
    let short = ctl.ok(&["token", "create", "--quiet", "--ttl", "1s"]).expect("a token");
    let revoked = ctl.ok(&["token", "create", "--quiet", "--uses", "7"]).expect("a token");
    let list = ctl.json(&["token", "ls"]).expect("a list");
    let id = list
        .as_array()
        .expect("a list")
        .iter()
        .find(|token| token["uses_left"] == 7)
        .expect("the token")["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    ctl.ok(&["token", "revoke", &id]).expect("revoked");
    let said = door.agent("revoked", &revoked);
    assert_ne!(said.code, 0, "{said:?}");
    assert!(said.err.contains("not accepted"), "{}", said.err);
    // Of the agent tokens with one use only the one of init is left when the short one has ended.
    let left = |list: &serde_json::Value| {
        let tokens = list.as_array().into_iter().flatten();
        tokens.filter(|token| token["role"] == "agent" && token["uses_left"] == 1).count()
    };
    let ended = door.cluster.ask("the token to expire", PATIENCE, || {
        (left(&ctl.json(&["token", "ls"]).ok()?) == 1).then_some(())
    });
    ended.expect("expired tokens are cleared away");
    let said = door.agent("expired", &short);
    assert_ne!(said.code, 0);
    assert!(said.err.contains("expired") || said.err.contains("not accepted"), "{}", said.err);
    assert_eq!(door.nodes(), 0);
}

#[test]
fn token_of_another_cluster_does_not_talk_to_this_one() {
    let door = Door::open();
    let other = Cluster::start(Plan::loopback(1)).expect("another cluster");
    let token = other.token("agent", 1).expect("a token");
    let said = door.agent("stranger", &token);
    assert_ne!(said.code, 0);
    let told = said.err.to_lowercase();
    assert!(
        told.contains("authority") || told.contains("certificate") || told.contains("fingerprint"),
        "{told}"
    );
    assert_eq!(door.nodes(), 0);
}

#[test]
fn stranger_with_a_certificate_of_another_authority_is_denied() {
    let door = Door::open();
    let other = Cluster::start(Plan::loopback(1)).expect("another cluster");
    let file = door.place.path().join("stranger.toml");
    std::fs::copy(other.ctl().config(), &file).expect("copied");
    tests::cluster::boot::set_managers(&file, &[door.cluster.address(0)]).expect("a context");
    let said = door.cluster.ctl().with_config(file).say(&["service", "ls", "--timeout", "5s"]);
    assert_eq!(said.code, 4, "denied: {said:?}");
}
