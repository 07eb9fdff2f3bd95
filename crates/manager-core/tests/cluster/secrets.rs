//! Secrets and configs: sealed wherever they lie, told to whom they are for, and their keys.

use std::time::Duration;

use manager_core::Config;
use model::{
    command::Answer,
    id::{MemberId, NodeId, TaskId},
    item::{FileMount, ItemKind, ItemSpec},
    request::{ApiError, ErrorCode, KeysView, Request, Response},
    sealed::{Clear, KeyId},
    service::ServiceSpec,
    session::{AgentMessage, FileAnswer},
};

use crate::world::{ONE, TWO, World, admin, spec};

const VALUE: &str = "canary-hunter2";

fn item(kind: ItemKind, name: &str, template: bool) -> ItemSpec {
    ItemSpec { kind, name: name.into(), labels: [].into(), template }
}

fn create(world: &mut World, name: &str, value: &str) {
    let spec = item(ItemKind::Secret, name, false);
    world.admin(Request::CreateItem { spec, value: Clear::new(value.as_bytes().to_vec()) });
}

fn update(world: &mut World, name: &str, value: &str) -> (u64, Vec<String>) {
    let value = Clear::new(value.as_bytes().to_vec());
    match world.admin(Request::UpdateItem { kind: ItemKind::Secret, name: name.into(), value }) {
        Response::Changed { answer: Answer::Item { version, services }, .. } => (version, services),
        other => panic!("{other:?}"),
    }
}

fn mounting(secrets: &[&str]) -> ServiceSpec {
    let mut spec = spec("web", 1);
    let mount = |name: &&str| FileMount { name: (*name).into(), ..FileMount::default() };
    spec.template.container.secrets = secrets.iter().map(mount).collect();
    spec
}

fn declare(world: &mut World, spec: ServiceSpec) -> Result<Response, ApiError> {
    world.insist(admin(), Request::CreateService(spec.into()))
}

fn mounted(world: &World) -> Vec<Option<u64>> {
    let leader = world.leader().expect("a leader");
    let service = world.store(leader).service_by_name("web").expect("it is declared");
    service.spec.template.container.secrets.iter().map(|mount| mount.version).collect()
}

/// What a node is told when it asks for a task's files.
fn ask(world: &mut World, node: NodeId, task: TaskId) -> Vec<FileAnswer> {
    world.agents.get_mut(&node).expect("an agent").files.clear();
    world.say(node, AgentMessage::FileWish { task });
    world.run_for(Duration::from_millis(50));
    world.agents[&node].files.iter().filter(|(of, _)| *of == task).map(|(_, answer)| answer.clone()).collect()
}

fn values(answers: &[FileAnswer]) -> Vec<String> {
    let files = answers.iter().flat_map(|answer| match answer {
        FileAnswer::Some { files, .. } => files.clone(),
        other => panic!("{other:?}"),
    });
    files.map(|file| String::from_utf8(file.value.reveal().to_vec()).expect("text")).collect()
}

fn task_of(world: &mut World, node: NodeId) -> TaskId {
    world.until("a task", |world| !world.agents[&node].held.is_empty());
    *world.agents[&node].held.keys().next_back().expect("just looked")
}

fn keys(world: &mut World) -> KeysView {
    match world.insist(admin(), Request::GetKeys) {
        Ok(Response::Keys(keys)) => keys,
        other => panic!("{other:?}"),
    }
}

fn settled(world: &World, id: u64) -> bool {
    world.running().all(|(member, manager)| {
        let keys = manager.store().data_keys().cloned().unwrap_or_default();
        let ring = &world.hosts[&member].config.keyring;
        keys.active == KeyId(id) && keys.known.len() == 1 && ring.iter().map(|(id, _)| id.0).eq([id])
    })
}

#[test]
fn a_value_lies_sealed_on_every_disk_and_crosses_no_wire_between_managers_in_clear() {
    let mut world = World::of_three(71);
    create(&mut world, "db", VALUE);
    world.run_for(Duration::from_secs(1));
    let finds = |bytes: &[u8]| bytes.windows(VALUE.len()).any(|window| window == VALUE.as_bytes());
    assert!(!world.wire.iter().any(|bytes| finds(bytes)));
    for host in world.hosts.values() {
        let disk = host.disk.recovered();
        assert!(disk.entries.iter().all(|entry| !finds(&entry.payload)));
        assert!(disk.snapshot.iter().all(|snapshot| !finds(&snapshot.bytes)));
        let state = proto::codec::encode(host.manager.as_ref().expect("runs").store());
        assert!(!finds(&state) && !format!("{state:?}").contains(VALUE));
    }
}

#[test]
fn a_node_is_told_what_its_own_tasks_mount_and_nothing_else() {
    let mut world = World::new(72);
    let (one, other) = (world.join_node(), world.join_node());
    create(&mut world, "db", VALUE);
    create(&mut world, "unused", "nobody's");
    declare(&mut world, mounting(&["db"])).expect("declared");
    world.until("a task", |world| world.agents.values().any(|agent| !agent.held.is_empty()));
    let (runs, idle) = if world.agents[&one].held.is_empty() { (other, one) } else { (one, other) };
    let task = task_of(&mut world, runs);
    let told = ask(&mut world, runs, task);
    assert_eq!(values(&told), [VALUE]);
    assert_eq!(ask(&mut world, idle, task), []);
    assert_eq!(ask(&mut world, runs, TaskId(1)), []);
}

#[test]
fn a_new_version_rolls_who_mounts_it_and_a_way_back_brings_the_old_one() {
    let mut world = World::new(73);
    let node = world.join_node();
    create(&mut world, "db", "one");
    declare(&mut world, mounting(&["db"])).expect("declared");
    let first = task_of(&mut world, node);
    assert_eq!(mounted(&world), [Some(1)]);
    assert_eq!(update(&mut world, "db", "one"), (1, vec![]), "the same value changes nothing");
    assert_eq!(update(&mut world, "db", "two"), (2, vec!["web".to_owned()]));
    assert_eq!(mounted(&world), [Some(2)]);
    world.until("another task", |world| world.agents[&node].held.keys().any(|task| *task != first));
    let second = *world.agents[&node].held.keys().find(|task| **task != first).expect("just looked");
    let told = ask(&mut world, node, second);
    assert_eq!(values(&told), ["two"]);
    world.admin(Request::RollbackService("web".into()));
    assert_eq!(mounted(&world), [Some(1)]);
    let refused = world.insist(admin(), Request::RemoveItem { kind: ItemKind::Secret, name: "db".into() });
    let refused = refused.expect_err("it is mounted");
    assert!(refused.message.contains("service \"web\" mounts it"), "{refused}");
}

#[test]
fn what_mounts_a_secret_that_is_not_there_is_refused_with_its_name() {
    let mut world = World::new(74);
    let refused = declare(&mut world, mounting(&["db"])).expect_err("there is none");
    assert_eq!(refused.code, ErrorCode::Invalid);
    assert!(refused.problems[0].path.ends_with("secrets.db"), "{refused:?}");
}

#[test]
fn a_template_is_filled_in_for_the_task_and_needs_its_secrets_mounted() {
    let mut world = World::new(75);
    let node = world.join_node();
    create(&mut world, "db", VALUE);
    let text = "{{ service.name }}.{{ task.slot }}@{{ node.hostname }} {{ secret \"db\" }}";
    let config = item(ItemKind::Config, "app.conf", true);
    world.admin(Request::CreateItem { spec: config, value: Clear::new(text) });
    let mut spec = mounting(&[]);
    spec.template.container.configs = vec![FileMount { name: "app.conf".into(), ..FileMount::default() }];
    let refused = declare(&mut world, spec.clone()).expect_err("it does not mount the secret");
    assert!(refused.message.contains("mount that secret too"), "{refused}");
    spec.template.container.secrets = mounting(&["db"]).template.container.secrets;
    declare(&mut world, spec).expect("declared");
    let task = task_of(&mut world, node);
    let host = world.agents[&node].facts().hostname;
    let told = ask(&mut world, node, task);
    assert_eq!(values(&told), [VALUE.to_owned(), format!("web.1@{host} {VALUE}")]);
}

#[test]
fn nobody_reads_a_secret_back_and_a_config_is_shown() {
    let mut world = World::new(76);
    create(&mut world, "db", VALUE);
    let spec = item(ItemKind::Config, "motd", false);
    world.admin(Request::CreateItem { spec, value: Clear::new("hello") });
    for (kind, name, value) in
        [(ItemKind::Secret, "db", None), (ItemKind::Config, "motd", Some(Clear::new("hello")))]
    {
        match world.insist(admin(), Request::GetItem { kind, name: name.into() }) {
            Ok(Response::Item(view)) => assert_eq!(view.value, value),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_newcomer_votes_only_when_it_keeps_the_key_and_the_others_can_die_then() {
    let mut world = World::new(77);
    create(&mut world, "db", VALUE);
    let node = world.join_node();
    declare(&mut world, mounting(&["db"])).expect("declared");
    let task = task_of(&mut world, node);
    world.join_member();
    world.join_member();
    world.until("three vote", |world| {
        world.running().all(|(id, manager)| world.voters(id) == 3 && !manager.status().membership.is_joint())
    });
    assert!(world.hosts.values().all(|host| !host.config.keyring.is_empty()));
    world.crash(ONE);
    world.until("another leader", |world| world.leader().is_some_and(|id| id != ONE));
    world.until("the node is welcome there", |world| world.agents[&node].session.is_some());
    world.run_for(Duration::from_secs(3));
    let told = ask(&mut world, node, task);
    assert_eq!(values(&told), [VALUE]);
}

#[test]
fn a_new_key_takes_the_old_ones_place_everywhere_and_the_values_stay() {
    let mut world = World::of_three(78);
    let node = world.join_node();
    for name in ["db", "other", "third"] {
        create(&mut world, name, VALUE);
    }
    declare(&mut world, mounting(&["db"])).expect("declared");
    let task = task_of(&mut world, node);
    world.admin(Request::RotateKey);
    world.until("key 2 everywhere and key 1 nowhere", |world| settled(world, 2));
    let view = keys(&mut world);
    assert_eq!((view.active, view.next, view.behind, view.waits.as_str()), (KeyId(2), None, 0, ""));
    let told = ask(&mut world, node, task);
    assert_eq!(values(&told), [VALUE]);
}

#[test]
fn a_rotation_survives_a_crash_of_its_leader_at_any_moment() {
    for after in 0..24 {
        let mut world = World::of_three(80 + after);
        for name in ["db", "other", "third"] {
            create(&mut world, name, VALUE);
        }
        let leader = world.leader().expect("a leader");
        world.ask(leader, admin(), Some(77), Request::RotateKey);
        world.run_for(Duration::from_millis(after * 2));
        world.crash(leader);
        world.run_for(Duration::from_millis(400));
        world.restart(leader);
        let answer = world.insist_as(admin(), 77, Request::RotateKey);
        assert!(answer.is_ok(), "{answer:?}");
        world.until("the newest key everywhere", |world| (2..4).any(|id| settled(world, id)));
        let state = world.store(world.leader().expect("a leader")).clone();
        state.check().expect("consistent");
        assert_eq!(state.items().count(), 3);
        assert_eq!(update(&mut world, "db", VALUE), (1, vec![]), "the value is as it was");
    }
}

#[test]
fn a_rotation_waits_for_a_manager_that_is_away_and_says_so() {
    let mut world = World::of_three(110);
    create(&mut world, "db", VALUE);
    let away = world.running().map(|(id, _)| id).find(|id| Some(*id) != world.leader()).expect("a follower");
    world.crash(away);
    world.admin(Request::RotateKey);
    world.run_for(Duration::from_secs(3));
    let view = keys(&mut world);
    assert_eq!((view.active, view.next), (KeyId(1), Some(KeyId(2))));
    assert!(view.waits.contains("has not reached manager"), "{view:?}");
    world.restart(away);
    world.until("key 2 everywhere", |world| settled(world, 2));
}

#[test]
fn while_an_older_manager_is_there_no_secret_enters_the_log() {
    let mut world = World::of_three(111);
    let older = Config { version: "0.0.1".into(), ..world.hosts[&TWO].config.clone() };
    let leader = world.leader().expect("a leader");
    if leader == TWO {
        world.admin(Request::TransferLeader { to: Some(MemberId(1)) });
        world.until("another leads", |world| world.leader().is_some_and(|id| id != TWO));
    }
    world.crash(TWO);
    let recovered = world.hosts[&TWO].disk.recovered();
    world.boot(older, recovered);
    world.until("it is known", |world| {
        world
            .leader()
            .is_some_and(|id| world.store(id).member(TWO).is_some_and(|member| member.version == "0.0.1"))
    });
    let spec = item(ItemKind::Secret, "db", false);
    let refused = world.insist(admin(), Request::CreateItem { spec, value: Clear::new("x") });
    assert!(refused.expect_err("not yet").message.contains("until all managers are upgraded"));
}

#[test]
fn an_agent_of_an_older_version_starts_nothing_with_secrets_or_less_power_until_it_is_upgraded() {
    let mut world = World::new(112);
    let node = world.join_node();
    world.agents.get_mut(&node).expect("an agent").protocol = 3;
    world.connect(node, Some(ONE));
    create(&mut world, "db", VALUE);
    let mut weaker = spec("weaker", 1);
    weaker.template.container.security.cap_drop = vec!["ALL".into()];
    for declared in [mounting(&["db"]), weaker, spec("plain", 1)] {
        declare(&mut world, declared).expect("declared");
    }
    world.until("the plain one is there", |world| world.agents[&node].held.len() == 1);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.agents[&node].held.len(), 1, "the others wait");
    world.agents.get_mut(&node).expect("an agent").protocol = model::session::PROTOCOL;
    world.connect(node, Some(ONE));
    world.until("all are there", |world| world.agents[&node].held.len() == 3);
}
