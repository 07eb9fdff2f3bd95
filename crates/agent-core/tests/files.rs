//! Secrets and configs as the agent sees them: asked for, kept, waited for, wiped, never stored.

mod world;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use agent_core::{action::Action, engine::EngineCall, event::Event};
use model::{
    container::ContainerSpec,
    id::TaskId,
    item::{FileMode, FileMount, TaskFile},
    sealed::Clear,
    session::{AgentMessage, Assignment, FileAnswer, ManagerMessage},
    task::{DesiredState, TaskState},
};
use world::{World, assignment};

const TASK: TaskId = TaskId(1);

/// Task 1 mounts a secret that only one user may read, and a config.
fn mounting() -> Assignment {
    let mut task = assignment(1);
    let mount = |name: &str, mode| FileMount { name: name.into(), mode, ..FileMount::default() };
    task.container = Arc::new(ContainerSpec {
        secrets: vec![FileMount { uid: Some(7), ..mount("db", Some(FileMode(0o400))) }],
        configs: vec![mount("app.conf", None)],
        ..(*task.container).clone()
    });
    task
}

fn assigned() -> World {
    let mut world = World::new(1);
    world.protocol = 4;
    world.engine_up();
    world.open_session();
    world.desired.insert(TASK, mounting());
    world.assign();
    world.run();
    world
}

fn file(place: u32, value: &str) -> TaskFile {
    TaskFile { place, value: Clear::new(value.as_bytes().to_vec()) }
}

fn answer(world: &mut World, files: Vec<TaskFile>, more: bool) {
    world.say(ManagerMessage::Files { task: TASK, answer: FileAnswer::Some { files, more } });
}

fn wishes(world: &World) -> usize {
    let wish = |action: &&Action| matches!(action, Action::Send { message, .. } if **message == AgentMessage::FileWish { task: TASK });
    world.log.iter().filter(wish).count()
}

fn keeps(world: &World) -> usize {
    world.log.iter().filter(|action| matches!(action, Action::KeepFiles { .. })).count()
}

fn wipes(world: &World) -> usize {
    world.log.iter().filter(|action| matches!(action, Action::WipeFiles { task: TASK })).count()
}

fn creates(world: &World) -> usize {
    let create = |action: &&Action| matches!(action, Action::Engine { call: EngineCall::Create(request), .. } if request.files == Some(TASK));
    world.log.iter().filter(create).count()
}

fn observed(world: &World) -> (TaskState, String) {
    let (_, observed) = world.agent.tasks().find(|(id, _)| *id == TASK).expect("it is assigned");
    (observed.state, observed.message.clone())
}

/// Its files have come and are kept, and it runs.
fn running() -> World {
    let mut world = assigned();
    answer(&mut world, vec![file(0, "one"), file(1, "hunter2")], false);
    world.feed(Event::FilesKept { task: TASK, outcome: Ok(()) });
    world.run();
    assert_eq!(observed(&world).0, TaskState::Running);
    world
}

#[test]
fn container_is_made_when_all_its_files_are_kept_and_not_before() {
    let mut world = assigned();
    assert_eq!((wishes(&world), creates(&world)), (1, 0));
    assert_eq!(
        observed(&world),
        (TaskState::Preparing, "waits for secret db and 1 more from the managers".into())
    );
    answer(&mut world, vec![file(0, "one")], true);
    assert_eq!(keeps(&world), 0, "a part");
    answer(&mut world, vec![file(1, "hunter2")], false);
    let kept = world.log.iter().find_map(|action| match action {
        Action::KeepFiles { task: TASK, files } => Some(files.clone()),
        _ => None,
    });
    let kept: Vec<_> =
        kept.expect("kept").into_iter().map(|file| (file.place, file.uid, file.mode.0)).collect();
    assert_eq!(kept, [(0, Some(7), 0o400), (1, None, 0o444)]);
    world.run();
    assert_eq!(creates(&world), 0, "not before they are there");
    world.feed(Event::FilesKept { task: TASK, outcome: Ok(()) });
    world.run();
    assert_eq!((creates(&world), observed(&world).0), (1, TaskState::Running));
}

#[test]
fn what_is_not_what_it_mounts_is_not_kept_and_asked_for_again() {
    for wrong in
        [vec![file(0, "one")], vec![file(0, "one"), file(0, "hunter2")], vec![file(0, "one"), file(9, "two")]]
    {
        let mut world = assigned();
        answer(&mut world, wrong, false);
        assert_eq!(keeps(&world), 0);
        world.advance(Duration::from_secs(3));
        assert_eq!(wishes(&world), 2);
    }
}

#[test]
fn manager_that_cannot_yet_is_asked_again_and_one_that_never_will_is_believed() {
    let mut world = assigned();
    let why = "this manager does not have data key 1";
    world.say(ManagerMessage::Files { task: TASK, answer: FileAnswer::NotYet(why.into()) });
    assert!(observed(&world).1.ends_with(why), "{}", observed(&world).1);
    world.advance(Duration::from_secs(3));
    assert_eq!(wishes(&world), 2);
    world.say(ManagerMessage::Files { task: TASK, answer: FileAnswer::Never("no label rack".into()) });
    assert_eq!(observed(&world), (TaskState::Rejected, "no label rack".into()));
}

#[test]
fn node_that_cannot_keep_them_in_memory_rejects_the_task() {
    let mut world = assigned();
    answer(&mut world, vec![file(0, "one"), file(1, "hunter2")], false);
    world.feed(Event::FilesKept { task: TASK, outcome: Err("not on a tmpfs".into()) });
    world.run();
    let (state, message) = observed(&world);
    assert_eq!((state, creates(&world)), (TaskState::Rejected, 0));
    assert!(message.contains("not on a tmpfs"), "{message}");
}

#[test]
fn crash_needs_no_manager_and_a_reboot_waits_for_one() {
    let mut world = running();
    world.close_session();
    world.ledger.files = BTreeSet::from([TASK]);
    world.restart();
    let container = world.container_of(1).expect("it is there");
    world.engine.end(&container, 1, world.now);
    world.engine_up();
    world.advance(Duration::from_secs(4));
    world.run();
    assert_eq!(observed(&world).0, TaskState::Running, "with what is in memory");
    let made = creates(&world);

    world.ledger.files.clear();
    world.restart();
    let container = world.container_of(1).expect("it is there");
    world.engine.end(&container, 1, world.now);
    world.engine_up();
    world.advance(Duration::from_secs(10));
    world.run();
    assert_eq!(creates(&world), made, "nothing is in memory");
    assert!(observed(&world).1.contains("waits for secret db"), "{}", observed(&world).1);
    let asked = wishes(&world);
    world.open_session();
    world.assign();
    world.run();
    assert_eq!(wishes(&world), asked + 1);
}

#[test]
fn files_are_wiped_when_the_task_has_stopped_and_when_it_is_gone() {
    let mut world = running();
    world.desired.get_mut(&TASK).expect("assigned").desired = DesiredState::Stopped;
    world.assign();
    assert_eq!(wipes(&world), 0, "its container still reads them");
    world.run();
    assert_eq!((observed(&world).0, wipes(&world)), (TaskState::Stopped, 1));

    let mut world = running();
    world.desired.clear();
    world.assign();
    world.run();
    assert_eq!(wipes(&world), 1);

    let mut world = World::new(2);
    world.protocol = 4;
    world.ledger.files = BTreeSet::from([TASK]);
    world.restart();
    world.engine_up();
    world.open_session();
    world.assign();
    world.run();
    assert_eq!(wipes(&world), 1, "of a task that nobody knows any more");
}

#[test]
fn nothing_of_a_value_is_stored_or_printed() {
    let world = running();
    let stored = format!("{:?}", world.ledger);
    let done = format!("{:?}", world.log);
    assert!(!stored.contains("hunter2") && !done.contains("hunter2"), "{done}");
    assert!(done.contains("<redacted>"));
}
