//! `can-i` and `whoami`: the same decision, asked without doing anything.

use model::{
    access::{Extent, Label, Right, UserRole, Verb, Verdict},
    freeze::FreezeSpec,
    id::{MemberId, TokenId},
    identity::Identity,
    item::ItemKind,
    node::Availability,
    request::{ApiError, ErrorCode, NodeChange, Request},
    service::{ReleaseNote, ServiceSpec},
    session::LogOptions,
};
use store::Store;

use super::{decide, decide::roles};
use crate::admit::not_found;

/// Whether an identity may do something to an object, or to anything at all.
///
/// # Errors
/// There is no such object, or what was named is none.
pub(crate) fn can(
    store: &Store,
    identity: &Identity,
    verb: Verb,
    object: Option<&str>,
) -> Result<Verdict, ApiError> {
    let roles = roles(store, identity)?;
    let own: Vec<String> = roles.iter().map(ToString::to_string).collect();
    let Some(object) = object else {
        let verdict = match extent(&roles, verb) {
            Extent::All => Verdict { allowed: true, reason: format!("as {}, on everything", own.join(", ")) },
            Extent::Only(roles) => {
                let roles: Vec<String> = roles.iter().map(ToString::to_string).collect();
                let reason = format!("as {}, on what is theirs and nothing else", roles.join(", "));
                Verdict { allowed: true, reason }
            }
            Extent::Nothing => {
                Verdict { allowed: false, reason: format!("the role {} does not give it", own.join(", ")) }
            }
        };
        return Ok(verdict);
    };
    match decide(store, identity, &hypothesis(store, verb, object)?) {
        Ok(()) => Ok(Verdict { allowed: true, reason: format!("as {}", own.join(", ")) }),
        Err(error) if error.code == ErrorCode::Denied => {
            Ok(Verdict { allowed: false, reason: error.message })
        }
        Err(error) => Err(error),
    }
}

/// Everything that roles give, in the order of the verbs.
pub(crate) fn rights(roles: &[UserRole]) -> Vec<Right> {
    Verb::ALL.iter().map(|verb| Right { verb: *verb, extent: extent(roles, *verb) }).collect()
}

/// On what a verb may be used. The tests hold it against the decision.
pub(super) fn extent(roles: &[UserRole], verb: Verb) -> Extent {
    let gives = |role: &UserRole| match role {
        UserRole::Admin => Extent::All,
        UserRole::Operator => match verb {
            Verb::Nodes
            | Verb::Tokens
            | Verb::Users
            | Verb::Registries
            | Verb::Policies
            | Verb::Settings
            | Verb::Managers => Extent::Nothing,
            Verb::Read
            | Verb::Logs
            | Verb::Create
            | Verb::Update
            | Verb::Deploy
            | Verb::Scale
            | Verb::Rollback
            | Verb::Remove
            | Verb::Drain
            | Verb::Freeze
            | Verb::Networks
            | Verb::Secrets => Extent::All,
        },
        _ if verb == Verb::Read => Extent::All,
        UserRole::Viewer if verb == Verb::Logs => Extent::All,
        UserRole::Team(_) if is_of_services(verb) => Extent::Only(vec![role.clone()]),
        UserRole::Beamline(_) if matches!(verb, Verb::Drain | Verb::Freeze | Verb::Logs) => {
            Extent::Only(vec![role.clone()])
        }
        UserRole::Viewer | UserRole::Team(_) | UserRole::Beamline(_) => Extent::Nothing,
    };
    roles.iter().map(gives).fold(Extent::Nothing, |sum, more| match (sum, more) {
        (Extent::All, _) | (_, Extent::All) => Extent::All,
        (Extent::Only(mut roles), Extent::Only(more)) => {
            roles.extend(more);
            Extent::Only(roles)
        }
        (Extent::Nothing, other) | (other, Extent::Nothing) => other,
    })
}

fn is_of_services(verb: Verb) -> bool {
    matches!(
        verb,
        Verb::Logs
            | Verb::Create
            | Verb::Update
            | Verb::Deploy
            | Verb::Scale
            | Verb::Rollback
            | Verb::Remove
            | Verb::Secrets
    )
}

/// A request that would do it. It is decided on and never carried out.
fn hypothesis(store: &Store, verb: Verb, object: &str) -> Result<Request, ApiError> {
    let of = object.to_owned();
    let service = || Ok::<_, ApiError>(store.resolve_service(object)?);
    Ok(match verb {
        Verb::Read => Request::GetStatus,
        Verb::Logs => {
            if store.resolve_service(object).is_err() && store.resolve_task(object).is_err() {
                return Err(not_found("service or task", object));
            }
            Request::Logs { of, options: LogOptions::default() }
        }
        Verb::Create => Request::CreateService(new_service(object).into()),
        Verb::Update => {
            let service = service()?;
            let (expected, spec) = (service.generation, service.spec.clone());
            Request::UpdateService { service: of, expected, spec }
        }
        Verb::Deploy => {
            service()?;
            Request::Deploy { service: of, image: String::new(), note: Box::new(ReleaseNote::default()) }
        }
        Verb::Scale => {
            service()?;
            Request::ScaleServices(vec![(of, 1)])
        }
        Verb::Rollback => {
            service()?;
            Request::RollbackService(of)
        }
        Verb::Remove => {
            service()?;
            Request::RemoveService(of)
        }
        Verb::Drain => {
            store.resolve_node(object)?;
            let change = NodeChange { availability: Some(Availability::Drain), ..NodeChange::default() };
            Request::UpdateNode { node: of, change }
        }
        Verb::Freeze => Request::SetFreeze(freeze_of(object)?),
        Verb::Networks => Request::RemoveNetwork(of),
        Verb::Nodes => Request::RemoveNode { node: of, force: false },
        Verb::Tokens => Request::RevokeToken(TokenId(0)),
        Verb::Users => Request::RemoveUser(of),
        Verb::Registries => Request::RemoveRegistry(of),
        Verb::Policies => Request::RemovePolicy(of),
        Verb::Settings => {
            Request::SetSettings(store.cluster().map(|cluster| cluster.settings.clone()).unwrap_or_default())
        }
        Verb::Managers => Request::RemoveMember(MemberId(0)),
        Verb::Secrets => {
            let mut kinds = [ItemKind::Secret, ItemKind::Config].into_iter();
            let kind = kinds.find(|kind| store.item(*kind, object).is_some());
            let kind = kind.ok_or_else(|| not_found("secret or config", object))?;
            Request::RemoveItem { kind, name: of }
        }
    })
}

/// A service of this name, or one that carries this label.
fn new_service(object: &str) -> ServiceSpec {
    let mut spec = ServiceSpec::default();
    match object.split_once('=') {
        Some((key, value)) => _ = spec.labels.insert(key.to_owned(), value.to_owned()),
        None => spec.name = object.to_owned(),
    }
    spec
}

/// A freeze of the nodes with this label.
fn freeze_of(object: &str) -> Result<FreezeSpec, ApiError> {
    let Ok(UserRole::Beamline(Label { key, value })) = format!("beamline:{object}").parse() else {
        let message = format!("\"{object}\" names no nodes to freeze; write LABEL=VALUE");
        return Err(ApiError::new(ErrorCode::Invalid, message));
    };
    Ok(FreezeSpec { nodes: [(key, value)].into(), ..FreezeSpec::default() })
}
