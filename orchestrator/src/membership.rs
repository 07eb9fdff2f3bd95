//! `orch-manager leave` and `transfer`: what a manager asks of its own cluster, under its own certificate.

use std::path::Path;

use anyhow::{Context, Result, bail};
use model::{
    id::MemberId,
    request::{Reply, Request, Response},
};
use rpc::tls::{CertReloader, ClientTls};

use crate::{
    client,
    dir::{DataDir, Identity},
};

/// Takes this manager out of the cluster. Its process ends by itself once it hears of it.
pub async fn leave(root: &Path) -> Result<()> {
    let dir = DataDir::new(root);
    let identity = dir.identity()?;
    ask(&dir, &identity, &Request::RemoveMember(identity.member)).await?;
    let kept = dir.retire()?;
    println!("Manager {} left cluster {}.", identity.member, identity.cluster);
    println!("Its data stays in {} until you remove it ({}).", root.display(), kept.display());
    Ok(())
}

/// Hands the lead over.
pub async fn transfer(root: &Path, to: Option<MemberId>) -> Result<()> {
    let dir = DataDir::new(root);
    let identity = dir.identity()?;
    ask(&dir, &identity, &Request::TransferLeader { to }).await?;
    println!("The lead was handed over.");
    Ok(())
}

async fn ask(dir: &DataDir, identity: &Identity, request: &Request) -> Result<Reply> {
    let pems = dir.pems()?;
    let tls = ClientTls::mutual(&pems.authority, CertReloader::new(pems.credentials()?))?;
    let mut known = vec![identity.address.clone()];
    known.extend(identity.seeds.iter().map(|seed| seed.address.clone()));
    // The others first, the leader before all: a manager that leaves ends before it could answer.
    let mut managers = others(&known, &tls, identity).await.unwrap_or_default();
    managers.extend(known);
    client::call(&managers, &tls, request).await.context("the cluster did not do it")
}

async fn others(known: &[String], tls: &ClientTls, identity: &Identity) -> Result<Vec<String>> {
    let Response::Members(mut members) = client::call(known, tls, &Request::ListMembers).await?.response
    else {
        bail!("an unexpected answer to the question for the managers");
    };
    members.retain(|status| status.member.id != identity.member && status.reachable);
    members.sort_by_key(|status| !status.leader);
    Ok(members.into_iter().map(|status| status.member.address).collect())
}
