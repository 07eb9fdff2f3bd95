//! Users in the replicated state: names, ids, and that nobody acts who is not welcome any more.

mod common;

use std::time::Duration;

use common::{World, load, spec};
use model::{
    access::{MAX_USERS, UserChange, UserSpec},
    command::{Answer, Command, Entry, Rejection},
    id::{ServiceId, UserId},
    identity::Identity,
};

const ANN: UserId = UserId(71);

fn user(name: &str) -> UserSpec {
    UserSpec {
        name: name.into(),
        roles: vec!["viewer".parse().expect("a role")],
        life: Duration::from_secs(60),
    }
}

fn ann() -> Identity {
    Identity::User { id: ANN, name: "ann".into() }
}

fn world() -> World {
    let mut world = World::new();
    world.done(Command::CreateUser { id: ANN, spec: user("ann") });
    world
}

fn asked_by(world: &mut World, actor: Identity, id: u64, name: &str) -> Result<Answer, Rejection> {
    let command = Command::CreateService { id: ServiceId(id), spec: spec(name, "web:1", 1).into() };
    let entry = Entry { actor, ..world.entry(command) };
    world.apply_entry(&entry).outcome
}

#[test]
fn a_user_keeps_its_name_to_itself_and_comes_back_from_a_snapshot() {
    let mut world = world();
    assert!(matches!(
        world.refused(Command::CreateUser { id: UserId(72), spec: user("ann") }),
        Rejection::Exists { .. }
    ));
    assert!(matches!(
        world.refused(Command::CreateUser { id: ANN, spec: user("bob") }),
        Rejection::Exists { .. }
    ));
    world.done(Command::CreateUser { id: UserId(3), spec: user("Bob") });
    let again = load(&common::encode(&world.store));
    assert_eq!(again.users(), world.store.users());
    assert_eq!(again.hash(), world.store.hash());
    assert_eq!(again.resolve_user("ann").map(|user| user.id), Ok(ANN));
    assert_eq!(again.resolve_user(&ANN.to_string()).map(|user| user.id), Ok(ANN));
    assert!(matches!(again.resolve_user("eve"), Err(Rejection::Missing { .. })));
}

#[test]
fn what_somebody_asked_for_who_was_removed_meanwhile_does_not_happen() {
    let mut world = world();
    assert!(asked_by(&mut world, ann(), 1, "before").is_ok());
    world.done(Command::RemoveUser { id: ANN });
    assert!(matches!(asked_by(&mut world, ann(), 2, "after"), Err(Rejection::Unwelcome(_))));
    assert_eq!(world.store.services().count(), 1);
    assert!(world.store.is_revoked(&ann()));

    world.done(Command::CreateUser { id: UserId(72), spec: user("ann") });
    assert!(
        matches!(asked_by(&mut world, ann(), 3, "again"), Err(Rejection::Unwelcome(_))),
        "another of the same name is somebody else"
    );
    let forged = Identity::User { id: UserId(72), name: "bob".into() };
    assert!(matches!(asked_by(&mut world, forged, 4, "forged"), Err(Rejection::Unwelcome(_))));
}

#[test]
fn a_disabled_user_is_refused_until_it_is_enabled() {
    let mut world = world();
    let disable = |disabled| Command::UpdateUser {
        id: ANN,
        change: UserChange { disabled: Some(disabled), ..UserChange::default() },
    };
    world.done(disable(true));
    assert!(
        matches!(asked_by(&mut world, ann(), 1, "no"), Err(Rejection::Unwelcome(why)) if why.contains("disabled"))
    );
    world.done(disable(false));
    assert!(asked_by(&mut world, ann(), 1, "yes").is_ok());
    let same = world.apply(disable(false));
    assert_eq!((same.outcome, same.changes), (Ok(Answer::User { id: ANN }), vec![]), "nothing changed");
}

#[test]
fn users_are_bounded() {
    let mut world = world();
    for number in 1..MAX_USERS as u64 {
        let command = Command::CreateUser { id: UserId(1_000 + number), spec: user(&format!("u{number}")) };
        let entry = world.entry(command);
        assert!(world.store.apply(world.store.applied() + 1, &entry).outcome.is_ok());
    }
    let refused = world.refused(Command::CreateUser { id: UserId(2), spec: user("one-more") });
    assert!(refused.to_string().contains("1000 users"), "{refused}");
}
