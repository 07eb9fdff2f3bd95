//! Policies: how they come, and what they say about what is there.

use std::borrow::Cow;

use model::{
    command::Command,
    id::Generation,
    identity::Identity,
    policy::{Policy, PolicySpec},
    request::{ApiError, PolicyVerdict, Waiting},
};

use crate::Manager;

/// Services that `status` names; `policy check` names all.
const MAX_NAMED: usize = 10;

impl Manager {
    pub(crate) fn policy(&self, spec: PolicySpec, expected: Option<Generation>) -> Result<Command, ApiError> {
        self.same_versions("a policy")?;
        Ok(Command::SetPolicy { spec, expected })
    }

    /// What would be refused if it came today, or under a policy that is only thought of.
    pub(crate) fn policy_check(&self, with: Option<&PolicySpec>) -> Vec<PolicyVerdict> {
        let mut policies = Cow::Borrowed(self.store.policies());
        if let Some(spec) = with {
            let policies = policies.to_mut();
            policies.retain(|policy| policy.spec.name != spec.name);
            let (generation, set) = (Generation(0), self.store.time());
            policies.push(Policy { spec: spec.clone(), generation, by: Identity::Anonymous, set });
        }
        let verdicts = self.store.out_of_policy(&policies).into_iter();
        verdicts.map(|(what, refusal)| PolicyVerdict { what, refusal }).collect()
    }

    /// What runs against today's policies: it goes on, and its next change is refused.
    pub(crate) fn policy_waiting(&self) -> Vec<Waiting> {
        let policies = self.store.policies();
        let since = policies.iter().map(|policy| policy.set).max().unwrap_or(self.store.time());
        let verdicts = self.store.out_of_policy(policies).into_iter().take(MAX_NAMED);
        let why = |rules: Vec<&str>| {
            format!(
                "runs, and a change of it would be refused by {}; see orchctl policy check",
                rules.join(", ")
            )
        };
        verdicts
            .map(|(what, refusal)| {
                let mut rules: Vec<&str> =
                    refusal.breaches.iter().map(|breach| breach.rule.as_str()).collect();
                rules.dedup();
                Waiting { what, why: why(rules), since }
            })
            .collect()
    }
}
