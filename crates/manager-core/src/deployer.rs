//! What the bearer of a deploy token may ask: to bring an image of one service, to go back, and to look at that service
//! (invariant I21). Everything else is refused, with the rule and whom to ask.
//!
//! [`need`] says of every request what it takes; a new request without a line there does not compile. The answer to it is a
//! decision on the token and the state alone, asked when the request comes, again when a read is answered, and in
//! other words (`store::welcome`) when a change is applied.

use std::sync::Arc;

use model::{
    container::ContainerSpec,
    deployer::{DeployToken, DeployTokenView, DeployVerb, TokenDigest},
    hook::Hook,
    id::DeployTokenId,
    identity::Identity,
    registry::ImageName,
    release::Release,
    request::{ApiError, ErrorCode, Request, Response, ServiceView},
    service::{
        ReleaseNote, Rollout, RolloutStep, Service, ServiceSpec, TaskTemplate, TemplateVersion, UpdatePolicy,
    },
};
use planted::Bug;

use crate::Manager;

/// What a request takes.
enum Need<'a> {
    /// To bring this image.
    Deploy { service: &'a str, image: &'a str, note: &'a ReleaseNote },
    /// To go back to a release; `None` = the one before.
    Return { service: &'a str, to: Option<TemplateVersion>, note: Option<&'a ReleaseNote> },
    /// To see a service.
    See(&'a str),
    /// To see events; those of the one service are shown.
    Events,
    /// To read what a service or one of its tasks writes.
    Read(&'a str),
    /// Any token's bearer may.
    Nothing,
    /// No deploy token allows it: what it would be to.
    Never(&'static str),
}

fn need(request: &Request) -> Need<'_> {
    match request {
        Request::Deploy { service, image, note } => Need::Deploy { service, image, note },
        Request::RollbackService(service) => Need::Return { service, to: None, note: None },
        Request::ReturnTo { service, release, note } => {
            Need::Return { service, to: *release, note: Some(note) }
        }
        Request::SteerRollout { service, step: RolloutStep::Abort, .. } => {
            Need::Return { service, to: None, note: None }
        }
        Request::SteerRollout { .. } => Need::Never("pause, resume or promote a release"),
        Request::GetService(service) => Need::See(service),
        Request::Watch { .. } => Need::Events,
        Request::Logs { of, .. } => Need::Read(of),
        Request::CreateService(_) => Need::Never("create services"),
        Request::UpdateService { .. } => Need::Never("change anything but the image of a service"),
        Request::ScaleServices(_) => Need::Never("scale services"),
        Request::RemoveService(_) => Need::Never("remove services"),
        Request::UpdateNode { .. } | Request::RemoveNode { .. } => Need::Never("change nodes"),
        Request::CreateToken { .. } | Request::RevokeToken(_) => Need::Never("make or revoke join tokens"),
        Request::CreateDeployToken { .. } | Request::RemoveDeployToken(_) => {
            Need::Never("make or remove deploy tokens")
        }
        Request::CreateUser(_)
        | Request::UpdateUser { .. }
        | Request::RemoveUser(_)
        | Request::CertifyUser { .. } => Need::Never("make, change or remove users"),
        Request::ListUsers => Need::Never("list users"),
        Request::Whoami => Need::Nothing,
        Request::CanI { .. } => Need::Never("ask about roles"),
        Request::SetSettings(_) | Request::JudgeJoiner { .. } => Need::Never("change settings"),
        Request::RotateAuthority { .. } | Request::FinishRotation { .. } => {
            Need::Never("replace the authority")
        }
        Request::GetAuthority => Need::Never("see the authority"),
        Request::NoteRefusal { .. } => Need::Never("say who was refused"),
        Request::ListJoiners => Need::Never("list managers"),
        Request::TransferLeader { .. }
        | Request::RemoveMember(_)
        | Request::ReplaceMember { .. }
        | Request::UpdateMember { .. } => Need::Never("change managers"),
        Request::CreateNetwork(_) | Request::RemoveNetwork(_) => Need::Never("change networks"),
        Request::SetFreeze(_) | Request::RemoveFreeze(_) => Need::Never("change freezes"),
        Request::SetCron(_) | Request::RemoveCron(_) | Request::SuspendCron { .. } | Request::RunCron(_) => {
            Need::Never("change or run crons")
        }
        Request::SetRegistry { .. } | Request::RemoveRegistry(_) => Need::Never("change registries"),
        Request::Join(_) => Need::Never("join"),
        Request::RenewCertificate { .. } | Request::Reenrol(_) => Need::Never("have a certificate"),
        Request::ListServices => Need::Never("list services"),
        Request::ListTasks(_) => Need::Never("list tasks"),
        Request::ListNetworks | Request::GetNetwork(_) => Need::Never("see networks"),
        Request::ListFreezes => Need::Never("list freezes"),
        Request::ListCrons => Need::Never("list crons"),
        Request::CreateItem { .. } | Request::UpdateItem { .. } | Request::RemoveItem { .. } => {
            Need::Never("change secrets or configs")
        }
        Request::ListItems(_) | Request::GetItem { .. } => Need::Never("see secrets or configs"),
        Request::RotateKey | Request::GetKeys => Need::Never("ask about data keys"),
        Request::SetLoginMethod { .. } | Request::RemoveLoginMethod(_) => Need::Never("change login methods"),
        Request::LogIn(_) => Need::Never("log in"),
        Request::ListLoginMethods | Request::ListLogins => Need::Never("list login methods"),
        Request::ListRegistries => Need::Never("list registries"),
        Request::SetPolicy { .. } | Request::RemovePolicy(_) => Need::Never("change policies"),
        Request::ListPolicies | Request::CheckPolicies { .. } => Need::Never("see policies"),
        Request::GetEndpoints(_) => Need::Never("see endpoints"),
        Request::ListNodes | Request::GetNode(_) => Need::Never("see nodes"),
        Request::ListMembers => Need::Never("list managers"),
        Request::ListTokens => Need::Never("list join tokens"),
        Request::ListDeployTokens => Need::Never("list deploy tokens"),
        Request::GetAudit { .. } => Need::Never("read the audit"),
        Request::SetIssuer(_) | Request::RemoveIssuer(_) => Need::Never("change issuers"),
        Request::CreateBinding(_) | Request::RemoveBinding(_) => {
            Need::Never("make or remove deploy bindings")
        }
        Request::Exchange(_) => Need::Never("present an ID token beside it"),
        Request::ListIssuers => Need::Never("list issuers"),
        Request::ListBindings => Need::Never("list deploy bindings"),
        Request::GetStatus => Need::Never("see the status of the cluster"),
        Request::Explain(_) => Need::Never("ask why something is as it is"),
    }
}

impl Manager {
    /// The bearer of a deploy token, once `fits` has found its secret to be that of the digest. For the shell of a leader: no
    /// secret enters the core.
    pub fn proven(&self, id: DeployTokenId, fits: impl FnOnce(&TokenDigest) -> bool) -> Option<Identity> {
        let token = self.store.deploy_token(id).filter(|token| fits(&token.digest))?;
        Some(token.identity())
    }

    /// # Errors
    /// Unauthenticated: the token has ended. Denied: which rule, and whom to ask.
    pub(crate) fn authorize_deployer(&self, identity: &Identity, request: &Request) -> Result<(), ApiError> {
        self.store.welcome_at(identity, self.stamps.peek(self.now))?;
        let Identity::Deployer { id, .. } = identity else {
            return Err(ApiError::new(ErrorCode::Denied, format!("{identity} is no deployer")));
        };
        let Some(token) = self.store.deploy_token(*id).filter(|_| !planted::is(Bug::DeployerUnbounded))
        else {
            // Only a planted bug comes here: a token that is not there is not welcome.
            return Ok(());
        };
        let refuse = |why: String| Err(denied(token, &why));
        match need(request) {
            Need::Deploy { service, image, note } => {
                self.may(token, DeployVerb::Deploy, service)?;
                if let Err(why) = token.spec.admits(image) {
                    return refuse(why);
                }
                self.obeys(token, note)
            }
            Need::Return { service, to, note } => {
                self.may(token, DeployVerb::Rollback, service)?;
                self.may_return(token, service, to)?;
                note.map_or(Ok(()), |note| self.obeys(token, note))
            }
            Need::See(service) => self.may(token, DeployVerb::Status, service),
            Need::Events => verb(token, DeployVerb::Status),
            Need::Read(of) => {
                let of_task =
                    self.store.resolve_task(of).ok().and_then(|task| self.store.service(task.service));
                match of_task.filter(|_| self.store.resolve_service(of).is_err()) {
                    Some(service) => self.may(token, DeployVerb::Logs, &service.spec.name),
                    None => self.may(token, DeployVerb::Logs, of),
                }
            }
            Need::Nothing => Ok(()),
            Need::Never(what) => refuse(format!("no deploy token allows to {what}")),
        }
    }

    /// The verb is allowed, and the reference means the token's service.
    fn may(&self, token: &DeployToken, wanted: DeployVerb, reference: &str) -> Result<(), ApiError> {
        verb(token, wanted)?;
        let own = &token.spec.service;
        // What else there is, or is not, is none of the bearer's business.
        let meant = self.store.resolve_service(reference).map(|service| service.spec.name.as_str());
        if meant.unwrap_or(reference) == own {
            return Ok(());
        }
        Err(denied(token, &format!("it is for service \"{own}\" and no other")))
    }

    fn may_return(
        &self,
        token: &DeployToken,
        reference: &str,
        to: Option<TemplateVersion>,
    ) -> Result<(), ApiError> {
        let service = self.store.resolve_service(reference)?;
        // Where there is nothing to return to, trying says it better.
        let Some((differs, image)) = self.store.beyond_image_of_return(service, to) else { return Ok(()) };
        if !differs.is_empty() {
            let differs = differs.join(", ");
            let why = format!("the release to return to differs in more than its image ({differs})");
            return Err(denied(token, &why));
        }
        if !token.spec.holds(&image) {
            let why = format!("the release to return to has {image}, which is none of {}", token.spec.image);
            return Err(denied(token, &why));
        }
        Ok(())
    }

    /// What an admin has laid down for releases of the service stays in force.
    fn obeys(&self, token: &DeployToken, note: &ReleaseNote) -> Result<(), ApiError> {
        if note.despite_freeze.is_some() {
            let why = "it may not override a freeze; --at-next-window waits for its end";
            return Err(denied(token, why));
        }
        let declared = self.store.service_by_name(&token.spec.service);
        let declared = declared.is_some_and(|service| service.spec.update.canary.is_some());
        if declared && note.canary.is_some() {
            let why = "the service declares canaries of its own, which it may not replace";
            return Err(denied(token, why));
        }
        Ok(())
    }

    /// A deployer's tag has to mean something now: the leader asked its registry, and what it said is what will run.
    ///
    /// # Errors
    /// Its registry is not declared, or did not say.
    pub(crate) fn is_resolved(&self, identity: &Identity, request: &Request) -> Result<(), ApiError> {
        let (Identity::Deployer { .. }, Request::Deploy { service, image, .. }) = (identity, request) else {
            return Ok(());
        };
        let there = self.store.service_by_name(service).or_else(|| self.store.resolve_service(service).ok());
        let present = there.is_some_and(|service| service.spec.template.container.has_image(image));
        let pinned = ImageName::parse(image).is_some_and(|name| name.is_digest());
        let fresh =
            || self.lead.as_ref().is_some_and(|lead| lead.registries.fresh(image, self.now.mono).is_some());
        if present || pinned || fresh() {
            return Ok(());
        }
        let (code, why) = match self.store.registry_of(image) {
            Some(_) => {
                (ErrorCode::Unavailable, "its registry does not say what the tag means now: ask again")
            }
            None => (
                ErrorCode::Denied,
                "its registry is not declared (registry set), so nobody knows what the tag means",
            ),
        };
        Err(ApiError::new(code, format!("{image}: {why}, or name the image by its digest")))
    }

    /// What the bearer of a token is shown of an answer.
    pub(crate) fn shown_to(identity: &Identity, response: Response) -> Response {
        match (identity, response) {
            (Identity::Deployer { .. }, Response::Service(view)) => {
                Response::Service(Box::new(narrowed(*view)))
            }
            (_, response) => response,
        }
    }

    /// The service whose events a watcher sees; `None`: all.
    pub(crate) fn events_for(&self, identity: &Identity) -> Option<String> {
        let Identity::Deployer { id, .. } = identity else { return None };
        Some(self.store.deploy_token(*id).map_or_else(String::new, |token| token.spec.service.clone()))
    }

    pub(crate) fn deploy_token_views(&self) -> Vec<DeployTokenView> {
        let now = if self.lead.is_some() { self.stamps.peek(self.now) } else { self.store.time() };
        let view = |token: &DeployToken| DeployTokenView {
            id: token.id,
            spec: token.spec.clone(),
            by: token.by.clone(),
            created: token.created,
            expires: token.expires,
            expired: token.expires <= now,
            used: token.used,
        };
        self.store.deploy_tokens().iter().map(view).collect()
    }
}

fn verb(token: &DeployToken, wanted: DeployVerb) -> Result<(), ApiError> {
    if token.spec.allow.contains(&wanted) {
        return Ok(());
    }
    Err(denied(token, &format!("it does not allow {wanted}")))
}

fn denied(token: &DeployToken, why: &str) -> ApiError {
    let grant = &token.spec;
    let message = format!(
        "{} is refused: {why}. It allows {grant}; for more ask an administrator of the cluster",
        token.title()
    );
    ApiError::new(ErrorCode::Denied, message)
}

/// A service as its pipeline needs it: which images, how many, how far. Environment, commands, mounts and labels are none of
/// its business: passwords lie there.
fn narrowed(view: ServiceView) -> ServiceView {
    let service = view.service;
    let release =
        |release: Arc<Release>| Arc::new(Release { spec: plain(&release.spec), ..(*release).clone() });
    let rollout = |rollout: Rollout| Rollout { hook: rollout.hook.map(silent), ..rollout };
    let templates = service.templates.iter();
    let service = Service {
        spec: plain(&service.spec),
        templates: templates.map(|(number, template)| (*number, Arc::new(bare(template)))).collect(),
        previous: service.previous.as_ref().map(plain),
        rollout: service.rollout.map(rollout),
        releases: service.releases.into_iter().map(release).collect(),
        ..service
    };
    ServiceView { service, ..view }
}

fn plain(spec: &Arc<ServiceSpec>) -> Arc<ServiceSpec> {
    let pre_deploy = spec.update.pre_deploy.clone().map(silent);
    Arc::new(ServiceSpec {
        name: spec.name.clone(),
        mode: spec.mode,
        template: bare(&spec.template),
        update: UpdatePolicy { pre_deploy, ..spec.update.clone() },
        job: spec.job.clone(),
        ..ServiceSpec::default()
    })
}

fn bare(template: &TaskTemplate) -> TaskTemplate {
    let container = ContainerSpec { image: template.container.image.clone(), ..ContainerSpec::default() };
    TaskTemplate { container, ..TaskTemplate::default() }
}

fn silent(hook: Hook) -> Hook {
    Hook { command: Vec::new(), ..hook }
}
