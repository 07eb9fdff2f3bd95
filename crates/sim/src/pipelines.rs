//! Pipelines with deploy tokens: administrators make and remove tokens, their bearers deploy and go back, also with tokens that
//! were removed or have expired, and try whatever a token does not allow.

use std::{collections::BTreeMap, time::Duration};

use model::{
    command::Answer,
    deployer::{DeployTokenSpec, DeployVerb, TokenDigest},
    id::DeployTokenId,
    identity::Identity,
    request::{ApiError, Reply, Request, Response},
    service::{ReleaseNote, RolloutStep, ServiceSpec},
};

use crate::{deployers::RELEASED, dice::Dice, queue::Time};

/// The repository of every image.
const REPOSITORY: &str = "app";

/// A token as its maker knows it.
struct Token {
    spec: DeployTokenSpec,
    /// When its removal was acknowledged.
    removed: Option<Time>,
}

/// All of them.
pub(crate) struct Pipelines {
    dice: Dice,
    tokens: BTreeMap<DeployTokenId, Token>,
    made: u64,
}

impl Pipelines {
    pub(crate) fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed, "pipelines"), tokens: BTreeMap::new(), made: 0 }
    }

    /// Every other step is one of a pipeline or of its administrator.
    pub(crate) fn step(&mut self, admin: Identity) -> Option<(Identity, Request)> {
        if !self.dice.permille(500) {
            return None;
        }
        let known: Vec<DeployTokenId> = self.tokens.keys().copied().collect();
        let Some(id) = self.dice.pick(&known).copied().filter(|_| !self.dice.permille(150)) else {
            return Some((admin, self.create()));
        };
        let spec = self.tokens[&id].spec.clone();
        if self.dice.permille(60) {
            return Some((admin, Request::RemoveDeployToken(spec.name)));
        }
        let request = if self.dice.permille(350) { self.attack(&spec) } else { self.work(spec.service) };
        Some((Identity::Bearer(id), request))
    }

    fn create(&mut self) -> Request {
        self.made += 1;
        let spec = DeployTokenSpec {
            name: format!("ci-{}", self.made),
            service: (*self.dice.pick(&RELEASED).expect("not empty")).to_owned(),
            image: REPOSITORY.to_owned(),
            allow: DeployVerb::ALL.into(),
        };
        let ttl = self.dice.span(2_000, 40_000).max(Duration::from_secs(1));
        Request::CreateDeployToken { spec: Box::new(spec), ttl, digest: TokenDigest([1; 32]) }
    }

    /// What a token allows.
    fn work(&mut self, service: String) -> Request {
        match self.dice.range(0, 9) {
            0 | 1 => Request::GetService(service),
            2 => Request::ReturnTo { service, release: None, note: Box::default() },
            3 => Request::SteerRollout { service, release: None, step: RolloutStep::Abort },
            _ => self.deploy(service, REPOSITORY, None),
        }
    }

    fn deploy(&mut self, service: String, repository: &str, despite_freeze: Option<String>) -> Request {
        let image = format!("{repository}@sha256:{:064x}", self.dice.range(1, 6));
        let at_next_window = despite_freeze.is_none();
        let note = ReleaseNote { at_next_window, despite_freeze, ..ReleaseNote::default() };
        Request::Deploy { service, image, note: Box::new(note) }
    }

    /// What it does not.
    fn attack(&mut self, spec: &DeployTokenSpec) -> Request {
        let own = spec.service.clone();
        let other = RELEASED.iter().find(|name| **name != own).map(ToString::to_string).unwrap_or_default();
        match self.dice.range(0, 9) {
            0 => self.deploy(other, REPOSITORY, None),
            1 => self.deploy(own, "app-evil", None),
            2 => self.deploy(own, REPOSITORY, Some("because".into())),
            3 => Request::ScaleServices(vec![(own, 0)]),
            4 => Request::RemoveService(own),
            5 => Request::SteerRollout { service: own, release: None, step: RolloutStep::Promote },
            6 => Request::ListNodes,
            7 => self.create(),
            8 => Request::GetService(other),
            _ => Request::CreateService(ServiceSpec { name: "mine".into(), ..example() }.into()),
        }
    }

    /// Whether this is within what a token allows, in words of our own; `None`: we do not know the token.
    fn allows(&self, id: DeployTokenId, request: &Request) -> Option<bool> {
        let own = &self.tokens.get(&id)?.spec.service;
        Some(match request {
            Request::Deploy { service, image, note } => {
                service == own
                    && image.starts_with(&format!("{REPOSITORY}@"))
                    && note.despite_freeze.is_none()
            }
            Request::GetService(service)
            | Request::ReturnTo { service, .. }
            | Request::SteerRollout { service, step: RolloutStep::Abort, .. } => service == own,
            _ => false,
        })
    }

    /// An answer came; what is wrong with it.
    pub(crate) fn answered(
        &mut self,
        identity: &Identity,
        request: &Request,
        invoked: Time,
        now: Time,
        result: &Result<Reply, ApiError>,
    ) -> Option<String> {
        let reply = result.as_ref().ok()?;
        match (request, &reply.response) {
            (
                Request::CreateDeployToken { spec, .. },
                Response::Changed { answer: Answer::DeployToken { id, .. }, .. },
            ) if !matches!(identity, Identity::Bearer(_)) => {
                self.tokens.entry(*id).or_insert(Token { spec: (**spec).clone(), removed: None });
            }
            (Request::RemoveDeployToken(name), _) => {
                let named = self.tokens.values_mut().find(|token| token.spec.name == *name);
                named.into_iter().for_each(|token| _ = token.removed.get_or_insert(now));
            }
            _ => {}
        }
        let Identity::Bearer(id) = identity else { return None };
        if self.allows(*id, request) == Some(false) {
            return Some(format!("deploy token {id} was let do what it does not allow: {request:?}"));
        }
        let removed = self.tokens.get(id)?.removed?;
        (removed < invoked)
            .then(|| format!("deploy token {id} was removed before it was let do this: {request:?}"))
    }
}

fn example() -> ServiceSpec {
    let mut spec = ServiceSpec::default();
    spec.template.container.image = "app:v1".into();
    spec
}
