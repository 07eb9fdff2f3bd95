//! The cluster itself: its settings, its members, its join tokens.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    access::User,
    binding::{Binding, Session},
    deployer::DeployToken,
    freeze::Freeze,
    id::{ClusterId, Generation, MemberId, TokenId},
    identity::{Identity, JoinRole},
    issuer::Issuer,
    login::LoginMethod,
    network::AddressPool,
    node::Patience,
    policy::Policy,
    registry::Registry,
    sealed::{DataKeys, KeyId, Sealed},
    time::ClusterTime,
};

/// Settings of the whole cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterSettings {
    /// Patience with silent nodes.
    pub patience: Patience,
    /// Where the addresses of new networks come from.
    #[serde(skip_serializing_if = "is_default")]
    pub pool: AddressPool,
    /// Images that the nodes of the cluster fetch at once.
    #[serde(skip_serializing_if = "is_default")]
    pub pulls: PullBound,
    /// A manager that joins waits until an administrator has approved it.
    #[serde(skip_serializing_if = "is_default")]
    pub approve_managers: bool,
}

/// How many pulls a cluster bears at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PullBound(pub u32);

impl Default for PullBound {
    /// A registry on one line of 1 Gbit/s serves so many nodes with some MB a second each; a hundred at once would all be slow.
    fn default() -> Self {
        Self(16)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Replaced authorities that the cluster remembers. Whoever knows only an older one has to join anew.
pub const MAX_FORMER: usize = 3;

/// The cluster's certificate authority. Its key lies in the replicated state, so that every manager can sign: sealed with the
/// data key, so that who reads the state alone cannot.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// The certificate, PEM.
    pub certificate: String,
    /// The PKCS#8 key, PEM, in clear: until it is sealed, which versions before 0.2 never did. Empty from then on.
    pub key: String,
    /// The key, sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Sealed>,
    /// Those that it has replaced, the last one first; at most [`MAX_FORMER`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<Former>,
}

/// An authority that was replaced.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// Its certificate, PEM.
    pub certificate: String,
    /// A certificate for the next authority, signed by this one, PEM: it leads from this one to that ("new with old", RFC 4210,
    /// section 4.4).
    pub bridge: String,
    /// The last certificate number that was given out while it was the authority.
    pub last_serial: u64,
    /// When it was replaced.
    pub replaced: ClusterTime,
    /// What it has issued counts still: the rotation is not finished.
    pub trusted: bool,
}

impl Authority {
    /// What everybody is given who is to know the authority: PEM, its certificate first; then those of former ones as long as what they
    /// issued counts, and the bridges from all that are remembered.
    pub fn bundle(&self) -> String {
        let trusted = self.former.iter().filter(|former| former.trusted).map(|former| &former.certificate);
        let parts = std::iter::once(&self.certificate).chain(trusted);
        let parts = parts.chain(self.former.iter().map(|former| &former.bridge));
        parts.map(|part| format!("{}\n", part.trim_end())).collect()
    }

    /// The authority that is being replaced, while a rotation is under way.
    pub fn rotation(&self) -> Option<&Former> {
        self.former.first().filter(|former| former.trusted)
    }

    /// Whether a certificate with this number, of a holder that joined then, is of an authority that is being replaced.
    pub fn is_behind(&self, certificate: u64, joined: ClusterTime) -> bool {
        self.rotation().is_some_and(|former| certificate <= former.last_serial && joined <= former.replaced)
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority(<redacted>)")
    }
}

/// The cluster as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its identity.
    pub id: ClusterId,
    /// Index of the last change.
    pub generation: Generation,
    /// Its settings.
    pub settings: ClusterSettings,
    /// Its certificate authority.
    pub authority: Authority,
    /// The last certificate serial number given out.
    pub last_serial: u64,
    /// The highest Raft id ever given out: ids are never reused.
    pub last_member: MemberId,
    /// When it was made.
    pub created: ClusterTime,
    /// Times in which nodes are left alone, by name.
    #[serde(default, skip_serializing_if = "none_of")]
    pub freezes: Arc<Vec<Freeze>>,
    /// Registries of images, by host.
    #[serde(default, skip_serializing_if = "none_of")]
    pub registries: Arc<Vec<Registry>>,
    /// Users, by name.
    #[serde(default, skip_serializing_if = "none_of")]
    pub users: Arc<Vec<User>>,
    /// Deploy tokens, by name, expired ones included.
    #[serde(default, skip_serializing_if = "none_of")]
    pub deploy_tokens: Arc<Vec<DeployToken>>,
    /// What services may ask for, by name. `None`: nobody ever declared any, and entries are applied as versions did that knew of none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policies: Option<Arc<Vec<Policy>>>,
    /// What secrets and configs are sealed with.
    #[serde(default, skip_serializing_if = "DataKeys::is_empty")]
    pub keys: DataKeys,
    /// Issuers of ID tokens, by name.
    #[serde(default, skip_serializing_if = "none_of")]
    pub issuers: Arc<Vec<Issuer>>,
    /// Deploy bindings, by name.
    #[serde(default, skip_serializing_if = "none_of")]
    pub bindings: Arc<Vec<Binding>>,
    /// ID tokens that were used, each until it ends, in the order of their use.
    #[serde(default, skip_serializing_if = "none_of")]
    pub sessions: Arc<Vec<Session>>,
    /// How people log in, by name.
    #[serde(default, skip_serializing_if = "none_of")]
    pub login_methods: Arc<Vec<LoginMethod>>,
    /// What was said of managers that join, the oldest first; a bounded number.
    #[serde(default, skip_serializing_if = "none_of")]
    pub judged: Arc<Vec<Judgement>>,
}

/// What an administrator said of a manager that joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// Of what it presents: see [`JoinRequest::fingerprint`](crate::request::JoinRequest::fingerprint).
    pub fingerprint: String,
    /// As it calls itself.
    pub name: String,
    /// It may join; otherwise it may not.
    pub approved: bool,
    /// Who said so.
    pub by: Identity,
    /// When.
    pub at: ClusterTime,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn none_of<T>(values: &Arc<Vec<T>>) -> bool {
    values.is_empty()
}

/// A member of the Raft group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its Raft id.
    pub id: MemberId,
    /// Index of the last change.
    pub generation: Generation,
    /// The host's name, for people.
    pub name: String,
    /// `host:port` where peers, agents and clients reach it.
    pub address: String,
    /// The version of its software, as it last said.
    pub version: String,
    /// When it joined.
    pub joined: ClusterTime,
    /// The id that this manager had before it lost its log. That id keeps its place among the voters, silent, until this
    /// one has caught up: so the number of copies of an acknowledged write never falls below a majority of the whole.
    #[serde(default)]
    pub replaces: Option<MemberId>,
    /// It durably keeps every data key up to this one, as far as the cluster knows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    /// The number of the certificate that it was issued last, except at joining; 0 = none since.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub certificate: u64,
}

impl Member {
    /// Whether it has not said a word under its id yet.
    pub fn is_unheard(&self) -> bool {
        self.version.is_empty()
    }
}

/// A join token. Its secret is not kept: it is an HMAC of the token's id under the authority's key, so that a repeated
/// request is answered with the same text and a stolen list of tokens admits nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its public part.
    pub id: TokenId,
    /// What it admits.
    pub role: JoinRole,
    /// When it ends.
    pub expires: ClusterTime,
    /// Uses left.
    pub uses_left: u32,
    /// When it was made.
    pub created: ClusterTime,
    /// Labels and class that a node joining with it gets.
    pub node_spec: crate::node::NodeSpec,
}
