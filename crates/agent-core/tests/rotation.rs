//! Routes, the wait before a stop, and networks, as the agent sees them.

mod world;

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use agent_core::{action::Action, engine::EngineCall, event::Event};
use mesh::control::MeshConfig;
use model::{
    container::ContainerSpec,
    id::{NetworkId, ServiceId, TaskId},
    route::{NetworkRoute, RouteVersion, ServiceRoute},
    session::{AgentMessage, ManagerMessage, RouteChange},
    task::DesiredState,
};
use world::{World, assignment};

fn change(sequence: u64, whole: bool, services: &[u64]) -> RouteChange {
    let route = |id: &u64| ServiceRoute {
        service: ServiceId(*id),
        name: format!("s{id}"),
        addresses: Vec::new(),
        ports: Vec::new(),
        endpoints: Vec::new(),
    };
    RouteChange {
        version: RouteVersion { term: 1, session: 1, sequence },
        whole,
        ingress: true,
        outbound: false,
        upsert: services.iter().map(route).collect(),
        remove: Vec::new(),
        peers: None,
        networks: None,
        removed: None,
        more: false,
    }
}

fn configs(world: &mut World) -> Vec<MeshConfig> {
    let actions = std::mem::take(&mut world.log);
    actions
        .into_iter()
        .filter_map(|action| match action {
            Action::Mesh(config) => Some(*config),
            _ => None,
        })
        .collect()
}

fn stops(world: &World) -> usize {
    let stop = |action: &&Action| matches!(action, Action::Engine { call: EngineCall::Stop { .. }, .. });
    world.log.iter().filter(stop).count()
}

fn drains(world: &World) -> usize {
    world.log.iter().filter(|action| matches!(action, Action::DrainTask { .. })).count()
}

/// An agent with a mesh, in session, that runs task 1.
fn running(drain: Option<Duration>) -> World {
    let mut world = World::new(1);
    world.engine_up();
    world.open_session();
    let mut task = assignment(1);
    task.container = Arc::new(ContainerSpec { drain, ..(*task.container).clone() });
    world.desired.insert(TaskId(1), task);
    world.assign();
    world.run();
    world.say(ManagerMessage::Routes(Box::new(change(1, true, &[1]))));
    world.feed(Event::MeshUp);
    world.log.clear();
    world
}

fn stop(world: &mut World) {
    world.desired.get_mut(&TaskId(1)).expect("assigned").desired = DesiredState::Stopped;
    world.assign();
    world.store_all();
}

#[test]
fn a_container_stops_when_nothing_of_its_traffic_is_under_way() {
    let mut world = running(None);
    stop(&mut world);
    assert_eq!((drains(&world), stops(&world)), (1, 0));
    world.feed(Event::MeshDrained { task: TaskId(2) });
    assert_eq!(stops(&world), 0, "another task's word");
    world.feed(Event::MeshDrained { task: TaskId(1) });
    assert_eq!((drains(&world), stops(&world)), (1, 1));
}

#[test]
fn traffic_that_does_not_end_is_cut_when_its_time_is_over() {
    let mut world = running(Some(Duration::from_secs(3)));
    stop(&mut world);
    world.advance(Duration::from_millis(2_900));
    assert_eq!(stops(&world), 0);
    world.advance(Duration::from_millis(200));
    assert_eq!((drains(&world), stops(&world)), (1, 1));
}

#[test]
fn without_a_mesh_or_without_patience_nothing_waits() {
    let mut world = running(Some(Duration::ZERO));
    stop(&mut world);
    assert_eq!((drains(&world), stops(&world)), (0, 1));
    let mut world = running(None);
    stop(&mut world);
    world.feed(Event::MeshDown { reason: "killed".into() });
    assert_eq!(stops(&world), 1, "its connections ended with it");
}

#[test]
fn a_task_that_is_to_stop_is_opened_by_no_mesh_that_begins_anew() {
    let mut world = running(Some(Duration::from_secs(10)));
    stop(&mut world);
    assert_eq!((drains(&world), stops(&world)), (1, 0));
    world.feed(Event::MeshDown { reason: "killed".into() });
    world.feed(Event::MeshUp);
    let config = configs(&mut world).pop().expect("a configuration");
    assert_eq!(config.locals, [], "its container still runs");
}

#[test]
fn routes_come_as_a_whole_then_as_differences_and_stay_without_a_session() {
    let mut world = running(None);
    world.say(ManagerMessage::Routes(Box::new(change(2, false, &[2]))));
    let config = configs(&mut world).pop().expect("a configuration");
    assert_eq!(config.table.services.len(), 2);
    assert_eq!(config.locals.iter().map(|local| local.task).collect::<Vec<_>>(), [TaskId(1)]);
    let version = config.table.version;
    world.feed(Event::MeshApplied { version });
    let told = |action: &Action| matches!(action, Action::Send { message, .. } if **message == AgentMessage::Routed(version));
    assert!(world.log.iter().any(told), "the manager hears what the node goes by");

    world.close_session();
    assert!(configs(&mut world).is_empty(), "the last routes stay");
    world.open_session();
    world.say(ManagerMessage::Routes(Box::new(change(1, false, &[3]))));
    assert!(configs(&mut world).is_empty(), "a difference to what this session never said");
    let mut first = change(1, true, &[4]);
    first.more = true;
    world.say(ManagerMessage::Routes(Box::new(first)));
    assert!(configs(&mut world).is_empty(), "nothing of it holds before its last part is there");
    world.say(ManagerMessage::Routes(Box::new(change(1, true, &[5]))));
    let config = configs(&mut world).pop().expect("a configuration");
    let services: Vec<u64> = config.table.services.iter().map(|route| route.service.0).collect();
    assert_eq!(services, [4, 5]);
}

#[test]
fn a_container_is_made_when_the_addresses_of_its_networks_are_known() {
    let mut world = World::new(1);
    world.engine_up();
    world.open_session();
    let mut task = assignment(1);
    task.container = Arc::new(ContainerSpec { networks: vec!["shop".into()], ..(*task.container).clone() });
    world.desired.insert(TaskId(1), task);
    world.assign();
    world.run();
    assert!(world.engine.containers.is_empty());
    let base = Ipv4Addr::new(10, 128, 0, 0);
    let network = NetworkRoute { network: NetworkId(7), name: "shop".into(), base, number: 3 };
    let mut routes = change(1, true, &[1]);
    routes.networks = Some(vec![network.clone()]);
    world.say(ManagerMessage::Routes(Box::new(routes)));
    let made = world.log.iter().find_map(|action| match action {
        Action::Engine { call: EngineCall::Create(request), .. } => Some(request.networks.clone()),
        _ => None,
    });
    assert_eq!(made, Some(vec![network]));
}
