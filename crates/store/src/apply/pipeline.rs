//! Issuers, deploy bindings and the sessions of pipelines.
//!
//! An ID token opens one session. It is remembered until nobody would accept it any more, also when its session has ended before: a
//! binding that is removed and made again must not let yesterday's job in again.

use std::sync::Arc;

use model::{
    binding::{Binding, BindingSpec, MAX_BINDINGS, MAX_SESSIONS, Session},
    cluster::Cluster,
    command::{Answer, Rejection},
    deployer::{DeployToken, TokenDigest},
    id::{DeployTokenId, Generation},
    issuer::{Issuer, IssuerSpec, MAX_ISSUERS},
    time::ClusterTime,
};
use planted::Bug;

use super::expect_generation;
use crate::{requests::Outcome, resolve::missing, write::Writer};

/// A session as the leader decided on it.
pub(super) struct Exchange<'a> {
    pub(super) id: DeployTokenId,
    pub(super) binding: (&'a str, Generation),
    pub(super) issuer: (&'a str, Generation),
    pub(super) id_token: TokenDigest,
    pub(super) until: ClusterTime,
    pub(super) digest: TokenDigest,
    pub(super) expires: ClusterTime,
    pub(super) job: &'a str,
}

impl Writer<'_> {
    pub(super) fn set_issuer(&mut self, spec: &IssuerSpec) -> Outcome {
        let cluster = self.cluster()?;
        let mut issuers = (*cluster.issuers).clone();
        let issuer =
            Issuer { spec: spec.clone(), generation: self.generation, by: self.actor.clone(), set: self.at };
        let twin = issuers.iter().find(|known| known.spec.name != spec.name && known.spec.url == spec.url);
        if let Some(twin) = twin {
            let message = format!("url: issuer \"{}\" has it already: change that one", twin.spec.name);
            return Err(Rejection::Conflict(message));
        }
        let mut sessions = cluster.sessions.clone();
        match issuers.iter_mut().find(|known| known.spec.name == spec.name) {
            Some(known) if known.spec == *spec => return Ok(Answer::Done),
            Some(known) => {
                *known = issuer;
                sessions = ended(&sessions, |session| session.issuer == spec.name);
            }
            None => issuers.push(issuer),
        }
        if issuers.len() > MAX_ISSUERS {
            let message = format!("there are {MAX_ISSUERS} issuers, the most there may be; remove some");
            return Err(Rejection::Conflict(message));
        }
        issuers.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        self.put_pipelines(Cluster { issuers: Arc::new(issuers), sessions, ..(*cluster).clone() });
        Ok(Answer::Done)
    }

    pub(super) fn remove_issuer(&mut self, name: &str) -> Outcome {
        let cluster = self.cluster()?;
        let mut issuers = (*cluster.issuers).clone();
        issuers.retain(|issuer| issuer.spec.name != name);
        if issuers.len() == cluster.issuers.len() {
            return Err(missing("issuer", name));
        }
        let sessions = ended(&cluster.sessions, |session| session.issuer == name);
        self.put_pipelines(Cluster { issuers: Arc::new(issuers), sessions, ..(*cluster).clone() });
        Ok(Answer::Done)
    }

    pub(super) fn create_binding(&mut self, spec: &BindingSpec) -> Outcome {
        let cluster = self.cluster()?;
        let mut bindings = (*cluster.bindings).clone();
        if bindings.iter().any(|binding| binding.spec.name == spec.name) {
            return Err(Rejection::Exists { kind: "deploy binding".into(), name: spec.name.clone() });
        }
        if !cluster.issuers.iter().any(|issuer| issuer.spec.name == spec.issuer) {
            return Err(missing("issuer", &spec.issuer));
        }
        if bindings.len() >= MAX_BINDINGS {
            let message =
                format!("there are {MAX_BINDINGS} deploy bindings, the most there may be; remove some");
            return Err(Rejection::Conflict(message));
        }
        let (generation, by, created) = (self.generation, self.actor.clone(), self.at);
        bindings.push(Binding { spec: spec.clone(), generation, by, created, used: None });
        bindings.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
        self.put_pipelines(Cluster { bindings: Arc::new(bindings), ..(*cluster).clone() });
        Ok(Answer::Done)
    }

    pub(super) fn remove_binding(&mut self, name: &str) -> Outcome {
        let cluster = self.cluster()?;
        let mut bindings = (*cluster.bindings).clone();
        bindings.retain(|binding| binding.spec.name != name);
        if bindings.len() == cluster.bindings.len() {
            return Err(missing("deploy binding", name));
        }
        let of_binding =
            |token: &DeployToken| token.spec.name == name && !planted::is(Bug::SessionOutlivesBinding);
        let sessions = ended(&cluster.sessions, |session| session.token.as_ref().is_some_and(of_binding));
        self.put_pipelines(Cluster { bindings: Arc::new(bindings), sessions, ..(*cluster).clone() });
        Ok(Answer::Done)
    }

    pub(super) fn exchange(&mut self, exchange: &Exchange<'_>) -> Outcome {
        let Exchange { id, binding: (name, expected), issuer, id_token, until, digest, expires, job } =
            *exchange;
        let cluster = self.cluster()?;
        let known = cluster.issuers.iter().find(|known| known.spec.name == issuer.0);
        let known = known.ok_or_else(|| missing("issuer", issuer.0))?;
        expect_generation("issuer", issuer.0, issuer.1, known.generation)?;
        let mut bindings = (*cluster.bindings).clone();
        let binding = bindings.iter_mut().find(|binding| binding.spec.name == name);
        let binding = binding.ok_or_else(|| missing("deploy binding", name))?;
        expect_generation("deploy binding", name, expected, binding.generation)?;
        // Who comes when the token has ended is told so; what is forgotten here can be remembered by nobody's showing it.
        if expires <= self.at || until <= self.at {
            return Err(Rejection::Unwelcome(
                "the ID token ended while it was taken; take a fresh one".into(),
            ));
        }
        let mut sessions: Vec<Session> =
            cluster.sessions.iter().filter(|session| session.until > self.at).cloned().collect();
        let used = sessions.iter().any(|session| session.id_token == id_token);
        if used && !planted::is(Bug::IdTokenForgotten) {
            let message = "this ID token was used already: each call of orchctl takes one of its own \
                           (id_tokens: in .gitlab-ci.yml), and one that was seen by others is worth nothing";
            return Err(Rejection::Unwelcome(message.into()));
        }
        if sessions.len() >= MAX_SESSIONS {
            let message = format!(
                "{MAX_SESSIONS} ID tokens were used and have not ended, the most that are remembered; retry when some have"
            );
            return Err(Rejection::Conflict(message));
        }
        let token = DeployToken {
            id,
            spec: binding.spec.grant(),
            digest,
            by: binding.by.clone(),
            created: self.at,
            expires,
            used: None,
            job: Some(job.to_owned()),
        };
        binding.used = Some(self.at);
        sessions.push(Session { id_token, until, issuer: issuer.0.to_owned(), token: Some(token) });
        let (bindings, sessions) = (Arc::new(bindings), Arc::new(sessions));
        self.put_pipelines(Cluster { bindings, sessions, ..(*cluster).clone() });
        Ok(Answer::DeployToken { id, expires })
    }

    fn put_pipelines(&mut self, cluster: Cluster) {
        self.put_cluster(Cluster { generation: self.generation, ..cluster });
    }
}

/// The sessions, some of which end; their ID tokens stay known.
fn ended(sessions: &Arc<Vec<Session>>, ends: impl Fn(&Session) -> bool) -> Arc<Vec<Session>> {
    let after = |session: &Session| match ends(session) {
        true => Session { token: None, ..session.clone() },
        false => session.clone(),
    };
    Arc::new(sessions.iter().map(after).collect())
}
