//! ID tokens that are not the issuer's for us and now, and jobs that the deploy binding does not name.

use anyhow::{Context, Result, bail, ensure};
use manager_core::matrix::{Kind, row};
use model::audit::{Record, Verdict};
use model::binding::ExchangeRequest;
use model::command::Answer as Done;
use model::registry::Secret;
use model::request::{Reply, Request, Response};
use pki::{DeploySecret, DeployToken};

use crate::client::block_on;
use crate::issuer::{AUDIENCE, Issuer};
use crate::trust::answer::Answer;
use crate::trust::canaries;
use crate::trust::site::{CALL, REPOSITORY, Site};
use crate::trust::tally::Tally;
use crate::wrong_tokens::{Wrong, claiming, not_ours, other_jobs, oversized};

/// What the binding is for.
const SERVICE: &str = "ispyb";

pub fn run(site: &Site<'_>, tally: &mut Tally) -> Result<()> {
    let issuer = Issuer::start()?;
    declare(site, &issuer)?;
    let stranger = Issuer::start()?;
    for Wrong { name, token, says } in not_ours(&issuer, &stranger) {
        plant(site, &token);
        refused(site, tally, &format!("an ID token {name}"), &token, says);
    }
    for (claim, value, says) in other_jobs() {
        let token = claiming(&issuer, claim, value.clone());
        refused(site, tally, &format!("a job whose {claim} is {value}"), &token, says);
    }
    refused(site, tally, "an ID token of 20 KB", &oversized(&issuer), "16384");
    sessions(site, &issuer, tally)
}

fn declare(site: &Site<'_>, issuer: &Issuer) -> Result<()> {
    let ca = site.path("issuer.pem");
    std::fs::write(&ca, issuer.authority())?;
    let ca = ca.display().to_string();
    site.done(&["issuer", "set", "gitlab", "--url", issuer.url(), "--audience", AUDIENCE, "--ca", &ca])?;
    let bind = ["deploy-binding", "create", "main", "--service", SERVICE, "--image", REPOSITORY];
    let whose = ["--issuer", "gitlab", "--project-id", "42", "--ref", "main", "--environment", "production"];
    site.done(&[&bind[..], &whose].concat())
}

/// A token that must lie nowhere: by its signature, or by what it says if it has none.
fn plant(site: &Site<'_>, token: &str) {
    let part = token.rsplit('.').find(|part| part.len() > 40);
    if let Some(part) = part {
        site.plant_text("ID token", part);
    }
}

fn refused(site: &Site<'_>, tally: &mut Tally, name: &str, token: &str, says: &'static str) {
    let answer = Answer::of(&exchange(site, token, &DeploySecret::from_bytes([9; 32])));
    tally.tried(name, &answer).saying(&[says]).on_record("anonymous", "exchange");
}

/// Shows an ID token, from an address that nobody had before.
fn exchange(site: &Site<'_>, token: &str, secret: &DeploySecret) -> Result<Reply> {
    let (id_token, digest) = (Secret::new(token), secret.digest());
    let request = ExchangeRequest { id_token, binding: None, digest, proof: None };
    site.heard(block_on(site.nobody(0)?.call(&Request::Exchange(Box::new(request)), CALL)))
}

/// What follows on a token that is right: it is so once, and its session is for the service's image and ends with the binding.
fn sessions(site: &Site<'_>, issuer: &Issuer, tally: &mut Tally) -> Result<()> {
    let token = issuer.sign(&issuer.claims());
    plant(site, &token);
    let bytes = canaries::random()?;
    site.plant("session secret", &bytes);
    let secret = DeploySecret::from_bytes(bytes);
    let Response::Changed { answer: Done::DeployToken { id, .. }, .. } =
        exchange(site, &token, &secret)?.response
    else {
        bail!("the bound job gets a session")
    };
    let session = DeployToken::new(site.cast.join_token.fingerprint(), id, secret);
    refused(site, tally, "an ID token that was used", &token, "used already");
    let said = site.say_with_token(&session.reveal(), &["deploy", "status", SERVICE]);
    tally.holds("a session allows what its binding does", said.code == 0);

    let guessed = DeployToken::new(session.fingerprint(), session.id(), DeploySecret::from_bytes([7; 32]));
    let deploy = row(Kind::Deploy).request;
    let try_it = |token: &DeployToken, request: &Request| -> Result<Answer> {
        let client = site.nobody(0)?.bearing(&token.reveal());
        Ok(Answer::of(&site.heard(block_on(client.call(request, CALL)))))
    };
    let unproven = format!("unproven deploy-token {}", session.id());
    tally
        .tried("a session with a guessed secret", &try_it(&guessed, &deploy)?)
        .saying(&["not accepted"])
        .on_record(&unproven, "deploy");
    let holder = holder(site)?;
    for (name, request) in [
        ("a session that scales", row(Kind::ScaleServices).request),
        ("a session that removes", Request::RemoveService(SERVICE.into())),
        ("a session that makes a binding", row(Kind::CreateBinding).request),
    ] {
        let verb = model::audit::about::about(&request).context("a change")?.verb;
        tally
            .tried(name, &try_it(&session, &request)?)
            .saying(&["deploy binding \"main\""])
            .on_record(&holder, &verb);
    }
    site.done(&["deploy-binding", "rm", "main"])?;
    tally
        .tried("a session whose binding was removed", &try_it(&session, &deploy)?)
        .saying(&["not accepted"])
        .on_record(&unproven, "deploy");
    site.done(&["issuer", "rm", "gitlab"])?;
    refused(
        site,
        tally,
        "a job whose issuer was removed",
        &issuer.sign(&issuer.claims()),
        "is not declared here",
    );
    ensure!(issuer.asked() <= 2, "strangers do not make managers ask: {}", issuer.asked());
    Ok(())
}

/// How the session is on record: by its binding, and the job that its exchange was recorded with.
fn holder(site: &Site<'_>) -> Result<String> {
    let records = site.records()?;
    let exchanged = |record: &&Record| record.verb == "exchange" && record.verdict == Verdict::Accepted;
    let job = records.iter().rfind(exchanged).and_then(|record| record.job.clone());
    Ok(format!("deploy-binding main ({})", job.context("the exchange is on record with its job")?))
}
