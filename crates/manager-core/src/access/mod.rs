//! Who may ask what. The identity comes from the connection or a verified token; what it may do comes from the state.
//!
//! [`need`] names for every request what it takes, [`decide`] is the one decision, a pure function of the identity, the request and
//! the state; `can` asks it on behalf of `can-i` and `whoami`; `matrix` is
//! the table that tests hold it against. Deny by default: what no role names is refused.

mod can;
mod decide;
#[cfg(any(test, feature = "matrix"))]
pub mod matrix;
mod need;
#[cfg(test)]
mod tests;

use model::{
    identity::Identity,
    request::{ApiError, ErrorCode, Request},
};

pub(crate) use can::{can, rights};
pub(crate) use decide::{decide, roles};

use crate::Manager;

impl Manager {
    /// Whether an identity may ask something, as the state is applied here. Asked again when a request that had to wait goes on.
    ///
    /// # Errors
    /// Why not, which role it takes, and whom to ask.
    pub(crate) fn authorize(&self, identity: &Identity, request: &Request) -> Result<(), ApiError> {
        if let Identity::Deployer { .. } = identity {
            return self.authorize_deployer(identity, request);
        }
        let asks_again = matches!(
            (identity, request),
            (Identity::Manager(old), Request::ReplaceMember { .. }) if self.store.unheard_successor(*old).is_some()
        );
        // A login may have ended since the last entry.
        let now = if self.lead.is_some() { self.stamps.peek(self.now) } else { self.store.time() };
        self.store.welcome_at(identity, now)?;
        if self.store.is_revoked(identity) && self.is_serving() && !asks_again {
            let message = format!(
                "{identity} is not (or no longer) of this cluster; join again, with a fresh token of orchctl token create"
            );
            return Err(ApiError::new(ErrorCode::Unauthenticated, message));
        }
        decide(&self.store, identity, request)
    }
}
