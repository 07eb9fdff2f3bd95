//! Every request against every kind of caller, as a table; and what a table cannot show: scopes that somebody tries to leave.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use model::{
    access::{Extent, UserChange, UserRole, UserSpec, Verb},
    binding::ExchangeRequest,
    cluster::{Authority, ClusterSettings, Token},
    command::{Command, Entry},
    cron::CronSpec,
    deployer::TokenDigest,
    freeze::{FreezeSpec, Window},
    id::{ClusterId, CronId, Generation, MemberId, NodeId, ServiceId, TaskId, TokenId, UserId},
    identity::{Identity, JoinRole, Role},
    item::{FileMount, ItemKind, ItemSpec, NewVersion},
    job::JobPolicy,
    login::{LogInRequest, LoginMethodSpec, Password, Proof, Provider},
    network::NetworkSpec,
    node::{Availability, Facts, Incarnation, NodeSpec},
    registry::{RegistrySpec, Secret},
    request::{ErrorCode, JoinRequest, NodeChange, ReenrolRequest, Request, TaskFilter},
    sealed::{Clear, KeyId, Sealed},
    service::{Mode, ReleaseNote, RolloutStep, ServiceSpec, Slot, TemplateVersion},
    session::LogOptions,
    task::Inheritance,
    time::ClusterTime,
};
use store::Store;

use super::{
    can,
    can::extent,
    decide,
    matrix::{self, Caller, Kind},
};

const CALLERS: [&str; 12] = [
    "admin",
    "operator",
    "viewer",
    "team:ispyb",
    "team:app=mx",
    "beamline:line=id23",
    "break-glass",
    "manager",
    "node",
    "joiner",
    "anonymous",
    "removed",
];

/// `y` allowed, `-` denied, `!` not known. In the order of [`CALLERS`].
const TABLE: &str = "
create ispyb2 app=mx            yy--y-y----!
create shop2 app=shop           yy----y----!
update ispyb                    yy-yy-y----!
update ispyb app=shop           yy----y----!
update shop                     yy----y----!
scale ispyb                     yy-yy-y----!
scale ispyb shop                yy----y----!
rollback ispyb                  yy-yy-y----!
return ispyb 1                  yy-yy-y----!
return ispyb 1 despite freeze   yy----y----!
deploy ispyb                    yy-yy-y----!
deploy ispyb despite freeze     yy----y----!
deploy shop                     yy----y----!
resume ispyb                    yy-yy-y----!
abort shop                      yy----y----!
remove ispyb                    yy-yy-y----!
remove shop                     yy----y----!
remove nothing                  yy-yy-y----!
drain n1                        yy---yy----!
drain n2                        yy----y----!
label n1                        y-----y----!
remove node n1                  y-----y----!
create token                    y-----y----!
revoke token                    y-----y----!
create deploy token             y-----y----!
remove deploy token             y-----y----!
set policy                      y-----y----!
remove policy                   y-----y----!
list policies                   yyyyyyyy---!
check policies                  yyyyyyyy---!
list deploy tokens              yyyyyyyy---!
read audit                      y-----y----!
set settings                    y-----y----!
transfer lead                   y-----yy---!
remove manager 1                y-----yy---!
remove manager 2                y-----y----!
replace manager                 -------y---!
update manager                  -------y---!
create network                  yy----y----!
remove network                  yy----y----!
freeze id23                     yy---yy----!
freeze all                      yy----y----!
freeze id23 as machine          yy----y----!
unfreeze beam                   yy---yy----!
unfreeze machine                yy----y----!
set cron report                 yy--y-y----!
set cron report app=shop        yy----y----!
remove cron report              yy--y-y----!
suspend cron report             yy--y-y----!
run cron report                 yy--y-y----!
set registry                    y-----y----!
remove registry                 y-----y----!
join                            ---------yy!
renew certificate               yyyyyyyyy--!
create user                     y-----y----!
update user                     y-----y----!
remove user                     y-----y----!
certify user                    y-----y----!
list services                   yyyyyyyy---!
get service                     yyyyyyyy---!
list tasks                      yyyyyyyy---!
list networks                   yyyyyyyy---!
list freezes                    yyyyyyyy---!
list crons                      yyyyyyyy---!
list registries                 yyyyyyyy---!
get network                     yyyyyyyy---!
get endpoints                   yyyyyyyy---!
list nodes                      yyyyyyyy---!
get node                        yyyyyyyy---!
list members                    yyyyyyyy---!
list tokens                     yyyyyyyy---!
get status                      yyyyyyyy---!
explain                         yyyyyyyy---!
watch                           yyyyyyyy---!
logs ispyb                      yyyyyyyy---!
logs shop                       yyy---yy---!
logs task on n1                 yyyyyyyy---!
list users                      yyyyyyyy---!
whoami                          yyyyyyyy---!
can-i                           yyyyyyyy---!
create deploy token             y-----y----!
remove deploy token             y-----y----!
list deploy tokens              yyyyyyyy---!
create secret ispyb2 app=mx     yy--y-y----!
update secret ispyb             yy-yy-y----!
update secret shop              yy----y----!
remove secret shop              yy----y----!
mount secret ispyb              yy-yy-y----!
mount secret shop               yy----y----!
rotate key                      y-----y----!
list secrets                    yyyyyyyy---!
get secret                      yyyyyyyy---!
get keys                        yyyyyyyy---!
set issuer                      y-----y----!
remove issuer                   y-----y----!
create deploy binding           y-----y----!
remove deploy binding           y-----y----!
exchange id token               ----------y!
list issuers                    yyyyyyyy---!
list deploy bindings            yyyyyyyy---!
re-enrol                        --------y-y!
set login method                y-----y----!
remove login method             y-----y----!
log in                          ----------y!
list login methods              yyyyyyyy---!
list logins                     yyyyyyyy--y!
judge joiner                    y-----y----!
list joiners                    yyyyyyyy---!
rotate authority                y-----y----!
finish rotation                 y-----y----!
get authority                   yyyyyyyy---!
note refusal                    -------y---!
";

struct World {
    store: Store,
    users: u64,
}

impl World {
    /// Services and secrets ispyb (app=mx, on n1) and shop (app=shop, on n2), node n1 of line=id23, node n2 of none, a cron of app=mx, a
    /// freeze of line=id23 and one of all nodes.
    fn new() -> Self {
        let mut world = Self { store: Store::new(), users: 0 };
        world.apply(Command::Bootstrap {
            cluster: ClusterId(1),
            settings: ClusterSettings::default(),
            authority: Authority::default(),
            name: "m1".into(),
            address: "m1:1".into(),
            data_key: None,
        });
        world.apply(Command::CreateToken(Token {
            id: TokenId(1),
            role: JoinRole::Agent,
            expires: ClusterTime(u64::MAX),
            uses_left: 9,
            created: ClusterTime(0),
            node_spec: NodeSpec::default(),
        }));
        for (id, labels) in [(1, vec![("line".to_owned(), "id23".to_owned())]), (2, vec![])] {
            let (node, serial) = (NodeId(id), id + 1);
            let facts = Facts { hostname: format!("n{id}"), ..Facts::default() };
            world.apply(Command::JoinNode {
                id: node,
                token: TokenId(1),
                facts: facts.clone(),
                serial,
                key: None,
            });
            let spec = NodeSpec { labels: labels.into_iter().collect(), ..NodeSpec::default() };
            world.apply(Command::UpdateNode { id: node, expected: None, spec });
            world.apply(Command::NodeUp { id: node, incarnation: Incarnation(1), facts });
        }
        for (id, name) in [(1, "ispyb"), (2, "shop")] {
            let app = if name == "shop" { "shop" } else { "mx" };
            let id = ServiceId(id);
            world.apply(Command::CreateService { id, spec: service(name, app) });
            let mut next = (*service(name, app)).clone();
            next.template.container.image = "app:2".into();
            let expected = world.store.service(id).expect("created").generation;
            world.apply(Command::UpdateService {
                id,
                expected,
                spec: next.into(),
                note: ReleaseNote::default(),
            });
            world.apply(Command::Decide(vec![model::command::Decision::CreateTask {
                id: TaskId(id.0),
                service: id,
                slot: Slot::Replica(1),
                template: TemplateVersion(2),
                node: Some(NodeId(id.0)),
                pending: None,
                inherited: Inheritance::default(),
                alongside: None,
            }]));
        }
        world.apply(Command::SetCron { id: CronId(1), spec: cron("mx"), next: None });
        world.apply(Command::AddKey { id: KeyId(1), fingerprint: 1 });
        let (address, version, key) = ("m1:1".into(), "1".into(), Some(KeyId(1)));
        world.apply(Command::UpdateMember { id: MemberId(1), address, version, key });
        world.apply(Command::UseKey { id: KeyId(1) });
        for (name, app) in [("ispyb", "mx"), ("shop", "shop")] {
            let value = Sealed { key: KeyId(1), nonce: [0; 12], bytes: vec![1].into() };
            let version = NewVersion { number: 1, value, size: 1, names: Vec::new() };
            world.apply(Command::CreateItem { spec: secret(name, app), version });
        }
        for (name, nodes) in [("beam", vec![("line", "id23")]), ("machine", vec![])] {
            world.apply(Command::SetFreeze(freeze(name, &nodes)));
        }
        world
    }

    fn apply(&mut self, command: Command) {
        let index = self.store.applied() + 1;
        let entry = Entry {
            at: ClusterTime(index),
            request: None,
            actor: Identity::Anonymous,
            command,
            origin: Default::default(),
        };
        let applied = self.store.apply(index, &entry);
        applied.outcome.expect("the fixture is right");
        assert_eq!(applied.rejected, []);
    }

    fn user(&mut self, roles: &[&str]) -> Identity {
        self.users += 1;
        let (id, name) = (UserId(self.users), format!("u{}", self.users));
        let roles = roles.iter().map(|role| role.parse().expect("a role")).collect();
        self.apply(Command::CreateUser {
            id,
            spec: UserSpec { name: name.clone(), roles, life: Duration::from_secs(60) },
        });
        Identity::User { id, name }
    }

    fn caller(&mut self, name: &str) -> Identity {
        match name {
            "break-glass" => Identity::Operator { name: "admin".into(), role: Role::Admin },
            "manager" => Identity::Manager(MemberId(1)),
            "node" => Identity::Node(NodeId(1)),
            "joiner" => Identity::Joiner(TokenId(5)),
            "anonymous" => Identity::Anonymous,
            "removed" => Identity::User { id: UserId(999), name: "gone".into() },
            role => self.user(&[role]),
        }
    }

    fn of_matrix(&mut self, caller: Caller) -> Option<Identity> {
        let name = match caller {
            Caller::Admin => "admin",
            Caller::Operator => "operator",
            Caller::Team => "team:app=mx",
            Caller::Beamline => "beamline:line=id23",
            Caller::Viewer => "viewer",
            Caller::Deployer => return None,
            Caller::Manager => "manager",
            Caller::Node => "node",
            Caller::Joiner => "joiner",
            Caller::Nobody => "anonymous",
        };
        Some(self.caller(name))
    }

    /// `y`, `-` or `!`.
    fn verdict(&self, identity: &Identity, request: &Request) -> char {
        match decide(&self.store, identity, request).map_err(|error| error.code) {
            Ok(()) => 'y',
            Err(ErrorCode::Unauthenticated) if matches!(identity, Identity::User { .. }) => '!',
            Err(ErrorCode::Denied | ErrorCode::Unauthenticated) => '-',
            Err(other) => panic!("{other:?}"),
        }
    }
}

fn service(name: &str, app: &str) -> Arc<ServiceSpec> {
    let labels = [("app".to_owned(), app.to_owned())].into();
    let mut spec =
        ServiceSpec { name: name.into(), labels, mode: Mode::Replicated(1), ..ServiceSpec::default() };
    spec.template.container.image = "app:1".into();
    spec.into()
}

fn cron(app: &str) -> Arc<CronSpec> {
    let mut job = (*service("report", app)).clone();
    job.job = Some(JobPolicy::default());
    CronSpec { name: "report".into(), schedule: "1 1 * * *".into(), job: job.into(), ..CronSpec::default() }
        .into()
}

fn freeze(name: &str, nodes: &[(&str, &str)]) -> FreezeSpec {
    let nodes = nodes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let windows = vec![Window { from: ClusterTime(1), until: ClusterTime(u64::MAX) }];
    FreezeSpec { name: name.into(), nodes, windows, reason: String::new() }
}

fn despite() -> Box<ReleaseNote> {
    Box::new(ReleaseNote { despite_freeze: Some("it burns".into()), ..ReleaseNote::default() })
}

fn update(service_name: &str, app: &str) -> Request {
    let spec = service(service_name, app);
    Request::UpdateService { service: service_name.into(), expected: Generation(1), spec }
}

fn secret(name: &str, app: &str) -> ItemSpec {
    let labels = [("app".to_owned(), app.to_owned())].into();
    ItemSpec { kind: ItemKind::Secret, name: name.into(), labels, template: false }
}

fn change_secret(name: &str) -> Request {
    Request::UpdateItem { kind: ItemKind::Secret, name: name.into(), value: Clear::default() }
}

/// Service ispyb is to mount this secret too.
fn mount(secret: &str) -> Request {
    let mut spec = (*service("ispyb", "mx")).clone();
    let mount = FileMount { name: secret.into(), ..FileMount::default() };
    spec.template.container.secrets = vec![mount];
    Request::UpdateService { service: "ispyb".into(), expected: Generation(1), spec: spec.into() }
}

fn drain(node: &str) -> Request {
    let change = NodeChange { availability: Some(Availability::Drain), ..NodeChange::default() };
    Request::UpdateNode { node: node.into(), change }
}

fn steer(service: &str, step: RolloutStep) -> Request {
    Request::SteerRollout { service: service.into(), release: None, step }
}

fn logs(of: &str) -> Request {
    Request::Logs { of: of.into(), options: LogOptions::default() }
}

/// Each row of the table as a request.
fn rows() -> Vec<(&'static str, Request)> {
    let scale =
        |names: &[&str]| Request::ScaleServices(names.iter().map(|name| ((*name).to_owned(), 2)).collect());
    let deploy =
        |service: &str, note| Request::Deploy { service: service.into(), image: "app:3".into(), note };
    let back = |note| Request::ReturnTo { service: "ispyb".into(), release: Some(TemplateVersion(1)), note };
    let label = NodeChange { set_labels: vec![("line".into(), "id23".into())], ..NodeChange::default() };
    let join = JoinRequest {
        key: None,
        role: JoinRole::Agent,
        token: TokenId(5),
        secret: Vec::new(),
        csr: String::new(),
        facts: Facts::default(),
        address: String::new(),
    };
    let user = UserSpec { name: "x".into(), roles: vec![UserRole::Admin], life: Duration::from_secs(1) };
    let csr = String::new;
    let exchange = ExchangeRequest {
        id_token: Secret::default(),
        binding: None,
        digest: TokenDigest([1; 32]),
        proof: None,
    };
    let provider = Provider::Ldap(Box::default());
    let method = LoginMethodSpec { name: "ldap".into(), provider, rules: Vec::new(), life: Duration::ZERO };
    let proof = Proof::Password { user: "ann".into(), password: Password::default() };
    vec![
        ("create ispyb2 app=mx", Request::CreateService(service("ispyb2", "mx"))),
        ("create shop2 app=shop", Request::CreateService(service("shop2", "shop"))),
        ("update ispyb", update("ispyb", "mx")),
        ("update ispyb app=shop", update("ispyb", "shop")),
        ("update shop", update("shop", "shop")),
        ("scale ispyb", scale(&["ispyb"])),
        ("scale ispyb shop", scale(&["ispyb", "shop"])),
        ("rollback ispyb", Request::RollbackService("ispyb".into())),
        ("return ispyb 1", back(Box::default())),
        ("return ispyb 1 despite freeze", back(despite())),
        ("deploy ispyb", deploy("ispyb", Box::default())),
        ("deploy ispyb despite freeze", deploy("ispyb", despite())),
        ("deploy shop", deploy("shop", Box::default())),
        ("resume ispyb", steer("ispyb", RolloutStep::Resume)),
        ("abort shop", steer("shop", RolloutStep::Abort)),
        ("remove ispyb", Request::RemoveService("ispyb".into())),
        ("remove shop", Request::RemoveService("shop".into())),
        ("remove nothing", Request::RemoveService("nothing".into())),
        ("drain n1", drain("n1")),
        ("drain n2", drain("n2")),
        ("label n1", Request::UpdateNode { node: "n1".into(), change: label }),
        ("remove node n1", Request::RemoveNode { node: "n1".into(), force: false }),
        (
            "create token",
            Request::CreateToken {
                role: JoinRole::Agent,
                ttl: Duration::from_secs(1),
                uses: 1,
                node_spec: NodeSpec::default(),
            },
        ),
        ("revoke token", Request::RevokeToken(TokenId(1))),
        (
            "create deploy token",
            Request::CreateDeployToken {
                spec: Box::default(),
                ttl: Duration::from_secs(1),
                digest: TokenDigest([1; 32]),
            },
        ),
        ("remove deploy token", Request::RemoveDeployToken("ci".into())),
        ("set policy", Request::SetPolicy { spec: Box::default(), expected: None }),
        ("remove policy", Request::RemovePolicy("images".into())),
        ("list policies", Request::ListPolicies),
        ("check policies", Request::CheckPolicies { with: None }),
        ("list deploy tokens", Request::ListDeployTokens),
        ("read audit", Request::GetAudit { after: 0 }),
        ("set settings", Request::SetSettings(ClusterSettings::default())),
        ("transfer lead", Request::TransferLeader { to: None }),
        ("remove manager 1", Request::RemoveMember(MemberId(1))),
        ("remove manager 2", Request::RemoveMember(MemberId(2))),
        ("replace manager", Request::ReplaceMember { address: String::new(), csr: csr() }),
        ("update manager", Request::UpdateMember { address: String::new(), version: String::new() }),
        ("create network", Request::CreateNetwork(NetworkSpec::default())),
        ("remove network", Request::RemoveNetwork("net".into())),
        ("freeze id23", Request::SetFreeze(freeze("run", &[("line", "id23"), ("rack", "2")]))),
        ("freeze all", Request::SetFreeze(freeze("run", &[]))),
        ("freeze id23 as machine", Request::SetFreeze(freeze("machine", &[("line", "id23")]))),
        ("unfreeze beam", Request::RemoveFreeze("beam".into())),
        ("unfreeze machine", Request::RemoveFreeze("machine".into())),
        ("set cron report", Request::SetCron(cron("mx"))),
        ("set cron report app=shop", Request::SetCron(cron("shop"))),
        ("remove cron report", Request::RemoveCron("report".into())),
        ("suspend cron report", Request::SuspendCron { name: "report".into(), suspended: true }),
        ("run cron report", Request::RunCron("report".into())),
        ("set registry", Request::SetRegistry { spec: RegistrySpec::default(), check: false }),
        ("remove registry", Request::RemoveRegistry("r".into())),
        ("join", Request::Join(Box::new(join))),
        ("renew certificate", Request::RenewCertificate { csr: csr(), key: None }),
        ("create user", Request::CreateUser(user)),
        ("update user", Request::UpdateUser { user: "u1".into(), change: UserChange::default() }),
        ("remove user", Request::RemoveUser("u1".into())),
        ("certify user", Request::CertifyUser { user: "u1".into(), csr: csr() }),
        ("list services", Request::ListServices),
        ("get service", Request::GetService("shop".into())),
        ("list tasks", Request::ListTasks(TaskFilter::default())),
        ("list networks", Request::ListNetworks),
        ("list freezes", Request::ListFreezes),
        ("list crons", Request::ListCrons),
        ("list registries", Request::ListRegistries),
        ("get network", Request::GetNetwork("net".into())),
        ("get endpoints", Request::GetEndpoints("shop".into())),
        ("list nodes", Request::ListNodes),
        ("get node", Request::GetNode("n2".into())),
        ("list members", Request::ListMembers),
        ("list tokens", Request::ListTokens),
        ("get status", Request::GetStatus),
        ("explain", Request::Explain("shop".into())),
        ("watch", Request::Watch { after: None, until: None }),
        ("logs ispyb", logs("ispyb")),
        ("logs shop", logs("shop")),
        ("logs task on n1", logs("ispyb.1")),
        ("list users", Request::ListUsers),
        ("whoami", Request::Whoami),
        ("can-i", Request::CanI { verb: Verb::Deploy, object: Some("shop".into()) }),
        (
            "create deploy token",
            Request::CreateDeployToken {
                spec: Box::default(),
                ttl: Duration::from_secs(1),
                digest: TokenDigest([1; 32]),
            },
        ),
        ("remove deploy token", Request::RemoveDeployToken("ci".into())),
        ("list deploy tokens", Request::ListDeployTokens),
        (
            "create secret ispyb2 app=mx",
            Request::CreateItem { spec: secret("ispyb2", "mx"), value: Clear::default() },
        ),
        ("update secret ispyb", change_secret("ispyb")),
        ("update secret shop", change_secret("shop")),
        ("remove secret shop", Request::RemoveItem { kind: ItemKind::Secret, name: "shop".into() }),
        ("mount secret ispyb", mount("ispyb")),
        ("mount secret shop", mount("shop")),
        ("rotate key", Request::RotateKey),
        ("list secrets", Request::ListItems(ItemKind::Secret)),
        ("get secret", Request::GetItem { kind: ItemKind::Secret, name: "shop".into() }),
        ("get keys", Request::GetKeys),
        ("set issuer", Request::SetIssuer(Box::default())),
        ("remove issuer", Request::RemoveIssuer("gitlab".into())),
        ("create deploy binding", Request::CreateBinding(Box::default())),
        ("remove deploy binding", Request::RemoveBinding("ci".into())),
        ("exchange id token", Request::Exchange(Box::new(exchange))),
        ("list issuers", Request::ListIssuers),
        ("list deploy bindings", Request::ListBindings),
        (
            "re-enrol",
            Request::Reenrol(Box::new(ReenrolRequest {
                certificate: String::new(),
                csr: csr(),
                serial: 0,
                key: None,
                own: true,
            })),
        ),
        ("set login method", Request::SetLoginMethod { spec: Box::new(method), password: None }),
        ("remove login method", Request::RemoveLoginMethod("ldap".into())),
        ("log in", Request::LogIn(Box::new(LogInRequest { method: "ldap".into(), proof, csr: csr() }))),
        ("list login methods", Request::ListLoginMethods),
        ("list logins", Request::ListLogins),
        ("judge joiner", Request::JudgeJoiner { joiner: "m2".into(), approve: true }),
        ("list joiners", Request::ListJoiners),
        ("rotate authority", Request::RotateAuthority { current: String::new(), successor: None }),
        ("finish rotation", Request::FinishRotation { current: String::new(), leave_behind: false }),
        ("get authority", Request::GetAuthority),
        (
            "note refusal",
            Request::NoteRefusal { who: Identity::Anonymous, source: String::new(), reason: String::new() },
        ),
    ]
}

#[test]
fn every_request_is_decided_as_the_table_says_for_every_kind_of_caller() {
    let mut world = World::new();
    let callers = CALLERS.map(|name| world.caller(name));
    let rows = rows();
    let line = |(name, request): &(&str, Request)| {
        let verdicts: String = callers.iter().map(|caller| world.verdict(caller, request)).collect();
        format!("{name:<32}{verdicts}")
    };
    let found: Vec<String> = rows.iter().map(line).collect();
    assert_eq!(found.join("\n"), TABLE.trim(), "callers: {CALLERS:?}");
    let tried: BTreeSet<_> = rows.iter().map(|(_, request)| Kind::of(request)).collect();
    let missing: Vec<_> = Kind::ALL.iter().filter(|kind| !tried.contains(*kind)).collect();
    assert!(missing.is_empty(), "requests without a row: {missing:?}");
}

#[test]
fn the_matrix_that_a_running_cluster_is_held_against_is_what_the_decision_says() {
    let mut world = World::new();
    // Deployers are decided elsewhere.
    let callers: Vec<_> =
        Caller::ALL.iter().filter_map(|(caller, _)| Some((*caller, world.of_matrix(*caller)?))).collect();
    let mut wrong = Vec::new();
    for row in matrix::rows() {
        for (caller, identity) in &callers {
            let allowed = world.verdict(identity, &row.request) == 'y';
            if allowed != row.allows(*caller) {
                wrong.push(format!("{} by {caller:?}: {allowed}", row.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_team_takes_no_service_into_or_out_of_the_scope_of_another_team() {
    let mut world = World::new();
    let ann = world.user(&["team:ispyb"]);
    let both = world.user(&["team:ispyb", "team:app=mx"]);
    assert_eq!(world.verdict(&ann, &update("ispyb", "mx")), 'y');
    assert_eq!(
        world.verdict(&ann, &update("ispyb", "other")),
        '-',
        "it leaves team:app=mx, which is not ann's"
    );
    assert_eq!(world.verdict(&both, &update("ispyb", "other")), 'y', "it stays theirs by its name");
    world.user(&["team:app=other"]);
    assert_eq!(world.verdict(&both, &update("ispyb", "other")), '-', "it would come into another team's");
    world.user(&["team:portal"]);
    let mx = world.user(&["team:app=mx"]);
    let create = |name| Request::CreateService(service(name, "mx"));
    assert_eq!(world.verdict(&mx, &create("fresh")), 'y');
    assert_eq!(world.verdict(&mx, &create("portal")), '-', "the name is another team's");
}

#[test]
fn a_way_back_is_judged_by_the_declaration_that_it_leads_to() {
    let mut world = World::new();
    let mx = world.user(&["team:app=mx"]);
    // An admin gave shop to the team; before, it was not theirs.
    let service_id = ServiceId(2);
    let expected = world.store.service(service_id).expect("there").generation;
    let spec = service("shop", "mx");
    world.apply(Command::UpdateService { id: service_id, expected, spec, note: ReleaseNote::default() });
    let deploy = Request::Deploy { service: "shop".into(), image: "app:9".into(), note: Box::default() };
    assert_eq!(world.verdict(&mx, &deploy), 'y');
    for request in [Request::RollbackService("shop".into()), steer("shop", RolloutStep::Abort)] {
        assert_eq!(world.verdict(&mx, &request), '-', "{request:?} would take it away from them");
    }
}

#[test]
fn roles_add_up_and_a_disabled_user_has_none() {
    let mut world = World::new();
    let user = world.user(&["team:ispyb", "beamline:line=id23", "viewer"]);
    for (request, expected) in [
        (drain("n1"), 'y'),
        (drain("n2"), '-'),
        (update("ispyb", "mx"), 'y'),
        (logs("shop"), 'y'),
        (Request::RemoveUser("u1".into()), '-'),
    ] {
        assert_eq!(world.verdict(&user, &request), expected, "{request:?}");
    }
    let Identity::User { id, .. } = user else { panic!("a user") };
    let change = UserChange { disabled: Some(true), ..UserChange::default() };
    world.apply(Command::UpdateUser { id, change });
    assert_eq!(world.verdict(&user, &Request::ListServices), '!');
}

#[test]
fn a_refusal_says_which_role_it_takes_and_whom_to_ask() {
    let mut world = World::new();
    let (viewer, admin) = (world.user(&["viewer"]), world.user(&["admin"]));
    let refusal = decide(&world.store, &viewer, &update("ispyb", "mx")).expect_err("may only read");
    for word in ["user u1", "role viewer", "update \"ispyb\"", "team:ispyb", "u2"] {
        assert!(refusal.message.contains(word), "{word}: {refusal}");
    }
    assert!(decide(&world.store, &admin, &update("ispyb", "mx")).is_ok());
}

#[test]
fn can_i_without_an_object_and_with_one_agree_with_the_decision() {
    let mut world = World::new();
    // An object of their own, and one of nobody's, for each verb.
    let objects = |verb: Verb| match verb {
        Verb::Create => ("app=mx", "app=shop"),
        Verb::Drain => ("n1", "n2"),
        Verb::Freeze => ("line=id23", "line=id1"),
        Verb::Logs => ("ispyb", "shop"),
        _ => ("ispyb", "shop"),
    };
    for role in ["admin", "operator", "viewer", "team:app=mx", "beamline:line=id23"] {
        let user = world.user(&[role]);
        let roles: Vec<UserRole> = vec![role.parse().expect("a role")];
        for verb in Verb::ALL {
            let ask = |object| can(&world.store, &user, *verb, object).expect("decided").allowed;
            let (own, foreign) = objects(*verb);
            let expected = match extent(&roles, *verb) {
                Extent::All => (true, true, true),
                Extent::Only(_) => (true, true, false),
                Extent::Nothing => (false, false, false),
            };
            assert_eq!((ask(None), ask(Some(own)), ask(Some(foreign))), expected, "{role} {verb}");
        }
    }
    let missing = can(&world.store, &Identity::Manager(MemberId(1)), Verb::Deploy, Some("nothing"));
    assert_eq!(missing.expect_err("there is none").code, ErrorCode::NotFound);
}
