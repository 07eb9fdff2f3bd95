//! Commands: what lies in the log. A command is a decision, never an input: ids, random choices and times are fixed when
//! it is built, so that every version of the software applies it the same way.

mod decision;

use std::{net::Ipv4Addr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    access::{UserChange, UserRole, UserSpec},
    audit::{Note, Origin},
    binding::BindingSpec,
    cluster::{Authority, ClusterSettings, Token},
    cron::CronSpec,
    deployer::{DeployTokenSpec, TokenDigest},
    freeze::FreezeSpec,
    id::{
        ClusterId, CronId, DeployTokenId, Generation, MemberId, NetworkId, NodeId, RequestId, ServiceId,
        TaskId, TokenId, UserId,
    },
    identity::{Identity, JoinRole},
    issuer::IssuerSpec,
    item::{ItemKind, ItemSpec, NewVersion},
    login::LoginMethodSpec,
    network::NetworkSpec,
    node::{Facts, Incarnation, NodeSpec},
    policy::{PolicySpec, Refusal},
    registry::RegistrySpec,
    sealed::{KeyId, LoginAt, Sealed},
    service::{ImagePin, ReleaseNote, RolloutStep, ServiceSpec, TemplateVersion},
    session::TaskReport,
    time::ClusterTime,
};

pub use decision::Decision;

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The leader's stamp.
    pub at: ClusterTime,
    /// The client's request, so that a retry is applied once; `None` for the managers' own decisions.
    pub request: Option<RequestId>,
    /// Who asked; a manager for its own decisions.
    pub actor: Identity,
    /// What to do.
    pub command: Command,
    /// Where the request came from; managers of 0.1.0 do not say it.
    #[serde(default, skip_serializing_if = "Origin::is_unknown")]
    pub origin: Origin,
}

/// What the state machine is told to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// The first entry of a cluster: its identity, authority and first member.
    Bootstrap {
        /// The cluster.
        cluster: ClusterId,
        /// Its settings.
        settings: ClusterSettings,
        /// Its authority.
        authority: Authority,
        /// The first member's name.
        name: String,
        /// The first member's address.
        address: String,
        /// The fingerprint of data key 1, which the first member keeps and the authority's key is sealed with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data_key: Option<u64>,
    },
    /// Replaces the settings.
    SetSettings(ClusterSettings),
    /// A new service. Rejected when the name is taken.
    CreateService {
        /// Chosen by the leader.
        id: ServiceId,
        /// The declaration, valid.
        spec: Arc<ServiceSpec>,
    },
    /// A new declaration. A changed template becomes the target of a rollout.
    UpdateService {
        /// Which.
        id: ServiceId,
        /// The generation that the client saw; rejected when the service has moved on.
        expected: Generation,
        /// The whole new declaration; its name must be the old one.
        spec: Arc<ServiceSpec>,
        /// What is told of the release that it makes.
        #[serde(default, skip_serializing_if = "ReleaseNote::is_empty")]
        note: ReleaseNote,
    },
    /// New replica counts, all or none. Idempotent; needs no generation.
    ScaleServices(Vec<(ServiceId, u32)>),
    /// The previous declaration again, or that of a kept release. Rejected when there is none.
    RollbackService {
        /// Which.
        id: ServiceId,
        /// Whose declaration; `None` = the previous one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<TemplateVersion>,
        /// What is told of the release that it makes.
        #[serde(default, skip_serializing_if = "ReleaseNote::is_empty")]
        note: ReleaseNote,
    },
    /// A person's word on the rollout under way. Rejected when it is not that one's time.
    SteerRollout {
        /// Whose.
        id: ServiceId,
        /// The release that it brings; rejected when another one has come.
        release: TemplateVersion,
        /// What to do.
        step: RolloutStep,
    },
    /// Stop the tasks, then forget the service.
    RemoveService {
        /// Which.
        id: ServiceId,
    },
    /// What a template's tag means; the first answer wins.
    PinImage {
        /// Which service.
        service: ServiceId,
        /// Which of its templates.
        template: TemplateVersion,
        /// What it was resolved to.
        pin: ImagePin,
    },
    /// Routers saw too many requests to a new replica fail. The first word on a task since its rollout began or was resumed counts.
    NoteFault {
        /// Which.
        task: TaskId,
        /// The release that it was seen for; rejected when another one has come.
        release: TemplateVersion,
        /// In words.
        message: String,
    },
    /// A new network. Rejected when the name or the addresses are taken.
    CreateNetwork {
        /// Chosen by the leader.
        id: NetworkId,
        /// The first address of its /16, chosen by the leader.
        base: Ipv4Addr,
        /// The declaration, valid.
        spec: NetworkSpec,
    },
    /// Forget a network. Rejected while a service is in it, or would be after a rollback.
    RemoveNetwork {
        /// Which.
        id: NetworkId,
    },
    /// A freeze, in place of the one of its name.
    SetFreeze(FreezeSpec),
    /// Ends a freeze.
    RemoveFreeze {
        /// Which.
        name: String,
    },
    /// A cron, in place of the one of its name. Times up to this entry are not its.
    SetCron {
        /// Chosen by the leader; not used when there is one of the name.
        id: CronId,
        /// The declaration, valid.
        spec: Arc<CronSpec>,
        /// The first time after this, as the leader worked it out.
        next: Option<ClusterTime>,
    },
    /// Ends a cron. Its jobs that run go on to their end.
    RemoveCron {
        /// Which.
        id: CronId,
    },
    /// A run that somebody asked for, beside the schedule. Rejected while an earlier one goes on, unless they may overlap.
    RunCron {
        /// Which.
        id: CronId,
        /// Its job, chosen by the leader.
        job: ServiceId,
    },
    /// A registry of images, in place of the one of its host.
    SetRegistry(RegistrySpec),
    /// Forgets a registry and its login.
    RemoveRegistry {
        /// Its host.
        host: String,
    },
    /// A policy, in place of the one of its name.
    SetPolicy {
        /// The declaration, valid.
        spec: PolicySpec,
        /// The generation that the client saw, 0 for none; rejected when it has moved on. `None`: whatever it is.
        expected: Option<Generation>,
    },
    /// Forgets a policy, its grants with it.
    RemovePolicy {
        /// Which.
        name: String,
    },
    /// A new join token.
    CreateToken(Token),
    /// Ends a token.
    RevokeToken {
        /// Which.
        id: TokenId,
    },
    /// A node joins: uses a token once, records the node and its first certificate's serial number. Rejected when the
    /// token is unknown, used up or expired at the entry's stamp, or was made for managers.
    JoinNode {
        /// Chosen by the leader.
        id: NodeId,
        /// The token.
        token: TokenId,
        /// What its agent reported.
        facts: Facts,
        /// The serial number of its certificate: `last_serial + 1`, rejected otherwise.
        serial: u64,
        /// SHA-256 of its key, in hex.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// What an admin decides about a node.
    UpdateNode {
        /// Which.
        id: NodeId,
        /// The generation seen; `None` = whatever it is.
        expected: Option<Generation>,
        /// The whole new decision.
        spec: NodeSpec,
    },
    /// Forget a node; its tasks are lost, its certificate is refused from then on. Rejected unless it is down or `force`.
    RemoveNode {
        /// Which.
        id: NodeId,
        /// Although it is up.
        force: bool,
    },
    /// A node's agent registered: the node is ready under this incarnation.
    NodeUp {
        /// Which.
        id: NodeId,
        /// At least the stored one.
        incarnation: Incarnation,
        /// What it reported.
        facts: Facts,
    },
    /// A registered node's facts changed (engine gone or back, labels).
    NodeFacts {
        /// Which.
        id: NodeId,
        /// Must be the stored one.
        incarnation: Incarnation,
        /// What it reported.
        facts: Facts,
    },
    /// A node was silent for longer than its class allows.
    NodeDown {
        /// Which.
        id: NodeId,
        /// The generation that the decision was made on.
        expected: Generation,
        /// In words.
        message: String,
    },
    /// What an agent observed, folded per task. Reports on tasks of other nodes, and of older incarnations, are ignored.
    Observe {
        /// Whose agent.
        node: NodeId,
        /// Its registration.
        incarnation: Incarnation,
        /// The transitions.
        reports: Vec<TaskReport>,
    },
    /// A manager joins: uses a token once and records the member; the membership change follows.
    JoinMember {
        /// `last_member + 1`, rejected otherwise.
        id: MemberId,
        /// The token.
        token: TokenId,
        /// The host's name.
        name: String,
        /// Where it is reached.
        address: String,
        /// The serial number of its certificate: `last_serial + 1`, rejected otherwise.
        serial: u64,
        /// Of what it presents; counts where managers have to be approved.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        fingerprint: String,
    },
    /// A manager lost its log: it leaves under its old id, of which nobody hears again, and joins under a new one.
    ReplaceMember {
        /// The id that is gone for good.
        old: MemberId,
        /// `last_member + 1`, rejected otherwise.
        id: MemberId,
        /// Where it is reached.
        address: String,
        /// The serial number of its certificate: `last_serial + 1`, rejected otherwise.
        serial: u64,
    },
    /// A member's address or version changed.
    UpdateMember {
        /// Which.
        id: MemberId,
        /// Where it is reached.
        address: String,
        /// Its software's version.
        version: String,
        /// It durably keeps every data key up to this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<KeyId>,
    },
    /// A member that left the Raft group is forgotten; its certificate is refused from then on.
    RemoveMember {
        /// Which.
        id: MemberId,
    },
    /// After `recover`: the survivor is the only member.
    RecoverMembers {
        /// The survivor, under its new id.
        survivor: MemberId,
        /// Where it is reached.
        address: String,
    },
    /// A certificate was issued: raises the serial number.
    CertificateIssued {
        /// `last_serial + 1`, rejected otherwise.
        serial: u64,
        /// For which node, if for a node.
        node: Option<NodeId>,
        /// A certificate that has run out, whose holder proved that it has its key. Rejected when the node has had a later one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        proven: Option<u64>,
        /// For which manager, if for a manager.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        member: Option<MemberId>,
        /// SHA-256 of a node's key, in hex.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// Another authority in place of the one that has this certificate (PEM); rejected while a rotation is under way. Join tokens end.
    RotateAuthority {
        /// The present one's certificate.
        current: String,
        /// The new one's.
        certificate: String,
        /// For the new one, by the present one.
        bridge: String,
        /// The new one's key, sealed with the active data key.
        sealed: Sealed,
    },
    /// What authorities before the present one have issued counts no more. Rejected while a manager's certificate is among it.
    FinishRotation {
        /// The present one's certificate.
        current: String,
        /// Although nodes' certificates are among it.
        leave_behind: bool,
    },
    /// One batch of the managers' own decisions. Each stands alone: a rejected one does not stop the others.
    Decide(Vec<Decision>),
    /// A new user. Rejected when the name is taken.
    CreateUser {
        /// Chosen by the leader.
        id: UserId,
        /// The declaration, valid.
        spec: UserSpec,
    },
    /// Other roles, another life of certificates, disabled or not.
    UpdateUser {
        /// Which.
        id: UserId,
        /// What.
        change: UserChange,
    },
    /// Forgets a user: its certificates are refused from then on.
    RemoveUser {
        /// Which.
        id: UserId,
    },
    /// A new deploy token. Rejected when the name is taken.
    CreateDeployToken {
        /// Chosen by the leader.
        id: DeployTokenId,
        /// What it grants, valid.
        spec: DeployTokenSpec,
        /// Of its secret.
        digest: TokenDigest,
        /// When it ends.
        expires: ClusterTime,
    },
    /// Ends a deploy token: nothing of it is applied from then on.
    RemoveDeployToken {
        /// Its name.
        name: String,
    },
    /// From here on everything that is done or refused is recorded. Rejected when it has begun.
    BeginAudit,
    /// What is to be recorded and does not come into the log by itself. Rejected, though recorded, when it notes
    /// a refusal or nothing: so a refused request that comes again is not taken for one that was done.
    Audit(Vec<Note>),
    /// A new secret or config. Rejected when the name is taken.
    CreateItem {
        /// The declaration, valid.
        spec: ItemSpec,
        /// Its first version.
        version: NewVersion,
    },
    /// A new version of a secret or config; the services that mount it get it as a release of theirs.
    UpdateItem {
        /// Which kind.
        kind: ItemKind,
        /// Which.
        name: String,
        /// The value. The newest version as it is changes nothing.
        version: NewVersion,
    },
    /// Forget a secret or config with all its versions. Rejected while a service mounts it, or would after a way back.
    RemoveItem {
        /// Which kind.
        kind: ItemKind,
        /// Which.
        name: String,
    },
    /// A data key that is to follow the active one. One that was to follow it before and never became active is forgotten.
    AddKey {
        /// Beyond every earlier one; rejected otherwise.
        id: KeyId,
        /// Tells it from others.
        fingerprint: u64,
    },
    /// From now on things are sealed with this key. Rejected while a member does not keep it.
    UseKey {
        /// The one that is to follow.
        id: KeyId,
    },
    /// A value sealed anew with the active key.
    Reseal {
        /// Of which kind of item.
        kind: ItemKind,
        /// Of which.
        name: String,
        /// Which version.
        number: u64,
        /// The key that it was sealed with; rejected when it is another.
        from: KeyId,
        /// The same value.
        value: Sealed,
    },
    /// Forget a data key. Rejected while something is sealed with it.
    DropKey {
        /// Which.
        id: KeyId,
    },
    /// An issuer of ID tokens, in place of the one of its name, whose sessions end if it is another.
    SetIssuer(IssuerSpec),
    /// Forgets an issuer; the sessions of its tokens end.
    RemoveIssuer {
        /// Its name.
        name: String,
    },
    /// A new deploy binding. Rejected when the name is taken.
    CreateBinding(BindingSpec),
    /// Ends a deploy binding and its sessions.
    RemoveBinding {
        /// Its name.
        name: String,
    },
    /// A session for a job whose ID token the leader has verified. Rejected when the ID token was used before.
    Exchange {
        /// Chosen by the leader.
        id: DeployTokenId,
        /// The binding.
        binding: String,
        /// The binding that was decided on; rejected when it is another.
        expected: Generation,
        /// The issuer.
        issuer: String,
        /// The issuer whose keys verified the token; rejected when it is another.
        issuer_expected: Generation,
        /// Tells the ID token from every other.
        id_token: TokenDigest,
        /// So long the ID token is remembered.
        until: ClusterTime,
        /// Of the session's secret.
        digest: TokenDigest,
        /// When the session ends.
        expires: ClusterTime,
        /// The job, in words.
        job: String,
    },
    /// A login sealed with the active key.
    ResealLogin {
        /// Which one.
        at: LoginAt,
        /// When that was declared; rejected when it was declared anew.
        set: ClusterTime,
        /// The key that it was sealed with, `None` in clear; rejected when it is another.
        from: Option<KeyId>,
        /// The same secret.
        value: Sealed,
    },
    /// The authority's key sealed with the active key.
    ResealAuthority {
        /// The key that it was sealed with, `None` in clear; rejected when it is another.
        from: Option<KeyId>,
        /// The same key.
        value: Sealed,
    },
    /// A login method, in place of the one of its name.
    SetLoginMethod {
        /// The declaration.
        spec: Box<LoginMethodSpec>,
        /// The password of its [`account`](LoginMethodSpec::account). Rejected when there is one without the other.
        password: Option<Sealed>,
    },
    /// Forgets a login method with all users that came by it.
    RemoveLoginMethod {
        /// Its name.
        name: String,
    },
    /// Somebody proved oneself: a user, new or known, with a certificate. Rejected when the method was declared anew or removed
    /// meanwhile, or the name is somebody else's.
    LogIn {
        /// Of a new user; chosen by the leader.
        id: UserId,
        /// By which method.
        method: String,
        /// As it was declared then.
        set: ClusterTime,
        /// Who it is there.
        subject: String,
        /// What a new user is called.
        name: String,
        /// The roles, at least one.
        roles: Vec<UserRole>,
        /// The serial number of the certificate: `last_serial + 1`, rejected otherwise.
        serial: u64,
    },
    /// Whether a manager that joins may.
    JudgeJoiner {
        /// Of what it presents.
        fingerprint: String,
        /// As it calls itself.
        name: String,
        /// It may.
        approved: bool,
    },
}

/// What an applied command answers to the client that asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Nothing to say but that it is done.
    Done,
    /// The service, and the generation to wait for.
    Service {
        /// Which.
        id: ServiceId,
        /// Its new generation.
        generation: Generation,
    },
    /// The cron.
    Cron {
        /// Which.
        id: CronId,
    },
    /// The network.
    Network {
        /// Which.
        id: NetworkId,
    },
    /// The node.
    Node {
        /// Which.
        id: NodeId,
        /// Its new generation.
        generation: Generation,
    },
    /// The member.
    Member {
        /// Which.
        id: MemberId,
    },
    /// The token; its text is composed by the manager that answers the client.
    Token {
        /// Which.
        id: TokenId,
        /// When it ends.
        expires: ClusterTime,
    },
    /// The user.
    User {
        /// Which.
        id: UserId,
    },
    /// The deploy token; its text is composed by the client, who has the secret.
    DeployToken {
        /// Which.
        id: DeployTokenId,
        /// When it ends.
        expires: ClusterTime,
    },
    /// The secret or config, and the services that its new version goes to.
    Item {
        /// The newest version.
        version: u64,
        /// By name.
        services: Vec<String>,
    },
}

/// Why a command was not applied. The state is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Rejection {
    /// Something of that name exists.
    #[error("{kind} \"{name}\" exists already")]
    Exists {
        /// Such as "service".
        kind: String,
        /// Its name.
        name: String,
    },
    /// There is nothing of that name or id.
    #[error("{kind} \"{name}\" does not exist")]
    Missing {
        /// Such as "service".
        kind: String,
        /// Its name or id.
        name: String,
    },
    /// It has changed since the client or the control loop looked.
    #[error(
        "{kind} \"{name}\" has changed: decided on version {expected}, now at {actual}; read it again and retry"
    )]
    Stale {
        /// Such as "service".
        kind: String,
        /// Its name or id.
        name: String,
        /// Decided on.
        expected: Generation,
        /// Now.
        actual: Generation,
    },
    /// It contradicts the present state.
    #[error("{0}")]
    Conflict(String),
    /// The token does not admit it.
    #[error("the {role} join token {id} is not accepted: {why}")]
    Token {
        /// Which.
        id: TokenId,
        /// What it was presented for.
        role: JoinRole,
        /// Unknown, used up, expired, of another role.
        why: String,
    },
    /// It is not valid.
    #[error("{0}")]
    Invalid(String),
    /// Who asked for it may not, or was not welcome any more when it was applied.
    #[error("{0}")]
    Unwelcome(String),
    /// A policy is against it.
    #[error("{0}")]
    Refused(Box<Refusal>),
}
