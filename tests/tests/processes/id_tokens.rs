//! ID tokens: a job of the bound project and ref deploys with one, once; nobody else does, however the token was made or come by.

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tests::cluster::ctl::Said;
use tests::cluster::{Cluster, Plan};
use tests::command::finish;
use tests::issuer::{AUDIENCE, Issuer};
use tests::wrong_tokens::{self, Wrong};

use super::PATIENCE;

/// The exit code of a refusal.
const DENIED: i32 = 4;
const REPOSITORY: &str = "registry.example/mx/ispyb";
const BINDING: [&str; 12] = [
    "--service",
    "ispyb",
    "--image",
    REPOSITORY,
    "--issuer",
    "gitlab",
    "--project-id",
    "42",
    "--ref",
    "main",
    "--environment",
    "production",
];

struct Door {
    issuer: Issuer,
    cluster: Cluster,
    fingerprint: String,
}

impl Door {
    /// A cluster with the service, an issuer and a binding.
    fn open(managers: usize) -> Door {
        let issuer = Issuer::start().expect("an issuer");
        let cluster = Cluster::start(Plan::loopback(managers)).expect("managers");
        let ctl = cluster.ctl();
        let create = ["service", "create", "--name", "ispyb", "--replicas", "1", "--detach"];
        ctl.ok(&[&create[..], &["registry.example/mx/ispyb:1"]].concat()).expect("created");
        let ca = cluster.dir().join("issuer.pem");
        std::fs::write(&ca, issuer.authority()).expect("written");
        let ca = ca.to_str().expect("a path");
        let url = issuer.url();
        ctl.ok(&["issuer", "set", "gitlab", "--url", url, "--audience", AUDIENCE, "--ca", ca]).expect("set");
        let token = cluster.token("agent", 1).expect("a join token");
        let fingerprint = token.split('-').find(|part| part.len() == 64).expect("a fingerprint").to_owned();
        let door = Door { issuer, cluster, fingerprint };
        door.bind("ispyb-main");
        door
    }

    fn bind(&self, name: &str) {
        let args = [&["deploy-binding", "create", name][..], &BINDING].concat();
        self.cluster.ctl().ok(&args).expect("bound");
    }

    /// A job that knows nothing but its ID token, one manager and the authority's fingerprint.
    fn command(&self, token: &str, manager: usize, args: &[&str]) -> Command {
        let mut command = self.cluster.ctl().command(args);
        command.env("ORCH_CONFIG", "/nowhere/config.toml").env("ORCH_CA", &self.fingerprint);
        command.env("ORCH_ID_TOKEN", token).env("ORCH_MANAGERS", self.cluster.address(manager));
        command
    }

    fn say(&self, token: &str, args: &[&str]) -> Said {
        finish(&mut self.command(token, 0, args)).expect("orchctl starts").into()
    }

    fn deploy(&self, token: &str, letter: char) -> Said {
        self.cluster.ctl().say(&["deploy", "pause", "ispyb"]);
        self.say(token, &["deploy", "ispyb", "--image", &digest(letter), "--detach"])
    }

    /// A token that claims one thing otherwise.
    fn claiming(&self, name: &str, value: Value) -> String {
        wrong_tokens::claiming(&self.issuer, name, value)
    }

    fn good(&self) -> String {
        self.issuer.sign(&self.issuer.claims())
    }

    fn image(&self) -> Value {
        self.cluster.service("ispyb").expect("the service")["service"]["spec"]["template"]["container"]["image"]
            .clone()
    }

    fn records(&self) -> Vec<Value> {
        let found = self.cluster.ctl().json(&["audit", "ls", "--limit", "0"]).expect("the audit");
        found.as_array().expect("a list").clone()
    }
}

fn digest(letter: char) -> String {
    format!("{REPOSITORY}@sha256:{}", letter.to_string().repeat(64))
}

fn refused(said: &Said, text: &str) {
    assert_eq!(said.code, DENIED, "{text}: {said:?}");
    assert!(said.err.contains(text), "it says {text:?}: {}", said.err);
}

#[test]
fn job_of_the_bound_project_and_ref_deploys_by_any_manager_and_is_on_record() {
    let door = Door::open(3);
    for (manager, letter) in ['a', 'b', 'c'].into_iter().enumerate() {
        door.cluster.ctl().say(&["deploy", "pause", "ispyb"]);
        let args = ["deploy", "ispyb", "--image", &digest(letter), "--detach"];
        let said: Said =
            finish(&mut door.command(&door.good(), manager, &args)).expect("orchctl starts").into();
        assert_eq!(said.code, 0, "manager {manager}: {said:?}");
        assert_eq!(door.image(), digest(letter));
    }
    assert!(door.issuer.asked() <= 2, "each leader asks once");
    let said = door.say(&door.good(), &["deploy", "status", "ispyb"]);
    assert_eq!(said.code, 0, "{said:?}");
    refused(&door.say(&door.good(), &["scale", "ispyb=9"]), "deploy binding \"ispyb-main\"");
    refused(&door.say(&door.good(), &["deploy-binding", "ls"]), "list deploy bindings");

    let records = door.records();
    let text = |record: &Value, name: &str| record[name].as_str().unwrap_or_default().to_owned();
    let exchanged = records.iter().find(|record| record["kind"] == "id-token").expect("the exchange");
    assert_eq!(
        (text(exchanged, "name"), text(exchanged, "verdict")),
        ("ispyb-main".into(), "accepted".into())
    );
    assert!(text(exchanged, "job").starts_with("mx/ispyb (42) main, job "), "{exchanged}");
    let deployed = records.iter().find(|record| record["verb"] == "deploy").expect("the deployment");
    assert!(
        text(deployed, "who").starts_with("deploy-binding ispyb-main (mx/ispyb (42) main, job "),
        "{deployed}"
    );
    let history = door.cluster.ctl().ok(&["service", "history", "ispyb"]).expect("a history");
    assert!(history.contains("deploy binding ispyb-main"), "{history}");
    let list = door.cluster.ctl().json(&["deploy-binding", "ls"]).expect("a list");
    assert_eq!((&list[0]["spec"]["ref"], &list[0]["spec"]["project_id"]), (&json!("main"), &json!(42)));
    assert!(!list[0]["used"].is_null(), "{list}");
}

#[test]
fn tokens_that_are_not_the_issuers_for_us_and_now_are_refused_and_on_record() {
    let door = Door::open(1);
    let stranger = Issuer::start().expect("another issuer");
    let attacks = wrong_tokens::not_ours(&door.issuer, &stranger);
    for Wrong { token, says, .. } in &attacks {
        refused(&door.deploy(token, 'a'), says);
    }
    // More than is read is not even sent; who sends it all the same is refused by the manager.
    let said = door.deploy(&wrong_tokens::oversized(&door.issuer), 'a');
    assert!(said.code == 2 && said.err.contains("16384"), "{said:?}");
    assert_eq!(door.image(), "registry.example/mx/ispyb:1");
    assert_eq!(door.issuer.asked(), 1, "strangers do not make us ask");

    let refusals: Vec<Value> =
        door.records().into_iter().filter(|record| record["kind"] == "id-token").collect();
    assert_eq!(refusals.len(), attacks.len());
    for (record, Wrong { token, says, .. }) in refusals.iter().zip(&attacks) {
        assert_eq!(
            (record["verdict"].as_str(), record["verb"].as_str()),
            (Some("unauthenticated"), Some("exchange"))
        );
        assert!(record["reason"].as_str().is_some_and(|reason| reason.contains(says)), "{says}: {record}");
        assert!(!record.to_string().contains(token.as_str()));
    }
}

#[test]
fn jobs_that_the_binding_does_not_name_are_refused_by_the_rule() {
    let door = Door::open(1);
    let attacks = wrong_tokens::other_jobs();
    for (name, value, text) in attacks.clone() {
        refused(&door.deploy(&door.claiming(name, value), 'a'), text);
    }
    let mut other =
        door.command(&door.claiming("project_id", json!("43")), 0, &["deploy", "status", "ispyb"]);
    let said: Said = finish(other.env("ORCH_BINDING", "ispyb-main")).expect("orchctl starts").into();
    refused(&said, "rule project_id");
    assert_eq!(door.image(), "registry.example/mx/ispyb:1");
    let records = door.records();
    let denied: Vec<&Value> = records.iter().filter(|record| record["verdict"] == "denied").collect();
    assert_eq!(denied.len(), attacks.len() + 1);
    assert!(denied.iter().all(|record| record["job"].as_str().is_some_and(|job| job.contains("mx/ispyb"))));

    door.bind("again");
    refused(&door.deploy(&door.good(), 'a'), "name one (--binding): again, ispyb-main");
    let mut named = door.command(&door.good(), 0, &["deploy", "status", "ispyb", "--binding", "again"]);
    assert_eq!(Said::from(finish(&mut named).expect("orchctl starts")).code, 0);
}

#[test]
fn id_token_is_good_for_one_call_whoever_has_it_and_whoever_leads() {
    let door = Door::open(3);
    let token = door.good();
    assert_eq!(door.deploy(&token, 'a').code, 0);
    refused(&door.deploy(&token, 'b'), "used already");
    let leader = door.cluster.leader().expect("a leader");
    door.cluster.manager(leader).kill().expect("killed");
    let next = (leader + 1) % 3;
    let asked = door.cluster.ask("the next leader to take a fresh one", PATIENCE, || {
        let mut command = door.command(&door.good(), next, &["deploy", "status", "ispyb"]);
        (Said::from(finish(&mut command).ok()?).code == 0).then_some(())
    });
    asked.expect("bindings and issuers are in the state");
    let mut replayed = door.command(&token, next, &["deploy", "status", "ispyb"]);
    refused(&finish(&mut replayed).expect("orchctl starts").into(), "used already");
    // Made again under its name, a binding lets no token of before in.
    door.cluster.ctl().ok(&["deploy-binding", "rm", "ispyb-main"]).expect("removed");
    door.bind("ispyb-main");
    let mut replayed = door.command(&token, next, &["deploy", "status", "ispyb"]);
    refused(&finish(&mut replayed).expect("orchctl starts").into(), "used already");
}

#[test]
fn keys_that_an_issuer_changes_are_followed_and_one_that_is_away_is_said() {
    let door = Door::open(1);
    door.issuer.stop();
    let said = door.deploy(&door.good(), 'a');
    assert!(said.code != 0 && said.err.contains("keys of issuer \"gitlab\" cannot be fetched"), "{said:?}");
    door.issuer.resume().expect("it listens again");
    let back = door.cluster.ask("the issuer to be asked again", PATIENCE, || {
        (door.deploy(&door.good(), 'a').code == 0).then_some(())
    });
    back.expect("it is not given up");
    // A new leader knows no keys yet, and asks for those of now.
    door.issuer.rotate();
    let manager = door.cluster.manager(0);
    manager.kill().expect("killed");
    manager.start().expect("started");
    let followed = door.cluster.ask("the new key to be known", PATIENCE, || {
        (door.deploy(&door.good(), 'b').code == 0).then_some(())
    });
    followed.expect("the new key is known");
}

#[test]
fn binding_or_issuer_that_is_removed_ends_what_its_jobs_follow() {
    let door = Door::open(3);
    let leader = door.cluster.leader().expect("a leader");
    let follow = |manager| {
        let mut command = door.command(&door.good(), manager, &["events", "--follow", "--after", "0.0"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("orchctl starts")
    };
    for end in [["deploy-binding", "rm", "ispyb-main"], ["issuer", "rm", "gitlab"]] {
        let mut open: Vec<_> = [leader, (leader + 1) % 3].into_iter().map(follow).collect();
        for child in &mut open {
            // What it prints shows that it has begun.
            let mut byte = [0];
            let out = child.stdout.as_mut().expect("piped");
            std::io::Read::read_exact(out, &mut byte).expect("an event");
        }
        door.cluster.ctl().ok(&end).expect("removed");
        for child in open {
            refused(&child.wait_with_output().expect("it ends").into(), "has ended");
        }
        if end[0] == "deploy-binding" {
            refused(&door.deploy(&door.good(), 'a'), "no deploy binding");
            door.bind("ispyb-main");
        }
    }
    refused(&door.deploy(&door.good(), 'a'), "is not declared here");
}
