//! Joins and renewals: everything that ends with a certificate.
//!
//! Serial numbers are given out by the log, each the one after the last. So one such entry is on its way at a time and
//! the others wait; the signing, which the shell does, happens after the entry is applied and holds up nobody.

use std::collections::VecDeque;

use model::{
    access::User,
    audit::{self, Origin},
    command::{Answer, Command},
    id::{MemberId, NodeId, RequestId, TokenId, UserId},
    identity::{Identity, JoinRole},
    login::UserOrigin,
    node::Facts,
    request::{ApiError, ErrorCode, JoinRequest, ReenrolRequest, Reply, Response},
};
use store::Applied;

use crate::{
    Action, Manager, admit::not_found, audit::Asked, logins::Admitted, manager::ByHandle, proposal::Purpose,
};

/// Joins that wait at once: a thousand machines that are set up together.
const MAX_WAITING: usize = 1_024;

/// Whom a certificate will name.
#[derive(Debug, Clone)]
pub(crate) enum Subject {
    /// A new node.
    NewNode { token: TokenId, facts: Facts },
    /// A new manager.
    NewMember { token: TokenId, name: String, address: String, fingerprint: String },
    /// A manager that lost its log.
    Replacement { old: MemberId, address: String },
    /// One that has joined already.
    Known(Identity),
    /// A node that proved the key of a certificate that has run out.
    Returned { node: NodeId, proven: u64 },
    /// Somebody who proved oneself.
    Proven(Box<Admitted>),
}

/// One wish for a certificate.
#[derive(Debug, Clone)]
pub(crate) struct Issue {
    pub(crate) handle: u64,
    pub(crate) request_id: Option<RequestId>,
    pub(crate) actor: Identity,
    pub(crate) csr: String,
    pub(crate) subject: Subject,
    pub(crate) origin: Origin,
    /// SHA-256 of the request's key, in hex, as far as the shell noted it.
    pub(crate) key: Option<String>,
}

impl Issue {
    pub(crate) fn join(handle: u64, join: JoinRequest) -> Self {
        let fingerprint = join.fingerprint();
        let JoinRequest { role, token, csr, facts, address, key, .. } = join;
        let subject = match role {
            JoinRole::Agent => Subject::NewNode { token, facts },
            JoinRole::Manager => Subject::NewMember { token, name: facts.hostname, address, fingerprint },
        };
        Self {
            handle,
            request_id: None,
            actor: Identity::Joiner(token),
            csr,
            subject,
            origin: Origin::default(),
            key,
        }
    }

    pub(crate) fn replacement(handle: u64, old: MemberId, address: String, csr: String) -> Self {
        let subject = Subject::Replacement { old, address };
        Self {
            handle,
            request_id: None,
            actor: Identity::Manager(old),
            csr,
            subject,
            origin: Origin::default(),
            key: None,
        }
    }

    pub(crate) fn renewal(handle: u64, identity: Identity, csr: String) -> Self {
        let subject = Subject::Known(identity.clone());
        Self { handle, request_id: None, actor: identity, csr, subject, origin: Origin::default(), key: None }
    }
}

impl Issue {
    /// Whom the certificate names, if it is not who asked.
    fn for_another(&self) -> Option<String> {
        match &self.subject {
            Subject::Known(identity) if *identity != self.actor => {
                Some(format!("for {}", audit::holder(identity)))
            }
            _ => self.origin.reason.clone(),
        }
    }

    /// Whether it is a login of this person.
    pub(crate) fn admits(&self, origin: &UserOrigin) -> bool {
        matches!(&self.subject, Subject::Proven(admitted) if admitted.is(origin))
    }

    fn asked(&self) -> Asked {
        Asked {
            handle: self.handle,
            identity: self.actor.clone(),
            request_id: self.request_id,
            origin: Origin { reason: self.for_another(), ..self.origin.clone() },
            about: match &self.subject {
                Subject::Proven(admitted) => Some(admitted.about()),
                _ => None,
            },
        }
    }
}

struct Signing {
    handle: u64,
    identity: Identity,
}

/// Wishes that wait, the one on its way, and those being signed.
#[derive(Default)]
pub(crate) struct Issuing {
    waiting: VecDeque<Issue>,
    proposed: bool,
    signing: ByHandle<Signing>,
    jobs: u64,
}

impl Manager {
    pub(crate) fn queue_issue(&mut self, issue: Issue) -> Result<(), ApiError> {
        if self.issuing.waiting.len() >= MAX_WAITING {
            let message = format!("{MAX_WAITING} machines are waiting for their certificates already; retry");
            return Err(ApiError::new(ErrorCode::Exhausted, message));
        }
        self.issuing.waiting.push_back(issue);
        Ok(())
    }

    /// A node whose certificate counts no more gets another one. It proves that it has the key that the state knows of it: that of its newest
    /// certificate, whether that arrived or not. Of a node whose key no version has noted yet, the certificate has to be the newest one and
    /// over the key, as the shell has verified.
    ///
    /// There is no challenge: whoever repeats a request that it overheard gets a certificate for a key that it does not have, and only until
    /// the node renews, since each renewal changes the key and an older one proves nothing any more.
    ///
    /// # Errors
    /// The node has had a later certificate, or a manager could not read the entry.
    pub(crate) fn reenrol(
        &self,
        handle: u64,
        identity: &Identity,
        request: ReenrolRequest,
    ) -> Result<Issue, ApiError> {
        let Identity::Node(id) = *identity else {
            let message = format!("{identity} cannot re-enrol: that is for nodes");
            return Err(ApiError::new(ErrorCode::Denied, message));
        };
        self.same_versions("a re-enrolment")?;
        let ReenrolRequest { csr, serial, key, own, .. } = request;
        let node = self.store.node(id).ok_or_else(|| not_found("node", &id.to_string()))?;
        let proven = match &node.key {
            known @ Some(_) if *known == key => Some(node.certificate),
            Some(_) => None,
            None => Some(serial).filter(|serial| own && node.is_proven_by(*serial)),
        };
        let Some(proven) = proven else {
            let message = format!(
                "certificate {serial} proves nothing any more: node {} has had certificate {} since, over another key. If that one is lost, remove \
                 the node (orchctl node rm) and join it with a fresh token",
                node.facts.hostname, node.certificate
            );
            return Err(ApiError::new(ErrorCode::Denied, message));
        };
        let subject = Subject::Returned { node: id, proven };
        Ok(Issue {
            handle,
            request_id: None,
            actor: identity.clone(),
            csr,
            subject,
            origin: Origin::default(),
            key,
        })
    }

    /// Proposes the next wish if none is on its way.
    pub(crate) fn next_issue(&mut self) {
        while !self.issuing.proposed {
            let Some(issue) = self.issuing.waiting.pop_front() else { return };
            let Some(cluster) = self.store.cluster() else { return };
            if !self.queries.is_open(issue.handle) {
                continue;
            }
            if let Err(error) = self.authority_key() {
                self.reply(issue.handle, Err(error));
                continue;
            }
            let serial = cluster.last_serial + 1;
            let member = MemberId(cluster.last_member.0 + 1);
            // An older manager would not note them.
            let notes = self.same_versions("a certificate's key").is_ok();
            let key = issue.key.clone().filter(|_| notes);
            let command = match issue.subject.clone() {
                Subject::NewNode { token, facts } => {
                    Command::JoinNode { id: NodeId(self.next_id()), token, facts, serial, key }
                }
                Subject::NewMember { token, name, address, fingerprint } => {
                    Command::JoinMember { id: member, token, name, address, serial, fingerprint }
                }
                Subject::Replacement { old, address } => {
                    Command::ReplaceMember { old, id: member, address, serial }
                }
                Subject::Known(Identity::Node(id)) => {
                    Command::CertificateIssued { serial, node: Some(id), proven: None, member: None, key }
                }
                Subject::Known(Identity::Manager(id)) if notes => Command::CertificateIssued {
                    serial,
                    node: None,
                    proven: None,
                    member: Some(id),
                    key: None,
                },
                Subject::Known(_) => {
                    Command::CertificateIssued { serial, node: None, proven: None, member: None, key: None }
                }
                Subject::Returned { node, proven } => {
                    let (node, proven) = (Some(node), Some(proven));
                    Command::CertificateIssued { serial, node, proven, member: None, key }
                }
                Subject::Proven(admitted) => admitted.command(UserId(self.next_id()), serial),
            };
            let (handle, asked) = (issue.handle, issue.asked());
            match self.propose_for(&asked, command, Purpose::Issue(Box::new(issue))) {
                Ok(()) => self.issuing.proposed = true,
                Err(error) => self.reply(handle, Err(error)),
            }
        }
    }

    pub(crate) fn on_issue_applied(&mut self, issue: Issue, applied: Applied) {
        self.issuing.proposed = false;
        let handle = issue.handle;
        let answer = match applied.outcome {
            Ok(answer) => answer,
            Err(rejection) => return self.reply(handle, Err(rejection.into())),
        };
        let identity = match (&issue.subject, answer) {
            (_, Answer::Node { id, .. }) => Identity::Node(id),
            (_, Answer::Member { id }) => Identity::Manager(id),
            (Subject::Known(identity), _) => identity.clone(),
            (Subject::Returned { node, .. }, _) => Identity::Node(*node),
            // Under another login's request id it would be that login's user.
            (Subject::Proven(admitted), Answer::User { id }) if self.is_of(id, admitted) => {
                self.store.user(id).map(User::identity).expect("looked at just now")
            }
            (Subject::Proven(_), _) => {
                let message = "the login ended as soon as it began: log in again";
                return self.reply(handle, Err(ApiError::new(ErrorCode::Conflict, message)));
            }
            (Subject::NewNode { .. } | Subject::NewMember { .. } | Subject::Replacement { .. }, _) => {
                let message = "the request id was used for another request before; choose a new one";
                return self.reply(handle, Err(ApiError::new(ErrorCode::Conflict, message)));
            }
        };
        if applied.replay {
            // The first attempt was applied, and its certificate is lost with its answer: another one is issued.
            let subject = match issue.subject {
                returned @ Subject::Returned { .. } => returned,
                _ => Subject::Known(identity),
            };
            let again = Issue { request_id: None, subject, ..issue };
            return self.issuing.waiting.push_front(again);
        }
        let Some(serial) = self.store.cluster().map(|cluster| cluster.last_serial) else { return };
        self.issuing.jobs += 1;
        let job = self.issuing.jobs;
        self.issuing.signing.insert(job, Signing { handle, identity: identity.clone() });
        let life = match &identity {
            Identity::User { id, .. } => self.store.user(*id).map(|user| user.spec.life),
            _ => None,
        };
        self.act(Action::Sign { job, csr: issue.csr, identity, serial, life });
    }

    fn is_of(&self, id: UserId, admitted: &Admitted) -> bool {
        let origin = self.store.user(id).and_then(|user| user.origin.as_ref());
        origin.is_some_and(|origin| admitted.is(origin))
    }

    pub(crate) fn on_signed(&mut self, job: u64, certificate: Result<String, String>) {
        let Some(Signing { handle, identity }) = self.issuing.signing.remove(&job) else { return };
        let Some(cluster) = self.store.cluster() else { return };
        let result = match certificate {
            Err(why) => {
                Err(ApiError::new(ErrorCode::Invalid, format!("the certificate was not signed: {why}")))
            }
            Ok(certificate) => {
                let (node, member) = match identity {
                    Identity::Node(id) => (Some(id), None),
                    Identity::Manager(id) => (None, Some(id)),
                    Identity::Operator { .. }
                    | Identity::Joiner(_)
                    | Identity::Anonymous
                    | Identity::User { .. }
                    | Identity::Bearer(_)
                    | Identity::Deployer { .. } => (None, None),
                };
                let response = Response::Joined {
                    certificate,
                    authority: cluster.authority.bundle(),
                    cluster: cluster.id,
                    node,
                    member,
                    managers: self.managers(),
                    pool: node.is_some().then_some(cluster.settings.pool),
                };
                Ok(Reply { response, index: self.node.applied(), stale: false })
            }
        };
        self.reply(handle, result);
    }

    /// The lead ended: what waits goes to the next leader. What is being signed is applied, and goes on.
    pub(crate) fn end_issuing(&mut self) {
        self.issuing.proposed = false;
        let message = "the lead changed; ask again with the same request id";
        for issue in std::mem::take(&mut self.issuing.waiting) {
            self.reply(issue.handle, Err(ApiError::new(ErrorCode::Unavailable, message)));
        }
    }
}
