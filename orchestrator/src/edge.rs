//! What is checked before the core is asked: secrets never enter it.

use manager_core::Manager;
use model::{
    identity::Identity,
    request::{ApiError, ErrorCode, JoinRequest, ReenrolRequest},
};
use pki::{CaCertificate, ClusterCa, DeployToken};

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

/// Turns who proves the key of a certificate that has run out into whom that certificate names, and notes the certificate's number.
///
/// # Errors
/// Denied: the proof does not hold. Whether its holder is still welcome says the core.
pub fn verify_reenrol(
    authority: &CaCertificate,
    request: ReenrolRequest,
) -> Result<(Identity, ReenrolRequest), ApiError> {
    let holder = authority.holder(&request.certificate, &request.csr).map_err(|error| {
        let message = format!("this proves no node of this cluster: {error}; join with a fresh token");
        ApiError::new(ErrorCode::Denied, message)
    })?;
    Ok((holder.name.identity, ReenrolRequest { serial: holder.serial, ..request }))
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
