//! Everything at once: crashes that lose unsynced writes, partitions, lost and reordered messages, under load.

use std::{collections::BTreeMap, time::Duration};

use manager_core::{Event, Knobs, SpaceState};
use model::{
    id::MemberId,
    request::{Request, Response},
};

use crate::world::{ONE, World, admin, spec};

/// Clients write while machines fail; at the end every acknowledged write is there, and all states are the same.
fn acknowledged_writes_survive(seed: u64) {
    let knobs = Knobs { snapshot_entries: 30, keep_entries: 5, hash_every: 10, ..Knobs::default() };
    let mut world = World::of_three_with(seed, knobs);
    let ids: Vec<MemberId> = world.hosts.keys().copied().collect();
    let mut asked: BTreeMap<u64, String> = BTreeMap::new();
    world.loss = world.roll(15);
    for round in 0..60 {
        for _ in 0..3 {
            let name = format!("s{}", asked.len());
            let to = ids[world.roll(3) as usize];
            let request = Request::CreateService(spec(&name, 0).into());
            let handle = world.ask(to, admin(), Some(1 + asked.len() as u64), request);
            asked.insert(handle, name);
        }
        let victim = ids[world.roll(3) as usize];
        match world.roll(8) {
            0 if world.running().count() == 3 => world.crash(victim),
            1 => {
                world.cut.insert(victim);
            }
            2 => world.cut.clear(),
            3 | 4 => {
                let down: Vec<MemberId> = ids
                    .iter()
                    .copied()
                    .filter(|id| world.hosts[id].manager.is_none() && world.hosts[id].halted.is_none())
                    .collect();
                down.into_iter().for_each(|id| world.restart(id));
            }
            _ => {}
        }
        let pause = Duration::from_millis(world.roll(200));
        world.run_for(pause);
        let _ = round;
    }
    heal(&mut world, &ids);
    check(&mut world, &ids, &asked, seed);
}

fn heal(world: &mut World, ids: &[MemberId]) {
    world.cut.clear();
    world.loss = 0;
    for id in ids {
        assert_eq!(world.hosts[id].halted, None);
        if world.hosts[id].manager.is_none() {
            world.restart(*id);
        }
    }
    world.run_for(Duration::from_secs(6));
    world.until("a leader", |world| world.leader().is_some());
}

fn check(world: &mut World, ids: &[MemberId], asked: &BTreeMap<u64, String>, seed: u64) {
    world.until("all have applied the same", |world| {
        let applied: Vec<u64> = world.running().map(|(_, manager)| manager.status().applied).collect();
        applied.len() == ids.len() && applied.windows(2).all(|pair| pair[0] == pair[1])
    });
    let hashes: Vec<u64> = ids.iter().map(|id| world.store(*id).hash()).collect();
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}: {hashes:x?}");
    let mut acknowledged = 0;
    for (handle, name) in asked {
        if let Some(Ok(_)) = world.answer(*handle) {
            acknowledged += 1;
            assert!(
                world.store(ids[0]).service_by_name(name).is_some(),
                "seed {seed}: {name} was acknowledged"
            );
        }
    }
    assert!(acknowledged > 0, "seed {seed}: nothing was acknowledged at all");
    let Response::Services(rows) = world.admin(Request::ListServices) else { panic!("a list") };
    assert!(rows.len() >= acknowledged);
    for id in ids {
        world.store(*id).check().expect("indices agree with the tables");
    }
}

#[test]
fn acknowledged_writes_survive_crashes_partitions_and_loss() {
    for seed in 0..20 {
        acknowledged_writes_survive(seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut world = World::of_three(seed);
        world.create("web", 3);
        world.run_for(Duration::from_secs(2));
        (world.now.mono, world.leaders.clone(), world.store(world.leader().expect("a leader")).hash())
    };
    assert_eq!(run(11), run(11));
}

#[test]
fn a_full_disk_puts_decisions_off_and_wakes_nobody_for_them() {
    let mut world = World::new(15);
    let ttl = Duration::from_secs(60);
    let role = model::identity::JoinRole::Agent;
    let node_spec = model::node::NodeSpec::default();
    world.admin(Request::CreateToken { role, ttl, uses: 1, node_spec });
    let tokens = |world: &World| world.store(ONE).tokens().count();
    let before = tokens(&world);
    world.feed(ONE, Event::Space(SpaceState::Exhausted));
    // The world fails when a timer fires for ever.
    world.run_for(2 * ttl);
    assert_eq!(tokens(&world), before, "an expired token is dropped by a decision");
    world.feed(ONE, Event::Space(SpaceState::Enough));
    world.until("there is room, and it is dropped", |world| tokens(world) < before);
}
