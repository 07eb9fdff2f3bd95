//! A fresh certificate at half of the old one's life, so that managers may be away for the other half.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, bail};
use model::{
    request::{Request, Response},
    time::WallTime,
};
use pki::{KeyAndCsr, LeafCertificate};
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
                match renew(&mut identity, &directory, &known, &tls, &reloader).await {
                    Ok(()) => {
                        tracing::info!("the certificate was renewed");
                        Duration::ZERO
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
    if let Err(problem) = validity.check(now) {
        tracing::error!(%problem, "managers refuse this node; if its clock is right, it must join anew");
    }
    Ok(Duration::from_micros(validity.renew_at().0.saturating_sub(now.0)))
}

fn wall_now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// The old identity stays in use until the new one is on the disk.
async fn renew(
    identity: &mut Identity,
    directory: &Directory,
    managers: &[String],
    tls: &ClientTls,
    reloader: &CertReloader,
) -> Result<()> {
    let pair = KeyAndCsr::generate()?;
    let request = Request::RenewCertificate { csr: pair.csr_pem.clone() };
    let Response::Joined { certificate, .. } = ask(managers, tls, &request).await? else {
        bail!("the manager gave another answer than asked for");
    };
    let fresh = identity.renewed(certificate, pair.key_pem());
    let credentials = fresh.credentials()?;
    fresh.save(directory)?;
    reloader.swap(credentials);
    *identity = fresh;
    Ok(())
}

#[cfg(test)]
mod tests;
