//! Managers that join where an administrator has to approve them, and that nobody approved.

use std::time::Duration;

use anyhow::{Result, bail};
use model::identity::JoinRole;
use model::request::{JoinRequest, Request, Response};
use pki::JoinToken;
use rpc::tls::ClientTls;

use super::joins::{request, token};
use crate::client::{Client, block_on};
use crate::trust::answer::{Answer, Verdict};
use crate::trust::node::facts;
use crate::trust::site::{CALL, Site};
use crate::trust::tally::Tally;

pub fn run(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let before = members(site)?;
    site.done(&["manager", "approval", "on"])?;
    let token = token(site, JoinRole::Manager, 5, Duration::from_secs(600))?;
    let who = format!("token {}", token.id());
    let (first, second) = (manager(&token)?, manager(&token)?);

    tally.tried("a manager that nobody approved", &join(site, &token, &first)?).saying(&["waits as"]);
    judge(site, &first.fingerprint(), true)?;
    tally
        .tried("another key under the name and address that were approved", &join(site, &token, &second)?)
        .saying(&["waits as"]);
    judge(site, &second.fingerprint(), false)?;
    tally
        .tried("a manager that was denied", &join(site, &token, &second)?)
        .saying(&["denied it"])
        .on_record(&who, "join");
    let itself = Request::JudgeJoiner { joiner: second.fingerprint(), approve: true };
    let client = client(site, &token)?;
    let answer = Answer::of(&site.heard(block_on(client.call(&itself, CALL))));
    tally
        .tried("a manager that approves itself", &answer)
        .saying(&["certificate"])
        .on_record("anonymous", "approve");

    site.admin(&Request::RevokeToken(token.id()))?;
    tally
        .tried("an approved manager whose token was revoked", &join(site, &token, &first)?)
        .saying(&["not accepted"])
        .on_record(&who, "join");
    site.done(&["manager", "approval", "off"])?;
    tally.holds("no manager came by any of these", members(site)? == before);
    Ok(())
}

/// A manager with a fresh key under the one name.
fn manager(token: &JoinToken) -> Result<JoinRequest> {
    Ok(JoinRequest { facts: facts("m8"), address: "127.0.0.1:9".into(), ..request(token)? })
}

/// One with the token, from an address that nobody had before.
fn client(site: &Site<'_>, token: &JoinToken) -> Result<Client> {
    let tls = ClientTls::pinned(*token.fingerprint().as_bytes())?;
    Ok(block_on(async { Client::with(&site.elsewhere(0), tls) }))
}

/// To be told to wait is not to be let in.
fn join(site: &Site<'_>, token: &JoinToken, join: &JoinRequest) -> Result<Answer> {
    let request = Request::Join(Box::new(join.clone()));
    let outcome = site.heard(block_on(client(site, token)?.call(&request, CALL)));
    Ok(match outcome.as_ref().map(|reply| &reply.response) {
        Ok(Response::Waits { fingerprint }) => {
            Answer::refused(Verdict::Denied, format!("waits as {fingerprint}"))
        }
        _ => Answer::of(&outcome),
    })
}

fn judge(site: &Site<'_>, fingerprint: &str, approve: bool) -> Result<()> {
    site.admin(&Request::JudgeJoiner { joiner: fingerprint.to_owned(), approve }).map(drop)
}

fn members(site: &Site<'_>) -> Result<usize> {
    match site.admin(&Request::ListMembers)? {
        Response::Members(members) => Ok(members.len()),
        _ => bail!("no members"),
    }
}
