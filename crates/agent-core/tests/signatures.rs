//! A signed image: no container of it is made, and nothing pulled, unless its signatures hold here too.

mod world;

use std::sync::Arc;

use agent_core::{action::Action, engine::EngineCall};
use model::{
    container::ContainerSpec, id::TaskId, session::Assignment, signature::ImageSignature, task::TaskState,
};
use world::{World, assignment};

const TASK: TaskId = TaskId(1);
/// What openssl made, of reg.example/app with the digest of ones.
const KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEa0IVRSAws4wWbLphn+xar6iH3L7a
7INhn0n3z3n33kQuRuAw/Bme9FMweobQmdv6vRnANNrNUhGNaWg6J6aw4A==
-----END PUBLIC KEY-----
";
const SIGNATURE: &str =
    "MEQCIFI7TvoRS2/sCDaunp9puMBiERedTPjJabg5FNUJDDfAAiABjA5QcTH48wHPyHdtWsV8OYqG35VA2fyATpxxqdwa4Q==";
const PAYLOAD: &str = r#"{"critical":{"identity":{"docker-reference":"reg.example/app"},"image":{"docker-manifest-digest":"sha256:1111111111111111111111111111111111111111111111111111111111111111"},"type":"cosign container image signature"},"optional":null}"#;

fn signed(image: String, payload: &str) -> Assignment {
    let signature = ImageSignature {
        key: KEY.parse().expect("a key"),
        payload: payload.into(),
        signature: SIGNATURE.into(),
        certified: None,
    };
    let mut task = assignment(1);
    let container = ContainerSpec { image, signatures: vec![signature], ..(*task.container).clone() };
    task.container = Arc::new(container);
    task
}

fn image(digit: &str) -> String {
    format!("reg.example/app:1@sha256:{}", digit.repeat(64))
}

fn run(task: Assignment) -> World {
    let mut world = World::new(1);
    world.engine_up();
    world.open_session();
    world.desired.insert(TASK, task);
    world.assign();
    world.run();
    world
}

fn calls(world: &World) -> usize {
    let touches = |action: &&Action| {
        matches!(action, Action::Engine { call: EngineCall::Create(_) | EngineCall::Pull { .. }, .. })
    };
    world.log.iter().filter(touches).count()
}

#[test]
fn an_image_whose_signature_holds_is_run_under_its_digest() {
    let world = run(signed(image("1"), PAYLOAD));
    let names = |action: &Action| match action {
        Action::Engine { call: EngineCall::Create(request), .. } => Some(request.image.clone()),
        _ => None,
    };
    let created: Vec<String> = world.log.iter().filter_map(names).collect();
    assert!(!created.is_empty() && created.iter().all(|name| *name == image("1")), "{created:?}");
}

#[test]
fn a_signature_of_another_image_or_of_changed_words_ends_the_task_before_anything_is_pulled() {
    let changed = PAYLOAD.replace("null", "{}");
    for (task, why) in [
        (signed(image("2"), PAYLOAD), "another image"),
        (signed("reg.example/app:1".into(), PAYLOAD), "digest"),
        (signed(image("1"), &changed), "another key"),
    ] {
        let world = run(task);
        let (_, observed) = world.agent.tasks().find(|(id, _)| *id == TASK).expect("it is assigned");
        assert_eq!(observed.state, TaskState::Rejected, "{}", observed.message);
        assert!(
            observed.message.contains(why) && observed.message.contains("does not hold"),
            "{}",
            observed.message
        );
        assert_eq!(calls(&world), 0);
    }
}
