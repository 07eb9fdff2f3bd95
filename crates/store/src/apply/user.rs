//! Users come, change and go. They travel with the cluster's record, by name.

use std::sync::Arc;

use model::{
    access::{MAX_USERS, User, UserChange, UserSpec},
    cluster::Cluster,
    command::{Answer, Rejection},
    id::UserId,
};

use crate::{requests::Outcome, resolve::missing, write::Writer};

impl Writer<'_> {
    pub(super) fn create_user(&mut self, id: UserId, spec: &UserSpec) -> Outcome {
        let cluster = self.cluster()?;
        let taken = |user: &&User| user.spec.name == spec.name || user.id == id;
        if cluster.users.iter().any(|user| taken(&user)) {
            return Err(Rejection::Exists { kind: "user".into(), name: spec.name.clone() });
        }
        if cluster.users.len() >= MAX_USERS {
            let message = format!("there are {MAX_USERS} users, the most there may be; remove some");
            return Err(Rejection::Conflict(message));
        }
        let (by, created) = (self.actor.clone(), self.at);
        let user =
            User { id, spec: spec.clone(), disabled: false, by, created, changed: created, origin: None };
        let mut users = (*cluster.users).clone();
        users.push(user);
        users.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        self.put_users(&cluster, users);
        Ok(Answer::User { id })
    }

    pub(super) fn update_user(&mut self, id: UserId, change: &UserChange) -> Outcome {
        let cluster = self.cluster()?;
        let mut users = (*cluster.users).clone();
        let user = users.iter_mut().find(|user| user.id == id).ok_or_else(|| missing("user", id))?;
        if user.origin.is_some() && (change.roles.is_some() || change.life.is_some()) {
            return Err(Rejection::Conflict(format!(
                "user {} came by a login: its method says which roles it has, and for how long (orchctl login-method set)",
                user.spec.name
            )));
        }
        let old = user.clone();
        if let Some(roles) = &change.roles {
            user.spec.roles.clone_from(roles);
        }
        user.spec.life = change.life.unwrap_or(user.spec.life);
        user.disabled = change.disabled.unwrap_or(user.disabled);
        if *user != old {
            user.changed = self.at;
            self.put_users(&cluster, users);
        }
        Ok(Answer::User { id })
    }

    pub(super) fn remove_user(&mut self, id: UserId) -> Outcome {
        let cluster = self.cluster()?;
        let mut users = (*cluster.users).clone();
        users.retain(|user| user.id != id);
        if users.len() == cluster.users.len() {
            return Err(missing("user", id));
        }
        self.put_users(&cluster, users);
        Ok(Answer::Done)
    }

    pub(super) fn put_users(&mut self, cluster: &Cluster, users: Vec<User>) {
        let (users, generation) = (Arc::new(users), self.generation);
        self.put_cluster(Cluster { users, generation, ..cluster.clone() });
    }
}
