//! One container of a task, as far as the agent knows it.

use std::net::Ipv4Addr;

use model::{
    task::{BoundPort, Health},
    time::Instant,
};

use crate::probes::Probing;

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Created,
    Running,
    /// Final: what the engine says later of an ended container is checked by a look, never believed at once.
    Ended,
}

/// One container of the task.
#[derive(Debug)]
pub(crate) struct Container {
    pub attempt: u32,
    pub phase: Phase,
    pub started: Option<Instant>,
    pub health: Health,
    /// What the health check said when it failed.
    pub check: String,
    pub out_of_memory: bool,
    /// Its health changed since the last look at it began: the answer may be older.
    pub overtaken: bool,
    /// It must be looked at before anything is concluded about it.
    pub doubted: bool,
    /// It is being stopped because it counts as unhealthy.
    pub unfit: bool,
    /// It was asked what it does, before that.
    pub diagnosed: bool,
    /// It ran already when this agent first saw it.
    pub adopted: bool,
    /// Its probes; `None` until they begin.
    pub probing: Option<Probing>,
    /// Stops that failed.
    pub stop_failures: u32,
    pub image: String,
    pub ports: Vec<BoundPort>,
    /// By the engine's names of its networks.
    pub addresses: Vec<(String, Ipv4Addr)>,
}

impl Container {
    pub(crate) fn new(attempt: u32) -> Self {
        Self {
            attempt,
            phase: Phase::Created,
            started: None,
            health: Health::None,
            check: String::new(),
            out_of_memory: false,
            overtaken: false,
            doubted: false,
            unfit: false,
            diagnosed: false,
            adopted: false,
            probing: None,
            stop_failures: 0,
            image: String::new(),
            ports: Vec::new(),
            addresses: Vec::new(),
        }
    }
}
