//! Pipelines with ID tokens: administrators declare issuers and bindings and take them back; jobs exchange their tokens for sessions and
//! deploy with these, ask again what was answered, and show tokens that were used, have ended or are of jobs that no binding is for.
//!
//! The issuer is the world itself: an ID token is its number, and what a leader's shell verifies is looked up. What no answer may say is
//! found here; what the audit tells of one after the other is for `check::i21_sessions`.

use std::collections::{BTreeMap, BTreeSet};

use model::{
    binding::{BindingSpec, ExchangeRequest, JobClaims, Proof},
    command::Answer,
    deployer::{DeployVerb, TokenDigest},
    id::{DeployTokenId, RequestId},
    identity::Identity,
    issuer::{Issuer, IssuerSpec},
    registry::Secret,
    request::{ApiError, ErrorCode, Reply, Request, Response},
    time::ClusterTime,
};

use crate::{
    client::Operation,
    deployers::RELEASED,
    dice::Dice,
    pipelines::{self, REPOSITORY},
    queue::Time,
};

/// Issuers; few, so that bindings share them.
const ISSUERS: [&str; 2] = ["gitlab", "forge"];
/// Deploy bindings; see [`issuer_of`].
const BINDINGS: [&str; 3] = ["shop-main", "mail-main", "shop-tags"];
/// Of so many sessions the newest ones are used.
const IN_USE: usize = 6;

/// The issuer of a binding.
pub(crate) fn issuer_of(binding: &str) -> &'static str {
    let number = BINDINGS.iter().position(|name| *name == binding).unwrap_or_default();
    ISSUERS[number % ISSUERS.len()]
}

/// One request, and by whom.
pub(crate) struct Step {
    pub(crate) identity: Identity,
    pub(crate) request: Request,
    /// The request's id; `None`: a new one.
    pub(crate) id: Option<RequestId>,
}

struct IdToken {
    issuer: &'static str,
    claims: JobClaims,
    /// Some binding may let its job in.
    good: bool,
    until: ClusterTime,
    /// What was asked with it: the first time, and under which ids.
    first: ExchangeRequest,
    ids: Vec<RequestId>,
    /// Whose request was answered with which session.
    session: Option<(DeployTokenId, ClusterTime)>,
}

struct Session {
    binding: &'static str,
    /// When its maker heard of it.
    known: Time,
    /// When the end of its binding or issuer was acknowledged.
    ended: Option<Time>,
}

/// All of them, with the choices of one world.
pub(crate) struct Exchanges {
    dice: Dice,
    /// What is not declared, as far as an administrator knows.
    absent: BTreeSet<&'static str>,
    tokens: Vec<IdToken>,
    sessions: BTreeMap<DeployTokenId, Session>,
    made: u64,
}

impl Exchanges {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed, "exchanges"),
            absent: ISSUERS.into_iter().chain(BINDINGS).collect(),
            tokens: Vec::new(),
            sessions: BTreeMap::new(),
            made: 0,
        }
    }

    /// Many steps are theirs; what else is asked at the same moment follows the first.
    pub(crate) fn steps(&mut self, admin: &Identity, now: ClusterTime) -> Vec<Step> {
        if !self.dice.permille(450) {
            return Vec::new();
        }
        let by_admin = |request| Step { identity: admin.clone(), request, id: None };
        let lacking = ISSUERS.into_iter().chain(BINDINGS).find(|name| self.absent.contains(name));
        if let Some(name) = lacking.filter(|_| self.dice.permille(500)) {
            return vec![by_admin(self.declare(name))];
        }
        let mut steps = match self.dice.range(0, 99) {
            0..6 => vec![by_admin(self.change())],
            6..40 => vec![self.show(now)],
            40..55 => self.show_again().into_iter().collect(),
            _ => self.work().into_iter().collect(),
        };
        if steps.is_empty() {
            steps.push(self.show(now));
        }
        match self.dice.range(0, 99) {
            0..15 => steps.push(by_admin(self.change())),
            15..30 => steps.extend(self.show_again()),
            _ => {}
        }
        steps
    }

    fn declare(&mut self, name: &'static str) -> Request {
        if ISSUERS.contains(&name) { self.issuer(name) } else { Self::binding(name) }
    }

    fn issuer(&mut self, name: &str) -> Request {
        let audience = if self.dice.permille(700) { "orch" } else { "orch-2" }.to_owned();
        let spec = IssuerSpec { name: name.to_owned(), url: url(name), audience, ..IssuerSpec::default() };
        Request::SetIssuer(Box::new(spec))
    }

    fn binding(name: &str) -> Request {
        let service = RELEASED.into_iter().find(|service| name.starts_with(service)).unwrap_or_default();
        Request::CreateBinding(Box::new(BindingSpec {
            name: name.to_owned(),
            service: service.to_owned(),
            image: REPOSITORY.to_owned(),
            allow: DeployVerb::ALL.into(),
            issuer: issuer_of(name).to_owned(),
            project_id: project_of(name),
            ref_name: "main".into(),
            ..BindingSpec::default()
        }))
    }

    /// Something that ends sessions.
    fn change(&mut self) -> Request {
        let issuer = *self.dice.pick(&ISSUERS).expect("not empty");
        match self.dice.range(0, 9) {
            0 => Request::RemoveIssuer(issuer.to_owned()),
            1 | 2 => self.issuer(issuer),
            _ => Request::RemoveBinding((*self.dice.pick(&BINDINGS).expect("not empty")).to_owned()),
        }
    }

    /// A job shows a fresh token.
    fn show(&mut self, now: ClusterTime) -> Step {
        let binding = *self.dice.pick(&BINDINGS).expect("not empty");
        let mut claims = JobClaims {
            project_id: Some(project_of(binding)),
            job_id: self.tokens.len().to_string(),
            ref_name: "main".into(),
            ref_type: "branch".into(),
            ref_protected: "true".into(),
            pipeline_source: "push".into(),
            ..JobClaims::default()
        };
        let wrong = self.dice.permille(150);
        if wrong {
            match self.dice.range(0, 3) {
                0 => claims.project_id = Some(1),
                1 => claims.ref_protected = "false".into(),
                2 => claims.ref_name = "mine".into(),
                _ => claims.pipeline_source = "merge_request_event".into(),
            }
        }
        let first = ExchangeRequest {
            id_token: Secret::new(self.tokens.len().to_string()),
            binding: self.dice.permille(500).then(|| binding.to_owned()),
            digest: self.secret(),
            proof: None,
        };
        let id = RequestId(self.dice.any());
        self.tokens.push(IdToken {
            issuer: issuer_of(binding),
            claims,
            good: !wrong,
            until: now + self.dice.span(1_500, 30_000),
            first: first.clone(),
            ids: vec![id],
            session: None,
        });
        exchange(first, id)
    }

    /// One of the last tokens is shown again: by who has asked already, or by somebody else.
    fn show_again(&mut self) -> Option<Step> {
        let back = self.dice.below(4);
        let number = self.tokens.len().checked_sub(1 + back)?;
        let first = self.tokens[number].first.clone();
        if self.dice.permille(500) {
            return Some(exchange(first, self.tokens[number].ids[0]));
        }
        let (digest, id) = (self.secret(), RequestId(self.dice.any()));
        self.tokens[number].ids.push(id);
        Some(exchange(ExchangeRequest { digest, ..first }, id))
    }

    fn secret(&mut self) -> TokenDigest {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&self.dice.any().to_le_bytes());
        TokenDigest(digest)
    }

    /// The bearer of a session does what it may, or may not.
    fn work(&mut self) -> Option<Step> {
        let newest: Vec<DeployTokenId> = self.sessions.keys().rev().take(IN_USE).copied().collect();
        let id = *self.dice.pick(&newest)?;
        let Request::CreateBinding(spec) = Self::binding(self.sessions[&id].binding) else { return None };
        let request = match self.dice.range(0, 99) {
            0..5 => self.issuer(ISSUERS[0]),
            5..10 => Request::CreateBinding(Box::new(BindingSpec { name: "mine".into(), ..*spec })),
            10..25 => pipelines::attack(&mut self.dice, &mut self.made, &spec.grant()),
            _ => pipelines::work(&mut self.dice, spec.service),
        };
        Some(Step { identity: Identity::Bearer(id), request, id: None })
    }

    /// What a leader's shell makes of an ID token.
    ///
    /// # Errors
    /// Its issuer is not declared, or it has ended.
    pub(crate) fn verified(
        &self,
        exchange: ExchangeRequest,
        issuers: &[Issuer],
        now: ClusterTime,
    ) -> Result<ExchangeRequest, ApiError> {
        let refused = |why: &str| ApiError::new(ErrorCode::Unauthenticated, why);
        let (number, token) = self.token(&exchange).ok_or_else(|| refused("no ID token"))?;
        let issuer = issuers.iter().find(|issuer| issuer.spec.url == url(token.issuer));
        let issuer = issuer.ok_or_else(|| refused("the issuer is not declared here"))?;
        if token.until <= now {
            return Err(refused("the ID token has ended"));
        }
        let mut id_token = [1; 32];
        id_token[..8].copy_from_slice(&(number as u64).to_le_bytes());
        let proof = Proof {
            issuer: issuer.spec.name.clone(),
            generation: issuer.generation,
            id_token: TokenDigest(id_token),
            claims: token.claims.clone(),
            until: token.until,
        };
        Ok(ExchangeRequest { id_token: Secret::default(), proof: Some(Box::new(proof)), ..exchange })
    }

    fn token(&self, exchange: &ExchangeRequest) -> Option<(usize, &IdToken)> {
        let number: usize = exchange.id_token.reveal().parse().ok()?;
        Some((number, self.tokens.get(number)?))
    }

    /// An answer came; what is wrong with it.
    pub(crate) fn answered(
        &mut self,
        asked: &Operation,
        now: Time,
        result: &Result<Reply, ApiError>,
    ) -> Option<String> {
        match (&asked.request, &asked.identity, result) {
            (Request::Exchange(exchange), Identity::Anonymous, result) => {
                self.exchanged(exchange, now, result)
            }
            (request, Identity::Bearer(id), Ok(_)) => self.did(*id, request, asked.invoked),
            (_, Identity::Bearer(_), Err(_)) => None,
            (request, _, result) => {
                self.administered(request, asked.invoked, now, result.as_ref().err());
                None
            }
        }
    }

    fn exchanged(
        &mut self,
        exchange: &ExchangeRequest,
        now: Time,
        result: &Result<Reply, ApiError>,
    ) -> Option<String> {
        let (number, token) = self.token(exchange)?;
        let (id, expires) = match result {
            Ok(Reply {
                response: Response::Changed { answer: Answer::DeployToken { id, expires }, .. },
                ..
            }) => (*id, *expires),
            Ok(other) => return Some(format!("ID token {number} was answered {:?}", other.response)),
            Err(error) if token.ids.len() == 1 && error.message.contains("was used already") => {
                return Some(format!("who asked again with ID token {number} was told that it was used"));
            }
            Err(_) => return None,
        };
        if !token.good {
            return Some(format!("a job was let in that no binding is for: {:?}", token.claims));
        }
        if let Some((known, until)) = token.session.filter(|known| *known != (id, expires)) {
            return Some(format!(
                "ID token {number} made session {known} until {until} and session {id} until {expires}"
            ));
        }
        let binding = BINDINGS.into_iter().find(|name| Some(project_of(name)) == token.claims.project_id)?;
        self.tokens[number].session = Some((id, expires));
        self.sessions.entry(id).or_insert(Session { binding, known: now, ended: None });
        None
    }

    fn did(&self, id: DeployTokenId, request: &Request, invoked: Time) -> Option<String> {
        let session = self.sessions.get(&id)?;
        let Request::CreateBinding(spec) = Self::binding(session.binding) else { return None };
        if !pipelines::allows(&spec.service, request) {
            return Some(format!("session {id} was let do what it does not allow: {request:?}"));
        }
        let ended = session.ended.is_some_and(|ended| ended < invoked);
        ended.then(|| format!("session {id} had lost its binding before it was let do this: {request:?}"))
    }

    fn administered(&mut self, request: &Request, invoked: Time, now: Time, error: Option<&ApiError>) {
        let known = |name: &str| ISSUERS.into_iter().chain(BINDINGS).find(|known| *known == name);
        let is_code = |code| error.is_some_and(|error| error.code == code);
        match request {
            Request::SetIssuer(spec) if error.is_none() => {
                self.absent.retain(|absent| *absent != spec.name);
            }
            Request::CreateBinding(spec) if error.is_none() || is_code(ErrorCode::AlreadyExists) => {
                self.absent.retain(|absent| *absent != spec.name);
            }
            Request::RemoveIssuer(name) | Request::RemoveBinding(name)
                if error.is_none() || is_code(ErrorCode::NotFound) =>
            {
                self.absent.extend(known(name));
            }
            _ => {}
        }
        let (Request::RemoveIssuer(name) | Request::RemoveBinding(name), None) = (request, error) else {
            return;
        };
        // One that was heard of only later may have been made later.
        let ends = |session: &Session| session.binding == name || issuer_of(session.binding) == name;
        let ended = self.sessions.values_mut().filter(|session| session.known < invoked && ends(session));
        ended.for_each(|session| _ = session.ended.get_or_insert(now));
    }
}

fn exchange(exchange: ExchangeRequest, id: RequestId) -> Step {
    Step { identity: Identity::Anonymous, request: Request::Exchange(Box::new(exchange)), id: Some(id) }
}

fn url(issuer: &str) -> String {
    format!("https://{issuer}.example")
}

/// Each binding has a project of its own.
fn project_of(binding: &str) -> u64 {
    10 + BINDINGS.iter().position(|name| *name == binding).unwrap_or_default() as u64
}
