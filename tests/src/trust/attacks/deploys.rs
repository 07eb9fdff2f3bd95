//! The bearer of a deploy token who wants more than another image of one service.

use anyhow::{Result, ensure};
use manager_core::matrix::{IMAGE, Kind, row};
use model::request::Request;
use pki::{DeploySecret, DeployToken};

use crate::client::block_on;
use crate::trust::answer::Answer;
use crate::trust::site::{CALL, Site};
use crate::trust::tally::Tally;

/// What is typed with a token for `ispyb` that allows what tokens allow by default, what the refusal says, and, of a change that reaches a
/// manager, its verb.
pub struct Beyond {
    pub args: &'static [&'static str],
    pub says: &'static str,
    pub verb: Option<&'static str>,
}

const fn change(args: &'static [&'static str], says: &'static str, verb: &'static str) -> Beyond {
    Beyond { args, says, verb: Some(verb) }
}

const fn read(args: &'static [&'static str], says: &'static str) -> Beyond {
    Beyond { args, says, verb: None }
}

const NEXT: &str =
    "registry.example/mx/ispyb@sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const EVIL: &str =
    "registry.example/mx/evil@sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// Everything else.
pub const BEYOND: &[Beyond] = &[
    // It looks at the service first, and that is what is refused.
    read(&["deploy", "shop", "--image", IMAGE], "for service \"ispyb\" and no other"),
    read(&["deploy", "ghost", "--image", IMAGE], "for service \"ispyb\" and no other"),
    change(&["deploy", "ispyb", "--image", EVIL], "is none of them", "deploy"),
    change(
        &["deploy", "ispyb", "--image", "registry.example/mx/ispyb:latest"],
        "another image tomorrow",
        "deploy",
    ),
    change(&["deploy", "ispyb", "--image", "registry.example/mx/ispyb"], "another image tomorrow", "deploy"),
    change(&["deploy", "ispyb", "--image", "registry.example/mx/ispyb:8.1"], "is not declared", "deploy"),
    change(
        &["deploy", "ispyb", "--image", NEXT, "--despite-freeze", "because"],
        "override a freeze",
        "deploy",
    ),
    change(&["deploy", "promote", "ispyb"], "promote", "promote"),
    change(&["service", "rollback", "ispyb"], "does not allow rollback", "roll back"),
    change(&["service", "update", "ispyb", "--env-add", "A=b"], "anything but the image", "update"),
    change(&["service", "update", "ispyb", "--image", NEXT], "anything but the image", "update"),
    change(
        &["service", "update", "ispyb", "--mount-add", "type=volume,source=data,target=/v"],
        "anything but the image",
        "update",
    ),
    change(&["service", "update", "ispyb", "--limit-memory", "9g"], "anything but the image", "update"),
    change(&["scale", "ispyb=9"], "scale", "scale"),
    change(&["service", "rm", "ispyb"], "remove services", "remove"),
    change(&["service", "create", "--name", "mine", "x/y:1"], "create services", "create"),
    change(&["service", "create", "--name", "mine", "--privileged", "x/y:1"], "create services", "create"),
    read(&["service", "ls"], "list services"),
    read(&["service", "inspect", "shop"], "no other"),
    read(&["service", "endpoints", "ispyb"], "endpoints"),
    read(&["logs", "shop"], "no other"),
    read(&["ps"], "list tasks"),
    read(&["node", "ls"], "nodes"),
    read(&["manager", "ls"], "managers"),
    read(&["status"], "status of the cluster"),
    read(&["why", "ispyb"], "why"),
    read(&["token", "ls"], "join tokens"),
    change(&["token", "create"], "join tokens", "create"),
    read(&["deploy-token", "ls"], "deploy tokens"),
    change(&["deploy-token", "rm", "ci"], "deploy tokens", "remove"),
    change(
        &["deploy-token", "create", "x", "--service", "other", "--image", "a/b"],
        "makes no others",
        "create",
    ),
    read(&["registry", "ls"], "registries"),
    read(&["freeze", "ls"], "freezes"),
    change(&["freeze", "rm", "beam"], "freezes", "remove"),
    read(&["cron", "ls"], "crons"),
    read(&["network", "ls"], "networks"),
    read(&["secret", "ls"], "secrets"),
    read(&["secret", "inspect", "ispyb"], "secrets"),
    change(&["secret", "rm", "ispyb"], "secrets", "remove"),
    read(&["user", "ls"], "users"),
    read(&["audit", "ls"], "audit"),
];

pub fn run(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let token = site.deploy_token("pipeline", &[])?;
    for Beyond { args, says, verb } in BEYOND {
        let said = site.say_with_token(&token, args);
        let tried = tally.tried(args.join(" "), &Answer::of_program(&said)).saying(&[*says]);
        // The program itself refuses to make a token with a token.
        if let Some(verb) = verb.filter(|_| *says != "makes no others") {
            tried.on_record("deploy-token pipeline", verb);
        }
    }
    for service in ["shop", "ghost"] {
        let (image, note) = (IMAGE.into(), Box::default());
        let deploy = Request::Deploy { service: service.into(), image, note };
        tally
            .tried(format!("a deployment of {service} without a look at it"), &ask(site, &token, &deploy)?)
            .saying(&["for service \"ispyb\" and no other"])
            .on_record("deploy-token pipeline", "deploy");
    }
    let said = site.say_with_token(&token, &["deploy", "status", "ispyb"]);
    tally.holds("what a token allows it allows", said.code == 0);
    wrong(site, &token, tally)
}

/// Tokens that are none.
fn wrong(site: &Site<'_>, good: &str, tally: &mut Tally) -> Result<()> {
    let try_it = |token: &str| {
        Answer::of_program(&site.say_with_token(token, &["deploy", "ispyb", "--image", IMAGE, "--detach"]))
    };
    let token: DeployToken = good.parse()?;
    let guessed = DeployToken::new(token.fingerprint(), token.id(), DeploySecret::from_bytes([7; 32]));
    let unknown = DeployToken::new(token.fingerprint(), model::id::DeployTokenId(7), token.secret().clone());
    for (name, token) in [("a token with a guessed secret", &guessed), ("a token that nobody made", &unknown)]
    {
        tally.tried(name, &try_it(&token.reveal())).saying(&["not accepted"]);
    }
    tally
        .tried("a token that was cut off", &try_it(&good[..good.len() - 9]))
        .saying(&["cut off or mistyped"]);
    tally.tried("a join token", &try_it(&site.cast.join_token.reveal())).saying(&["a deploy token"]);
    tally.tried("a token that expired", &try_it(&site.cast.expired_deploy_token)).saying(&["expired"]);
    let gone = site.deploy_token("gone", &[])?;
    let removed = site.say(&["deploy-token", "rm", "gone"]);
    ensure!(removed.code == 0, "{removed:?}");
    tally.tried("a token that was removed", &try_it(&gone)).saying(&["not accepted"]);
    let expired = &site.cast.expired_deploy_token;
    for (name, text, who, says) in [
        ("a change with a guessed secret", guessed.reveal(), unproven(&guessed), "not accepted"),
        ("a change with a token that nobody made", unknown.reveal(), unproven(&unknown), "not accepted"),
        ("a change with a token that was removed", gone.clone(), unproven(&gone.parse()?), "not accepted"),
        ("a change with a token that expired", expired.clone(), "deploy-token short".to_owned(), "expired"),
    ] {
        let answer = ask(site, &text, &row(Kind::Deploy).request)?;
        tally.tried(name, &answer).saying(&[says]).on_record(&who, "deploy");
    }
    Ok(())
}

/// Asks without orchctl, which reads first: a read that is refused is on no record, a change is.
fn ask(site: &Site<'_>, token: &str, request: &Request) -> Result<Answer> {
    let client = site.nobody(0)?.bearing(token);
    Ok(Answer::of(&site.heard(block_on(client.call(request, CALL)))))
}

/// How the bearer of a token that is not known is on record.
fn unproven(token: &DeployToken) -> String {
    format!("unproven deploy-token {}", token.id())
}
