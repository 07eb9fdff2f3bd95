//! Routes: every node goes by what the state says, and by no more than it may see.

use std::time::Duration;

use control::routes;
use manager_core::Knobs;
use model::{
    id::NodeId,
    network::NetworkSpec,
    node::NodeClass,
    request::{NodeChange, Request, Response},
    route::IngressPort,
    service::ServiceSpec,
};

use crate::{
    agent::Agent,
    world::{World, spec},
};

fn create(world: &mut World, name: &str, replicas: u32, change: impl FnOnce(&mut ServiceSpec)) {
    let mut spec = spec(name, replicas);
    change(&mut spec);
    world.admin(Request::CreateService(spec.into()));
}

fn published(port: u16) -> impl FnOnce(&mut ServiceSpec) {
    move |spec| {
        spec.ports = vec![IngressPort { published: port, target: 80, http: None, proxy_protocol: false }];
    }
}

/// Whether an agent holds exactly what the leader's state says of a service.
fn knows(world: &World, agent: &Agent, name: &str) -> bool {
    let Some(leader) = world.leader() else { return false };
    let store = world.store(leader);
    let Some(service) = store.service_by_name(name) else { return false };
    agent.routes.get(&service.id) == routes::service_route(store, service).as_ref()
}

fn endpoints(agent: &Agent, name: &str) -> usize {
    agent.routes.values().find(|route| route.name == name).map_or(0, |route| route.endpoints.len())
}

#[test]
fn every_ingress_node_goes_by_what_the_state_says_whoever_leads() {
    let mut world = World::of_three(31);
    for _ in 0..4 {
        world.join_node();
    }
    create(&mut world, "web", 3, published(80));
    world.until("all know three endpoints", |world| {
        world.agents.values().all(|agent| endpoints(agent, "web") == 3 && knows(world, agent, "web"))
    });
    world.admin(Request::ScaleServices(vec![("web".into(), 1)]));
    world.until("all know one endpoint", |world| {
        world.agents.values().all(|agent| endpoints(agent, "web") == 1)
    });
    let leader = world.leader().expect("a leader");
    world.crash(leader);
    world.admin(Request::ScaleServices(vec![("web".into(), 2)]));
    world.until("the next leader's word", |world| {
        world.agents.values().all(|agent| endpoints(agent, "web") == 2 && knows(world, agent, "web"))
    });
    world.admin(Request::RemoveService("web".into()));
    world.until("nobody knows it", |world| world.agents.values().all(|agent| agent.routes.is_empty()));
}

#[test]
fn a_node_sees_the_services_that_it_may_reach_and_no_others() {
    let mut world = World::new(32);
    let nodes: Vec<_> = (0..3).map(|_| world.join_node()).collect();
    let class = NodeChange { class: Some(NodeClass::Workstation), ..NodeChange::default() };
    world.admin(Request::UpdateNode { node: nodes[2].to_string(), change: class });
    let network = NetworkSpec { name: "shop".into(), ..NetworkSpec::default() };
    world.admin(Request::CreateNetwork(network));
    let on = |node: usize| {
        let constraint = format!("node.id=={}", nodes[node]).parse().expect("a constraint");
        move |spec: &mut ServiceSpec| {
            spec.template.placement.constraints = vec![constraint];
            spec.template.container.networks = vec!["shop".into()];
        }
    };
    create(&mut world, "mariadb", 1, on(0));
    world.until("its own node sees it", |world| endpoints(&world.agents[&nodes[0]], "mariadb") == 1);
    world.run_for(Duration::from_secs(2));
    assert!(world.agents[&nodes[1]].routes.is_empty(), "no task of that network");
    create(&mut world, "ispyb", 1, on(1));
    world.until("the other one of the network", |world| endpoints(&world.agents[&nodes[1]], "mariadb") == 1);
    create(&mut world, "web", 1, published(80));
    world.until("ingress nodes see it", |world| endpoints(&world.agents[&nodes[1]], "web") == 1);
    let serves = world.agents[&nodes[2]].held.values().any(|held| held.service_name == "web");
    world.until("a workstation sees what it runs and no more", |world| {
        endpoints(&world.agents[&nodes[2]], "web") == usize::from(serves)
    });
}

#[test]
fn a_down_nodes_tasks_leave_the_routes_and_large_tables_come_in_parts() {
    let knobs = Knobs { assignment_part: 2_000, ..Knobs::default() };
    let mut world = World::with_knobs(33, knobs);
    let nodes: Vec<_> = (0..2).map(|_| world.join_node()).collect();
    for number in 0..12 {
        create(&mut world, &format!("web{number}"), 4, published(8_000 + number));
    }
    let all = |world: &World, node: usize, wanted: usize| {
        (0..12).all(|number| endpoints(&world.agents[&nodes[node]], &format!("web{number}")) == wanted)
    };
    world.until("every route is there", |world| all(world, 0, 4) && all(world, 1, 4));
    world.away.insert(nodes[1]);
    world.hang_up(nodes[1]);
    let gone = |world: &World| {
        let here = |route: &model::route::ServiceRoute| route.endpoints.iter().all(|e| e.node == nodes[0]);
        world.agents[&nodes[0]].routes.values().all(here)
    };
    world.until("no route leads to a node that is down", gone);
}

#[test]
fn a_node_that_does_not_confirm_its_routes_is_named() {
    let mut world = World::new(34);
    let node = world.join_node();
    world.agents.get_mut(&node).expect("an agent").routes_at_once = false;
    create(&mut world, "web", 1, published(80));
    world.until("it has routes", |world| endpoints(&world.agents[&node], "web") == 1);
    let behind = |world: &mut World| match world.admin(Request::GetEndpoints("web".into())) {
        Response::Endpoints(view) => view.behind,
        other => panic!("{other:?}"),
    };
    assert_eq!(behind(&mut world).len(), 1);
    let version = world.agents[&node].routed.expect("a version");
    world.say(node, model::session::AgentMessage::Routed(version));
    assert!(behind(&mut world).is_empty());
}

#[test]
fn every_node_is_told_which_others_were_removed_also_by_the_next_leader() {
    let mut world = World::of_three(35);
    let nodes: Vec<_> = (0..3).map(|_| world.join_node()).collect();
    create(&mut world, "web", 1, published(80));
    let told = |world: &World, removed: &[NodeId]| {
        nodes[..1].iter().all(|node| world.agents[node].removed == removed)
    };
    world.admin(Request::RemoveNode { node: nodes[2].to_string(), force: true });
    world.until("the first is struck", |world| told(world, &nodes[2..]));
    let leader = world.leader().expect("a leader");
    world.crash(leader);
    world.admin(Request::RemoveNode { node: nodes[1].to_string(), force: true });
    world.until("both are struck", |world| told(world, &[nodes[2], nodes[1]]));
}
