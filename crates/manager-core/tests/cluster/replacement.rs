//! A manager that lost its log comes back under another id, and its former one never counts again.

use std::time::Duration;

use manager_core::{Config, Recovered};
use model::{
    id::MemberId,
    identity::Identity,
    request::{ApiError, ErrorCode, Request, Response},
};

use crate::world::{CSR, World};

/// Asks for a new id under the old one.
fn ask(world: &mut World, old: MemberId, id: u64) -> Result<MemberId, ApiError> {
    let request = Request::ReplaceMember { address: format!("manager-{old}:7443"), csr: CSR.into() };
    match world.insist_as(Identity::Manager(old), id, request)? {
        Response::Joined { member: Some(member), .. } => Ok(member),
        other => panic!("{other:?}"),
    }
}

/// Starts with an empty log under the new id.
fn start(world: &mut World, member: MemberId) {
    let seeds = world.hosts.keys().map(|id| (*id, format!("manager-{id}:7443"))).collect();
    let config = Config { seeds, ..world.config(member) };
    world.boot(config, Recovered::default());
}

fn one_that_follows(world: &World) -> (MemberId, MemberId) {
    let leader = world.leader().expect("a leader");
    (leader, *world.hosts.keys().find(|id| **id != leader).expect("a follower"))
}

#[test]
fn it_learns_first_and_its_old_id_keeps_its_place_until_it_votes() {
    let mut world = World::of_three(11);
    world.create("web", 0);
    let (leader, lost) = one_that_follows(&world);
    world.crash(lost);
    world.run_for(Duration::from_secs(1));
    let new = ask(&mut world, lost, 1).expect("admitted");
    assert!(new > lost);
    world.run_for(Duration::from_secs(2));
    let membership = world.manager(leader).status().membership;
    assert!(membership.voters.contains(&lost) && membership.learners.contains(&new), "{membership:?}");
    assert_eq!(membership.voters.len(), 3, "what is acknowledged is on two disks at any time");

    world.hosts.remove(&lost);
    start(&mut world, new);
    world.until("it votes in place of the old id", |world| {
        let membership = world.manager(leader).status().membership;
        membership.votes_now(new) && !membership.members().contains(&lost) && !membership.is_joint()
    });
    assert!(world.store(new).service_by_name("web").is_some());
    assert_eq!(world.voters(leader), 3);
}

#[test]
fn answer_that_was_lost_is_given_again_until_the_new_id_was_heard() {
    let mut world = World::of_three(12);
    let (leader, lost) = one_that_follows(&world);
    world.crash(lost);
    world.run_for(Duration::from_secs(1));
    let new = ask(&mut world, lost, 1).expect("admitted");
    assert_eq!(ask(&mut world, lost, 2).expect("once more"), new, "another question, the same id");
    // For anything else the old id is a stranger.
    let error = world
        .insist(Identity::Manager(lost), Request::TransferLeader { to: None })
        .expect_err("it is not a member");
    assert_eq!(error.code, ErrorCode::Unauthenticated);

    world.hosts.remove(&lost);
    start(&mut world, new);
    world.until("it votes", |world| world.manager(leader).status().membership.votes_now(new));
    world.until("it was heard", |world| world.store(leader).unheard_successor(lost).is_none());
    let error = ask(&mut world, lost, 3).expect_err("its time is over");
    assert_eq!(error.code, ErrorCode::Unauthenticated);
}

#[test]
fn old_log_from_a_backup_does_not_vote_again() {
    let mut world = World::of_three(13);
    let (leader, lost) = one_that_follows(&world);
    world.crash(lost);
    world.run_for(Duration::from_secs(1));
    ask(&mut world, lost, 1).expect("admitted");
    let other = *world.hosts.keys().find(|id| ![leader, lost].contains(id)).expect("a third");
    world.run_for(Duration::from_secs(1));
    // It runs again with what it had, and one of the other two is gone: with its vote there would be a majority.
    world.restart(lost);
    world.crash(other);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.leader(), None, "nobody counts its vote");
    world.restart(other);
    world.until("a leader", |world| world.leader().is_some_and(|leader| leader != lost));
}

#[test]
fn without_a_majority_of_the_others_nobody_is_admitted_again() {
    let mut world = World::of_three(14);
    let (leader, lost) = one_that_follows(&world);
    let other = *world.hosts.keys().find(|id| ![leader, lost].contains(id)).expect("a third");
    // It is asked for while it still runs, as by a second process on a copy of its directory: the leader would do it, so
    // long as the rest can carry the cluster.
    world.crash(other);
    world.run_for(Duration::from_secs(1));
    let request = Request::ReplaceMember { address: "m:1".into(), csr: CSR.into() };
    let handle = world.ask(leader, Identity::Manager(lost), Some(1), request);
    world.run_for(Duration::from_secs(6));
    let error = world.answer(handle).expect("an answer").as_ref().expect_err("refused");
    assert_eq!(error.code, ErrorCode::Unavailable);
    assert!(error.message.contains("no majority"), "{}", error.message);
    assert!(world.store(leader).member(lost).is_some());
}
