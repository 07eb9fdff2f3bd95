//! Changes and reads of clients.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use manager_core::{Event, SpaceState};
use model::{
    cluster::ClusterSettings,
    command::Answer,
    identity::{Identity, JoinRole, Role},
    network::{AddressPool, NetworkSpec},
    request::{Consistency, ErrorCode, Request, Response},
    service::{CanaryPolicy, Promotion, ReleaseNote, RolloutStep},
};

use crate::world::{CSR, ONE, World, admin, spec};

fn code(world: &World, handle: u64) -> Option<ErrorCode> {
    world.answer(handle).and_then(|answer| answer.as_ref().err()).map(|error| error.code)
}

#[test]
fn a_cluster_of_one_acknowledges_what_it_keeps_over_a_crash() {
    let mut world = World::new(1);
    let id = world.create("web", 3);
    world.crash(ONE);
    world.restart(ONE);
    world.until("it leads again", |world| world.leader() == Some(ONE));
    assert_eq!(world.store(ONE).service(id).map(|service| service.spec.name.as_str()), Some("web"));
}

#[test]
fn a_retry_with_the_same_request_id_is_applied_once_and_answered_the_same() {
    let mut world = World::new(2);
    let create = Request::CreateService(spec("web", 1).into());
    let first = world.insist_as(admin(), 42, create.clone()).expect("accepted");
    let second = world.insist_as(admin(), 42, create.clone()).expect("accepted");
    let answer = |response| match response {
        Response::Changed { answer, .. } => answer,
        other => panic!("{other:?}"),
    };
    assert_eq!(answer(first), answer(second));
    let other = world.insist_as(admin(), 43, create).expect_err("the name is taken");
    assert_eq!(other.code, ErrorCode::AlreadyExists);
}

#[test]
fn a_retried_removal_is_acknowledged_although_there_is_nothing_left() {
    let mut world = World::new(3);
    world.create("web", 0);
    let remove = Request::RemoveService("web".into());
    world.insist_as(admin(), 7, remove.clone()).expect("removed");
    world.until("it is gone", |world| world.store(ONE).service_by_name("web").is_none());
    world.insist_as(admin(), 7, remove.clone()).expect("the same answer");
    let other = world.insist_as(admin(), 8, remove).expect_err("there is none");
    assert_eq!(other.code, ErrorCode::NotFound);
}

#[test]
fn a_reader_on_a_follower_is_referred_and_a_stale_reader_is_served() {
    let mut world = World::of_three(4);
    let leader = world.leader().expect("a leader");
    let follower = *world.hosts.keys().find(|id| **id != leader).expect("a follower");
    let handle = world.ask(follower, admin(), None, Request::ListServices);
    assert_eq!(code(&world, handle), Some(ErrorCode::NotLeader));
    let error = world.answer(handle).expect("answered").as_ref().expect_err("refused");
    assert_eq!(error.leader, Some(leader));
    let handle = world.ask_with(follower, admin(), None, Consistency::Stale, Request::ListServices);
    assert!(world.answer(handle).expect("answered").as_ref().expect("served").stale);
}

#[test]
fn a_leader_that_is_cut_off_answers_no_read_and_acknowledges_no_change() {
    let mut world = World::of_three(5);
    let old = world.leader().expect("a leader");
    world.cut.insert(old);
    let read = world.ask(old, admin(), None, Request::ListServices);
    let change = world.ask(old, admin(), Some(1), Request::CreateService(spec("lost", 1).into()));
    world.until("another leads", |world| world.leader().is_some_and(|id| id != old));
    world.create("web", 1);
    world.until("both are answered", |world| world.answer(read).is_some() && world.answer(change).is_some());
    assert!(world.answer(read).expect("answered").is_err());
    assert!(world.answer(change).expect("answered").is_err());
    world.cut.clear();
    world.until("it follows", |world| world.store(old).service_by_name("web").is_some());
    assert!(world.store(old).service_by_name("lost").is_none());
}

#[test]
fn a_request_that_is_not_decided_in_time_is_answered_with_the_deadline() {
    let mut world = World::of_three(6);
    let leader = world.leader().expect("a leader");
    let others: Vec<_> = world.hosts.keys().copied().filter(|id| *id != leader).collect();
    for other in &others {
        world.crash(*other);
    }
    let handle = world.ask(leader, admin(), Some(1), Request::CreateService(spec("web", 1).into()));
    world.until("it is answered", |world| world.answer(handle).is_some());
    let code = code(&world, handle).expect("refused");
    assert!(matches!(code, ErrorCode::Deadline | ErrorCode::Unavailable), "{code:?}");
}

#[test]
fn every_identity_may_do_only_its_own() {
    let mut world = World::new(7);
    let viewer = Identity::Operator { name: "vic".into(), role: Role::Viewer };
    let node = world.join_node();
    let create = || Request::CreateService(spec("web", 1).into());
    let refused = [
        (viewer.clone(), create(), ErrorCode::Denied),
        (Identity::Node(node), Request::ListServices, ErrorCode::Denied),
        (Identity::Manager(ONE), create(), ErrorCode::Denied),
        (Identity::Anonymous, Request::ListServices, ErrorCode::Unauthenticated),
        (Identity::Joiner(model::id::TokenId(1)), Request::ListNodes, ErrorCode::Denied),
        (
            Identity::Node(model::id::NodeId(9)),
            Request::RenewCertificate { csr: CSR.into(), key: None },
            ErrorCode::Unauthenticated,
        ),
    ];
    for (identity, request, expected) in refused {
        let handle = world.ask(ONE, identity, Some(1), request);
        world.until("it is answered", |world| world.answer(handle).is_some());
        assert_eq!(code(&world, handle), Some(expected));
    }
    assert!(world.insist(viewer, Request::ListServices).is_ok());
    let renewed =
        world.insist(Identity::Node(node), Request::RenewCertificate { csr: CSR.into(), key: None });
    assert!(matches!(renewed, Ok(Response::Joined { node: Some(id), .. }) if id == node));
}

#[test]
fn a_join_that_is_repeated_gives_the_same_node_another_certificate() {
    let mut world = World::new(11);
    let (identity, request) = world.join_request(JoinRole::Agent, "n", "");
    let mut joined = || match world.insist_as(identity.clone(), 5, request.clone()).expect("admitted") {
        Response::Joined { node: Some(node), certificate, .. } => (node, certificate),
        other => panic!("{other:?}"),
    };
    let (first, second) = (joined(), joined());
    assert_eq!(first.0, second.0);
    assert_ne!(first.1, second.1);
    assert_eq!(world.store(ONE).node_count(), 1);
    assert_eq!(world.store(ONE).tokens().next().map(|token| token.uses_left), Some(9));
}

#[test]
fn joins_that_come_together_all_get_certificates_of_their_own() {
    let mut world = World::new(12);
    let (identity, request) = world.join_request(JoinRole::Agent, "n", "");
    let handles: Vec<u64> =
        (1..=10).map(|id| world.ask(ONE, identity.clone(), Some(id), request.clone())).collect();
    let late = world.ask(ONE, identity, Some(99), request);
    world.until("all are answered", |world| world.answer(late).is_some());
    let certificates: BTreeSet<String> = handles
        .iter()
        .map(|handle| match &world.answer(*handle).expect("answered").as_ref().expect("admitted").response {
            Response::Joined { certificate, .. } => certificate.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(certificates.len(), 10);
    assert_eq!(code(&world, late), Some(ErrorCode::Denied), "the token had ten uses");
}

#[test]
fn an_invalid_declaration_is_refused_with_every_problem() {
    let mut world = World::new(13);
    let mut wrong = spec("Not A Name", 1);
    wrong.template.container.image = String::new();
    let error = world.insist(admin(), Request::CreateService(wrong.into())).expect_err("refused");
    assert_eq!(error.code, ErrorCode::Invalid);
    assert!(error.problems.len() >= 2, "{error:?}");
}

#[test]
fn a_watch_sees_every_event_once_and_in_order() {
    let mut world = World::new(8);
    let watch = world.ask(ONE, admin(), None, Request::Watch { after: None, until: None });
    world.until("it began", |world| world.answer(watch).is_some());
    let before = world.store(ONE).revision();
    for name in ["a", "b", "c"] {
        world.create(name, 1);
    }
    world.run_for(Duration::from_millis(100));
    let seen: Vec<_> = world.replies[&watch]
        .iter()
        .flat_map(|reply| match &reply.as_ref().expect("goes on").response {
            Response::Events(events) => events.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    let all: Vec<_> = world.store(ONE).events_after(Some(before)).expect("kept").cloned().collect();
    assert_eq!(seen, all);
    assert!(seen.len() >= 3);
}

#[test]
fn a_watch_with_an_end_tells_exactly_what_happened_up_to_it() {
    let mut world = World::new(8);
    world.create("a", 1);
    world.until("nothing is left to be sealed", |world| !world.store(ONE).is_in_clear());
    let until = world.store(ONE).applied();
    let upto: Vec<_> = world.store(ONE).events_after(None).expect("kept").cloned().collect();
    world.create("b", 1);
    let told = |world: &mut World, until| {
        let after = Some(model::event::Revision::default());
        let watch = world.ask(ONE, admin(), None, Request::Watch { after, until: Some(until) });
        world.until("it ends", |world| {
            let end = |reply: &Result<model::request::Reply, _>| {
                matches!(reply.as_ref().map(|reply| &reply.response), Ok(Response::EventsEnd))
            };
            world.replies.get(&watch).is_some_and(|replies| replies.last().is_some_and(end))
        });
        let replies = world.replies[&watch].iter().map(|reply| &reply.as_ref().expect("no refusal").response);
        let events = replies.filter_map(|response| match response {
            Response::Events(events) => Some(events.clone()),
            _ => None,
        });
        events.flatten().collect::<Vec<_>>()
    };
    assert_eq!(told(&mut world, until), upto);
    // One that ends in the future waits for it.
    let next = world.store(ONE).applied() + 1;
    let watch = world.ask(ONE, admin(), None, Request::Watch { after: None, until: Some(next) });
    world.run_for(Duration::from_millis(50));
    assert_eq!(world.replies[&watch].len(), 1, "the beginning, and no end");
    world.create("c", 1);
    world.until("it ends", |world| world.replies[&watch].len() > 2);
}

#[test]
fn changes_are_refused_while_the_disk_is_nearly_full() {
    let mut world = World::new(9);
    let manager = world.hosts.get_mut(&ONE).and_then(|host| host.manager.as_mut()).expect("runs");
    manager.handle_event(Event::Space(SpaceState::Low), world.now);
    let handle = world.ask(ONE, admin(), Some(1), Request::CreateService(spec("web", 1).into()));
    assert_eq!(code(&world, handle), Some(ErrorCode::Exhausted));
    let manager = world.hosts.get_mut(&ONE).and_then(|host| host.manager.as_mut()).expect("runs");
    manager.handle_event(Event::Space(SpaceState::Enough), world.now);
    world.create("web", 1);
}

#[test]
fn many_changes_share_one_write() {
    let mut world = World::new(10);
    let handles: Vec<u64> = (0..200)
        .map(|i| {
            world.ask(ONE, admin(), Some(i + 1), Request::CreateService(spec(&format!("s{i}"), 0).into()))
        })
        .collect();
    let began = world.now.mono;
    world.until("all are answered", |world| handles.iter().all(|handle| world.answer(*handle).is_some()));
    for handle in &handles {
        let reply = world.answer(*handle).expect("answered").as_ref().expect("accepted");
        assert!(matches!(&reply.response, Response::Changed { answer: Answer::Service { .. }, .. }));
    }
    let took = world.now.mono.since(began);
    assert!(took < Duration::from_millis(20), "200 changes took {took:?} with writes of 0.5 to 3.5 ms");
}

#[test]
fn a_pool_of_addresses_holds_the_networks_that_there_are() {
    let mut world = World::new(8);
    let network =
        |name: &str| Request::CreateNetwork(NetworkSpec { name: name.into(), ..NetworkSpec::default() });
    let pool = |second: u8, networks: u16| {
        let pool = AddressPool { base: Ipv4Addr::new(10, second, 0, 0), networks };
        Request::SetSettings(ClusterSettings { pool, ..ClusterSettings::default() })
    };
    world.admin(network("shop"));
    let leader = world.leader().expect("a leader");
    let handle = world.ask(leader, admin(), Some(50), pool(64, 64));
    world.until("it is refused", |world| world.answer(handle).is_some());
    let error = world.answer(handle).expect("answered").as_ref().expect_err("refused");
    assert_eq!(error.code, ErrorCode::Conflict);
    assert!(
        error.message.contains("pool.base: 10.64.0.0/10")
            && error.message.contains("\"shop\" has 10.128.0.0/16"),
        "{error}"
    );
    // One that holds it is taken, and the next network comes out of it.
    world.admin(pool(127, 2));
    world.admin(network("lab"));
    let base = |name: &str| world.store(leader).network_by_name(name).map(|network| network.base);
    assert_eq!((base("shop"), base("lab")), (Some([10, 128, 0, 0].into()), Some([10, 127, 0, 0].into())));
    world.admin(Request::RemoveNetwork("shop".into()));
    world.admin(pool(127, 1));
    // Whoever joins is told where addresses come from.
    let joined = world.join(JoinRole::Agent, "n", "");
    let told = match joined {
        Response::Joined { pool, .. } => pool,
        other => panic!("{other:?}"),
    };
    assert_eq!(told, Some(AddressPool { base: Ipv4Addr::new(10, 127, 0, 0), networks: 1 }));
}

fn deploy(image: &str) -> Request {
    Request::Deploy { service: "web".into(), image: image.into(), note: Box::default() }
}

#[test]
fn a_deployment_changes_the_image_alone_and_a_second_one_is_told_who_is_in_the_way() {
    let mut world = World::new(1);
    let id = world.create("web", 0);
    let before = world.store(ONE).service(id).expect("created").spec.clone();
    // It waits for a promotion, so that a service without replicas is not done at once.
    let note = ReleaseNote {
        job: "https://ci.example/1".into(),
        canary: Some(CanaryPolicy { promotion: Promotion::Manual, ..CanaryPolicy::default() }),
        ..ReleaseNote::default()
    };
    world.admin(Request::Deploy { service: "web".into(), image: "web:2".into(), note: Box::new(note) });
    // The managers' own bookkeeping of it is over.
    world.run_for(Duration::from_secs(1));
    let service = world.store(ONE).service(id).expect("there").clone();
    let mut expected = (*before).clone();
    expected.template.container.image = "web:2".into();
    assert_eq!(*service.spec, expected);

    let refusal = world.insist(admin(), deploy("web:3")).expect_err("busy");
    assert_eq!(refusal.code, ErrorCode::Conflict);
    for word in ["web:2", "https://ci.example/1", "operator"] {
        assert!(refusal.message.contains(word), "{word}: {refusal}");
    }
    world.admin(deploy("web:2"));
    assert_eq!(
        world.store(ONE).service(id).expect("there").template,
        service.template,
        "the same again is none"
    );

    let steer = |step| Request::SteerRollout { service: "web".into(), release: None, step };
    world.admin(steer(RolloutStep::Abort));
    let spec = world.store(ONE).service(id).expect("there").spec.clone();
    assert_eq!(spec, before);
    let wrong = world.insist(admin(), deploy("no image")).expect_err("not an image");
    assert_eq!(wrong.code, ErrorCode::Invalid);
    let viewer = Identity::Operator { name: "eve".into(), role: Role::Viewer };
    for request in [deploy("web:4"), steer(RolloutStep::Pause)] {
        assert_eq!(world.insist(viewer.clone(), request).expect_err("may only read").code, ErrorCode::Denied);
    }
}
