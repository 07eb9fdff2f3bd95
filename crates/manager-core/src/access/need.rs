//! What every request takes. A new request without a line here does not compile.

use model::{
    access::Verb,
    cron::CronSpec,
    freeze::FreezeSpec,
    id::{MemberId, TokenId},
    item::{ItemKind, ItemSpec},
    request::{NodeChange, Request},
    service::{RolloutStep, ServiceSpec, TemplateVersion},
};

/// What a request takes, with what of it counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Need<'a> {
    /// To be known at all: lists are no secret among users, and hold no secrets.
    Read,
    /// To know who one is.
    Myself,
    /// Logs of a service or a task.
    Logs(&'a str),
    /// A new service.
    Create(&'a ServiceSpec),
    /// Another declaration of a service.
    Redeclare { service: &'a str, spec: &'a ServiceSpec },
    /// An earlier declaration of a service.
    Return { service: &'a str, to: Option<TemplateVersion>, despite_freeze: bool },
    /// Something of a service that leaves its name and labels as they are.
    Service { verb: Verb, service: &'a str, despite_freeze: bool },
    /// Replica counts.
    Scale(&'a [(String, u32)]),
    /// A cron, in place of the one of its name.
    SetCron(&'a CronSpec),
    /// Something of a cron.
    Cron(&'a str),
    /// A change of a node.
    Node { node: &'a str, change: &'a NodeChange },
    /// A freeze, in place of the one of its name.
    SetFreeze(&'a FreezeSpec),
    /// The end of a freeze.
    RemoveFreeze(&'a str),
    /// Networks, which services share.
    Networks,
    /// What only an admin does.
    Admin(Verb),
    /// What was done and refused: for admins.
    Audit,
    /// The lead: for admins and managers.
    Lead,
    /// A manager's end: for admins and itself.
    Leave(MemberId),
    /// What a manager says of itself.
    Member,
    /// A new secret or config.
    CreateItem(&'a ItemSpec),
    /// Something of a secret or config.
    Item { kind: ItemKind, name: &'a str },
    /// One's own certificate.
    Renew,
    /// A node's own certificate, by proof of the key of one that has run out.
    Reenrol,
    /// To be admitted with a token.
    Join(TokenId),
    /// A session for an ID token.
    Exchange,
    /// To log in: for whoever has no certificate.
    LogIn,
    /// To be told how one logs in.
    Greet,
}

impl<'a> Need<'a> {
    /// The whole table.
    pub(super) fn of(request: &'a Request) -> Self {
        let service = |verb, service: &'a str| Self::Service { verb, service, despite_freeze: false };
        match request {
            Request::CreateService(spec) => Self::Create(spec),
            Request::UpdateService { service, spec, .. } => Self::Redeclare { service, spec },
            Request::ScaleServices(scales) => Self::Scale(scales),
            Request::RollbackService(service) => Self::Return { service, to: None, despite_freeze: false },
            Request::ReturnTo { service, release, note } => {
                Self::Return { service, to: *release, despite_freeze: note.despite_freeze.is_some() }
            }
            Request::Deploy { service, note, .. } => {
                Self::Service { verb: Verb::Deploy, service, despite_freeze: note.despite_freeze.is_some() }
            }
            // An abort brings the previous declaration back.
            Request::SteerRollout { service, step: RolloutStep::Abort, .. } => {
                Self::Return { service, to: None, despite_freeze: false }
            }
            Request::SteerRollout {
                service: of,
                step: RolloutStep::Pause | RolloutStep::Resume | RolloutStep::Promote,
                ..
            } => service(Verb::Deploy, of),
            Request::RemoveService(of) => service(Verb::Remove, of),
            Request::UpdateNode { node, change } => Self::Node { node, change },
            Request::RemoveNode { .. } => Self::Admin(Verb::Nodes),
            Request::CreateToken { .. }
            | Request::RevokeToken(_)
            | Request::CreateDeployToken { .. }
            | Request::RemoveDeployToken(_)
            | Request::SetIssuer(_)
            | Request::RemoveIssuer(_)
            | Request::CreateBinding(_)
            | Request::RemoveBinding(_) => Self::Admin(Verb::Tokens),
            Request::Exchange(_) => Self::Exchange,
            Request::SetSettings(_) | Request::JudgeJoiner { .. } => Self::Admin(Verb::Settings),
            Request::TransferLeader { .. } => Self::Lead,
            Request::RemoveMember(id) => Self::Leave(*id),
            Request::ReplaceMember { .. } | Request::UpdateMember { .. } | Request::NoteRefusal { .. } => {
                Self::Member
            }
            Request::CreateNetwork(_) | Request::RemoveNetwork(_) => Self::Networks,
            Request::SetFreeze(spec) => Self::SetFreeze(spec),
            Request::RemoveFreeze(name) => Self::RemoveFreeze(name),
            Request::SetCron(spec) => Self::SetCron(spec),
            Request::RemoveCron(name) | Request::SuspendCron { name, .. } | Request::RunCron(name) => {
                Self::Cron(name)
            }
            Request::SetRegistry { .. } | Request::RemoveRegistry(_) => Self::Admin(Verb::Registries),
            Request::SetPolicy { .. } | Request::RemovePolicy(_) => Self::Admin(Verb::Policies),
            Request::Join(join) => Self::Join(join.token),
            Request::RenewCertificate { .. } => Self::Renew,
            Request::Reenrol(_) => Self::Reenrol,
            Request::CreateUser(_)
            | Request::UpdateUser { .. }
            | Request::RemoveUser(_)
            | Request::CertifyUser { .. } => Self::Admin(Verb::Users),
            Request::CreateItem { spec, .. } => Self::CreateItem(spec),
            Request::UpdateItem { kind, name, .. } | Request::RemoveItem { kind, name } => {
                Self::Item { kind: *kind, name }
            }
            Request::RotateKey | Request::RotateAuthority { .. } | Request::FinishRotation { .. } => {
                Self::Admin(Verb::Settings)
            }
            Request::SetLoginMethod { .. } | Request::RemoveLoginMethod(_) => Self::Admin(Verb::Users),
            Request::LogIn(_) => Self::LogIn,
            Request::ListLogins => Self::Greet,
            Request::ListServices
            | Request::GetService(_)
            | Request::ListTasks(_)
            | Request::ListNetworks
            | Request::ListFreezes
            | Request::ListCrons
            | Request::ListRegistries
            | Request::ListPolicies
            | Request::CheckPolicies { .. }
            | Request::GetNetwork(_)
            | Request::GetEndpoints(_)
            | Request::ListNodes
            | Request::GetNode(_)
            | Request::ListMembers
            | Request::ListTokens
            | Request::GetStatus
            | Request::Explain(_)
            | Request::Watch { .. }
            | Request::ListUsers
            | Request::ListDeployTokens
            | Request::ListItems(_)
            | Request::GetItem { .. }
            | Request::GetKeys
            | Request::ListIssuers
            | Request::ListBindings
            | Request::ListLoginMethods
            | Request::ListJoiners
            | Request::GetAuthority => Self::Read,
            Request::Logs { of, .. } => Self::Logs(of),
            Request::GetAudit { .. } => Self::Audit,
            Request::Whoami | Request::CanI { .. } => Self::Myself,
        }
    }
}
