//! From a request to a command: names become ids, ids are chosen, everything is validated. What cannot be right is
//! refused here; what may change until the entry is applied is checked there again.

use std::time::Duration;

use model::{
    cluster::{ClusterSettings, Token},
    command::{Command, Rejection},
    id::{DeployTokenId, MemberId, NetworkId, ServiceId, TokenId},
    identity::{Identity, JoinRole},
    network::NetworkSpec,
    node::{Availability, Node, NodeSpec},
    request::{ApiError, ErrorCode, NodeChange, Reply, Request, Response},
    service::{Mode, ReleaseNote},
    validate::Problem,
};

use planted::Bug;

use crate::{
    Manager, SpaceState,
    audit::{Asked, origin_of},
    issue::Issue,
    proposal::Purpose,
    query::Ask,
};

/// What a change turns into.
enum Work {
    Propose(Command),
    Issue(Issue),
    Transfer(Option<MemberId>),
    RemoveMember(MemberId),
    RotateKey,
    /// Somebody was refused elsewhere.
    Refuse(Asked, String),
    /// Nothing is changed.
    Answer(Response),
}

impl Manager {
    /// Carries a change out; this member leads and serves.
    pub(crate) fn carry_on(&mut self, ask: Ask) {
        let asked = Asked { origin: origin_of(&ask), ..Asked::of(&ask) };
        let Ask { handle, identity, request_id, request, .. } = ask;
        let full = self.space != SpaceState::Enough && !planted::is(Bug::FullDiskIgnored);
        if full && !matches!(request, Request::TransferLeader { .. }) {
            let message = "the leader's disk is nearly full: changes are refused until there is room again, or until \
                           another manager leads";
            return self.refuse(&asked, ApiError::new(ErrorCode::Exhausted, message));
        }
        let allowed = self
            .authorize(&identity, &request)
            .and_then(|()| self.is_settled(&identity))
            .and_then(|()| self.is_resolved(&identity, &request));
        let outcome = match allowed.and_then(|()| self.admit(handle, &identity, request, &asked)) {
            Ok(Work::Propose(command)) => match self.admits(&identity, &command) {
                // A retry of what was admitted is answered as it was then: the log knows.
                Err(refusal) if request_id.is_some() => {
                    let error = ApiError::from(refusal);
                    let command = self.probe(&asked, &error);
                    let purpose = Purpose::Probe { handle, refusal: Box::new(error) };
                    self.propose_for(&asked, command, purpose)
                }
                Err(refusal) => Err(refusal.into()),
                Ok(()) => {
                    let purpose = Self::purpose_of(handle, &command);
                    self.propose_for(&asked, command, purpose)
                }
            },
            Ok(Work::Issue(issue)) => {
                let origin = asked.origin.clone();
                self.queue_issue(Issue { request_id, actor: identity, origin, ..issue })
            }
            Ok(Work::Transfer(to)) => self.note_transfer(&asked, to),
            Ok(Work::RemoveMember(id)) => self.may_remove_member(id).and_then(|()| {
                let command = Command::RemoveMember { id };
                self.propose_for(&asked, command, Purpose::Client { handle })
            }),
            Ok(Work::RotateKey) => self.rotate_key(&asked),
            Ok(Work::Refuse(elsewhere, reason)) => {
                self.refuse(&elsewhere, ApiError::new(ErrorCode::Unauthenticated, reason));
                Ok(())
            }
            Ok(Work::Answer(response)) => {
                self.reply(handle, Ok(Reply { response, index: self.node.applied(), stale: false }));
                Ok(())
            }
            Err(error) => match request_id.filter(|_| error.code == ErrorCode::NotFound) {
                // A retry of a removal finds nothing, although the removal was done: ask the log.
                Some(_) => {
                    let command = self.probe(&asked, &error);
                    let purpose = Purpose::Probe { handle, refusal: Box::new(error) };
                    self.propose_for(&asked, command, purpose)
                }
                None => Err(error),
            },
        };
        if let Err(error) = outcome {
            self.refuse(&asked, error);
        }
    }

    /// What the policies say to a command, with what only the leader knows.
    fn admits(&self, identity: &Identity, command: &Command) -> Result<(), Rejection> {
        let mut verdict = self.store.admits(identity, command);
        if let Err(Rejection::Refused(refusal)) = &mut verdict {
            self.explain_signature(command, refusal);
        }
        verdict
    }

    fn admit(
        &mut self,
        handle: u64,
        identity: &Identity,
        request: Request,
        asked: &Asked,
    ) -> Result<Work, ApiError> {
        let command = match request {
            Request::CreateService(spec) => {
                let spec = self.pinned(self.plain(spec)?)?;
                let spec = self.signed(spec.clone(), &spec.name, None)?;
                Command::CreateService { id: ServiceId(self.next_id()), spec }
            }
            Request::UpdateService { service, expected, spec } => {
                let old = self.store.resolve_service(&service)?;
                let spec = self.pinned(self.plain(spec)?)?;
                let (id, spec) = (old.id, self.signed(spec.clone(), &spec.name, Some(old))?);
                Command::UpdateService { id, expected, spec, note: ReleaseNote::default() }
            }
            Request::ScaleServices(scales) => self.scale(&scales)?,
            Request::RollbackService(service) => Command::RollbackService {
                id: self.store.resolve_service(&service)?.id,
                to: None,
                note: ReleaseNote::default(),
            },
            Request::ReturnTo { service, release, note } => self.return_to(&service, release, *note)?,
            Request::Deploy { service, image, note } => self.deploy(&service, image, *note)?,
            Request::SteerRollout { service, release, step } => self.steer(&service, release, step)?,
            Request::RemoveService(service) => {
                Command::RemoveService { id: self.store.resolve_service(&service)?.id }
            }
            Request::UpdateNode { node, change } => {
                if let Some(reason) = &change.despite_freeze {
                    self.notice(format!("{identity} changes node \"{node}\" despite a freeze: {reason}"));
                }
                self.update_node(&node, &change)?
            }
            Request::RemoveNode { node, force } => {
                Command::RemoveNode { id: self.store.resolve_node(&node)?.id, force }
            }
            Request::CreateNetwork(spec) => self.network(spec)?,
            Request::RemoveNetwork(network) => {
                Command::RemoveNetwork { id: self.store.resolve_network(&network)?.id }
            }
            Request::SetFreeze(spec) => self.freeze(spec)?,
            Request::RemoveFreeze(name) => Command::RemoveFreeze { name },
            Request::SetCron(spec) => self.set_cron(spec)?,
            Request::RemoveCron(name) => Command::RemoveCron { id: self.cron(&name)?.id },
            Request::SuspendCron { name, suspended } => self.suspend_cron(&name, suspended)?,
            Request::RunCron(name) => self.run_cron(&name)?,
            Request::SetRegistry { spec, .. } => self.registry(spec)?,
            Request::RemoveRegistry(host) => Command::RemoveRegistry { host },
            Request::SetPolicy { spec, expected } => self.policy(*spec, expected)?,
            Request::RemovePolicy(name) => Command::RemovePolicy { name },
            Request::CreateToken { role, ttl, uses, node_spec } => self.token(role, ttl, uses, node_spec),
            Request::RevokeToken(id) => Command::RevokeToken { id },
            Request::SetSettings(settings) => self.settings(settings)?,
            Request::TransferLeader { to } => return Ok(Work::Transfer(to)),
            Request::RemoveMember(id) => return Ok(Work::RemoveMember(id)),
            Request::UpdateMember { address, version } => {
                let Identity::Manager(id) = *identity else {
                    return Err(ApiError::new(ErrorCode::Denied, "only a manager changes its own address"));
                };
                Command::UpdateMember { id, address, version, key: None }
            }
            Request::ReplaceMember { address, csr } => {
                let Identity::Manager(old) = *identity else {
                    return Err(ApiError::new(ErrorCode::Denied, "only a manager asks for its own new id"));
                };
                return self.may_replace_member(old).map(|known| {
                    Work::Issue(match known {
                        Some(new) => Issue::renewal(handle, Identity::Manager(new), csr),
                        None => Issue::replacement(handle, old, address, csr),
                    })
                });
            }
            Request::Join(_) | Request::Reenrol(_) if *identity == Identity::Anonymous => {
                // The lead came here after the shell had looked, so that nobody verified the proof.
                return Err(ApiError::new(ErrorCode::Unavailable, "the lead has just changed; ask again"));
            }
            Request::Join(join) => {
                let waits = self.await_approval(&join, &asked.origin)?;
                return Ok(waits.map_or_else(|| Work::Issue(Issue::join(handle, *join)), Work::Answer));
            }
            Request::JudgeJoiner { joiner, approve } => self.judge_joiner(&joiner, approve)?,
            Request::Reenrol(request) => return self.reenrol(handle, identity, *request).map(Work::Issue),
            Request::RenewCertificate { csr, key } => {
                self.may_renew(identity)?;
                let renewal = Issue::renewal(handle, identity.clone(), csr);
                return Ok(Work::Issue(Issue { key, ..renewal }));
            }
            Request::RotateAuthority { current, successor } => self.rotate_authority(current, successor)?,
            Request::FinishRotation { current, leave_behind } => {
                self.same_versions("the end of a rotation")?;
                Command::FinishRotation { current, leave_behind }
            }
            Request::CreateUser(spec) => self.create_user(spec)?,
            Request::UpdateUser { user, change } => self.update_user(&user, change)?,
            Request::RemoveUser(user) => self.remove_user(&user)?,
            Request::CertifyUser { user, csr } => {
                return self.certify_user(handle, identity, &user, csr).map(Work::Issue);
            }
            Request::CreateDeployToken { spec, ttl, digest } => {
                self.same_versions("a deploy token")?;
                let expires = self.stamps.peek(self.now) + ttl;
                Command::CreateDeployToken { id: DeployTokenId(self.next_id()), spec: *spec, digest, expires }
            }
            Request::RemoveDeployToken(name) => Command::RemoveDeployToken { name },
            Request::SetIssuer(spec) => {
                self.same_versions("an issuer")?;
                Command::SetIssuer(*spec)
            }
            Request::RemoveIssuer(name) => Command::RemoveIssuer { name },
            Request::CreateBinding(spec) => {
                self.same_versions("a deploy binding")?;
                Command::CreateBinding(*spec)
            }
            Request::RemoveBinding(name) => Command::RemoveBinding { name },
            Request::Exchange(exchange) => self.exchange(*exchange)?,
            Request::CreateItem { spec, value } => self.create_item(spec, &value)?,
            Request::UpdateItem { kind, name, value } => self.update_item(kind, name, &value)?,
            Request::RemoveItem { kind, name } => self.remove_item(kind, name)?,
            Request::RotateKey => return Ok(Work::RotateKey),
            Request::NoteRefusal { who, source, reason } => {
                let Identity::Manager(manager) = identity else {
                    return Err(ApiError::new(ErrorCode::Internal, "only managers say who was refused"));
                };
                return Ok(Work::Refuse(Asked::at(handle, *manager, who, source), reason));
            }
            Request::SetLoginMethod { spec, password } => self.login_method(spec, password)?,
            Request::RemoveLoginMethod(name) => Command::RemoveLoginMethod { name },
            Request::LogIn(_) => {
                return Err(ApiError::new(ErrorCode::Internal, "a proof was taken for a change"));
            }
            Request::ListUsers
            | Request::Whoami
            | Request::CanI { .. }
            | Request::ListServices
            | Request::GetService(_)
            | Request::ListTasks(_)
            | Request::ListNetworks
            | Request::ListFreezes
            | Request::ListCrons
            | Request::ListRegistries
            | Request::ListPolicies
            | Request::CheckPolicies { .. }
            | Request::GetNetwork(_)
            | Request::GetEndpoints(_)
            | Request::ListNodes
            | Request::GetNode(_)
            | Request::ListMembers
            | Request::ListTokens
            | Request::GetStatus
            | Request::Explain(_)
            | Request::Watch { .. }
            | Request::Logs { .. }
            | Request::ListDeployTokens
            | Request::GetAudit { .. }
            | Request::ListItems(_)
            | Request::GetItem { .. }
            | Request::GetKeys
            | Request::ListIssuers
            | Request::ListBindings
            | Request::ListLoginMethods
            | Request::ListLogins
            | Request::ListJoiners
            | Request::GetAuthority => {
                return Err(ApiError::new(ErrorCode::Internal, "a read was taken for a change"));
            }
        };
        Ok(Work::Propose(command))
    }

    fn scale(&self, scales: &[(String, u32)]) -> Result<Command, ApiError> {
        let mut problems = Vec::new();
        let mut resolved = Vec::new();
        for (name, count) in scales {
            let service = self.store.resolve_service(name)?;
            let mut wrong =
                |message: &str| problems.push(Problem { path: name.clone(), message: message.into() });
            if service.spec.mode == Mode::Global {
                wrong("is global: it has one task per node and is not scaled");
            }
            if resolved.iter().any(|(id, _)| *id == service.id) {
                wrong("occurs twice, under two names");
            }
            resolved.push((service.id, *count));
        }
        if problems.is_empty() { Ok(Command::ScaleServices(resolved)) } else { Err(problems.into()) }
    }

    fn update_node(&self, reference: &str, change: &NodeChange) -> Result<Command, ApiError> {
        let node = self.store.resolve_node(reference)?;
        let spec = changed_spec(node, change);
        let drains =
            spec.availability == Availability::Drain && node.spec.availability != Availability::Drain;
        if drains && change.despite_freeze.is_none() {
            self.not_frozen(std::iter::once(node.id), "--despite-freeze REASON drains it all the same")?;
        }
        Ok(Command::UpdateNode { id: node.id, expected: Some(node.generation), spec })
    }

    /// Networks keep their addresses, so a pool has to hold those that there are. A network that is made at the same moment keeps its own
    /// all the same: the pool says only where the next ones come from.
    fn settings(&self, settings: ClusterSettings) -> Result<Command, ApiError> {
        if self.store.cluster().is_some_and(|cluster| cluster.settings.pulls != settings.pulls) {
            self.same_versions("a bound of pulls")?;
        }
        if settings.approve_managers {
            self.same_versions("the approval of managers")?;
        }
        let outside: Vec<String> = self
            .store
            .networks()
            .filter(|network| !settings.pool.holds(network.base))
            .map(|network| format!("\"{}\" has {}/16", network.spec.name, network.base))
            .collect();
        if outside.is_empty() {
            return Ok(Command::SetSettings(settings));
        }
        let message = format!(
            "pool.base: {} does not hold the networks that there are: {}; remove them first, or choose a pool around them",
            settings.pool,
            outside.join(", ")
        );
        Err(ApiError::new(ErrorCode::Conflict, message))
    }

    /// A new network gets the first /16 of the pool that no other has.
    fn network(&mut self, spec: NetworkSpec) -> Result<Command, ApiError> {
        let pool = self.store.cluster().map(|cluster| cluster.settings.pool).unwrap_or_default();
        let free = pool.bases().find(|base| self.store.networks().all(|network| network.base != *base));
        let base = free.ok_or_else(|| {
            let message = format!(
                "all {} networks of the pool that begins at {} are taken; remove one, or enlarge the pool",
                pool.networks, pool.base
            );
            ApiError::new(ErrorCode::Exhausted, message)
        })?;
        Ok(Command::CreateNetwork { id: NetworkId(self.next_id()), base, spec })
    }

    fn token(&mut self, role: JoinRole, ttl: Duration, uses: u32, node_spec: NodeSpec) -> Command {
        let created = self.stamps.peek(self.now);
        let id = TokenId(self.next_id());
        let token = Token { id, role, expires: created + ttl, uses_left: uses, created, node_spec };
        Command::CreateToken(token)
    }
}

fn changed_spec(node: &Node, change: &NodeChange) -> NodeSpec {
    let mut spec = node.spec.clone();
    spec.availability = change.availability.unwrap_or(spec.availability);
    spec.class = change.class.unwrap_or(spec.class);
    for key in &change.remove_labels {
        spec.labels.remove(key);
    }
    spec.labels.extend(change.set_labels.iter().cloned());
    spec
}

/// A reference that names nothing is "not found", not a rejection by the state.
pub(crate) fn not_found(kind: &str, name: &str) -> ApiError {
    Rejection::Missing { kind: kind.into(), name: name.into() }.into()
}
