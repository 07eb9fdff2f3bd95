//! A manager's host: the real core, its disk, its requests under way.

use std::collections::{BTreeMap, BTreeSet};

use manager_core::{Bootstrap, Config, Entropy, Manager, Recovered};
use model::{
    id::{ClusterId, MemberId},
    identity::Identity,
    time::Now,
};
use seal::Keyring;
use wal::MemDisk;

use crate::{
    clock::HostClock,
    disk::{DiskError, Writer},
    queue::Time,
    world::Event,
};

/// Who waits for an answer of a manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// One try of a client's request.
    Operation { operation: usize, attempt: u32 },
    /// A watch.
    Watch { watcher: usize, session: u64 },
}

/// The process.
pub(crate) struct Process {
    pub(crate) core: Manager,
    pub(crate) writer: Writer,
    /// Counts the starts of this host's process; what was meant for an earlier one is dropped.
    pub(crate) life: u64,
    /// When the next timer event is due.
    pub(crate) armed: Option<Time>,
    pub(crate) callers: BTreeMap<u64, Caller>,
    pub(crate) next_handle: u64,
    /// Whom it refuses.
    pub(crate) revoked: BTreeSet<Identity>,
    /// Changes asked for since it was told that its disk is full: none of them may be made.
    pub(crate) while_full: BTreeSet<u64>,
    /// It looks again and again whether there is room.
    pub(crate) looks_for_room: bool,
}

/// The host.
pub(crate) struct ManagerHost {
    pub(crate) member: MemberId,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) disk: MemDisk,
    /// Beside the log, on a file of its own.
    pub(crate) keyring: Keyring,
    pub(crate) clock: HostClock,
    pub(crate) process: Option<Process>,
    pub(crate) lives: u64,
    /// While it is stopped, what it would have seen.
    pub(crate) paused: Option<Vec<Event>>,
    /// The process ends in the middle of a step, after so many actions.
    pub(crate) crash_in: Option<u32>,
    /// Term and vote as last given to its disk.
    pub(crate) vote: (u64, u64),
    /// How far it knew the log to be committed: as last given to its disk, as being written, as written.
    pub(crate) commits: [u64; 3],
    /// It has had some state of the cluster.
    pub(crate) has_state: bool,
    /// It has vouched for nothing yet: its log may have to be created.
    pub(crate) fresh: bool,
    /// It lost its log and asks for a new id; until it has that, its process does not start.
    pub(crate) replacing: bool,
    /// The last copy of its disk that was whole, where nobody else has one.
    pub(crate) backup: Option<MemDisk>,
    /// It was removed from the cluster: its process does not start again before it has joined anew.
    pub(crate) removed: bool,
    /// It said that it must end.
    pub(crate) halted: bool,
    /// Other members' addresses, from the answer to its join.
    pub(crate) seeds: Vec<(MemberId, String)>,
    pub(crate) bootstrap: Option<Bootstrap>,
    /// Its program.
    pub(crate) version: &'static str,
    /// Of every disk step so far.
    pub(crate) syncs: u64,
    pub(crate) paper: crate::rotations::Paper,
}

impl ManagerHost {
    /// Starts the process with what its disk has.
    ///
    /// # Errors
    /// The disk or its contents cannot be read.
    pub(crate) fn start(
        &mut self,
        cluster: ClusterId,
        knobs: &manager_core::Knobs,
        segment_bytes: u64,
        seed: u64,
        now: Now,
    ) -> Result<(), DiskError> {
        let (writer, recovered): (Writer, Recovered) =
            Writer::open(&self.disk, segment_bytes, self.member.0, self.fresh)?;
        self.fresh = false;
        let config = Config {
            member: self.member,
            cluster,
            name: self.name.clone(),
            address: self.address.clone(),
            version: self.version.to_owned(),
            rng_seed: seed,
            seeds: self.seeds.clone(),
            bootstrap: self.bootstrap.clone(),
            keyring: self.keyring.clone(),
            entropy: entropy(seed),
            knobs: knobs.clone(),
        };
        let core = Manager::new(config, recovered, now)
            .map_err(|error| DiskError::Failed(format!("the log cannot be used: {error}")))?;
        self.lives += 1;
        self.paper.restart();
        self.process = Some(Process {
            core,
            writer,
            life: self.lives,
            armed: None,
            callers: BTreeMap::new(),
            revoked: BTreeSet::new(),
            next_handle: 0,
            while_full: BTreeSet::new(),
            looks_for_room: false,
        });
        Ok(())
    }

    /// It begins with nothing, as another member.
    pub(crate) fn begin_anew(&mut self, member: MemberId, seeds: Vec<(MemberId, String)>) {
        self.member = member;
        self.seeds = seeds;
        self.disk = MemDisk::new();
        self.keyring = Keyring::default();
        self.backup = None;
        self.bootstrap = None;
        self.fresh = true;
        self.replacing = false;
        self.has_state = false;
        self.removed = false;
        self.halted = false;
        self.vote = (0, 0);
        self.commits = [0; 3];
    }
}

/// As much as a seed has.
fn entropy(seed: u64) -> Entropy {
    let mut bytes = [0; 32];
    for (number, word) in (0u64..).zip(bytes.chunks_exact_mut(8)) {
        let mut hash = model::hash::Fnv::new();
        hash.write_u64(seed);
        hash.write_u64(number);
        word.copy_from_slice(&hash.finish_mixed().to_le_bytes());
    }
    Entropy(bytes)
}
