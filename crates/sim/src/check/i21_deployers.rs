//! I21: a deploy token changes the image of its one service and nothing else, and nothing after it has ended.
//!
//! A release tells who brought it, so that the state alone says whether its bearer could: the token was there, had time left at
//! the release's stamp, and the declaration differs from the one before by its image. What an answer allows that no token
//! does is found where answers arrive (`pipelines`).

use model::{
    deployer::{DeployToken, beyond_image_on_return},
    identity::Identity,
    release::Release,
    service::Service,
};
use store::Store;

use crate::world::World;

impl World {
    /// The state has changed.
    pub(crate) fn check_deployers(&mut self, before: &Store, store: &Store) {
        if !self.knobs.tokens && !self.knobs.exchanges {
            return;
        }
        let mut count = 0;
        let wrong = store.services().find_map(|service| {
            let old = before.service(service.id);
            let known = old.map_or(0, |old| old.template.0);
            let new = service.releases.iter().filter(|release| release.number.0 > known);
            let name = &service.spec.name;
            new.filter_map(|release| by_token(before, store, old, service, release))
                .inspect(|_| count += 1)
                .find_map(Result::err)
                .map(|what| (format!("service {name}: {what}"), name.clone()))
        });
        (0..count).for_each(|_| self.checks.count("releases by deploy tokens"));
        let foreign = wrong.or_else(|| Some((others(store)?, String::new())));
        if let Some((what, name)) = foreign {
            self.violate("I21", what, vec![name]);
        }
    }
}

/// What is wrong with a new release; `None`: no deploy token brought it.
fn by_token(
    before: &Store,
    store: &Store,
    old: Option<&Service>,
    service: &Service,
    release: &Release,
) -> Option<Result<(), String>> {
    let Some(Identity::Deployer { id, name, .. }) = &release.by else { return None };
    // Made, used and removed in the steps between two looks, it is in neither.
    let token = before.deploy_token(*id).or_else(|| store.deploy_token(*id));
    let number = release.number.0;
    Some(match token {
        None if before.applied() + 1 == store.applied() => {
            Err(format!("release {number} came of deploy token {name}, which is not there"))
        }
        None => Ok(()),
        Some(token) => bounded(token, old, service, release).map_err(|why| {
            format!("release {number} came of deploy token {name} of {}: {why}", token.spec.service)
        }),
    })
}

fn bounded(
    token: &DeployToken,
    old: Option<&Service>,
    service: &Service,
    release: &Release,
) -> Result<(), String> {
    if release.at >= token.expires {
        return Err(format!("it came at {}, the token expired at {}", release.at, token.expires));
    }
    let image = &release.spec.template.container.image;
    if service.spec.name != token.spec.service || !token.spec.holds(image) {
        return Err(format!("it has {image}"));
    }
    // Only of the one before it is known what was declared.
    let next = old.filter(|old| old.template.0 + 1 == release.number.0);
    let differs = next.map(|old| beyond_image_on_return(&old.spec, &release.spec)).unwrap_or_default();
    if differs.is_empty() { Ok(()) } else { Err(format!("it differs in {}", differs.join(", "))) }
}

/// What no deploy token may have made.
fn others(store: &Store) -> Option<String> {
    let is_one = |identity: &Identity| matches!(identity, Identity::Deployer { .. } | Identity::Bearer(_));
    let freezes = store.freezes().iter().map(|freeze| &freeze.by);
    let registries = store.registries().iter().map(|registry| &registry.by);
    let tokens = store.deploy_tokens().iter().map(|token| &token.by);
    let first = |service: &Service| service.releases.iter().find(|release| release.number.0 == 1)?.by.clone();
    let issuers = store.issuers().iter().map(|issuer| &issuer.by);
    let bindings = store.bindings().iter().map(|binding| &binding.by);
    let declared = freezes.chain(registries).chain(tokens).chain(issuers).chain(bindings);
    let created = store.services().filter_map(first).find(is_one);
    let by = created.or_else(|| declared.into_iter().find(|by| is_one(by)).cloned())?;
    Some(format!("{by} made more than a release"))
}
