//! This manager's own certificate: replaced at half of its life, without touching open connections, and after its end.
//!
//! While it counts, the leader issues the next one, as for everybody. Once it has run out, nobody lets this manager in to ask, and after a
//! long time off all managers may be in that state; so it signs for itself then, with the authority's key that every manager holds.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use model::{
    id::MemberId,
    request::{Request, Response},
};
use pki::{ClockProblem, KeyAndCsr, LeafCertificate, PrivateKey};
use rpc::tls::{CertReloader, ClientTls};
use tokio::sync::{mpsc, oneshot};

use crate::{
    client,
    core_loop::{Input, Shared, now},
    dir::{DataDir, Pems},
};

/// How often the certificate's age is looked at: a suspended machine, or a clock that is set, is noticed after so long.
const CHECK: Duration = Duration::from_secs(60);
/// How often a manager tries that others refuse: it may still be reading its log.
const RETRY: Duration = Duration::from_secs(1);

/// What it takes.
pub struct Renewal {
    /// Where certificate and key lie.
    pub dir: DataDir,
    /// What they are now.
    pub pems: Pems,
    /// The way to the managers.
    pub tls: ClientTls,
    /// What connections present.
    pub credentials: CertReloader,
    /// Where this manager is.
    pub address: String,
    /// Who it is.
    pub member: MemberId,
    /// The way to its core.
    pub core: mpsc::Sender<Input>,
    /// Where the others are.
    pub shared: Shared,
}

impl Renewal {
    /// Keeps the certificate fresh for as long as it is polled.
    pub async fn keep_fresh(mut self) {
        loop {
            let pause = match self.renew_if_due().await {
                Ok(()) => CHECK,
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "the certificate could not be renewed; trying again");
                    if self.has_ended() { RETRY } else { CHECK }
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn has_ended(&self) -> bool {
        let wall = now(std::time::Instant::now()).wall;
        let leaf = LeafCertificate::from_pem(&self.pems.certificate);
        leaf.is_ok_and(|leaf| matches!(leaf.validity.check(wall), Err(ClockProblem::Expired { .. })))
    }

    async fn renew_if_due(&mut self) -> Result<()> {
        let leaf = LeafCertificate::from_pem(&self.pems.certificate)?;
        let wall = now(std::time::Instant::now()).wall;
        let certificate = match leaf.validity.check(wall) {
            Err(problem @ ClockProblem::Expired { .. }) => {
                tracing::warn!(%problem, "others refuse this manager; it signs a certificate for itself");
                self.own().await?
            }
            problem => {
                if let Err(problem) = problem {
                    tracing::error!(%problem, "others refuse this manager: compare the machines' clocks");
                }
                if leaf.validity.renew_at() > wall {
                    return Ok(());
                }
                self.issued().await?
            }
        };
        self.pems.certificate = certificate;
        self.dir.write_certificate(&self.pems.certificate)?;
        self.credentials.swap(self.pems.credentials()?);
        tracing::info!("renewed this manager's certificate");
        Ok(())
    }

    async fn issued(&self) -> Result<String> {
        let mut managers = vec![self.address.clone()];
        managers.extend(self.shared.standing.borrow().addresses.values().cloned());
        let request = Request::RenewCertificate { csr: self.csr()? };
        let reply = client::call(&managers, &self.tls, &request).await?;
        let Response::Joined { certificate, .. } = reply.response else {
            bail!("an unexpected answer to the renewal");
        };
        Ok(certificate)
    }

    async fn own(&self) -> Result<String> {
        let (answer, answered) = oneshot::channel();
        let input = Input::OwnCertificate { member: self.member, csr: self.csr()?, answer };
        self.core.send(input).await.ok().context("this manager is shutting down")?;
        Ok(answered.await.context("this manager is shutting down")??)
    }

    fn csr(&self) -> Result<String> {
        Ok(KeyAndCsr::for_key(PrivateKey::from_pem(&self.pems.key)?)?.csr_pem)
    }
}
