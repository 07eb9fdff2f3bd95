//! From a request to a command: names become ids, ids are chosen, everything is validated. What cannot be right is
//! refused here; what may change until the entry is applied is checked there again.

use std::sync::Arc;

use model::{
    cluster::{ClusterSettings, Token},
    command::{Command, Rejection},
    id::{MemberId, ServiceId, TokenId},
    identity::{Identity, JoinRole},
    node::{Node, NodeSpec},
    request::{ApiError, ErrorCode, NodeChange, Request},
    service::{Mode, ServiceSpec},
    validate::Problem,
};
use std::time::Duration;

use crate::{Manager, SpaceState, issue::Issue, proposal::Purpose, query::Ask};

/// A token is handed out by a person; a month covers the slowest delivery of machines.
const MAX_TOKEN_TTL: Duration = Duration::from_secs(30 * 24 * 3_600);
/// A class of machines that is set up at once.
const MAX_TOKEN_USES: u32 = 1_000;
/// Replicas of one service: the size that the decisions and the state are measured for.
const MAX_REPLICAS: u32 = 10_000;

/// What a change turns into.
enum Work {
    Propose(Command),
    Issue(Issue),
    Transfer(Option<MemberId>),
    RemoveMember(MemberId),
}

impl Manager {
    /// Takes a change; this member leads and serves.
    pub(crate) fn change(&mut self, ask: Ask) {
        let Ask { handle, identity, request_id, request, .. } = ask;
        if self.space != SpaceState::Enough && !matches!(request, Request::TransferLeader { .. }) {
            let message = "the leader's disk is nearly full: changes are refused until there is room again, or until \
                           another manager leads";
            return self.reply(handle, Err(ApiError::new(ErrorCode::Exhausted, message)));
        }
        let outcome = match self.admit(handle, &identity, request) {
            Ok(Work::Propose(command)) => {
                self.propose_for(request_id, identity, command, Purpose::Client { handle })
            }
            Ok(Work::Issue(issue)) => self.queue_issue(Issue { request_id, actor: identity, ..issue }),
            Ok(Work::Transfer(to)) => self.begin_transfer(handle, to),
            Ok(Work::RemoveMember(id)) => self.may_remove_member(id).and_then(|()| {
                let command = Command::RemoveMember { id };
                self.propose_for(request_id, identity, command, Purpose::Client { handle })
            }),
            Err(error) => match request_id.filter(|_| error.code == ErrorCode::NotFound) {
                // A retry of a removal finds nothing, although the removal was done: ask the log.
                Some(_) => {
                    let purpose = Purpose::Probe { handle, refusal: Box::new(error) };
                    let command = Command::RevokeToken { id: TokenId(self.next_id()) };
                    self.propose_for(request_id, identity, command, purpose)
                }
                None => Err(error),
            },
        };
        if let Err(error) = outcome {
            self.reply(handle, Err(error));
        }
    }

    fn admit(&mut self, handle: u64, identity: &Identity, request: Request) -> Result<Work, ApiError> {
        let command = match request {
            Request::CreateService(spec) => {
                check_spec(&spec)?;
                Command::CreateService { id: ServiceId(self.next_id()), spec }
            }
            Request::UpdateService { service, expected, spec } => {
                check_spec(&spec)?;
                let id = self.store.resolve_service(&service)?.id;
                Command::UpdateService { id, expected, spec }
            }
            Request::ScaleServices(scales) => self.scale(&scales)?,
            Request::RollbackService(service) => {
                Command::RollbackService { id: self.store.resolve_service(&service)?.id }
            }
            Request::RemoveService(service) => {
                Command::RemoveService { id: self.store.resolve_service(&service)?.id }
            }
            Request::UpdateNode { node, change } => self.update_node(&node, &change)?,
            Request::RemoveNode { node, force } => {
                Command::RemoveNode { id: self.store.resolve_node(&node)?.id, force }
            }
            Request::CreateToken { role, ttl, uses, node_spec } => self.token(role, ttl, uses, node_spec)?,
            Request::RevokeToken(id) => Command::RevokeToken { id },
            Request::SetSettings(settings) => {
                check_settings(&settings)?;
                Command::SetSettings(settings)
            }
            Request::TransferLeader { to } => return Ok(Work::Transfer(to)),
            Request::RemoveMember(id) => return Ok(Work::RemoveMember(id)),
            Request::UpdateMember { address, version } => {
                let Identity::Manager(id) = *identity else {
                    return Err(ApiError::new(ErrorCode::Denied, "only a manager changes its own address"));
                };
                Command::UpdateMember { id, address, version }
            }
            Request::Join(join) => return Issue::join(handle, *join).map(Work::Issue),
            Request::RenewCertificate { csr } => {
                return Ok(Work::Issue(Issue::renewal(handle, identity.clone(), csr)));
            }
            Request::ListServices
            | Request::GetService(_)
            | Request::ListTasks(_)
            | Request::ListNodes
            | Request::GetNode(_)
            | Request::ListMembers
            | Request::ListTokens
            | Request::GetStatus
            | Request::Explain(_)
            | Request::Watch { .. }
            | Request::Logs { .. } => {
                return Err(ApiError::new(ErrorCode::Internal, "a read was taken for a change"));
            }
        };
        Ok(Work::Propose(command))
    }

    fn scale(&self, scales: &[(String, u32)]) -> Result<Command, ApiError> {
        let mut problems = Vec::new();
        let mut resolved = Vec::new();
        for (position, (name, count)) in scales.iter().enumerate() {
            let service = self.store.resolve_service(name)?;
            let mut wrong = |message: String| problems.push(problem(format!("scales[{position}]"), message));
            if *count > MAX_REPLICAS {
                wrong(format!("{count} replicas are more than the {MAX_REPLICAS} that are possible"));
            }
            if service.spec.mode == Mode::Global {
                wrong(format!("service \"{}\" is global: it has one task per node", service.spec.name));
            }
            if resolved.iter().any(|(id, _)| *id == service.id) {
                wrong(format!("service \"{}\" occurs twice", service.spec.name));
            }
            resolved.push((service.id, *count));
        }
        if scales.is_empty() {
            problems.push(problem("scales".into(), "names no service".into()));
        }
        none_of(problems)?;
        Ok(Command::ScaleServices(resolved))
    }

    fn update_node(&self, reference: &str, change: &NodeChange) -> Result<Command, ApiError> {
        let node = self.store.resolve_node(reference)?;
        let spec = changed_spec(node, change);
        Ok(Command::UpdateNode { id: node.id, expected: Some(node.generation), spec })
    }

    fn token(
        &mut self,
        role: JoinRole,
        ttl: Duration,
        uses: u32,
        node_spec: NodeSpec,
    ) -> Result<Command, ApiError> {
        let mut problems = Vec::new();
        if ttl.is_zero() || ttl > MAX_TOKEN_TTL {
            problems.push(problem("ttl".into(), "must be more than nothing and at most 30 days".into()));
        }
        if uses == 0 || uses > MAX_TOKEN_USES {
            problems.push(problem("uses".into(), format!("must be 1 to {MAX_TOKEN_USES}")));
        }
        none_of(problems)?;
        let created = self.stamps.peek(self.now);
        let id = TokenId(self.next_id());
        let token = Token { id, role, expires: created + ttl, uses_left: uses, created, node_spec };
        Ok(Command::CreateToken(token))
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

fn check_spec(spec: &Arc<ServiceSpec>) -> Result<(), ApiError> {
    none_of(validate_pending(spec))
}

/// Too little patience condemns healthy nodes at every pause of theirs; too much keeps nobody waiting but users.
fn check_settings(settings: &ClusterSettings) -> Result<(), ApiError> {
    let range = Duration::from_millis(500)..=Duration::from_secs(24 * 3_600);
    let classes = [
        ("patience.server", settings.patience.server),
        ("patience.workstation", settings.patience.workstation),
    ];
    let wrong = classes.into_iter().filter(|(_, patience)| !range.contains(patience));
    none_of(wrong.map(|(path, _)| problem(path.into(), "must be between 500 ms and 24 h".into())).collect())
}

fn problem(path: String, message: String) -> Problem {
    Problem { path, message }
}

fn none_of(problems: Vec<Problem>) -> Result<(), ApiError> {
    if problems.is_empty() { Ok(()) } else { Err(problems.into()) }
}

/// A reference that names nothing is "not found", not a rejection by the state.
pub(crate) fn not_found(kind: &str, name: &str) -> ApiError {
    Rejection::Missing { kind: kind.into(), name: name.into() }.into()
}

fn validate_pending(_: &ServiceSpec) -> Vec<Problem> {
    Vec::new()
}
