//! The control API: what a client asks, what it is answered (in a file of its own), how it is refused.

mod answer;

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

pub use answer::{
    AuthorityView, ClusterStatus, EndpointRow, EndpointsView, FormerView, FreezeView, ItemVersionView,
    ItemView, JoinerView, KeysView, LogSource, LoginMethodView, MemberStatus, NetworkView, NodeBehind,
    NodeView, PolicyVerdict, RegistrySaid, RegistryView, Reply, Response, ServiceRow, ServiceView, TaskNode,
    TaskRow, Waiting,
};

use crate::{
    access::{UserChange, UserSpec, Verb},
    audit,
    binding::{BindingSpec, ExchangeRequest},
    cluster::ClusterSettings,
    command::Rejection,
    cron::CronSpec,
    deployer::{DeployTokenSpec, TokenDigest},
    event::Revision,
    freeze::FreezeSpec,
    id::{Generation, MemberId, TokenId},
    identity::{Identity, JoinRole},
    issuer::IssuerSpec,
    item::{ItemKind, ItemSpec},
    login::{LogInRequest, LoginMethodSpec, Password},
    network::NetworkSpec,
    node::{Availability, Facts, NodeClass, NodeSpec},
    policy::{Breach, PolicySpec},
    registry::RegistrySpec,
    sealed::Clear,
    service::{ReleaseNote, RolloutStep, ServiceSpec, TemplateVersion},
    session::LogOptions,
    validate::Problem,
};

/// An object as people name it: its name, its id, or an unambiguous beginning of its id (4 letters at least).
pub type Reference = String;

/// Which answer is good enough.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consistency {
    /// Reflects every write acknowledged before the question (ReadIndex); needs a quorum.
    #[default]
    Linearizable,
    /// What this manager has applied, marked as stale; works without a quorum.
    Stale,
}

/// Which tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskFilter {
    /// Of this service only.
    pub service: Option<Reference>,
    /// On this node only.
    pub node: Option<Reference>,
    /// Ended ones too.
    pub all: bool,
}

/// What changes about a node; `None` leaves a field as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeChange {
    /// Whether it takes tasks.
    pub availability: Option<Availability>,
    /// Its class.
    pub class: Option<NodeClass>,
    /// Labels to set.
    pub set_labels: Vec<(String, String)>,
    /// Labels to remove.
    pub remove_labels: Vec<String>,
    /// Why this is done although the node is frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub despite_freeze: Option<String>,
}

/// What a client asks. Reads say in the second group; everything else changes something and carries a request id beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// A new service.
    CreateService(Arc<ServiceSpec>),
    /// A new declaration for an existing one.
    UpdateService {
        /// Which.
        service: Reference,
        /// The generation that the client saw.
        expected: Generation,
        /// The whole declaration.
        spec: Arc<ServiceSpec>,
    },
    /// New replica counts, all or none.
    ScaleServices(Vec<(Reference, u32)>),
    /// The previous declaration again.
    RollbackService(Reference),
    /// The declaration of a kept release again.
    ReturnTo {
        /// Which service.
        service: Reference,
        /// Which release; `None` = the one before the present one.
        release: Option<TemplateVersion>,
        /// What is told of the new release.
        note: Box<ReleaseNote>,
    },
    /// Another image for a service, and nothing else: the managers make the declaration from the stored one. Refused while
    /// another rollout is under way; the same image again changes nothing.
    Deploy {
        /// Which service.
        service: Reference,
        /// The new image.
        image: String,
        /// What is told of the release.
        note: Box<ReleaseNote>,
    },
    /// A word on the rollout under way.
    SteerRollout {
        /// Whose.
        service: Reference,
        /// The release that it brings, as the client saw it; `None` = whichever it is.
        release: Option<TemplateVersion>,
        /// What to do.
        step: RolloutStep,
    },
    /// Stop and forget.
    RemoveService(Reference),
    /// A change of a node.
    UpdateNode {
        /// Which.
        node: Reference,
        /// What.
        change: NodeChange,
    },
    /// Forget a node.
    RemoveNode {
        /// Which.
        node: Reference,
        /// Although it is up.
        force: bool,
    },
    /// A new join token.
    CreateToken {
        /// For what.
        role: JoinRole,
        /// How long it lives; at most 30 days.
        ttl: Duration,
        /// How often it may be used, 1 to 1000.
        uses: u32,
        /// What a node that joins with it gets.
        node_spec: NodeSpec,
    },
    /// End a token.
    RevokeToken(TokenId),
    /// New settings.
    SetSettings(ClusterSettings),
    /// Hand the lead to another manager.
    TransferLeader {
        /// To whom; `None` = the most advanced follower.
        to: Option<MemberId>,
    },
    /// Take a manager out of the group.
    RemoveMember(MemberId),
    /// A manager that lost its log asks for a new id, under its old one. Repeated, it gets the same new id and another
    /// certificate, until it was heard under the new id.
    ReplaceMember {
        /// `host:port`.
        address: String,
        /// The certificate request, PEM.
        csr: String,
    },
    /// A manager's own new address or version (only from that manager).
    UpdateMember {
        /// `host:port`.
        address: String,
        /// Its software's version.
        version: String,
    },
    /// A new network.
    CreateNetwork(NetworkSpec),
    /// Forget a network that no service is in.
    RemoveNetwork(Reference),
    /// A freeze, in place of the one of its name.
    SetFreeze(FreezeSpec),
    /// End a freeze, by its whole name.
    RemoveFreeze(String),
    /// A cron, in place of the one of its name.
    SetCron(Arc<CronSpec>),
    /// End a cron, by its whole name.
    RemoveCron(String),
    /// Nothing is due any more, or it is again.
    SuspendCron {
        /// Its whole name.
        name: String,
        /// Whether nothing is.
        suspended: bool,
    },
    /// A run of a cron now, beside its schedule.
    RunCron(String),
    /// A registry of images, in place of the one of its host.
    SetRegistry {
        /// The declaration.
        spec: RegistrySpec,
        /// Ask it first, and refuse what it refuses.
        check: bool,
    },
    /// Forget a registry, by its host.
    RemoveRegistry(String),
    /// A policy, in place of the one of its name.
    SetPolicy {
        /// The declaration.
        spec: Box<PolicySpec>,
        /// The generation that the client saw, 0 for none; `None`: whatever it is.
        expected: Option<Generation>,
    },
    /// Forget a policy, by its whole name.
    RemovePolicy(String),
    /// Use a join token. The manager that leads verifies the secret; for its core the caller is then a
    /// [`Joiner`](crate::identity::Identity::Joiner).
    Join(Box<JoinRequest>),
    /// A fresh certificate for the caller's own identity.
    RenewCertificate {
        /// The certificate request, PEM.
        csr: String,
        /// SHA-256 of its key, in hex: the manager that leads verifies the request and notes it.
        #[serde(skip)]
        key: Option<String>,
    },
    /// Another authority in place of the present one.
    RotateAuthority {
        /// The present one's certificate, as the caller knows it.
        current: String,
        /// The manager that leads makes it.
        #[serde(skip)]
        successor: Option<Box<Successor>>,
    },
    /// What earlier authorities have issued counts no more.
    FinishRotation {
        /// The present one's certificate, as the caller knows it.
        current: String,
        /// Although nodes have certificates of an earlier one: they come back by proof of their keys.
        leave_behind: bool,
    },
    /// A new user.
    CreateUser(UserSpec),
    /// Other roles, another life of certificates, disabled or not.
    UpdateUser {
        /// Its name or id.
        user: Reference,
        /// What.
        change: UserChange,
    },
    /// Forget a user, by name or id.
    RemoveUser(Reference),
    /// A certificate for a user, over a key that somebody else has made.
    CertifyUser {
        /// Its name or id.
        user: Reference,
        /// The certificate request, PEM.
        csr: String,
    },
    /// A new deploy token. Its secret stays with the caller.
    CreateDeployToken {
        /// What it grants.
        spec: Box<DeployTokenSpec>,
        /// How long it lives; at most 90 days.
        ttl: Duration,
        /// Of its secret.
        digest: TokenDigest,
    },
    /// End a deploy token, by its whole name.
    RemoveDeployToken(String),
    /// A new secret or config.
    CreateItem {
        /// The declaration.
        spec: ItemSpec,
        /// Its value.
        value: Clear,
    },
    /// A new version of a secret or config; the same value again changes nothing.
    UpdateItem {
        /// Which kind.
        kind: ItemKind,
        /// Its whole name.
        name: String,
        /// The value.
        value: Clear,
    },
    /// Forget a secret or config that nothing mounts.
    RemoveItem {
        /// Which kind.
        kind: ItemKind,
        /// Its whole name.
        name: String,
    },
    /// A new data key; everything is sealed with it anew.
    RotateKey,
    /// An issuer of ID tokens, in place of the one of its name.
    SetIssuer(Box<IssuerSpec>),
    /// Forget an issuer, by its whole name.
    RemoveIssuer(String),
    /// A new deploy binding.
    CreateBinding(Box<BindingSpec>),
    /// End a deploy binding, by its whole name.
    RemoveBinding(String),
    /// A session for a job of a pipeline, which shows its ID token. The manager that leads verifies it.
    Exchange(Box<ExchangeRequest>),
    /// A fresh certificate for a node whose last one has run out. The manager that leads verifies the proof; for its core the caller is
    /// then that [`Node`](crate::identity::Identity::Node).
    Reenrol(Box<ReenrolRequest>),
    /// A login method, in place of the one of its name.
    SetLoginMethod {
        /// The declaration.
        spec: Box<LoginMethodSpec>,
        /// The password of the [`account`](LoginMethodSpec::account) that searches; `None` without one.
        password: Option<Password>,
    },
    /// Forget a login method with all users that came by it, by its whole name.
    RemoveLoginMethod(String),
    /// A certificate for whoever proves oneself. The leader has the proof judged.
    LogIn(Box<LogInRequest>),
    /// Whether a manager that waits may join.
    JudgeJoiner {
        /// Its name, or the beginning of its fingerprint.
        joiner: Reference,
        /// It may.
        approve: bool,
    },

    /// Services.
    ListServices,
    /// One service, with its tasks.
    GetService(Reference),
    /// Tasks.
    ListTasks(TaskFilter),
    /// Networks, with who is in them.
    ListNetworks,
    /// All freezes.
    ListFreezes,
    /// All crons.
    ListCrons,
    /// All registries, without their secrets.
    ListRegistries,
    /// All policies.
    ListPolicies,
    /// What of the services and crons that there are would be refused if it came today.
    CheckPolicies {
        /// As if this one were declared too, in place of the one of its name.
        with: Option<Box<PolicySpec>>,
    },
    /// One network, with who is in it.
    GetNetwork(Reference),
    /// How a service is reached, from the leader's view.
    GetEndpoints(Reference),
    /// Nodes.
    ListNodes,
    /// One node, with its tasks.
    GetNode(Reference),
    /// Members.
    ListMembers,
    /// Tokens.
    ListTokens,
    /// Quorum, leader, versions, anything that waits.
    GetStatus,
    /// Why something is as it is: a service, task or node.
    Explain(Reference),
    /// Events from a revision on (exclusive); `None` = from now. Answered by a stream of [`Response::Events`].
    Watch {
        /// Where to resume.
        after: Option<Revision>,
        /// End with [`Response::EventsEnd`] once all events up to this index of the log were sent; `None` = go on.
        #[serde(default)]
        until: Option<u64>,
    },
    /// Logs of a service's or one task. Answered by one [`Response::LogPlan`]; the lines come on streams of their own.
    Logs {
        /// A service or a task.
        of: Reference,
        /// What of them.
        options: LogOptions,
    },
    /// Users.
    ListUsers,
    /// Who the caller is, and what it may do.
    Whoami,
    /// Whether the caller may do something.
    CanI {
        /// What.
        verb: Verb,
        /// On what; `None` = on anything at all.
        object: Option<Reference>,
    },
    /// All deploy tokens, without their secrets.
    ListDeployTokens,
    /// The next part of the audit.
    GetAudit {
        /// Records after this one; 0 = from the first that is kept.
        after: u64,
    },
    /// All secrets, or all configs, without their values.
    ListItems(ItemKind),
    /// One secret or config; of a config with its newest value.
    GetItem {
        /// Which kind.
        kind: ItemKind,
        /// Its whole name.
        name: String,
    },
    /// What secrets and configs are sealed with.
    GetKeys,
    /// All issuers of ID tokens.
    ListIssuers,
    /// All deploy bindings.
    ListBindings,
    /// All login methods, without their secrets.
    ListLoginMethods,
    /// How one can log in, for whoever is nobody yet.
    ListLogins,
    /// Managers that wait to be approved.
    ListJoiners,
    /// The cluster's authority, and who has certificates of an earlier one.
    GetAuthority,
    /// A manager refused somebody before there was a request: answered with the refusal, once it is on record. Of managers.
    NoteRefusal {
        /// Who it was, as the connection proved it.
        who: Identity,
        /// Where from: an IP address.
        source: String,
        /// What was wrong.
        reason: String,
    },
}

impl Request {
    /// Whether it only reads.
    pub fn is_read(&self) -> bool {
        matches!(
            self,
            Self::ListServices
                | Self::GetService(_)
                | Self::ListTasks(_)
                | Self::ListNetworks
                | Self::ListFreezes
                | Self::ListCrons
                | Self::ListRegistries
                | Self::ListPolicies
                | Self::CheckPolicies { .. }
                | Self::GetNetwork(_)
                | Self::GetEndpoints(_)
                | Self::ListNodes
                | Self::GetNode(_)
                | Self::ListMembers
                | Self::ListTokens
                | Self::GetStatus
                | Self::Explain(_)
                | Self::Watch { .. }
                | Self::Logs { .. }
                | Self::ListUsers
                | Self::Whoami
                | Self::CanI { .. }
                | Self::ListDeployTokens
                | Self::GetAudit { .. }
                | Self::ListItems(_)
                | Self::GetItem { .. }
                | Self::GetKeys
                | Self::ListIssuers
                | Self::ListBindings
                | Self::ListLoginMethods
                | Self::ListLogins
                | Self::ListJoiners
                | Self::GetAuthority
        )
    }
}

/// What a joiner presents.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequest {
    /// As what.
    pub role: JoinRole,
    /// The token's public part.
    pub token: TokenId,
    /// Its secret; blank once it was verified.
    pub secret: Vec<u8>,
    /// The certificate request, PEM; only its key is used.
    pub csr: String,
    /// What the machine is.
    pub facts: Facts,
    /// For a manager: where it is reached.
    pub address: String,
    /// SHA-256 of the request's key, in hex: the manager that leads verifies the request and notes it.
    #[serde(skip)]
    pub key: Option<String>,
}

impl JoinRequest {
    /// SHA-256 of the certificate request, the first half of it, for two people to compare: `1f2e-…`.
    pub fn fingerprint(&self) -> String {
        let digest = audit::Digest::of(self.csr.as_bytes()).to_string();
        let groups: Vec<&str> = (0..32).step_by(4).filter_map(|from| digest.get(from..from + 4)).collect();
        groups.join("-")
    }
}

impl std::fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinRequest")
            .field("role", &self.role)
            .field("token", &self.token)
            .field("secret", &"<redacted>")
            .finish_non_exhaustive()
    }
}

/// What a node presents whose certificate has run out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReenrolRequest {
    /// That certificate, PEM, however long ago it ended.
    pub certificate: String,
    /// A certificate request over its key, PEM; its signature proves that the caller has the key.
    pub csr: String,
    /// The certificate's number, once it was verified; whatever the caller wrote there is overwritten.
    pub serial: u64,
    /// SHA-256 of the request's key, in hex: the manager that leads verifies the proof and notes it.
    #[serde(skip)]
    pub key: Option<String>,
    /// The certificate is over that key, and of an authority whose word counts; likewise.
    #[serde(skip)]
    pub own: bool,
}

/// An authority that is to take the present one's place, as the leader's shell makes it.
#[derive(Clone, PartialEq, Eq)]
pub struct Successor {
    /// Its certificate, PEM.
    pub certificate: String,
    /// A certificate for it by the present one, PEM.
    pub bridge: String,
    /// Its key, PEM.
    pub key: Clear,
}

impl std::fmt::Debug for Successor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Successor(<redacted>)")
    }
}

/// How a request is refused, by what the caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// Mend the request.
    Invalid,
    /// There is no such thing.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// It changed meanwhile, or something else is under way: read again, retry.
    Conflict,
    /// Not allowed to.
    Denied,
    /// No certificate, or one that is not accepted.
    Unauthenticated,
    /// A beam-time window forbids it.
    Frozen,
    /// Not decided in time. It may still happen: ask again with the same request id.
    Deadline,
    /// No leader or no quorum right now: retry.
    Unavailable,
    /// This manager does not lead: ask the leader.
    NotLeader,
    /// A bound was reached, named in the message: disk, queue, history.
    Exhausted,
    /// A defect of ours.
    Internal,
}

impl ErrorCode {
    /// The exit code of `orchctl`: 1 error, 2 invalid, 4 denied, 5 busy or conflict, 6 frozen, 7 deadline.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Invalid => 2,
            Self::Denied | Self::Unauthenticated => 4,
            Self::AlreadyExists | Self::Conflict => 5,
            Self::Frozen => 6,
            Self::Deadline => 7,
            Self::NotFound | Self::Unavailable | Self::NotLeader | Self::Exhausted | Self::Internal => 1,
        }
    }
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What kind.
    pub code: ErrorCode,
    /// What is wrong and what to do.
    pub message: String,
    /// Every problem of a spec, each with its path.
    pub problems: Vec<Problem>,
    /// With [`ErrorCode::NotLeader`]: who leads.
    pub leader: Option<MemberId>,
}

impl ApiError {
    /// A refusal without details.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), problems: Vec::new(), leader: None }
    }
}

impl From<Rejection> for ApiError {
    fn from(rejection: Rejection) -> Self {
        let code = match &rejection {
            Rejection::Exists { .. } => ErrorCode::AlreadyExists,
            Rejection::Missing { .. } => ErrorCode::NotFound,
            Rejection::Stale { .. } | Rejection::Conflict(_) => ErrorCode::Conflict,
            Rejection::Token { .. } => ErrorCode::Denied,
            Rejection::Invalid(_) => ErrorCode::Invalid,
            Rejection::Unwelcome(_) => ErrorCode::Unauthenticated,
            Rejection::Refused(_) => ErrorCode::Denied,
        };
        let mut error = Self::new(code, rejection.to_string());
        if let Rejection::Refused(refusal) = rejection
            && refusal.breaches.len() > 1
        {
            error.problems = refusal.breaches.iter().map(Breach::problem).collect();
        }
        error
    }
}

impl From<Vec<Problem>> for ApiError {
    fn from(problems: Vec<Problem>) -> Self {
        let count = problems.len();
        let message = match &problems[..] {
            [only] => only.to_string(),
            _ => format!("the request has {count} problems"),
        };
        Self { code: ErrorCode::Invalid, message, problems, leader: None }
    }
}
