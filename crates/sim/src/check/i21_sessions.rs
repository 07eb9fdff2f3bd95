//! I21 for pipelines with ID tokens: one token makes one session, ever; and nothing of a session is done after its time, or after the
//! end of its binding or issuer.
//!
//! The audit says in which order things were done, whoever led and whether or not a client was told. The state has to agree with it.

use std::collections::BTreeMap;

use model::{
    audit::{Record, Verdict},
    command::Answer,
    deployer::TokenDigest,
    id::{DeployTokenId, RequestId},
    identity::Identity,
    request::{ApiError, Reply, Request, Response},
    time::ClusterTime,
};
use store::Store;

use crate::{client::Operation, exchanges::issuer_of, world::World};

/// What is known of sessions.
#[derive(Default)]
pub(crate) struct Sessions {
    /// Which ID token a request shows.
    shown: BTreeMap<RequestId, String>,
    /// Whose session a request is of.
    used: BTreeMap<RequestId, DeployTokenId>,
    /// Which request made a session, and until when that lives.
    made: BTreeMap<DeployTokenId, (RequestId, ClusterTime)>,
    /// Which request made the session of an ID token.
    first: BTreeMap<String, RequestId>,
    /// The record of a session's making, and the binding's name.
    records: BTreeMap<RequestId, (u64, String)>,
    /// The newest record that ended the sessions of a binding or issuer.
    ends: BTreeMap<String, u64>,
    /// The session of an ID token, as states had it.
    of_token: BTreeMap<[u8; 32], DeployTokenId>,
    last: u64,
}

impl Sessions {
    /// A request was made.
    pub(crate) fn asked(&mut self, asked: &Operation) {
        let Some(request) = asked.request_id else { return };
        match (&asked.request, &asked.identity) {
            (_, Identity::Bearer(id)) => _ = self.used.insert(request, *id),
            (Request::Exchange(exchange), _) => {
                self.shown.insert(request, exchange.id_token.reveal().to_owned());
            }
            _ => {}
        }
    }

    /// And answered.
    pub(crate) fn answered(&mut self, asked: &Operation, result: &Result<Reply, ApiError>) {
        let Ok(Reply { response: Response::Changed { answer, .. }, .. }) = result else { return };
        if let (Request::Exchange(_), Some(request), Answer::DeployToken { id, expires }) =
            (&asked.request, asked.request_id, answer)
        {
            self.made.entry(*id).or_insert((request, *expires));
        }
    }

    /// Something was done; what is wrong with it.
    fn done(&mut self, record: &Record) -> Option<String> {
        let changed = record.old != record.new;
        match (&*record.verb, &*record.kind) {
            ("remove", "issuer" | "deploy-binding") => {
                _ = self.ends.insert(record.name.clone(), record.number)
            }
            ("set", "issuer") if record.old.is_some() && changed => {
                self.ends.insert(record.name.clone(), record.number);
            }
            _ => {}
        }
        let request = record.request?;
        if let Some(token) = self.shown.get(&request) {
            self.records.insert(request, (record.number, record.name.clone()));
            let first = *self.first.entry(token.clone()).or_insert(request);
            return (first != request).then(|| {
                format!("ID token {token} made a session for request {first} and one for {request}")
            });
        }
        let session = self.used.get(&request)?;
        let (maker, expires) = *self.made.get(session)?;
        if record.at >= expires {
            return Some(format!(
                "session {session} ended at {expires}, and record {} is of {}",
                record.number, record.at
            ));
        }
        let (made, binding) = self.records.get(&maker)?;
        let end = [binding.as_str(), issuer_of(binding)].into_iter().find_map(|name| {
            let end = self.ends.get(name).filter(|end| *end > made)?;
            Some((name, end))
        });
        end.map(|(name, end)| {
            let number = record.number;
            format!("record {number} is of session {session}, which {name} took with it at record {end}")
        })
    }

    /// What a state says of them that cannot be.
    fn state(&mut self, before: &Store, store: &Store) -> Option<String> {
        for session in store.sessions() {
            let Some(token) = &session.token else { continue };
            let id = token.id;
            let first = *self.of_token.entry(session.id_token.0).or_insert(id);
            if first != id {
                return Some(format!("sessions {first} and {id} are of one ID token"));
            }
            if token.expires > session.until {
                return Some(format!("session {id} outlives its ID token"));
            }
        }
        let still = |known: &TokenDigest| store.sessions().iter().any(|session| session.id_token == *known);
        let lost = before.sessions().iter().find(|old| old.until > store.time() && !still(&old.id_token))?;
        Some(format!("an ID token that is good until {} is forgotten at {}", lost.until, store.time()))
    }
}

impl World {
    /// The state has changed.
    pub(crate) fn check_sessions(&mut self, before: &Store, store: &Store) {
        if !self.knobs.exchanges {
            return;
        }
        let sessions = &mut self.checks.sessions;
        let (mut wrong, mut made, mut used) = (sessions.state(before, store), 0, 0);
        for record in store.audit_after(sessions.last) {
            sessions.last = record.number;
            if record.verdict != Verdict::Accepted {
                continue;
            }
            let is_use = record.request.is_some_and(|request| sessions.used.contains_key(&request));
            used += u32::from(is_use);
            made += u32::from(record.kind == "id-token");
            wrong = wrong.or_else(|| sessions.done(record));
        }
        (0..made).for_each(|_| self.checks.count("sessions made"));
        (0..used).for_each(|_| self.checks.count("changes by sessions"));
        if let Some(what) = wrong {
            self.violate("I21", what, vec!["leader".to_owned()]);
        }
    }
}
