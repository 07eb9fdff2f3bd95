//! A fresh certificate at half of the old one's life, so that managers may be away for the other half. A node that was off for longer proves
//! with the key of its old certificate that it is still that node, and gets another one. So does one that was off while the authority was replaced.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, bail};
use model::{
    request::{ReenrolRequest, Request, Response},
    time::WallTime,
};
use pki::{ClockProblem, KeyAndCsr, LeafCertificate, PrivateKey};
use rpc::tls::{CertReloader, ClientTls};
use tokio::sync::watch;

use crate::{ask::ask, directory::Directory, identity::Identity};

/// A wall clock may be set at any time: look again at least so often.
const LOOK_AGAIN: Duration = Duration::from_secs(3_600);
/// After a failure.
const RETRY: Duration = Duration::from_secs(60);
/// After a failure, when managers wait for it or let nobody in without it.
const RETRY_SOON: Duration = Duration::from_secs(5);

/// Managers as last heard, shared with the loop that hears.
pub type Addresses = Arc<Mutex<Vec<String>>>;

/// What sessions heard that concerns the identity. Clones share it.
#[derive(Debug, Clone)]
pub struct News(watch::Sender<Heard>);

#[derive(Debug, Clone, Default)]
struct Heard {
    authority: Option<String>,
    renew: bool,
    disowned: bool,
}

impl News {
    /// Nothing was heard yet.
    pub fn none() -> Self {
        Self(watch::Sender::new(Heard::default()))
    }

    /// A manager said what the authority's bundle is, and whether it wants this node to have another certificate.
    pub fn authority(&self, bundle: String, renew: bool) {
        self.0.send_if_modified(|heard| {
            let news = heard.authority.as_ref() != Some(&bundle) || (renew && !heard.renew);
            (heard.authority, heard.renew) = (Some(bundle), renew);
            news
        });
    }

    /// A manager does not know who issued this node's certificate: the authority was replaced while it was away.
    pub fn disowned(&self) {
        self.0.send_if_modified(|heard| !std::mem::replace(&mut heard.disowned, true));
    }

    fn done(&self) {
        self.0.send_if_modified(|heard| {
            (heard.renew, heard.disowned) = (false, false);
            false
        });
    }
}

/// What keeps the identity fresh.
pub struct Keeper {
    /// As it is in use.
    pub identity: Identity,
    /// Where it lies.
    pub directory: Arc<Directory>,
    /// Whom to ask.
    pub managers: Addresses,
    /// The way to them.
    pub tls: ClientTls,
    /// What is presented.
    pub reloader: CertReloader,
    /// What sessions heard.
    pub news: News,
}

impl Keeper {
    /// Keeps it fresh for as long as it is polled.
    pub async fn keep_fresh(mut self) {
        let mut changes = self.news.0.subscribe();
        loop {
            let heard = changes.borrow_and_update().clone();
            if let Some(authority) = &heard.authority {
                self.follow(authority);
            }
            let hurry = heard.renew || heard.disowned;
            let pause = match due_in(&self.identity) {
                Ok(pause) if !pause.is_zero() && !hurry => pause.min(LOOK_AGAIN),
                Ok(_) => match self.refresh(heard.disowned).await.and_then(|fresh| self.adopt(fresh)) {
                    Ok(()) => {
                        self.news.done();
                        tracing::info!("the certificate was renewed");
                        // By a clock that is far ahead the fresh one has ended too.
                        if ended(&self.identity).is_some() { RETRY } else { Duration::ZERO }
                    }
                    Err(error) => {
                        tracing::warn!(error = %format!("{error:#}"), "the certificate could not be renewed");
                        if hurry { RETRY_SOON } else { RETRY }
                    }
                },
                Err(error) => {
                    tracing::error!(error = %format!("{error:#}"), "the certificate cannot be read");
                    LOOK_AGAIN
                }
            };
            // An error is impossible: this keeper has a sender itself.
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = changes.changed() => {}
            }
        }
    }

    /// Trusts this bundle from now on, and presents it beside the certificate.
    fn follow(&mut self, authority: &str) {
        if self.identity.authority == *authority {
            return;
        }
        let mut identity = self.identity.clone();
        authority.clone_into(&mut identity.authority);
        match self.adopt(identity) {
            Ok(()) => tracing::info!("the cluster's authority changed"),
            Err(error) => {
                tracing::error!(error = %format!("{error:#}"), "the authority's new bundle cannot be taken up");
            }
        }
    }

    /// The identity with a fresh certificate: over a fresh key while the old one counts, by proof of the old key otherwise.
    async fn refresh(&mut self, disowned: bool) -> Result<Identity> {
        let managers = self.managers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if disowned || ended(&self.identity).is_some() {
            return reenrol(&self.identity, &managers).await;
        }
        let pair = self.next_pair()?;
        let request = Request::RenewCertificate { csr: pair.csr_pem.clone(), key: None };
        let (certificate, authority) = ask_for(&managers, &self.tls, &request).await?;
        Ok(self.identity.renewed(certificate, authority, pair.key_pem()))
    }

    /// A fresh key, on the disk before anybody hears of it; that of the last try, if its answer never came.
    fn next_pair(&mut self) -> Result<KeyAndCsr> {
        if let Some(key) = &self.identity.next_key {
            return Ok(KeyAndCsr::for_key(PrivateKey::from_pem(key)?)?);
        }
        let pair = KeyAndCsr::generate()?;
        let mut identity = self.identity.clone();
        identity.next_key = Some(pair.key_pem());
        identity.save(&self.directory)?;
        self.identity = identity;
        Ok(pair)
    }

    /// The old identity stays in use until the new one is on the disk.
    fn adopt(&mut self, fresh: Identity) -> Result<()> {
        let credentials = fresh.credentials()?;
        fresh.save(&self.directory)?;
        self.tls.trust(&fresh.authority)?;
        self.reloader.swap(credentials);
        self.identity = fresh;
        Ok(())
    }
}

fn due_in(identity: &Identity) -> Result<Duration> {
    let validity = LeafCertificate::from_pem(&identity.certificate)?.validity;
    let now = wall_now();
    match validity.check(now) {
        Err(problem @ ClockProblem::Expired { .. }) => {
            tracing::warn!(%problem, "managers refuse this node; it re-enrols by proof of its key");
        }
        Err(problem) => tracing::error!(%problem, "managers refuse this node: compare the machines' clocks"),
        Ok(()) => {}
    }
    Ok(Duration::from_micros(validity.renew_at().0.saturating_sub(now.0)))
}

/// Why the certificate counts no more, if it has ended.
fn ended(identity: &Identity) -> Option<ClockProblem> {
    let validity = LeafCertificate::from_pem(&identity.certificate).ok()?.validity;
    validity.check(wall_now()).err().filter(|problem| matches!(problem, ClockProblem::Expired { .. }))
}

fn wall_now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// The key stays, so that an answer that is lost costs nothing; the renewal at half of the next life changes it. Managers know the node by
/// the key that it asked a certificate for last, if they heard of it, and by the one before otherwise.
async fn reenrol(identity: &Identity, managers: &[String]) -> Result<Identity> {
    let tls = ClientTls::anonymous(&identity.authority)?;
    let ask_with = async |key: &String| {
        let csr = KeyAndCsr::for_key(PrivateKey::from_pem(key)?)?.csr_pem;
        let certificate = identity.certificate.clone();
        let request = ReenrolRequest { certificate, csr, serial: 0, key: None, own: false };
        let (certificate, authority) = ask_for(managers, &tls, &Request::Reenrol(Box::new(request))).await?;
        anyhow::Ok(identity.renewed(certificate, authority, key.clone()))
    };
    if let Some(next) = &identity.next_key
        && let Ok(fresh) = ask_with(next).await
    {
        return Ok(fresh);
    }
    ask_with(&identity.key).await
}

/// A certificate, and the bundle of the authority that issued it.
async fn ask_for(managers: &[String], tls: &ClientTls, request: &Request) -> Result<(String, String)> {
    let Response::Joined { certificate, authority, .. } = ask(managers, tls, request).await? else {
        bail!("the manager gave another answer than asked for");
    };
    Ok((certificate, authority))
}

#[cfg(test)]
mod tests;
