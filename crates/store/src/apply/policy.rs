//! Policies.

use std::sync::Arc;

use model::{
    cluster::Cluster,
    command::{Answer, Rejection},
    id::Generation,
    policy::{MAX_POLICIES, Policy, PolicySpec},
};

use super::expect_generation;
use crate::{requests::Outcome, resolve::missing, write::Writer};

impl Writer<'_> {
    pub(super) fn set_policy(&mut self, spec: &PolicySpec, expected: Option<Generation>) -> Outcome {
        let cluster = self.cluster()?;
        let mut policies = self.store.policies().to_vec();
        let known = policies.iter_mut().find(|known| known.spec.name == spec.name);
        let actual = known.as_ref().map_or(Generation(0), |known| known.generation);
        if known.as_ref().is_some_and(|known| known.spec == *spec) {
            // A retry, or the same again.
            return Ok(Answer::Done);
        }
        if let Some(expected) = expected {
            expect_generation("policy", &spec.name, expected, actual)?;
        }
        let (generation, by) = (self.generation, self.actor.clone());
        let policy = Policy { spec: spec.clone(), generation, by, set: self.at };
        match known {
            Some(known) => *known = policy,
            None => policies.push(policy),
        }
        if policies.len() > MAX_POLICIES {
            let message = format!("there are {MAX_POLICIES} policies, the most there may be; remove some");
            return Err(Rejection::Conflict(message));
        }
        policies.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        self.put_policies(&cluster, policies);
        Ok(Answer::Done)
    }

    pub(super) fn remove_policy(&mut self, name: &str) -> Outcome {
        let cluster = self.cluster()?;
        let mut policies = self.store.policies().to_vec();
        policies.retain(|policy| policy.spec.name != name);
        if policies.len() == self.store.policies().len() {
            return Err(missing("policy", name));
        }
        self.put_policies(&cluster, policies);
        Ok(Answer::Done)
    }

    /// Without any policy the list stays: what holds by default is judged at apply from the first one on.
    fn put_policies(&mut self, cluster: &Cluster, policies: Vec<Policy>) {
        let (policies, generation) = (Some(Arc::new(policies)), self.generation);
        self.put_cluster(Cluster { policies, generation, ..cluster.clone() });
    }
}
