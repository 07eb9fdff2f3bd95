//! Users on one and on three managers: changes of them hold at once, on every manager, and for what is under way.

use std::time::Duration;

use model::{
    access::{UserChange, UserSpec, Verb},
    command::Answer,
    id::{MemberId, UserId},
    identity::Identity,
    request::{Consistency, ErrorCode, Request, Response},
};

use crate::world::{CSR, ONE, World, admin, spec};

fn create(world: &mut World, name: &str, roles: &[&str]) -> Identity {
    let roles = roles.iter().map(|role| role.parse().expect("a role")).collect();
    let spec = UserSpec { name: name.into(), roles, life: Duration::from_secs(3_600) };
    match world.admin(Request::CreateUser(spec)) {
        Response::Changed { answer: Answer::User { id }, .. } => Identity::User { id, name: name.into() },
        other => panic!("{other:?}"),
    }
}

fn roles(world: &mut World, user: &str, roles: &[&str]) {
    let roles = roles.iter().map(|role| role.parse().expect("a role")).collect();
    let change = UserChange { roles: Some(roles), ..UserChange::default() };
    world.admin(Request::UpdateUser { user: user.into(), change });
}

fn scale(service: &str, count: u32) -> Request {
    Request::ScaleServices(vec![(service.into(), count)])
}

fn refusal(world: &World, handle: u64) -> Option<ErrorCode> {
    world.replies.get(&handle)?.last()?.as_ref().err().map(|error| error.code)
}

#[test]
fn a_change_of_roles_holds_for_the_next_request_and_a_removal_for_good() {
    let mut world = World::new(1);
    world.create("web", 1);
    let ann = create(&mut world, "ann", &["viewer"]);
    assert_eq!(
        world.insist(ann.clone(), scale("web", 2)).expect_err("may only read").code,
        ErrorCode::Denied
    );
    roles(&mut world, "ann", &["team:web"]);
    assert!(world.insist(ann.clone(), scale("web", 2)).is_ok());
    let Response::Verdict(verdict) = world
        .insist(ann.clone(), Request::CanI { verb: Verb::Deploy, object: Some("web".into()) })
        .expect("asked")
    else {
        panic!("no verdict")
    };
    assert!(verdict.allowed, "{verdict:?}");
    world.admin(Request::RemoveUser("ann".into()));
    for request in
        [scale("web", 3), Request::ListServices, Request::RenewCertificate { csr: CSR.into(), key: None }]
    {
        assert_eq!(world.insist(ann.clone(), request).expect_err("removed").code, ErrorCode::Unauthenticated);
    }
    let again = create(&mut world, "ann", &["admin"]);
    assert_ne!(again, ann);
    assert_eq!(world.insist(ann, scale("web", 3)).expect_err("still").code, ErrorCode::Unauthenticated);
}

#[test]
fn certificates_of_users_name_them_and_only_admins_and_they_themselves_get_one() {
    let mut world = World::new(2);
    let (ann, bob) = (create(&mut world, "ann", &["admin"]), create(&mut world, "bob", &["operator"]));
    let certify = |user: &str| Request::CertifyUser { user: user.into(), csr: CSR.into() };
    let certificate = |response| match response {
        Response::Joined { certificate, node: None, member: None, .. } => certificate,
        other => panic!("{other:?}"),
    };
    let made = certificate(world.insist(ann.clone(), certify("bob")).expect("an admin asks"));
    assert!(made.ends_with("of user bob"), "{made}");
    assert_eq!(world.insist(bob.clone(), certify("ann")).expect_err("no admin").code, ErrorCode::Denied);
    let renewed = certificate(
        world.insist(bob.clone(), Request::RenewCertificate { csr: CSR.into(), key: None }).expect("its own"),
    );
    assert!(renewed.ends_with("of user bob") && renewed != made, "{renewed}");
    let change = UserChange { disabled: Some(true), ..UserChange::default() };
    world.admin(Request::UpdateUser { user: "bob".into(), change });
    assert_eq!(world.insist(ann, certify("bob")).expect_err("disabled").code, ErrorCode::Conflict);
    let code = world
        .insist(bob, Request::RenewCertificate { csr: CSR.into(), key: None })
        .expect_err("disabled")
        .code;
    assert_eq!(code, ErrorCode::Unauthenticated);
}

#[test]
fn a_watch_ends_with_the_user_and_goes_on_through_a_change_of_roles() {
    let mut world = World::of_three(3);
    let ann = create(&mut world, "ann", &["operator"]);
    let watch = || Request::Watch { after: None, until: None };
    let leader = world.leader().expect("a leader");
    let follower = world.hosts.keys().copied().find(|id| *id != leader).expect("a follower");
    world.until("all know ann", |world| world.running().all(|(id, _)| world.store(id).users().len() == 1));
    let here = world.ask(leader, ann.clone(), None, watch());
    let stale = world.ask_with(follower, ann, None, Consistency::Stale, watch());
    world.until("both are open", |world| world.answer(here).is_some() && world.answer(stale).is_some());
    roles(&mut world, "ann", &["viewer"]);
    world.run_for(Duration::from_millis(200));
    assert_eq!((refusal(&world, here), refusal(&world, stale)), (None, None), "a viewer may watch");
    world.admin(Request::RemoveUser("ann".into()));
    world.run_for(Duration::from_millis(200));
    let gone = Some(ErrorCode::Unauthenticated);
    assert_eq!((refusal(&world, here), refusal(&world, stale)), (gone, gone));
}

#[test]
fn a_follower_reads_for_users_that_it_knows_and_leaves_all_others_to_the_leader() {
    let mut world = World::of_three(4);
    let leader = world.leader().expect("a leader");
    let follower = world.hosts.keys().copied().find(|id| *id != leader).expect("a follower");
    let ann = create(&mut world, "ann", &["viewer"]);
    world.until("the follower knows ann", |world| world.store(follower).users().len() == 1);
    let read = |world: &mut World, who: &Identity| {
        let handle = world.ask_with(follower, who.clone(), None, Consistency::Stale, Request::ListServices);
        world.answer(handle).cloned().expect("answered at once")
    };
    assert!(read(&mut world, &ann).expect("known").stale);
    let stranger = Identity::User { id: UserId(4), name: "eve".into() };
    assert_eq!(read(&mut world, &stranger).expect_err("unknown here").code, ErrorCode::NotLeader);
    world.admin(Request::RemoveUser("ann".into()));
    world.until("the follower knows", |world| world.store(follower).users().is_empty());
    assert_eq!(read(&mut world, &ann).expect_err("removed").code, ErrorCode::NotLeader);
    assert_eq!(
        world.insist(ann, Request::ListServices).expect_err("removed").code,
        ErrorCode::Unauthenticated
    );
}

#[test]
fn what_a_user_asks_while_its_roles_change_is_decided_on_the_new_ones() {
    let mut world = World::new(5);
    world.create("web", 1);
    let ann = create(&mut world, "ann", &["operator"]);
    let change = UserChange { roles: Some(vec!["viewer".parse().expect("a role")]), ..UserChange::default() };
    let demote = world.ask(ONE, admin(), Some(1), Request::UpdateUser { user: "ann".into(), change });
    assert!(world.answer(demote).is_none(), "it is on its way");
    let scales = world.ask(ONE, ann.clone(), Some(2), scale("web", 9));
    assert_eq!(refusal(&world, scales), Some(ErrorCode::Unavailable), "it asks again");
    assert_eq!(
        world.insist_as(ann, 2, scale("web", 9)).expect_err("a viewer by now").code,
        ErrorCode::Denied
    );
    assert!(world.answer(demote).expect("answered").is_ok());
}

#[test]
fn what_a_removed_user_asked_before_the_lead_changed_does_not_happen_after_its_removal() {
    let mut world = World::of_three(6);
    let ann = create(&mut world, "ann", &["operator"]);
    let old = world.leader().expect("a leader");
    world.cut.insert(old);
    let lost = world.ask(old, ann.clone(), Some(7), Request::CreateService(spec("late", 1).into()));
    let others = |world: &World| -> Vec<MemberId> {
        world
            .running()
            .filter(|(id, manager)| *id != old && manager.status().serving)
            .map(|(id, _)| id)
            .collect()
    };
    world.until("another leads", |world| !others(world).is_empty());
    let new = others(&world)[0];
    let removal = world.ask(new, admin(), Some(8), Request::RemoveUser("ann".into()));
    world.until("ann is removed", |world| world.answer(removal).is_some());
    world.cut.clear();
    world.until("all agree", |world| world.running().all(|(id, _)| world.store(id).users().is_empty()));
    assert_ne!(refusal(&world, lost), None);
    let code =
        world.insist_as(ann, 7, Request::CreateService(spec("late", 1).into())).expect_err("removed").code;
    assert_eq!(code, ErrorCode::Unauthenticated);
    assert!(world.running().all(|(id, _)| world.store(id).service_by_name("late").is_none()));
}
