//! One container of the simulated engine.

use std::{net::Ipv4Addr, sync::Arc};

use agent_core::{engine::ContainerRequest, labels::Labels};
use model::{
    container::{ContainerSpec, PortSpec},
    task::{Exit, Health},
};

use crate::queue::Time;

/// What its main process does.
#[derive(Debug, Clone)]
pub(crate) enum Status {
    Created,
    Running { since: Time, health: Health, run: u64 },
    Ended { exit: Exit, ran: Time },
}

/// One container.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) name: String,
    /// `None`: it belongs to somebody else.
    pub(crate) labels: Option<Labels>,
    pub(crate) image: String,
    pub(crate) spec: Arc<ContainerSpec>,
    pub(crate) ports: Vec<PortSpec>,
    /// Of its own for ever, unlike an engine's.
    pub(crate) address: Ipv4Addr,
    pub(crate) status: Status,
    /// Counts its starts.
    pub(crate) runs: u64,
    /// Stop calls that wait for its end.
    pub(crate) stop_waiters: Vec<u64>,
    /// It did not answer the last readiness probe, for no reason.
    pub(crate) slipped: bool,
}

impl Container {
    pub(crate) fn new(id: String, address: Ipv4Addr, request: &ContainerRequest) -> Self {
        Self {
            id,
            name: request.name.clone(),
            labels: Labels::parse(|key| request.labels.get(key).map(String::as_str)),
            image: format!("id of {}", request.image),
            spec: request.spec.clone(),
            ports: request.spec.ports.iter().filter(|port| port.published != 0).copied().collect(),
            address,
            status: Status::Created,
            runs: 0,
            stop_waiters: Vec::new(),
            slipped: false,
        }
    }

    /// A container that the agent must never touch.
    pub(crate) fn foreign(id: String, spec: Arc<ContainerSpec>) -> Self {
        Self {
            name: id.clone(),
            id,
            labels: None,
            image: "other".to_owned(),
            spec,
            ports: Vec::new(),
            address: Ipv4Addr::UNSPECIFIED,
            status: Status::Running { since: 0, health: Health::None, run: 1 },
            runs: 1,
            stop_waiters: Vec::new(),
            slipped: false,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        matches!(self.status, Status::Running { .. })
    }

    /// The present run's number.
    pub(crate) fn run(&self) -> Option<u64> {
        match self.status {
            Status::Running { run, .. } => Some(run),
            _ => None,
        }
    }

    pub(crate) fn is_healthy(&self) -> bool {
        matches!(self.status, Status::Running { health: Health::None | Health::Healthy, .. })
    }

    pub(crate) fn health(&mut self, new: Health) {
        if let Status::Running { health, .. } = &mut self.status {
            *health = new;
        }
    }
}
