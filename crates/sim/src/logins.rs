//! People who log in by a method of the world, and the administrators who declare the method, declare it anew and remove it, at the same
//! moment as often as not. The directory is the world itself: it knows everybody by the same password, and is slow or silent at times.
//!
//! What is changed with a login is freezes of a far future, as with `guests`. Who is let in, and as what, is for `check::i19_logins`.

use std::time::Duration;

use manager_core::{LoginAnswer, LoginQuestion, LoginRefusal, Proven};
use model::{
    freeze::{FreezeSpec, Window},
    id::UserId,
    identity::Identity,
    login::{Directory, LogInRequest, LoginMethodSpec, Password, People, Proof, Provider},
    request::{ApiError, Reply, Request, Response},
};

use crate::{dice::Dice, guests::FAR, queue::Time, setup::CSR};

/// Login methods; few, so that people and administrators meet.
const METHODS: [&str; 2] = ["ldap", "staff"];
/// Who lives in the directory; the last one in no group that has a role.
const PEOPLE: [&str; 3] = ["ann", "bob", "eve"];
const RIGHT: &str = "right";
/// Of so many people the last ones who were let in ask for something.
const IN_USE: usize = 4;

/// The groups of somebody.
pub(crate) fn groups_of(person: &str) -> Vec<String> {
    let name = if person == PEOPLE[2] { "guests" } else { "staff" };
    vec![format!("cn={name},dc=example")]
}

/// Who somebody is to the directory that a method asks.
pub(crate) fn subject_of(method: &LoginMethodSpec, person: &str) -> String {
    match &method.provider {
        Provider::Ldap(directory) => match &directory.people {
            People::At(entry) => entry.replace("{user}", person),
            People::Found { .. } => String::new(),
        },
        Provider::Oidc(_) => String::new(),
    }
}

/// What a certificate says, for users.
pub(crate) fn certificate(identity: &Identity) -> String {
    match identity {
        Identity::User { id, name } => format!("certificate\n{}\n{name}", id.0),
        _ => "certificate".to_owned(),
    }
}

/// Whom a certificate names, if a user.
fn user_in(certificate: &str) -> Option<Identity> {
    let (id, name) = certificate.strip_prefix("certificate\n")?.split_once('\n')?;
    Some(Identity::User { id: UserId(id.parse().ok()?), name: name.to_owned() })
}

/// All of them, with the choices of one world.
pub(crate) struct Logins {
    dice: Dice,
    /// Those of the directory.
    answers: Dice,
    declared: usize,
    /// Who was let in, in that order.
    users: Vec<Identity>,
}

impl Logins {
    pub(crate) fn new(seed: u64) -> Self {
        let (dice, answers) = (Dice::new(seed, "logins"), Dice::new(seed, "directory"));
        Self { dice, answers, declared: 0, users: Vec::new() }
    }

    /// Some steps are theirs; what else is asked at the same moment follows the first.
    pub(crate) fn steps(&mut self, admin: &Identity) -> Vec<(Identity, Request)> {
        if !self.dice.permille(350) {
            return Vec::new();
        }
        if let Some(name) = METHODS.get(self.declared) {
            self.declared += 1;
            return vec![(admin.clone(), self.declare(name))];
        }
        let mut steps = vec![match self.dice.range(0, 99) {
            0..12 => (admin.clone(), self.change()),
            12..55 => (Identity::Anonymous, self.log_in()),
            _ => self.harmless(),
        }];
        if self.dice.permille(250) {
            steps.push((admin.clone(), self.change()));
        }
        steps
    }

    fn declare(&mut self, name: &str) -> Request {
        let role = *self.dice.pick(&["operator", "operator", "viewer"]).expect("not empty");
        let rule = format!("{role}@cn=staff,dc=example");
        let part = self.dice.range(1, 2);
        let directory = Directory {
            url: "ldaps://ldap.example".into(),
            people: People::At(format!("uid={{user}},ou={part},dc=example")),
            ..Directory::default()
        };
        let spec = Box::new(LoginMethodSpec {
            name: name.to_owned(),
            provider: Provider::Ldap(Box::new(directory)),
            rules: vec![rule.parse().expect("a rule")],
            life: self.dice.span(2_000, 20_000).max(Duration::from_secs(1)),
        });
        Request::SetLoginMethod { spec, password: None }
    }

    fn change(&mut self) -> Request {
        let name = *self.dice.pick(&METHODS).expect("not empty");
        let removed = self.dice.permille(350);
        if removed { Request::RemoveLoginMethod(name.to_owned()) } else { self.declare(name) }
    }

    fn log_in(&mut self) -> Request {
        let method = (*self.dice.pick(&METHODS).expect("not empty")).to_owned();
        let user = (*self.dice.pick(&PEOPLE).expect("not empty")).to_owned();
        let password = Password::new(if self.dice.permille(50) { "wrong" } else { RIGHT });
        let proof = Proof::Password { user, password };
        Request::LogIn(Box::new(LogInRequest { method, proof, csr: CSR.to_owned() }))
    }

    fn harmless(&mut self) -> (Identity, Request) {
        let newest: Vec<Identity> = self.users.iter().rev().take(IN_USE).cloned().collect();
        let Some(user) = self.dice.pick(&newest).cloned() else {
            return (Identity::Anonymous, self.log_in());
        };
        let from = FAR + self.dice.span(1, 1_000);
        let windows = vec![Window { from, until: from + self.dice.span(1, 1_000) }];
        let name = format!("login-{}", self.dice.range(1, 3));
        (user, Request::SetFreeze(FreezeSpec { name, windows, ..FreezeSpec::default() }))
    }

    /// What the directory says to a leader, and when.
    pub(crate) fn judged(&mut self, question: &LoginQuestion) -> (Time, LoginAnswer) {
        let after = match self.answers.range(0, 99) {
            0..70 => self.answers.millis(1, 200),
            70..95 => self.answers.millis(200, 3_000),
            _ => self.answers.millis(3_000, 20_000),
        };
        let Proof::Password { user, password } = &question.proof else {
            return (after, Err(LoginRefusal::Wrong("no password".into())));
        };
        let answer = match self.answers.permille(50) {
            true => Err(LoginRefusal::Unreachable("it is being restarted".into())),
            false if password.reveal() == RIGHT => Ok(Proven {
                user: user.clone(),
                subject: subject_of(&question.method, user),
                groups: groups_of(user),
                once: None,
            }),
            false => Err(LoginRefusal::Wrong("the password is wrong".into())),
        };
        (after, answer)
    }

    /// An answer came; what is wrong with it.
    pub(crate) fn answered(&mut self, request: &Request, result: &Result<Reply, ApiError>) -> Option<String> {
        let (Request::LogIn(login), Ok(reply)) = (request, result) else { return None };
        let Response::Joined { certificate, .. } = &reply.response else {
            return Some(format!("a login was answered {:?}", reply.response));
        };
        let Proof::Password { user, password } = &login.proof else { return None };
        if password.reveal() != RIGHT || *user == PEOPLE[2] {
            return Some(format!("{user} was let in by {}", login.method));
        }
        match user_in(certificate) {
            Some(identity @ Identity::User { .. }) if is_of(&identity, &login.method, user) => {
                self.users.push(identity);
                None
            }
            other => Some(format!("{user} has the certificate of {other:?}")),
        }
    }
}

fn is_of(identity: &Identity, method: &str, person: &str) -> bool {
    matches!(identity, Identity::User { name, .. } if *name == format!("{method}:{person}"))
}
