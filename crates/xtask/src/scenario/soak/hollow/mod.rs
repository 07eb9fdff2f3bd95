//! Hundreds of agents in one process: what managers see of them is what they see of real ones.
//!
//! Each joins with a token, holds a certificate of its own and speaks the agents' protocol over TLS; its decisions are those of
//! `agent-core`. Only engine and ledger are memory. They share one thread: when that stands still, all of them do, so they join as
//! workstations, whose silence means something only after half a minute.

mod agent;
mod connection;
mod engine;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use agent_core::agent::Config;
use anyhow::{Context, Result, bail, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use model::{
    identity::JoinRole,
    node::Facts,
    request::{JoinRequest, Request, Response},
};
use pki::{JoinToken, KeyAndCsr};
use rpc::tls::{CertReloader, ClientTls, Credentials};
use tokio::{runtime::Runtime, sync::watch, task::JoinSet};

use crate::client::Client;
use agent::Agent;
pub use agent::Tally;

/// The label by which services find these nodes, or avoid them.
pub const LABEL: &str = "simulated";
/// Joining together; each costs the leader a commit and a signature.
const JOINING: usize = 16;
const PATIENCE: Duration = Duration::from_secs(30);

/// The agents.
pub struct Fleet {
    /// How many.
    pub count: usize,
    /// `host:port` of each manager.
    pub managers: Vec<String>,
    /// To join with, as often as there are agents.
    pub token: String,
    /// What they count.
    pub tally: Arc<Tally>,
}

impl Fleet {
    /// Joins all of them, and lives on this thread until it is told to stop.
    ///
    /// # Errors
    /// One cannot join.
    pub fn live(&self, stop: watch::Receiver<bool>) -> Result<()> {
        let runtime: Runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let token: JoinToken = self.token.parse()?;
            let joins = (0..self.count).map(|number| self.join(number, &token));
            let mut living: JoinSet<()> = JoinSet::new();
            let mut joined = stream::iter(joins).buffer_unordered(JOINING);
            while let Some(agent) = joined.try_next().await? {
                living.spawn(agent.live(stop.clone()));
            }
            while let Some(ended) = living.join_next().await {
                ended.context("a simulated agent panicked")?;
                ensure!(*stop.borrow(), "a simulated agent ended by itself");
            }
            Ok(())
        })
    }

    async fn join(&self, number: usize, token: &JoinToken) -> Result<Agent> {
        let pair = KeyAndCsr::generate()?;
        let facts = Facts {
            hostname: format!("s{number}"),
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            labels: BTreeMap::from([(LABEL.to_owned(), "yes".to_owned())]),
            ..Facts::default()
        };
        let request = Request::Join(Box::new(JoinRequest {
            role: JoinRole::Agent,
            token: token.id(),
            secret: token.secret().to_vec(),
            csr: pair.csr_pem.clone(),
            facts: facts.clone(),
            address: String::new(),
            key: None,
        }));
        let pinned = ClientTls::pinned(*token.fingerprint().as_bytes())?;
        let manager = &self.managers[number % self.managers.len()];
        let reply = Client::with(manager, pinned).call(&request, PATIENCE).await?;
        let Response::Joined { certificate, authority, cluster, node: Some(node), .. } = reply.response
        else {
            bail!("no answer to a join");
        };
        let credentials = Credentials::from_pem(&certificate, &authority, &pair.key_pem())?;
        let tls = ClientTls::mutual(&authority, CertReloader::new(credentials))?;
        let managers = self.managers.clone();
        let config = Config { cluster, node, managers, facts, mesh: None, seed: number as u64 };
        Ok(Agent::new(config, tls, self.tally.clone()))
    }
}
