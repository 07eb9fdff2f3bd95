//! A node's mesh process: the rules of the real one, with the routes that it was last given. It outlives its agent, and after a crash
//! serves what it had stored.

use std::collections::BTreeSet;

use mesh::{Table, balance::Balancer, control::MeshConfig, gate::Gates, table::Port};
use model::id::TaskId;

use crate::dice::Dice;

/// The process; what of it is durable.
#[derive(Default)]
pub(crate) struct Router {
    /// Counts its starts.
    pub(crate) life: u64,
    pub(crate) is_up: bool,
    /// It was started and is not up yet.
    pub(crate) is_starting: bool,
    /// The agent has spoken to this process.
    pub(crate) is_configured: bool,
    /// The file.
    pub(crate) stored: Option<MeshConfig>,
    pub(crate) table: Table,
    pub(crate) balancer: Balancer,
    pub(crate) gates: Gates,
    /// The agent waits for these.
    pub(crate) draining: BTreeSet<TaskId>,
}

/// What an agent says to it.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    Configure(Box<MeshConfig>),
    Drain(TaskId),
}

/// A client's request on its way.
#[derive(Debug, Clone)]
pub(crate) struct UnderWay {
    /// Which router has it, and which of its lives.
    pub(crate) router: (usize, u64),
    pub(crate) port: u16,
    pub(crate) tried: Vec<TaskId>,
    /// The replica that it is with.
    pub(crate) task: TaskId,
    /// Where it was let through.
    pub(crate) passed: Option<Passed>,
}

/// A gate that a request has passed.
#[derive(Debug, Clone)]
pub(crate) struct Passed {
    pub(crate) node: usize,
    pub(crate) life: u64,
    pub(crate) container: String,
    /// Of the container.
    pub(crate) run: u64,
}

/// How a request goes on.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// It reaches the node of its replica.
    Opens(usize),
    /// The router hears what came of it.
    Opened(Result<(), mesh::balance::Failure>),
    /// It reaches the container.
    Arrives,
    /// It is answered.
    Ends,
}

/// The clients' side.
pub(crate) struct Traffic {
    pub(crate) dice: Dice,
    pub(crate) under_way: std::collections::BTreeMap<u64, UnderWay>,
    pub(crate) next: u64,
}

impl Router {
    /// Goes by a configuration from now on.
    pub(crate) fn apply(&mut self, config: MeshConfig) {
        let (table, _) = Table::compile(&config, &|service, task| format!("{service}.{task}"));
        self.balancer.retain(&table.endpoints, &table.services());
        self.gates.retain(&config.locals.iter().map(|local| local.task).collect());
        self.table = table;
        self.stored = Some(config);
    }

    /// Begins with what is stored.
    pub(crate) fn start(&mut self) {
        let (life, stored) = (self.life + 1, self.stored.take());
        *self = Self { life, is_up: true, ..Self::default() };
        stored.into_iter().for_each(|config| self.apply(config));
    }

    /// Ends without a word.
    pub(crate) fn crash(&mut self) {
        *self = Self { life: self.life, stored: self.stored.take(), ..Self::default() };
    }

    /// The service of a port.
    pub(crate) fn service(&self, port: u16) -> Option<std::sync::Arc<mesh::table::Service>> {
        match self.table.ports.get(&port)? {
            Port::Tcp(route) => Some(route.service.clone()),
            Port::Http(routes) => routes.routes.first().map(|route| route.service.clone()),
        }
    }
}
