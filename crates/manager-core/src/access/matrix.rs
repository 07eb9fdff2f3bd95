//! Every request with who may ask it: one table, which the decision is held against in a unit test, and a running cluster, caller by
//! caller, in `cargo xtask scenario trust`.
//!
//! A new request does not compile without a name in [`Kind`], and a name not without its [`Row`]. Allowed requests of the table change nothing
//! that matters: what they name is not there, or is as they want it. Where that cannot be, a row [says so](Row::changes).
//!
//! The table speaks of this world: services `ispyb` (label `app=mx`, image [`IMAGE`], on node `n1`) and `shop` (`app=shop`, on node `n2`), node `n1` with
//! the label `line=id23`, cron `report` (`app=mx`), secrets `ispyb` (`app=mx`) and `shop` (`app=shop`), freezes `beam` (`line=id23`) and `machine` (all nodes),
//! user `viewer`, deploy token `ci`.

use std::{sync::Arc, time::Duration};

use model::{
    access::{UserChange, UserRole, UserSpec, Verb},
    binding::ExchangeRequest,
    cluster::ClusterSettings,
    cron::CronSpec,
    deployer::TokenDigest,
    freeze::{FreezeSpec, Window},
    id::{Generation, MemberId, TokenId},
    identity::{Identity, JoinRole},
    item::{FileMount, ItemKind, ItemSpec},
    job::JobPolicy,
    login::{LogInRequest, LoginMethodSpec, Password, Proof, Provider},
    network::NetworkSpec,
    node::{Availability, Facts, NodeSpec},
    registry::{RegistrySpec, Secret},
    request::{JoinRequest, NodeChange, ReenrolRequest, Request, TaskFilter},
    sealed::Clear,
    service::{Mode, RestartCondition, RolloutStep, ServiceSpec, TemplateVersion},
    session::LogOptions,
    time::ClusterTime,
};

/// What `ispyb` and `shop` run.
pub const IMAGE: &str =
    "registry.example/mx/ispyb@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
/// The join token of the row of [`Kind::Join`].
pub const JOIN_TOKEN: TokenId = TokenId(5);
/// What nothing is called.
const NOTHING: &str = "nothing";

/// Who asks. Whoever else there is (a stranger, somebody who was removed) may ask nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Caller {
    /// A user with the role admin.
    Admin,
    /// A user with the role operator.
    Operator,
    /// A user with the role `team:app=mx`.
    Team,
    /// A user with the role `beamline:line=id23`.
    Beamline,
    /// A user with the role viewer.
    Viewer,
    /// The bearer of a deploy token for `ispyb` that allows all that one can.
    Deployer,
    /// Manager 1, with its own certificate.
    Manager,
    /// Node `n1`, with its own certificate.
    Node,
    /// The bearer of [`JOIN_TOKEN`].
    Joiner,
    /// Somebody without any proof.
    Nobody,
}

impl Caller {
    /// All, with the letters that rows have for them.
    pub const ALL: [(Self, char); 10] = [
        (Self::Admin, 'A'),
        (Self::Operator, 'O'),
        (Self::Team, 'T'),
        (Self::Beamline, 'B'),
        (Self::Viewer, 'V'),
        (Self::Deployer, 'D'),
        (Self::Manager, 'M'),
        (Self::Node, 'N'),
        (Self::Joiner, 'J'),
        (Self::Nobody, 'X'),
    ];
}

/// A request and who may ask it.
#[derive(Debug, Clone)]
pub struct Row {
    /// The request's kind and, of some, what is special.
    pub name: String,
    /// The request.
    pub request: Request,
    /// The letters of those who may.
    pub allowed: &'static str,
    /// Allowed, it would change the world: only those are tried who may not.
    pub changes: bool,
}

impl Row {
    /// Whether a caller may.
    pub fn allows(&self, caller: Caller) -> bool {
        Caller::ALL.iter().any(|(of, letter)| *of == caller && self.allowed.contains(*letter))
    }

    /// Whether it brings a proof of its own, which is judged next: that of the table is a wrong one.
    pub fn is_proof(&self) -> bool {
        matches!(Kind::of(&self.request), Kind::Join | Kind::Reenrol | Kind::Exchange | Kind::LogIn)
    }
}

macro_rules! kinds {
    ($($name:ident)*) => {
        /// A request without what it holds.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "the names are those of the requests")]
        pub enum Kind { $($name,)* }

        impl Kind {
            /// All.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Of a request.
            pub fn of(request: &Request) -> Self {
                match request {
                    $(Request::$name { .. } => Self::$name,)*
                }
            }
        }
    };
}

kinds! {
    CreateService UpdateService ScaleServices RollbackService ReturnTo Deploy SteerRollout RemoveService UpdateNode RemoveNode
    CreateToken RevokeToken SetSettings TransferLeader RemoveMember ReplaceMember UpdateMember CreateNetwork RemoveNetwork SetFreeze
    RemoveFreeze SetCron RemoveCron SuspendCron RunCron SetRegistry RemoveRegistry Join RenewCertificate CreateUser UpdateUser
    RemoveUser CertifyUser ListServices GetService ListTasks ListNetworks ListFreezes ListCrons ListRegistries GetNetwork
    GetEndpoints ListNodes GetNode ListMembers ListTokens GetStatus Explain Watch Logs ListUsers Whoami CanI
    CreateDeployToken RemoveDeployToken ListDeployTokens GetAudit
    SetPolicy RemovePolicy ListPolicies CheckPolicies
    CreateItem UpdateItem RemoveItem RotateKey ListItems GetItem GetKeys
    SetIssuer RemoveIssuer CreateBinding RemoveBinding Exchange ListIssuers ListBindings
    SetLoginMethod RemoveLoginMethod LogIn ListLoginMethods ListLogins
    Reenrol JudgeJoiner ListJoiners
    RotateAuthority FinishRotation GetAuthority NoteRefusal
}

/// The table: a row for each kind, then what somebody may do to their own and not to others'.
pub fn rows() -> Vec<Row> {
    Kind::ALL.iter().map(|kind| row(*kind)).chain(foreign()).collect()
}

/// The row of a kind.
pub fn row(kind: Kind) -> Row {
    let (allowed, request) = ask(kind);
    Row { name: format!("{kind:?}"), request, allowed, changes: false }
}

/// Everybody whom the cluster knows as a person.
const PEOPLE: &str = "AOTBV";
/// Who reads: people and managers.
const READERS: &str = "AOTBVM";

fn ask(kind: Kind) -> (&'static str, Request) {
    let nothing = || NOTHING.to_owned();
    let ispyb = || "ispyb".to_owned();
    match kind {
        Kind::CreateService => ("AOT", Request::CreateService(service("ispyb", "mx").into())),
        Kind::UpdateService => ("AOT", update(service("ispyb", "mx"))),
        Kind::ScaleServices => ("AOT", Request::ScaleServices(vec![(ispyb(), 1)])),
        Kind::RollbackService => ("AOTD", Request::RollbackService(ispyb())),
        Kind::ReturnTo => {
            let release = Some(TemplateVersion(99));
            ("AOTD", Request::ReturnTo { service: ispyb(), release, note: Box::default() })
        }
        Kind::Deploy => ("AOTD", deploy("ispyb")),
        Kind::SteerRollout => ("AOT", steer(RolloutStep::Resume)),
        Kind::RemoveService => ("AOT", Request::RemoveService(nothing())),
        Kind::UpdateNode => ("AOB", drain(NOTHING)),
        Kind::RemoveNode => ("A", Request::RemoveNode { node: nothing(), force: false }),
        Kind::CreateToken => ("A", token()),
        Kind::RevokeToken => ("A", Request::RevokeToken(TokenId(99))),
        Kind::SetSettings => ("A", Request::SetSettings(ClusterSettings::default())),
        Kind::TransferLeader => ("AM", Request::TransferLeader { to: Some(MemberId(99)) }),
        Kind::RemoveMember => ("A", Request::RemoveMember(MemberId(99))),
        Kind::ReplaceMember => ("M", Request::ReplaceMember { address: String::new(), csr: String::new() }),
        Kind::UpdateMember => ("M", Request::UpdateMember { address: String::new(), version: String::new() }),
        Kind::CreateNetwork => ("AO", Request::CreateNetwork(NetworkSpec::default())),
        Kind::RemoveNetwork => ("AO", Request::RemoveNetwork(nothing())),
        Kind::SetFreeze => ("AOB", Request::SetFreeze(freeze("run", &[("line", "id23")]))),
        Kind::RemoveFreeze => ("AOB", Request::RemoveFreeze(nothing())),
        Kind::SetCron => ("AOT", Request::SetCron(cron("mx"))),
        // What is not there is nobody's: whoever has a role is told so.
        Kind::RemoveCron => (PEOPLE, Request::RemoveCron(nothing())),
        Kind::SuspendCron => ("AOT", Request::SuspendCron { name: "report".into(), suspended: true }),
        Kind::RunCron => (PEOPLE, Request::RunCron(nothing())),
        Kind::SetRegistry => ("A", Request::SetRegistry { spec: RegistrySpec::default(), check: false }),
        Kind::RemoveRegistry => ("A", Request::RemoveRegistry("nothing.example".into())),
        Kind::Join => ("JX", join()),
        Kind::RenewCertificate => ("AOTBVMN", Request::RenewCertificate { csr: String::new(), key: None }),
        Kind::CreateUser => ("A", Request::CreateUser(user())),
        Kind::UpdateUser => {
            ("A", Request::UpdateUser { user: "viewer".into(), change: UserChange::default() })
        }
        Kind::RemoveUser => ("A", Request::RemoveUser(nothing())),
        Kind::CertifyUser => ("A", Request::CertifyUser { user: "viewer".into(), csr: String::new() }),
        Kind::ListServices => (READERS, Request::ListServices),
        Kind::GetService => ("AOTBVMD", Request::GetService(ispyb())),
        Kind::ListTasks => (READERS, Request::ListTasks(TaskFilter::default())),
        Kind::ListNetworks => (READERS, Request::ListNetworks),
        Kind::ListFreezes => (READERS, Request::ListFreezes),
        Kind::ListCrons => (READERS, Request::ListCrons),
        Kind::ListRegistries => (READERS, Request::ListRegistries),
        Kind::GetNetwork => (READERS, Request::GetNetwork(nothing())),
        Kind::GetEndpoints => (READERS, Request::GetEndpoints(ispyb())),
        Kind::ListNodes => (READERS, Request::ListNodes),
        Kind::GetNode => (READERS, Request::GetNode("n2".into())),
        Kind::ListMembers => (READERS, Request::ListMembers),
        Kind::ListTokens => (READERS, Request::ListTokens),
        Kind::GetStatus => (READERS, Request::GetStatus),
        Kind::Explain => (READERS, Request::Explain(ispyb())),
        Kind::Watch => ("AOTBVMD", Request::Watch { after: None, until: None }),
        Kind::Logs => ("AOTBVMD", logs("ispyb")),
        Kind::ListUsers => (READERS, Request::ListUsers),
        Kind::Whoami => ("AOTBVMD", Request::Whoami),
        Kind::CanI => (READERS, Request::CanI { verb: Verb::Deploy, object: Some("shop".into()) }),
        Kind::CreateDeployToken => {
            let (spec, ttl, digest) = (Box::default(), Duration::from_secs(1), TokenDigest([1; 32]));
            ("A", Request::CreateDeployToken { spec, ttl, digest })
        }
        Kind::RemoveDeployToken => ("A", Request::RemoveDeployToken(nothing())),
        Kind::ListDeployTokens => (READERS, Request::ListDeployTokens),
        Kind::GetAudit => ("A", Request::GetAudit { after: 0 }),
        Kind::SetPolicy => ("A", Request::SetPolicy { spec: Box::default(), expected: None }),
        Kind::RemovePolicy => ("A", Request::RemovePolicy(nothing())),
        Kind::ListPolicies => (READERS, Request::ListPolicies),
        Kind::CheckPolicies => (READERS, Request::CheckPolicies { with: None }),
        Kind::CreateItem => {
            ("AOT", Request::CreateItem { spec: secret("ispyb", "mx"), value: Clear::new(vec![1]) })
        }
        Kind::UpdateItem => ("AOT", change_secret(NOTHING)),
        Kind::RemoveItem => ("AOT", Request::RemoveItem { kind: ItemKind::Secret, name: nothing() }),
        Kind::RotateKey => ("A", Request::RotateKey),
        Kind::ListItems => (READERS, Request::ListItems(ItemKind::Secret)),
        Kind::GetItem => (READERS, Request::GetItem { kind: ItemKind::Secret, name: "shop".into() }),
        Kind::GetKeys => (READERS, Request::GetKeys),
        Kind::SetIssuer => ("A", Request::SetIssuer(Box::default())),
        Kind::RemoveIssuer => ("A", Request::RemoveIssuer(nothing())),
        Kind::CreateBinding => ("A", Request::CreateBinding(Box::default())),
        Kind::RemoveBinding => ("A", Request::RemoveBinding(nothing())),
        Kind::Exchange => ("X", exchange()),
        Kind::ListIssuers => (READERS, Request::ListIssuers),
        Kind::ListBindings => (READERS, Request::ListBindings),
        Kind::SetLoginMethod => {
            ("A", Request::SetLoginMethod { spec: Box::new(login_method()), password: None })
        }
        Kind::RemoveLoginMethod => ("A", Request::RemoveLoginMethod(nothing())),
        Kind::LogIn => ("X", log_in()),
        Kind::ListLoginMethods => (READERS, Request::ListLoginMethods),
        Kind::ListLogins => ("AOTBVMX", Request::ListLogins),
        Kind::Reenrol => ("NX", Request::Reenrol(Box::new(reenrol()))),
        Kind::JudgeJoiner => ("A", Request::JudgeJoiner { joiner: nothing(), approve: true }),
        Kind::ListJoiners => (READERS, Request::ListJoiners),
        // The certificate is not the authority's.
        Kind::RotateAuthority => ("A", Request::RotateAuthority { current: nothing(), successor: None }),
        Kind::FinishRotation => ("A", Request::FinishRotation { current: nothing(), leave_behind: true }),
        Kind::GetAuthority => (READERS, Request::GetAuthority),
        Kind::NoteRefusal => {
            ("M", Request::NoteRefusal { who: Identity::Anonymous, source: nothing(), reason: String::new() })
        }
    }
}

/// What is there, tried by those whose it is not.
fn foreign() -> Vec<Row> {
    let row = |what: &str, allowed, request: Request, changes| {
        let name = format!("{:?} ({what})", Kind::of(&request));
        Row { name, request, allowed, changes }
    };
    let harmless = |what, allowed, request| row(what, allowed, request, false);
    let changing = |what, allowed, request| row(what, allowed, request, true);
    let shop = || "shop".to_owned();
    let label = NodeChange { set_labels: vec![("line".into(), "id23".into())], ..NodeChange::default() };
    let promoted = UserChange { roles: Some(vec![UserRole::Admin]), ..UserChange::default() };
    vec![
        harmless("another's", "AO", Request::CreateService(service("shop", "shop").into())),
        harmless("another's", "AO", update(service("shop", "shop"))),
        harmless("given away", "AO", update(service("ispyb", "shop"))),
        harmless("another's secret", "AO", update(mounting("shop"))),
        harmless("own and another's", "AO", Request::ScaleServices(vec![("ispyb".into(), 1), (shop(), 1)])),
        harmless("another's", "AO", Request::RollbackService(shop())),
        harmless("another's", "AO", deploy("shop")),
        changing("another's", "AO", Request::RemoveService(shop())),
        changing("own line", "AOB", drain("n1")),
        changing("another line", "AO", drain("n2")),
        changing("a label", "A", Request::UpdateNode { node: "n1".into(), change: label }),
        changing("that is up", "A", Request::RemoveNode { node: "n1".into(), force: true }),
        changing("itself", "AM", Request::RemoveMember(MemberId(1))),
        changing("another", "A", Request::RemoveMember(MemberId(2))),
        changing("all nodes", "AO", Request::SetFreeze(freeze("run", &[]))),
        changing("all nodes", "AO", Request::RemoveFreeze("machine".into())),
        changing("own line", "AOB", Request::RemoveFreeze("beam".into())),
        changing("given away", "AO", Request::SetCron(cron("shop"))),
        changing("a team's", "AOT", Request::RunCron("report".into())),
        changing("a team's", "AOT", Request::RemoveCron("report".into())),
        changing("to admin", "A", Request::UpdateUser { user: "viewer".into(), change: promoted }),
        changing("another", "A", Request::RemoveUser("viewer".into())),
        changing("itself", "A", Request::RemoveDeployToken("ci".into())),
        harmless("another's", READERS, Request::GetService(shop())),
        harmless("another's", "AOVM", logs("shop")),
        changing("another's", "AO", change_secret("shop")),
        changing("another's", "AO", Request::RemoveItem { kind: ItemKind::Secret, name: shop() }),
    ]
}

/// `ispyb` or `shop` as it is declared.
pub fn service(name: &str, app: &str) -> ServiceSpec {
    let labels = [("app".to_owned(), app.to_owned())].into();
    let mut spec =
        ServiceSpec { name: name.into(), labels, mode: Mode::Replicated(1), ..ServiceSpec::default() };
    spec.template.container.image = IMAGE.into();
    spec
}

/// Cron `report` as it is declared: once a year.
pub fn cron(app: &str) -> Arc<CronSpec> {
    let mut job = service("report", app);
    job.job = Some(JobPolicy::default());
    job.template.restart.condition = RestartCondition::None;
    let schedule = "1 1 1 1 *".into();
    CronSpec { name: "report".into(), schedule, job: job.into(), ..CronSpec::default() }.into()
}

/// A secret as it is declared.
pub fn secret(name: &str, app: &str) -> ItemSpec {
    let labels = [("app".to_owned(), app.to_owned())].into();
    ItemSpec { kind: ItemKind::Secret, name: name.into(), labels, template: false }
}

/// A freeze whose window is far away.
pub fn freeze(name: &str, nodes: &[(&str, &str)]) -> FreezeSpec {
    let nodes = nodes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    // 2100-01-01, for an hour.
    let from = 4_102_444_800_000_000;
    let windows = vec![Window { from: ClusterTime(from), until: ClusterTime(from + 3_600_000_000) }];
    FreezeSpec { name: name.into(), nodes, windows, reason: String::new() }
}

fn mounting(secret: &str) -> ServiceSpec {
    let mut spec = service("ispyb", "mx");
    spec.template.container.secrets = vec![FileMount { name: secret.into(), ..FileMount::default() }];
    spec
}

/// On a generation that is long gone.
fn update(spec: ServiceSpec) -> Request {
    let service = if spec.name == "shop" { "shop" } else { "ispyb" };
    Request::UpdateService { service: service.into(), expected: Generation(1), spec: spec.into() }
}

/// The image that it has.
fn deploy(service: &str) -> Request {
    Request::Deploy { service: service.into(), image: IMAGE.into(), note: Box::default() }
}

fn steer(step: RolloutStep) -> Request {
    Request::SteerRollout { service: "ispyb".into(), release: None, step }
}

fn drain(node: &str) -> Request {
    let change = NodeChange { availability: Some(Availability::Drain), ..NodeChange::default() };
    Request::UpdateNode { node: node.into(), change }
}

fn logs(of: &str) -> Request {
    Request::Logs { of: of.into(), options: LogOptions::default() }
}

fn change_secret(name: &str) -> Request {
    Request::UpdateItem { kind: ItemKind::Secret, name: name.into(), value: Clear::new(vec![1]) }
}

fn token() -> Request {
    let (role, ttl) = (JoinRole::Agent, Duration::from_secs(1));
    Request::CreateToken { role, ttl, uses: 1, node_spec: NodeSpec::default() }
}

/// A node that would come, but for its request for a certificate.
fn join() -> Request {
    Request::Join(Box::new(JoinRequest {
        role: JoinRole::Agent,
        token: JOIN_TOKEN,
        secret: vec![0; 32],
        csr: String::new(),
        facts: Facts { hostname: "n9".into(), ..Facts::default() },
        address: String::new(),
        key: None,
    }))
}

/// An ID token that is none.
fn exchange() -> Request {
    let (id_token, digest) = (Secret::new("e30.e30.e30"), TokenDigest([1; 32]));
    Request::Exchange(Box::new(ExchangeRequest { id_token, binding: None, digest, proof: None }))
}

fn login_method() -> LoginMethodSpec {
    let provider = Provider::Ldap(Box::default());
    LoginMethodSpec { name: NOTHING.into(), provider, rules: Vec::new(), life: Duration::ZERO }
}

fn log_in() -> Request {
    let proof = Proof::Password { user: "ann".into(), password: Password::new("wrong") };
    Request::LogIn(Box::new(LogInRequest { method: NOTHING.into(), proof, csr: String::new() }))
}

/// A certificate that is none.
fn reenrol() -> ReenrolRequest {
    ReenrolRequest { certificate: String::new(), csr: String::new(), serial: 0, key: None, own: true }
}

fn user() -> UserSpec {
    UserSpec { name: "x".into(), roles: vec![UserRole::Viewer], life: Duration::from_secs(60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_row_with_a_request_of_its_own() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of(&row(*kind).request), *kind);
        }
    }

    #[test]
    fn rows_name_callers_by_letters_that_there_are() {
        for row in rows() {
            let known = |letter: char| Caller::ALL.iter().any(|(_, known)| *known == letter);
            assert!(row.allowed.chars().all(known), "{}: {}", row.name, row.allowed);
        }
    }
}
