//! Joining: a key is made here, a token proves the invitation, a manager says who this node is.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use model::{
    identity::JoinRole,
    network::AddressPool,
    request::{JoinRequest, Request, Response},
};
use pki::{CaCertificate, JoinToken, KeyAndCsr};
use rpc::tls::ClientTls;

use crate::{
    args::Join,
    ask::ask,
    config::Config,
    directory::Directory,
    engine::{self, Engine},
    facts,
    identity::{Given, Identity},
    network,
};

/// Joins, and keeps the identity. Nothing is written before a manager agreed.
///
/// # Errors
/// The token is not accepted, no manager answers, or the node has joined before.
pub async fn join(args: Join) -> Result<()> {
    let token: JoinToken = args.token.parse().context("the join token")?;
    ensure!(
        token.role() == JoinRole::Agent,
        "this is a token for a manager; make one with: orchctl token create --role agent"
    );
    let directory = Directory::take(&args.dir)?;
    if let Some(old) = Identity::load(&directory)? {
        bail!(
            "this machine is node {} of cluster {} already; first: orch-agent leave --dir {}",
            old.node,
            old.cluster,
            args.dir.display()
        );
    }
    let labels: std::collections::BTreeMap<_, _> = args.labels.into_iter().collect();
    let pair = KeyAndCsr::generate()?;
    let request = Request::Join(Box::new(JoinRequest {
        role: JoinRole::Agent,
        token: token.id(),
        secret: token.secret().to_vec(),
        csr: pair.csr_pem.clone(),
        facts: facts::read(args.hostname.as_deref(), labels.clone()),
        address: String::new(),
        key: None,
    }));
    let tls = ClientTls::pinned(*token.fingerprint().as_bytes())?;
    let response = ask(&args.managers, &tls, &request).await?;
    let Response::Joined { certificate, authority, cluster, node: Some(node), managers, pool, .. } = response
    else {
        bail!("the manager gave another answer than asked for: are its version and this one's alike?");
    };
    let presented = CaCertificate::from_pem(&authority)?;
    ensure!(presented.fingerprint() == token.fingerprint(), "the authority in the answer is not the token's");
    let mut addresses = args.managers.clone();
    addresses.extend(managers.into_iter().map(|manager| manager.address));
    addresses.sort();
    addresses.dedup();
    let given = Given { cluster, node, authority, certificate };
    let mut identity = Identity::new(given, pair.key_pem(), addresses);
    identity.labels = labels;
    identity.hostname = args.hostname;
    identity.credentials()?;
    identity.save(&directory)?;
    println!("joined cluster {cluster} as node {node}");
    if let Some(pool) = pool {
        warn_of_overlaps(&pool, &args.dir).await;
    }
    println!("start the agent with: orch-agent run --dir {}", args.dir.display());
    Ok(())
}

/// Says what of the pool's addresses this machine reaches elsewhere: networks with those addresses could not be made here.
async fn warn_of_overlaps(pool: &AddressPool, directory: &Path) {
    let overlaps = network::overlaps(pool, &engine_of(directory)).await;
    if overlaps.is_empty() {
        return;
    }
    eprintln!(
        "warning: networks of this cluster get their addresses out of {pool}, and this machine has other uses for some of them:"
    );
    overlaps.iter().for_each(|overlap| eprintln!("  {overlap}"));
    eprintln!(
        "tasks of networks with such addresses will wait and say so; change that here, or the pool: orchctl network pool set ADDRESSES"
    );
}

/// The engine that the agent will use, as far as that is configured already.
fn engine_of(directory: &Path) -> Engine {
    let config = Config::read(None, &directory.join("agent.toml")).unwrap_or_default();
    Engine::new(config.engine.as_deref().unwrap_or(engine::DEFAULT_ADDRESS))
}
