//! Another authority in place of the present one: who is told, who is waited for, what the leader seals.

use model::{
    id::NodeId,
    identity::{Identity, JoinRole},
    request::{ApiError, AuthorityView, ErrorCode, Request, Response, Successor},
    sealed::Clear,
};

use crate::sealing::lies_in_clear;
use crate::world::{CSR, ONE, World, admin};

const KEY: &str = "the key of the second authority";

fn certificate(text: &str) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{text}")
}

/// What the shell of a leader makes of the request.
fn rotate(world: &mut World, to: &str) -> Result<Response, ApiError> {
    let (current, to) = (view(world).certificate, certificate(to));
    let (bridge, key) = (format!("bridge to {to}"), Clear::new(KEY));
    let successor = Some(Box::new(Successor { certificate: to, bridge, key }));
    // Only its validation looks for PEM.
    world.insist(admin(), Request::RotateAuthority { current, successor })
}

fn finish(world: &mut World, leave_behind: bool) -> Result<Response, ApiError> {
    let current = view(world).certificate;
    world.insist(admin(), Request::FinishRotation { current, leave_behind })
}

fn view(world: &mut World) -> AuthorityView {
    match world.admin(Request::GetAuthority) {
        Response::Authority(view) => *view,
        other => panic!("{other:?}"),
    }
}

fn renew(world: &mut World, identity: Identity) {
    let request = Request::RenewCertificate { csr: CSR.into(), key: Some("print".into()) };
    world.insist(identity, request).expect("renewed");
}

/// What a member, and an agent, was told last.
fn told(world: &World, member: model::id::MemberId) -> (String, bool) {
    world.hosts[&member].authority.clone().expect("told at its start")
}

fn heard(world: &World, node: NodeId) -> Option<(String, bool)> {
    world.agents[&node].authority.clone()
}

/// Three managers under an authority with a certificate that passes for one, with two nodes.
fn world(seed: u64) -> (World, [NodeId; 2]) {
    let mut world = World::of_three(seed);
    let nodes = [world.join_node(), world.join_node()];
    world.until("sessions", |world| nodes.iter().all(|node| world.agents[node].session.is_some()));
    (world, nodes)
}

#[test]
fn everybody_is_told_and_those_that_are_behind_are_named_until_they_have_renewed() {
    let (mut world, [near, far]) = world(61);
    assert_eq!(heard(&world, near), None, "there is nothing to say of the first one");
    world.away.insert(far);
    world.hang_up(far);
    rotate(&mut world, "b").expect("rotated");
    let bundle = |world: &World| told(world, ONE).0;
    world.until("all managers know", |world| {
        world.running().all(|(id, _)| told(world, id).1 && told(world, id).0.contains("bridge to"))
    });
    world.until("the node that is there knows", |world| heard(world, near) == Some((bundle(world), true)));
    assert_eq!(view(&mut world).managers.len(), 3);
    let status = world.admin(Request::GetStatus);
    let Response::Status(status) = status else { panic!("{status:?}") };
    assert!(status.waiting.iter().any(|waiting| waiting.what == "authority"), "{:?}", status.waiting);

    let refused = finish(&mut world, true).expect_err("managers would be shut out");
    assert_eq!(refused.code, ErrorCode::Conflict);
    let members: Vec<_> = world.running().map(|(id, _)| id).collect();
    members.into_iter().for_each(|id| renew(&mut world, Identity::Manager(id)));
    renew(&mut world, Identity::Node(near));
    let behind = view(&mut world);
    assert_eq!((behind.managers.len(), behind.nodes.len()), (0, 1));
    assert!(behind.nodes[0].returns, "the key of the one that is away is known");
    let refused = finish(&mut world, false).expect_err("a node is away");
    assert!(refused.message.contains("--leave-behind"), "{refused}");
    finish(&mut world, true).expect("finished");
    let known = |text: String, of: &str| text.lines().any(|line| line == of);
    world.until("all managers part with the former one", |world| {
        world.running().all(|(id, _)| !told(world, id).1 && !known(told(world, id).0, "ca"))
    });
    world.until("the node does too", |world| heard(world, near) == Some((bundle(world), false)));

    world.away.remove(&far);
    world.until("the other one is told when it comes", |world| {
        heard(world, far) == Some((bundle(world), false))
    });
}

#[test]
fn a_leader_that_was_elected_meanwhile_issues_with_the_new_key_and_none_lies_in_clear() {
    let (mut world, _) = world(62);
    rotate(&mut world, "b").expect("rotated");
    let leader = world.leader().expect("a leader");
    world.crash(leader);
    world.until("another leader", |world| world.leader().is_some_and(|id| id != leader));
    let next = world.leader().expect("a leader");
    assert_eq!(world.manager(next).authority_key().expect("opens").reveal(), KEY.as_bytes());
    world.restart(leader);
    world.admin(Request::RotateKey);
    world.until("sealed anew", |world| {
        world.leader().is_some_and(|id| world.store(id).data_keys().is_some_and(|keys| keys.known.len() == 1))
    });
    let next = world.leader().expect("a leader");
    assert_eq!(world.manager(next).authority_key().expect("opens").reveal(), KEY.as_bytes());
    assert!(!lies_in_clear(&world, KEY), "the key lies on a disk");
}

#[test]
fn join_tokens_end_with_the_authority_and_a_successor_comes_from_a_leader_only() {
    let (mut world, _) = world(63);
    let (joiner, join) = world.join_request(JoinRole::Agent, "n", "");
    rotate(&mut world, "b").expect("rotated");
    world.insist(joiner, join).expect_err("its secret comes of the former key");
    let current = view(&mut world).certificate;
    let request = Request::RotateAuthority { current, successor: None };
    let leader = world.leader().expect("a leader");
    let handle = world.ask(leader, admin(), None, request);
    world.until("an answer", |world| world.answer(handle).is_some());
    let refused = world.answer(handle).expect("answered").as_ref().expect_err("nobody has made one");
    assert_eq!(refused.code, ErrorCode::Unavailable);
}
