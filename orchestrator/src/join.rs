//! `orch-manager join`: becomes a member of an existing cluster.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use model::{
    identity::JoinRole,
    node::Facts,
    request::{JoinRequest, Request, Response},
};
use pki::{JoinToken, KeyAndCsr};
use rpc::tls::ClientTls;

use crate::{
    client,
    config::with_port,
    dir::{DataDir, Identity, Pems, Seed},
    entropy, storage,
};

/// Between two questions whether an administrator has approved.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// What `join` is told.
pub struct JoinArgs {
    /// The data directory.
    pub dir: PathBuf,
    /// The token's text.
    pub token: String,
    /// Managers to ask.
    pub managers: Vec<String>,
    /// The manager's name.
    pub name: String,
    /// `host:port` where others reach it.
    pub address: String,
    /// Where to listen, if not on every address.
    pub listen: Option<String>,
}

/// Joins and says what to do next.
pub async fn join(args: &JoinArgs) -> Result<()> {
    let token: JoinToken = args.token.parse().context("--token")?;
    if token.role() != JoinRole::Manager {
        bail!(
            "--token: this token admits a {}; a manager's comes from `orchctl token create --role manager`",
            token.role()
        );
    }
    let address = with_port(&args.address);
    let dir = DataDir::new(&args.dir);
    dir.create()?;
    let key = KeyAndCsr::generate()?;
    let tls = ClientTls::pinned(*token.fingerprint().as_bytes())?;
    let managers: Vec<String> = args.managers.iter().map(|m| with_port(m)).collect();
    let join = JoinRequest {
        role: JoinRole::Manager,
        token: token.id(),
        secret: token.secret().to_vec(),
        csr: key.csr_pem.clone(),
        facts: Facts { hostname: args.name.clone(), agent: crate::VERSION.to_owned(), ..Facts::default() },
        address: address.clone(),
        key: None,
    };
    let response = admitted(&managers, &tls, join).await?;
    let Response::Joined { certificate, authority, cluster, member, managers, .. } = response else {
        bail!("an unexpected answer to the join");
    };
    let member = member.context("the answer names no member")?;
    dir.write_pems(&Pems { authority, certificate, key: key.key_pem() })?;
    if let Some(listen) = &args.listen {
        let text = format!("listen = \"{}\"\n", with_port(listen));
        crate::dir::write_durably(&dir.root().join("manager.toml"), text.as_bytes(), 0o644)?;
    }
    let (wal, found) = storage::open(&dir.raft(), true, entropy::number()?)?;
    ensure!(found.entries.is_empty(), "{} holds a log already", dir.raft().display());
    drop(wal);
    let seeds: Vec<Seed> = managers
        .into_iter()
        .filter(|m| m.id != member)
        .map(|m| Seed { member: m.id, address: m.address })
        .collect();
    dir.write_identity(&Identity::new(cluster, member, &args.name, &address, seeds))?;
    println!("This is manager {member} of cluster {cluster}. Start it:\n");
    println!("    orch-manager run --dir {}\n", args.dir.display());
    println!("It starts as a learner and votes once it has caught up and an odd number of voters results.");
    Ok(())
}

/// Asks until there is another answer than to wait for an administrator's approval.
async fn admitted(managers: &[String], tls: &ClientTls, join: JoinRequest) -> Result<Response> {
    let (name, fingerprint) = (join.facts.hostname.clone(), join.fingerprint());
    let request = Request::Join(Box::new(join));
    let mut told = false;
    loop {
        match client::call(managers, tls, &request).await?.response {
            Response::Waits { .. } if told => {}
            Response::Waits { .. } => {
                told = true;
                println!("Waiting for an administrator, who should see the same fingerprint as here:\n");
                println!("    {fingerprint}\n");
                println!("    orchctl manager pending\n    orchctl manager approve {name}\n");
            }
            answer => return Ok(answer),
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}
