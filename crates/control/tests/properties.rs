//! Random clusters, random faults, and what must hold after every plan. Each plan is also compared with that of a control
//! loop without memory, and the kept view of the nodes with one built anew (see `common`).

mod common;

use std::{collections::BTreeMap, time::Duration};

use common::{World, facts};
use control::Control;
use model::{
    command::{Command, Decision},
    container::PortSpec,
    id::{NodeId, ServiceId, TaskId},
    node::{Availability, NodeSpec, NodeState},
    service::{FailureAction, Mode, RolloutState, ServiceSpec, Slot, UpdateOrder},
    task::{DesiredState, Health, Task, TaskState},
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Op {
    Down(usize),
    Up(usize),
    Availability(usize, Availability),
    Label(usize, bool),
    Engine(usize, bool),
    Join,
    Forget(usize),
    Create(Shape),
    Scale(usize, u32),
    Image(usize, &'static str),
    Rollback(usize),
    Remove(usize),
    Health(usize, Health),
    Crash(usize),
    Agents,
    Advance(u64),
    Decide,
}

/// A service to create.
#[derive(Debug, Clone)]
struct Shape {
    global: bool,
    replicas: u32,
    start_first: bool,
    parallelism: u32,
    rollback: bool,
    monitor: u64,
    delay: u64,
    pinned: bool,
    spread: bool,
    port: bool,
    cpu: u64,
    max: u32,
}

fn shape() -> impl Strategy<Value = Shape> {
    let flags = (
        prop::bool::weighted(0.2),
        any::<bool>(),
        any::<bool>(),
        prop::bool::weighted(0.2),
        any::<bool>(),
        prop::bool::weighted(0.2),
    );
    let numbers = (0u32..6, 1u32..3, 0u64..3, 0u64..3, 0u64..900, prop::sample::select(vec![0, 0, 0, 1, 2]));
    (flags, numbers).prop_map(|(flags, numbers)| Shape {
        global: flags.0,
        start_first: flags.1,
        rollback: flags.2,
        pinned: flags.3,
        spread: flags.4,
        port: flags.5,
        replicas: numbers.0,
        parallelism: numbers.1,
        monitor: numbers.2,
        delay: numbers.3,
        cpu: numbers.4,
        max: numbers.5,
    })
}

fn op() -> impl Strategy<Value = Op> {
    use Availability::{Active, Drain, Pause};
    let images = vec!["app:1", "app:2", "app:3", "sick:1", "crashes:1", "refused:1", "slow:1"];
    prop_oneof![
        2 => (0usize..8).prop_map(Op::Down),
        2 => (0usize..8).prop_map(Op::Up),
        2 => (0usize..8, prop::sample::select(vec![Active, Active, Pause, Drain]))
            .prop_map(|(node, availability)| Op::Availability(node, availability)),
        1 => (0usize..8, any::<bool>()).prop_map(|(node, on)| Op::Label(node, on)),
        1 => (0usize..8, prop::bool::weighted(0.7)).prop_map(|(node, on)| Op::Engine(node, on)),
        1 => Just(Op::Join),
        1 => (0usize..8).prop_map(Op::Forget),
        2 => shape().prop_map(Op::Create),
        2 => (0usize..6, 0u32..7).prop_map(|(service, replicas)| Op::Scale(service, replicas)),
        3 => (0usize..6, prop::sample::select(images)).prop_map(|(service, image)| Op::Image(service, image)),
        1 => (0usize..6).prop_map(Op::Rollback),
        1 => (0usize..6).prop_map(Op::Remove),
        3 => (0usize..20, prop::sample::select(vec![Health::None, Health::Starting, Health::Unhealthy]))
            .prop_map(|(task, health)| Op::Health(task, health)),
        1 => (0usize..20).prop_map(Op::Crash),
        10 => Just(Op::Agents),
        5 => (1u64..20).prop_map(Op::Advance),
        14 => Just(Op::Decide),
    ]
}

fn spec(name: String, shape: &Shape) -> ServiceSpec {
    let mut spec = ServiceSpec { name, ..ServiceSpec::default() };
    spec.mode = if shape.global { Mode::Global } else { Mode::Replicated(shape.replicas) };
    let template = &mut spec.template;
    template.container.image = "app:1".into();
    template.container.resources.cpu_reserve_millis = shape.cpu;
    template.placement.max_per_node = shape.max;
    if shape.port {
        template.container.ports =
            vec![PortSpec { target: 80, published: 8_080, protocol: Default::default() }];
    }
    if shape.pinned {
        template.placement.constraints.push("node.labels.on==yes".parse().expect("a constraint"));
    }
    if shape.spread {
        template.placement.spread.push("node.labels.rack".parse().expect("an attribute"));
    }
    spec.update.order = if shape.start_first { UpdateOrder::StartFirst } else { UpdateOrder::StopFirst };
    spec.update.parallelism = shape.parallelism;
    spec.update.monitor = Duration::from_secs(shape.monitor);
    spec.update.delay = Duration::from_secs(shape.delay);
    // Longer than any run: what is given up by a deadline is not counted, and is tested by scripts.
    spec.update.progress_deadline = Duration::from_secs(100_000);
    spec.update.failure_action = if shape.rollback { FailureAction::Rollback } else { FailureAction::Pause };
    spec
}

fn join(world: &mut World) {
    let number = world.store.node_count();
    let mut spec = NodeSpec::default();
    spec.labels.insert("rack".into(), (number % 2).to_string());
    spec.labels.insert("on".into(), "yes".into());
    world.join(facts(&format!("n{number}"), 4_000, 8_000), spec);
}

fn apply(world: &mut World, op: &Op) {
    let nodes: Vec<NodeId> = world.store.nodes().map(|node| node.id).collect();
    let services: Vec<ServiceId> =
        world.store.services().filter(|service| !service.removing).map(|service| service.id).collect();
    let node = |index: &usize| nodes.get(*index).copied();
    let service = |index: &usize| services.get(*index).copied();
    match op {
        Op::Down(index) => node(index).into_iter().for_each(|id| world.down(id)),
        Op::Up(index) => node(index).into_iter().for_each(|id| world.up(id)),
        Op::Availability(index, to) => {
            node(index).into_iter().for_each(|id| world.change_node(id, |spec| spec.availability = *to));
        }
        Op::Label(index, on) => node(index).into_iter().for_each(|id| {
            let value = if *on { "yes" } else { "no" };
            world.change_node(id, |spec| {
                spec.labels.insert("on".into(), value.into());
            });
        }),
        Op::Engine(index, on) => node(index).into_iter().for_each(|id| {
            let node = world.store.node(id).expect("listed").clone();
            let facts = model::node::Facts { engine_ok: *on, ..node.facts };
            world.must(Command::NodeFacts { id, incarnation: node.incarnation, facts });
        }),
        Op::Join if nodes.len() < 8 => join(world),
        Op::Forget(index) if nodes.len() > 2 => node(index).into_iter().for_each(|id| {
            world.must(Command::RemoveNode { id, force: true });
        }),
        Op::Create(shape) if services.len() < 6 => {
            let name = format!("s{}", world.now.0);
            world.create(spec(name, shape));
        }
        Op::Scale(index, replicas) => service(index).into_iter().for_each(|id| {
            let _ = world.commit(Command::ScaleServices(vec![(id, *replicas)]));
        }),
        Op::Image(index, image) => service(index).into_iter().for_each(|id| {
            world.update(id, |spec| spec.template.container.image = (*image).into());
        }),
        Op::Rollback(index) => service(index).into_iter().for_each(|id| {
            let _ = world.commit(Command::RollbackService { id, to: None, note: Default::default() });
        }),
        Op::Remove(index) => service(index).into_iter().for_each(|id| {
            world.must(Command::RemoveService { id });
        }),
        Op::Health(index, health) => running(world, *index).into_iter().for_each(|id| {
            world.report(id, |observed| observed.health = *health);
        }),
        Op::Crash(index) => running(world, *index).into_iter().for_each(|id| {
            world.report(id, |observed| {
                observed.state = TaskState::CrashLoop;
                observed.restarts += 1;
            });
        }),
        Op::Agents => {
            world.agents();
        }
        Op::Advance(seconds) => world.advance(Duration::from_secs(*seconds)),
        Op::Decide => decide(world),
        Op::Join | Op::Forget(_) | Op::Create(_) => {}
    }
}

fn running(world: &World, index: usize) -> Option<TaskId> {
    let heard = |task: &&Task| {
        let node = task.node.and_then(|id| world.store.node(id));
        task.observed.state == TaskState::Running && node.is_some_and(|node| node.state == NodeState::Ready)
    };
    world.store.tasks().filter(heard).nth(index).map(|task| task.id)
}

/// One plan, with everything that must hold for it.
fn decide(world: &mut World) {
    let before = world.store.clone();
    let healthy_before: BTreeMap<ServiceId, Vec<Task>> = before
        .services()
        .map(|service| {
            let tasks = before.tasks_of_service(service.id).filter(|task| world.is_healthy(task));
            (service.id, tasks.cloned().collect())
        })
        .collect();
    let (plan, rejected) = world.decide();
    assert!(rejected.is_empty(), "refused: {rejected:?} of {:?}", plan.decisions);
    placements_hold(world, &before, &plan.decisions);
    slots_are_single(world);
    containers_are_single(world);
    for (id, healthy) in healthy_before {
        availability_holds(world, &before, id, &healthy, &plan.decisions);
    }
}

/// Reservations, ports, limits per node, constraints.
fn placements_hold(world: &World, before: &store::Store, decisions: &[Decision]) {
    for node in world.store.nodes() {
        let (cpu, memory) = world.store.reserved_on(node.id);
        assert!(cpu <= node.facts.cpu_millis && memory <= node.facts.memory, "{} over-committed", node.id);
        let mut ports = 0;
        for task in world.store.tasks_on_node(node.id).filter(|task| task.may_have_container()) {
            let template = world.service(task.service).template_of(task.template).expect("kept while in use");
            ports += template.container.ports.len();
        }
        assert!(ports <= 1, "port 8080 is given out {ports} times on {}", node.id);
    }
    for decision in decisions {
        let (id, node) = match decision {
            Decision::CreateTask { id, node: Some(node), .. } | Decision::AssignTask { id, node, .. } => {
                (id, node)
            }
            _ => continue,
        };
        let task = world.store.task(*id).expect("just decided");
        let node = before.node(*node).expect("chosen from the store");
        let template = world.service(task.service).template_of(task.template).expect("kept while in use");
        assert!(node.state == NodeState::Ready && node.spec.availability == Availability::Active);
        assert!(node.facts.engine_ok);
        assert!(template.placement.constraints.iter().all(|constraint| constraint.admits(node)));
        let most = template.placement.max_per_node as usize;
        let mine = |other: &&Task| other.service == task.service && other.may_have_container();
        assert!(most == 0 || world.store.tasks_on_node(node.id).filter(mine).count() <= most);
    }
}

/// I4: one active task per slot, two during a start-first replacement.
fn slots_are_single(world: &World) {
    for service in world.store.services() {
        let most = if service.spec.update.order == UpdateOrder::StartFirst { 2 } else { 1 };
        for (slot, tasks) in world.active(service.id) {
            assert!(
                tasks.len() <= most,
                "{} slot {slot} has {} active tasks",
                service.spec.name,
                tasks.len()
            );
        }
    }
}

/// I5: on nodes that can be heard, one container per slot may run, two during a start-first replacement. Not counted are
/// tasks that were replaced while their node was down and that its agent has not stopped yet since it is back.
fn containers_are_single(world: &World) {
    for service in world.store.services() {
        let most = if service.spec.update.order == UpdateOrder::StartFirst { 2 } else { 1 };
        let mut slots: BTreeMap<Slot, usize> = BTreeMap::new();
        for task in world.store.tasks_of_service(service.id).filter(|task| task.may_have_container()) {
            let Some(node) = task.node.and_then(|id| world.store.node(id)) else { continue };
            let returned = task.desired == DesiredState::Stopped && task.created < node.since;
            if node.state == NodeState::Ready && !returned {
                *slots.entry(task.slot).or_default() += 1;
            }
        }
        for (slot, containers) in slots {
            assert!(containers <= most, "slot {slot} of {} may run {containers}", service.spec.name);
        }
    }
}

/// I11: the plan's own stops keep enough replicas healthy. Not counted are slots that wait for a node that is down, and,
/// outside of rollouts, slots whose task no node can take.
fn availability_holds(
    world: &World,
    before: &store::Store,
    id: ServiceId,
    healthy: &[Task],
    decisions: &[Decision],
) {
    let service = before.service(id).expect("listed");
    let Mode::Replicated(replicas) = service.spec.mode else { return };
    if service.removing {
        return;
    }
    let stopped =
        |task: &&Task| decisions.iter().any(|d| matches!(d, Decision::StopTask { id, .. } if *id == task.id));
    let wanted = |task: &&Task| matches!(task.slot, Slot::Replica(number) if number <= replicas);
    let stops: Vec<&Task> = healthy.iter().filter(wanted).filter(stopped).collect();
    if stops.is_empty() {
        return;
    }
    let fit = |slot: Slot| world.store.tasks_of_slot(id, slot).any(|task| world.is_healthy(task));
    let updating = service
        .rollout
        .as_ref()
        .is_some_and(|rollout| matches!(rollout.state, RolloutState::Updating | RolloutState::RollingBack));
    let refused = |task: &Task| task.pending.as_ref().is_some_and(|reason| !reason.filters.is_empty());
    if service.spec.update.order == UpdateOrder::StartFirst {
        // A drained node ends empty although its task's successor has no room anywhere.
        let nowhere = |slot: Slot| {
            let mut active = before.tasks_of_slot(id, slot).filter(|task| task.is_active());
            !updating && active.any(|task| task.node.is_none() && refused(task))
        };
        for task in stops.iter().filter(|task| !nowhere(task.slot)) {
            assert!(fit(task.slot), "start-first left slot {} without a healthy task", task.slot);
        }
        return;
    }
    let waits = |slot: Slot| {
        let mut active = before.tasks_of_slot(id, slot).filter(|task| task.is_active()).peekable();
        let down = |task: &Task| {
            task.node.and_then(|node| before.node(node)).is_some_and(|node| node.state == NodeState::Down)
        };
        active.peek().is_some() && active.all(down)
    };
    let homeless = |slot: Slot| {
        let mut active = before.tasks_of_slot(id, slot).filter(|task| task.is_active()).peekable();
        !updating && active.peek().is_some() && active.all(|task| task.node.is_none() && refused(task))
    };
    let slots = (1..=replicas).map(Slot::Replica);
    let counted: Vec<Slot> = slots.filter(|slot| !waits(*slot) && !homeless(*slot)).collect();
    let left = counted.iter().filter(|slot| fit(**slot)).count();
    let least = counted.len().saturating_sub(service.spec.update.parallelism as usize);
    assert!(left >= least, "{left} healthy of {}, at least {least} promised", counted.len());
}

/// Everything healed: every service is whole, and nobody has anything left to decide.
fn heal(world: &mut World) {
    // Room for the old and the new replicas of every service side by side.
    (0..2).for_each(|_| join(world));
    let nodes: Vec<NodeId> = world.store.nodes().map(|node| node.id).collect();
    for id in nodes {
        world.change_node(id, |spec| {
            spec.availability = Availability::Active;
            spec.labels.insert("on".into(), "yes".into());
        });
        let node = world.store.node(id).expect("listed").clone();
        let facts = model::node::Facts { engine_ok: true, ..node.facts };
        world.must(Command::NodeUp { id, incarnation: node.incarnation, facts });
    }
    let services: Vec<ServiceId> =
        world.store.services().filter(|service| !service.removing).map(|service| service.id).collect();
    for id in &services {
        world.update(*id, |spec| {
            spec.template.container.image = "app:final".into();
            spec.template.container.resources.cpu_reserve_millis = 10;
            spec.template.container.ports.clear();
            spec.template.placement.max_per_node = 0;
            spec.update.order = UpdateOrder::StartFirst;
        });
    }
    for _ in 0..40 {
        world.settle();
        world.advance(Duration::from_secs(61));
    }
    for service in world.store.services() {
        assert!(!service.removing, "{} was never dropped", service.spec.name);
        let wanted = match service.spec.mode {
            Mode::Replicated(replicas) => replicas as usize,
            Mode::Global => world.store.node_count(),
        };
        assert_eq!(world.healthy(service.id), wanted, "{} is not whole", service.spec.name);
        assert_eq!(world.active(service.id).len(), wanted);
        let state = service.rollout.as_ref().map(|rollout| rollout.state);
        assert!(matches!(state, Some(RolloutState::Done)), "{} ended as {state:?}", service.spec.name);
        for slot in world.active(service.id).keys() {
            let ended =
                world.store.tasks_of_slot(service.id, *slot).filter(|t| t.observed.state.is_terminal());
            assert!(ended.count() <= 5, "history is bounded");
        }
    }
    assert!(world.plan().decisions.is_empty(), "converged, and still deciding");
    world.control.mark_all();
    assert!(world.plan().decisions.is_empty(), "a new leader decides something in a converged cluster");
    assert!(Control::new().decide(&world.store, world.now, &mut world.ids).decisions.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_no_promise_is_broken_and_it_heals(
        nodes in 1usize..5,
        shapes in prop::collection::vec(shape(), 1..4),
        ops in prop::collection::vec(op(), 0..150),
    ) {
        let mut world = World::new();
        (0..nodes).for_each(|_| join(&mut world));
        for (number, shape) in shapes.iter().enumerate() {
            world.create(spec(format!("first{number}"), shape));
        }
        ops.iter().for_each(|op| apply(&mut world, op));
        heal(&mut world);
    }

    #[test]
    fn equal_nodes_differ_by_one_replica_at_most(
        nodes in 1usize..90,
        replicas in prop::collection::vec(0u32..300, 1..4),
    ) {
        let mut world = World::new();
        (0..nodes).for_each(|number| { world.join(facts(&format!("n{number}"), 4_000, 8_000), NodeSpec::default()); });
        for (number, replicas) in replicas.into_iter().enumerate() {
            let mut spec = ServiceSpec { name: format!("s{number}"), ..ServiceSpec::default() };
            spec.mode = Mode::Replicated(replicas);
            let id = world.create(spec);
            world.decide_all();
            prop_assert!(difference(&world, Some(id)) <= 1);
            prop_assert!(difference(&world, None) <= 1);
        }
    }

    #[test]
    fn a_rollout_leaves_the_replicas_spread(
        nodes in 1usize..9,
        replicas in 1u32..30,
        parallelism in 1u32..5,
        start_first in any::<bool>(),
    ) {
        let mut world = World::new();
        (0..nodes).for_each(|number| { world.join(facts(&format!("n{number}"), 4_000, 8_000), NodeSpec::default()); });
        let mut spec = ServiceSpec { name: "web".into(), ..ServiceSpec::default() };
        spec.mode = Mode::Replicated(replicas);
        spec.update.parallelism = parallelism;
        spec.update.order = if start_first { UpdateOrder::StartFirst } else { UpdateOrder::StopFirst };
        let id = world.create(spec);
        world.settle();
        world.update(id, |spec| spec.template.container.image = "app:2".into());
        world.settle();
        let state = world.service(id).rollout.as_ref().map(|rollout| rollout.state);
        prop_assert_eq!(state, Some(RolloutState::Done));
        prop_assert!(difference(&world, Some(id)) <= 1);
    }
}

/// How many more active tasks (of one service) the fullest node has than the emptiest.
fn difference(world: &World, id: Option<ServiceId>) -> u32 {
    let mut loads: BTreeMap<NodeId, u32> = world.store.nodes().map(|node| (node.id, 0)).collect();
    let counted = |task: &&Task| task.is_active() && id.is_none_or(|id| task.service == id);
    for task in world.store.tasks().filter(counted) {
        *loads.entry(task.node.expect("placed")).or_default() += 1;
    }
    loads.values().max().copied().unwrap_or(0) - loads.values().min().copied().unwrap_or(0)
}
