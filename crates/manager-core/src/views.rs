//! Answers made from the state: lists, single objects, the status, explanations, where logs come from.

use std::collections::{BTreeMap, BTreeSet};

use consensus::Role;
use control::routes;
use model::{
    cluster::Member,
    command::Rejection,
    freeze::Freeze,
    id::{MemberId, ServiceId},
    issuer::Issuer,
    network::Network,
    node::{Node, NodeState},
    request::{
        ApiError, ClusterStatus, EndpointRow, EndpointsView, ErrorCode, FreezeView, LogSource, MemberStatus,
        NetworkView, NodeView, Request, Response, ServiceRow, ServiceView, TaskFilter, TaskNode, TaskRow,
        Waiting,
    },
    service::{Mode, Service},
    session::{LogOptions, ManagerMessage},
    task::{DesiredState, Task, TaskState},
};

use crate::{Action, Manager, SpaceState, session::State};

/// Log streams of one request: more cannot be read, and each is a stream of its own.
const MAX_LOG_STREAMS: usize = 256;

impl Manager {
    /// The answer to a read, from the state as it is applied here.
    pub(crate) fn view(&self, request: &Request) -> Result<Response, ApiError> {
        Ok(match request {
            Request::ListServices => {
                Response::Services(self.store.services().map(|service| self.service_row(service)).collect())
            }
            Request::GetService(reference) => {
                Response::Service(Box::new(self.service_view(self.store.resolve_service(reference)?)))
            }
            Request::ListTasks(filter) => Response::Tasks(self.task_rows(filter)?),
            Request::ListNetworks => {
                Response::Networks(self.store.networks().map(|network| self.network_view(network)).collect())
            }
            Request::ListFreezes => Response::Freezes(self.freeze_views()),
            Request::ListCrons => Response::Crons(self.store.crons().cloned().collect()),
            Request::ListRegistries => Response::Registries(self.registry_views()),
            Request::ListPolicies => Response::Policies(self.store.policies().to_vec()),
            Request::CheckPolicies { with } => Response::PolicyCheck(self.policy_check(with.as_deref())),
            Request::GetNetwork(reference) => {
                Response::Networks(vec![self.network_view(self.store.resolve_network(reference)?)])
            }
            Request::GetEndpoints(reference) => {
                Response::Endpoints(Box::new(self.endpoints(self.store.resolve_service(reference)?)))
            }
            Request::ListNodes => {
                Response::Nodes(self.store.nodes().map(|node| self.node_view(node)).collect())
            }
            Request::GetNode(reference) => {
                Response::Node(Box::new(self.node_view(self.store.resolve_node(reference)?)))
            }
            Request::ListMembers => Response::Members(self.member_rows()),
            Request::ListTokens => Response::Tokens(self.store.tokens().cloned().collect()),
            Request::ListDeployTokens => Response::DeployTokens(self.deploy_token_views()),
            Request::GetStatus => Response::Status(Box::new(self.cluster_status()?)),
            Request::ListUsers => Response::Users(self.store.users().to_vec()),
            Request::Explain(reference) => Response::Explanation(control::explain(&self.store, reference)),
            Request::GetAudit { after } => self.audit_page(*after)?,
            Request::ListItems(kind) => self.item_views(*kind),
            Request::GetItem { kind, name } => self.item_with_value(*kind, name)?,
            Request::GetKeys => Response::Keys(self.keys_view()),
            Request::ListIssuers => {
                Response::Issuers(self.store.issuers().iter().map(Issuer::view).collect())
            }
            Request::ListBindings => Response::Bindings(self.store.bindings().to_vec()),
            Request::ListLoginMethods => Response::LoginMethods(self.login_method_views()),
            Request::ListLogins => Response::Logins(self.login_offers()),
            Request::ListJoiners => Response::Joiners(self.joiner_views()),
            Request::GetAuthority => Response::Authority(Box::new(self.authority_view()?)),
            Request::CreateService(_)
            | Request::UpdateService { .. }
            | Request::ScaleServices(_)
            | Request::RollbackService(_)
            | Request::ReturnTo { .. }
            | Request::Deploy { .. }
            | Request::SteerRollout { .. }
            | Request::RemoveService(_)
            | Request::CreateNetwork(_)
            | Request::RemoveNetwork(_)
            | Request::SetFreeze(_)
            | Request::RemoveFreeze(_)
            | Request::SetCron(_)
            | Request::RemoveCron(_)
            | Request::SuspendCron { .. }
            | Request::RunCron(_)
            | Request::SetRegistry { .. }
            | Request::RemoveRegistry(_)
            | Request::SetPolicy { .. }
            | Request::RemovePolicy(_)
            | Request::UpdateNode { .. }
            | Request::RemoveNode { .. }
            | Request::CreateToken { .. }
            | Request::RevokeToken(_)
            | Request::SetSettings(_)
            | Request::TransferLeader { .. }
            | Request::RemoveMember(_)
            | Request::ReplaceMember { .. }
            | Request::UpdateMember { .. }
            | Request::Join(_)
            | Request::RenewCertificate { .. }
            | Request::RotateAuthority { .. }
            | Request::FinishRotation { .. }
            | Request::NoteRefusal { .. }
            | Request::CreateUser(_)
            | Request::UpdateUser { .. }
            | Request::RemoveUser(_)
            | Request::CertifyUser { .. }
            | Request::Whoami
            | Request::CanI { .. }
            | Request::CreateDeployToken { .. }
            | Request::RemoveDeployToken(_)
            | Request::Watch { .. }
            | Request::Logs { .. }
            | Request::CreateItem { .. }
            | Request::UpdateItem { .. }
            | Request::RemoveItem { .. }
            | Request::RotateKey
            | Request::SetIssuer(_)
            | Request::RemoveIssuer(_)
            | Request::CreateBinding(_)
            | Request::RemoveBinding(_)
            | Request::Exchange(_)
            | Request::Reenrol(_)
            | Request::SetLoginMethod { .. }
            | Request::RemoveLoginMethod(_)
            | Request::LogIn(_)
            | Request::JudgeJoiner { .. } => {
                return Err(ApiError::new(ErrorCode::Internal, "this request has no view"));
            }
        })
    }

    fn network_view(&self, network: &Network) -> NetworkView {
        let name = |id: &ServiceId| self.store.service(*id).map(|service| service.spec.name.clone());
        let mut services: Vec<_> =
            network.addresses.keys().filter_map(|id| Some((name(id)?, network.address_of(*id)?))).collect();
        services.sort();
        let tasks = network.addresses.keys().flat_map(|id| self.store.tasks_of_service(*id));
        let nodes: BTreeSet<_> =
            tasks.filter(|task| !task.observed.state.is_terminal()).filter_map(|task| task.node).collect();
        NetworkView { network: network.clone(), services, nodes: to_u32(nodes.len()) }
    }

    fn endpoints(&self, service: &Service) -> EndpointsView {
        let hostname = |id| self.store.node(id).map(|node| node.facts.hostname.clone());
        let present =
            self.store.replicas_of_service(service.id).filter(|task| !task.observed.state.is_terminal());
        let rows = present.map(|task| {
            let why = routes::out_of_rotation(&self.store, task);
            EndpointRow {
                task: task.id,
                slot: task.slot,
                node: task.node.and_then(hostname).unwrap_or_default(),
                ready: why.is_none(),
                why: why.unwrap_or_default(),
                addresses: task.observed.addresses.iter().map(|address| address.address).collect(),
            }
        });
        let up = self.store.nodes().filter(|node| node.state == NodeState::Ready && routes::is_ingress(node));
        let ingress = up.filter(|_| !service.spec.ports.is_empty());
        EndpointsView {
            service: service.spec.name.clone(),
            ports: service.spec.ports.clone(),
            addresses: routes::networks_of(&self.store, service)
                .filter_map(|network| Some((network.spec.name.clone(), network.address_of(service.id)?)))
                .collect(),
            endpoints: rows.collect(),
            ingress: ingress.map(|node| (node.facts.hostname.clone(), node.facts.mesh.clone())).collect(),
            behind: self.routers_behind(),
        }
    }

    fn service_view(&self, service: &Service) -> ServiceView {
        let tasks: Vec<Task> = self.store.tasks_of_service(service.id).cloned().collect();
        let active = self.store.replicas_of_service(service.id).filter(|task| task.is_active()).count();
        let nodes: BTreeSet<_> = tasks.iter().filter_map(|task| task.node).collect();
        let now = self.store.time();
        let nodes = nodes.into_iter().filter_map(|id| self.store.node(id)).map(|node| TaskNode {
            id: node.id,
            name: node.facts.hostname.clone(),
            state: node.state,
            frozen: self.store.freeze_of(node.id, now).is_some(),
        });
        ServiceView {
            nodes: nodes.collect(),
            wanted: Some(wanted(service, to_u32(active))),
            service: service.clone(),
            tasks,
        }
    }

    fn service_row(&self, service: &Service) -> ServiceRow {
        let tasks = || self.store.replicas_of_service(service.id);
        let count = |matches: fn(&Task) -> bool| to_u32(tasks().filter(|task| matches(task)).count());
        let active = count(|task| task.is_active());
        ServiceRow {
            // Whole declarations, which nobody looks for in a list.
            service: Service { releases: Vec::new(), ..service.clone() },
            healthy: count(|task| task.observed.is_healthy()),
            running: count(|task| task.observed.state == TaskState::Running),
            wanted: wanted(service, active),
            completed: count(|task| task.observed.state == TaskState::Completed),
        }
    }

    fn task_rows(&self, filter: &TaskFilter) -> Result<Vec<TaskRow>, ApiError> {
        let service =
            filter.service.as_ref().map(|reference| self.store.resolve_service(reference)).transpose()?;
        let node = filter.node.as_ref().map(|reference| self.store.resolve_node(reference)).transpose()?;
        let (service, node) = (service.map(|service| service.id), node.map(|node| node.id));
        let wanted = |task: &&Task| {
            let of_job = || self.store.service(task.service).is_some_and(|service| service.job.is_some());
            let ended =
                task.observed.state.is_terminal() && (task.desired == DesiredState::Stopped || of_job());
            (filter.all || !ended)
                && service.is_none_or(|service| task.service == service)
                && node.is_none_or(|node| task.node == Some(node))
        };
        let row = |task: &Task| self.task_row(task);
        Ok(match (service, node) {
            (Some(service), _) => self.store.tasks_of_service(service).filter(wanted).map(row).collect(),
            (None, Some(node)) => self.store.tasks_on_node(node).filter(wanted).map(row).collect(),
            (None, None) => self.store.tasks().filter(wanted).map(row).collect(),
        })
    }

    fn task_row(&self, task: &Task) -> TaskRow {
        let service = self.store.service(task.service);
        let template = service.and_then(|service| service.template_of(task.template));
        let node = task.node.and_then(|node| self.store.node(node));
        TaskRow {
            task: task.clone(),
            service: service.map(|service| service.spec.name.clone()).unwrap_or_default(),
            node: node.map(|node| node.facts.hostname.clone()).unwrap_or_default(),
            node_down: node.is_some_and(|node| node.state == NodeState::Down),
            image: template.map(|template| template.container.image.clone()).unwrap_or_default(),
        }
    }

    fn node_view(&self, node: &Node) -> NodeView {
        NodeView {
            node: node.clone(),
            tasks: self.store.tasks_on_node(node.id).cloned().collect(),
            reserved: self.store.reserved_on(node.id),
        }
    }

    fn member_rows(&self) -> Vec<MemberStatus> {
        let matched = self.node.matched();
        let leader = self.node.leader();
        let alive = self.alive();
        let row = |member: &Member| self.member_row(member, leader, &matched, &alive);
        self.store.members().map(row).collect()
    }

    fn member_row(
        &self,
        member: &Member,
        leader: Option<MemberId>,
        matched: &BTreeMap<MemberId, u64>,
        alive: &BTreeSet<MemberId>,
    ) -> MemberStatus {
        let id = member.id;
        let me = id == self.config.member;
        let known = matched.get(&id).copied();
        MemberStatus {
            member: member.clone(),
            voter: self.node.membership().votes_now(id),
            leader: leader == Some(id),
            reachable: alive.contains(&id),
            matched: known.map_or(if me { self.node.last_index() } else { 0 }, |matched| matched),
        }
    }

    fn cluster_status(&self) -> Result<ClusterStatus, ApiError> {
        let Some(cluster) = self.store.cluster() else {
            return Err(ApiError::new(
                ErrorCode::Unavailable,
                "this manager has not received the cluster's state yet",
            ));
        };
        let nodes = self.store.nodes();
        let ready = nodes.filter(|node| node.state == NodeState::Ready).count();
        let rows = self.store.services().map(|service| self.service_row(service));
        let tasks_running = rows.fold((0, 0), |sum, row| (sum.0 + row.running, sum.1 + row.wanted));
        let mut waiting = control::waiting(&self.store);
        waiting.extend(self.managers_waiting());
        waiting.extend(self.policy_waiting());
        Ok(ClusterStatus {
            cluster: cluster.id,
            settings: cluster.settings.clone(),
            answered_by: self.config.member,
            leader: self.node.leader(),
            term: self.node.term(),
            applied: self.node.applied(),
            time: self.store.time(),
            members: self.member_rows(),
            nodes_ready: (to_u32(ready), to_u32(self.store.node_count())),
            services: to_u32(self.store.service_count()),
            tasks_running,
            waiting,
        })
    }

    /// What waits for people among the managers themselves.
    fn managers_waiting(&self) -> Vec<Waiting> {
        let newest = self.store.members().map(|member| member.joined).max().unwrap_or_default();
        let waiting = |what: &str, why: String| Waiting { what: what.into(), why, since: newest };
        let mut list = Vec::new();
        list.extend(self.membership_advice().map(|why| waiting("managers", why)));
        list.extend(self.data_keys_wait().map(|why| waiting("secrets", why)));
        list.extend(self.rotation_waits());
        list.extend(self.joiner_views().into_iter().map(|view| {
            let why = format!("it waits to be approved: orchctl manager approve {}", view.name);
            Waiting { what: format!("manager {}", view.name), why, since: view.since }
        }));
        if self.node.role() == Role::Leader {
            let silent = self.member_rows().into_iter().filter(|row| !row.reachable);
            list.extend(
                silent.map(|row| {
                    waiting(&format!("manager {}", row.member.name), "it cannot be reached".into())
                }),
            );
        }
        if self.space != SpaceState::Enough {
            let why = "its disk is nearly full: changes are refused while it leads".to_owned();
            list.push(waiting(&format!("manager {}", self.config.member), why));
        }
        list
    }

    /// Opens a stream at each agent concerned and says which.
    pub(crate) fn plan_logs(&mut self, of: &str, options: &LogOptions) -> Result<Response, ApiError> {
        let tasks = self.tasks_with_logs(of)?;
        if tasks.len() > MAX_LOG_STREAMS {
            let message =
                format!("\"{of}\" has {} tasks; logs of at most {MAX_LOG_STREAMS} at once", tasks.len());
            return Err(ApiError::new(ErrorCode::Exhausted, message));
        }
        let sources = tasks.into_iter().map(|task| self.log_source(&task, options)).collect();
        Ok(Response::LogPlan(sources))
    }

    /// Of a service the tasks that have a container; of a task itself.
    fn tasks_with_logs(&self, of: &str) -> Result<Vec<Task>, ApiError> {
        match self.store.resolve_service(of) {
            Ok(service) => {
                let tasks = self.store.tasks_of_service(service.id);
                let shown = tasks.filter(|task| task.node.is_some() && task.desired == DesiredState::Running);
                Ok(shown.cloned().collect())
            }
            Err(Rejection::Missing { .. }) => match self.store.resolve_task(of) {
                Ok(task) => Ok(vec![task.clone()]),
                Err(Rejection::Missing { .. }) => Err(crate::admit::not_found("service or task", of)),
                Err(other) => Err(other.into()),
            },
            Err(other) => Err(other.into()),
        }
    }

    fn freeze_views(&self) -> Vec<FreezeView> {
        let now = self.store.time();
        let view = |freeze: &Freeze| FreezeView {
            nodes: self
                .store
                .nodes()
                .filter(|node| freeze.covers(node))
                .map(|node| (node.id, node.facts.hostname.clone()))
                .collect(),
            open_until: freeze.open_until(now),
            next: freeze.next(now),
            freeze: freeze.clone(),
        };
        self.store.freezes().iter().map(view).collect()
    }

    fn log_source(&mut self, task: &Task, options: &LogOptions) -> LogSource {
        let service = self.store.service(task.service).map(|service| service.spec.name.clone());
        let node = task.node.and_then(|node| self.store.node(node)).map(|node| node.facts.hostname.clone());
        let open = task.node.and_then(|node| self.sessions.of_node(node));
        let connection =
            open.filter(|(_, session)| matches!(session.state, State::Open(_))).map(|(id, _)| id);
        let stream = connection.map(|connection| {
            let stream = self.next_id();
            let message = ManagerMessage::OpenLogs { stream, task: task.id, options: options.clone() };
            self.act(Action::SendAgent { connection, message });
            stream
        });
        let missing = stream.is_none().then(|| match &node {
            Some(name) => format!("node \"{name}\" is not connected"),
            None => "the task has no node yet".to_owned(),
        });
        LogSource {
            stream,
            task: task.id,
            label: format!("{}.{}", service.unwrap_or_default(), task.slot),
            node: node.unwrap_or_default(),
            missing,
        }
    }
}

fn wanted(service: &Service, active: u32) -> u32 {
    match service.spec.mode {
        _ if service.job.is_some() => active,
        _ if service.removing => 0,
        Mode::Replicated(count) => count,
        Mode::Global => active,
    }
}

fn to_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
