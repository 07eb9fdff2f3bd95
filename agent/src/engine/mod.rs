//! The Docker Engine, as `agent-core` wants to see it.
//!
//! `calls` carries out one call and sorts what went wrong (`error`); `create` and `view` translate a container there
//! and back; `credentials` reads the logins for registries; `networks` makes networks; `places` looks where binds lead; `watch` keeps the event stream; `logs` reads what containers print; `exec` runs programs in them. Everything goes through bollard, whose
//! traps are: it sends its own API version unless asked to negotiate, its timeout is per client, and its streams end
//! with the engine.

mod calls;
mod create;
mod credentials;
mod error;
mod exec;
mod last_words;
mod logs;
mod networks;
mod places;
mod view;
mod watch;

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use bollard::{API_DEFAULT_VERSION, Docker, errors::Error as DockerError};

pub use credentials::Logins;
pub use error::chain;
pub(crate) use logs::{before_now, stamped};
pub use watch::{Ours, watch};

use model::policy::places::clean;

use crate::{attempts::Attempts, files::Files, network::Networks};

/// Where an engine usually listens.
pub const DEFAULT_ADDRESS: &str = "unix:///var/run/docker.sock";
/// For what bollard does by itself. Each call has a limit of its own, chosen where it is made.
const CLIENT_TIMEOUT_S: u64 = 24 * 3600;

/// An engine. Cheap to clone; every call makes a connection of its own, so a hanging call delays no other.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: String,
    /// A client that speaks the engine's version.
    negotiated: Mutex<Option<Docker>>,
    /// Thousandths of a core that the machine has, once it is known: the engine refuses limits beyond.
    cpu_millis: AtomicU64,
    logins: Logins,
    networks: Option<Networks>,
    attempts: Option<Attempts>,
    files: Option<Files>,
    /// What no service gets: the agent's own directory, the engine's socket.
    own: Vec<String>,
    /// Where the engine keeps what is its, once it has said so.
    root: Mutex<Option<String>>,
}

impl Engine {
    /// The engine at `unix:///path` or `http://host:port`. Nothing is contacted.
    pub fn new(address: &str) -> Self {
        Self::of_node(address, Logins::default(), None, None, None, &[])
    }

    /// The same, with what it may tell registries, the node's networks to put containers into, where to keep what is left of them, where
    /// their secrets and configs are, and what of this machine's files no container may have.
    pub fn of_node(
        address: &str,
        logins: Logins,
        networks: Option<Networks>,
        attempts: Option<Attempts>,
        files: Option<Files>,
        own: &[&std::path::Path],
    ) -> Self {
        Self(Arc::new(Inner {
            address: address.to_owned(),
            negotiated: Mutex::new(None),
            cpu_millis: AtomicU64::new(0),
            logins,
            networks,
            attempts,
            files,
            own: own.iter().filter_map(|path| Some(clean(path.canonicalize().ok()?.to_str()?))).collect(),
            root: Mutex::new(None),
        }))
    }

    async fn client(&self) -> Result<Docker, DockerError> {
        let known = self.negotiated().clone();
        match known {
            Some(client) => Ok(client),
            None => self.renegotiate().await,
        }
    }

    /// Asks the engine for its version again: it may be another one since it was last reached.
    async fn renegotiate(&self) -> Result<Docker, DockerError> {
        let address = &self.0.address;
        let client = match address.strip_prefix("unix://") {
            Some(path) => Docker::connect_with_unix(path, CLIENT_TIMEOUT_S, API_DEFAULT_VERSION)?,
            None => Docker::connect_with_http(address, CLIENT_TIMEOUT_S, API_DEFAULT_VERSION)?,
        };
        let client = client.negotiate_version().await?;
        *self.negotiated() = Some(client.clone());
        Ok(client)
    }

    /// The lock is held for a clone only; a value that a panic left behind is whole.
    fn negotiated(&self) -> MutexGuard<'_, Option<Docker>> {
        self.0.negotiated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the engine keeps images and containers.
    fn knows_root(&self, root: Option<&str>) {
        let root = root.filter(|root| !root.is_empty()).map(clean);
        *self.0.root.lock().unwrap_or_else(PoisonError::into_inner) = root;
    }

    /// What no service gets.
    fn own_places(&self) -> Vec<String> {
        let root = self.0.root.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.0.own.iter().cloned().chain(root).collect()
    }

    fn cpu_millis(&self) -> u64 {
        self.0.cpu_millis.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
