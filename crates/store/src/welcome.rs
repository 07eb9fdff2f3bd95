//! Who is still welcome: the identity of a client is looked at when it asks, and once more when its entry is applied, so that
//! nothing that somebody asked for happens after that somebody was removed, however long it was under way.

use model::{access::User, command::Rejection, id::UserId, identity::Identity};

use crate::Store;

impl Store {
    /// Whether an identity that was verified may ask anything at all. What comes with a certificate that says all there is to say,
    /// and machines, of which [`is_revoked`](Self::is_revoked) tells, are welcome here.
    ///
    /// # Errors
    /// [`Rejection::Unwelcome`], with what to do.
    pub fn welcome(&self, identity: &Identity) -> Result<(), Rejection> {
        match identity {
            Identity::User { id, name } => self.known_user(*id, name).map(|_| ()),
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
            Rejection::Unwelcome(format!(
                "user {name} is not (or no longer) of this cluster: its certificate is worth nothing; ask an admin"
            ))
        })?;
        if user.disabled {
            let message =
                format!("user {name} is disabled; ask an admin: orchctl user update {name} --enable");
            return Err(Rejection::Unwelcome(message));
        }
        Ok(user)
    }
}
