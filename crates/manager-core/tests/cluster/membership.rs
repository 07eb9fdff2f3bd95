//! Managers come, go, are handed the lead, and are recovered.

use std::time::Duration;

use manager_core::{Config, Knobs, recover};
use model::{
    cluster::ClusterSettings,
    command::{Command, Entry},
    id::MemberId,
    node::Patience,
    request::{ErrorCode, Request, Response},
};

use crate::world::{ONE, THREE, TWO, World, admin};

fn waiting(world: &mut World) -> Vec<String> {
    match world.admin(Request::GetStatus) {
        Response::Status(status) => status.waiting.into_iter().map(|waiting| waiting.why).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_second_manager_stays_a_learner_until_a_third_has_caught_up() {
    let mut world = World::new(1);
    world.create("web", 0);
    world.join_member();
    world.until("the learner has the state", |world| world.store(TWO).service_by_name("web").is_some());
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.voters(ONE), 1);
    assert!(waiting(&mut world).iter().any(|why| why.contains("until a third joins")));
    world.join_member();
    world.until("all three vote", |world| [ONE, TWO, THREE].iter().all(|id| world.voters(*id) == 3));
    assert!(waiting(&mut world).is_empty(), "{:?}", waiting(&mut world));
}

#[test]
fn a_dead_manager_can_be_removed_and_its_successor_takes_its_vote() {
    let mut world = World::of_three(2);
    let leader = world.leader().expect("a leader");
    let dead = *world.hosts.keys().find(|id| **id != leader).expect("another");
    world.crash(dead);
    world.run_for(Duration::from_secs(1));
    world.admin(Request::RemoveMember(dead));
    world.until("one votes", |world| world.voters(leader) == 1);
    world.hosts.remove(&dead);
    world.join_member();
    world.until("three vote", |world| world.voters(leader) == 3);
    assert!(!world.manager(leader).status().membership.members().contains(&dead));
}

#[test]
fn a_removed_manager_votes_until_the_voters_have_changed_without_it() {
    for seed in 20..40 {
        let mut world = World::of_three(seed);
        let leader = world.leader().expect("a leader");
        let others: Vec<MemberId> = world.hosts.keys().copied().filter(|id| *id != leader).collect();
        let [removed, failing] = others[..] else { panic!("three managers: {others:?}") };
        let handle = world.ask(leader, admin(), Some(seed), Request::RemoveMember(removed));
        world.crash(failing);
        world.until("the removal is answered", |world| world.answer(handle).is_some());
        world.until("the voters have changed", |world| world.voters(leader) == 1);
        world.create("web", 0);
        world.until("the removed one has ended", |world| world.hosts[&removed].halted.is_some());
    }
}

#[test]
fn a_removed_manager_that_comes_to_lead_hands_the_lead_over() {
    for seed in 40..60 {
        let mut world = World::of_three(seed);
        let leader = world.leader().expect("a leader");
        let others: Vec<MemberId> = world.hosts.keys().copied().filter(|id| *id != leader).collect();
        let [removed, other] = others[..] else { panic!("three managers: {others:?}") };
        let handle = world.ask(leader, admin(), Some(seed), Request::RemoveMember(removed));
        world.until("the removal is answered", |world| world.answer(handle).is_some());
        world.crash(leader);
        world.run_for(Duration::from_millis(500));
        world.restart(leader);
        world.until("the removed one has ended", |world| world.hosts[&removed].halted.is_some());
        world.until("a member leads", |world| world.leader().is_some_and(|id| [leader, other].contains(&id)));
    }
}

#[test]
fn a_removal_that_would_stop_the_cluster_is_refused() {
    let mut world = World::of_three(3);
    let leader = world.leader().expect("a leader");
    let others: Vec<MemberId> = world.hosts.keys().copied().filter(|id| *id != leader).collect();
    world.crash(others[0]);
    world.run_for(Duration::from_secs(1));
    let error =
        world.insist(admin(), Request::RemoveMember(others[1])).expect_err("two of three would be gone");
    assert_eq!(error.code, ErrorCode::Conflict, "{error}");
}

#[test]
fn the_lead_is_handed_over_on_request_and_nothing_is_lost() {
    let mut world = World::of_three(4);
    world.create("web", 1);
    let old = world.leader().expect("a leader");
    let new = if old == TWO { THREE } else { TWO };
    world.admin(Request::TransferLeader { to: Some(new) });
    world.until("the other leads", |world| world.leader() == Some(new));
    assert!(world.store(new).service_by_name("web").is_some());
}

#[test]
fn the_leader_itself_can_be_removed_after_it_has_handed_over() {
    let mut world = World::of_three(5);
    let old = world.leader().expect("a leader");
    world.admin(Request::RemoveMember(old));
    let new = world.leader().expect("a leader");
    assert_ne!(new, old);
    world.until("it has no vote", |world| !world.manager(new).status().membership.voters.contains(&old));
}

#[test]
fn a_member_that_was_away_for_long_catches_up_by_snapshot() {
    let knobs = Knobs { snapshot_entries: 20, keep_entries: 5, ..Knobs::default() };
    let mut world = World::of_three_with(6, knobs);
    let leader = world.leader().expect("a leader");
    let behind = *world.hosts.keys().find(|id| **id != leader).expect("another");
    world.crash(behind);
    for i in 0..60 {
        world.create(&format!("s{i}"), 0);
    }
    world.restart(behind);
    world.until("it has everything", |world| world.store(behind).service_by_name("s59").is_some());
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.store(behind).hash(), world.store(leader).hash());
}

#[test]
fn a_member_whose_state_differs_from_the_majoritys_halts() {
    let knobs = Knobs { snapshot_entries: 5, keep_entries: 0, hash_every: 10, ..Knobs::default() };
    let mut world = World::of_three_with(9, knobs);
    let leader = world.leader().expect("a leader");
    let bad = *world.hosts.keys().find(|id| **id != leader).expect("another");
    world.run_for(Duration::from_secs(1));
    world.crash(bad);
    let mut recovered = world.hosts[&bad].disk.recovered();
    let snapshot = recovered.snapshot.as_mut().expect("a snapshot");
    let mut state: store::Store = proto::codec::decode(&snapshot.bytes).expect("a state");
    let settings = ClusterSettings {
        patience: Patience { server: Duration::from_secs(9), ..Patience::default() },
        ..ClusterSettings::default()
    };
    let entry = Entry {
        at: state.time(),
        request: None,
        actor: admin(),
        command: Command::SetSettings(settings),
        origin: Default::default(),
    };
    state.apply(state.applied() + 1, &entry);
    snapshot.bytes = proto::codec::encode(&state);
    let config = world.config(bad);
    world.boot(config, recovered);
    for i in 0..30 {
        world.create(&format!("s{i}"), 0);
    }
    world.until("it halts", |world| world.hosts[&bad].halted.is_some());
    assert!(world.hosts[&bad].halted.as_ref().is_some_and(|reason| reason.contains("hash")));
    assert_eq!(world.running().count(), 2);
}

#[test]
fn a_moved_manager_tells_its_new_address() {
    let mut world = World::of_three(7);
    world.crash(TWO);
    let recovered = world.hosts[&TWO].disk.recovered();
    let config = Config { address: "elsewhere:1".into(), version: "2".into(), ..world.config(TWO) };
    world.boot(config, recovered);
    world.until("all know", |world| {
        world.running().all(|(_, manager)| {
            manager
                .store()
                .member(TWO)
                .is_some_and(|member| member.address == "elsewhere:1" && member.version == "2")
        })
    });
}

#[test]
fn a_survivor_becomes_a_cluster_of_one_with_everything_it_had() {
    let mut world = World::of_three(8);
    world.create("web", 1);
    world.run_for(Duration::from_secs(1));
    for id in [ONE, TWO, THREE] {
        world.crash(id);
    }
    let disk = world.hosts[&TWO].disk.recovered();
    let recovery = recover(&disk, "manager-2:7443", world.now.wall).expect("recovered");
    assert_eq!(recovery.member, MemberId(4));
    let config = world.config(recovery.member);
    world.boot(config, recovery.recovered);
    world.until("it leads", |world| world.leader() == Some(MemberId(4)));
    assert!(world.store(MemberId(4)).service_by_name("web").is_some());
    world.create("more", 1);
    let members: Vec<MemberId> = world.store(MemberId(4)).members().map(|member| member.id).collect();
    assert_eq!(members, [MemberId(4)]);
}
