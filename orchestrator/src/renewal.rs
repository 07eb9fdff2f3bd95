//! This manager's own certificate: replaced at half of its life, without touching open connections, and after its end.
//!
//! While it counts, the leader issues the next one, as for everybody. Once it has run out, nobody lets this manager in to ask, and after a
//! long time off all managers may be in that state; so it signs for itself then, with the authority's key that every manager holds.
//!
//! While the authority is being replaced, the leader issues the next one as well. A manager that does not get it signs for itself meanwhile:
//! the others may have seen the end of the rotation already, which waits for entries and not for answers, and let it in no more.

use std::{cmp::Reverse, time::Duration};

use anyhow::{Context as _, Result, bail};
use model::{
    id::MemberId,
    request::{Request, Response},
};
use pki::{CaCertificate, ClockProblem, KeyAndCsr, LeafCertificate, PrivateKey};
use rpc::{
    identity::PeerCertificate,
    tls::{CertReloader, ClientTls, Connections, ServerTls},
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    client,
    core_loop::{AuthorityNews, Input, Shared, now},
    dir::{DataDir, Pems},
};

/// How often the certificate's age is looked at: a suspended machine, or a clock that is set, is noticed after so long.
const CHECK: Duration = Duration::from_secs(60);
/// How often a manager tries that others refuse, because it may still be reading its log, or for which a rotation waits.
const RETRY: Duration = Duration::from_secs(1);

/// What it takes.
pub struct Renewal {
    /// Where certificate and key lie.
    pub dir: DataDir,
    /// What they are now.
    pub pems: Pems,
    /// The way to the managers.
    pub tls: ClientTls,
    /// How others are let in.
    pub server: ServerTls,
    /// Who is connected.
    pub connections: Connections,
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
            let news = self.shared.authority.borrow_and_update().clone();
            if let Err(error) = self.follow(news.as_ref()).await {
                let error = format!("{error:#}");
                tracing::warn!(error, "the certificate could not be renewed; trying again");
            }
            let hurry = self.has_ended() || news.is_some_and(|news| news.renew);
            let pause = if hurry { RETRY } else { CHECK };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                Ok(()) = self.shared.authority.changed() => {}
            }
        }
    }

    async fn follow(&mut self, news: Option<&AuthorityNews>) -> Result<()> {
        if let Some(news) = news {
            self.trust(&news.bundle)?;
        }
        self.renew_if_due(news).await
    }

    /// Takes up the authority's bundle, and cuts whoever came with a certificate that no trusted one has issued.
    ///
    /// After a restart the state may lag behind what this manager has seen: it goes back neither to an earlier authority nor to trusting one
    /// that is done with.
    fn trust(&mut self, bundle: &str) -> Result<()> {
        if self.pems.authority == bundle || progress(bundle)? < progress(&self.pems.authority)? {
            return Ok(());
        }
        let pems = Pems { authority: bundle.to_owned(), ..self.pems.clone() };
        let credentials = pems.credentials()?;
        self.dir.write_authority(bundle)?;
        self.tls.trust(bundle)?;
        self.server.trust(bundle)?;
        self.credentials.swap(credentials);
        self.pems = pems;
        let trusted = CaCertificate::all_from_pem(bundle)?;
        let is_foreign =
            |certificate: &PeerCertificate| !trusted.iter().any(|of| of.issued(&certificate.der));
        let cut = self.connections.disconnect(|peer| peer.certificate().is_some_and(is_foreign));
        tracing::info!(trusted = trusted.len(), cut, "the cluster's authority changed");
        Ok(())
    }

    fn has_ended(&self) -> bool {
        let wall = now(std::time::Instant::now()).wall;
        let leaf = LeafCertificate::from_pem(&self.pems.certificate);
        leaf.is_ok_and(|leaf| matches!(leaf.validity.check(wall), Err(ClockProblem::Expired { .. })))
    }

    async fn renew_if_due(&mut self, news: Option<&AuthorityNews>) -> Result<()> {
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
                let is_behind = news.is_some_and(|news| news.renew);
                if is_behind || leaf.validity.renew_at() <= wall {
                    match self.issued().await {
                        Err(error) if self.is_of_another() => {
                            let error = format!("{error:#}");
                            tracing::warn!(error, "no manager issues one; this one signs for itself");
                            self.own().await?
                        }
                        issued => issued?,
                    }
                } else if self.is_of_another() {
                    tracing::warn!("the certificate is of a former authority; this manager signs for itself");
                    self.own().await?
                } else {
                    return Ok(());
                }
            }
        };
        self.pems.certificate = certificate;
        self.dir.write_certificate(&self.pems.certificate)?;
        self.credentials.swap(self.pems.credentials()?);
        tracing::info!("renewed this manager's certificate");
        Ok(())
    }

    /// Whether the authority has not issued this manager's certificate.
    fn is_of_another(&self) -> bool {
        let present = CaCertificate::from_pem(&self.pems.authority);
        let leaf = LeafCertificate::der_from_pem(&self.pems.certificate);
        present.is_ok_and(|present| leaf.is_ok_and(|leaf| !present.issued(&leaf)))
    }

    async fn issued(&self) -> Result<String> {
        let mut managers = vec![self.address.clone()];
        managers.extend(self.shared.standing.borrow().addresses.values().cloned());
        let request = Request::RenewCertificate { csr: self.csr()?, key: None };
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

/// How far the authority's replacements have come in a bundle: which one it is, and how few others are trusted beside it.
fn progress(bundle: &str) -> Result<(u32, Reverse<usize>)> {
    let trusted = CaCertificate::all_from_pem(bundle)?;
    let present = trusted.first().context("a bundle without an authority")?;
    Ok((present.nth(), Reverse(trusted.len())))
}

#[cfg(test)]
mod tests {
    use model::{id::ClusterId, time::WallTime};
    use pki::ClusterCa;

    use super::*;

    #[test]
    fn an_authority_and_whom_it_trusts_never_go_back() {
        let now = WallTime(1_800_000_000_000_000);
        let first = ClusterCa::generate(ClusterId(1), now).expect("an authority");
        let (second, bridge) = first.successor(now).expect("a successor");
        let [old, new] = [first.certificate_pem(), second.certificate_pem()];
        let stages = [old.to_owned(), format!("{new}{old}{bridge}"), format!("{new}{bridge}")];
        let progress: Vec<_> = stages.iter().map(|stage| progress(stage).expect("a bundle")).collect();
        assert!(progress.is_sorted_by(|before, after| before < after), "{progress:?}");
    }
}
