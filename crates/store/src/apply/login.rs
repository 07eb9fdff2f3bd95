//! Login methods come, change and go; and who proved oneself by one comes in.
//!
//! A person is one user as long as the login holds, however often it logs in, from however many machines: by what it is there
//! (its subject), never by its name. Users whose login is over are forgotten when somebody logs in, so that they do not pile up;
//! one that an admin has disabled is kept, or the next login would let it in.

use std::sync::Arc;

use model::{
    access::{MAX_USERS, User, UserRole, UserSpec},
    cluster::Cluster,
    command::{Answer, Rejection},
    id::UserId,
    login::{LoginMethod, LoginMethodSpec, MAX_METHODS, UserOrigin},
    sealed::{KeyId, LoginAt, Sealed},
    time::ClusterTime,
};
use planted::Bug;

use super::cluster::{not_sealed_so, sealed_now};
use crate::{requests::Outcome, resolve::missing, write::Writer};

/// What an entry says of somebody who proved oneself.
pub(super) struct Proven<'a> {
    pub(super) id: UserId,
    pub(super) method: &'a str,
    pub(super) set: ClusterTime,
    pub(super) subject: &'a str,
    pub(super) name: &'a str,
    pub(super) roles: &'a [UserRole],
    pub(super) serial: u64,
}

impl Writer<'_> {
    pub(super) fn set_login_method(&mut self, spec: &LoginMethodSpec, password: Option<&Sealed>) -> Outcome {
        let cluster = self.cluster()?;
        if spec.account().is_some() != password.is_some() {
            let message = "the account that searches a directory has a password, and nobody else has one";
            return Err(Rejection::Invalid(message.into()));
        }
        let former = self.store.login_method(&spec.name);
        let kept = former.is_some_and(|former| former.password.as_ref() == password);
        if kept && former.is_some_and(|former| former.spec == *spec) {
            // A retry, or the same again.
            return Ok(Answer::Done);
        }
        if !kept {
            sealed_now(&cluster, password)?;
        }
        let (spec, password, by) = (spec.clone(), password.cloned(), self.actor.clone());
        let mut methods = (*cluster.login_methods).clone();
        methods.retain(|known| known.spec.name != spec.name);
        methods.push(LoginMethod { spec, password, by, set: self.at });
        if methods.len() > MAX_METHODS {
            let message =
                format!("there are {MAX_METHODS} login methods, the most there may be; remove some");
            return Err(Rejection::Conflict(message));
        }
        methods.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        self.put_login_methods(&cluster, methods);
        Ok(Answer::Done)
    }

    /// It is declared as before: whoever is being let in by it is.
    pub(super) fn reseal_account(
        &mut self,
        method: &str,
        set: ClusterTime,
        from: Option<KeyId>,
        value: &Sealed,
    ) -> Outcome {
        let cluster = self.cluster()?;
        let mut methods = (*cluster.login_methods).clone();
        let known = methods.iter_mut().find(|known| known.spec.name == method && known.set == set);
        let known = known.filter(|known| known.password.is_some() && known.key() == from);
        let known = known.filter(|_| value.key == cluster.keys.active);
        let known = known.ok_or_else(|| not_sealed_so(&LoginAt::Directory(method.to_owned())))?;
        known.password = Some(value.clone());
        self.put_login_methods(&cluster, methods);
        Ok(Answer::Done)
    }

    fn put_login_methods(&mut self, cluster: &Cluster, methods: Vec<LoginMethod>) {
        let (login_methods, generation) = (Arc::new(methods), self.generation);
        self.put_cluster(Cluster { login_methods, generation, ..cluster.clone() });
    }

    pub(super) fn remove_login_method(&mut self, name: &str) -> Outcome {
        let cluster = self.cluster()?;
        let mut methods = (*cluster.login_methods).clone();
        methods.retain(|method| method.spec.name != name);
        if methods.len() == cluster.login_methods.len() {
            return Err(missing("login method", name));
        }
        let of_it = |user: &User| user.origin.as_ref().is_some_and(|origin| origin.method == name);
        let users = cluster.users.iter().filter(|user| !of_it(user)).cloned().collect();
        let (login_methods, generation) = (Arc::new(methods), self.generation);
        let cluster = Cluster { login_methods, generation, ..(*cluster).clone() };
        self.put_users(&cluster, users);
        Ok(Answer::Done)
    }

    pub(super) fn log_in(&mut self, proven: &Proven<'_>) -> Outcome {
        let cluster = self.next_serial(proven.serial)?;
        let is_same = |method: &&LoginMethod| method.set == proven.set || planted::is(Bug::StaleLogin);
        let method = self.store.login_method(proven.method).filter(is_same);
        let method = method.ok_or_else(|| {
            let name = proven.method;
            Rejection::Conflict(format!(
                "login method \"{name}\" was declared anew or removed just now: log in again"
            ))
        })?;
        let (at, life) = (self.at, method.spec.life);
        let is_over =
            |user: &User| !user.disabled && user.origin.as_ref().is_some_and(|origin| origin.expires <= at);
        let is_it = |user: &User| {
            let is_it =
                |origin: &UserOrigin| (&*origin.method, &*origin.subject) == (proven.method, proven.subject);
            user.origin.as_ref().is_some_and(is_it)
        };
        let mut users: Vec<User> =
            cluster.users.iter().filter(|user| !is_over(user) || is_it(user)).cloned().collect();
        let spec = |name: &str| UserSpec { name: name.to_owned(), roles: proven.roles.to_vec(), life };
        let expires = at + life;
        let id = match users.iter_mut().find(|user| is_it(user)) {
            Some(user) if user.disabled => {
                return Err(self.store.known_user(user.id, &user.spec.name).err().unwrap_or_else(|| {
                    Rejection::Unwelcome(format!("user {} is disabled", user.spec.name))
                }));
            }
            Some(user) => {
                // Another machine's certificate lives as long as it was told.
                let later = user.origin.as_ref().map_or(expires, |origin| origin.expires.max(expires));
                user.spec = spec(&user.spec.name);
                (user.changed, user.origin) = (at, Some(origin_of(proven, later)));
                user.id
            }
            None => {
                self.has_room(&users, proven)?;
                let origin = Some(origin_of(proven, expires));
                let (id, by, spec) = (proven.id, self.actor.clone(), spec(proven.name));
                users.push(User { id, spec, disabled: false, by, created: at, changed: at, origin });
                users.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
                id
            }
        };
        let cluster = Cluster { last_serial: proven.serial, ..(*cluster).clone() };
        self.put_users(&cluster, users);
        Ok(Answer::User { id })
    }

    fn has_room(&self, users: &[User], proven: &Proven<'_>) -> Result<(), Rejection> {
        if users.len() >= MAX_USERS {
            let message = format!("there are {MAX_USERS} users, the most there may be; remove some");
            return Err(Rejection::Conflict(message));
        }
        if users.iter().any(|user| user.id == proven.id) {
            return Err(Rejection::Exists { kind: "user".into(), name: proven.name.to_owned() });
        }
        match users.iter().find(|user| user.spec.name == proven.name) {
            None => Ok(()),
            Some(user) => Err(Rejection::Conflict(format!(
                "user {} is somebody else ({}); an admin ends that one: orchctl user rm {}",
                proven.name,
                user.origin.as_ref().map_or("made by an admin", |origin| &*origin.subject),
                proven.name
            ))),
        }
    }
}

fn origin_of(proven: &Proven<'_>, expires: ClusterTime) -> UserOrigin {
    UserOrigin { method: proven.method.to_owned(), subject: proven.subject.to_owned(), expires }
}
