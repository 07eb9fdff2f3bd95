//! A fresh certificate at half of the old one's life, so that managers may be away for the other half. A node that was off for longer proves
//! with the key of its old certificate that it is still that node, and gets another one.

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

use crate::{ask::ask, directory::Directory, identity::Identity};

/// A wall clock may be set at any time: look again at least so often.
const LOOK_AGAIN: Duration = Duration::from_secs(3_600);
/// After a failure.
const RETRY: Duration = Duration::from_secs(60);

/// Managers as last heard, shared with the loop that hears.
pub type Addresses = Arc<Mutex<Vec<String>>>;

/// Keeps the identity fresh for as long as it is polled.
pub async fn keep_fresh(
    mut identity: Identity,
    directory: Arc<Directory>,
    managers: Addresses,
    tls: ClientTls,
    reloader: CertReloader,
) {
    loop {
        let pause = match due_in(&identity) {
            Ok(pause) if !pause.is_zero() => pause.min(LOOK_AGAIN),
            Ok(_) => {
                let known = managers.lock().unwrap_or_else(PoisonError::into_inner).clone();
                match refresh(&identity, &known, &tls)
                    .await
                    .and_then(|fresh| adopt(fresh, &directory, &reloader))
                {
                    Ok(fresh) => {
                        identity = fresh;
                        tracing::info!("the certificate was renewed");
                        // By a clock that is far ahead the fresh one has ended too.
                        if ended(&identity).is_some() { RETRY } else { Duration::ZERO }
                    }
                    Err(error) => {
                        tracing::warn!(error = %format!("{error:#}"), "the certificate could not be renewed");
                        RETRY
                    }
                }
            }
            Err(error) => {
                tracing::error!(error = %format!("{error:#}"), "the certificate cannot be read");
                LOOK_AGAIN
            }
        };
        tokio::time::sleep(pause).await;
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

/// The identity with a fresh certificate: over a fresh key while the old one counts, by proof of the old key after its end.
async fn refresh(identity: &Identity, managers: &[String], tls: &ClientTls) -> Result<Identity> {
    if ended(identity).is_some() {
        return reenrol(identity, managers).await;
    }
    let pair = KeyAndCsr::generate()?;
    let request = Request::RenewCertificate { csr: pair.csr_pem.clone() };
    let certificate = certificate(managers, tls, &request).await?;
    Ok(identity.renewed(certificate, pair.key_pem()))
}

/// The key stays, so that an answer that is lost costs nothing; the renewal at half of the next life changes it.
async fn reenrol(identity: &Identity, managers: &[String]) -> Result<Identity> {
    let csr = KeyAndCsr::for_key(PrivateKey::from_pem(&identity.key)?)?.csr_pem;
    let request = ReenrolRequest { certificate: identity.certificate.clone(), csr, serial: 0 };
    let tls = ClientTls::anonymous(&identity.authority)?;
    let certificate = certificate(managers, &tls, &Request::Reenrol(Box::new(request))).await?;
    Ok(identity.renewed(certificate, identity.key.clone()))
}

async fn certificate(managers: &[String], tls: &ClientTls, request: &Request) -> Result<String> {
    let Response::Joined { certificate, .. } = ask(managers, tls, request).await? else {
        bail!("the manager gave another answer than asked for");
    };
    Ok(certificate)
}

/// The old identity stays in use until the new one is on the disk.
fn adopt(fresh: Identity, directory: &Directory, reloader: &CertReloader) -> Result<Identity> {
    let credentials = fresh.credentials()?;
    fresh.save(directory)?;
    reloader.swap(credentials);
    Ok(fresh)
}

#[cfg(test)]
mod tests;
