//! Names inside of certificates: the URI of an authority, the URI of a holder, and which names may be written.
//!
//! The holder's URI is [`model::identity::CertName`], because the daemons read it from what the TLS layer verified
//! without reaching for this crate.

use model::id::{ClusterId, MemberId};
use model::identity::{CertName, Identity};
use model::login::SEPARATOR;

const SCHEME: &str = "orch://";
/// Long enough for any user name, short enough for a log line.
const NAME_LIMIT: usize = 128;

/// A certificate's names do not say who its holder is, or an identity has no name that a certificate could carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is none.
    #[error("there is no {SCHEME} name in the certificate")]
    Missing,
    /// There is more than one, so it is unclear who speaks.
    #[error("there is more than one {SCHEME} name in the certificate")]
    Ambiguous,
    /// There is one, but it names nobody.
    #[error(transparent)]
    Unknown(#[from] model::identity::ParseCertNameError),
    /// An operator's name that would not survive the way through a URI.
    #[error(
        "{0:?} cannot be an operator's or a user's name: 1 to {NAME_LIMIT} of a-z A-Z 0-9 . _ - @ are allowed"
    )]
    Operator(String),
    /// Zero is no Raft id, and nobody holds no certificate.
    #[error("a certificate needs a holder: a manager (with an id above zero), a node, an operator or a user")]
    Nobody,
}

/// The URI that marks an authority's own certificate, so that the cluster's id can be read back from it.
pub(crate) fn authority_uri(cluster: ClusterId) -> String {
    format!("{SCHEME}{cluster}/ca")
}

/// The cluster of an authority's URI; the inverse of [`authority_uri`].
pub(crate) fn cluster_of_authority(uri: &str) -> Option<ClusterId> {
    uri.strip_prefix(SCHEME)?.strip_suffix("/ca")?.parse().ok()
}

/// Of all URIs in a certificate, the single one of ours.
pub(crate) fn single_uri<'a>(uris: impl IntoIterator<Item = &'a str>) -> Result<&'a str, NameError> {
    let mut ours = uris.into_iter().filter(|uri| uri.starts_with(SCHEME));
    let uri = ours.next().ok_or(NameError::Missing)?;
    if ours.next().is_some() { Err(NameError::Ambiguous) } else { Ok(uri) }
}

/// Refuses what would not come back from a certificate as the same identity.
pub(crate) fn check_holder(name: &CertName) -> Result<(), NameError> {
    match &name.identity {
        Identity::Manager(MemberId(0))
        | Identity::Joiner(_)
        | Identity::Anonymous
        | Identity::Bearer(_)
        | Identity::Deployer { .. } => Err(NameError::Nobody),
        Identity::Manager(_) | Identity::Node(_) => Ok(()),
        Identity::Operator { name, .. } => check_operator(name),
        // A user who came by a login has its method before the name.
        Identity::User { name, .. } => {
            check_operator(name.split_once(SEPARATOR).map_or(name, |(_, name)| name))
        }
    }
}

fn check_operator(name: &str) -> Result<(), NameError> {
    let fits = (1..=NAME_LIMIT).contains(&name.len());
    let spelt = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte));
    if fits && spelt { Ok(()) } else { Err(NameError::Operator(name.chars().take(NAME_LIMIT).collect())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::identity::Role;

    #[test]
    fn a_cluster_survives_the_uri_of_its_authority() {
        assert_eq!(cluster_of_authority(&authority_uri(ClusterId(7))), Some(ClusterId(7)));
        assert_eq!(cluster_of_authority("orch://x/ca"), None);
    }

    #[test]
    fn two_names_of_ours_are_no_name() {
        assert_eq!(single_uri(["orch://a", "https://b", "orch://c"]), Err(NameError::Ambiguous));
        assert_eq!(single_uri(["https://b"]), Err(NameError::Missing));
        assert_eq!(single_uri(["https://b", "orch://c"]), Ok("orch://c"));
    }

    #[test]
    fn an_operator_cannot_be_called_like_another_kind_of_holder() {
        for name in ["", "x/admin", "a b", "anna?role=admin", "é"] {
            let identity = Identity::Operator { name: name.into(), role: Role::Viewer };
            assert!(check_holder(&CertName { cluster: ClusterId(1), identity }).is_err(), "{name}");
        }
    }
}
