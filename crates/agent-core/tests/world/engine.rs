//! A tiny container engine: names are unique, calls do what they say, and everything that ever happened is remembered.

use std::{collections::BTreeMap, time::Duration};

use agent_core::{
    engine::{
        Change, ContainerChange, ContainerRequest, ContainerStatus, ContainerView, EngineCall, EngineError,
        EngineErrorKind, OpOutcome,
    },
    labels::Labels,
};
use model::{
    service::ImagePin,
    task::{Exit, Health},
    time::Instant,
};

/// One container.
pub struct Container {
    pub id: String,
    pub name: String,
    pub labels: Labels,
    pub phase: Phase,
    pub health: Health,
    /// What its health check printed.
    pub check: String,
}

pub enum Phase {
    Created,
    Running { since: Instant },
    Ended { code: i64, ran: Duration },
}

/// The engine.
#[derive(Default)]
pub struct Engine {
    pub containers: BTreeMap<String, Container>,
    /// Images that are not there until they are pulled.
    pub missing: Vec<String>,
    pub events: Vec<ContainerChange>,
    /// Names of all containers that were ever started, in order.
    pub started: Vec<String>,
    made: u32,
}

impl Engine {
    pub fn list(&self, now: Instant) -> Vec<ContainerView> {
        self.containers.values().map(|container| view(container, now)).collect()
    }

    pub fn call(&mut self, call: &EngineCall, now: Instant) -> Result<OpOutcome, EngineError> {
        match call {
            EngineCall::Ping => Ok(OpOutcome::Done),
            EngineCall::Pull { image, .. } => {
                self.missing.retain(|missing| missing != image);
                Ok(OpOutcome::Done)
            }
            EngineCall::FindImage { images } => {
                Ok(OpOutcome::Found(!images.iter().any(|image| self.missing.contains(image))))
            }
            EngineCall::Create(request) => self.create(request),
            EngineCall::Start { container } => self.start(container, now),
            EngineCall::Stop { container, .. } => {
                self.find(container)?;
                self.end(container, 143, now);
                Ok(OpOutcome::Container(view(self.find(container)?, now)))
            }
            EngineCall::Remove { container, .. } => self.remove(container, now),
            EngineCall::Diagnose { .. } => Ok(OpOutcome::Done),
            EngineCall::Inspect { container } => Ok(OpOutcome::Container(view(self.find(container)?, now))),
            EngineCall::ResolveImage { image } => {
                Ok(OpOutcome::Resolved(ImagePin::Digest(format!("{image}@sha256:1"))))
            }
        }
    }

    fn create(&mut self, request: &ContainerRequest) -> Result<OpOutcome, EngineError> {
        if self.missing.contains(&request.image) {
            return Err(error(EngineErrorKind::ImageMissing, "No such image"));
        }
        if self.containers.values().any(|container| container.name == request.name) {
            return Err(error(EngineErrorKind::Conflict, "the name is taken"));
        }
        self.made += 1;
        let id = format!("c{}", self.made);
        let labels =
            Labels::parse(|key| request.labels.get(key).map(String::as_str)).expect("the agent's labels");
        let container = Container {
            id: id.clone(),
            name: request.name.clone(),
            labels,
            phase: Phase::Created,
            health: Health::None,
            check: String::new(),
        };
        self.containers.insert(id.clone(), container);
        self.events.push(ContainerChange { id: id.clone(), labels, change: Change::Created });
        Ok(OpOutcome::Created { id })
    }

    fn start(&mut self, id: &str, now: Instant) -> Result<OpOutcome, EngineError> {
        let container = self.find(id)?;
        if !matches!(container.phase, Phase::Running { .. }) {
            let (name, labels) = (container.name.clone(), container.labels);
            self.containers.get_mut(id).expect("just found").phase = Phase::Running { since: now };
            self.started.push(name);
            self.events.push(ContainerChange { id: id.to_owned(), labels, change: Change::Started });
        }
        Ok(OpOutcome::Container(view(self.find(id)?, now)))
    }

    fn remove(&mut self, id: &str, now: Instant) -> Result<OpOutcome, EngineError> {
        self.find(id)?;
        self.end(id, 137, now);
        let container = self.containers.remove(id).expect("just found");
        let change =
            ContainerChange { id: id.to_owned(), labels: container.labels, change: Change::Destroyed };
        self.events.push(change);
        Ok(OpOutcome::Done)
    }

    /// The process of a container ends; nothing happens when it does not run.
    pub fn end(&mut self, id: &str, code: i64, now: Instant) {
        let Some(container) = self.containers.get_mut(id) else { return };
        if let Phase::Running { since } = container.phase {
            container.phase = Phase::Ended { code, ran: now.since(since) };
            let change = ContainerChange {
                id: id.to_owned(),
                labels: container.labels,
                change: Change::Died { code },
            };
            self.events.push(change);
        }
    }

    /// Everything ends without anybody to say so.
    pub fn power_off(&mut self, now: Instant) {
        for id in self.containers.keys().cloned().collect::<Vec<_>>() {
            self.end(&id, 255, now);
        }
        self.events.clear();
    }

    fn find(&self, reference: &str) -> Result<&Container, EngineError> {
        let by_name = || self.containers.values().find(|container| container.name == reference);
        let found = self.containers.get(reference).or_else(by_name);
        found.ok_or_else(|| error(EngineErrorKind::NotFound, "No such container"))
    }
}

pub fn error(kind: EngineErrorKind, message: &str) -> EngineError {
    EngineError { kind, message: message.to_owned() }
}

fn view(container: &Container, now: Instant) -> ContainerView {
    let status = match &container.phase {
        Phase::Created => ContainerStatus::Created,
        Phase::Running { since } => ContainerStatus::Running {
            health: container.health,
            check: container.check.clone(),
            running_for: now.since(*since),
        },
        Phase::Ended { code, ran } => ContainerStatus::Ended {
            exit: Exit { code: *code, oom: false, message: String::new() },
            ran: *ran,
        },
    };
    ContainerView {
        id: container.id.clone(),
        labels: container.labels,
        status,
        image: "sha256:1".into(),
        ports: Vec::new(),
        addresses: vec![("bridge".to_owned(), std::net::Ipv4Addr::new(172, 17, 0, 2))],
    }
}
