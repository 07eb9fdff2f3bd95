//! Join tokens that must not admit anybody.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use model::id::TokenId;
use model::identity::JoinRole;
use model::node::NodeSpec;
use model::request::{JoinRequest, Request, Response};
use model::time::WallTime;
use pki::{ClusterCa, JoinToken, KeyAndCsr};
use rpc::tls::ClientTls;

use crate::client::{Client, block_on};
use crate::cluster::PATIENCE;
use crate::trust::answer::Answer;
use crate::trust::node::facts;
use crate::trust::site::{CALL, Site};
use crate::trust::tally::Tally;

pub fn run(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let nodes = || -> Result<usize> {
        match site.admin(&Request::ListNodes)? {
            Response::Nodes(nodes) => Ok(nodes.len()),
            _ => bail!("no nodes"),
        }
    };
    let used = token(site, JoinRole::Agent, 1, Duration::from_secs(60))?;
    let first = join(site, used.fingerprint().as_bytes(), request(&used)?)?;
    ensure!(!first.refused, "a good token admits: {}", first.said);
    let before = nodes()?;

    let twice = join(site, used.fingerprint().as_bytes(), request(&used)?)?;
    tally
        .tried("a token that is used up", &twice)
        .saying(&["token"])
        .on_record(&format!("token {}", used.id()), "join");
    refused_by_state(site, tally)?;
    let good = &site.cast.join_token;
    let fingerprint = good.fingerprint();
    let foreign = foreign(site)?;
    let (half, others) = (good.secret()[..16].to_vec(), foreign.secret().to_vec());
    let manager = JoinRequest { role: JoinRole::Manager, address: "127.0.0.1:1".into(), ..request(good)? };
    for (name, guess) in [
        ("a token's id with a guessed secret", JoinRequest { secret: vec![7; 32], ..request(good)? }),
        ("a token's id with half its secret", JoinRequest { secret: half, ..request(good)? }),
        ("a token's secret with another id", JoinRequest { token: TokenId(77), ..request(good)? }),
        ("a node's token for a manager", manager),
        ("a token of another cluster", JoinRequest { secret: others, ..request(good)? }),
    ] {
        let answer = join(site, fingerprint.as_bytes(), guess)?;
        tally.tried(name, &answer).saying(&["not accepted"]).on_record("anonymous", "join");
    }
    // Its fingerprint keeps its bearer from saying anything to this cluster at all.
    let stranger = join(site, foreign.fingerprint().as_bytes(), request(&foreign)?)?;
    tally.tried("the bearer of a token of another cluster", &stranger).saying(&["fingerprint"]);
    tally.holds("no node came by any of these", nodes()? == before);
    Ok(())
}

/// Right in itself, but its time is over or an admin ended it.
fn refused_by_state(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let revoked = token(site, JoinRole::Agent, 5, Duration::from_secs(60))?;
    site.admin(&Request::RevokeToken(revoked.id()))?;
    let answer = join(site, revoked.fingerprint().as_bytes(), request(&revoked)?)?;
    let who = format!("token {}", revoked.id());
    tally.tried("a token that was revoked", &answer).saying(&["not accepted"]).on_record(&who, "join");

    let short = token(site, JoinRole::Agent, 5, Duration::from_secs(1))?;
    site.cluster.ask("a token to expire", PATIENCE, || {
        let Ok(Response::Tokens(tokens)) = site.admin(&Request::ListTokens) else { return None };
        tokens.iter().all(|token| token.id != short.id()).then_some(())
    })?;
    let answer = join(site, short.fingerprint().as_bytes(), request(&short)?)?;
    let who = format!("token {}", short.id());
    tally.tried("a token that expired", &answer).saying(&["token"]).on_record(&who, "join");
    Ok(())
}

pub(super) fn token(site: &Site<'_>, role: JoinRole, uses: u32, ttl: Duration) -> Result<JoinToken> {
    let request = Request::CreateToken { role, ttl, uses, node_spec: NodeSpec::default() };
    let Response::Token { text, .. } = site.admin(&request)? else { bail!("no token") };
    Ok(text.parse()?)
}

pub(super) fn request(token: &JoinToken) -> Result<JoinRequest> {
    Ok(JoinRequest {
        role: token.role(),
        token: token.id(),
        secret: token.secret().to_vec(),
        csr: KeyAndCsr::generate()?.csr_pem,
        facts: facts("n7"),
        key: None,
        address: String::new(),
    })
}

pub(super) fn join(site: &Site<'_>, fingerprint: &[u8; 32], join: JoinRequest) -> Result<Answer> {
    let pinned = ClientTls::pinned(*fingerprint)?;
    let client = block_on(async { Client::with(&site.elsewhere(0), pinned) });
    Ok(Answer::of(&block_on(client.call(&Request::Join(Box::new(join)), CALL))))
}

/// Of an authority that calls its cluster the same.
fn foreign(site: &Site<'_>) -> Result<JoinToken> {
    let now = WallTime(u64::try_from(std::time::UNIX_EPOCH.elapsed()?.as_micros())?);
    let authority = ClusterCa::generate(site.id, now)?;
    Ok(authority.join_token(JoinRole::Agent, site.cast.join_token.id()))
}
