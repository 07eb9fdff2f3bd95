//! What is checked before the core is asked: secrets never enter it.

use manager_core::Manager;
use model::{
    identity::Identity,
    request::{ApiError, ErrorCode, JoinRequest},
};
use pki::{ClusterCa, DeployToken};

use crate::api::bearer::REFUSED;

/// Turns the bearer of a join token's secret into [`Identity::Joiner`], and blanks the secret.
///
/// # Errors
/// Denied: the secret is not that token's. Whether the token is still valid says the core.
pub fn verify_join(authority: &ClusterCa, join: JoinRequest) -> Result<(Identity, JoinRequest), ApiError> {
    if !authority.admits(join.role, join.token, &join.secret) {
        let message = format!(
            "the join token {} is not accepted: its secret is wrong, or it was made for another role than {}",
            join.token, join.role
        );
        return Err(ApiError::new(ErrorCode::Denied, message));
    }
    Ok((Identity::Joiner(join.token), JoinRequest { secret: Vec::new(), ..join }))
}

/// Turns the bearer of a deploy token into [`Identity::Deployer`].
///
/// # Errors
/// Unauthenticated: it is not a token of this cluster, or its secret is wrong; which of them is not said. Whether the token has
/// expired says the core, to whoever has its secret.
pub fn verify_bearer(
    authority: &ClusterCa,
    manager: &Manager,
    token: Option<&DeployToken>,
) -> Result<Identity, ApiError> {
    let ours = token.filter(|token| token.fingerprint() == authority.fingerprint());
    let proven = ours.and_then(|token| manager.proven(token.id(), |digest| token.secret().fits(digest)));
    proven.ok_or_else(|| ApiError::new(ErrorCode::Unauthenticated, REFUSED))
}
