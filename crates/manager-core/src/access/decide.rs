//! The decision: may this identity ask this, as the state is?
//!
//! A team's right to a service is judged on the declaration that is there and on the one that is asked for: neither takes a service
//! out of the team's scope, nor puts one into, or takes one out of, the scope of a team that is not the asker's.
//!
//! What a request names and is not there is not refused here: the way of the request says so, and a retry of a removal has to find
//! out that its first attempt was applied.

use std::collections::BTreeMap;

use model::{
    access::{Label, Scope, UserRole, Verb},
    cron::Cron,
    freeze::{Freeze, FreezeSpec},
    id::MemberId,
    identity::{Identity, Role},
    item::{ItemKind, ItemSpec},
    node::Node,
    request::{ApiError, ErrorCode, NodeChange, Request},
    service::{Service, ServiceSpec, TemplateVersion},
    task::{DesiredState, Task},
};
use store::Store;

use super::need::Need;

/// Admins that a refusal names; more help nobody.
const NAMED: usize = 3;

/// Deny by default.
///
/// # Errors
/// Why not, which role it takes, and whom to ask.
pub(crate) fn decide(store: &Store, identity: &Identity, request: &Request) -> Result<(), ApiError> {
    let need = Need::of(request);
    match identity {
        Identity::User { .. } | Identity::Operator { .. } => {
            let roles = roles(store, identity)?;
            Person { store, identity, roles: &roles }.decide(need)
        }
        Identity::Manager(own) => allow(
            manager_may(*own, need),
            identity,
            "read, hand the lead over, leave, come back, renew its certificate and change its address",
        ),
        Identity::Node(_) => {
            allow(matches!(need, Need::Renew | Need::Reenrol), identity, "only renew its own certificate")
        }
        Identity::Joiner(token) => {
            allow(matches!(need, Need::Join(id) if id == *token), identity, "only join")
        }
        // The one is told who leads before it is judged, the other is judged by its token.
        Identity::Bearer(_) | Identity::Deployer { .. } => {
            let message = format!("{identity} may ask once the leader has verified its token");
            Err(ApiError::new(ErrorCode::Unauthenticated, message))
        }
        // Only to be told who leads.
        Identity::Anonymous if matches!(need, Need::Join(_) | Need::Reenrol) => Ok(()),
        // What it may have is for the bindings to say.
        Identity::Anonymous if matches!(need, Need::Exchange) => Ok(()),
        // The proof that it brings is judged next.
        Identity::Anonymous if matches!(need, Need::LogIn | Need::Greet) => Ok(()),
        Identity::Anonymous => {
            let message = format!("{identity} may only join or log in; for this it needs a certificate");
            Err(ApiError::new(ErrorCode::Unauthenticated, message))
        }
    }
}

/// What an identity may do, as roles of users.
///
/// # Errors
/// A user who is not welcome (any more).
pub(crate) fn roles(store: &Store, identity: &Identity) -> Result<Vec<UserRole>, ApiError> {
    Ok(match identity {
        Identity::User { id, name } => store.known_user(*id, name)?.spec.roles.clone(),
        Identity::Operator { role: Role::Admin, .. } => vec![UserRole::Admin],
        Identity::Operator { role: Role::Viewer, .. } => vec![UserRole::Viewer],
        Identity::Manager(_)
        | Identity::Node(_)
        | Identity::Joiner(_)
        | Identity::Anonymous
        | Identity::Bearer(_)
        | Identity::Deployer { .. } => Vec::new(),
    })
}

fn manager_may(own: MemberId, need: Need<'_>) -> bool {
    match need {
        Need::Read | Need::Myself | Need::Logs(_) | Need::Member | Need::Renew | Need::Lead | Need::Greet => {
            true
        }
        Need::Leave(member) => member == own,
        Need::Create(_)
        | Need::Redeclare { .. }
        | Need::Return { .. }
        | Need::Service { .. }
        | Need::Scale(_)
        | Need::SetCron(_)
        | Need::Cron(_)
        | Need::Node { .. }
        | Need::SetFreeze(_)
        | Need::RemoveFreeze(_)
        | Need::Networks
        | Need::Admin(_)
        | Need::Audit
        | Need::CreateItem(_)
        | Need::Item { .. }
        | Need::Reenrol
        | Need::Join(_)
        | Need::Exchange
        | Need::LogIn => false,
    }
}

fn allow(allowed: bool, identity: &Identity, may: &str) -> Result<(), ApiError> {
    if allowed { Ok(()) } else { Err(ApiError::new(ErrorCode::Denied, format!("{identity} may {may}"))) }
}

/// What a scope looks at of a service, a job or a cron.
#[derive(Clone, Copy)]
struct Subject<'a> {
    name: &'a str,
    labels: &'a BTreeMap<String, String>,
}

impl<'a> Subject<'a> {
    fn of(spec: &'a ServiceSpec) -> Self {
        Self { name: &spec.name, labels: &spec.labels }
    }

    fn of_cron(name: &'a str, job: &'a ServiceSpec) -> Self {
        Self { name, labels: &job.labels }
    }

    fn of_item(spec: &'a ItemSpec) -> Self {
        Self { name: &spec.name, labels: &spec.labels }
    }

    fn is_in(self, scope: &Scope) -> bool {
        scope.covers(self.name, self.labels)
    }
}

/// A person or a script, and what the state says of it.
struct Person<'a> {
    store: &'a Store,
    identity: &'a Identity,
    roles: &'a [UserRole],
}

impl<'a> Person<'a> {
    fn decide(&self, need: Need<'_>) -> Result<(), ApiError> {
        match need {
            Need::Read | Need::Myself | Need::Renew | Need::Greet => Ok(()),
            Need::Logs(of) => self.logs(of),
            Need::Create(spec) => {
                self.declares("create", None, Subject::of(spec))?;
                self.mounts(None, spec)
            }
            Need::Redeclare { service, spec } => self.on_service(service, |old| {
                self.declares("update", Some(Subject::of(&old.spec)), Subject::of(spec))?;
                self.mounts(Some(&old.spec), spec)
            }),
            Need::Return { service, to, despite_freeze } => {
                self.overrides(despite_freeze)?;
                self.on_service(service, |old| match declared_by(old, to) {
                    Some(spec) => self.declares("roll back", Some(Subject::of(&old.spec)), Subject::of(spec)),
                    // There is no way back: whoever is asked says so.
                    None => self.owns(Verb::Rollback.word(), Subject::of(&old.spec)),
                })
            }
            Need::Service { verb, service, despite_freeze } => {
                self.overrides(despite_freeze)?;
                self.on_service(service, |old| self.owns(verb.word(), self.subject(old)))
            }
            Need::Scale(scales) => scales.iter().try_for_each(|(service, _)| {
                self.on_service(service, |old| self.owns("scale", Subject::of(&old.spec)))
            }),
            Need::SetCron(spec) => {
                let old = self.store.cron_by_name(&spec.name);
                let old = old.map(|old| Subject::of_cron(&old.spec.name, &old.spec.job));
                self.declares("declare", old, Subject::of_cron(&spec.name, &spec.job))?;
                let old = self.store.cron_by_name(&spec.name).map(|old| &*old.spec.job);
                self.mounts(old, &spec.job)
            }
            Need::Cron(name) => match self.store.cron_by_name(name) {
                Some(Cron { spec, .. }) => self.owns("change", Subject::of_cron(&spec.name, &spec.job)),
                None => Ok(()),
            },
            Need::Node { node, change } => self.node(node, change),
            Need::SetFreeze(spec) => {
                self.freeze(spec)?;
                self.freeze_named(&spec.name)
            }
            Need::RemoveFreeze(name) => self.freeze_named(name),
            Need::Networks => self.must(self.operates(), || "change networks".into(), "operator"),
            Need::Admin(verb) => self.must(self.is(&UserRole::Admin), || format!("change {verb}"), "admin"),
            Need::Audit => self.must(self.is(&UserRole::Admin), || "read the audit".into(), "admin"),
            Need::CreateItem(spec) => self.declares("create", None, Subject::of_item(spec)),
            Need::Item { kind, name } => self.item("change", kind, name),
            Need::Lead | Need::Leave(_) => {
                self.must(self.is(&UserRole::Admin), || "change managers".into(), "admin")
            }
            Need::Exchange => {
                let message = format!(
                    "{} has a certificate: an ID token is presented without one (no context)",
                    self.identity
                );
                Err(ApiError::new(ErrorCode::Denied, message))
            }
            Need::LogIn => {
                let message = format!("{} has a certificate; a login comes without one", self.identity);
                Err(ApiError::new(ErrorCode::Denied, message))
            }
            Need::Member | Need::Reenrol | Need::Join(_) => {
                let message =
                    format!("{} may not do this: it is for managers and machines that join", self.identity);
                Err(ApiError::new(ErrorCode::Denied, message))
            }
        }
    }

    fn is(&self, role: &UserRole) -> bool {
        self.roles.contains(role)
    }

    fn operates(&self) -> bool {
        self.is(&UserRole::Admin) || self.is(&UserRole::Operator)
    }

    fn scopes(&self) -> impl Iterator<Item = &'a Scope> {
        self.roles.iter().filter_map(|role| match role {
            UserRole::Team(scope) => Some(scope),
            _ => None,
        })
    }

    fn beamlines(&self) -> impl Iterator<Item = &'a Label> {
        self.roles.iter().filter_map(|role| match role {
            UserRole::Beamline(label) => Some(label),
            _ => None,
        })
    }

    fn has(&self, subject: Subject<'_>) -> bool {
        self.scopes().any(|scope| subject.is_in(scope))
    }

    /// What a scope looks at of a service: a job that a cron made counts as that cron.
    fn subject<'s>(&self, service: &'s Service) -> Subject<'s>
    where
        'a: 's,
    {
        let run = service.job.as_ref().and_then(|job| job.cron.as_ref());
        let name = run.and_then(|run| self.store.cron(run.cron)).map(|cron| cron.spec.name.as_str());
        Subject { name: name.unwrap_or(&service.spec.name), labels: &service.spec.labels }
    }

    fn on_service(
        &self,
        reference: &str,
        judge: impl FnOnce(&Service) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        if self.operates() {
            return Ok(());
        }
        match self.store.resolve_service(reference) {
            Ok(service) => judge(service),
            Err(_) if self.scopes().next().is_some() => Ok(()),
            // Nothing could make it theirs.
            Err(_) => self.refuse(&format!("change service \"{reference}\""), "operator"),
        }
    }

    /// A service (job, cron) that stays what it is.
    fn owns(&self, doing: &str, subject: Subject<'_>) -> Result<(), ApiError> {
        let allowed = self.operates() || self.has(subject);
        self.must(allowed, || format!("{doing} \"{}\"", subject.name), &wanted(subject))
    }

    /// A new declaration, in place of an old one if there is one.
    fn declares(&self, doing: &str, old: Option<Subject<'_>>, new: Subject<'_>) -> Result<(), ApiError> {
        if self.operates() {
            return Ok(());
        }
        if let Some(old) = old {
            self.owns(doing, old)?;
        }
        let leaves = || match old {
            Some(old) => format!("{doing} \"{}\" so that it leaves the scope of its roles", old.name),
            None => format!("{doing} \"{}\"", new.name),
        };
        self.must(self.has(new), leaves, &wanted(new))?;
        let own: Vec<&Scope> = self.scopes().collect();
        let teams = self.store.users().iter().flat_map(|user| &user.spec.roles);
        let others = teams.filter_map(|role| match role {
            UserRole::Team(scope) if !own.contains(&scope) => Some(scope),
            _ => None,
        });
        let moved = |scope: &&Scope| old.is_some_and(|old| old.is_in(scope)) != new.is_in(scope);
        match others.into_iter().find(moved) {
            Some(scope) => {
                let way = if new.is_in(scope) { "into" } else { "out of" };
                self.refuse(
                    &format!("take \"{}\" {way} the scope of another team, {scope}", new.name),
                    "operator",
                )
            }
            None => Ok(()),
        }
    }

    /// A secret or config; one that is not there is nobody's.
    fn item(&self, doing: &str, kind: ItemKind, name: &str) -> Result<(), ApiError> {
        match self.store.item(kind, name) {
            Some(item) => self.owns(&format!("{doing} {kind}"), Subject::of_item(&item.spec)),
            None => {
                let some = self.operates() || self.scopes().next().is_some();
                self.must(some, || format!("{doing} {kind} \"{name}\""), "operator")
            }
        }
    }

    /// Whoever mounts a secret can read it from inside: what a service mounts anew has to be theirs too.
    fn mounts(&self, old: Option<&ServiceSpec>, new: &ServiceSpec) -> Result<(), ApiError> {
        let had = |kind, name: &str| {
            let mut files = old.into_iter().flat_map(|old| old.template.container.files());
            files.any(|(of, mount)| of == kind && mount.name == name)
        };
        let mut files = new.template.container.files().filter(|(kind, mount)| !had(*kind, &mount.name));
        files.try_for_each(|(kind, mount)| self.item("mount", kind, &mount.name))
    }

    fn overrides(&self, despite_freeze: bool) -> Result<(), ApiError> {
        self.must(!despite_freeze || self.operates(), || "release despite a freeze".into(), "operator")
    }

    fn node(&self, reference: &str, change: &NodeChange) -> Result<(), ApiError> {
        let NodeChange { availability: _, class, set_labels, remove_labels, despite_freeze: _ } = change;
        let only_availability = class.is_none() && set_labels.is_empty() && remove_labels.is_empty();
        if !only_availability {
            let admin = self.is(&UserRole::Admin);
            return self.must(admin, || format!("change labels or class of node \"{reference}\""), "admin");
        }
        if self.operates() {
            return Ok(());
        }
        let doing = || format!("change whether node \"{reference}\" takes tasks");
        match self.store.resolve_node(reference) {
            Ok(node) => self.must(self.watches(node), doing, "operator, or beamline with a label of it"),
            Err(_) => self.must(self.beamlines().next().is_some(), doing, "operator"),
        }
    }

    fn watches(&self, node: &Node) -> bool {
        self.beamlines().any(|label| label.is_on(node))
    }

    /// A freeze may be theirs when it can cover no other nodes than theirs.
    fn freeze(&self, spec: &FreezeSpec) -> Result<(), ApiError> {
        let own = self.beamlines().any(|label| label.is_in(&spec.nodes));
        let doing = || format!("change freeze \"{}\", which covers other nodes too", spec.name);
        self.must(self.operates() || own, doing, "operator, or beamline with its label")
    }

    fn freeze_named(&self, name: &str) -> Result<(), ApiError> {
        let known = |freeze: &&Freeze| freeze.spec.name == name;
        match self.store.freezes().iter().find(known) {
            Some(freeze) => self.freeze(&freeze.spec),
            None => {
                let some = self.operates() || self.beamlines().next().is_some();
                self.must(
                    some,
                    || format!("change freeze \"{name}\""),
                    "operator, or beamline with its label",
                )
            }
        }
    }

    fn logs(&self, of: &str) -> Result<(), ApiError> {
        if self.operates() || self.is(&UserRole::Viewer) {
            return Ok(());
        }
        let (service, tasks): (Option<&Service>, Vec<&Task>) = match self.store.resolve_service(of) {
            Ok(service) => {
                let tasks = self.store.tasks_of_service(service.id);
                (Some(service), tasks.filter(|task| task.desired == DesiredState::Running).collect())
            }
            Err(_) => match self.store.resolve_task(of) {
                Ok(task) => (self.store.service(task.service), vec![task]),
                Err(_) => return Ok(()),
            },
        };
        let own = service.is_some_and(|service| self.has(self.subject(service)));
        let node = |task: &Task| task.node.and_then(|node| self.store.node(node));
        let mut placed = tasks.into_iter().filter(|task| task.node.is_some());
        let here = self.beamlines().next().is_some()
            && placed.all(|task| node(task).is_some_and(|node| self.watches(node)));
        self.must(
            own || here,
            || format!("read logs of \"{of}\""),
            "viewer, team of the service, or beamline of all nodes that they are on (name one task: SERVICE.SLOT)",
        )
    }

    fn must(&self, allowed: bool, doing: impl FnOnce() -> String, role: &str) -> Result<(), ApiError> {
        if allowed { Ok(()) } else { self.refuse(&doing(), role) }
    }

    fn refuse(&self, doing: &str, role: &str) -> Result<(), ApiError> {
        let own: Vec<String> = self.roles.iter().map(ToString::to_string).collect();
        let admins = self.store.users().iter().filter(|user| user.spec.roles.contains(&UserRole::Admin));
        let named: Vec<&str> = admins.take(NAMED).map(|user| user.spec.name.as_str()).collect();
        let whom = if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) };
        let message = format!(
            "{} has the role {} and may not {doing}: this takes the role {role}; ask an admin{whom}",
            self.identity,
            own.join(", ")
        );
        Err(ApiError::new(ErrorCode::Denied, message))
    }
}

/// The declaration that a way back leads to.
fn declared_by(service: &Service, to: Option<TemplateVersion>) -> Option<&ServiceSpec> {
    match to {
        Some(number) => service.release(number).map(|release| &*release.spec),
        None => service.previous.as_deref(),
    }
}

fn wanted(subject: Subject<'_>) -> String {
    format!("operator, team:{}, or team with a label of it", subject.name)
}
