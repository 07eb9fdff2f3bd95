//! Where what mounts a secret may run: on nodes whose agents keep secrets in memory.

mod common;

use common::{World, facts};
use model::{
    command::Command,
    id::MemberId,
    item::{FileMount, ItemKind, ItemSpec, NewVersion},
    node::{Facts, NodeSpec},
    sealed::{KeyId, Sealed},
    service::{Mode, ServiceSpec},
};

/// A cluster with the secret `db`.
fn world() -> World {
    let mut world = World::new();
    let id = KeyId(1);
    world.must(Command::AddKey { id, fingerprint: 1 });
    let (address, version) = ("m1:1".into(), "1".into());
    world.must(Command::UpdateMember { id: MemberId(1), address, version, key: Some(id) });
    world.must(Command::UseKey { id });
    let value = Sealed { key: id, nonce: [0; 12], bytes: vec![1, 2, 3].into() };
    let spec = ItemSpec { kind: ItemKind::Secret, name: "db".into(), labels: [].into(), template: false };
    world
        .must(Command::CreateItem { spec, version: NewVersion { number: 1, value, size: 3, names: vec![] } });
    world
}

fn mounting() -> ServiceSpec {
    let mut spec = ServiceSpec { name: "web".into(), mode: Mode::Replicated(3), ..ServiceSpec::default() };
    spec.template.container.image = "web:1".into();
    spec.template.container.secrets =
        vec![FileMount { name: "db".into(), version: Some(1), ..FileMount::default() }];
    spec
}

fn join(world: &mut World, name: &str, files: bool) -> model::id::NodeId {
    let facts = Facts { files, ..facts(name, 4_000, 8 << 30) };
    let id = world.join(facts, NodeSpec::default());
    world.up(id);
    id
}

#[test]
fn replicas_with_a_secret_are_placed_where_it_can_be_kept_and_wait_elsewhere_with_the_reason() {
    let mut world = world();
    let older = join(&mut world, "older", false);
    let web = world.create(mounting());
    world.settle();
    let waiting = world.store.tasks_of_service(web).next().expect("a task").clone();
    let reason = waiting.pending.expect("it waits");
    assert!(reason.message.contains("without memory for secrets"), "{}", reason.message);
    let newer = join(&mut world, "newer", true);
    world.settle();
    assert_eq!(world.healthy(web), 3);
    assert!(world.store.tasks_of_service(web).all(|task| task.node == Some(newer)));
    assert_eq!(world.store.tasks_on_node(older).count(), 0);
}
