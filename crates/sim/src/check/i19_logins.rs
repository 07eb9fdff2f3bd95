//! I19 for people who log in: a method that was removed, or declared anew while a proof was being judged, lets nobody in; and nothing that
//! somebody asks is done after the method's removal or after the login's end.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    access::User,
    audit::{Record, Verdict},
    id::{RequestId, UserId},
    identity::Identity,
    time::ClusterTime,
};
use store::Store;

use crate::{
    client::Operation,
    logins::{groups_of, subject_of},
    world::World,
};

/// What is known of logins.
#[derive(Default)]
pub(crate) struct Logins {
    /// Who asked.
    asked: BTreeMap<RequestId, UserId>,
    /// Users of login methods that were there.
    known: BTreeSet<UserId>,
    /// Methods that are declared, by the audit alone.
    declared: BTreeSet<String>,
    /// The number of the record since which a user is gone.
    gone: BTreeMap<UserId, u64>,
    /// The end of the login of everybody who is there.
    until: BTreeMap<UserId, ClusterTime>,
    last: u64,
    /// Some records came and went between two looks.
    gaps: bool,
}

impl Logins {
    /// A request was made.
    pub(crate) fn asked(&mut self, asked: &Operation) {
        if let (Identity::User { id, .. }, Some(request)) = (&asked.identity, asked.request_id) {
            self.asked.insert(request, *id);
        }
    }

    fn done(&mut self, record: &Record) -> Option<String> {
        match (&*record.verb, &*record.kind) {
            ("set", "login-method") => _ = self.declared.insert(record.name.clone()),
            ("remove", "login-method") => _ = self.declared.remove(&record.name),
            ("log in", _) => {
                let method = record.name.split(':').next().unwrap_or_default();
                if !self.gaps && !self.declared.contains(method) {
                    return Some(format!("record {} lets {} in, by no method", record.number, record.name));
                }
            }
            _ => {}
        }
        let user = self.asked.get(&record.request?)?;
        if let Some(until) = self.until.get(user).filter(|until| **until <= record.at) {
            let (number, at) = (record.number, record.at);
            return Some(format!("record {number} of {at} is of user {user}, whose login ended at {until}"));
        }
        let gone = self.gone.get(user).filter(|gone| **gone < record.number)?;
        Some(format!("record {} is of user {user}, who was gone at record {gone}", record.number))
    }

    fn state(&mut self, before: &Store, store: &Store) -> Option<String> {
        let head = store.audit_ends().map_or(0, |(_, head)| head.number);
        let present: BTreeSet<UserId> = of_methods(store).map(|user| user.id).collect();
        for id in self.known.difference(&present) {
            self.gone.entry(*id).or_insert(head);
        }
        self.known.extend(&present);
        let returned = present.iter().find(|id| self.gone.contains_key(id));
        if let Some(id) = returned {
            return Some(format!("user {id} was gone and came back"));
        }
        of_methods(store).find_map(|user| unfit(before, store, user))
    }
}

/// Users who came by a login.
fn of_methods(store: &Store) -> impl Iterator<Item = &User> {
    store.users().iter().filter(|user| user.origin.is_some())
}

/// What is wrong with somebody who is there.
fn unfit(before: &Store, store: &Store, user: &User) -> Option<String> {
    let name = &user.spec.name;
    let origin = user.origin.as_ref()?;
    let Some(method) = store.login_method(&origin.method) else {
        return Some(format!("user {name} is there, login method {} is not", origin.method));
    };
    let is_new = user.changed > before.time();
    // Who came before it was declared as it is now stays as what it was.
    if !is_new || method.set >= user.changed {
        return None;
    }
    let person = name.split(':').nth(1).unwrap_or_default();
    let (subject, wanted) = (&origin.subject, subject_of(&method.spec, person));
    if *subject != wanted {
        return Some(format!("user {name} came in as {subject}, and {} asks for {wanted}", origin.method));
    }
    let due = method.spec.roles_of(&groups_of(person));
    (user.spec.roles != due).then(|| format!("user {name} has {:?} where {due:?} is due", user.spec.roles))
}

impl World {
    /// The state has changed.
    pub(crate) fn check_logins(&mut self, before: &Store, store: &Store) {
        if !self.knobs.logins {
            return;
        }
        let logins = &mut self.checks.logins;
        let anchor = store.audit_ends().map_or(0, |(anchor, _)| anchor.number);
        logins.gaps |= anchor > logins.last;
        let ends = of_methods(store).filter_map(|user| Some((user.id, user.origin.as_ref()?.expires)));
        logins.until = ends.collect();
        let (mut wrong, mut came, mut used) = (None, 0, 0);
        for record in store.audit_after(logins.last) {
            logins.last = record.number;
            if record.verdict == Verdict::Accepted {
                came += u32::from(record.verb == "log in");
                used += u32::from(record.request.is_some_and(|request| logins.asked.contains_key(&request)));
                wrong = wrong.or_else(|| logins.done(record));
            }
        }
        wrong = wrong.or_else(|| logins.state(before, store));
        (0..came).for_each(|_| self.checks.count("logins"));
        (0..used).for_each(|_| self.checks.count("changes after a login"));
        if let Some(what) = wrong {
            self.violate("I19", what, vec!["leader".to_owned()]);
        }
    }
}
