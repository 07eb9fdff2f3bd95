//! Bearers of deploy tokens: what they may ask, what they are shown, and when their streams end.

use std::time::Duration;

use manager_core::{RegistryAnswer, RegistryQuestion, RegistryWord};
use model::{
    command::Answer,
    deployer::{DeployTokenSpec, DeployVerb, TokenDigest},
    event::EventKind,
    freeze::FreezeSpec,
    id::{DeployTokenId, Generation},
    identity::{Identity, JoinRole},
    node::NodeSpec,
    registry::RegistrySpec,
    request::{Consistency, ErrorCode, NodeChange, Request, Response, TaskFilter},
    service::{CanaryPolicy, Promotion, ReleaseNote, RolloutStep, ServiceSpec, Share, TemplateVersion},
    session::LogOptions,
};

use crate::world::{CSR, ONE, World, admin, spec};

const TTL: Duration = Duration::from_secs(3_600);

fn grant(allow: &[DeployVerb]) -> DeployTokenSpec {
    DeployTokenSpec {
        name: "ci".into(),
        service: "web".into(),
        image: "reg.example/web".into(),
        allow: allow.iter().copied().collect(),
    }
}

fn token_of(world: &mut World, spec: DeployTokenSpec, ttl: Duration) -> Identity {
    let digest = TokenDigest([7; 32]);
    let name = spec.name.clone();
    match world.admin(Request::CreateDeployToken { spec: Box::new(spec), ttl, digest }) {
        Response::Changed { answer: Answer::DeployToken { id, .. }, .. } => {
            Identity::Deployer { id, name, job: None }
        }
        other => panic!("{other:?}"),
    }
}

fn token(world: &mut World, ttl: Duration) -> Identity {
    token_of(world, grant(&DeployVerb::ALL), ttl)
}

fn service(name: &str, image: &str) -> ServiceSpec {
    let mut spec = spec(name, 1);
    spec.template.container.image = image.into();
    spec.template.container.env.insert("PASSWORD".into(), "hunter2".into());
    spec
}

fn with_services(mut world: World) -> World {
    world.admin(Request::CreateService(service("web", "reg.example/web:1").into()));
    world.admin(Request::CreateService(service("api", "reg.example/web:1").into()));
    world
}

fn digest(letter: char) -> String {
    format!("reg.example/web@sha256:{}", letter.to_string().repeat(64))
}

fn deploy(service: &str, image: &str, note: ReleaseNote) -> Request {
    Request::Deploy { service: service.into(), image: image.into(), note: Box::new(note) }
}

fn watch() -> Request {
    Request::Watch { after: None, until: None }
}

fn logs(of: &str) -> Request {
    Request::Logs { of: of.into(), options: LogOptions::default() }
}

/// Every request, and what a token that allows all of its service says to it: `None` = it goes on.
fn table() -> Vec<(Request, Option<&'static str>)> {
    let plain = ReleaseNote::default;
    let node_change = NodeChange::default();
    let settings = model::cluster::ClusterSettings::default();
    let cron = model::cron::CronSpec {
        name: "sync".into(),
        schedule: "12 4 * * *".into(),
        zone: "Europe/Paris".into(),
        job: {
            let mut job = spec("sum", 1);
            job.job = Some(model::job::JobPolicy::default());
            job.into()
        },
        ..model::cron::CronSpec::default()
    };
    let freeze = FreezeSpec {
        name: "beam".into(),
        windows: vec![model::freeze::Window {
            from: model::time::ClusterTime(1),
            until: model::time::ClusterTime(u64::MAX),
        }],
        ..FreezeSpec::default()
    };
    let registry = RegistrySpec { host: "reg.example".into(), ..RegistrySpec::default() };
    let update = Request::UpdateService {
        service: "web".into(),
        expected: Generation(1),
        spec: service("web", &digest('b')).into(),
    };
    let issuer = model::issuer::IssuerSpec {
        name: "gitlab".into(),
        url: "https://gitlab.example".into(),
        audience: "orch.example".into(),
        authority: None,
    };
    let binding = model::binding::BindingSpec {
        name: "ci".into(),
        service: "web".into(),
        image: "reg.example/web".into(),
        allow: DeployVerb::ALL.into(),
        issuer: "gitlab".into(),
        project_id: 42,
        ref_name: "main".into(),
        ..model::binding::BindingSpec::default()
    };
    let exchange = model::binding::ExchangeRequest {
        id_token: model::registry::Secret::default(),
        binding: None,
        digest: TokenDigest([1; 32]),
        proof: None,
    };
    let steer = |step| Request::SteerRollout { service: "web".into(), release: None, step };
    let back =
        |service: &str, release| Request::ReturnTo { service: service.into(), release, note: Box::default() };
    let canary =
        CanaryPolicy { replicas: Share::Count(1), soak: Duration::ZERO, promotion: Promotion::Automatic };
    vec![
        (deploy("web", &digest('a'), plain()), None),
        (deploy("web", &digest('a'), ReleaseNote { canary: Some(canary), ..plain() }), None),
        (deploy("web", &digest('a'), ReleaseNote { at_next_window: true, ..plain() }), None),
        (
            deploy("web", &digest('a'), ReleaseNote { despite_freeze: Some("now".into()), ..plain() }),
            Some("freeze"),
        ),
        (deploy("api", &digest('a'), plain()), Some("no other")),
        (deploy("ghost", &digest('a'), plain()), Some("no other")),
        (deploy("web", "reg.example/web:latest", plain()), Some("tomorrow")),
        (deploy("web", "reg.example/web", plain()), Some("tomorrow")),
        (deploy("web", "reg.example/api:1", plain()), Some("none of them")),
        (back("web", None), None),
        (back("web", Some(TemplateVersion(1))), None),
        (back("api", None), Some("no other")),
        (Request::RollbackService("web".into()), None),
        (Request::RollbackService("api".into()), Some("no other")),
        (steer(RolloutStep::Abort), None),
        (steer(RolloutStep::Pause), Some("promote")),
        (steer(RolloutStep::Resume), Some("promote")),
        (steer(RolloutStep::Promote), Some("promote")),
        (Request::GetService("web".into()), None),
        (Request::GetService("api".into()), Some("no other")),
        (Request::GetService("ghost".into()), Some("no other")),
        (watch(), None),
        (logs("web"), None),
        (logs("web.1"), None),
        (logs("api"), Some("no other")),
        (logs("api.1"), Some("no other")),
        (logs("ghost"), Some("no other")),
        (update, Some("anything but the image")),
        (Request::CreateService(spec("mine", 1).into()), Some("create services")),
        (Request::ScaleServices(vec![("web".into(), 9)]), Some("scale")),
        (Request::RemoveService("web".into()), Some("remove")),
        (Request::UpdateNode { node: "n".into(), change: node_change }, Some("nodes")),
        (Request::RemoveNode { node: "n".into(), force: true }, Some("nodes")),
        (
            Request::CreateToken { role: JoinRole::Agent, ttl: TTL, uses: 1, node_spec: NodeSpec::default() },
            Some("join tokens"),
        ),
        (Request::RevokeToken(model::id::TokenId(1)), Some("join tokens")),
        (
            Request::CreateDeployToken {
                spec: Box::new(grant(&DeployVerb::ALL)),
                ttl: TTL,
                digest: TokenDigest([1; 32]),
            },
            Some("deploy tokens"),
        ),
        (Request::RemoveDeployToken("ci".into()), Some("deploy tokens")),
        (
            Request::CreateUser(model::access::UserSpec {
                name: "me".into(),
                roles: vec![model::access::UserRole::Admin],
                life: TTL,
            }),
            Some("users"),
        ),
        (Request::UpdateUser { user: "ann".into(), change: Default::default() }, Some("users")),
        (Request::RemoveUser("ann".into()), Some("users")),
        (Request::CertifyUser { user: "ann".into(), csr: CSR.into() }, Some("users")),
        (Request::ListUsers, Some("users")),
        (Request::SetPolicy { spec: Box::default(), expected: None }, Some("policies")),
        (Request::RemovePolicy("images".into()), Some("policies")),
        (Request::ListPolicies, Some("policies")),
        (Request::CheckPolicies { with: None }, Some("policies")),
        (Request::Whoami, None),
        (Request::CanI { verb: model::access::Verb::Deploy, object: None }, Some("roles")),
        (Request::SetSettings(settings), Some("settings")),
        (Request::TransferLeader { to: None }, Some("managers")),
        (Request::RemoveMember(ONE), Some("managers")),
        (Request::ReplaceMember { address: "m:1".into(), csr: CSR.into() }, Some("managers")),
        (Request::UpdateMember { address: "m:1".into(), version: "9".into() }, Some("managers")),
        (
            Request::CreateNetwork(model::network::NetworkSpec { name: "n".into(), ..Default::default() }),
            Some("networks"),
        ),
        (Request::RemoveNetwork("shop".into()), Some("networks")),
        (Request::SetFreeze(freeze), Some("freezes")),
        (Request::RemoveFreeze("beam".into()), Some("freezes")),
        (Request::SetCron(cron.into()), Some("crons")),
        (Request::RemoveCron("sync".into()), Some("crons")),
        (Request::SuspendCron { name: "sync".into(), suspended: true }, Some("crons")),
        (Request::RunCron("sync".into()), Some("crons")),
        (Request::SetRegistry { spec: registry, check: false }, Some("registries")),
        (Request::RemoveRegistry("reg.example".into()), Some("registries")),
        (Request::RenewCertificate { csr: CSR.into(), key: None }, Some("certificate")),
        (Request::ListServices, Some("list services")),
        (
            Request::ListTasks(TaskFilter { service: Some("web".into()), ..TaskFilter::default() }),
            Some("list tasks"),
        ),
        (Request::ListNetworks, Some("networks")),
        (Request::GetNetwork("shop".into()), Some("networks")),
        (Request::ListFreezes, Some("freezes")),
        (Request::ListCrons, Some("crons")),
        (Request::ListRegistries, Some("registries")),
        (
            Request::SetLoginMethod { spec: Box::new(crate::logins::method()), password: None },
            Some("login methods"),
        ),
        (Request::ListLoginMethods, Some("login methods")),
        (Request::GetEndpoints("web".into()), Some("endpoints")),
        (Request::ListNodes, Some("nodes")),
        (Request::GetNode("n".into()), Some("nodes")),
        (Request::ListMembers, Some("managers")),
        (Request::ListTokens, Some("join tokens")),
        (Request::ListDeployTokens, Some("deploy tokens")),
        (Request::SetIssuer(Box::new(issuer)), Some("issuers")),
        (Request::RemoveIssuer("gitlab".into()), Some("issuers")),
        (Request::CreateBinding(Box::new(binding)), Some("deploy bindings")),
        (Request::RemoveBinding("ci".into()), Some("deploy bindings")),
        (Request::Exchange(Box::new(exchange)), Some("ID token")),
        (Request::ListIssuers, Some("issuers")),
        (Request::ListBindings, Some("deploy bindings")),
        (Request::GetStatus, Some("status of the cluster")),
        (Request::Explain("web".into()), Some("why")),
    ]
}

#[test]
fn every_request_is_answered_as_the_table_says_and_a_refusal_changes_nothing() {
    let mut world = with_services(World::new(51));
    let bearer = token(&mut world, TTL);
    for (request, refusal) in table() {
        let before = world.store(ONE).objects_hash();
        let request_id = 1 + world.roll(u64::MAX);
        let handle = world.ask(ONE, bearer.clone(), Some(request_id), request.clone());
        world.until("it is answered", |world| world.answer(handle).is_some());
        let answer = world.answer(handle).cloned().expect("answered");
        match (refusal, answer) {
            (Some(why), Err(error)) => {
                assert_eq!(error.code, ErrorCode::Denied, "{request:?}: {error}");
                assert!(error.message.contains(why), "{request:?} says {why:?}: {error}");
                assert!(error.message.contains("ask an administrator"), "{error}");
                assert_eq!(world.store(ONE).objects_hash(), before, "{request:?}");
            }
            (None, Err(error)) => {
                // Nothing to return to, no such task: that is not the token's fault.
                assert!(
                    matches!(error.code, ErrorCode::Conflict | ErrorCode::NotFound),
                    "{request:?}: {error}"
                );
            }
            (None, Ok(_)) => {}
            (Some(_), Ok(reply)) => panic!("{request:?} was answered {reply:?}"),
        }
    }
}

#[test]
fn each_verb_is_needed_for_what_it_is_for() {
    let wishes = [
        (DeployVerb::Deploy, deploy("web", &digest('a'), ReleaseNote::default())),
        (DeployVerb::Rollback, Request::RollbackService("web".into())),
        (DeployVerb::Status, Request::GetService("web".into())),
        (DeployVerb::Status, watch()),
        (DeployVerb::Logs, logs("web")),
    ];
    for (needed, request) in wishes {
        let others: Vec<_> = DeployVerb::ALL.into_iter().filter(|verb| *verb != needed).collect();
        let mut world = with_services(World::new(52));
        let without = token_of(&mut world, grant(&others), TTL);
        let error = world.insist(without, request.clone()).expect_err("refused");
        assert!(error.message.contains(&format!("does not allow {needed}")), "{error}");
    }
}

#[test]
fn bearer_is_shown_its_service_without_what_lies_beside_the_image() {
    let mut world = with_services(World::new(53));
    let bearer = token(&mut world, TTL);
    world.insist(bearer.clone(), deploy("web", &digest('a'), ReleaseNote::default())).expect("accepted");
    let seen = world.insist(bearer, Request::GetService("web".into())).expect("shown");
    assert!(!format!("{seen:?}").contains("hunter2"), "{seen:?}");
    let Response::Service(view) = seen else { panic!("{seen:?}") };
    let (shown, kept) = (&view.service, world.store(ONE).service_by_name("web").expect("it"));
    assert_eq!((shown.template, shown.releases.len()), (kept.template, kept.releases.len()));
    assert_eq!(shown.spec.template.container.image, digest('a'));
    assert_eq!(view.wanted, Some(1));
    let whole = world.admin(Request::GetService("web".into()));
    assert!(format!("{whole:?}").contains("hunter2"), "an operator sees it all");
}

#[test]
fn bearer_watches_events_of_its_service_alone() {
    let mut world = with_services(World::new(54));
    let bearer = token(&mut world, TTL);
    let handle = world.ask(ONE, bearer, None, watch());
    world.until("it began", |world| world.answer(handle).is_some());
    world.join_node();
    for name in ["api", "web", "api"] {
        world.admin(Request::ScaleServices(vec![(name.into(), 0)]));
        world.admin(Request::ScaleServices(vec![(name.into(), 1)]));
    }
    world.run_for(Duration::from_millis(200));
    let mut seen = 0;
    for reply in &world.replies[&handle] {
        let Response::Events(events) = &reply.as_ref().expect("it goes on").response else { panic!() };
        for event in events {
            let (EventKind::Service { name, .. }
            | EventKind::Rollout { name, .. }
            | EventKind::Task { name, .. }) = &event.kind
            else {
                panic!("{event:?}")
            };
            assert_eq!(name, "web");
            seen += 1;
        }
    }
    assert!(seen >= 2, "{seen} events");
}

/// The last word on a stream, if it has ended.
fn end(world: &World, handle: u64) -> Option<ErrorCode> {
    world.replies.get(&handle)?.last()?.as_ref().err().map(|error| error.code)
}

#[test]
fn streams_of_a_token_that_is_removed_or_expires_end_within_a_second() {
    let mut world = with_services(World::new(55));
    let removed = token(&mut world, TTL);
    let other = token_of(
        &mut world,
        DeployTokenSpec { name: "short".into(), ..grant(&DeployVerb::ALL) },
        Duration::from_secs(5),
    );
    let open: Vec<u64> = [watch(), logs("web")]
        .into_iter()
        .map(|request| world.ask(ONE, removed.clone(), None, request))
        .collect();
    let short: Vec<u64> = [watch(), logs("web")]
        .into_iter()
        .map(|request| world.ask(ONE, other.clone(), None, request))
        .collect();
    let operator = world.ask(ONE, admin(), None, watch());
    let begun = |world: &World| open.iter().chain(&short).all(|handle| world.answer(*handle).is_some());
    world.until("they began", begun);
    assert!(open.iter().chain(&short).all(|handle| end(&world, *handle).is_none()));

    world.admin(Request::RemoveDeployToken("ci".into()));
    world.run_for(Duration::from_millis(1));
    for handle in &open {
        assert_eq!(end(&world, *handle), Some(ErrorCode::Unauthenticated));
    }
    assert!(short.iter().all(|handle| end(&world, *handle).is_none()), "another token's go on");
    world.run_for(Duration::from_secs(7));
    for handle in &short {
        assert_eq!(end(&world, *handle), Some(ErrorCode::Unauthenticated));
    }
    assert_eq!(end(&world, operator), None);
    for bearer in [removed, other] {
        let error =
            world.insist(bearer, deploy("web", &digest('a'), ReleaseNote::default())).expect_err("over");
        assert_eq!(error.code, ErrorCode::Unauthenticated, "{error}");
    }
}

#[test]
fn change_that_is_on_its_way_when_its_token_is_removed_is_not_applied() {
    let mut world = with_services(World::new(56));
    let bearer = token(&mut world, TTL);
    // Both wait for one write: the removal is applied first.
    let remove = world.ask(ONE, admin(), Some(1), Request::RemoveDeployToken("ci".into()));
    let late = world.ask(ONE, bearer, Some(2), deploy("web", &digest('a'), ReleaseNote::default()));
    world.until("both are answered", |world| world.answer(remove).is_some() && world.answer(late).is_some());
    assert!(world.answer(remove).expect("answered").is_ok());
    let error = world.answer(late).expect("answered").as_ref().expect_err("refused");
    assert_eq!(error.code, ErrorCode::Unauthenticated, "{error}");
    assert!(world.store(ONE).service_by_name("web").expect("it").rollout.is_none());
}

#[test]
fn only_a_leader_answers_bearers_and_only_once_it_has_verified_them() {
    let mut world = with_services(World::of_three(57));
    let bearer = token(&mut world, TTL);
    let Identity::Deployer { id, .. } = bearer.clone() else { panic!() };
    let leader = world.leader().expect("a leader");
    let follower = *world.hosts.keys().find(|id| **id != leader).expect("a follower");
    let unverified = Identity::Bearer(id);
    for identity in [unverified.clone(), bearer] {
        for consistency in [Consistency::Linearizable, Consistency::Stale] {
            for request in [Request::GetService("web".into()), Request::ListNodes, watch()] {
                let handle = world.ask_with(follower, identity.clone(), None, consistency, request);
                let error = world.answer(handle).expect("answered").as_ref().expect_err("referred");
                assert_eq!((error.code, error.leader), (ErrorCode::NotLeader, Some(leader)));
            }
        }
    }
    let handle = world.ask(leader, unverified, Some(1), deploy("web", &digest('a'), ReleaseNote::default()));
    let error = world.answer(handle).expect("answered").as_ref().expect_err("not verified");
    assert_eq!(error.code, ErrorCode::Unavailable);
    let manager = world.manager(leader);
    assert!(manager.proven(id, |digest| digest.0 == [7; 32]).is_some());
    assert!(manager.proven(id, |_| false).is_none() && manager.proven(DeployTokenId(1), |_| true).is_none());
}

#[test]
fn streams_of_bearers_end_with_the_lead() {
    let mut world = with_services(World::of_three(58));
    let bearer = token(&mut world, TTL);
    let old = world.leader().expect("a leader");
    let handle = world.ask(old, bearer, None, watch());
    world.until("it began", |world| world.answer(handle).is_some());
    world.cut.insert(old);
    world.until("it leads no more", |world| end(world, handle).is_some());
    assert!(matches!(end(&world, handle), Some(ErrorCode::Unavailable)));
}

fn knows_everything(_question: &RegistryQuestion) -> RegistryAnswer {
    Ok(RegistryWord::Digest(format!("sha256:{}", "1".repeat(64))))
}

#[test]
fn tag_of_a_version_is_taken_where_its_registry_says_what_it_means() {
    let mut world = with_services(World::new(59));
    let bearer = token(&mut world, TTL);
    let tagged = || deploy("web", "reg.example/web:2", ReleaseNote::default());
    let error = world.insist(bearer.clone(), tagged()).expect_err("nobody knows");
    assert!(error.message.contains("is not declared"), "{error}");
    world.registry = Some(knows_everything);
    let registry = RegistrySpec { host: "reg.example".into(), ..RegistrySpec::default() };
    world.admin(Request::SetRegistry { spec: registry, check: false });
    world.insist(bearer, tagged()).expect("accepted");
    assert_eq!(
        world.store(ONE).service_by_name("web").expect("it").spec.template.container.image,
        "reg.example/web:2"
    );
}

#[test]
fn canaries_that_the_service_declares_are_not_replaced() {
    let mut world = World::new(60);
    let policy = CanaryPolicy {
        replicas: Share::Count(1),
        soak: Duration::from_secs(60),
        promotion: Promotion::Manual,
    };
    let mut web = service("web", "reg.example/web:1");
    web.update.canary = Some(policy.clone());
    world.admin(Request::CreateService(web.into()));
    let bearer = token(&mut world, TTL);
    let weaker = CanaryPolicy { soak: Duration::ZERO, promotion: Promotion::Automatic, ..policy };
    let note = ReleaseNote { canary: Some(weaker), ..ReleaseNote::default() };
    let error = world.insist(bearer.clone(), deploy("web", &digest('a'), note)).expect_err("refused");
    assert!(error.message.contains("canaries of its own"), "{error}");
    world.insist(bearer, deploy("web", &digest('a'), ReleaseNote::default())).expect("accepted");
}
