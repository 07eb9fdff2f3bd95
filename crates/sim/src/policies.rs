//! What admins and teams do at the same moment: a policy comes or goes while somebody declares what it is about.
//!
//! Their services have names of their own: what is refused by a policy is not for the linearizability check.

use std::sync::Arc;

use model::{
    placement::Constraint,
    policy::PolicySpec,
    request::Request,
    service::{FailureAction, Mode, ServiceSpec},
};

use crate::dice::Dice;

/// Names of services that policies are about.
const JUDGED: [&str; 2] = ["cellar", "attic"];
/// Names of policies.
const POLICIES: [&str; 2] = ["rooms", "floors"];

/// All of them, with the choices of one world.
pub(crate) struct Policies {
    dice: Dice,
    /// Asked at the same moment as the step before.
    beside: Option<Request>,
}

impl Policies {
    pub(crate) fn new(seed: u64) -> Self {
        Self { dice: Dice::new(seed, "policies"), beside: None }
    }

    /// What a policy may require of them.
    pub(crate) fn required() -> Constraint {
        "node.hostname!=n1".parse().expect("a constraint")
    }

    /// Every fourth step is theirs; `base` makes a declaration of a name.
    pub(crate) fn step(&mut self, base: impl FnOnce(&str) -> ServiceSpec) -> Option<Request> {
        if !self.dice.permille(250) {
            return None;
        }
        let name = *self.dice.pick(&JUDGED).expect("not empty");
        let service = name.to_owned();
        if self.dice.permille(400) {
            self.beside = Some(self.policy());
        }
        Some(match self.dice.range(0, 99) {
            0..55 => Request::CreateService(Arc::new(self.judged(base(name)))),
            55..70 => Request::ScaleServices(vec![(service, self.dice.range(0, 5) as u32)]),
            70..85 => Request::RemoveService(service),
            85..92 => Request::RollbackService(service),
            92..96 => self.policy(),
            _ => Request::CheckPolicies { with: None },
        })
    }

    pub(crate) fn beside(&mut self) -> Option<Request> {
        self.beside.take()
    }

    fn judged(&mut self, mut spec: ServiceSpec) -> ServiceSpec {
        spec.mode = Mode::Replicated(self.dice.range(1, 5) as u32);
        spec.update.failure_action = FailureAction::Rollback;
        spec.template.placement.constraints.clear();
        if self.dice.permille(400) {
            spec.template.placement.constraints.push(Self::required());
        }
        spec
    }

    fn policy(&mut self) -> Request {
        let name = (*self.dice.pick(&POLICIES).expect("not empty")).to_owned();
        if self.dice.permille(450) {
            return Request::RemovePolicy(name);
        }
        let mut spec = PolicySpec { name, ..PolicySpec::default() };
        spec.services.names = JUDGED.map(str::to_owned).into();
        match self.dice.range(0, 2) {
            0 => spec.caps.replicas = self.dice.range(1, 4) as u32,
            _ => spec.require.constraints = vec![Self::required()],
        }
        Request::SetPolicy { spec: Box::new(spec), expected: None }
    }
}
