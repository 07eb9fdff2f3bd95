//! What operators do: they create, read, update, scale, roll back and remove services, and drain and activate nodes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use model::{
    container::{ContainerSpec, Healthcheck, PortSpec, Resources},
    id::{Generation, MemberId},
    node::Availability,
    placement::Placement,
    request::{NodeChange, Request},
    route::{HttpPort, IngressPort},
    service::{
        FailureAction, Mode, RestartCondition, RestartPolicy, ServiceSpec, TaskTemplate, UpdateOrder,
        UpdatePolicy,
    },
};

use crate::{
    deployers::{Deployers, Step},
    dice::Dice,
    engine::{app::Behaviour, probe},
    exchanges::Exchanges,
    history::{Ask, Value},
    jobs::Jobs,
    knobs::Knobs,
    logins::Logins,
    pipelines::Pipelines,
    policies::Policies,
    secrets::Secrets,
};

/// Names that services have; few, so that operators get in each other's way.
pub(crate) const SERVICES: [&str; 5] = ["web", "api", "queue", "cache", "batch"];
/// The one global service's name.
pub(crate) const GLOBAL: &str = "probe";

/// What an operator remembers of a service that it has read.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) generation: Generation,
    pub(crate) value: Value,
    pub(crate) spec: Arc<ServiceSpec>,
}

/// What an operator decided to do.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) request: Request,
    /// Which service, and what of it; `None` for what the linearizability check does not look at.
    pub(crate) on: Option<(String, Ask)>,
}

/// The workload's own state.
pub(crate) struct Workload {
    dice: Dice,
    tags: u64,
    nodes: Vec<String>,
    /// The most replicas asked for.
    replicas: u32,
    /// Where services have probes: which.
    probes: Option<Dice>,
    /// Where services have published ports: how long they drain.
    traffic: Option<Dice>,
    /// Of a thousand steps so many are for nodes only.
    drains: u32,
    /// Where two services are deployed: how.
    pub(crate) deployers: Option<Deployers>,
    /// Where there are deploy tokens: who has them.
    pub(crate) pipelines: Option<Pipelines>,
    /// Where there are ID tokens: who has them.
    pub(crate) exchanges: Option<Exchanges>,
    /// Where people log in: who.
    pub(crate) logins: Option<Logins>,
    /// Where there are jobs and crons: which.
    jobs: Option<Jobs>,
    /// Where policies come and go: which.
    policies: Option<Policies>,
    /// Where there are secrets: which.
    secrets: Option<Secrets>,
    /// Steps so far.
    pub(crate) steps: u32,
}

impl Workload {
    /// With the choices of one world; those of probes are apart.
    pub(crate) fn new(seed: u64, nodes: Vec<String>, knobs: &Knobs) -> Self {
        Self {
            dice: Dice::new(seed, "workload"),
            tags: 0,
            nodes,
            replicas: knobs.replicas,
            probes: knobs.probes.then(|| Dice::new(seed, "probes")),
            traffic: knobs.traffic_ms.map(|_| Dice::new(seed, "drains")),
            drains: knobs.drains,
            deployers: knobs.releases.then(|| Deployers::new(seed)),
            pipelines: knobs.tokens.then(|| Pipelines::new(seed)),
            exchanges: knobs.exchanges.then(|| Exchanges::new(seed)),
            logins: knobs.logins.then(|| Logins::new(seed)),
            jobs: knobs.jobs.then(|| Jobs::new(seed)),
            policies: knobs.policies.then(|| Policies::new(seed)),
            secrets: knobs.secrets.then(|| Secrets::new(seed)),
            steps: 0,
        }
    }

    /// What an operator does next.
    pub(crate) fn wish(&mut self, known: &BTreeMap<String, Known>, members: &[MemberId]) -> Wish {
        self.steps += 1;
        let name = (*self.dice.pick(&SERVICES).expect("not empty")).to_owned();
        if self.drains > 0 && self.dice.permille(self.drains) {
            return self.node_change();
        }
        if let Some(deployers) = &mut self.deployers
            && let Some(step) = deployers.step()
        {
            return match step {
                Step::Ask(request) => Wish { request, on: None },
                Step::Create(name) => {
                    let spec = self.spec(name, None);
                    let spec = self.deployers.as_mut().expect("it has just answered").released(spec);
                    Wish { request: Request::CreateService(Arc::new(spec)), on: None }
                }
            };
        }
        if let Some(mut jobs) = self.jobs.take() {
            let step = jobs.step(|name| self.spec(name, None));
            self.jobs = Some(jobs);
            if let Some(request) = step {
                return Wish { request, on: None };
            }
        }
        if let Some(mut policies) = self.policies.take() {
            let step = policies.step(|name| self.spec(name, None));
            self.policies = Some(policies);
            if let Some(request) = step {
                return Wish { request, on: None };
            }
        }
        if let Some(mut secrets) = self.secrets.take() {
            let step = secrets.step(|name| self.spec(name, None));
            self.secrets = Some(secrets);
            if let Some(request) = step {
                return Wish { request, on: None };
            }
        }
        match self.dice.range(0, 99) {
            0..20 => self.create(name),
            20..40 => Wish { request: Request::GetService(name.clone()), on: Some((name, Ask::Read)) },
            40..60 => match known.get(&name) {
                Some(known) => self.update(name, known),
                None => Wish { request: Request::GetService(name.clone()), on: Some((name, Ask::Read)) },
            },
            60..78 => {
                let replicas = self.dice.range(0, u64::from(self.replicas)) as u32;
                Wish {
                    request: Request::ScaleServices(vec![(name.clone(), replicas)]),
                    on: Some((name, Ask::Scale(replicas))),
                }
            }
            78..82 => {
                Wish { request: Request::RollbackService(name.clone()), on: Some((name, Ask::Rollback)) }
            }
            82..87 => Wish { request: Request::RemoveService(name.clone()), on: Some((name, Ask::Remove)) },
            87..96 => self.node_change(),
            96 if self.dice.permille(300) => self.removal(members),
            96 => Wish { request: Request::GetStatus, on: None },
            97 => self.global(),
            98 => Wish { request: Request::Explain(name), on: None },
            _ => Wish { request: Request::TransferLeader { to: self.dice.pick(members).copied() }, on: None },
        }
    }

    /// What somebody else asks at the same moment.
    pub(crate) fn beside(&mut self) -> Option<Wish> {
        let request = self.policies.as_mut()?.beside()?;
        Some(Wish { request, on: None })
    }

    fn node_change(&mut self) -> Wish {
        let node = self.dice.pick(&self.nodes).cloned().unwrap_or_default();
        let availability = match self.dice.range(0, 9) {
            0..3 => Availability::Drain,
            3 => Availability::Pause,
            _ => Availability::Active,
        };
        let change = NodeChange { availability: Some(availability), ..NodeChange::default() };
        Wish { request: Request::UpdateNode { node, change }, on: None }
    }

    /// A node is forgotten although it is up, or a manager leaves.
    fn removal(&mut self, members: &[MemberId]) -> Wish {
        let node = self.dice.pick(&self.nodes).cloned().unwrap_or_default();
        let request = match self.dice.pick(members).copied().filter(|_| self.dice.permille(600)) {
            Some(member) => Request::RemoveMember(member),
            None => Request::RemoveNode { node, force: true },
        };
        Wish { request, on: None }
    }

    fn create(&mut self, name: String) -> Wish {
        let spec = self.spec(&name, None);
        let value = value_of(&spec).expect("made with a tag");
        Wish { request: Request::CreateService(Arc::new(spec)), on: Some((name, Ask::Create(value))) }
    }

    fn global(&mut self) -> Wish {
        let mut spec = self.spec(GLOBAL, None);
        spec.mode = Mode::Global;
        spec.template.container.ports.clear();
        Wish { request: Request::CreateService(Arc::new(spec)), on: None }
    }

    fn update(&mut self, name: String, known: &Known) -> Wish {
        let spec = self.spec(&name, Some(&known.spec));
        let value = value_of(&spec).expect("made with a tag");
        let request = Request::UpdateService {
            service: name.clone(),
            expected: known.generation,
            spec: Arc::new(spec),
        };
        Wish { request, on: Some((name, Ask::Update { saw: known.value, value })) }
    }

    fn spec(&mut self, name: &str, before: Option<&ServiceSpec>) -> ServiceSpec {
        self.tags += 1;
        let update = self.update_policy();
        let tag = 2 * self.tags + u64::from(update.failure_action == FailureAction::Rollback);
        let mode = match before {
            Some(before) => before.mode,
            None => Mode::Replicated(self.dice.range(1, u64::from(self.replicas) - 1) as u32),
        };
        let mut template = self.template(tag);
        if let Some(dice) = &mut self.traffic {
            template.container.drain =
                Some(if dice.permille(100) { Duration::ZERO } else { dice.span(200, 3_000) });
        }
        ServiceSpec {
            job: None,
            connections: 0,
            name: name.to_owned(),
            labels: [("tag".to_owned(), tag.to_string())].into(),
            mode,
            template,
            update,
            ports: self.traffic.is_some().then(|| published(name)).into_iter().collect(),
        }
    }

    fn template(&mut self, tag: u64) -> TaskTemplate {
        let dice = &mut self.dice;
        let behaviour = match dice.range(0, 99) {
            0..66 => Behaviour::Serve,
            66..74 => Behaviour::Stubborn,
            74..83 => Behaviour::Crash,
            83..87 => Behaviour::Job,
            87..91 => Behaviour::Leak,
            91..95 => Behaviour::Sick,
            _ => Behaviour::Broken,
        };
        let image =
            if dice.permille(30) { "app:missing".to_owned() } else { format!("app:v{}", dice.range(1, 6)) };
        let probes = self.probes.as_mut().map(probe::declared).unwrap_or_default();
        let container = ContainerSpec {
            image,
            command: behaviour.command(dice.range(50, 3_000)),
            env: [("TAG".to_owned(), tag.to_string())].into(),
            healthcheck: (behaviour == Behaviour::Sick && probes.is_empty() || dice.permille(300))
                .then(check),
            probes,
            stop_grace: Some(dice.span(600, 2_000)),
            ports: if dice.permille(80) { vec![port(8_000 + dice.range(0, 2) as u16)] } else { Vec::new() },
            resources: Resources {
                cpu_reserve_millis: if dice.permille(150) { dice.range(100, 1_500) } else { 0 },
                ..Resources::default()
            },
            ..ContainerSpec::default()
        };
        let restart = RestartPolicy {
            condition: match dice.range(0, 9) {
                0 => RestartCondition::OnFailure,
                1 => RestartCondition::None,
                _ => RestartCondition::Any,
            },
            delay: dice.span(100, 800),
            max_delay: dice.span(1_000, 4_000),
            stable_after: dice.span(2_000, 6_000),
            max_attempts: dice.permille(50).then_some(3),
            window: Duration::ZERO,
        };
        let placement = Placement {
            constraints: if dice.permille(100) {
                vec!["node.hostname!=n0".parse().expect("a constraint")]
            } else {
                Vec::new()
            },
            spread: Vec::new(),
            max_per_node: if dice.permille(80) { 1 } else { 0 },
        };
        TaskTemplate { container, placement, restart, force: 0 }
    }

    fn update_policy(&mut self) -> UpdatePolicy {
        let dice = &mut self.dice;
        UpdatePolicy {
            parallelism: dice.range(1, 2) as u32,
            order: if dice.permille(400) { UpdateOrder::StartFirst } else { UpdateOrder::StopFirst },
            delay: if dice.permille(200) { dice.span(100, 1_000) } else { Duration::ZERO },
            monitor: if dice.permille(300) { dice.span(200, 2_000) } else { Duration::ZERO },
            progress_deadline: dice.span(8_000, 15_000),
            failure_action: *dice
                .pick(&[FailureAction::Pause, FailureAction::Continue, FailureAction::Rollback])
                .expect("not empty"),
            ..UpdatePolicy::default()
        }
    }
}

fn check() -> Healthcheck {
    Healthcheck { test: vec!["CMD".into(), "true".into()], ..Healthcheck::default() }
}

/// Each service has a port of its own.
fn published(name: &str) -> IngressPort {
    let number = SERVICES.iter().position(|known| *known == name).unwrap_or(SERVICES.len());
    let http = number.is_multiple_of(2).then(HttpPort::default);
    IngressPort { published: 9_000 + number as u16, target: 80, http, proxy_protocol: false }
}

fn port(published: u16) -> PortSpec {
    PortSpec { target: 80, published, protocol: model::container::Protocol::Tcp }
}

/// What the linearizability check looks at of a declaration.
pub(crate) fn value_of(spec: &ServiceSpec) -> Option<Value> {
    let tag = spec.labels.get("tag")?.parse().ok()?;
    let Mode::Replicated(replicas) = spec.mode else { return None };
    Some(Value { tag, replicas })
}
