//! Users in the replicated state: names, ids, and that nobody acts who is not welcome any more.

use std::time::Duration;

use crate::common::{World, load, spec};
use model::{
    access::{MAX_USERS, UserChange, UserRole, UserSpec},
    command::{Answer, Command, Entry, Rejection},
    id::{ServiceId, UserId},
    identity::Identity,
    login::{LoginMethodSpec, Provider, RoleRule},
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
    let again = load(&crate::common::encode(&world.store));
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

fn method(name: &str, life: u64) -> LoginMethodSpec {
    LoginMethodSpec {
        name: name.into(),
        provider: Provider::Ldap(Box::default()),
        rules: vec![RoleRule { role: UserRole::Viewer, group: "*".into() }],
        life: Duration::from_secs(life),
    }
}

fn set_method(spec: LoginMethodSpec) -> Command {
    Command::SetLoginMethod { spec: Box::new(spec), password: None }
}

/// Somebody proved oneself by method `ldap`.
fn log_in(world: &World, id: u64, subject: &str, name: &str, role: &str) -> Command {
    Command::LogIn {
        id: UserId(id),
        method: "ldap".into(),
        set: world.store.login_method("ldap").expect("declared").set,
        subject: subject.into(),
        name: name.into(),
        roles: vec![role.parse().expect("a role")],
        serial: world.store.cluster().expect("founded").last_serial + 1,
    }
}

#[test]
fn whoever_logs_in_again_is_the_same_user_with_the_roles_of_today() {
    let mut world = world();
    world.done(set_method(method("ldap", 60)));
    let first = log_in(&world, 1, "uid=ann", "ldap:ann", "admin");
    assert_eq!(world.done(first).outcome, Ok(Answer::User { id: UserId(1) }));
    // Under another name of hers.
    let again = log_in(&world, 2, "uid=ann", "ldap:ann@site", "viewer");
    assert_eq!(world.done(again).outcome, Ok(Answer::User { id: UserId(1) }));
    let user = world.store.user(UserId(1)).expect("there");
    assert_eq!((user.spec.name.as_str(), user.spec.roles.len()), ("ldap:ann", 1));
    assert_eq!(user.spec.roles[0], UserRole::Viewer);
    let thief = log_in(&world, 3, "uid=eve", "ldap:ann", "viewer");
    assert!(matches!(world.refused(thief), Rejection::Conflict(why) if why.contains("somebody else")));
    let roles = UserChange { roles: Some(vec![UserRole::Admin]), ..UserChange::default() };
    assert!(matches!(
        world.refused(Command::UpdateUser { id: UserId(1), change: roles }),
        Rejection::Conflict(_)
    ));
    world.store.check().expect("whole");
    assert_eq!(load(&crate::common::encode(&world.store)).hash(), world.store.hash());
}

#[test]
fn a_disabled_user_logs_in_in_vain_and_a_login_that_is_over_lets_nobody_in() {
    let mut world = world();
    world.done(set_method(method("ldap", 60)));
    for (id, name) in [(1, "ann"), (2, "bob")] {
        let command = log_in(&world, id, &format!("uid={name}"), &format!("ldap:{name}"), "viewer");
        world.done(command);
    }
    let change = UserChange { disabled: Some(true), ..UserChange::default() };
    world.done(Command::UpdateUser { id: UserId(1), change });
    let again = log_in(&world, 3, "uid=ann", "ldap:ann", "viewer");
    assert!(matches!(world.refused(again), Rejection::Unwelcome(_)));
    let bob = Identity::User { id: UserId(2), name: "ldap:bob".into() };
    let expires = world.store.user(UserId(2)).and_then(|user| user.origin.clone()).expect("a login").expires;
    assert!(world.store.welcome(&bob).is_ok());
    let over = world.store.welcome_at(&bob, expires);
    assert!(matches!(&over, Err(Rejection::Unwelcome(why)) if why.contains("orchctl login")), "{over:?}");
    // Somebody else comes, long after: bob is forgotten, and ann stays out.
    let late = Entry {
        at: expires + Duration::from_secs(1),
        ..world.entry(log_in(&world, 4, "uid=cat", "ldap:cat", "viewer"))
    };
    world.apply_entry(&late).outcome.expect("let in");
    assert!(world.store.user(UserId(2)).is_none() && world.store.user(UserId(1)).is_some());
    world.store.check().expect("whole");
}

#[test]
fn users_end_with_their_login_method_and_a_proof_of_before_lets_nobody_in() {
    let mut world = world();
    world.done(set_method(method("ldap", 60)));
    let early = log_in(&world, 1, "uid=a", "ldap:a", "viewer");
    world.done(early.clone());
    let in_time = log_in(&world, 2, "uid=b", "ldap:b", "viewer");
    world.done(set_method(method("ldap", 30)));
    assert!(matches!(world.refused(in_time), Rejection::Conflict(why) if why.contains("declared anew")));
    world.done(Command::RemoveLoginMethod { name: "ldap".into() });
    assert!(world.store.user(UserId(1)).is_none() && world.store.user(ANN).is_some());
    assert!(matches!(world.refused(early), Rejection::Conflict(_)));
    assert!(matches!(
        world.refused(Command::RemoveLoginMethod { name: "ldap".into() }),
        Rejection::Missing { .. }
    ));
    world.store.check().expect("whole");
}
