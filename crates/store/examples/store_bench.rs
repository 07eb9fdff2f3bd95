//! Memory of a task and time to load a snapshot: `cargo run --release -p store --example store_bench [TASKS]`.
//!
//! Tasks as an agent reports them when all is well: running, healthy, one container. Memory is what the process holds more
//! than before, the indices included and the allocator's waste with it.

#![expect(clippy::disallowed_methods, reason = "a measurement reads the clock and its own size")]

#[path = "../tests/state/common/mod.rs"]
mod common;

use std::time::Instant;

use common::{SERVICE, World, create_task, encode, load, observed, spec};
use model::{
    command::{Command, Decision},
    id::{NodeId, TaskId},
    node::Incarnation,
    service::Slot,
    session::TaskReport,
    task::{Health, Observed, TaskState},
};

const NODES: u64 = 500;
const BATCH: u64 = 1_000;

fn main() {
    let tasks: u64 = std::env::args().nth(1).map_or(200_000, |text| text.parse().expect("a number"));
    let nodes: Vec<u64> = (1..=NODES).collect();
    let mut world = World::with_nodes(&nodes);
    world.create(spec("web", "registry.example/team/web:1", u32::try_from(tasks).expect("fits")));
    let before = resident();
    fill(&mut world, tasks);
    let held = resident().saturating_sub(before);
    assert_eq!(world.store.tasks_of_service(SERVICE).count() as u64, tasks);
    println!("{tasks} tasks: {} bytes each, indices included", held / tasks);

    let bytes = encode(&world.store);
    println!("snapshot: {} bytes a task", bytes.len() as u64 / tasks);
    let began = Instant::now();
    let loaded = load(&bytes);
    let took = began.elapsed();
    assert_eq!(loaded.objects_hash(), world.store.objects_hash());
    println!(
        "loaded in {:.2} s, {:.2} s a million",
        took.as_secs_f64(),
        took.as_secs_f64() * 1e6 / tasks as f64
    );
}

fn fill(world: &mut World, tasks: u64) {
    let template = world.service().template;
    let all: Vec<u64> = (1..=tasks).collect();
    for batch in all.chunks(BATCH as usize) {
        let create = |id: &u64| {
            let slot = Slot::Replica(u32::try_from(*id).expect("fits"));
            create_task(*id, slot, template, Some(id % NODES + 1), None)
        };
        let decisions: Vec<Decision> = batch.iter().map(create).collect();
        apply(world, Command::Decide(decisions));
    }
    for node in 1..=NODES {
        let on_node: Vec<TaskId> = world.store.tasks_on_node(NodeId(node)).map(|task| task.id).collect();
        let reports = on_node.into_iter().map(|task| TaskReport { task, observed: running(task) }).collect();
        apply(world, Command::Observe { node: NodeId(node), incarnation: Incarnation(1), reports });
    }
}

fn running(task: TaskId) -> Observed {
    Observed {
        health: Health::Healthy,
        container: format!("{:064x}", task.0),
        image: format!("sha256:{:064x}", 7).into(),
        ..observed(TaskState::Running, 1)
    }
}

fn apply(world: &mut World, command: Command) {
    let entry = world.entry(command);
    let applied = world.store.apply(world.store.applied() + 1, &entry);
    applied.outcome.expect("accepted");
    assert!(applied.rejected.is_empty(), "{:?}", applied.rejected.first());
}

/// Bytes of memory that the process has now.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux tells");
    let pages: u64 = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}
