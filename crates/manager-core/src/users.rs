//! Requests about users. What streams to one that was changed or removed is looked at again at once: see `held`.
//!
//! A change of a user holds for everything that comes after it in the log. So while one is on its way, what that user asks waits:
//! it would be decided on the roles of before and lie in the log behind the change.

use model::{
    access::{UserChange, UserSpec, Whoami},
    command::Command,
    id::UserId,
    identity::Identity,
    request::{ApiError, ErrorCode, Request, Response},
};

use crate::{
    Manager,
    access::{can, rights, roles},
    issue::Issue,
    proposal::Purpose,
};

impl Manager {
    pub(crate) fn create_user(&mut self, spec: UserSpec) -> Result<Command, ApiError> {
        self.same_versions("a user")?;
        Ok(Command::CreateUser { id: UserId(self.next_id()), spec })
    }

    pub(crate) fn update_user(&self, reference: &str, change: UserChange) -> Result<Command, ApiError> {
        Ok(Command::UpdateUser { id: self.store.resolve_user(reference)?.id, change })
    }

    pub(crate) fn remove_user(&self, reference: &str) -> Result<Command, ApiError> {
        Ok(Command::RemoveUser { id: self.store.resolve_user(reference)?.id })
    }

    /// A certificate for a user, asked for by `actor`.
    pub(crate) fn certify_user(
        &self,
        handle: u64,
        actor: &Identity,
        reference: &str,
        csr: String,
    ) -> Result<Issue, ApiError> {
        let user = self.store.resolve_user(reference)?;
        if user.disabled {
            let message = format!("user {} is disabled: enable it first", user.spec.name);
            return Err(ApiError::new(ErrorCode::Conflict, message));
        }
        self.may_renew(&user.identity())?;
        Ok(Issue { actor: actor.clone(), ..Issue::renewal(handle, user.identity(), csr) })
    }

    /// # Errors
    /// Whoever came by a login has to prove oneself again.
    pub(crate) fn may_renew(&self, identity: &Identity) -> Result<(), ApiError> {
        let Identity::User { id, name } = identity else { return Ok(()) };
        let Some(origin) = self.store.user(*id).and_then(|user| user.origin.as_ref()) else { return Ok(()) };
        let message = format!(
            "user {name} came by login method \"{}\": another certificate takes another login, orchctl login",
            origin.method
        );
        Err(ApiError::new(ErrorCode::Conflict, message))
    }

    /// What a change of a user is proposed for; anything else is an ordinary change.
    pub(crate) fn purpose_of(handle: u64, command: &Command) -> Purpose {
        match command {
            Command::UpdateUser { id, .. } | Command::RemoveUser { id } => {
                Purpose::ChangeUser { handle, user: *id }
            }
            _ => Purpose::Client { handle },
        }
    }

    /// # Errors
    /// A change of this user is on its way.
    pub(crate) fn is_settled(&self, identity: &Identity) -> Result<(), ApiError> {
        let Identity::User { id, name } = identity else { return Ok(()) };
        let origin = self.store.user(*id).and_then(|user| user.origin.as_ref());
        let changing = |purpose: &Purpose| match purpose {
            Purpose::ChangeUser { user, .. } => user == id,
            // Another login brings the roles of today.
            Purpose::Issue(issue) => origin.is_some_and(|origin| issue.admits(origin)),
            _ => false,
        };
        if !self.proposals.any(changing) {
            return Ok(());
        }
        let message = format!("the roles of user {name} are being changed at this moment: ask again");
        Err(ApiError::new(ErrorCode::Unavailable, message))
    }

    /// What is asked about oneself.
    pub(crate) fn about_oneself(&self, identity: &Identity, request: &Request) -> Result<Response, ApiError> {
        if let Request::CanI { verb, object } = request {
            return can(&self.store, identity, *verb, object.as_deref()).map(Response::Verdict);
        }
        let grant = match identity {
            Identity::Deployer { id, .. } => self.store.deploy_token(*id),
            _ => None,
        };
        let roles = roles(&self.store, identity)?;
        let user = match identity {
            Identity::User { id, .. } => self.store.user(*id),
            _ => None,
        };
        let (life, origin) = (user.map(|user| user.spec.life), user.and_then(|user| user.origin.clone()));
        let rights = rights(&roles);
        Ok(Response::Whoami(Box::new(Whoami {
            identity: identity.clone(),
            roles,
            life,
            clock: self.now.wall,
            rights,
            grant: grant.map(|token| (token.spec.clone(), token.expires)),
            origin,
        })))
    }
}
