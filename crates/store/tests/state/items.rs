//! Secrets and configs: who holds which version, what a new one does, and the keys.

use std::time::Duration;

use crate::common::{SERVICE, World, encode, load, spec};
use model::{
    command::{Answer, Command, Rejection},
    id::MemberId,
    item::{FileMount, ItemKind, ItemSpec, NewVersion},
    login::{Directory, LoginMethodSpec, People, Provider, Search},
    registry::{LoginKind, RegistrySpec, SealedLogin},
    sealed::{Clear, KeyId, LoginAt, Sealed},
    service::{RolloutState, ServiceSpec},
    time::ClusterTime,
};

const SECRET: ItemKind = ItemKind::Secret;

fn sealed(key: u64, text: &str) -> Sealed {
    Sealed { key: KeyId(key), nonce: [1; 12], bytes: text.as_bytes().to_vec().into() }
}

fn version(number: u64, key: u64, text: &str) -> NewVersion {
    NewVersion { number, value: sealed(key, text), size: text.len() as u32, names: Vec::new() }
}

fn make(name: &str) -> Command {
    let spec = ItemSpec { kind: SECRET, name: name.into(), labels: [].into(), template: false };
    Command::CreateItem { spec, version: version(1, 1, "one") }
}

fn change(name: &str, number: u64, text: &str) -> Command {
    Command::UpdateItem { kind: SECRET, name: name.into(), version: version(number, 1, text) }
}

fn keeps(world: &mut World, key: u64) {
    let (id, address, version) = (MemberId(1), "m1:4400".into(), "1".into());
    world.done(Command::UpdateMember { id, address, version, key: Some(KeyId(key)) });
}

fn add_key(world: &mut World, id: u64) {
    world.done(Command::AddKey { id: KeyId(id), fingerprint: id });
}

/// A cluster with data key 1 and the secret `db`.
fn world() -> World {
    let mut world = World::new();
    add_key(&mut world, 1);
    keeps(&mut world, 1);
    world.done(Command::UseKey { id: KeyId(1) });
    world.done(make("db"));
    world
}

fn mounting(image: &str, version: u64) -> ServiceSpec {
    let mut spec = spec("web", image, 2);
    spec.template.container.secrets =
        vec![FileMount { name: "db".into(), version: Some(version), ..FileMount::default() }];
    spec
}

fn held(world: &World) -> Vec<u64> {
    world.store.item(SECRET, "db").expect("it is there").versions.iter().map(|v| v.number).collect()
}

fn mounted(world: &World) -> Option<u64> {
    world.service().spec.template.container.secrets[0].version
}

fn conflict(rejection: Rejection, part: &str) {
    assert!(rejection.to_string().contains(part), "{rejection}");
}

#[test]
fn new_version_is_a_release_of_who_mounts_it_and_the_way_back_brings_the_old_one() {
    let mut world = world();
    world.create(mounting("web:1", 1));
    let told = world.done(change("db", 2, "two"));
    assert_eq!(told.outcome, Ok(Answer::Item { version: 2, services: vec!["web".into()] }));
    let service = world.service();
    let rollout = service.rollout.clone().expect("a rollout");
    assert_eq!((mounted(&world), rollout.state), (Some(2), RolloutState::Updating));
    assert_eq!(service.release(rollout.target).expect("kept").job, "secret db 1 -> 2");
    assert_eq!(held(&world), [1, 2]);
    world.done(Command::RollbackService { id: SERVICE, to: None, note: Default::default() });
    assert_eq!((mounted(&world), held(&world)), (Some(1), vec![1, 2]));
    let restored = load(&encode(&world.store));
    assert_eq!(restored.hash(), world.store.hash());
}

#[test]
fn versions_that_nothing_brings_back_are_forgotten() {
    let mut world = world();
    for number in 2..=4 {
        world.done(change("db", number, "next"));
    }
    assert_eq!(held(&world), [4], "nobody ever mounted them");
    let mut short = mounting("web:1", 4);
    short.update.history = 2;
    world.create(short);
    for number in 5..=8 {
        world.done(change("db", number, "next"));
    }
    assert_eq!(held(&world), [7, 8], "two releases are kept");
    world.done(Command::RemoveService { id: SERVICE });
    assert_eq!(held(&world), [8]);
}

#[test]
fn what_would_be_mounted_again_is_not_removed() {
    let mut world = world();
    world.create(mounting("web:1", 1));
    let remove = || Command::RemoveItem { kind: SECRET, name: "db".into() };
    conflict(world.refused(remove()), "service \"web\" mounts it");
    let mut without = mounting("web:1", 1);
    without.template.container.secrets.clear();
    world.update(without);
    conflict(world.refused(remove()), "keeps release 1 that mounts it");
    world.done(Command::RemoveService { id: SERVICE });
    world.done(remove());
    assert!(world.store.item(SECRET, "db").is_none());
}

#[test]
fn declaration_that_was_decided_on_an_older_version_is_refused() {
    let mut world = world();
    world.done(change("db", 2, "two"));
    let create = |version| Command::CreateService { id: SERVICE, spec: mounting("web:1", version).into() };
    conflict(world.refused(create(1)), "has come to version 2 meanwhile");
    conflict(world.refused(create(9)), "has come to version 2 meanwhile");
    world.done(create(2));
    world.done(change("db", 3, "three"));
    world.done(Command::RollbackService { id: SERVICE, to: None, note: Default::default() });
    // It goes on with what it has, and another image does not change that.
    world.update(mounting("web:2", 2));
    assert_eq!(mounted(&world), Some(2));
}

#[test]
fn same_value_and_a_number_out_of_turn_change_nothing() {
    let mut world = world();
    let told = world.done(change("db", 1, "one"));
    assert_eq!((told.outcome, told.changes), (Ok(Answer::Item { version: 1, services: vec![] }), vec![]));
    conflict(world.refused(change("db", 1, "other")), "meanwhile");
    conflict(world.refused(change("db", 3, "other")), "meanwhile");
    let other = Command::UpdateItem { kind: SECRET, name: "db".into(), version: version(2, 7, "x") };
    conflict(world.refused(other), "the data key is 1");
    conflict(world.refused(make("db")), "exists already");
}

#[test]
fn key_is_used_when_every_member_keeps_it_and_forgotten_when_nothing_needs_it() {
    let mut world = world();
    add_key(&mut world, 2);
    conflict(world.refused(Command::UseKey { id: KeyId(2) }), "does not have data key 2 yet");
    add_key(&mut world, 3);
    conflict(world.refused(Command::UseKey { id: KeyId(2) }), "not the next one");
    keeps(&mut world, 3);
    world.done(Command::UseKey { id: KeyId(3) });
    conflict(world.refused(Command::DropKey { id: KeyId(1) }), "is needed");
    let reseal = |from| Command::Reseal {
        kind: SECRET,
        name: "db".into(),
        number: 1,
        from: KeyId(from),
        value: sealed(3, "anew"),
    };
    conflict(world.refused(reseal(2)), "not sealed so");
    world.done(reseal(1));
    conflict(world.refused(reseal(1)), "not sealed so");
    world.done(Command::DropKey { id: KeyId(1) });
    conflict(world.refused(Command::DropKey { id: KeyId(3) }), "is needed");
    conflict(world.refused(Command::AddKey { id: KeyId(3), fingerprint: 9 }), "not beyond 3");
    let known: Vec<u64> =
        world.store.data_keys().expect("keys").known.iter().map(|record| record.id.0).collect();
    assert_eq!(known, [3]);
}

fn login(key: u64, text: &str) -> SealedLogin {
    SealedLogin { kind: LoginKind::Password { username: "ci".into() }, value: sealed(key, text) }
}

fn registry() -> LoginAt {
    LoginAt::Registry("r".into())
}

fn with_login(sealed: SealedLogin) -> Command {
    Command::SetRegistry(RegistrySpec { host: "r".into(), sealed: Some(sealed), ..RegistrySpec::default() })
}

#[test]
fn login_is_sealed_anew_as_it_was_declared_and_holds_its_key() {
    let mut world = world();
    conflict(world.refused(with_login(login(7, "x"))), "the data key is 1");
    world.done(with_login(login(1, "one")));
    add_key(&mut world, 2);
    keeps(&mut world, 2);
    world.done(Command::UseKey { id: KeyId(2) });
    world.done(Command::RemoveItem { kind: SECRET, name: "db".into() });
    conflict(world.refused(Command::DropKey { id: KeyId(1) }), "is needed");
    world.done(with_login(login(1, "one")));
    conflict(world.refused(with_login(login(1, "two"))), "the data key is 2");
    let set = world.store.registries()[0].set;
    let reseal = |set, from| Command::ResealLogin { at: registry(), set, from, value: sealed(2, "anew") };
    conflict(world.refused(reseal(ClusterTime(set.0 + 1), Some(KeyId(1)))), "not sealed so");
    conflict(world.refused(reseal(set, None)), "not sealed so");
    world.done(reseal(set, Some(KeyId(1))));
    assert_eq!(world.store.registries()[0].spec.sealed, Some(login(2, "anew")));
    world.done(Command::DropKey { id: KeyId(1) });
}

fn searched(people: People, password: Option<Sealed>) -> Command {
    let provider = Provider::Ldap(Box::new(Directory { people, ..Directory::default() }));
    let life = Duration::from_secs(60);
    let spec = LoginMethodSpec { name: "ad".into(), provider, rules: Vec::new(), life };
    Command::SetLoginMethod { spec: Box::new(spec), password }
}

fn with_account(password: Option<Sealed>) -> Command {
    searched(People::Found { search: Search::default(), account: "cn=orch".into() }, password)
}

#[test]
fn accounts_password_is_sealed_anew_as_it_was_declared_and_holds_its_key() {
    let mut world = world();
    for wrong in [with_account(None), searched(People::default(), Some(sealed(1, "one")))] {
        assert!(matches!(world.refused(wrong), Rejection::Invalid(_)));
    }
    conflict(world.refused(with_account(Some(sealed(7, "x")))), "the data key is 1");
    world.done(with_account(Some(sealed(1, "one"))));
    add_key(&mut world, 2);
    keeps(&mut world, 2);
    world.done(Command::UseKey { id: KeyId(2) });
    world.done(Command::RemoveItem { kind: SECRET, name: "db".into() });
    conflict(world.refused(Command::DropKey { id: KeyId(1) }), "is needed");
    let set = world.store.login_method("ad").expect("declared").set;
    world.done(with_account(Some(sealed(1, "one"))));
    assert_eq!(world.store.login_method("ad").expect("declared").set, set, "the same again");
    conflict(world.refused(with_account(Some(sealed(1, "two")))), "the data key is 2");
    let reseal = |set, from, key| {
        let (at, value) = (LoginAt::Directory("ad".into()), sealed(key, "anew"));
        Command::ResealLogin { at, set, from, value }
    };
    conflict(world.refused(reseal(ClusterTime(set.0 + 1), Some(KeyId(1)), 2)), "not sealed so");
    conflict(world.refused(reseal(set, None, 2)), "not sealed so");
    conflict(world.refused(reseal(set, Some(KeyId(1)), 1)), "not sealed so");
    world.done(reseal(set, Some(KeyId(1)), 2));
    let method = world.store.login_method("ad").expect("declared");
    assert_eq!((method.password.clone(), method.set), (Some(sealed(2, "anew")), set));
    world.done(Command::DropKey { id: KeyId(1) });
    assert_eq!(load(&encode(&world.store)).hash(), world.store.hash());
}

#[test]
fn what_an_earlier_version_left_in_clear_is_sealed_and_the_clear_text_is_gone() {
    let mut world = world();
    let clear = LoginKind::Token.with(&Clear::new("hunter2"));
    world.done(Command::SetRegistry(RegistrySpec {
        host: "r".into(),
        login: clear,
        ..RegistrySpec::default()
    }));
    let authority = |from, key| Command::ResealAuthority { from, value: sealed(key, "anew") };
    assert!(world.store.is_in_clear());
    let set = world.store.registries()[0].set;
    world.done(Command::ResealLogin { at: registry(), set, from: None, value: sealed(1, "anew") });
    conflict(world.refused(authority(None, 2)), "not sealed so");
    world.done(authority(None, 1));
    conflict(world.refused(authority(None, 1)), "not sealed so");
    assert!(!world.store.is_in_clear());
    let cluster = world.store.cluster().expect("founded");
    assert_eq!((cluster.authority.key.as_str(), &cluster.registries[0].spec.login), ("", &None));
    assert_eq!(load(&encode(&world.store)).hash(), world.store.hash());
}
