//! What a request is about, for the record of its refusal. Exhaustive on purpose: a new request does not build without a
//! word for it here.

use super::{About, MAX_TEXT, cut};
use crate::{
    identity::JoinRole,
    login::{Proof, user_name},
    request::Request,
};

/// What it would change; `None` for a read.
pub fn about(request: &Request) -> Option<About> {
    Some(match request {
        Request::NoteRefusal { source, .. } => About::new("note", "refusal", source),
        Request::CreateService(spec) => About::new("create", "service", &spec.name),
        Request::UpdateService { service, .. } => About::new("update", "service", service),
        Request::ScaleServices(scales) => {
            let names: Vec<&str> = scales.iter().map(|(name, _)| name.as_str()).collect();
            About::new("scale", "service", names.join(","))
        }
        Request::RollbackService(service) | Request::ReturnTo { service, .. } => {
            About::new("roll back", "service", service)
        }
        Request::Deploy { service, .. } => About::new("deploy", "service", service),
        Request::SteerRollout { service, step, .. } => About::new(&step.to_string(), "service", service),
        Request::RemoveService(service) => About::new("remove", "service", service),
        Request::UpdateNode { node, .. } => About::new("update", "node", node),
        Request::RemoveNode { node, .. } => About::new("remove", "node", node),
        Request::CreateToken { role, .. } => About::new("create", "token", role),
        Request::RevokeToken(id) => About::new("revoke", "token", id),
        Request::SetSettings(_) => About::new("set", "settings", "cluster"),
        Request::TransferLeader { to } => {
            About::new("transfer", "lead", to.map_or_else(String::new, |to| to.to_string()))
        }
        Request::RemoveMember(id) => About::new("remove", "manager", id),
        Request::ReplaceMember { address, .. } => About::new("replace", "manager", address),
        Request::UpdateMember { address, .. } => About::new("update", "manager", address),
        Request::CreateNetwork(spec) => About::new("create", "network", &spec.name),
        Request::RemoveNetwork(network) => About::new("remove", "network", network),
        Request::SetFreeze(spec) => About::new("set", "freeze", &spec.name),
        Request::RemoveFreeze(name) => About::new("remove", "freeze", name),
        Request::SetCron(spec) => About::new("set", "cron", &spec.name),
        Request::RemoveCron(name) => About::new("remove", "cron", name),
        Request::SuspendCron { name, suspended } => {
            About::new(if *suspended { "suspend" } else { "resume" }, "cron", name)
        }
        Request::RunCron(name) => About::new("run", "cron", name),
        Request::SetRegistry { spec, .. } => About::new("set", "registry", &spec.host),
        Request::RemoveRegistry(host) => About::new("remove", "registry", host),
        Request::Join(join) => {
            let kind = match join.role {
                JoinRole::Manager => "manager",
                JoinRole::Agent => "node",
            };
            About::new("join", kind, &join.facts.hostname)
        }
        Request::RenewCertificate { .. } => About::new("renew", "certificate", ""),
        Request::CreateUser(spec) => About::new("create", "user", &spec.name),
        Request::UpdateUser { user, .. } => About::new("update", "user", user),
        Request::RemoveUser(user) => About::new("remove", "user", user),
        Request::CertifyUser { user, .. } => About::new("certify", "user", user),
        Request::CreateDeployToken { spec, .. } => About::new("create", "deploy-token", &spec.name),
        Request::RemoveDeployToken(name) => About::new("remove", "deploy-token", name),
        Request::SetPolicy { spec, .. } => About::new("set", "policy", &spec.name),
        Request::RemovePolicy(name) => About::new("remove", "policy", name),
        Request::CreateItem { spec, .. } => About::new("create", &spec.kind.to_string(), &spec.name),
        Request::UpdateItem { kind, name, .. } => About::new("update", &kind.to_string(), name),
        Request::RemoveItem { kind, name } => About::new("remove", &kind.to_string(), name),
        Request::RotateKey => About::new("rotate", "data-key", ""),
        Request::SetIssuer(spec) => About::new("set", "issuer", &spec.name),
        Request::RemoveIssuer(name) => About::new("remove", "issuer", name),
        Request::CreateBinding(spec) => About::new("create", "deploy-binding", &spec.name),
        Request::RemoveBinding(name) => About::new("remove", "deploy-binding", name),
        Request::Exchange(exchange) => {
            About::new("exchange", "id-token", exchange.binding.as_deref().unwrap_or(""))
        }
        Request::RotateAuthority { .. } => About::new("rotate", "authority", ""),
        Request::FinishRotation { .. } => About::new("finish", "rotation", ""),
        Request::JudgeJoiner { joiner, approve } => {
            About::new(if *approve { "approve" } else { "deny" }, "manager", joiner)
        }
        Request::Reenrol(_) => About::new("re-enrol", "certificate", ""),
        Request::SetLoginMethod { spec, .. } => About::new("set", "login-method", &spec.name),
        Request::RemoveLoginMethod(name) => About::new("remove", "login-method", name),
        Request::LogIn(login) => {
            let user = match &login.proof {
                Proof::Password { user, .. } => user.as_str(),
                // Whose it is says only a token that holds.
                Proof::IdToken(_) => "",
            };
            // What is no name may be a password that was typed too early.
            About::new("log in", "user", user_name(&login.method, user).unwrap_or_default())
        }
        Request::ListServices
        | Request::GetService(_)
        | Request::ListTasks(_)
        | Request::ListNetworks
        | Request::ListFreezes
        | Request::ListCrons
        | Request::ListRegistries
        | Request::GetNetwork(_)
        | Request::GetEndpoints(_)
        | Request::ListNodes
        | Request::GetNode(_)
        | Request::ListMembers
        | Request::ListTokens
        | Request::GetStatus
        | Request::Explain(_)
        | Request::Watch { .. }
        | Request::Logs { .. }
        | Request::ListUsers
        | Request::Whoami
        | Request::CanI { .. }
        | Request::ListDeployTokens
        | Request::ListItems(_)
        | Request::GetItem { .. }
        | Request::GetKeys
        | Request::ListIssuers
        | Request::ListBindings
        | Request::ListJoiners
        | Request::GetAuthority
        | Request::ListPolicies
        | Request::CheckPolicies { .. }
        | Request::ListLoginMethods
        | Request::ListLogins
        | Request::GetAudit { .. } => return None,
    })
}

/// Why it is asked for although a freeze speaks against it.
pub fn reason(request: &Request) -> Option<String> {
    let reason = match request {
        Request::ReturnTo { note, .. } | Request::Deploy { note, .. } => note.despite_freeze.as_ref(),
        Request::UpdateNode { change, .. } => change.despite_freeze.as_ref(),
        _ => None,
    };
    reason.map(|reason| cut(reason, MAX_TEXT))
}

/// The job that a release is said to come from.
pub fn job(request: &Request) -> Option<String> {
    let job = match request {
        Request::ReturnTo { note, .. } | Request::Deploy { note, .. } => &note.job,
        Request::Exchange(exchange) => return exchange.proof.as_ref().map(|proof| proof.claims.words()),
        _ => return None,
    };
    Some(cut(job, MAX_TEXT)).filter(|job| !job.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reads_are_about_nothing() {
        let reads = [Request::ListServices, Request::GetAudit { after: 0 }, Request::GetStatus];
        let changes = [Request::RemoveService("web".into()), Request::RunCron("x".into())];
        for request in reads.iter().chain(&changes) {
            assert_eq!(about(request).is_none(), request.is_read(), "{request:?}");
        }
    }
}
