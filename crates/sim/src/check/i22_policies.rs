//! I22: what came after a policy keeps to it, however its proposer saw the state.
//!
//! A failed release returns to what ran, which is the managers' own doing, and is not judged. What a policy says is compared here without
//! asking the code that judges.

use model::{
    identity::Identity,
    policy::Policy,
    service::{Mode, Service},
};
use store::Store;

use crate::world::World;

impl World {
    /// The state has changed.
    pub(crate) fn check_policies(&mut self, before: &Store, store: &Store) {
        if store.policies().is_empty() {
            return;
        }
        self.checks.count("policies checked");
        let wrong = store.services().find_map(|service| {
            let about = |policy: &&Policy| policy.spec.services.names.contains(&service.spec.name);
            let mut policies = store.policies().iter().filter(about);
            let known = before.service(service.id);
            let what = policies.find_map(|policy| {
                unfit_release(known, service, policy).or_else(|| too_many(before, known, service, policy))
            })?;
            Some((format!("service {}: {what}", service.spec.name), service.spec.name.clone()))
        });
        if let Some((what, name)) = wrong {
            self.violate("I22", what, vec![name]);
        }
    }
}

/// A release that somebody brought after a policy was set, and that lacks what it requires.
fn unfit_release(known: Option<&Service>, service: &Service, policy: &Policy) -> Option<String> {
    let newest = service.release(service.template)?;
    let is_new = known.is_none_or(|known| known.template != service.template);
    let by_people = matches!(newest.by, Some(Identity::Operator { .. }));
    let constraints = &newest.spec.template.placement.constraints;
    let lacks = policy.spec.require.constraints.iter().any(|needed| !constraints.contains(needed));
    (is_new && by_people && newest.at > policy.set && lacks)
        .then(|| format!("release {} came after policy {} and breaks it", newest.number.0, policy.spec.name))
}

/// More replicas than a policy allows, and more than before it.
fn too_many(before: &Store, known: Option<&Service>, service: &Service, policy: &Policy) -> Option<String> {
    let (Mode::Replicated(count), cap) = (service.spec.mode, policy.spec.caps.replicas) else { return None };
    let held = before.policies().iter().any(|old| old.generation == policy.generation);
    let grew = match known.map(|known| known.spec.mode) {
        Some(Mode::Replicated(old)) => count > old,
        _ => true,
    };
    (held && grew && cap > 0 && count > cap)
        .then(|| format!("{count} replicas where policy {} allows {cap}", policy.spec.name))
}
