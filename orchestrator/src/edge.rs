//! What is checked before the core is asked: secrets never enter it.

use manager_core::Manager;
use model::{
    identity::Identity,
    request::{ApiError, ErrorCode, JoinRequest, ReenrolRequest},
};
use pki::{CaCertificate, CertificateError, ClusterCa, DeployToken, Holder};

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
    let key = key_of(&join.csr);
    Ok((Identity::Joiner(join.token), JoinRequest { secret: Vec::new(), key, ..join }))
}

/// The key of a certificate request, by which the state knows it; `None` when it proves none, and then it is not signed either.
pub fn key_of(csr: &str) -> Option<String> {
    pki::key_print(csr.as_bytes()).ok().map(|print| print.to_string())
}

/// Turns who holds a certificate that counts no more into whom that certificate names, and notes its number and the key that the request
/// proves. It may be of any authority that the state remembers; of one that was replaced it says only who comes, since that authority's
/// key may be in other hands.
///
/// # Errors
/// Denied: no authority of this cluster has issued it, or the request does not prove its key nor the node's. Whether the node is still welcome
/// says the core.
pub fn verify_reenrol(
    manager: &Manager,
    request: ReenrolRequest,
) -> Result<(Identity, ReenrolRequest), ApiError> {
    let denied = |why: &dyn std::fmt::Display| {
        let message = format!("this proves no node of this cluster: {why}; join with a fresh token");
        ApiError::new(ErrorCode::Denied, message)
    };
    let none = || ApiError::new(ErrorCode::Unavailable, "the cluster is not founded yet: retry");
    let authority = &manager.store().cluster().ok_or_else(none)?.authority;
    let issued = |certificate: &str| -> Result<Holder, ApiError> {
        let issuer = CaCertificate::from_pem(certificate).map_err(|error| denied(&error))?;
        issuer.holder(&request.certificate, &request.csr).map_err(|error| denied(&error))
    };
    let former = || {
        let mut former = authority.former.iter();
        former.find_map(|former| Some((issued(&former.certificate).ok()?, former.trusted)))
    };
    let (holder, counts) = match issued(&authority.certificate) {
        Ok(holder) => (holder, true),
        Err(error) => former().ok_or(error)?,
    };
    let Holder { leaf, key, own } = holder;
    let (serial, key, own) = (leaf.serial, Some(key.to_string()), own && counts);
    let is_known = |id| manager.store().node(id).is_some_and(|node| node.key == key);
    if !own && !matches!(leaf.name.identity, Identity::Node(id) if is_known(id)) {
        return Err(denied(&CertificateError::KeyMismatch));
    }
    Ok((leaf.name.identity, ReenrolRequest { serial, key, own, ..request }))
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
    let named = |token: &&DeployToken| token.fingerprint() == authority.fingerprint();
    let ours = token.filter(|token| named(token) || names_former(manager, token));
    let proven = ours.and_then(|token| manager.proven(token.id(), |digest| token.secret().fits(digest)));
    proven.ok_or_else(|| ApiError::new(ErrorCode::Unauthenticated, REFUSED))
}

/// Whether a deploy token names an authority that is being replaced.
fn names_former(manager: &Manager, token: &DeployToken) -> bool {
    let former = manager.store().cluster().and_then(|cluster| cluster.authority.rotation());
    let former = former.and_then(|former| CaCertificate::from_pem(&former.certificate).ok());
    former.is_some_and(|former| former.fingerprint() == token.fingerprint())
}
