//! What is answered: the objects as people see them.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::{
    access::{User, Verdict, Whoami},
    audit,
    binding::Binding,
    cluster::{ClusterSettings, Member, Token},
    command::Answer,
    cron::Cron,
    deployer::DeployTokenView,
    event::{Event, Revision},
    freeze::{Freeze, Window},
    id::{ClusterId, MemberId, NodeId, TaskId},
    identity::Identity,
    issuer::IssuerView,
    item::ItemSpec,
    login::{LoginMethodSpec, LoginOffer},
    network::Network,
    node::{Node, NodeState},
    policy::{Policy, Refusal},
    registry::LoginKind,
    route::IngressPort,
    sealed::{Clear, KeyId},
    service::{Service, Slot},
    task::Task,
    time::ClusterTime,
};

/// A member as `manager ls` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The record.
    pub member: Member,
    /// Votes, or still a learner.
    pub voter: bool,
    /// Leads.
    pub leader: bool,
    /// The leader heard from it within the last election timeout.
    pub reachable: bool,
    /// How far its log is known to reach.
    pub matched: u64,
}

/// Something that waits, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Such as "service ispyb slot 3".
    pub what: String,
    /// Why, in words.
    pub why: String,
    /// Since when.
    pub since: ClusterTime,
}

/// `orchctl status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The cluster.
    pub cluster: ClusterId,
    /// The settings.
    pub settings: ClusterSettings,
    /// Who answered.
    pub answered_by: MemberId,
    /// Who leads; `None` = nobody known.
    pub leader: Option<MemberId>,
    /// The term.
    pub term: u64,
    /// The applied index of who answered.
    pub applied: u64,
    /// Its time at that index.
    pub time: ClusterTime,
    /// Members.
    pub members: Vec<MemberStatus>,
    /// Nodes ready, of all.
    pub nodes_ready: (u32, u32),
    /// Services.
    pub services: u32,
    /// Tasks running, of those wanted.
    pub tasks_running: (u32, u32),
    /// What waits.
    pub waiting: Vec<Waiting>,
}

/// A service with the tasks that matter to its reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// The service.
    pub service: Service,
    /// Its tasks, ended ones included.
    pub tasks: Vec<Task>,
    /// The nodes of these tasks; managers of before do not say them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<TaskNode>,
    /// Tasks wanted; managers of before do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<u32>,
}

/// A node as the reader of a service needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskNode {
    /// Which.
    pub id: NodeId,
    /// Its host's name.
    pub name: String,
    /// Whether it is up.
    pub state: NodeState,
    /// A window of a freeze is open for it.
    pub frozen: bool,
}

/// A node with its tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeView {
    /// The node.
    pub node: Node,
    /// Its tasks.
    pub tasks: Vec<Task>,
    /// Reserved by them: thousandths of a core, bytes.
    pub reserved: (u64, u64),
}

/// A service in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRow {
    /// The service.
    pub service: Service,
    /// Tasks that are healthy.
    pub healthy: u32,
    /// Tasks that run.
    pub running: u32,
    /// Tasks wanted.
    pub wanted: u32,
    /// Tasks that completed.
    #[serde(default)]
    pub completed: u32,
}

/// A network and who is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkView {
    /// The network.
    pub network: Network,
    /// The services in it, by name, each with its address.
    pub services: Vec<(String, Ipv4Addr)>,
    /// The nodes that run a task in it.
    pub nodes: u32,
}

/// A freeze and what it means now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeView {
    /// The freeze.
    pub freeze: Freeze,
    /// The nodes that it covers, with their names.
    pub nodes: Vec<(NodeId, String)>,
    /// When the window that is open now ends.
    pub open_until: Option<ClusterTime>,
    /// The next one after it.
    pub next: Option<Window>,
}

/// A registry as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryView {
    /// `host` or `host:port`.
    pub host: String,
    /// Whether there is a login, and of which kind.
    pub login: Option<LoginKind>,
    /// Certificates of its own authorities, PEM.
    pub authority: Option<String>,
    /// It speaks plain HTTP.
    pub plain_http: bool,
    /// Who declared it.
    pub by: Identity,
    /// When.
    pub set: ClusterTime,
    /// What it said when the leader last asked it; `None`: this leader has not asked yet, or this manager does not lead.
    #[serde(default)]
    pub said: Option<RegistrySaid>,
    /// Services with an image of it, by name.
    #[serde(default)]
    pub services: Vec<String>,
}

/// Something that runs, and that would be refused if it came today.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyVerdict {
    /// Such as "service web" or "cron sync".
    pub what: String,
    /// Why.
    pub refusal: Refusal,
}

/// What a registry last said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrySaid {
    /// When.
    pub at: ClusterTime,
    /// What is wrong with it; `None`: it answers.
    pub problem: Option<String>,
}

/// One task of a service as traffic sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRow {
    /// Which.
    pub task: TaskId,
    /// Which place of the service.
    pub slot: Slot,
    /// Its node's name, empty without one.
    pub node: String,
    /// Takes new connections and requests.
    pub ready: bool,
    /// Why it does not, in words; empty when it does.
    pub why: String,
    /// Its addresses in the service's networks.
    pub addresses: Vec<Ipv4Addr>,
}

/// How a service is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointsView {
    /// Its name.
    pub service: String,
    /// What it publishes on the ingress nodes.
    pub ports: Vec<IngressPort>,
    /// Its networks, each with its address there.
    pub addresses: Vec<(String, Ipv4Addr)>,
    /// Its tasks, ended ones left out.
    pub endpoints: Vec<EndpointRow>,
    /// Ingress nodes that are up, by name, each with the address of its mesh if it can be dialled.
    pub ingress: Vec<(String, Option<String>)>,
    /// Nodes that are connected and have not said yet that they go by the newest routes, by name.
    pub behind: Vec<String>,
}

/// One log stream that the answer consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSource {
    /// The stream; `None` when the node is away.
    pub stream: Option<u64>,
    /// Whose lines.
    pub task: TaskId,
    /// `ispyb.3`, for prefixes.
    pub label: String,
    /// Which node.
    pub node: String,
    /// Why there is no stream.
    pub missing: Option<String>,
}

/// What a client is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// A change was committed and applied.
    Changed {
        /// What it answered.
        answer: Answer,
        /// The log index; a stale read at or after it sees the change.
        index: u64,
    },
    /// A new token; the only time its secret is shown.
    Token {
        /// The token's whole text.
        text: String,
        /// When it ends.
        expires: ClusterTime,
    },
    /// A signed certificate and who it names.
    Joined {
        /// The certificate, PEM.
        certificate: String,
        /// The authority's certificate, PEM.
        authority: String,
        /// The cluster.
        cluster: ClusterId,
        /// The node, for an agent.
        node: Option<NodeId>,
        /// The member, for a manager.
        member: Option<MemberId>,
        /// All members.
        managers: Vec<crate::session::ManagerAddress>,
        /// Where the addresses of networks come from, for an agent to compare with its machine's; managers of before do not say it.
        #[serde(default)]
        pool: Option<crate::network::AddressPool>,
    },
    /// A list, and whether it may be stale.
    Services(Vec<ServiceRow>),
    /// One service.
    Service(Box<ServiceView>),
    /// Tasks, with the names of their services and nodes in the same order.
    Tasks(Vec<TaskRow>),
    /// Networks.
    Networks(Vec<NetworkView>),
    /// Freezes.
    Freezes(Vec<FreezeView>),
    /// Crons.
    Crons(Vec<Cron>),
    /// Registries.
    Registries(Vec<RegistryView>),
    /// Policies.
    Policies(Vec<Policy>),
    /// What would be refused today.
    PolicyCheck(Vec<PolicyVerdict>),
    /// How a service is reached.
    Endpoints(Box<EndpointsView>),
    /// Nodes.
    Nodes(Vec<NodeView>),
    /// One node.
    Node(Box<NodeView>),
    /// Members.
    Members(Vec<MemberStatus>),
    /// Tokens.
    Tokens(Vec<Token>),
    /// Status.
    Status(Box<ClusterStatus>),
    /// Sentences, the most telling first.
    Explanation(Vec<String>),
    /// The next events of a watch, in order, without a gap.
    Events(Vec<Event>),
    /// The watch cannot go on from where it was (the history is bounded): read the state again, then watch from here.
    Resync {
        /// Where the stream stands now.
        at: Revision,
    },
    /// The watch ends: all events up to the index that it asked for were sent, and none beyond.
    EventsEnd,
    /// Where the logs come from.
    LogPlan(Vec<LogSource>),
    /// Users.
    Users(Vec<User>),
    /// Who the caller is.
    Whoami(Box<Whoami>),
    /// Whether the caller may.
    Verdict(Verdict),
    /// Deploy tokens.
    DeployTokens(Vec<DeployTokenView>),
    /// A part of the audit.
    Audit(Box<audit::Page>),
    /// Secrets or configs.
    Items(Vec<ItemView>),
    /// One secret or config.
    Item(Box<ItemView>),
    /// The data keys.
    Keys(KeysView),
    /// Issuers of ID tokens.
    Issuers(Vec<IssuerView>),
    /// Deploy bindings.
    Bindings(Vec<Binding>),
    /// Login methods.
    LoginMethods(Vec<LoginMethodView>),
    /// How one can log in.
    Logins(Vec<LoginOffer>),
    /// Managers that wait to be approved.
    Joiners(Vec<JoinerView>),
    /// The cluster's authority.
    Authority(Box<AuthorityView>),
    /// To a manager that joins: it waits to be approved, and asks again.
    Waits {
        /// What the administrator sees of it.
        fingerprint: String,
    },
}

/// A login method as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginMethodView {
    /// The declaration.
    pub spec: LoginMethodSpec,
    /// Who declared it.
    pub by: Identity,
    /// When.
    pub set: ClusterTime,
    /// Users that came by it and are let in.
    pub users: u32,
    /// What the leader last heard from who judges its proofs; `None`: it has not asked yet.
    pub said: Option<RegistrySaid>,
}

/// A manager that waits to be approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinerView {
    /// As it calls itself.
    pub name: String,
    /// Where it says that it is reached.
    pub address: String,
    /// Of what it presents; it shows the same on its side.
    pub fingerprint: String,
    /// From where it asks.
    pub source: Option<String>,
    /// Since when, as far as the present leader knows.
    pub since: ClusterTime,
}

/// The cluster's authority as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityView {
    /// Its certificate, PEM.
    pub certificate: String,
    /// Those that it has replaced, the last one first.
    pub former: Vec<FormerView>,
    /// Managers with a certificate of a former one that counts still, by name.
    pub managers: Vec<String>,
    /// Nodes with such a certificate.
    pub nodes: Vec<NodeBehind>,
    /// Deploy tokens that were made before the rotation that is under way, by name: they name the former authority.
    pub deploy_tokens: Vec<String>,
}

/// An authority that was replaced, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerView {
    /// Its certificate, PEM.
    pub certificate: String,
    /// When it was replaced.
    pub replaced: ClusterTime,
    /// What it has issued counts still.
    pub trusted: bool,
}

/// A node with a certificate of a former authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeBehind {
    /// Its name.
    pub name: String,
    /// Whether it is there to get another one.
    pub state: NodeState,
    /// After the rotation it can come back by proof of its key; otherwise it needs a join token.
    pub returns: bool,
}

/// A secret or config as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemView {
    /// The declaration.
    pub spec: ItemSpec,
    /// Kept versions, the newest last.
    pub versions: Vec<ItemVersionView>,
    /// When it was created.
    pub created: ClusterTime,
    /// When it got its newest version.
    pub updated: ClusterTime,
    /// The newest value, of a config that was asked for by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Clear>,
}

/// A version of a secret or config as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemVersionView {
    /// From 1.
    pub number: u64,
    /// Bytes of the value.
    pub size: u32,
    /// Who brought it.
    pub by: Identity,
    /// When.
    pub at: ClusterTime,
    /// Services and crons that mount it now, by name.
    pub mounted_by: Vec<String>,
    /// Services with a kept release that mounts it.
    pub kept_for: Vec<String>,
}

/// The data keys as they are shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysView {
    /// What things are sealed with; 0: there is none yet.
    pub active: KeyId,
    /// When it was made.
    pub made: Option<ClusterTime>,
    /// The one that is to follow.
    pub next: Option<KeyId>,
    /// Values that are still sealed with an older one.
    pub behind: u32,
    /// What the next key, or the values, wait for; empty when they wait for nothing.
    pub waits: String,
}

/// A task in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRow {
    /// The task.
    pub task: Task,
    /// Its service's name.
    pub service: String,
    /// Its node's name, empty without one.
    pub node: String,
    /// Whether its node is down, so that what it last said may not be so any more.
    #[serde(default)]
    pub node_down: bool,
    /// Its image, as declared.
    pub image: String,
}

/// An answer with what a client must know about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The answer.
    pub response: Response,
    /// The applied index that it reflects.
    pub index: u64,
    /// True when it may miss acknowledged writes.
    pub stale: bool,
}
