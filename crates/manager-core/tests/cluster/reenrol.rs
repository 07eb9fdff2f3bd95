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

fn reenrol(world: &mut World, node: NodeId, serial: u64) -> Result<u64, ApiError> {
    let request = ReenrolRequest { certificate: CERTIFICATE.into(), csr: CSR.into(), serial };
    let answer = world.insist(Identity::Node(node), Request::Reenrol(Box::new(request)))?;
    let Response::Joined { node: Some(named), .. } = answer else { panic!("{answer:?}") };
    assert_eq!(named, node);
    Ok(newest(world, node))
}

fn newest(world: &World, node: NodeId) -> u64 {
    world.store(ONE).node(node).expect("known").certificate
}

#[test]
fn a_node_comes_back_with_its_newest_certificate_also_when_the_answer_was_lost() {
    let mut world = World::new(21);
    let node = world.join_node();
    let first = newest(&world, node);
    let second = reenrol(&mut world, node, first).expect("it is that node");
    assert!(second > first);
    let third = reenrol(&mut world, node, first).expect("the answer may not have arrived");
    assert!(third > second);
    let fourth = reenrol(&mut world, node, third).expect("years later");
    assert!(fourth > third);
}

#[test]
fn a_key_that_was_given_up_at_a_renewal_proves_nothing_any_more() {
    let mut world = World::new(22);
    let node = world.join_node();
    let first = newest(&world, node);
    reenrol(&mut world, node, first).expect("it is that node");
    world.insist(Identity::Node(node), Request::RenewCertificate { csr: CSR.into() }).expect("renewed");
    let refused = reenrol(&mut world, node, first).expect_err("an old key");
    assert_eq!(refused.code, ErrorCode::Denied);
    assert!(refused.message.contains("over another key"), "{refused}");
    let latest = newest(&world, node);
    reenrol(&mut world, node, latest).expect("its newest one");
}

#[test]
fn a_node_that_was_removed_is_told_to_join_with_a_fresh_token() {
    let mut world = World::new(23);
    let node = world.join_node();
    let serial = newest(&world, node);
    world.admin(Request::RemoveNode { node: node.to_string(), force: true });
    let refused = reenrol(&mut world, node, serial).expect_err("removed");
    assert_eq!(refused.code, ErrorCode::Unauthenticated);
    assert!(refused.message.contains("with a fresh token"), "{refused}");
}

#[test]
fn nobody_else_re_enrols_and_whoever_was_not_verified_asks_again() {
    let mut world = World::new(24);
    let request = || {
        Request::Reenrol(Box::new(ReenrolRequest {
            certificate: CERTIFICATE.into(),
            csr: CSR.into(),
            serial: 1,
        }))
    };
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
    let serial = newest(&world, node);
    let refused = reenrol(&mut world, node, serial).expect_err("not yet");
    assert!(refused.message.contains("until all managers are upgraded"), "{refused}");
}
