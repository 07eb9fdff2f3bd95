//! What a manager is told at start: who it is, and the knobs with their reasons.

use std::time::Duration;

use model::{
    cluster::{Authority, ClusterSettings},
    id::{ClusterId, MemberId},
};
use seal::Keyring;

/// The first member's part of a new cluster.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// The new cluster's authority.
    pub authority: Authority,
    /// Its settings.
    pub settings: ClusterSettings,
}

/// Who this member is and how it behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its Raft id.
    pub member: MemberId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// The host's name, for people.
    pub name: String,
    /// `host:port` where peers, agents and clients reach it; the leader records a change.
    pub address: String,
    /// Its software's version; the leader records a change.
    pub version: String,
    /// Seeds the generator of ids and election timeouts: from the OS's entropy at every start.
    pub rng_seed: u64,
    /// Members to connect to until the state names them (from the answer to the join).
    pub seeds: Vec<(MemberId, String)>,
    /// Found a new cluster if the disk is empty and the cluster is not founded yet. Harmless when it is.
    pub bootstrap: Option<Bootstrap>,
    /// The data keys that its shell durably keeps.
    pub keyring: Keyring,
    /// What data keys and nonces are drawn from.
    pub entropy: Entropy,
    /// Timing and sizes.
    pub knobs: Knobs,
}

/// Bytes of the operating system's entropy, drawn at every start: what follows from them is as secret as a key.
#[derive(Clone)]
pub struct Entropy(pub [u8; 32]);

impl std::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<redacted>")
    }
}

/// Timing and sizes. The defaults are for a local network and SSDs.
#[derive(Debug, Clone)]
pub struct Knobs {
    /// The unit of Raft's timers. 10 ms: a tenth of the shortest election timeout at least.
    pub tick: Duration,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: u32,
    /// The shortest election timeout, in ticks; also the leader's patience with a silent majority.
    pub election_ticks: u32,
    /// The election timeout is drawn from `election_ticks .. election_ticks + election_spread`.
    pub election_spread: u32,
    /// A snapshot is taken after so many entries.
    pub snapshot_entries: u64,
    /// Or after so many bytes of entries.
    pub snapshot_bytes: u64,
    /// Entries kept behind a snapshot, so that a member that is a little behind needs no snapshot.
    pub keep_entries: u64,
    /// Members compare a hash of their state every so many entries.
    pub hash_every: u64,
    /// Agents beat so often: three beats within the patience with a server.
    pub agent_heartbeat: Duration,
    /// One part of a set of assignments carries at most so many bytes.
    pub assignment_part: usize,
    /// Assignments wait so long for the meaning of their image's tag before they go out without it.
    pub pin_patience: Duration,
    /// A registry may take so long to answer a manager; then everything goes on without its word.
    pub registry_patience: Duration,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(10),
            heartbeat_ticks: 4,
            election_ticks: 15,
            election_spread: 15,
            snapshot_entries: 10_000,
            snapshot_bytes: 32 * 1024 * 1024,
            keep_entries: 1_000,
            hash_every: 1_000,
            agent_heartbeat: Duration::from_millis(500),
            assignment_part: model::session::MAX_SET_PART,
            pin_patience: Duration::from_secs(3),
            registry_patience: Duration::from_secs(3),
        }
    }
}
