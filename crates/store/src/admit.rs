//! What a command asks of the policies: which declaration comes, in which way, in place of which. The leader asks before it proposes, and
//! every manager asks again when it applies the entry: a policy that was set in between holds (invariant I22).
//!
//! A new command has to be named here: what brings a declaration and is not judged would be a way around every policy.

use std::borrow::Cow;

use model::{
    command::{Command, Rejection},
    cron::Cron,
    id::ServiceId,
    identity::Identity,
    policy::{Policy, Refusal, Verb, admit, review},
    service::{Mode, ServiceSpec, TemplateVersion},
};

use crate::Store;

impl Store {
    /// All policies, by name.
    pub fn policies(&self) -> &[Policy] {
        let policies = self.cluster.as_ref().and_then(|cluster| cluster.policies.as_ref());
        policies.map_or(&[], |policies| policies)
    }

    /// Whether entries are judged when they are applied: since the first policy was declared. What versions wrote that knew of none is
    /// applied as they did it; it was judged when it was proposed, or by nobody.
    pub(crate) fn is_policed(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.policies.is_some())
    }

    /// Whether the policies let a command pass. What the command is about may be gone: that is for [`apply`](Self::apply) to say.
    ///
    /// # Errors
    /// What is against it.
    pub fn admits(&self, actor: &Identity, command: &Command) -> Result<(), Rejection> {
        let judge = |verb, old, new: &ServiceSpec| {
            admit(actor, verb, old, new, self.policies())
                .map_err(|refusal| Rejection::Refused(Box::new(refusal)))
        };
        let declared = |id: &ServiceId| self.services.get(id).map(|service| &*service.spec);
        match command {
            Command::CreateService { spec, .. } => judge(Verb::Create, None, spec),
            Command::UpdateService { id, spec, .. } => {
                let old = declared(id);
                // A retry, or the same again.
                if old == Some(&**spec) { Ok(()) } else { judge(Verb::Update, old, spec) }
            }
            Command::ScaleServices(scales) => {
                let known = scales.iter().filter_map(|(id, count)| Some((declared(id)?, *count)));
                known.into_iter().try_for_each(|(old, count)| {
                    let new = ServiceSpec { mode: Mode::Replicated(count), ..old.clone() };
                    judge(Verb::Scale, Some(old), &new)
                })
            }
            Command::RollbackService { id, to, .. } => match self.way_back(*id, *to) {
                Some(spec) => judge(Verb::Rollback, declared(id), &spec),
                None => Ok(()),
            },
            // Nothing is due: whoever suspends a cron that would be refused today does right.
            Command::SetCron { spec, .. } if spec.suspended => Ok(()),
            Command::SetCron { spec, .. } => judge(Verb::Schedule, None, &named(&spec.job, &spec.name)),
            Command::RunCron { id, .. } => self.crons.get(id).map_or(Ok(()), |cron| self.admits_run(actor, cron)),
            Command::Bootstrap { .. }
            | Command::SetSettings(_)
            | Command::SteerRollout { .. }
            | Command::RemoveService { .. }
            | Command::PinImage { .. }
            | Command::NoteFault { .. }
            | Command::CreateNetwork { .. }
            | Command::RemoveNetwork { .. }
            | Command::SetFreeze(_)
            | Command::RemoveFreeze { .. }
            | Command::RemoveCron { .. }
            | Command::SetRegistry(_)
            | Command::RemoveRegistry { .. }
            | Command::SetPolicy { .. }
            | Command::RemovePolicy { .. }
            | Command::CreateToken(_)
            | Command::RevokeToken { .. }
            | Command::JoinNode { .. }
            | Command::UpdateNode { .. }
            | Command::RemoveNode { .. }
            | Command::NodeUp { .. }
            | Command::NodeFacts { .. }
            | Command::NodeDown { .. }
            | Command::Observe { .. }
            | Command::JoinMember { .. }
            | Command::ReplaceMember { .. }
            | Command::UpdateMember { .. }
            | Command::RemoveMember { .. }
            | Command::RecoverMembers { .. }
            | Command::CertificateIssued { .. }
            | Command::RotateAuthority { .. }
            | Command::FinishRotation { .. }
            | Command::CreateUser { .. }
            | Command::UpdateUser { .. }
            | Command::RemoveUser { .. }
            | Command::CreateDeployToken { .. }
            | Command::RemoveDeployToken { .. }
            // A new value of what a service mounts is no other declaration of it.
            | Command::CreateItem { .. }
            | Command::UpdateItem { .. }
            | Command::RemoveItem { .. }
            | Command::AddKey { .. }
            | Command::UseKey { .. }
            | Command::Reseal { .. }
            | Command::DropKey { .. }
            | Command::SetIssuer(_)
            | Command::RemoveIssuer { .. }
            | Command::CreateBinding(_)
            | Command::RemoveBinding { .. }
            | Command::Exchange { .. }
            | Command::ResealLogin { .. }
            | Command::ResealAuthority { .. }
            | Command::SetLoginMethod { .. }
            | Command::RemoveLoginMethod { .. }
            | Command::LogIn { .. }
            | Command::JudgeJoiner { .. }
            | Command::BeginAudit
            | Command::Audit(_)
            // A time of a cron is judged when it comes to its job; a failed release returns unjudged.
            | Command::Decide(_) => Ok(()),
        }
    }

    /// Whether the policies let a cron make its next job.
    pub(crate) fn admits_run(&self, actor: &Identity, cron: &Cron) -> Result<(), Rejection> {
        let job = named(&cron.spec.job, &cron.spec.name);
        let verdict = admit(actor, Verb::Run, None, &job, self.policies());
        verdict.map_err(|refusal| Rejection::Refused(Box::new(refusal)))
    }

    /// The declaration that a rollback brings.
    fn way_back(&self, id: ServiceId, to: Option<TemplateVersion>) -> Option<Cow<'_, ServiceSpec>> {
        let service = self.services.get(&id)?;
        let Some(number) = to else { return service.previous.as_deref().map(Cow::Borrowed) };
        let (mode, ports) = (service.spec.mode, service.spec.ports.clone());
        Some(Cow::Owned(ServiceSpec { mode, ports, ..(*service.release(number)?.spec).clone() }))
    }

    /// What runs or is scheduled, and would be refused if it came today under these policies, each as `kind name`.
    pub fn out_of_policy(&self, policies: &[Policy]) -> Vec<(String, Refusal)> {
        let verdict = |what: String, spec: &ServiceSpec| {
            let breaches = review(spec, policies);
            (!breaches.is_empty()).then(|| (what.clone(), Refusal { what, breaches }))
        };
        let is_over =
            |service: &model::service::Service| service.job.as_ref().is_some_and(|job| job.is_over());
        let services = self.services.values().filter(|service| !service.removing && !is_over(service));
        let services = services.filter_map(|service| {
            let cron = service.job.as_ref().and_then(|job| self.crons.get(&job.cron?.cron));
            // It is the cron's, which is told of by itself.
            cron.is_none().then(|| verdict(format!("service {}", service.spec.name), &service.spec))?
        });
        let crons = self.crons.values().filter(|cron| !cron.spec.suspended).filter_map(|cron| {
            verdict(format!("cron {}", cron.spec.name), &named(&cron.spec.job, &cron.spec.name))
        });
        services.chain(crons).collect()
    }
}

/// A cron's jobs are judged by the cron's name: each has another one of its own.
fn named(job: &ServiceSpec, name: &str) -> ServiceSpec {
    ServiceSpec { name: name.to_owned(), ..job.clone() }
}
