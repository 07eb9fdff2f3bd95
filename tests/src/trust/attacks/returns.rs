//! Certificates that are shown to get another one: by nodes that were removed, and by who is none.

use anyhow::{Context, Result, bail};
use model::identity::{CertName, Identity};
use model::request::{ReenrolRequest, Reply, Request, Response};
use model::time::WallTime;
use pki::{ClusterCa, KeyAndCsr, PrivateKey};

use crate::client::block_on;
use crate::trust::answer::Answer;
use crate::trust::cast::Papers;
use crate::trust::site::{CALL, Site};
use crate::trust::tally::Tally;

pub fn run(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let cast = &site.cast;
    let own = |papers: &Papers| show(site, &papers.certificate, &papers.key);
    let foreign = foreign(site)?;
    let n1 = &cast.n1.papers;
    let node = |id| format!("node {id}");
    let anonymous = || "anonymous".to_owned();
    let user = |name| format!("user {name}");
    for (name, outcome, says, who) in [
        (
            "a removed node that comes back",
            own(&cast.removed_node.papers)?,
            "fresh token",
            node(cast.removed_node.id),
        ),
        ("a node's certificate of another authority", own(&foreign)?, "wrong CA", anonymous()),
        (
            "a node's certificate with another's key",
            show(site, &n1.certificate, &cast.n2.papers.key)?,
            "does not belong",
            anonymous(),
        ),
        (
            "a node's certificate over a request with a broken proof",
            broken(site, n1)?,
            "proves no node",
            anonymous(),
        ),
        ("a person whose certificate expired", own(&cast.expired)?, "machines that join", user("late")),
        ("a person whom an admin removed", own(&cast.removed)?, "worth nothing", user("gone")),
        ("a manager's certificate", own(&cast.manager)?, "manager 1", "manager 1".to_owned()),
    ] {
        tally.tried(name, &Answer::of(&outcome)).saying(&[says]).on_record(&who, "re-enrol");
    }
    given_up(site, tally)
}

/// A key that was given up at a renewal, as from an old backup; the newest one does come back.
fn given_up(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let old = site.join("n6")?;
    let pair = KeyAndCsr::generate()?;
    let renew = Request::RenewCertificate { csr: pair.csr_pem.clone(), key: None };
    let renewed = block_on(site.client(&old.papers, 0)?.call(&renew, CALL))?;
    let Response::Joined { certificate, .. } = renewed.response else { bail!("no certificate") };
    let outcome = show(site, &old.papers.certificate, &old.papers.key)?;
    tally
        .tried("a key that was given up at a renewal", &Answer::of(&outcome))
        .saying(&["over another key"])
        .on_record(&format!("node {}", old.id), "re-enrol");
    let newest = show(site, &certificate, &pair.key_pem())?;
    tally.holds("a node comes back with its newest certificate", newest.is_ok());
    site.admin(&Request::RemoveNode { node: "n6".into(), force: true }).map(drop)
}

/// Shows a certificate, with a request that this key signs.
fn show(site: &Site<'_>, certificate: &str, key: &str) -> Result<Result<Reply>> {
    let pair = KeyAndCsr::for_key(PrivateKey::from_pem(key)?)?;
    ask(site, certificate, pair.csr_pem)
}

/// The owner's request, its signature spoilt.
fn broken(site: &Site<'_>, papers: &Papers) -> Result<Result<Reply>> {
    let csr = KeyAndCsr::for_key(PrivateKey::from_pem(&papers.key)?)?.csr_pem;
    let end = csr.find("\n-----END").context("a request in PEM")?;
    // Well before the padding, within the signature.
    let at = end - 12;
    let other = if &csr[at..=at] == "A" { "B" } else { "A" };
    ask(site, &papers.certificate, format!("{}{other}{}", &csr[..at], &csr[at + 1..]))
}

fn ask(site: &Site<'_>, certificate: &str, csr: String) -> Result<Result<Reply>> {
    let request =
        ReenrolRequest { certificate: certificate.to_owned(), csr, serial: 0, key: None, own: false };
    Ok(site.heard(block_on(site.nobody(0)?.call(&Request::Reenrol(Box::new(request)), CALL))))
}

/// Names `n1`, signed by an authority that calls its cluster the same.
fn foreign(site: &Site<'_>) -> Result<Papers> {
    let now = WallTime(u64::try_from(std::time::UNIX_EPOCH.elapsed()?.as_micros())?);
    let name = CertName { cluster: site.id, identity: Identity::Node(site.cast.n1.id) };
    let pair = KeyAndCsr::generate()?;
    let life = std::time::Duration::from_secs(3600);
    let certificate =
        ClusterCa::generate(site.id, now)?.issue(pair.csr_pem.as_bytes(), &name, life, now, 7)?;
    Ok(Papers { certificate, key: pair.key_pem() })
}
