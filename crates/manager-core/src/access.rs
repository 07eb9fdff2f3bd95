//! Who may ask what. The identity comes from the connection or a verified token; the state says whether it is still welcome.

use model::{
    identity::{Identity, Role},
    request::{ApiError, ErrorCode, Request},
};

use crate::Manager;

impl Manager {
    /// Deny by default: what is not listed is refused.
    ///
    /// # Errors
    /// Why not, and what the identity may do instead.
    pub(crate) fn authorize(&self, identity: &Identity, request: &Request) -> Result<(), ApiError> {
        let asks_again = matches!(
            (identity, request),
            (Identity::Manager(old), Request::ReplaceMember { .. }) if self.store.unheard_successor(*old).is_some()
        );
        if self.store.is_revoked(identity) && self.is_serving() && !asks_again {
            let message = format!("{identity} is not (or no longer) of this cluster; join again");
            return Err(ApiError::new(ErrorCode::Unauthenticated, message));
        }
        let allowed = match (identity, request) {
            (
                Identity::Operator { role: Role::Admin, .. },
                Request::UpdateMember { .. } | Request::ReplaceMember { .. } | Request::Join(_),
            ) => false,
            (Identity::Operator { role: Role::Admin, .. }, _) => true,
            (Identity::Operator { role: Role::Viewer, .. }, Request::RenewCertificate { .. }) => true,
            (Identity::Operator { role: Role::Viewer, .. }, request) => request.is_read(),
            (
                Identity::Manager(_),
                Request::UpdateMember { .. }
                | Request::ReplaceMember { .. }
                | Request::RenewCertificate { .. }
                | Request::TransferLeader { .. },
            ) => true,
            (Identity::Manager(own), Request::RemoveMember(member)) => own == member,
            (Identity::Manager(_), request) => request.is_read(),
            (Identity::Node(_), Request::RenewCertificate { .. }) => true,
            (Identity::Node(_), _) => false,
            (Identity::Joiner(token), Request::Join(join)) => *token == join.token,
            (Identity::Joiner(_), _) => false,
            // Only to be told who leads.
            (Identity::Anonymous, Request::Join(_)) => true,
            (Identity::Anonymous, _) => false,
        };
        if allowed {
            return Ok(());
        }
        let (code, what) = match identity {
            Identity::Anonymous => (ErrorCode::Unauthenticated, "only join; for this it needs a certificate"),
            Identity::Joiner(_) => (ErrorCode::Denied, "only join"),
            Identity::Node(_) => (ErrorCode::Denied, "only renew its own certificate"),
            Identity::Manager(_) => (
                ErrorCode::Denied,
                "read, hand the lead over, leave, come back, renew its certificate and change its address",
            ),
            Identity::Operator { .. } => (ErrorCode::Denied, "read, but not change this"),
        };
        Err(ApiError::new(code, format!("{identity} may {what}")))
    }
}
