//! A simulated agent's engine: containers are entries of a map, every call is done at once. What is declared to fail at its start
//! does so.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

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

/// What the mimic reads: how it exits, and after how long.
const FAIL: &str = "MIMIC_FAIL_INIT";
const AFTER: &str = "MIMIC_START_MS";

struct Container {
    name: String,
    labels: Labels,
    image: String,
    /// Its exit code, and how long after its start.
    fails: Option<(i64, Duration)>,
    status: Status,
}

enum Status {
    Created,
    Running { since: Instant },
    Ended { code: i64, ran: Duration },
}

/// The engine.
#[derive(Default)]
pub struct Engine {
    containers: BTreeMap<String, Container>,
    made: u64,
    /// Processes that will end by themselves.
    ends: BTreeSet<(Instant, String)>,
}

impl Engine {
    /// Does what is asked.
    ///
    /// # Errors
    /// The container is not there, or its name is taken.
    pub fn call(&mut self, call: EngineCall, now: Instant) -> Result<OpOutcome, EngineError> {
        match call {
            EngineCall::Ping | EngineCall::Pull { .. } => Ok(OpOutcome::Done),
            EngineCall::FindImage { .. } => Ok(OpOutcome::Found(true)),
            EngineCall::Create(request) => self.create(&request),
            EngineCall::Start { container } => {
                self.start(&container, now)?;
                self.view(&container, now)
            }
            EngineCall::Stop { container, .. } => {
                self.end(&container, 143, now);
                self.view(&container, now)
            }
            EngineCall::Remove { container, .. } => match self.containers.remove(&container) {
                Some(_) => Ok(OpOutcome::Done),
                None => Err(missing(&container)),
            },
            EngineCall::Diagnose { .. } => Ok(OpOutcome::Done),
            EngineCall::Inspect { container } => self.view(&container, now),
            // As an image that no registry knows and every node has.
            EngineCall::ResolveImage { image } => Ok(OpOutcome::Resolved(ImagePin::LocalId(image))),
        }
    }

    /// When a process next ends by itself.
    pub fn next_end(&self) -> Option<Instant> {
        self.ends.first().map(|(at, _)| *at)
    }

    /// Ends what has come to its end, and says so.
    pub fn end_due(&mut self, now: Instant) -> Vec<ContainerChange> {
        let mut changes = Vec::new();
        while let Some((_, id)) = self.ends.first().filter(|(at, _)| *at <= now).cloned() {
            self.ends.pop_first();
            let fails = self.containers.get(&id).and_then(|container| container.fails);
            let Some((code, _)) = fails else { continue };
            if self.end(&id, code, now) {
                let labels = self.containers[&id].labels;
                changes.push(ContainerChange { id, labels, change: Change::Died { code } });
            }
        }
        changes
    }

    fn create(&mut self, request: &ContainerRequest) -> Result<OpOutcome, EngineError> {
        let labels = Labels::parse(|key| request.labels.get(key).map(String::as_str));
        let free = self.containers.values().all(|container| container.name != request.name);
        let (Some(labels), true) = (labels, free) else {
            return Err(EngineError { kind: EngineErrorKind::Conflict, message: request.name.clone() });
        };
        let number = |name: &str| request.env.get(name).and_then(|text| text.parse::<u32>().ok());
        let after = Duration::from_millis(number(AFTER).unwrap_or_default().into());
        self.made += 1;
        let id = format!("{:012x}", self.made);
        let container = Container {
            name: request.name.clone(),
            labels,
            image: request.image.clone(),
            fails: number(FAIL).map(|code| (code.into(), after)),
            status: Status::Created,
        };
        self.containers.insert(id.clone(), container);
        Ok(OpOutcome::Created { id })
    }

    fn start(&mut self, id: &str, now: Instant) -> Result<(), EngineError> {
        let container = self.containers.get_mut(id).ok_or_else(|| missing(id))?;
        container.status = Status::Running { since: now };
        if let Some((_, after)) = container.fails {
            self.ends.insert((now + after, id.to_owned()));
        }
        Ok(())
    }

    /// False when it did not run.
    fn end(&mut self, id: &str, code: i64, now: Instant) -> bool {
        let Some(container) = self.containers.get_mut(id) else { return false };
        let Status::Running { since } = container.status else { return false };
        container.status = Status::Ended { code, ran: now.since(since) };
        true
    }

    fn view(&self, reference: &str, now: Instant) -> Result<OpOutcome, EngineError> {
        let by_name = || self.containers.iter().find(|(_, container)| container.name == reference);
        let found = self.containers.get_key_value(reference).or_else(by_name);
        let (id, container) = found.ok_or_else(|| missing(reference))?;
        let status = match container.status {
            Status::Created => ContainerStatus::Created,
            Status::Running { since } => ContainerStatus::Running {
                health: Health::None,
                check: String::new(),
                running_for: now.since(since),
            },
            Status::Ended { code, ran } => {
                ContainerStatus::Ended { exit: Exit { code, oom: false, message: String::new() }, ran }
            }
        };
        Ok(OpOutcome::Container(ContainerView {
            id: id.clone(),
            labels: container.labels,
            status,
            image: container.image.clone(),
            ports: Vec::new(),
            addresses: Vec::new(),
        }))
    }
}

fn missing(id: &str) -> EngineError {
    EngineError { kind: EngineErrorKind::NotFound, message: format!("No such container: {id}") }
}
