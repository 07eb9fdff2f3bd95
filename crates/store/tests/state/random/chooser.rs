//! What comes next: commands with an eye on the state, drawn from a seed.

use std::{sync::Arc, time::Duration};

use crate::common::{bootstrap, facts, spec, token};
use model::{
    access::{UserChange, UserRole, UserSpec},
    audit::{About, Note, Origin, Verdict},
    binding::BindingSpec,
    command::{Command, Decision},
    container::{PortSpec, Protocol},
    deployer::{DeployTokenSpec, DeployVerb, TokenDigest},
    id::{
        DeployTokenId, Generation, MemberId, NetworkId, NodeId, RequestId, ServiceId, TaskId, TokenId, UserId,
    },
    identity::{Identity, JoinRole},
    issuer::IssuerSpec,
    item::{FileMount, ItemKind, ItemSpec, NewVersion},
    login::{Directory, LoginMethodSpec, People, Provider, RoleRule, Search},
    network::NetworkSpec,
    node::{Availability, Incarnation, NodeClass, NodeSpec},
    policy::PolicySpec,
    registry::{LoginKind, RegistrySpec, SealedLogin},
    route::IngressPort,
    sealed::{Clear, KeyId, LoginAt, Sealed},
    service::{ImagePin, Mode, RolloutState, RolloutStep, ServiceSpec, Slot, TemplateVersion},
    session::TaskReport,
    task::{Health, Inheritance, Observed, PendingReason, TaskState},
    time::ClusterTime,
};
use store::Store;

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// Chooses commands with an eye on the state, so that most of them have a chance.
pub struct Chooser<'a> {
    pub random: &'a mut Random,
    pub store: &'a Store,
}

impl Chooser<'_> {
    pub fn command(&mut self) -> Command {
        match self.random.below(57) {
            53..=56 => self.pipeline(),
            43 | 51..=52 => self.image(),
            41 => self.deploy_token(),
            42 if self.random.one_in(3) => Command::RemoveDeployToken { name: self.deploy_token_name() },
            45..=50 => self.item(),
            0 => bootstrap(),
            1 => Command::SetSettings(Default::default()),
            2..=4 => Command::CreateService { id: self.service(), spec: self.spec() },
            5 | 6 => {
                let id = self.service();
                let actual = self.store.service(id).map(|service| service.generation);
                let mut spec = self.spec();
                if let Some(service) = self.store.service(id).filter(|_| !self.random.one_in(8)) {
                    Arc::make_mut(&mut spec).name.clone_from(&service.spec.name);
                }
                Command::UpdateService {
                    id,
                    expected: self.generation(actual),
                    spec,
                    note: Default::default(),
                }
            }
            7 => {
                let count = self.random.below(3);
                let scales = (0..count).map(|_| (self.service(), self.random.below(5) as u32));
                Command::ScaleServices(scales.collect())
            }
            8 => {
                let to = self.random.one_in(2).then(|| TemplateVersion(self.random.below(6)));
                Command::RollbackService { id: self.service(), to, note: Default::default() }
            }
            9 if self.random.one_in(2) => {
                let id = self.service();
                let newest = self.store.service(id).map_or(TemplateVersion(1), |service| service.template);
                let step = self.random.pick(&[
                    RolloutStep::Pause,
                    RolloutStep::Resume,
                    RolloutStep::Abort,
                    RolloutStep::Promote,
                ]);
                Command::SteerRollout { id, release: newest, step }
            }
            9 if self.random.one_in(6) => Command::RemoveService { id: self.service() },
            10 => Command::PinImage {
                service: self.service(),
                template: TemplateVersion(self.random.below(5)),
                pin: ImagePin::Digest(format!("web@sha256:{}", self.random.below(3))),
            },
            11 => {
                let role = self.role();
                let mut token = token(self.token(), role);
                token.uses_left = self.random.below(6) as u32;
                token.expires = ClusterTime(self.store.time().0 + self.random.below(40_000));
                Command::CreateToken(token)
            }
            12 if self.random.one_in(4) => Command::RevokeToken { id: self.token() },
            13..=15 => Command::JoinNode {
                id: self.node(),
                token: self.token(),
                facts: facts(&format!("h{}", self.random.below(3))),
                serial: self.serial(),
                key: self.random.one_in(2).then(|| "key".to_owned()),
            },
            16 => {
                let id = self.node();
                let actual = self.store.node(id).map(|node| node.generation);
                let expected = self.random.one_in(2).then(|| self.generation(actual));
                Command::UpdateNode { id, expected, spec: self.node_spec() }
            }
            17 => Command::RemoveNode { id: self.node(), force: self.random.one_in(9) },
            18..=20 => Command::NodeUp {
                id: self.node(),
                incarnation: Incarnation(self.random.below(9)),
                facts: facts(&format!("h{}", self.random.below(3))),
            },
            21 => Command::NodeFacts {
                id: self.node(),
                incarnation: Incarnation(self.random.below(4)),
                facts: facts(&format!("h{}", self.random.below(3))),
            },
            22 => {
                let id = self.node();
                let actual = self.store.node(id).map(|node| node.generation);
                Command::NodeDown { id, expected: self.generation(actual), message: "silent".into() }
            }
            23..=28 => self.observe(),
            29 => Command::JoinMember {
                id: self.member(),
                token: self.token(),
                name: "m".into(),
                address: "m:1".into(),
                serial: self.serial(),
                fingerprint: format!("f{}", self.random.below(3)),
            },
            30 => {
                let key = self.random.one_in(2).then(|| KeyId(self.random.below(6)));
                Command::UpdateMember { id: self.member(), address: "m:2".into(), version: "2".into(), key }
            }
            31 if self.random.one_in(3) => Command::RemoveMember { id: self.member() },
            32 if self.random.one_in(9) => {
                Command::RecoverMembers { survivor: self.member(), address: "m:1".into() }
            }
            33 => {
                let node = self.random.one_in(2).then(|| self.node());
                Command::CertificateIssued {
                    serial: self.serial(),
                    node,
                    proven: self.random.one_in(4).then(|| self.serial()),
                    member: self.random.one_in(2).then(|| self.member()),
                    key: self.random.one_in(2).then(|| "key".to_owned()),
                }
            }
            34 | 35 => Command::CreateNetwork {
                id: NetworkId(self.random.below(4)),
                base: [10, 128 + self.random.below(4) as u8, 0, 0].into(),
                spec: NetworkSpec { name: format!("n{}", self.random.below(3)), ..NetworkSpec::default() },
            },
            44 => Command::Audit(vec![self.note()]),
            36 if self.random.one_in(2) => Command::RemoveNetwork { id: NetworkId(self.random.below(4)) },
            40 => self.user_command(),
            37 if self.random.one_in(3) => self.policy(),
            _ => {
                let count = 1 + self.random.below(6);
                Command::Decide((0..count).map(|_| self.decision()).collect())
            }
        }
    }

    fn deploy_token(&mut self) -> Command {
        let spec = DeployTokenSpec {
            name: self.deploy_token_name(),
            service: format!("s{}", self.random.below(4)),
            image: "web".into(),
            allow: DeployVerb::ALL.into_iter().filter(|_| !self.random.one_in(4)).collect(),
        };
        let expires = ClusterTime(self.store.time().0 + self.random.below(400_000));
        let id = DeployTokenId(self.random.below(6));
        Command::CreateDeployToken { id, spec, digest: TokenDigest([1; 32]), expires }
    }

    /// Issuers and bindings, and few ID tokens that are shown more than once.
    fn pipeline(&mut self) -> Command {
        let (issuer, binding) = (format!("i{}", self.random.below(2)), format!("b{}", self.random.below(3)));
        let spec = IssuerSpec { name: issuer.clone(), audience: issuer.clone(), ..IssuerSpec::default() };
        match self.random.below(12) {
            0 | 1 => Command::SetIssuer(spec),
            2 => Command::SetIssuer(IssuerSpec { url: format!("u{}", self.random.below(3)), ..spec }),
            3 if self.random.one_in(3) => Command::RemoveIssuer { name: issuer },
            4 | 5 => Command::CreateBinding(BindingSpec {
                name: binding,
                service: format!("s{}", self.random.below(4)),
                image: "web".into(),
                allow: DeployVerb::ALL.into(),
                issuer,
                ..BindingSpec::default()
            }),
            6 => Command::RemoveBinding { name: binding },
            _ => {
                let expected = self.store.binding(&binding).map(|binding| binding.generation);
                let issuer_expected = self.store.issuer(&issuer).map(|issuer| issuer.generation);
                let until = ClusterTime(self.store.time().0 + self.random.below(300_000));
                Command::Exchange {
                    id: DeployTokenId(6 + self.random.below(6)),
                    binding,
                    expected: self.generation(expected),
                    issuer,
                    issuer_expected: self.generation(issuer_expected),
                    id_token: TokenDigest([u8::try_from(self.random.below(20)).expect("small"); 32]),
                    until,
                    digest: TokenDigest([1; 32]),
                    expires: until,
                    job: "mx/ispyb (42) main, job 1".into(),
                }
            }
        }
    }

    /// Another image and nothing else.
    fn image(&mut self) -> Command {
        let tokens: Vec<_> =
            self.store.deploy_tokens().iter().map(|token| token.spec.service.clone()).collect();
        let granted = tokens.iter().filter_map(|name| self.store.service_by_name(name)).next();
        let id =
            granted.filter(|_| !self.random.one_in(4)).map_or_else(|| self.service(), |service| service.id);
        let known = self.store.service(id);
        let mut spec = known.map_or_else(|| self.spec(), |service| service.spec.clone());
        Arc::make_mut(&mut spec).template.container.image = format!("web:{}", self.random.below(9));
        let expected = known.map_or(Generation(0), |service| service.generation);
        Command::UpdateService { id, expected, spec, note: Default::default() }
    }

    fn deploy_token_name(&mut self) -> String {
        format!("ci-{}", self.random.below(5))
    }

    /// Mostly somebody without bounds, as for all decisions.
    pub fn actor(&mut self, command: &Command) -> Identity {
        if matches!(command, Command::Decide(_)) {
            return Identity::Anonymous;
        }
        // Mostly whoever may bring an image of that service.
        if let Command::UpdateService { id, .. } = command
            && let Some(service) = self.store.service(*id)
            && let Some(token) =
                self.store.deploy_tokens().iter().find(|token| token.spec.service == service.spec.name)
            && !self.random.one_in(3)
        {
            return token.identity();
        }
        match self.random.below(50) {
            0 => Identity::User {
                id: UserId(self.random.below(5)),
                name: format!("u{}", self.random.below(4)),
            },
            1..=8 => {
                Identity::Deployer { id: DeployTokenId(self.random.below(6)), name: "ci".into(), job: None }
            }
            _ => Identity::Anonymous,
        }
    }

    fn note(&mut self) -> Note {
        Note {
            who: "operator vic".into(),
            origin: Origin::default(),
            request: self.random.one_in(2).then(|| RequestId(self.random.below(600))),
            about: About::new("remove", "service", self.random.below(4)),
            verdict: self.random.pick(&[Verdict::Accepted, Verdict::Denied, Verdict::Summed]),
            reason: String::new(),
        }
    }

    fn policy(&mut self) -> Command {
        let name = format!("p{}", self.random.below(3));
        if self.random.one_in(3) {
            return Command::RemovePolicy { name };
        }
        let mut spec = PolicySpec { name, ..PolicySpec::default() };
        spec.services.names = vec![self.random.pick(&["web", "db", "w*", "*"]).into()];
        spec.caps.replicas = self.random.below(4) as u32;
        spec.require.digest = self.random.one_in(4);
        let expected = self.random.one_in(4).then(|| Generation(self.random.below(9)));
        Command::SetPolicy { spec, expected }
    }

    fn item(&mut self) -> Command {
        let keys = self.store.data_keys().cloned().unwrap_or_default();
        let kind = self.random.pick(&[ItemKind::Secret, ItemKind::Config]);
        let name = format!("i{}", self.random.below(2));
        let newest = self.store.item(kind, &name).map_or(0, |item| item.newest().number);
        let number = if self.random.one_in(8) { self.random.below(4) } else { newest + 1 };
        let key = if self.random.one_in(8) { KeyId(1) } else { keys.active };
        let value = sealed(self.random, key);
        let version = NewVersion { number, value, size: 4, names: Vec::new() };
        let last = keys.known.last().map_or(KeyId(0), |record| record.id);
        match self.random.below(18) {
            16 => self.rotate_authority(keys.active),
            17 => Command::FinishRotation { current: self.authority(), leave_behind: self.random.one_in(2) },
            15 => Command::JudgeJoiner {
                fingerprint: format!("f{}", self.random.below(3)),
                name: "m".into(),
                approved: self.random.one_in(2),
            },
            12 => self.reseal_login(),
            13 => {
                let from = Some(KeyId(self.random.below(last.0 + 1))).filter(|key| *key > KeyId(0));
                Command::ResealAuthority { from, value: sealed(self.random, keys.active) }
            }
            14 => self.declare_login(),
            0..=2 => {
                let spec = ItemSpec { kind, name, labels: [].into(), template: false };
                Command::CreateItem { spec, version }
            }
            3..=5 => Command::UpdateItem { kind, name, version },
            6 => Command::RemoveItem { kind, name },
            7 => {
                Command::AddKey { id: KeyId(last.0 + self.random.below(2)), fingerprint: self.random.next() }
            }
            8 | 9 => Command::UseKey { id: last },
            10 => {
                let from = KeyId(self.random.below(last.0 + 1));
                let value = sealed(self.random, keys.active);
                Command::Reseal { kind, name, number: newest, from, value }
            }
            _ => Command::DropKey { id: KeyId(self.random.below(last.0 + 1)) },
        }
    }

    /// The authority's certificate, or another one.
    fn authority(&mut self) -> String {
        let known = self.store.cluster().map(|cluster| cluster.authority.certificate.clone());
        known.filter(|_| !self.random.one_in(4)).unwrap_or_else(|| "another".into())
    }

    fn rotate_authority(&mut self, active: KeyId) -> Command {
        let number = self.random.next();
        Command::RotateAuthority {
            current: self.authority(),
            certificate: format!("authority {number}"),
            bridge: format!("bridge to {number}"),
            sealed: sealed(self.random, active),
        }
    }

    fn reseal_login(&mut self) -> Command {
        let (at, set, from) = if self.random.one_in(2) {
            let name = self.random.pick(&["ldap", "sso"]).to_owned();
            let known = self.store.login_method(&name).map(|known| (known.set, known.key()));
            let (set, from) = known.unwrap_or_default();
            (LoginAt::Directory(name), set, from)
        } else {
            let host = format!("r{}", self.random.below(2));
            let known = self.store.registries().iter().find(|known| known.spec.host == host);
            let set = known.map(|known| known.set).unwrap_or_default();
            (LoginAt::Registry(host), set, known.and_then(|known| known.spec.login_key()).flatten())
        };
        let from = from.filter(|_| !self.random.one_in(8));
        let key = self.store.data_keys().map(|keys| keys.active).unwrap_or_default();
        Command::ResealLogin {
            at,
            set,
            from,
            value: Sealed { key, nonce: [0; 12], bytes: vec![1; 4].into() },
        }
    }

    fn declare_login(&mut self) -> Command {
        let host = format!("r{}", self.random.below(2));
        let kind = LoginKind::Password { username: "ci".into() };
        let key = KeyId(self.random.below(3));
        let value = Sealed { key, nonce: [0; 12], bytes: vec![self.random.below(3) as u8; 4].into() };
        let mut spec = RegistrySpec { host, ..RegistrySpec::default() };
        if self.random.one_in(3) {
            spec.login = kind.with(&Clear::new("hunter2"));
        } else {
            spec.sealed = Some(SealedLogin { kind, value });
        }
        Command::SetRegistry(spec)
    }

    fn decision(&mut self) -> Decision {
        let service = self.service();
        let task = self.known_task();
        let at = self.store.task(task).map(|task| task.generation);
        let service_at = self.store.service(service).map(|service| service.generation);
        match self.random.below(16) {
            0..=5 => self.create_task(service),
            6 | 7 => Decision::AssignTask { id: task, expected: self.generation(at), node: self.node() },
            8 => Decision::ExplainPending {
                id: task,
                expected: self.generation(at),
                reason: PendingReason { nodes: self.random.below(2) as u32, ..Default::default() },
            },
            9 | 10 => {
                let owner = self.store.task(task).and_then(|task| self.store.service(task.service));
                let owner = owner.map(|service| service.generation);
                let service = self.random.one_in(2).then(|| self.generation(owner));
                let (expected, reason) = (self.generation(at), "scaled away".into());
                let keeps = self.store.tasks().next().map(|task| task.id).filter(|_| self.random.one_in(2));
                let on = self.store.task(task).and_then(|task| self.store.node(task.node?));
                let on = on.map(|node| node.generation);
                let node = self.random.one_in(4).then(|| self.generation(on));
                Decision::StopTask { id: task, expected, service, keeps, node, reason }
            }
            11 => Decision::LoseTask { id: task, expected: self.generation(at), reason: "gone".into() },
            12 => Decision::ReapTask { id: task, expected: self.generation(at) },
            13 => self.set_rollout(service),
            14 if self.random.one_in(2) => {
                Decision::RollBack { service, expected: self.generation(service_at), reason: "failed".into() }
            }
            14 => Decision::DropToken { id: self.token() },
            _ => Decision::DropService { service, expected: self.generation(service_at) },
        }
    }

    fn create_task(&mut self, service: ServiceId) -> Decision {
        let global = self.store.service(service).is_some_and(|service| service.spec.mode == Mode::Global);
        let newest = self.store.service(service).map_or(TemplateVersion(1), |service| service.template);
        let slot = match global != self.random.one_in(9) {
            true => Slot::Node(self.node()),
            false => Slot::Replica(1 + self.random.below(5) as u32),
        };
        let beside = self.store.tasks_of_slot(service, slot).last().map(|task| task.id);
        Decision::CreateTask {
            id: self.task(),
            service,
            slot,
            template: if self.random.one_in(4) { TemplateVersion(self.random.below(5)) } else { newest },
            node: self.random.one_in(2).then(|| self.node()),
            pending: self.random.one_in(2).then(PendingReason::default),
            inherited: Inheritance::default(),
            alongside: beside.filter(|_| self.random.one_in(3)),
        }
    }

    fn set_rollout(&mut self, service: ServiceId) -> Decision {
        let stored = self.store.service(service);
        let expected = self.generation(stored.map(|service| service.generation));
        let Some(mut rollout) = stored.and_then(|service| service.rollout.clone()) else {
            return Decision::DropService { service, expected };
        };
        rollout.state = self.random.pick(&[
            RolloutState::Updating,
            RolloutState::Paused,
            RolloutState::Done,
            RolloutState::RolledBack,
            RolloutState::AwaitingPromotion,
        ]);
        if self.random.one_in(5) {
            rollout.target = TemplateVersion(self.random.below(5));
        }
        Decision::SetRollout { service, expected, rollout }
    }

    fn observe(&mut self) -> Command {
        let node = self.node();
        let stored = self.store.node(node).map_or(Incarnation(0), |node| node.incarnation);
        let incarnation = if self.random.one_in(6) { Incarnation(self.random.below(4)) } else { stored };
        let count = self.random.below(5);
        let reports = (0..count).map(|_| TaskReport { task: self.known_task(), observed: self.observed() });
        Command::Observe { node, incarnation, reports: reports.collect() }
    }

    fn observed(&mut self) -> Observed {
        use TaskState::{
            Assigned, Completed, CrashLoop, Failed, Lost, Pending, Preparing, Rejected, Restarting, Running,
            Starting, Stopped, Stopping,
        };
        Observed {
            state: self.random.pick(&[
                Pending, Assigned, Preparing, Starting, Running, Running, Running, Restarting, CrashLoop,
                Stopping, Completed, Failed, Rejected, Stopped, Lost,
            ]),
            health: self.random.pick(&[Health::None, Health::Starting, Health::Healthy, Health::Unhealthy]),
            attempt: self.random.below(4) as u32,
            ..Observed::default()
        }
    }

    fn spec(&mut self) -> Arc<ServiceSpec> {
        let (name, image) = (self.random.below(4), self.random.below(3));
        let mut spec = spec(&format!("s{name}"), &format!("web:{image}"), self.random.below(5) as u32);
        if self.random.one_in(4) {
            spec.mode = Mode::Global;
        }
        let container = &mut spec.template.container;
        container.resources.memory_reserve = self.random.below(3) << 20;
        container.resources.cpu_reserve_millis = self.random.pick(&[0, 100, u64::MAX]);
        if self.random.one_in(3) {
            let published = self.random.pick(&[0, 8080, 8081]);
            container.ports.push(PortSpec { target: 80, published, protocol: Protocol::Tcp });
        }
        if self.random.one_in(3) {
            container.networks.push(format!("n{}", self.random.below(3)));
        }
        if self.random.one_in(3) {
            let name = format!("i{}", self.random.below(2));
            let newest = self.store.item(ItemKind::Secret, &name).map_or(1, |item| item.newest().number);
            let version = Some(if self.random.one_in(8) { self.random.below(4) } else { newest });
            container.secrets.push(FileMount { name, version, ..FileMount::default() });
        }
        if self.random.one_in(3) {
            let (published, target) = (self.random.pick(&[80, 81]), 8080);
            spec.ports.push(IngressPort { published, target, http: None, proxy_protocol: false });
        }
        Arc::new(spec)
    }

    fn node_spec(&mut self) -> NodeSpec {
        NodeSpec {
            availability: self.random.pick(&[
                Availability::Active,
                Availability::Active,
                Availability::Pause,
                Availability::Drain,
            ]),
            class: self.random.pick(&[NodeClass::Server, NodeClass::Workstation]),
            ..NodeSpec::default()
        }
    }

    fn generation(&mut self, actual: Option<Generation>) -> Generation {
        match actual {
            Some(actual) if !self.random.one_in(8) => actual,
            _ => Generation(self.random.below(50)),
        }
    }

    fn serial(&mut self) -> u64 {
        let last = self.store.cluster().map_or(0, |cluster| cluster.last_serial);
        if self.random.one_in(8) { self.random.next() } else { last + 1 }
    }

    fn member(&mut self) -> MemberId {
        let last = self.store.cluster().map_or(0, |cluster| cluster.last_member.0);
        MemberId(if self.random.one_in(2) { last + 1 } else { self.random.below(last + 1) })
    }

    fn role(&mut self) -> JoinRole {
        self.random.pick(&[JoinRole::Agent, JoinRole::Agent, JoinRole::Manager])
    }

    fn service(&mut self) -> ServiceId {
        let known: Vec<ServiceId> = self.store.services().map(|service| service.id).collect();
        match known[..] {
            [] => ServiceId(self.random.below(6)),
            _ if self.random.one_in(5) => ServiceId(self.random.below(6)),
            _ => self.random.pick(&known),
        }
    }

    /// A task that exists, mostly.
    fn known_task(&mut self) -> TaskId {
        let known: Vec<TaskId> = self.store.tasks().map(|task| task.id).collect();
        if known.is_empty() || self.random.one_in(8) { self.task() } else { self.random.pick(&known) }
    }

    fn node(&mut self) -> NodeId {
        let known: Vec<NodeId> = self.store.nodes().map(|node| node.id).collect();
        match known[..] {
            [] => NodeId(self.random.below(1 << 20)),
            _ if self.random.one_in(5) => NodeId(self.random.below(1 << 20)),
            _ => self.random.pick(&known),
        }
    }

    fn task(&mut self) -> TaskId {
        TaskId(self.random.below(60))
    }

    fn user_command(&mut self) -> Command {
        let (id, UserSpec { name, roles, life }) = (self.user(), self.user_spec());
        match self.random.below(7) {
            0 => Command::RemoveUser { id },
            4..=6 => self.login(id, roles),
            1 => {
                let disabled = self.random.one_in(3).then(|| self.random.one_in(2));
                let roles = Some(roles).filter(|_| self.random.one_in(2));
                Command::UpdateUser { id, change: UserChange { roles, life: Some(life), disabled } }
            }
            _ => Command::CreateUser { id, spec: UserSpec { name, roles, life } },
        }
    }

    fn login(&mut self, id: UserId, roles: Vec<UserRole>) -> Command {
        let name = self.random.pick(&["ldap", "sso"]).to_owned();
        match self.random.below(8) {
            0 => Command::RemoveLoginMethod { name },
            1 | 2 => {
                let people = match self.random.below(2) {
                    0 => People::default(),
                    _ => People::Found { search: Search::default(), account: "cn=orch".into() },
                };
                let directory = Directory { people, ..Directory::default() };
                let password = self.random.one_in(2).then(|| Sealed {
                    key: KeyId(self.random.below(3)),
                    nonce: [0; 12],
                    bytes: vec![self.random.below(3) as u8; 4].into(),
                });
                let spec = Box::new(LoginMethodSpec {
                    name,
                    provider: Provider::Ldap(Box::new(directory)),
                    rules: vec![RoleRule { role: UserRole::Viewer, group: "*".into() }],
                    life: Duration::from_secs(1 + self.random.below(3)),
                });
                Command::SetLoginMethod { spec, password }
            }
            _ => {
                let person = self.random.below(3);
                let called = if self.random.one_in(4) { 9 } else { person };
                Command::LogIn {
                    id,
                    set: self.store.login_method(&name).map_or(self.store.time(), |method| method.set),
                    subject: format!("uid=p{person}"),
                    name: format!("{name}:p{called}"),
                    method: name,
                    roles,
                    serial: self.store.cluster().map_or(0, |cluster| cluster.last_serial + 1),
                }
            }
        }
    }

    fn user(&mut self) -> UserId {
        UserId(self.random.below(5))
    }

    fn user_spec(&mut self) -> UserSpec {
        let name = format!("u{}", self.random.below(4));
        let roles = ["admin", "viewer", "team:s1", "team:app=mx", "beamline:line=id1"];
        let role: UserRole = self.random.pick(&roles).parse().expect("a role");
        UserSpec { name, roles: vec![role], life: Duration::from_secs(1 + self.random.below(3)) }
    }

    fn token(&mut self) -> TokenId {
        TokenId(self.random.below(4))
    }
}

fn sealed(random: &mut Random, key: KeyId) -> Sealed {
    let bytes = vec![random.below(3) as u8; 4].into();
    Sealed { key, nonce: [0; 12], bytes }
}
