//! Agents: joining, running what they are told, surviving every change of leaders without a restart.

use std::time::Duration;

use model::{
    node::NodeState,
    request::{Request, Response},
    session::AgentMessage,
    task::TaskState,
};

use crate::{
    agent::Agent,
    world::{ONE, World},
};

fn running(world: &World) -> usize {
    world.agents.values().map(Agent::running).sum()
}

fn settled(world: &World, count: usize) -> bool {
    let Some(leader) = world.leader() else { return false };
    let tasks = world.store(leader).tasks();
    running(world) == count && tasks.filter(|task| task.observed.state == TaskState::Running).count() == count
}

fn starts(world: &World) -> u32 {
    world.agents.values().flat_map(|agent| agent.starts.values()).sum()
}

#[test]
fn a_service_runs_on_the_nodes_that_joined() {
    let mut world = World::new(1);
    world.join_node();
    world.join_node();
    world.create("web", 4);
    world.until("it runs", |world| settled(world, 4));
    let images = world.agents.values().flat_map(|agent| agent.held.values()).map(|held| held.pin.clone());
    assert!(images.into_iter().all(|pin| pin.is_some()), "every node runs the same contents");
}

#[test]
fn scaling_down_stops_the_rest_and_forgets_them() {
    let mut world = World::new(2);
    world.join_node();
    world.create("web", 4);
    world.until("it runs", |world| settled(world, 4));
    world.admin(Request::ScaleServices(vec![("web".into(), 1)]));
    world.until("one is left", |world| settled(world, 1));
    world.until("the agent holds one", |world| world.agents.values().all(|agent| agent.held.len() == 1));
}

#[test]
fn a_change_of_leaders_restarts_nothing_and_fences_grow() {
    let mut world = World::of_three(3);
    for _ in 0..3 {
        world.join_node();
    }
    world.create("web", 9);
    world.until("it runs", |world| settled(world, 9));
    for _ in 0..4 {
        let leader = world.leader().expect("a leader");
        world.crash(leader);
        world.until("another leads", |world| world.leader().is_some());
        world.until("all are back", |world| world.agents.values().all(|agent| agent.session.is_some()));
        world.run_for(Duration::from_secs(6));
        world.restart(leader);
        world.run_for(Duration::from_secs(1));
    }
    assert!(settled(&world, 9));
    assert_eq!(starts(&world), 9, "no task was started twice, none was replaced");
    assert!(world.agents.values().all(|agent| agent.incarnation().map(|i| i.0) == Some(1)));
}

#[test]
fn an_agent_that_reconnects_gets_no_whole_set_when_it_has_it() {
    let mut world = World::new(4);
    let node = world.join_node();
    world.create("web", 3);
    world.until("it runs", |world| settled(world, 3));
    world.run_for(Duration::from_secs(1));
    let before = world.agents[&node].whole_sets;
    world.hang_up(node);
    world.until("it is gone", |world| world.agents[&node].session.is_none());
    world.until("it is back", |world| world.agents[&node].session.is_some());
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.agents[&node].whole_sets, before);
    assert_eq!(starts(&world), 3);
}

#[test]
fn a_node_that_stays_away_is_down_and_its_tasks_run_elsewhere() {
    let mut world = World::new(5);
    let gone = world.join_node();
    let stays = world.join_node();
    world.create("web", 4);
    world.until("it runs", |world| settled(world, 4));
    world.away.insert(gone);
    world.hang_up(gone);
    world.until("it is down", |world| {
        world.store(ONE).node(gone).is_some_and(|node| node.state == NodeState::Down)
    });
    world.until("all run on the other", |world| world.agents[&stays].running() == 4);
    world.away.clear();
    world.until("it is back and stopped its own", |world| world.agents[&gone].running() == 0);
    world.until("it is ready", |world| {
        world.store(ONE).node(gone).is_some_and(|node| node.state == NodeState::Ready)
    });
}

#[test]
fn an_agent_that_lost_its_memory_registers_anew() {
    let mut world = World::new(6);
    let node = world.join_node();
    world.create("web", 2);
    world.until("it runs", |world| settled(world, 2));
    world.hang_up(node);
    world.agents.insert(node, Agent::new(node));
    world.until("it runs again", |world| settled(world, 2));
    assert_eq!(world.agents[&node].incarnation().map(|incarnation| incarnation.0), Some(2));
}

#[test]
fn repeated_reports_and_heartbeats_never_enter_the_log() {
    let mut world = World::new(7);
    let node = world.join_node();
    world.create("web", 5);
    world.until("it runs", |world| settled(world, 5));
    world.run_for(Duration::from_secs(2));
    let before = world.manager(ONE).status().applied;
    for _ in 0..50 {
        let AgentMessage::Hello { reports, .. } = world.agents[&node].hello() else { panic!("a hello") };
        world.say(node, AgentMessage::Report(reports));
        world.run_for(Duration::from_millis(200));
    }
    assert_eq!(world.manager(ONE).status().applied, before);
}

#[test]
fn a_newer_connection_of_a_node_replaces_the_older_one() {
    let mut world = World::new(11);
    let node = world.join_node();
    world.create("web", 2);
    world.until("it runs", |world| settled(world, 2));
    let before = world.agents[&node].session.expect("welcome");
    world.connect(node, Some(ONE));
    world.until("it is welcome again", |world| world.agents[&node].session.is_some_and(|now| now > before));
    world.run_for(Duration::from_secs(5));
    assert!(settled(&world, 2));
    assert_eq!(starts(&world), 2);
}

#[test]
fn a_registration_on_its_way_does_not_outlive_the_facts_of_a_newer_connection() {
    let mut world = World::new(14);
    let node = world.join_node();
    let is_ready =
        |world: &World| world.store(ONE).node(node).is_some_and(|node| node.state == NodeState::Ready);
    world.until("it is ready", is_ready);
    for engine_ok in [false, true] {
        world.agents.get_mut(&node).expect("an agent").engine_ok = engine_ok;
        world.connect(node, Some(ONE));
    }
    world.run_for(Duration::from_secs(1));
    assert!(world.store(ONE).node(node).expect("known").facts.engine_ok, "as it was said last");
}

#[test]
fn an_agent_that_asks_for_the_whole_set_gets_it() {
    let mut world = World::new(12);
    let node = world.join_node();
    world.create("web", 2);
    world.until("it runs", |world| settled(world, 2));
    let before = world.agents[&node].whole_sets;
    world.say(node, AgentMessage::NeedFullSet);
    world.until("it has it", |world| world.agents[&node].whole_sets == before + 1);
    assert_eq!(world.agents[&node].held.len(), 2);
}

#[test]
fn an_agent_that_said_goodbye_keeps_its_tasks_while_it_is_held() {
    let mut world = World::new(13);
    let node = world.join_node();
    world.join_node();
    world.create("web", 4);
    world.until("it runs", |world| settled(world, 4));
    world.say(node, AgentMessage::Goodbye { hold: Duration::from_secs(20) });
    world.away.insert(node);
    world.hang_up(node);
    world.run_for(Duration::from_secs(15));
    world.away.clear();
    world.until("it is back", |world| world.agents[&node].session.is_some());
    assert!(settled(&world, 4));
    assert_eq!(starts(&world), 4);
}

#[test]
fn a_removed_node_is_refused() {
    let mut world = World::new(8);
    let node = world.join_node();
    world.admin(Request::RemoveNode { node: node.to_string(), force: true });
    world.until("it knows", |world| world.agents[&node].refused);
    assert!(world.store(ONE).node(node).is_none());
}

#[test]
fn images_go_out_by_tag_when_nobody_says_what_the_tag_means() {
    let mut world = World::new(9);
    let node = world.join_node();
    world.agents.get_mut(&node).expect("an agent").resolves = false;
    world.create("web", 1);
    let began = world.now.mono;
    world.until("it runs", |world| settled(world, 1));
    let took = world.now.mono.since(began);
    assert!(took < Duration::from_secs(5), "{took:?}");

    // The registry is back: the question is asked again, and what runs goes on.
    world.agents.get_mut(&node).expect("an agent").resolves = true;
    let pinned = |world: &World| world.store(ONE).services().all(|service| !service.pins.is_empty());
    assert!(!pinned(&world));
    world.until("the tag has a meaning", pinned);
    let took = world.now.mono.since(began);
    assert!(took < Duration::from_secs(20), "{took:?}");
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.agents[&node].starts.values().sum::<u32>(), 1);
}

#[test]
fn a_tag_that_nobody_can_explain_is_asked_for_ever_more_rarely_and_holds_nothing_up() {
    let mut world = World::new(11);
    let node = world.join_node();
    let agent = world.agents.get_mut(&node).expect("an agent");
    agent.resolves = false;
    world.create("web", 1);
    world.until("it runs", |world| settled(world, 1));
    world.run_for(Duration::from_secs(600));
    let asked = world.agents[&node].asked;
    assert!((5..=8).contains(&asked), "{asked} times in ten minutes");
    let began = world.now.mono;
    world.admin(Request::ScaleServices(vec![("web".into(), 2)]));
    world.until("the second one runs", |world| settled(world, 2));
    assert!(world.now.mono.since(began) < Duration::from_secs(1));
}

#[test]
fn logs_name_a_stream_per_task() {
    let mut world = World::new(10);
    world.join_node();
    world.create("web", 3);
    world.until("it runs", |world| settled(world, 3));
    let Response::LogPlan(plan) =
        world.admin(Request::Logs { of: "web".into(), options: Default::default() })
    else {
        panic!("a plan")
    };
    assert_eq!(plan.len(), 3);
    assert!(plan.iter().all(|source| source.stream.is_some() && source.label.starts_with("web.")));
}
