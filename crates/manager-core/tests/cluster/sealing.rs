//! Logins of registries, passwords of accounts and the authority's key: sealed wherever they lie, opened where they are used, and only
//! with the data key.

use std::time::Duration;

use manager_core::RegistryWish;
use model::{
    id::NodeId,
    identity::{Identity, JoinRole},
    login::{LoginMethodSpec, Password, Provider},
    registry::{Login, RegistrySpec, Secret},
    request::{ErrorCode, Request, Response},
    sealed::{KeyId, Sealed},
    session::AgentMessage,
};
use seal::{DataKey, Keyring};

use crate::{
    logins::{asked, directory, searched},
    world::{AUTHORITY_KEY, ONE, World, admin, spec},
};

const HOST: &str = "reg.example";
const IMAGE: &str = "reg.example/app:1";
const PASSWORD: &str = "canary-hunter2";
/// Of the account that searches a directory.
const ACCOUNT: &str = "canary-of-an-account";

fn login(password: &str) -> Login {
    Login::Password { username: "ci".into(), password: Secret::new(password) }
}

fn declare(world: &mut World, password: &str) -> Response {
    let spec = RegistrySpec { host: HOST.into(), login: Some(login(password)), ..RegistrySpec::default() };
    world.admin(Request::SetRegistry { spec, check: false })
}

fn set_method(spec: LoginMethodSpec, password: &str) -> Request {
    Request::SetLoginMethod { spec: Box::new(spec), password: Some(Password::new(password)) }
}

/// A login method whose directory is searched by an account with this password.
fn declare_method(world: &mut World, password: &str) {
    world.directory = Some(directory);
    world.admin(set_method(searched(), password));
}

fn account(world: &World) -> Sealed {
    world.store(ONE).login_methods()[0].password.clone().expect("sealed")
}

/// With which password of its account a directory is searched for somebody who logs in.
fn search(world: &mut World) -> Option<Password> {
    world.insist(Identity::Anonymous, asked("ann", "nna")).expect("let in");
    world.proofs.last().expect("asked").password.clone()
}

fn finds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Whether a text lies in clear on any manager's disk, in its state, or went from one to another.
pub fn lies_in_clear(world: &World, text: &str) -> bool {
    let on_disk = world.hosts.values().any(|host| {
        let disk = host.disk.recovered();
        let entry = disk.entries.iter().any(|entry| finds(&entry.payload, text));
        entry || disk.snapshot.iter().any(|snapshot| finds(&snapshot.bytes, text))
    });
    let in_states = world.running().any(|(_, manager)| finds(&proto::codec::encode(manager.store()), text));
    on_disk || in_states || world.wire.iter().any(|bytes| finds(bytes, text))
}

/// With which key the login and the authority's key are sealed on every manager.
fn sealed_with(world: &World, key: u64) -> bool {
    let key = Some(KeyId(key));
    world.running().all(|(_, manager)| manager.store().sealings().all(|with| with == key))
}

/// The logins that a node was given with leave for pulls.
fn pull(world: &mut World, node: NodeId) -> Vec<Option<Login>> {
    let before = world.agents[&node].logins.len();
    let task = *world.agents[&node].held.keys().next_back().expect("a task");
    world.say(node, AgentMessage::PullEnded { pull: task });
    world.say(node, AgentMessage::PullWish { pull: task, image: IMAGE.into() });
    world.run_for(Duration::from_millis(100));
    world.agents[&node].logins[before..].to_vec()
}

/// A node that runs an image of the registry.
fn running(world: &mut World) -> NodeId {
    let node = world.join_node();
    let mut service = spec("web", 1);
    service.template.container.image = IMAGE.into();
    world.admin(Request::CreateService(service.into()));
    world.until("it runs", |world| world.agents[&node].running() == 1);
    node
}

#[test]
fn a_cluster_is_founded_with_its_first_key_and_nothing_ever_lies_in_clear() {
    let ring = Keyring::new([(KeyId(1), DataKey::new([7; 32]))]);
    let mut world = World::founded_with(31, ring);
    assert_eq!(world.store(ONE).member(ONE).and_then(|member| member.key), Some(KeyId(1)));
    world.join_member();
    world.join_member();
    declare(&mut world, PASSWORD);
    declare_method(&mut world, ACCOUNT);
    world.run_for(Duration::from_secs(2));
    assert!(sealed_with(&world, 1));
    for text in [PASSWORD, ACCOUNT, AUTHORITY_KEY] {
        assert!(!lies_in_clear(&world, text), "{text}");
    }
    let leader = world.leader().expect("a leader");
    assert_eq!(world.manager(leader).authority_key().expect("opens").reveal(), AUTHORITY_KEY.as_bytes());
}

#[test]
fn what_an_earlier_version_left_in_clear_is_sealed_as_soon_as_there_is_a_key() {
    let mut world = World::of_three(32);
    world.until("sealed", |world| sealed_with(world, 1));
    assert!(!world.running().any(|(_, m)| finds(&proto::codec::encode(m.store()), AUTHORITY_KEY)));
    let hashes: Vec<u64> = world.running().map(|(_, manager)| manager.store().hash()).collect();
    world.run_for(Duration::from_secs(1));
    let later: Vec<u64> = world.running().map(|(_, manager)| manager.store().hash()).collect();
    assert_eq!(hashes, later, "it is sealed once");
    let leader = world.leader().expect("a leader");
    assert_eq!(world.manager(leader).authority_key().expect("opens").reveal(), AUTHORITY_KEY.as_bytes());
}

#[test]
fn nothing_is_sealed_that_an_older_manager_could_not_read() {
    let mut world = World::with_older_manager(33);
    let before = world.store(ONE).sealings().filter(Option::is_none).count();
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.store(ONE).sealings().filter(Option::is_none).count(), before);
    let spec = RegistrySpec { host: HOST.into(), login: Some(login(PASSWORD)), ..RegistrySpec::default() };
    let refused = world.insist(admin(), Request::SetRegistry { spec, check: false }).expect_err("refused");
    assert!(refused.message.contains("until all managers are upgraded"), "{refused}");
}

#[test]
fn the_same_login_again_changes_nothing_and_another_password_is_another_sealed_value() {
    let mut world = World::new(34);
    declare(&mut world, PASSWORD);
    let sealed = |world: &World| world.store(ONE).registries()[0].spec.sealed.clone().expect("sealed");
    let first = sealed(&world);
    let generation = world.store(ONE).cluster().expect("founded").generation;
    declare(&mut world, PASSWORD);
    assert_eq!(sealed(&world), first);
    assert_eq!(world.store(ONE).cluster().expect("founded").generation, generation);
    declare(&mut world, "another");
    assert_ne!(sealed(&world), first);
}

#[test]
fn the_same_account_again_changes_nothing_and_another_directory_gets_another_sealed_value() {
    let mut world = World::new(37);
    declare_method(&mut world, ACCOUNT);
    let first = account(&world);
    let generation = world.store(ONE).cluster().expect("founded").generation;
    declare_method(&mut world, ACCOUNT);
    assert_eq!(account(&world), first);
    assert_eq!(world.store(ONE).cluster().expect("founded").generation, generation);
    let longer = LoginMethodSpec { life: Duration::from_secs(60), ..searched() };
    world.admin(set_method(longer, ACCOUNT));
    assert_eq!(account(&world), first, "the same account at the same directory");
    let mut moved = searched();
    let Provider::Ldap(directory) = &mut moved.provider else { panic!("a directory") };
    directory.url = "ldaps://other.example".into();
    world.admin(set_method(moved, ACCOUNT));
    assert_ne!(account(&world), first);
    assert_eq!(search(&mut world), Some(Password::new(ACCOUNT)));
    declare_method(&mut world, "another");
    assert_eq!(search(&mut world), Some(Password::new("another")));
    let shown = proto::codec::encode(&world.admin(Request::ListLoginMethods));
    let sealed = account(&world).bytes;
    assert!(finds(&shown, "cn=orch") && !finds(&shown, "another"), "nobody reads it back");
    assert!(!shown.windows(sealed.len()).any(|window| window == sealed), "nor what it is sealed as");
}

#[test]
fn a_rotation_seals_logins_and_the_authority_anew_and_they_open_still() {
    let mut world = World::of_three(35);
    declare(&mut world, PASSWORD);
    declare_method(&mut world, ACCOUNT);
    let first = account(&world);
    assert_eq!(search(&mut world), Some(Password::new(ACCOUNT)));
    let node = running(&mut world);
    assert_eq!(pull(&mut world, node), [Some(login(PASSWORD))]);
    world.admin(Request::RotateKey);
    world.until("all of it under the new key", |world| sealed_with(world, 2));
    assert_eq!(pull(&mut world, node), [Some(login(PASSWORD))]);
    assert_ne!(account(&world), first);
    assert_eq!(search(&mut world), Some(Password::new(ACCOUNT)));
    let known = |world: &World| world.store(ONE).data_keys().map_or(0, |keys| keys.known.len());
    world.until("the old key is forgotten", |world| known(world) == 1);
    assert_eq!(search(&mut world), Some(Password::new(ACCOUNT)));
    let leader = world.leader().expect("a leader");
    assert_eq!(world.manager(leader).authority_key().expect("opens").reveal(), AUTHORITY_KEY.as_bytes());
    let asked = world.asked.iter().filter(|question| question.wish != RegistryWish::Greeting);
    assert!(asked.clone().count() > 0);
    assert!(asked.into_iter().all(|question| question.registry.login == Some(login(PASSWORD))));
}

#[test]
fn a_manager_without_its_data_key_issues_nothing_and_says_what_is_missing() {
    let mut world = World::new(36);
    declare(&mut world, PASSWORD);
    declare_method(&mut world, ACCOUNT);
    let node = running(&mut world);
    world.until("sealed", |world| sealed_with(world, 1));
    let (joiner, join) = world.join_request(JoinRole::Agent, "n", "");
    world.crash(ONE);
    let ring = std::mem::take(&mut world.hosts.get_mut(&ONE).expect("a host").config.keyring);
    world.restart(ONE);
    world
        .until("the node is back", |world| world.leader().is_some() && world.agents[&node].session.is_some());
    let renew = Request::RenewCertificate { csr: crate::world::CSR.into(), key: None };
    for (identity, request) in [
        (joiner, join),
        (Identity::Node(node), renew),
        (Identity::Anonymous, asked("ann", "nna")),
        (admin(), set_method(searched(), ACCOUNT)),
    ] {
        let handle = world.ask(ONE, identity, None, request);
        world.until("an answer", |world| world.answer(handle).is_some());
        let refused = world.answer(handle).cloned().expect("there is one").expect_err("refused");
        assert_eq!(refused.code, ErrorCode::Unavailable);
        assert!(refused.message.contains("this manager does not have data key 1"), "{refused}");
        assert!(refused.message.contains("orchctl secret keys"), "{refused}");
    }
    assert!(world.proofs.is_empty(), "no directory is asked");
    assert_eq!(
        pull(&mut world, node),
        [],
        "it waits, or the node would pull without the login and be refused"
    );
    world.crash(ONE);
    world.hosts.get_mut(&ONE).expect("a host").config.keyring = ring;
    world.restart(ONE);
    world
        .until("the node is back", |world| world.leader().is_some() && world.agents[&node].session.is_some());
    assert_eq!(pull(&mut world, node), [Some(login(PASSWORD))]);
    assert_eq!(search(&mut world), Some(Password::new(ACCOUNT)));
    world.join_node();
}
