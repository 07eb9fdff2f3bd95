//! Nodes that come back after their certificate ran out, by proof of its key. The shell has verified the proof; here it is about what counts
//! as one.

use model::{
    id::NodeId,
    identity::Identity,
    request::{ApiError, ErrorCode, ReenrolRequest, Request, Response},
};

use crate::world::{CSR, ONE, World};

/// It looks like one; the shell has judged it.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// With this key, as the shell has verified.
fn reenrol(world: &mut World, node: NodeId, key: &str) -> Result<u64, ApiError> {
    show(world, node, ReenrolRequest { key: Some(key.into()), ..shown(1) })
}

fn shown(serial: u64) -> ReenrolRequest {
    ReenrolRequest { certificate: CERTIFICATE.into(), csr: CSR.into(), serial, key: None, own: false }
}

fn show(world: &mut World, node: NodeId, request: ReenrolRequest) -> Result<u64, ApiError> {
    let answer = world.insist(Identity::Node(node), Request::Reenrol(Box::new(request)))?;
    let Response::Joined { node: Some(named), .. } = answer else { panic!("{answer:?}") };
    assert_eq!(named, node);
    Ok(newest(world, node))
}

fn renew(world: &mut World, node: NodeId, key: Option<&str>) {
    let request = Request::RenewCertificate { csr: CSR.into(), key: key.map(str::to_owned) };
    world.insist(Identity::Node(node), request).expect("renewed");
}

fn newest(world: &World, node: NodeId) -> u64 {
    world.store(ONE).node(node).expect("known").certificate
}

#[test]
fn a_node_comes_back_with_its_newest_key_also_when_the_answer_was_lost() {
    let mut world = World::new(21);
    let node = world.join_node();
    let first = newest(&world, node);
    let second = reenrol(&mut world, node, "print").expect("it is that node");
    assert!(second > first);
    let third = reenrol(&mut world, node, "print").expect("the answer may not have arrived");
    assert!(third > second);
    renew(&mut world, node, Some("next"));
    reenrol(&mut world, node, "next").expect("it had the key before it asked, and the answer was lost");
}

#[test]
fn a_key_that_was_given_up_at_a_renewal_proves_nothing_any_more() {
    let mut world = World::new(22);
    let node = world.join_node();
    reenrol(&mut world, node, "print").expect("it is that node");
    renew(&mut world, node, Some("next"));
    let refused = reenrol(&mut world, node, "print").expect_err("an old key");
    assert_eq!(refused.code, ErrorCode::Denied);
    assert!(refused.message.contains("over another key"), "{refused}");
    reenrol(&mut world, node, "next").expect("its newest one");
}

#[test]
fn a_node_whose_key_no_version_has_noted_proves_that_of_its_newest_certificate() {
    let mut world = World::new(25);
    let node = world.join_node();
    renew(&mut world, node, None);
    let first = newest(&world, node);
    let own = |serial| ReenrolRequest { own: true, ..shown(serial) };
    show(&mut world, node, shown(first))
        .expect_err("another key than the certificate's, or another authority");
    let second = show(&mut world, node, own(first)).expect("it is that node");
    let third = show(&mut world, node, own(first)).expect("the answer may not have arrived");
    assert!(third > second);
    renew(&mut world, node, None);
    show(&mut world, node, own(third)).expect_err("an old key");
    let latest = newest(&world, node);
    show(&mut world, node, own(latest)).expect("its newest one");
}

#[test]
fn a_node_that_was_removed_is_told_to_join_with_a_fresh_token() {
    let mut world = World::new(23);
    let node = world.join_node();
    world.admin(Request::RemoveNode { node: node.to_string(), force: true });
    let refused = reenrol(&mut world, node, "print").expect_err("removed");
    assert_eq!(refused.code, ErrorCode::Unauthenticated);
    assert!(refused.message.contains("with a fresh token"), "{refused}");
}

#[test]
fn nobody_else_re_enrols_and_whoever_was_not_verified_asks_again() {
    let mut world = World::new(24);
    let request = || Request::Reenrol(Box::new(ReenrolRequest { own: true, ..shown(1) }));
    let refused = world.insist(Identity::Manager(ONE), request()).expect_err("a manager signs for itself");
    assert_eq!(refused.code, ErrorCode::Denied);
    let handle = world.ask(ONE, Identity::Anonymous, None, request());
    world.until("an answer", |world| world.answer(handle).is_some());
    let refused = world.answer(handle).cloned().expect("there is one").expect_err("not verified");
    assert_eq!(refused.code, ErrorCode::Unavailable);
}

#[test]
fn while_an_older_manager_is_there_it_waits() {
    let mut world = World::with_older_manager(25);
    let node = world.join_node();
    let refused = reenrol(&mut world, node, "print").expect_err("not yet");
    assert!(refused.message.contains("until all managers are upgraded"), "{refused}");
}
