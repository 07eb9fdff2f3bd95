//! What nobody should send: each message that crosses the wire, mutated, into the handler that takes it. It is refused or
//! done; nothing panics, because a panic ends the manager.

use std::time::Duration;

use bytes::Bytes;
use fuzz::Fuzz;
use manager_core::{Action, Event, Manager, Recovered, SnapshotBlob};
use model::{
    access::{UserChange, UserSpec, Verb},
    binding::{BindingSpec, ExchangeRequest},
    cron::CronSpec,
    deployer::{DeployTokenSpec, DeployVerb, TokenDigest},
    freeze::{FreezeSpec, Window},
    id::{MemberId, NodeId},
    identity::{Identity, JoinRole},
    issuer::IssuerSpec,
    job::JobPolicy,
    policy::PolicySpec,
    registry::{Login, RegistrySpec, Secret},
    request::{Consistency, ReenrolRequest, Request, TaskFilter},
    service::{CanaryPolicy, ReleaseNote, RestartPolicy, RolloutStep, TemplateVersion},
    session::AgentMessage,
    time::ClusterTime,
};
use proto::codec::{decode, encode};

use crate::world::{ONE, THREE, TWO, World, admin, spec};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Inputs that one world takes: some break it, and what they leave behind is part of what is tried.
const LIFE: u32 = 64;

/// Hosts that are made anew now and then.
struct Bench {
    make: fn() -> World,
    world: World,
    left: u32,
    handles: u64,
}

impl Bench {
    fn new(make: fn() -> World) -> Self {
        Self { make, world: make(), left: LIFE, handles: 1_000_000 }
    }

    /// Feeds one manager, makes durable at once what it writes, and says what it did.
    fn feed(&mut self, member: MemberId, event: Event) -> String {
        if self.left == 0 {
            (self.world, self.left) = ((self.make)(), LIFE);
        }
        self.left -= 1;
        let now = self.world.now;
        let manager = self.world.hosts.get_mut(&member).and_then(|host| host.manager.as_mut());
        let manager = manager.expect("it runs");
        manager.handle_event(event, now);
        let (said, ended) = drain(manager, now);
        if ended {
            self.left = 0;
        }
        said
    }
}

fn drain(manager: &mut Manager, now: model::time::Now) -> (String, bool) {
    let (mut said, mut ended) = (String::new(), false);
    for _ in 0..1_000 {
        let Some(action) = manager.poll_action() else { break };
        match action {
            Action::Persist(persist) => {
                manager.handle_event(Event::Persisted { sequence: persist.sequence }, now);
                said.push_str("persist ");
            }
            Action::Notice(notice) => said.push_str(&notice.text),
            Action::Reply { result: Err(error), .. } => {
                said.push_str(&error.message);
                error.problems.iter().for_each(|problem| said.push_str(&problem.message));
            }
            Action::Halt { reason } | Action::Retire { reason } => {
                said.push_str(&reason);
                ended = true;
            }
            other => {
                let text = format!("{other:?}");
                said.extend(text.chars().take_while(|letter| letter.is_alphanumeric()));
            }
        }
    }
    (said, ended)
}

#[test]
fn fuzz_peer_messages() {
    let mut world = World::of_three(1);
    world.create("web", 3);
    world.crash(THREE);
    world.restart(THREE);
    world.run_for(std::time::Duration::from_secs(3));
    let samples: Vec<Vec<u8>> = world.wire.iter().step_by(7).map(|bytes| bytes.to_vec()).collect();
    assert!(samples.len() > 20, "the members did talk");
    let mut bench = Bench::new(|| World::of_three(1));
    let mut turn = 0;
    Fuzz::new(ROOT, "peer").samples(samples).run(|input| {
        turn += 1;
        let to = [ONE, TWO, THREE][turn % 3];
        let from = [TWO, THREE, ONE, MemberId(9)][turn % 4];
        bench.feed(to, Event::Peer { from, bytes: Bytes::copy_from_slice(input) })
    });
}

fn with_a_node() -> World {
    let mut world = World::new(1);
    world.join_node();
    world.create("web", 2);
    world.run_for(std::time::Duration::from_secs(1));
    world
}

#[test]
fn fuzz_agent_messages() {
    let mut bench = Bench::new(with_a_node);
    let agent = bench.world.agents.values_mut().next().expect("a node");
    let messages = [
        agent.hello(),
        agent.beat(),
        AgentMessage::Goodbye { hold: std::time::Duration::from_secs(9) },
        AgentMessage::Facts(agent.facts()),
    ];
    let samples = messages.iter().map(|message| encode(message).to_vec());
    let node = NodeId(agent.node.0);
    Fuzz::new(ROOT, "agent").samples(samples).run(|input| {
        let message = match decode::<AgentMessage>(input) {
            Ok(message) => message,
            Err(error) => return error.to_string(),
        };
        // A fresh connection and the one that is welcome.
        let connection = 1_000 + u64::from(bench.left);
        let opened = Event::AgentOpened { connection, identity: Identity::Node(node) };
        let first = bench.feed(ONE, opened);
        first + &bench.feed(ONE, Event::AgentMessage { connection, message })
    });
}

#[test]
fn fuzz_requests() {
    let mut bench = Bench::new(with_a_node);
    let web = "web".to_owned();
    let note = Box::new(ReleaseNote {
        job: "https://ci.example/1".into(),
        after: Some(TemplateVersion(1)),
        canary: Some(CanaryPolicy::default()),
        at_next_window: true,
        despite_freeze: Some("why not".into()),
    });
    let freeze = FreezeSpec {
        name: "beam".into(),
        windows: vec![Window { from: ClusterTime(1), until: ClusterTime(u64::MAX) }],
        ..FreezeSpec::default()
    };
    let login = Login::Password { username: "ci".into(), password: Secret::new("hunter2") };
    let registry = RegistrySpec { host: "reg.example".into(), login: Some(login), ..RegistrySpec::default() };
    let mut policy = PolicySpec { name: "mx".into(), ..PolicySpec::default() };
    policy.require.images = vec!["reg.example/mx/*".into()];
    policy.forbid.binds = vec!["/data".into()];
    let (_, join) = bench.world.join_request(JoinRole::Agent, "n", "");
    let mut sum = spec("sum", 2);
    sum.template.restart = RestartPolicy::retries(1);
    sum.job = Some(JobPolicy::default());
    let cron = CronSpec {
        name: "sync".into(),
        schedule: "12 4 * * *".into(),
        zone: "Europe/Paris".into(),
        job: sum.clone().into(),
        ..CronSpec::default()
    };
    let team = vec!["team:app=mx".parse().expect("a role")];
    let user = UserSpec { name: "ann".into(), roles: team.clone(), life: Duration::from_secs(60) };
    let change = UserChange { roles: Some(team), ..UserChange::default() };
    let requests = [
        Request::CreateUser(user),
        Request::UpdateUser { user: "ann".into(), change },
        Request::CertifyUser { user: "ann".into(), csr: crate::world::CSR.into() },
        Request::RemoveUser("ann".into()),
        Request::ListUsers,
        Request::Whoami,
        Request::CanI { verb: Verb::Logs, object: Some(web.clone()) },
        Request::CreateService(sum.into()),
        Request::SetCron(cron.into()),
        Request::SuspendCron { name: "sync".into(), suspended: true },
        Request::RunCron("sync".into()),
        Request::ListCrons,
        Request::RemoveCron("sync".into()),
        Request::SetFreeze(freeze),
        Request::ListFreezes,
        Request::RemoveFreeze("beam".into()),
        Request::SetRegistry { spec: registry, check: true },
        Request::ListRegistries,
        Request::SetLoginMethod { spec: Box::new(crate::logins::method()), password: None },
        Request::ListLoginMethods,
        Request::ListLogins,
        Request::RemoveLoginMethod("ldap".into()),
        Request::CreateDeployToken {
            spec: Box::new(DeployTokenSpec {
                name: "ci".into(),
                service: "web".into(),
                image: "app".into(),
                allow: DeployVerb::ALL.into(),
            }),
            ttl: std::time::Duration::from_secs(60),
            digest: TokenDigest([7; 32]),
        },
        Request::SetIssuer(Box::new(issuer())),
        Request::CreateBinding(Box::new(binding())),
        Request::Exchange(Box::new(exchange())),
        Request::ListIssuers,
        Request::ListBindings,
        Request::RemoveBinding("ci".into()),
        Request::RemoveIssuer("gitlab".into()),
        Request::ListDeployTokens,
        Request::RemoveDeployToken("ci".into()),
        Request::RemoveRegistry("reg.example".into()),
        Request::SetPolicy { spec: Box::new(policy), expected: None },
        Request::ListPolicies,
        Request::CheckPolicies { with: None },
        Request::RemovePolicy("mx".into()),
        Request::CreateService(spec("api", 3).into()),
        Request::ScaleServices(vec![(web.clone(), 3), ("api".into(), 1)]),
        Request::UpdateService {
            service: web.clone(),
            expected: model::id::Generation(1),
            spec: spec("web", 9).into(),
        },
        Request::RollbackService(web.clone()),
        Request::ReturnTo { service: web.clone(), release: Some(TemplateVersion(1)), note: note.clone() },
        Request::Deploy { service: web.clone(), image: "web:7".into(), note },
        Request::SteerRollout { service: web.clone(), release: None, step: RolloutStep::Abort },
        Request::RemoveService(web.clone()),
        Request::ListTasks(TaskFilter { service: Some(web.clone()), ..TaskFilter::default() }),
        Request::GetService(web.clone()),
        Request::Explain(web),
        Request::GetStatus,
        Request::ListMembers,
        Request::TransferLeader { to: Some(ONE) },
        Request::RemoveMember(ONE),
        Request::ReplaceMember { address: "m:1".into(), csr: crate::world::CSR.into() },
        Request::RenewCertificate { csr: crate::world::CSR.into(), key: None },
        Request::JudgeJoiner { joiner: "m2".into(), approve: true },
        Request::ListJoiners,
        Request::Reenrol(Box::new(ReenrolRequest {
            certificate: "-----BEGIN CERTIFICATE-----".into(),
            csr: crate::world::CSR.into(),
            serial: 1,
            key: None,
            own: true,
        })),
        Request::RotateAuthority { current: "-----BEGIN CERTIFICATE-----".into(), successor: None },
        Request::FinishRotation { current: "-----BEGIN CERTIFICATE-----".into(), leave_behind: true },
        Request::NoteRefusal {
            who: Identity::Anonymous,
            source: "10.0.0.9".into(),
            reason: "wrong CA".into(),
        },
        Request::GetAuthority,
        join,
    ];
    let samples = requests.iter().map(|request| encode(request).to_vec());
    Fuzz::new(ROOT, "request").samples(samples).run(|input| {
        let request = match decode::<Request>(input) {
            Ok(request) => request,
            Err(error) => return error.to_string(),
        };
        bench.handles += 1;
        let handle = bench.handles;
        let identity = if handle.is_multiple_of(4) { Identity::Manager(ONE) } else { admin() };
        bench.feed(
            ONE,
            Event::Request {
                handle,
                identity,
                request_id: Some(model::id::RequestId(handle)),
                consistency: Consistency::Linearizable,
                deadline: None,
                request,
                origin: Default::default(),
            },
        )
    });
}

fn issuer() -> IssuerSpec {
    IssuerSpec {
        name: "gitlab".into(),
        url: "https://gitlab.example".into(),
        audience: "orch.example".into(),
        authority: None,
    }
}

fn binding() -> BindingSpec {
    BindingSpec {
        name: "ci".into(),
        service: "web".into(),
        image: "app".into(),
        allow: DeployVerb::ALL.into(),
        issuer: "gitlab".into(),
        project_id: 42,
        ref_name: "main".into(),
        ..BindingSpec::default()
    }
}

fn exchange() -> ExchangeRequest {
    let digest = TokenDigest([7; 32]);
    ExchangeRequest { id_token: Secret::new("a.b.c"), binding: Some("ci".into()), digest, proof: None }
}

#[test]
fn fuzz_state_of_a_snapshot() {
    let world = with_a_node();
    let config = world.config(ONE);
    let disk = world.hosts[&ONE].disk.recovered();
    let blob = disk.snapshot.clone().expect("the founding snapshot");
    let samples = [encode(world.store(ONE)).to_vec(), blob.bytes.to_vec()];
    let now = world.now;
    Fuzz::new(ROOT, "state").samples(samples).run(|input| {
        let snapshot = SnapshotBlob { bytes: Bytes::copy_from_slice(input), ..blob.clone() };
        let recovered = Recovered { snapshot: Some(snapshot), ..Recovered::default() };
        match Manager::new(config.clone(), recovered, now) {
            Ok(mut manager) => {
                manager.handle_timeout(now);
                drain(&mut manager, now).0
            }
            Err(error) => error.to_string(),
        }
    });
}
