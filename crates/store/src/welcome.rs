//! Whether who asked for a change may still: asked before it is proposed and again when it is applied, since an identity can
//! be taken away between the two, however long the change was under way.

use model::{
    access::User,
    binding::{Binding, Session},
    command::{Command, Rejection},
    deployer::{DeployToken, DeployVerb, beyond_image, beyond_image_on_return},
    id::{DeployTokenId, ServiceId, UserId},
    identity::Identity,
    issuer::Issuer,
    service::{ReleaseNote, RolloutStep, Service, ServiceSpec, TemplateVersion},
    time::ClusterTime,
};

use planted::Bug;

use crate::Store;

impl Store {
    /// All deploy tokens, by name, expired ones included.
    pub fn deploy_tokens(&self) -> &[DeployToken] {
        self.cluster().map(|cluster| cluster.deploy_tokens.as_slice()).unwrap_or_default()
    }

    /// One deploy token, or that of a pipeline's session. Linear in their number, which is bounded.
    pub fn deploy_token(&self, id: DeployTokenId) -> Option<&DeployToken> {
        let of_sessions = self.sessions().iter().rev().filter_map(|session| session.token.as_ref());
        self.deploy_tokens().iter().chain(of_sessions).find(|token| token.id == id)
    }

    /// All issuers of ID tokens, by name.
    pub fn issuers(&self) -> &[Issuer] {
        self.cluster().map(|cluster| cluster.issuers.as_slice()).unwrap_or_default()
    }

    /// One issuer.
    pub fn issuer(&self, name: &str) -> Option<&Issuer> {
        self.issuers().iter().find(|issuer| issuer.spec.name == name)
    }

    /// All deploy bindings, by name.
    pub fn bindings(&self) -> &[Binding] {
        self.cluster().map(|cluster| cluster.bindings.as_slice()).unwrap_or_default()
    }

    /// One deploy binding.
    pub fn binding(&self, name: &str) -> Option<&Binding> {
        self.bindings().iter().find(|binding| binding.spec.name == name)
    }

    /// ID tokens that were used, in the order of their use.
    pub fn sessions(&self) -> &[Session] {
        self.cluster().map(|cluster| cluster.sessions.as_slice()).unwrap_or_default()
    }

    /// Whether an identity may ask for anything at the time of the last entry.
    ///
    /// # Errors
    /// [`Rejection::Unwelcome`]: why not.
    pub fn welcome(&self, identity: &Identity) -> Result<(), Rejection> {
        self.welcome_at(identity, self.time)
    }

    /// As [`welcome`](Self::welcome), at another time: a token may have ended since the last entry.
    ///
    /// # Errors
    /// [`Rejection::Unwelcome`]: why not.
    pub fn welcome_at(&self, identity: &Identity, at: ClusterTime) -> Result<(), Rejection> {
        match identity {
            Identity::Deployer { .. } if planted::is(Bug::TokenOutlivesRemoval) => Ok(()),
            Identity::Deployer { id, name, job } => match self.deploy_token(*id).map(|token| token.expires) {
                Some(expires) if expires > at => Ok(()),
                Some(expires) if job.is_some() => Err(unwelcome(format!(
                    "the session of deploy binding \"{name}\" ended at {expires}; ask again with a fresh ID token"
                ))),
                None if job.is_some() => Err(unwelcome(format!(
                    "the session of deploy binding \"{name}\" has ended: its time is over, or the binding or its issuer was \
                     removed or changed"
                ))),
                Some(expires) => Err(unwelcome(format!(
                    "deploy token \"{name}\" expired at {expires}; ask an administrator for a new one"
                ))),
                None => Err(unwelcome(format!(
                    "deploy token \"{name}\" was removed; ask an administrator for a new one"
                ))),
            },
            Identity::User { id, name } => self.known_user(*id, name).and_then(|user| still_in(user, at)),
            Identity::Bearer(_) => Err(unwelcome("nobody has verified this deploy token".into())),
            // Their certificates are judged by `is_revoked` when they ask, and what they are told applies whatever becomes of them.
            Identity::Manager(_)
            | Identity::Node(_)
            | Identity::Operator { .. }
            | Identity::Joiner(_)
            | Identity::Anonymous => Ok(()),
        }
    }

    /// The user whom a certificate names, unless it is disabled.
    ///
    /// # Errors
    /// [`Rejection::Unwelcome`], with what to do.
    pub fn known_user(&self, id: UserId, name: &str) -> Result<&User, Rejection> {
        let user = self.user(id).filter(|user| user.spec.name == name).ok_or_else(|| {
            unwelcome(format!(
                "user {name} is not (or no longer) of this cluster: its certificate is worth nothing; ask an admin"
            ))
        })?;
        if user.disabled {
            return Err(unwelcome(format!(
                "user {name} is disabled; ask an admin: orchctl user update {name} --enable"
            )));
        }
        Ok(user)
    }

    /// Whether a change is within what its identity may ever do (invariant I21), on the state that it is applied to.
    ///
    /// # Errors
    /// [`Rejection::Unwelcome`]: why not.
    pub(crate) fn within_scope(&self, identity: &Identity, command: &Command) -> Result<(), Rejection> {
        let Identity::Deployer { id, .. } = identity else { return Ok(()) };
        if planted::is(Bug::DeployerUnbounded) {
            return Ok(());
        }
        // Whether it is still there says `welcome`.
        let Some(token) = self.deploy_token(*id) else { return Ok(()) };
        let scope = Scope { store: self, token };
        match command {
            Command::UpdateService { id, spec, note, .. } => scope.deploys(*id, spec, note),
            Command::RollbackService { id, to, note } => scope.returns(*id, *to, note),
            Command::SteerRollout { id, step: RolloutStep::Abort, .. } => {
                scope.returns(*id, None, &ReleaseNote::default())
            }
            _ => Err(scope.beyond("it may change the image of one service and nothing else")),
        }
    }

    /// What differs beside the image between the declaration of a service and the one that a way back brings; `None`: there is none.
    pub fn beyond_image_of_return(
        &self,
        service: &Service,
        to: Option<TemplateVersion>,
    ) -> Option<(Vec<&'static str>, String)> {
        let spec: &ServiceSpec = match to {
            Some(number) => &service.release(number)?.spec,
            None => service.previous.as_ref()?,
        };
        Some((beyond_image_on_return(&service.spec, spec), spec.template.container.image.clone()))
    }
}

/// What one token may do to one state.
struct Scope<'a> {
    store: &'a Store,
    token: &'a DeployToken,
}

impl Scope<'_> {
    fn deploys(&self, id: ServiceId, spec: &ServiceSpec, note: &ReleaseNote) -> Result<(), Rejection> {
        self.may(DeployVerb::Deploy)?;
        let Some(old) = self.own(id)? else { return Ok(()) };
        self.only_image(&beyond_image(&old.spec, spec), &spec.template.container.image)?;
        self.obeys_freezes(note)
    }

    fn returns(
        &self,
        id: ServiceId,
        to: Option<TemplateVersion>,
        note: &ReleaseNote,
    ) -> Result<(), Rejection> {
        self.may(DeployVerb::Rollback)?;
        let Some(old) = self.own(id)? else { return Ok(()) };
        if let Some((differs, image)) = self.store.beyond_image_of_return(old, to) {
            self.only_image(&differs, &image)?;
        }
        self.obeys_freezes(note)
    }

    fn may(&self, verb: DeployVerb) -> Result<(), Rejection> {
        let allowed = self.token.spec.allow.contains(&verb);
        if allowed { Ok(()) } else { Err(self.beyond(&format!("it may not {verb}"))) }
    }

    /// The token's service; `None` when there is no such service any more, which applying the change says better.
    fn own(&self, id: ServiceId) -> Result<Option<&Service>, Rejection> {
        let Some(service) = self.store.service(id) else { return Ok(None) };
        if service.spec.name == self.token.spec.service {
            return Ok(Some(service));
        }
        Err(self.beyond(&format!("it is for service \"{}\" only", self.token.spec.service)))
    }

    fn only_image(&self, differs: &[&str], image: &str) -> Result<(), Rejection> {
        if !differs.is_empty() {
            return Err(self
                .beyond(&format!("it may change the image alone, and this changes {}", differs.join(", "))));
        }
        if !self.token.spec.holds(image) {
            return Err(self.beyond(&format!("it is for images of {} only", self.token.spec.image)));
        }
        Ok(())
    }

    fn obeys_freezes(&self, note: &ReleaseNote) -> Result<(), Rejection> {
        let obeys = note.despite_freeze.is_none();
        if obeys { Ok(()) } else { Err(self.beyond("it may not override a freeze")) }
    }

    fn beyond(&self, why: &str) -> Rejection {
        unwelcome(format!("{} does not allow this: {why}", self.token.title()))
    }
}

/// A login ends, however long a connection of it lives.
fn still_in(user: &User, at: ClusterTime) -> Result<(), Rejection> {
    match &user.origin {
        Some(origin) if origin.expires <= at => {
            let name = &user.spec.name;
            Err(unwelcome(format!("the login of user {name} ended at {}: orchctl login", origin.expires)))
        }
        _ => Ok(()),
    }
}

fn unwelcome(why: String) -> Rejection {
    Rejection::Unwelcome(why)
}
