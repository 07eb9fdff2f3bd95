//! Logins against a directory of this file: who gets in, as what, and that nobody is asked more often than needed.

use std::time::Duration;

use manager_core::{LoginAnswer, LoginQuestion, LoginRefusal, Proven};
use model::{
    identity::Identity,
    login::{Directory, LogInRequest, LoginMethodSpec, Password, People, Proof, Provider, Search},
    request::{ErrorCode, Request, Response},
};

use crate::world::{CSR, ONE, World, admin};

pub fn method() -> LoginMethodSpec {
    LoginMethodSpec {
        name: "ldap".into(),
        provider: Provider::Ldap(Box::new(Directory {
            url: "ldaps://ldap.example".into(),
            people: People::At("uid={user},ou=people,dc=example".into()),
            ..Directory::default()
        })),
        rules: ["admin@cn=admins,dc=example", "team:ispyb@cn=mx,dc=example"]
            .map(|rule| rule.parse().expect("a rule"))
            .into(),
        life: Duration::from_secs(3_600),
    }
}

/// The same directory, searched by an account.
pub fn searched() -> LoginMethodSpec {
    let search = Search { base: "dc=example".into(), filter: "(uid={user})".into() };
    let people = People::Found { search, account: "cn=orch,dc=example".into() };
    let directory = Directory { url: "ldaps://ldap.example".into(), people, ..Directory::default() };
    LoginMethodSpec { provider: Provider::Ldap(Box::new(directory)), ..method() }
}

/// Whose password is the name backwards has the groups that the name says.
pub fn directory(question: &LoginQuestion) -> LoginAnswer {
    let Proof::Password { user, password } = &question.proof else { panic!("a password") };
    let right: String = user.chars().rev().collect();
    if user == "down" {
        return Err(LoginRefusal::Unreachable("it is down".into()));
    }
    if password.reveal() != right {
        return Err(LoginRefusal::Wrong("no".into()));
    }
    let groups = match user.as_str() {
        "ann" => vec!["cn=mx,dc=example".to_owned()],
        "root" => vec!["CN=Admins, dc=example".to_owned()],
        _ => vec!["cn=others,dc=example".to_owned()],
    };
    Ok(Proven { user: user.clone(), subject: format!("uid={user}"), groups, once: None })
}

fn world() -> World {
    let mut world = World::new(1);
    world.directory = Some(directory);
    world.admin(Request::SetLoginMethod { spec: Box::new(method()), password: None });
    world
}

pub fn asked(user: &str, password: &str) -> Request {
    let proof = Proof::Password { user: user.into(), password: Password::new(password) };
    Request::LogIn(Box::new(LogInRequest { method: "ldap".into(), proof, csr: CSR.into() }))
}

fn log_in(world: &mut World, user: &str, password: &str) -> Result<Response, ErrorCode> {
    world.insist(Identity::Anonymous, asked(user, password)).map_err(|error| error.code)
}

fn roles(world: &World, name: &str) -> Vec<String> {
    let user = world.store(ONE).users().iter().find(|user| user.spec.name == name);
    user.map(|user| user.spec.roles.iter().map(ToString::to_string).collect()).unwrap_or_default()
}

#[test]
fn whoever_proves_oneself_is_a_user_with_the_roles_of_its_groups_and_a_certificate() {
    let mut world = world();
    let Ok(Response::Joined { certificate, .. }) = log_in(&mut world, "ann", "nna") else { panic!("let in") };
    assert!(certificate.contains("user ldap:ann"), "{certificate}");
    assert_eq!(roles(&world, "ldap:ann"), ["team:ispyb"]);
    log_in(&mut world, "root", "toor").expect("let in");
    assert_eq!(roles(&world, "ldap:root"), ["admin"]);
    assert_eq!(log_in(&mut world, "eve", "eve"), Err(ErrorCode::Denied), "none of its groups has a role");
    assert_eq!(log_in(&mut world, "ann", "wrong"), Err(ErrorCode::Unauthenticated));
    assert_eq!(log_in(&mut world, "nobody", "wrong"), Err(ErrorCode::Unauthenticated));
    assert_eq!(log_in(&mut world, "down", "nwod"), Err(ErrorCode::Conflict));
    assert_eq!(log_in(&mut world, "ann", ""), Err(ErrorCode::Invalid));
    assert_eq!(log_in(&mut world, "a)(uid=*", "x"), Err(ErrorCode::Invalid));
    assert_eq!(world.store(ONE).users().len(), 2);
}

#[test]
fn a_name_that_failed_is_not_asked_about_for_a_while() {
    let mut world = world();
    for _ in 0..3 {
        assert_eq!(log_in(&mut world, "ann", "wrong"), Err(ErrorCode::Unauthenticated));
    }
    let asked = world.proofs.len();
    assert_eq!(log_in(&mut world, "ann", "nna"), Err(ErrorCode::Exhausted));
    assert_eq!(log_in(&mut world, "ANN", "nna"), Err(ErrorCode::Exhausted));
    assert_eq!(world.proofs.len(), asked);
    log_in(&mut world, "root", "toor").expect("somebody else");
}

#[test]
fn a_certificate_of_a_login_is_not_renewed_and_ends_with_its_method() {
    let mut world = world();
    log_in(&mut world, "ann", "nna").expect("let in");
    let ann = world.store(ONE).users()[0].identity();
    let renew = Request::RenewCertificate { csr: CSR.into(), key: None };
    assert_eq!(world.insist(ann.clone(), renew).map_err(|error| error.code).err(), Some(ErrorCode::Conflict));
    let certify = Request::CertifyUser { user: "ldap:ann".into(), csr: CSR.into() };
    assert!(world.insist(admin(), certify).is_err());
    world.insist(ann.clone(), Request::ListServices).expect("known");
    world.admin(Request::RemoveLoginMethod("ldap".into()));
    let gone = world.insist(ann, Request::ListServices).map_err(|error| error.code);
    assert_eq!(gone.err(), Some(ErrorCode::Unauthenticated));
}

#[test]
fn a_request_id_of_somebody_elses_login_makes_nobody_that_person() {
    let mut world = world();
    for _ in 0..2 {
        let root = world.insist_as(Identity::Anonymous, 7, asked("root", "toor"));
        assert!(matches!(root, Ok(Response::Joined { .. })), "a retry is another certificate: {root:?}");
    }
    let ann = world.insist_as(Identity::Anonymous, 7, asked("ann", "nna"));
    assert_eq!(ann.map_err(|error| error.code).err(), Some(ErrorCode::Conflict));
}

#[test]
fn attempts_of_one_login_are_judged_once() {
    let mut world = world();
    world.directory = None;
    let one = world.ask(ONE, Identity::Anonymous, Some(7), asked("ann", "wrong"));
    let two = world.ask(ONE, Identity::Anonymous, Some(7), asked("ann", "wrong"));
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.proofs.len(), 1);
    assert!(world.answer(one).is_none() && world.answer(two).is_none());
}
