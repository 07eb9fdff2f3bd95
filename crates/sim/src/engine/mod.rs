//! A simulated container engine: containers by name, images, ports, slow and failing calls, restarts of its own.
//!
//! It knows nothing of time and agents: a call is begun, later it takes effect, and what happened by it is handed to the
//! world, which tells the agent and the checks. The applications inside behave as their command says ([`app`]).

pub(crate) mod app;
mod call;
mod container;
pub(crate) mod probe;

pub(crate) use call::{Effect, Pending};
pub(crate) use container::{Container, Status};

use std::collections::{BTreeMap, BTreeSet};

use agent_core::{
    engine::{Change, ContainerChange, ContainerStatus, ContainerView},
    labels::Labels,
};
use model::{
    id::{ClusterId, NodeId},
    task::{BoundPort, Exit, Health},
};

use crate::{dice::Dice, queue::Time};

/// Whether the engine answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Power {
    Up,
    /// Frozen: it neither answers nor tells; its containers stand still with it.
    Hung,
    Down,
}

/// One thing that happened to one container.
#[derive(Debug, Clone)]
pub(crate) struct Happening {
    pub(crate) container: String,
    pub(crate) labels: Option<Labels>,
    pub(crate) change: Change,
    /// In words, for traces.
    pub(crate) cause: &'static str,
}

/// One node's engine.
pub(crate) struct Engine {
    pub(crate) power: Power,
    pub(crate) containers: BTreeMap<String, Container>,
    pub(crate) images: BTreeSet<String>,
    /// Calls that were begun and not answered.
    pub(crate) calls: BTreeMap<u64, Pending>,
    pub(crate) registry_up: bool,
    next_id: u64,
    next_call: u64,
    tenths: u64,
    pub(crate) dice: Dice,
    pub(crate) happened: Vec<Happening>,
    /// Stop calls whose container has ended: they can be answered.
    pub(crate) ready: Vec<u64>,
    /// Applications that have something to do later.
    pub(crate) plans: Vec<(Time, Plan)>,
}

/// Something that an application does later.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) container: String,
    /// Which of its runs.
    pub(crate) run: u64,
    pub(crate) act: app::Act,
}

impl Engine {
    pub(crate) fn new(tenths: u64, dice: Dice) -> Self {
        Self {
            power: Power::Up,
            containers: BTreeMap::new(),
            images: BTreeSet::new(),
            calls: BTreeMap::new(),
            registry_up: true,
            next_id: 0,
            next_call: 0,
            tenths,
            dice,
            happened: Vec::new(),
            ready: Vec::new(),
            plans: Vec::new(),
        }
    }

    /// A span between two numbers of milliseconds, as slow as this engine is.
    pub(crate) fn slowness(&mut self, low: u64, high: u64) -> Time {
        self.dice.millis(low, high) * self.tenths / 10
    }

    /// All containers with the labels of a node.
    pub(crate) fn list(&self, cluster: ClusterId, node: NodeId, now: Time) -> Vec<ContainerView> {
        let ours = |labels: &Labels| labels.cluster == cluster && labels.node == node;
        self.containers
            .values()
            .filter(|c| c.labels.as_ref().is_some_and(ours))
            .filter_map(|c| c.view(now))
            .collect()
    }

    /// An application does what it had planned.
    pub(crate) fn act(&mut self, plan: &Plan, now: Time) {
        let Some(container) = self.containers.get(&plan.container) else { return };
        if container.run() != Some(plan.run) {
            return;
        }
        match plan.act {
            app::Act::Exit { code } => self.die(&plan.container, code, false, "it ended", now),
            app::Act::OutOfMemory => {
                self.tell(&plan.container, Change::OutOfMemory, "out of memory");
                self.die(&plan.container, 137, true, "out of memory", now);
            }
            app::Act::Health(health) => {
                if let Some(container) = self.containers.get_mut(&plan.container) {
                    container.health(health);
                    // Without a check of its own the engine does not see it; probes may.
                    if container.spec.healthcheck.is_some() {
                        self.tell(&plan.container, Change::Health(health), "health");
                    }
                }
            }
        }
    }

    /// The main process of a container ends.
    pub(crate) fn die(&mut self, id: &str, code: i64, oom: bool, cause: &'static str, now: Time) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let Status::Running { since, .. } = container.status else { return };
        container.status = Status::Ended {
            exit: Exit { code, oom, message: String::new() },
            ran: now.saturating_sub(since),
        };
        let waiters = std::mem::take(&mut container.stop_waiters);
        self.tell(id, Change::Died { code }, cause);
        for call in waiters {
            if let Some(pending) = self.calls.get_mut(&call) {
                pending.stopped = true;
                self.ready.push(call);
            }
        }
    }

    pub(crate) fn tell(&mut self, id: &str, change: Change, cause: &'static str) {
        if let Some(container) = self.containers.get(id) {
            let (container, labels) = (id.to_owned(), container.labels);
            self.happened.push(Happening { container, labels, change, cause });
        }
    }

    /// Containers whose process runs.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Container> {
        self.containers.values().filter(|container| container.is_live())
    }

    /// The daemon goes down. Calls under way break off, some of them done; they are returned.
    pub(crate) fn go_down(&mut self, containers_survive: bool, now: Time) -> Vec<Pending> {
        let begun: Vec<(u64, Pending)> =
            self.calls.iter().map(|(number, call)| (*number, call.clone())).collect();
        for (number, _) in &begun {
            if self.dice.permille(400) {
                self.effect(*number, now);
            }
        }
        self.calls.clear();
        self.power = Power::Down;
        if !containers_survive {
            self.kill_all("its engine stopped", now);
        }
        begun.into_iter().map(|(_, pending)| pending).collect()
    }

    /// Every container of ours ends: the engine stops them, or the machine loses its power. (The foreign one stays, so
    /// that whatever happens to it is the agent's doing.)
    pub(crate) fn kill_all(&mut self, cause: &'static str, now: Time) {
        let live: Vec<String> = self
            .live()
            .filter(|container| container.labels.is_some())
            .map(|container| container.id.clone())
            .collect();
        for id in live {
            self.die(&id, 137, false, cause, now);
        }
    }
}

impl Happening {
    /// As the event stream tells it.
    pub(crate) fn as_change(&self) -> Option<ContainerChange> {
        let change = self.change;
        Some(ContainerChange { id: self.container.clone(), labels: self.labels?, change })
    }
}

impl Container {
    /// As an inspection shows it; `None` for a container that is not ours.
    pub(crate) fn view(&self, now: Time) -> Option<ContainerView> {
        let status = match &self.status {
            Status::Created => ContainerStatus::Created,
            Status::Running { since, health, .. } => ContainerStatus::Running {
                health: if self.spec.healthcheck.is_some() { *health } else { Health::None },
                check: String::new(),
                running_for: std::time::Duration::from_nanos(now.saturating_sub(*since)),
            },
            Status::Ended { exit, ran } => {
                ContainerStatus::Ended { exit: exit.clone(), ran: std::time::Duration::from_nanos(*ran) }
            }
        };
        let bound = |port: &model::container::PortSpec| BoundPort {
            target: port.target,
            published: port.published,
            protocol: port.protocol,
        };
        let ports = if self.is_live() { self.ports.iter().map(bound).collect() } else { Vec::new() };
        Some(ContainerView {
            id: self.id.clone(),
            labels: self.labels?,
            status,
            image: self.image.clone(),
            ports,
            addresses: if self.is_live() { vec![("bridge".to_owned(), self.address)] } else { Vec::new() },
        })
    }
}
