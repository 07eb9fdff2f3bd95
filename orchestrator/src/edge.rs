//! What is checked before the core is asked: secrets never enter it.

use model::{
    identity::Identity,
    request::{ApiError, ErrorCode, JoinRequest},
};
use pki::ClusterCa;

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
