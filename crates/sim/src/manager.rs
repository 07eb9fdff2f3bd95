//! A manager's host: the real core, its disk, its requests under way.

use std::collections::BTreeMap;

use manager_core::{Bootstrap, Config, Manager, Recovered};
use model::{
    id::{ClusterId, MemberId},
    time::Now,
};
use wal::MemDisk;

use crate::{clock::HostClock, disk::Writer, queue::Time, world::Event};

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
}

/// The host.
pub(crate) struct ManagerHost {
    pub(crate) member: MemberId,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) disk: MemDisk,
    pub(crate) clock: HostClock,
    pub(crate) process: Option<Process>,
    pub(crate) lives: u64,
    /// While it is stopped, what it would have seen.
    pub(crate) paused: Option<Vec<Event>>,
    /// The process ends in the middle of a step, after so many actions.
    pub(crate) crash_in: Option<u32>,
    /// Term and vote as last given to its disk.
    pub(crate) vote: (u64, u64),
    /// It has had some state of the cluster.
    pub(crate) has_state: bool,
    /// It was removed from the cluster: its process does not start again before it has joined anew.
    pub(crate) removed: bool,
    /// It said that it must end.
    pub(crate) halted: bool,
    /// Other members' addresses, from the answer to its join.
    pub(crate) seeds: Vec<(MemberId, String)>,
    pub(crate) bootstrap: Option<Bootstrap>,
    /// Of every disk step so far.
    pub(crate) syncs: u64,
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
    ) -> Result<(), String> {
        let (writer, recovered): (Writer, Recovered) =
            Writer::open(&self.disk, segment_bytes, self.member.0)?;
        let config = Config {
            member: self.member,
            cluster,
            name: self.name.clone(),
            address: self.address.clone(),
            version: "sim".to_owned(),
            rng_seed: seed,
            seeds: self.seeds.clone(),
            bootstrap: self.bootstrap.clone(),
            knobs: knobs.clone(),
        };
        let core = Manager::new(config, recovered, now).map_err(|error| error.to_string())?;
        self.lives += 1;
        self.process = Some(Process {
            core,
            writer,
            life: self.lives,
            armed: None,
            callers: BTreeMap::new(),
            next_handle: 0,
        });
        Ok(())
    }
}
