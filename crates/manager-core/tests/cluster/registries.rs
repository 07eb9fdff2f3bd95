//! Declared registries: asked before a change and for what a tag means, and never waited for for long.

use std::time::Duration;

use manager_core::{Event, RegistryAnswer, RegistryQuestion, RegistryRefusal, RegistryWish, RegistryWord};
use model::{
    cluster::{ClusterSettings, PullBound},
    id::{NodeId, TaskId},
    identity::Identity,
    registry::{Login, RegistrySpec, Secret},
    request::{ApiError, ErrorCode, Request, Response},
    service::{ImagePin, ReleaseNote, ServiceSpec},
    session::AgentMessage,
};

use crate::world::{ONE, World, admin, spec};

const IMAGE: &str = "reg.example/app:1";

fn of_ones() -> String {
    format!("sha256:{}", "1".repeat(64))
}

fn knows_everything(question: &RegistryQuestion) -> RegistryAnswer {
    match &question.wish {
        RegistryWish::Greeting => Ok(RegistryWord::Welcome),
        RegistryWish::Digest { .. } | RegistryWish::Signatures { .. } => Ok(RegistryWord::Digest(of_ones())),
    }
}

fn knows_nothing(question: &RegistryQuestion) -> RegistryAnswer {
    match &question.wish {
        RegistryWish::Greeting => Ok(RegistryWord::Welcome),
        RegistryWish::Digest { .. } | RegistryWish::Signatures { .. } => {
            Err(RegistryRefusal::Missing("manifest unknown".into()))
        }
    }
}

fn refuses(_question: &RegistryQuestion) -> RegistryAnswer {
    Err(RegistryRefusal::Denied("it refuses the login of ci (401)".into()))
}

fn declaration() -> RegistrySpec {
    let login = Login::Password { username: "ci".into(), password: Secret::new("hunter2") };
    RegistrySpec { host: "reg.example".into(), login: Some(login), ..RegistrySpec::default() }
}

fn declare(world: &mut World, check: bool) -> Result<Response, ApiError> {
    world.insist(admin(), Request::SetRegistry { spec: declaration(), check })
}

fn service(image: &str) -> ServiceSpec {
    let mut spec = spec("web", 2);
    spec.template.container.image = image.into();
    spec
}

/// A node, a registry that says this, and the service.
fn with_service(registry: fn(&RegistryQuestion) -> RegistryAnswer) -> World {
    let mut world = World::new(41);
    world.join_node();
    world.registry = Some(knows_everything);
    declare(&mut world, true).expect("declared");
    world.registry = Some(registry);
    world.admin(Request::CreateService(service(IMAGE).into()));
    world
}

fn pins(world: &World) -> Vec<ImagePin> {
    world.store(ONE).services().flat_map(|service| service.pins.values().cloned()).collect()
}

fn asked_nodes(world: &World) -> u32 {
    world.agents.values().map(|agent| agent.asked).sum()
}

fn runs(world: &World) -> bool {
    world.agents.values().map(crate::agent::Agent::running).sum::<usize>() == 2
}

#[test]
fn tag_of_a_declared_registry_is_asked_for_once_and_no_node_is() {
    let mut world = with_service(knows_everything);
    world.until("it runs", runs);
    assert_eq!(pins(&world), [ImagePin::Digest(format!("reg.example/app@{}", of_ones()))]);
    assert_eq!(asked_nodes(&world), 0);
    let digests = world.asked.iter().filter(|question| question.wish != RegistryWish::Greeting);
    assert_eq!(digests.count(), 1, "the answer to the change is the meaning of its tag");
}

#[test]
fn image_that_its_registry_does_not_have_is_refused_before_anything_changes() {
    let mut world = with_service(knows_everything);
    world.until("it runs", runs);
    world.registry = Some(knows_nothing);
    let image = "reg.example/app:2".to_owned();
    let note = Box::<ReleaseNote>::default();
    let refusal = world.insist(admin(), Request::Deploy { service: "web".into(), image, note });
    let refusal = refusal.expect_err("refused");
    assert_eq!(refusal.code, ErrorCode::Invalid);
    assert!(refusal.to_string().contains("reg.example does not have reg.example/app:2"), "{refusal}");
    assert!(world.store(ONE).services().all(|service| !service.is_rolling()));
    // What brings no new image does not ask.
    let before = world.asked.len();
    world.admin(Request::ScaleServices(vec![("web".into(), 3)]));
    assert_eq!(world.asked.len(), before);
}

#[test]
fn registry_that_refuses_or_is_silent_holds_nothing_up_and_the_nodes_say_what_a_tag_means() {
    for silent in [false, true] {
        let mut world = World::new(42);
        world.join_node();
        declare(&mut world, false).expect("declared unasked");
        world.registry = (!silent).then_some(refuses);
        let began = world.now.mono;
        world.admin(Request::CreateService(service(IMAGE).into()));
        world.until("it runs", runs);
        assert_eq!(pins(&world), [ImagePin::Digest(format!("reg.example/app@sha256:{}", "0".repeat(64)))]);
        assert_eq!(asked_nodes(&world), 1);
        assert!(world.now.mono.since(began) < Duration::from_secs(12), "silent: {silent}");
    }
}

#[test]
fn wrong_login_is_told_when_it_is_declared_and_no_secret_is_shown() {
    let mut world = World::new(43);
    world.registry = Some(refuses);
    let refusal = declare(&mut world, true).expect_err("refused");
    assert!(refusal.to_string().contains("refuses the login of ci (401); --no-check"), "{refusal}");
    assert!(world.store(ONE).registries().is_empty());
    declare(&mut world, false).expect("declared unasked");
    let views = world.insist(admin(), Request::ListRegistries).expect("a list");
    let Response::Registries(rows) = &views else { panic!("{views:?}") };
    assert_eq!(rows.len(), 1);
    assert!(rows[0].said.as_ref().is_some_and(|said| said.problem.is_some()), "{rows:?}");
    for text in [format!("{views:?}"), format!("{:?}", world.asked)] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    world.admin(Request::RemoveRegistry("reg.example".into()));
    assert!(world.store(ONE).registries().is_empty());
    let again = world.insist(admin(), Request::RemoveRegistry("reg.example".into())).expect_err("gone");
    assert_eq!(again.code, ErrorCode::NotFound);
}

/// Has a node wish for pulls; those that it got leave for by it.
fn wish(world: &mut World, node: NodeId, pulls: &[TaskId]) -> Vec<TaskId> {
    let before = world.agents[&node].granted.len();
    for pull in pulls {
        world.say(node, AgentMessage::PullWish { pull: *pull, image: IMAGE.into() });
    }
    world.run_for(Duration::from_millis(100));
    world.agents[&node].granted[before..].to_vec()
}

#[test]
fn node_gets_leave_for_pulls_of_its_own_tasks_and_for_no_more_than_it_begins() {
    let mut world = with_service(knows_everything);
    world.until("it runs", runs);
    world.admin(Request::ScaleServices(vec![("web".into(), 5)]));
    world.until("all run", |world| world.agents.values().all(|agent| agent.running() == 5));
    let node = *world.agents.keys().next().expect("a node");
    let tasks: Vec<TaskId> = world.agents[&node].held.keys().copied().collect();
    assert_eq!(wish(&mut world, node, &[TaskId(77)]), [], "not its own");
    assert_eq!(wish(&mut world, node, &tasks), tasks[..3]);
    // Somebody else's connection that never says hello takes nothing from it.
    let connection = 1 << 40;
    world.feed(ONE, Event::AgentOpened { connection, identity: Identity::Node(node) });
    world.feed(ONE, Event::AgentClosed { connection });
    assert_eq!(wish(&mut world, node, &tasks[3..]), []);
    world.say(node, AgentMessage::PullEnded { pull: tasks[0] });
    assert_eq!(wish(&mut world, node, &tasks[3..]), tasks[3..4]);
}

#[test]
fn only_the_node_that_was_asked_says_what_a_tag_means() {
    let mut world = World::new(44);
    let nodes = [world.join_node(), world.join_node()];
    world.agents.values_mut().for_each(|agent| agent.resolves = false);
    world.admin(Request::CreateService(service(IMAGE).into()));
    world.until("one is asked", |world| asked_nodes(world) == 1);
    let (asked, other) = if world.agents[&nodes[0]].asked == 1 { (0, 1) } else { (1, 0) };
    let says = |world: &mut World, node: usize, digit: &str| {
        let outcome = Ok(ImagePin::Digest(format!("reg.example/app@sha256:{}", digit.repeat(64))));
        world.say(nodes[node], AgentMessage::ImageResolved { image: IMAGE.into(), outcome });
        world.run_for(Duration::from_millis(100));
    };
    says(&mut world, other, "6");
    assert_eq!(pins(&world), []);
    says(&mut world, asked, "1");
    assert_eq!(pins(&world), [ImagePin::Digest(format!("reg.example/app@{}", of_ones()))]);
}

#[test]
fn bound_of_pulls_waits_until_all_managers_know_it() {
    let mut world = World::with_older_manager(45);
    let settings = world.store(ONE).cluster().expect("a cluster").settings.clone();
    let bound = |pulls| Request::SetSettings(ClusterSettings { pulls, ..settings.clone() });
    world.insist(admin(), bound(settings.pulls)).expect("nothing new");
    let refusal = world.insist(admin(), bound(PullBound(40))).expect_err("refused");
    assert!(refusal.to_string().contains("a bound of pulls must wait"), "{refusal}");
}
