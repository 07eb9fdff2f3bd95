//! Logins: somebody without a certificate proves oneself to a directory or an issuer, and becomes a user for some hours.
//!
//! The leader has the proof judged, through its shell; which groups have which roles is decided here, by the method as it was
//! declared when the proof was judged. What is wrong about a name and a password is said in one sentence whichever it is.
//!
//! A directory locks whoever fails too often. So a name that failed some times is not asked about for a while, whoever asks
//! and from wherever: nobody locks another's account through us. All of it is soft: a new leader counts anew.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use model::{
    access::UserRole,
    audit::About,
    command::Command,
    id::UserId,
    login::{LogInRequest, LoginMethod, LoginMethodSpec, LoginOffer, Password, Proof, UserOrigin, user_name},
    request::{ApiError, ErrorCode, LoginMethodView, RegistrySaid, Request},
    time::{ClusterTime, Instant},
};
use planted::Bug;

use crate::{
    Action, Manager, SpaceState,
    audit::Asked,
    issue::{Issue, Subject},
    query::Ask,
};

/// Questions under way at once.
const MAX_OPEN: usize = 64;
/// Attempts of one login, which clients repeat while nobody answers.
const MAX_ATTEMPTS: usize = 8;
/// Failures of one name: fewer than any directory locks for.
const MAX_FAILURES: u32 = 3;
/// For so long they count.
const MEMORY: Duration = Duration::from_secs(600);
/// Names that are remembered; beyond, the one whose failure is the oldest is forgotten.
const MAX_NAMES: usize = 4_096;
/// A directory is asked for a few things in turn, and may be far away; the shell gives up earlier.
const PATIENCE: Duration = Duration::from_secs(15);
/// Tokens that were used and name no key, until they have ended.
const MAX_USED: usize = 4_096;
/// The one thing that is said of a name and a password.
pub const WRONG: &str = "the name or the password is wrong";

/// A proof to be judged. It is not to be kept longer than that takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginQuestion {
    /// By whom, and how.
    pub method: LoginMethodSpec,
    /// The password of the account that searches the directory, if one does.
    pub password: Option<Password>,
    /// The proof.
    pub proof: Proof,
    /// The certificate request that came with it, PEM: a token may name its key.
    pub csr: String,
}

/// Who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The name there.
    pub user: String,
    /// What tells this person from every other one there, for ever.
    pub subject: String,
    /// The groups.
    pub groups: Vec<String>,
    /// For a proof that whoever has it could bring again: what tells it from others. It is taken once.
    pub once: Option<String>,
}

/// Why a proof was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginRefusal {
    /// It is none; what whoever brought it may know.
    Wrong(String),
    /// Nobody could judge it; for admins.
    Unreachable(String),
}

/// What became of a proof.
pub type LoginAnswer = Result<Proven, LoginRefusal>;

/// Whom a login admits.
#[derive(Debug, Clone)]
pub(crate) struct Admitted {
    method: String,
    set: ClusterTime,
    subject: String,
    name: String,
    roles: Vec<UserRole>,
}

impl Admitted {
    pub(crate) fn command(self, id: UserId, serial: u64) -> Command {
        let Self { method, set, subject, name, roles } = self;
        Command::LogIn { id, method, set, subject, name, roles, serial }
    }

    pub(crate) fn is(&self, origin: &UserOrigin) -> bool {
        (&self.method, &self.subject) == (&origin.method, &origin.subject)
    }

    pub(crate) fn about(&self) -> About {
        About::new("log in", "user", &self.name)
    }
}

struct Open {
    /// All attempts of one login.
    asks: Vec<Ask>,
    method: String,
    set: ClusterTime,
    /// Whose failures count, for a password.
    name: Option<String>,
    until: Instant,
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    since: Instant,
}

/// What is asked, and what failed lately.
#[derive(Default)]
pub(crate) struct Logins {
    open: BTreeMap<u64, Open>,
    failures: BTreeMap<String, Failures>,
    used: VecDeque<String>,
    said: BTreeMap<String, RegistrySaid>,
}

impl Logins {
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.open.values().map(|open| open.until).min()
    }

    /// Counts a try of a name before it is made, so that many at once count as many in turn.
    ///
    /// # Errors
    /// How long nobody is asked about this name.
    fn try_name(&mut self, name: &str, now: Instant) -> Result<(), Duration> {
        self.failures.retain(|_, failures| now.since(failures.since) < MEMORY);
        if self.failures.len() >= MAX_NAMES && !self.failures.contains_key(name) {
            let oldest = self.failures.iter().min_by_key(|(_, failures)| failures.since);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                self.failures.remove(&oldest);
            }
        }
        let failures = self.failures.entry(name.to_owned()).or_insert(Failures { count: 0, since: now });
        if failures.count >= MAX_FAILURES {
            return Err(MEMORY.saturating_sub(now.since(failures.since)));
        }
        failures.count += 1;
        Ok(())
    }

    /// The try was none: nobody judged it, or it was right.
    fn forgive(&mut self, name: &str, all: bool) {
        if let Some(failures) = self.failures.get_mut(name) {
            failures.count = if all { 0 } else { failures.count.saturating_sub(1) };
        }
    }

    /// Whether a proof comes for the first time.
    fn is_new(&mut self, once: &str) -> bool {
        if self.used.iter().any(|used| used == once) {
            return false;
        }
        if self.used.len() >= MAX_USED {
            self.used.pop_front();
        }
        self.used.push_back(once.to_owned());
        true
    }
}

impl Manager {
    /// Takes a login; this member leads and serves.
    pub(crate) fn log_in(&mut self, ask: Ask) {
        let asked = Asked::of(&ask);
        if let Err(error) = self.ask_login(ask) {
            self.refuse(&asked, error);
        }
    }

    fn ask_login(&mut self, mut ask: Ask) -> Result<(), ApiError> {
        if self.space != SpaceState::Enough {
            let message = "the leader's disk is nearly full: nobody is let in until there is room again";
            return Err(ApiError::new(ErrorCode::Exhausted, message));
        }
        let Request::LogIn(login) = &mut ask.request else {
            return Err(ApiError::new(ErrorCode::Internal, "a change was taken for a proof"));
        };
        let now = self.now.mono;
        let method = self.store.login_method(&login.method).cloned().ok_or_else(|| {
            let message = format!(
                "login method \"{}\" does not exist; orchctl login names those there are",
                login.method
            );
            ApiError::new(ErrorCode::NotFound, message)
        })?;
        let password = self.searcher(&method)?;
        let unavailable = || ApiError::new(ErrorCode::Unavailable, "the lead has just changed; ask again");
        let lead = self.lead.as_mut().ok_or_else(unavailable)?;
        let is_same = |other: &Ask| {
            let same_key = matches!(&other.request, Request::LogIn(known) if known.csr == login.csr);
            other.request_id == ask.request_id && same_key
        };
        let same = |open: &&mut Open| ask.request_id.is_some() && open.asks.iter().any(is_same);
        // Another attempt of the same login: who judges it is asked once.
        if let Some(open) = lead.logins.open.values_mut().find(same) {
            if open.asks.len() >= MAX_ATTEMPTS {
                return Err(ApiError::new(ErrorCode::Exhausted, "this login is under way already"));
            }
            let LogInRequest { proof, .. } = &mut **login;
            *proof = blank(proof);
            open.asks.push(ask);
            return Ok(());
        }
        if lead.logins.open.len() >= MAX_OPEN {
            let message = format!("{MAX_OPEN} logins are under way; retry in a moment");
            return Err(ApiError::new(ErrorCode::Exhausted, message));
        }
        let name = match &login.proof {
            Proof::Password { user, .. } => Some(format!("{}:{}", login.method, user.to_ascii_lowercase())),
            Proof::IdToken(_) => None,
        };
        if let Some(Err(left)) = name.as_ref().map(|name| lead.logins.try_name(name, now)) {
            let message = format!(
                "too many logins of this name failed: nobody is asked about it for another {} s",
                left.as_secs().max(1)
            );
            return Err(ApiError::new(ErrorCode::Exhausted, message));
        }
        let blank = blank(&login.proof);
        let proof = std::mem::replace(&mut login.proof, blank);
        let csr = login.csr.clone();
        let LoginMethod { spec, set, .. } = method;
        let job = self.next_id();
        let open = Open { asks: vec![ask], method: spec.name.clone(), set, name, until: now + PATIENCE };
        if let Some(lead) = &mut self.lead {
            lead.logins.open.insert(job, open);
        }
        let question = LoginQuestion { method: spec, password, proof, csr };
        self.act(Action::AskLogin { job, question: Box::new(question) });
        Ok(())
    }

    pub(crate) fn on_login_answered(&mut self, job: u64, answer: LoginAnswer) {
        let at = self.stamps.peek(self.now);
        let Some(lead) = &mut self.lead else { return };
        let Some(Open { asks, method, set, name, .. }) = lead.logins.open.remove(&job) else { return };
        let problem = match &answer {
            Err(LoginRefusal::Unreachable(why)) => Some(why.clone()),
            _ => None,
        };
        lead.logins.said.insert(method.clone(), RegistrySaid { at, problem });
        if let Some(name) = &name {
            match &answer {
                Ok(_) => lead.logins.forgive(name, true),
                Err(LoginRefusal::Unreachable(_)) => lead.logins.forgive(name, false),
                Err(LoginRefusal::Wrong(_)) => {}
            }
        }
        let admitted = answer.and_then(|proven| match &proven.once {
            Some(once) if !lead.logins.is_new(once) => {
                Err(LoginRefusal::Wrong("the ID token was used before: log in again".into()))
            }
            _ => Ok(proven),
        });
        let admitted = match admitted {
            Ok(proven) => self.admitted(&method, set, proven),
            Err(LoginRefusal::Wrong(why)) => Err(ApiError::new(ErrorCode::Unauthenticated, why)),
            Err(LoginRefusal::Unreachable(why)) => {
                self.warn(format!("login method {method} cannot judge anybody: {why}"));
                let message = format!(
                    "login method \"{method}\" cannot judge anybody at the moment; its problem is shown to admins: \
                     orchctl login-method inspect {method}"
                );
                Err(ApiError::new(ErrorCode::Conflict, message))
            }
        };
        let mut asks =
            asks.into_iter().filter(|ask| self.queries.is_open(ask.handle)).collect::<VecDeque<_>>();
        // One login is recorded once: its other attempts are answered alike.
        let Some(first) = asks.pop_front() else { return };
        match admitted {
            Ok(admitted) => {
                for ask in std::iter::once(first).chain(asks) {
                    self.let_in(ask, admitted.clone());
                }
            }
            Err(error) => {
                for ask in asks {
                    self.reply(ask.handle, Err(error.clone()));
                }
                self.refuse(&Asked::of(&first), error);
            }
        }
    }

    /// Which roles the groups of somebody have here.
    fn admitted(&self, method: &str, set: ClusterTime, proven: Proven) -> Result<Admitted, ApiError> {
        let Proven { user, subject, groups, .. } = proven;
        let name = user_name(method, &user).map_err(|why| {
            ApiError::new(ErrorCode::Denied, format!("login method \"{method}\" names you by {why}"))
        })?;
        let is_same = |declared: &&LoginMethod| declared.set == set || planted::is(Bug::StaleLogin);
        let declared = self.store.login_method(method).filter(is_same);
        let roles = declared.map(|declared| declared.spec.roles_of(&groups)).ok_or_else(|| {
            let message =
                format!("login method \"{method}\" was declared anew or removed just now: log in again");
            ApiError::new(ErrorCode::Conflict, message)
        })?;
        if roles.is_empty() {
            let message = format!(
                "{name} is known there, but none of its groups has a role in this cluster: ask an admin of the cluster"
            );
            return Err(ApiError::new(ErrorCode::Denied, message));
        }
        Ok(Admitted { method: method.to_owned(), set, subject, name, roles })
    }

    fn let_in(&mut self, ask: Ask, admitted: Admitted) {
        let Request::LogIn(login) = &ask.request else { return };
        let issue = Issue {
            handle: ask.handle,
            request_id: ask.request_id,
            actor: ask.identity.clone(),
            csr: login.csr.clone(),
            subject: Subject::Proven(Box::new(admitted)),
            origin: ask.origin.clone(),
            key: None,
        };
        if let Err(error) = self.queue_issue(issue) {
            self.refuse(&Asked::of(&ask), error);
        }
    }

    /// Nobody waits longer than the patience, whatever the shell does.
    pub(crate) fn expire_logins(&mut self) {
        let now = self.now.mono;
        let Some(lead) = &self.lead else { return };
        let late: Vec<u64> =
            lead.logins.open.iter().filter(|(_, open)| open.until <= now).map(|(job, _)| *job).collect();
        for job in late {
            let why = format!("it did not answer within {} s", PATIENCE.as_secs());
            self.on_login_answered(job, Err(LoginRefusal::Unreachable(why)));
        }
    }

    /// The lead ends: who waits asks the next leader.
    pub(crate) fn end_logins(&mut self) {
        let Some(lead) = &mut self.lead else { return };
        let open = std::mem::take(&mut lead.logins.open);
        for ask in open.into_values().flat_map(|open| open.asks) {
            let message = "the lead changed; ask again with the same request id";
            self.reply(ask.handle, Err(ApiError::new(ErrorCode::Unavailable, message)));
        }
    }

    pub(crate) fn login_method_views(&self) -> Vec<LoginMethodView> {
        let now = if self.lead.is_some() { self.stamps.peek(self.now) } else { self.store.time() };
        let said = |name: &str| self.lead.as_ref().and_then(|lead| lead.logins.said.get(name).cloned());
        let users = |name: &str| {
            let origins = self.store.users().iter().filter_map(|user| user.origin.as_ref());
            let present = origins.filter(|origin| origin.method == name && origin.expires > now).count();
            u32::try_from(present).unwrap_or(u32::MAX)
        };
        let view = |LoginMethod { spec, by, set, .. }: &LoginMethod| LoginMethodView {
            spec: spec.clone(),
            by: by.clone(),
            set: *set,
            users: users(&spec.name),
            said: said(&spec.name),
        };
        self.store.login_methods().iter().map(view).collect()
    }

    pub(crate) fn login_offers(&self) -> Vec<LoginOffer> {
        self.store.login_methods().iter().map(|method| method.spec.offer()).collect()
    }
}

/// The same without what is secret, for what is told of it.
fn blank(proof: &Proof) -> Proof {
    match proof {
        Proof::Password { user, .. } => Proof::Password { user: user.clone(), password: Password::default() },
        Proof::IdToken(_) => Proof::IdToken(Password::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant(secs * 1_000_000_000)
    }

    #[test]
    fn a_name_that_failed_is_left_alone_for_a_while_and_others_are_not() {
        let mut logins = Logins::default();
        for _ in 0..MAX_FAILURES {
            assert_eq!(logins.try_name("ldap:ann", at(0)), Ok(()));
        }
        assert_eq!(logins.try_name("ldap:ann", at(60)), Err(MEMORY - Duration::from_secs(60)));
        assert_eq!(logins.try_name("ldap:bob", at(60)), Ok(()));
        assert_eq!(logins.try_name("ldap:ann", at(MEMORY.as_secs())), Ok(()));
    }

    #[test]
    fn what_was_right_or_judged_by_nobody_is_no_failure() {
        let mut logins = Logins::default();
        for _ in 0..10 {
            assert_eq!(logins.try_name("ldap:ann", at(0)), Ok(()));
            logins.forgive("ldap:ann", false);
        }
        for _ in 0..MAX_FAILURES - 1 {
            assert_eq!(logins.try_name("ldap:ann", at(0)), Ok(()));
        }
        assert_eq!(logins.try_name("ldap:ann", at(0)), Ok(()));
        logins.forgive("ldap:ann", true);
        assert_eq!(logins.try_name("ldap:ann", at(0)), Ok(()));
    }

    #[test]
    fn names_that_are_remembered_are_bounded() {
        let mut logins = Logins::default();
        for number in 0..=MAX_NAMES as u64 {
            assert_eq!(logins.try_name(&format!("ldap:u{number}"), at(0)), Ok(()));
        }
        assert_eq!(logins.failures.len(), MAX_NAMES);
    }

    #[test]
    fn a_proof_that_names_no_key_is_taken_once() {
        let mut logins = Logins::default();
        assert!(logins.is_new("a") && logins.is_new("b") && !logins.is_new("a"));
    }
}
