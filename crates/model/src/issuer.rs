//! Issuers of ID tokens: who may say who somebody is, such as a GitLab that says which job of which project asks.

use serde::{Deserialize, Serialize};

use crate::{id::Generation, identity::Identity, time::ClusterTime};

/// Issuers of a cluster at most.
pub const MAX_ISSUERS: usize = 16;

/// What an admin declares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IssuerSpec {
    /// Unique in the cluster.
    pub name: String,
    /// Its tokens' `iss`, to the letter, and where its keys are found: `https://gitlab.example`.
    pub url: String,
    /// The tokens' `aud` that means this cluster.
    pub audience: String,
    /// Certificates of the authorities that may vouch for it, PEM, besides those that the managers' machines trust.
    pub authority: Option<String>,
}

/// An issuer as the cluster keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    /// The declaration.
    pub spec: IssuerSpec,
    /// Index of the last change.
    pub generation: Generation,
    /// Who declared it.
    pub by: Identity,
    /// When.
    pub set: ClusterTime,
}

/// An issuer as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerView {
    /// Its name here.
    pub name: String,
    /// Its tokens' `iss`.
    pub url: String,
    /// Its tokens' `aud`.
    pub audience: String,
    /// Certificates of its own authorities, PEM.
    pub authority: Option<String>,
    /// Who declared it.
    pub by: Identity,
    /// When.
    pub set: ClusterTime,
}

impl Issuer {
    /// What may be shown.
    pub fn view(&self) -> IssuerView {
        let IssuerSpec { name, url, audience, authority } = self.spec.clone();
        IssuerView { name, url, audience, authority, by: self.by.clone(), set: self.set }
    }
}
