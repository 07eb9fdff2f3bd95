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
pub(crate) const REPOSITORY: &str = "app";

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
            return Some((admin, create(&mut self.dice, &mut self.made)));
        };
        let spec = self.tokens[&id].spec.clone();
        if self.dice.permille(60) {
            return Some((admin, Request::RemoveDeployToken(spec.name)));
        }
        let request = if self.dice.permille(350) {
            attack(&mut self.dice, &mut self.made, &spec)
        } else {
            work(&mut self.dice, spec.service)
        };
        Some((Identity::Bearer(id), request))
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
        let token = self.tokens.get(id)?;
        if !allows(&token.spec.service, request) {
            return Some(format!("deploy token {id} was let do what it does not allow: {request:?}"));
        }
        let removed = token.removed?;
        (removed < invoked)
            .then(|| format!("deploy token {id} was removed before it was let do this: {request:?}"))
    }
}

fn create(dice: &mut Dice, made: &mut u64) -> Request {
    *made += 1;
    let spec = DeployTokenSpec {
        name: format!("ci-{made}"),
        service: (*dice.pick(&RELEASED).expect("not empty")).to_owned(),
        image: REPOSITORY.to_owned(),
        allow: DeployVerb::ALL.into(),
    };
    let ttl = dice.span(2_000, 40_000).max(Duration::from_secs(1));
    Request::CreateDeployToken { spec: Box::new(spec), ttl, digest: TokenDigest([1; 32]) }
}

/// What a token for a service allows.
pub(crate) fn work(dice: &mut Dice, service: String) -> Request {
    match dice.range(0, 9) {
        0 | 1 => Request::GetService(service),
        2 => Request::ReturnTo { service, release: None, note: Box::default() },
        3 => Request::SteerRollout { service, release: None, step: RolloutStep::Abort },
        _ => deploy(dice, service, REPOSITORY, None),
    }
}

fn deploy(dice: &mut Dice, service: String, repository: &str, despite_freeze: Option<String>) -> Request {
    let image = format!("{repository}@sha256:{:064x}", dice.range(1, 6));
    let at_next_window = despite_freeze.is_none();
    let note = ReleaseNote { at_next_window, despite_freeze, ..ReleaseNote::default() };
    Request::Deploy { service, image, note: Box::new(note) }
}

/// What a token does not allow; `made` counts the tokens that were asked for.
pub(crate) fn attack(dice: &mut Dice, made: &mut u64, spec: &DeployTokenSpec) -> Request {
    let own = spec.service.clone();
    let other = RELEASED.iter().find(|name| **name != own).map(ToString::to_string).unwrap_or_default();
    match dice.range(0, 9) {
        0 => deploy(dice, other, REPOSITORY, None),
        1 => deploy(dice, own, "app-evil", None),
        2 => deploy(dice, own, REPOSITORY, Some("because".into())),
        3 => Request::ScaleServices(vec![(own, 0)]),
        4 => Request::RemoveService(own),
        5 => Request::SteerRollout { service: own, release: None, step: RolloutStep::Promote },
        6 => Request::ListNodes,
        7 => create(dice, made),
        8 => Request::GetService(other),
        _ => Request::CreateService(ServiceSpec { name: "mine".into(), ..example() }.into()),
    }
}

/// Whether this is within what a token for the service allows, in words of our own.
pub(crate) fn allows(own: &str, request: &Request) -> bool {
    match request {
        Request::Deploy { service, image, note } => {
            service == own && image.starts_with(&format!("{REPOSITORY}@")) && note.despite_freeze.is_none()
        }
        Request::GetService(service)
        | Request::ReturnTo { service, .. }
        | Request::SteerRollout { service, step: RolloutStep::Abort, .. } => service == own,
        _ => false,
    }
}

fn example() -> ServiceSpec {
    let mut spec = ServiceSpec::default();
    spec.template.container.image = "app:v1".into();
    spec
}
