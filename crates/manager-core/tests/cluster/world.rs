//! The loop: the earliest of all deliveries and timers goes first, everything random comes from one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use manager_core::{
    Action, Bootstrap, Config, Entropy, Event, Knobs, LoginAnswer, LoginQuestion, Manager, Recovered,
    RegistryAnswer, RegistryQuestion,
};
use model::{
    audit::Origin,
    cluster::{Authority, ClusterSettings},
    command::Answer,
    id::{ClusterId, MemberId, NodeId, RequestId, ServiceId},
    identity::{Identity, JoinRole, Role},
    request::{ApiError, Consistency, ErrorCode, JoinRequest, Reply, Request, Response},
    service::{Mode, ServiceSpec},
    session::{AgentMessage, ManagerMessage},
    time::{Instant, Now, WallTime},
};
use seal::Keyring;

use crate::{agent::Agent, disk::Disk};

pub const CLUSTER: ClusterId = ClusterId(77);
pub const CSR: &str = "-----BEGIN CERTIFICATE REQUEST-----";
pub const ONE: MemberId = MemberId(1);
pub const TWO: MemberId = MemberId(2);
pub const THREE: MemberId = MemberId(3);
const OLDER: &str = "0.0.1";
const RECONNECT: Duration = Duration::from_millis(50);
const BEAT: Duration = Duration::from_millis(500);

pub struct Host {
    pub manager: Option<Manager>,
    pub disk: Disk,
    pub config: Config,
    pub halted: Option<String>,
    /// Whom it refuses.
    revoked: BTreeSet<Identity>,
    /// What it was last told of the authority, and whether it is to have another certificate.
    pub authority: Option<(String, bool)>,
    /// Raised at every start, so that nothing reaches a later life.
    life: u64,
}

enum Parcel {
    Event(MemberId, u64, Box<Event>),
    Synced(MemberId, u64, u64),
    ToAgent(NodeId, u64, Box<ManagerMessage>),
    AgentCut(NodeId, u64),
    AgentConnect(NodeId),
    AgentBeat(NodeId, u64),
}

#[derive(Default)]
struct Line {
    connection: u64,
    member: Option<MemberId>,
}

pub struct World {
    pub hosts: BTreeMap<MemberId, Host>,
    /// What registries say; without it they are silent.
    pub registry: Option<fn(&RegistryQuestion) -> RegistryAnswer>,
    /// What they were asked.
    pub asked: Vec<RegistryQuestion>,
    /// What directories and issuers say; without it they are silent.
    pub directory: Option<fn(&LoginQuestion) -> LoginAnswer>,
    /// What they were asked.
    pub proofs: Vec<LoginQuestion>,
    pub now: Now,
    parcels: BTreeMap<(Instant, u64), Parcel>,
    count: u64,
    dice: u64,
    /// Percent of peers' messages lost.
    pub loss: u64,
    pub cut: BTreeSet<MemberId>,
    pub knobs: Knobs,
    pub replies: BTreeMap<u64, Vec<Result<Reply, ApiError>>>,
    pub agents: BTreeMap<NodeId, Agent>,
    lines: BTreeMap<NodeId, Line>,
    /// Agents that do not connect.
    pub away: BTreeSet<NodeId>,
    handles: u64,
    pub leaders: BTreeMap<u64, MemberId>,
    /// What the members said to each other.
    pub wire: Vec<bytes::Bytes>,
}

/// The authority's key: in clear in the first entry, as versions before 0.2 wrote it.
pub const AUTHORITY_KEY: &str = "the key of the authority";

impl World {
    /// A founded cluster of one.
    pub fn new(seed: u64) -> Self {
        Self::with_knobs(seed, Knobs::default())
    }

    pub fn with_knobs(seed: u64, knobs: Knobs) -> Self {
        Self::found(seed, knobs, Keyring::default())
    }

    /// A cluster of one, founded by a shell that keeps a data key already.
    pub fn founded_with(seed: u64, keyring: Keyring) -> Self {
        Self::found(seed, Knobs::default(), keyring)
    }

    fn found(seed: u64, knobs: Knobs, keyring: Keyring) -> Self {
        let mut world = Self {
            hosts: BTreeMap::new(),
            registry: None,
            asked: Vec::new(),
            directory: None,
            proofs: Vec::new(),
            now: Now { mono: Instant::from_millis(1_000), wall: WallTime(1_800_000_000_000_000) },
            parcels: BTreeMap::new(),
            count: 0,
            dice: seed.wrapping_mul(2).wrapping_add(1),
            loss: 0,
            cut: BTreeSet::new(),
            knobs,
            replies: BTreeMap::new(),
            agents: BTreeMap::new(),
            lines: BTreeMap::new(),
            away: BTreeSet::new(),
            handles: 0,
            leaders: BTreeMap::new(),
            wire: Vec::new(),
        };
        let bootstrap = Bootstrap {
            authority: Authority {
                certificate: "-----BEGIN CERTIFICATE-----\nca".into(),
                key: AUTHORITY_KEY.into(),
                sealed: None,
                former: Vec::new(),
            },
            settings: ClusterSettings::default(),
        };
        let config = Config { bootstrap: Some(bootstrap), keyring, ..world.config(ONE) };
        world.boot(config, Recovered::default());
        world.until("the cluster is founded", |world| {
            world.leader().is_some_and(|id| world.store(id).cluster().is_some())
        });
        world
    }

    /// A cluster of three voters.
    pub fn of_three(seed: u64) -> Self {
        Self::of_three_with(seed, Knobs::default())
    }

    pub fn of_three_with(seed: u64, knobs: Knobs) -> Self {
        let mut world = Self::with_knobs(seed, knobs);
        world.join_member();
        world.join_member();
        // Until the joint change is over, the first member alone can still stop the others.
        let alone = |manager: &Manager| manager.status().membership.is_joint();
        world.until("three vote", |world| {
            world.running().all(|(id, manager)| world.voters(id) == 3 && !alone(manager))
        });
        world
    }

    /// A cluster of three voters, the second of which was started anew with an older version.
    pub fn with_older_manager(seed: u64) -> Self {
        let mut world = Self::of_three(seed);
        world.crash(TWO);
        let older = Config { version: OLDER.into(), ..world.config(TWO) };
        let recovered = world.hosts[&TWO].disk.recovered();
        world.boot(older, recovered);
        world.until("it has said so", |world| {
            let leader = world.leader().map(|id| world.store(id));
            leader.and_then(|store| store.member(TWO)).is_some_and(|member| member.version == OLDER)
        });
        world
    }

    pub fn config(&self, member: MemberId) -> Config {
        Config {
            member,
            cluster: CLUSTER,
            name: format!("manager-{member}"),
            address: format!("manager-{member}:7443"),
            version: "1".into(),
            rng_seed: self.dice ^ member.0,
            seeds: vec![(ONE, "manager-1:7443".into())],
            bootstrap: None,
            keyring: Keyring::default(),
            entropy: Entropy([member.0 as u8 ^ self.dice as u8; 32]),
            knobs: self.knobs.clone(),
        }
    }

    pub fn boot(&mut self, config: Config, recovered: Recovered) {
        let member = config.member;
        let life = self.hosts.get(&member).map_or(1, |host| host.life + 1);
        let manager = Manager::new(config.clone(), recovered.clone(), self.now).expect("starts");
        let disk = Disk::holding(recovered);
        let host = Host {
            manager: Some(manager),
            disk,
            config,
            halted: None,
            revoked: BTreeSet::new(),
            authority: None,
            life,
        };
        self.hosts.insert(member, host);
        self.drain(member);
    }

    /// The power of one host fails; of the unsynced writes some survive.
    pub fn crash(&mut self, member: MemberId) {
        let survives = self.roll(3) as usize;
        let host = self.hosts.get_mut(&member).expect("a host");
        host.manager = None;
        host.life += 1;
        host.disk.crash(survives);
        let nodes: Vec<NodeId> = self
            .lines
            .iter()
            .filter(|(_, line)| line.member == Some(member))
            .map(|(node, _)| *node)
            .collect();
        for node in nodes {
            let connection = self.lines[&node].connection;
            self.send(Duration::from_millis(1), Parcel::AgentCut(node, connection));
        }
    }

    pub fn restart(&mut self, member: MemberId) {
        let seed = self.roll(u64::MAX);
        let host = &self.hosts[&member];
        let entropy = Entropy([seed as u8; 32]);
        let config = Config { rng_seed: seed, entropy, ..host.config.clone() };
        let recovered = host.disk.recovered();
        self.boot(config, recovered);
    }

    pub fn manager(&self, member: MemberId) -> &Manager {
        self.hosts[&member].manager.as_ref().expect("it runs")
    }

    pub fn store(&self, member: MemberId) -> &store::Store {
        self.manager(member).store()
    }

    pub fn running(&self) -> impl Iterator<Item = (MemberId, &Manager)> {
        self.hosts.iter().filter_map(|(id, host)| host.manager.as_ref().map(|manager| (*id, manager)))
    }

    /// The serving leader of the highest term.
    pub fn leader(&self) -> Option<MemberId> {
        let serving = self.running().filter(|(_, manager)| manager.status().serving);
        serving.max_by_key(|(_, manager)| manager.status().term).map(|(id, _)| id)
    }

    pub fn voters(&self, member: MemberId) -> usize {
        self.hosts[&member].manager.as_ref().map_or(0, |manager| manager.status().membership.voters.len())
    }

    pub fn roll(&mut self, sides: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % sides.max(1)
    }

    fn send(&mut self, after: Duration, parcel: Parcel) {
        self.count += 1;
        self.parcels.insert((self.now.mono + after, self.count), parcel);
    }

    /// Tells a manager something.
    pub fn feed(&mut self, member: MemberId, event: Event) {
        if let Some(manager) = self.hosts.get_mut(&member).and_then(|host| host.manager.as_mut()) {
            manager.handle_event(event, self.now);
            self.drain(member);
        }
    }

    fn drain(&mut self, member: MemberId) {
        while let Some(action) =
            self.hosts.get_mut(&member).and_then(|host| host.manager.as_mut()).and_then(Manager::poll_action)
        {
            self.carry_out(member, action);
        }
    }

    fn carry_out(&mut self, member: MemberId, action: Action) {
        let life = self.hosts[&member].life;
        let later = |event| Parcel::Event(member, life, Box::new(event));
        match action {
            Action::Persist(persist) => {
                let sequence = persist.sequence;
                let takes = Duration::from_micros(500 + self.roll(3_000));
                self.hosts.get_mut(&member).expect("a host").disk.write(persist);
                self.send(takes, Parcel::Synced(member, life, sequence));
            }
            Action::Compact { index } => self.hosts.get_mut(&member).expect("a host").disk.compact(index),
            Action::EncodeSnapshot { index, state, .. } => {
                let bytes = proto::codec::encode(&state);
                self.send(Duration::from_millis(5), later(Event::SnapshotEncoded { index, bytes }));
            }
            Action::SendPeer { to, bytes } => {
                self.wire.push(bytes.clone());
                let lost = self.roll(100) < self.loss || self.cut.contains(&member) || self.cut.contains(&to);
                let refused = |host: &Host| host.revoked.contains(&Identity::Manager(member));
                if !lost && self.hosts.get(&to).is_some_and(refused) {
                    self.send(Duration::from_millis(1), later(Event::Disowned { by: to }));
                } else if let Some(host) = self.hosts.get(&to).filter(|_| !lost) {
                    let parcel = Parcel::Event(to, host.life, Box::new(Event::Peer { from: member, bytes }));
                    let jitter = Duration::from_micros(100 + self.roll(2_000));
                    self.send(jitter, parcel);
                }
            }
            Action::Reply { handle, result, more } => {
                let replies = self.replies.entry(handle).or_default();
                replies.push(result);
                assert!(more || replies.len() == 1 || replies.iter().rev().skip(1).all(Result::is_ok));
            }
            Action::SendAgent { connection, message } => {
                if let Some(node) = self.node_on(connection) {
                    self.send(Duration::from_millis(1), Parcel::ToAgent(node, connection, Box::new(message)));
                }
            }
            Action::CloseAgent { connection, .. } => {
                if let Some(node) = self.node_on(connection) {
                    self.send(Duration::from_millis(1), Parcel::AgentCut(node, connection));
                }
            }
            Action::Sign { job, identity, serial, .. } => {
                let certificate = Ok(format!("certificate {serial} of {identity}"));
                self.send(Duration::from_millis(1), later(Event::Signed { job, certificate }));
            }
            Action::AskRegistry { job, question } => {
                self.asked.push((*question).clone());
                if let Some(answer) = self.registry.map(|answer| answer(&question)) {
                    self.send(Duration::from_millis(1), later(Event::RegistryAnswered { job, answer }));
                }
            }
            Action::AskLogin { job, question } => {
                self.proofs.push((*question).clone());
                if let Some(answer) = self.directory.map(|answer| answer(&question)) {
                    self.send(Duration::from_millis(1), later(Event::LoginAnswered { job, answer }));
                }
            }
            Action::KeepKeys { sequence, keyring } => {
                self.hosts.get_mut(&member).expect("a host").config.keyring = keyring;
                self.send(Duration::from_millis(1), later(Event::KeysKept { sequence }));
            }
            Action::Leader { is_leader: true, term, .. } => {
                let before = self.leaders.insert(term, member);
                assert!(before.is_none_or(|before| before == member), "two leaders in term {term}");
            }
            Action::Halt { reason } | Action::Retire { reason } => {
                let host = self.hosts.get_mut(&member).expect("a host");
                host.halted = Some(reason);
                host.manager = None;
            }
            Action::Revoked(identities) => {
                self.hosts.get_mut(&member).expect("a host").revoked.extend(identities);
            }
            Action::Authority { bundle, renew } => {
                self.hosts.get_mut(&member).expect("a host").authority = Some((bundle, renew));
            }
            Action::Leader { .. } | Action::Peers(_) | Action::Notice(_) => {}
        }
    }

    /// The next thing that happens anywhere.
    fn step(&mut self) {
        let timers = self.running().filter_map(|(id, manager)| manager.poll_timeout().map(|at| (at, id)));
        let timer = timers.min();
        let parcel = self.parcels.keys().next().copied();
        let at = [timer.map(|(at, _)| at), parcel.map(|(at, _)| at)].into_iter().flatten().min();
        let at = at.expect("something is due").max(self.now.mono);
        self.now.wall.0 += at.since(self.now.mono).as_micros() as u64;
        self.now.mono = at;
        match (parcel, timer) {
            (Some(key), timer) if timer.is_none_or(|(at, _)| key.0 <= at) => {
                let parcel = self.parcels.remove(&key).expect("it was there");
                self.deliver(parcel);
            }
            (_, Some((_, id))) => {
                let manager =
                    self.hosts.get_mut(&id).and_then(|host| host.manager.as_mut()).expect("it runs");
                manager.handle_timeout(self.now);
                assert!(manager.poll_timeout().is_none_or(|next| next > at), "a timer that fires for ever");
                self.drain(id);
            }
            (_, None) => unreachable!("one of both is due"),
        }
    }

    fn deliver(&mut self, parcel: Parcel) {
        let alive = |world: &Self, member: MemberId, life: u64| {
            world.hosts.get(&member).is_some_and(|h| h.life == life)
        };
        match parcel {
            Parcel::Event(member, life, event) if alive(self, member, life) => self.feed(member, *event),
            Parcel::Synced(member, life, sequence) if alive(self, member, life) => {
                self.hosts.get_mut(&member).expect("a host").disk.sync(sequence);
                self.feed(member, Event::Persisted { sequence });
            }
            Parcel::Event(..) | Parcel::Synced(..) => {}
            Parcel::ToAgent(node, connection, message) => self.tell_agent(node, connection, *message),
            Parcel::AgentCut(node, connection) if self.line(node).connection == connection => {
                self.line(node).member = None;
                self.agents.get_mut(&node).expect("an agent").session = None;
                self.send(RECONNECT, Parcel::AgentConnect(node));
            }
            Parcel::AgentCut(..) => {}
            Parcel::AgentConnect(node) => self.connect(node, None),
            Parcel::AgentBeat(node, connection) => self.beat(node, connection),
        }
    }

    pub fn run_for(&mut self, time: Duration) {
        let end = self.now.mono + time;
        while self.now.mono < end {
            self.step();
        }
    }

    pub fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let end = self.now.mono + Duration::from_secs(60);
        while !done(self) {
            assert!(self.now.mono < end, "not within a minute: {what}");
            self.step();
        }
    }

    // Clients.

    pub fn ask(&mut self, member: MemberId, identity: Identity, id: Option<u64>, request: Request) -> u64 {
        self.ask_with(member, identity, id, Consistency::Linearizable, request)
    }

    pub fn ask_with(
        &mut self,
        member: MemberId,
        identity: Identity,
        id: Option<u64>,
        consistency: Consistency,
        request: Request,
    ) -> u64 {
        self.handles += 1;
        let handle = self.handles;
        let request_id = id.map(RequestId);
        let deadline = Some(Duration::from_secs(8));
        let origin = Origin::new(Some("10.0.0.9".into()), None);
        let event = Event::Request { handle, identity, request_id, consistency, deadline, request, origin };
        self.feed(member, event);
        handle
    }

    pub fn answer(&self, handle: u64) -> Option<&Result<Reply, ApiError>> {
        self.replies.get(&handle).and_then(|replies| replies.first())
    }

    /// Asks whoever leads, again and again with one request id, until there is an answer that is final.
    pub fn insist(&mut self, identity: Identity, request: Request) -> Result<Response, ApiError> {
        let id = 1 + self.roll(u64::MAX);
        self.insist_as(identity, id, request)
    }

    pub fn insist_as(&mut self, identity: Identity, id: u64, request: Request) -> Result<Response, ApiError> {
        for _ in 0..100 {
            self.until("a leader", |world| world.leader().is_some());
            let leader = self.leader().expect("a leader");
            let handle = self.ask(leader, identity.clone(), Some(id), request.clone());
            let end = self.now.mono + Duration::from_secs(10);
            while self.answer(handle).is_none() && self.now.mono < end {
                self.step();
            }
            match self.answer(handle).cloned() {
                Some(Ok(reply)) => return Ok(reply.response),
                Some(Err(error)) if !can_retry(error.code) => return Err(error),
                Some(Err(_)) | None => self.run_for(Duration::from_millis(20)),
            }
        }
        panic!("no final answer");
    }

    pub fn admin(&mut self, request: Request) -> Response {
        self.insist(admin(), request).expect("accepted")
    }

    pub fn create(&mut self, name: &str, replicas: u32) -> ServiceId {
        match self.admin(Request::CreateService(spec(name, replicas).into())) {
            Response::Changed { answer: Answer::Service { id, .. }, .. } => id,
            other => panic!("{other:?}"),
        }
    }

    fn token(&mut self, role: JoinRole) -> model::id::TokenId {
        let request = Request::CreateToken {
            role,
            ttl: Duration::from_secs(3_600),
            uses: 10,
            node_spec: model::node::NodeSpec::default(),
        };
        match self.admin(request) {
            Response::Changed { answer: Answer::Token { id, .. }, .. } => id,
            other => panic!("{other:?}"),
        }
    }

    /// A joiner with a fresh token for ten uses, and what it asks.
    pub fn join_request(&mut self, role: JoinRole, hostname: &str, address: &str) -> (Identity, Request) {
        let token = self.token(role);
        let facts = model::node::Facts { hostname: hostname.into(), ..model::node::Facts::default() };
        let join = JoinRequest {
            role,
            token,
            secret: Vec::new(),
            csr: CSR.into(),
            facts,
            address: address.into(),
            key: Some("print".into()),
        };
        (Identity::Joiner(token), Request::Join(Box::new(join)))
    }

    pub fn join(&mut self, role: JoinRole, hostname: &str, address: &str) -> Response {
        let (identity, request) = self.join_request(role, hostname, address);
        self.insist(identity, request).expect("admitted")
    }

    /// Another manager joins and starts.
    pub fn join_member(&mut self) -> MemberId {
        let next = MemberId(self.hosts.keys().next_back().map_or(1, |id| id.0 + 1));
        let address = format!("manager-{next}:7443");
        let Response::Joined { member: Some(member), managers, .. } =
            self.join(JoinRole::Manager, "m", &address)
        else {
            panic!("not joined")
        };
        let seeds = managers.into_iter().map(|manager| (manager.id, manager.address)).collect();
        let config = Config { seeds, address, ..self.config(member) };
        self.boot(config, Recovered::default());
        member
    }

    /// Another node joins and connects.
    pub fn join_node(&mut self) -> NodeId {
        let Response::Joined { node: Some(node), .. } = self.join(JoinRole::Agent, "n", "") else {
            panic!("not joined")
        };
        self.agents.insert(node, Agent::new(node));
        self.send(Duration::ZERO, Parcel::AgentConnect(node));
        self.until("the node is welcome", |world| world.agents[&node].session.is_some());
        node
    }

    // Agents.

    fn line(&mut self, node: NodeId) -> &mut Line {
        self.lines.entry(node).or_default()
    }

    fn node_on(&self, connection: u64) -> Option<NodeId> {
        self.lines.iter().find(|(_, line)| line.connection == connection).map(|(node, _)| *node)
    }

    pub fn connect(&mut self, node: NodeId, to: Option<MemberId>) {
        let running: Vec<MemberId> =
            self.running().map(|(id, _)| id).filter(|id| !self.cut.contains(id)).collect();
        let choice = self.roll(running.len() as u64) as usize;
        let Some(member) = to.or_else(|| running.get(choice).copied()).filter(|_| !self.away.contains(&node))
        else {
            return self.send(RECONNECT, Parcel::AgentConnect(node));
        };
        self.count += 1;
        let connection = self.count;
        *self.line(node) = Line { connection, member: Some(member) };
        self.feed(member, Event::AgentOpened { connection, identity: Identity::Node(node) });
        let hello = self.agents[&node].hello();
        self.feed(member, Event::AgentMessage { connection, message: hello });
        self.send(BEAT, Parcel::AgentBeat(node, connection));
    }

    /// The agent's process ends; it comes back when it is no longer away.
    pub fn hang_up(&mut self, node: NodeId) {
        let connection = self.line(node).connection;
        if let Some(member) = self.line(node).member {
            self.feed(member, Event::AgentClosed { connection });
        }
        self.send(Duration::ZERO, Parcel::AgentCut(node, connection));
    }

    pub fn say(&mut self, node: NodeId, message: AgentMessage) {
        let connection = self.line(node).connection;
        if let Some(member) = self.line(node).member.filter(|member| !self.cut.contains(member)) {
            self.feed(member, Event::AgentMessage { connection, message });
        }
    }

    fn beat(&mut self, node: NodeId, connection: u64) {
        if self.line(node).connection != connection || self.line(node).member.is_none() {
            return;
        }
        if self.agents[&node].session.is_some() {
            let message = self.agents.get_mut(&node).expect("an agent").beat();
            self.say(node, message);
        }
        self.send(BEAT, Parcel::AgentBeat(node, connection));
    }

    fn tell_agent(&mut self, node: NodeId, connection: u64, message: ManagerMessage) {
        if self.line(node).connection != connection {
            return;
        }
        let answers = self.agents.get_mut(&node).expect("an agent").take(message);
        for answer in answers {
            self.say(node, answer);
        }
    }
}

fn can_retry(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Unavailable | ErrorCode::NotLeader | ErrorCode::Deadline)
}

pub fn admin() -> Identity {
    Identity::Operator { name: "ann".into(), role: Role::Admin }
}

pub fn spec(name: &str, replicas: u32) -> ServiceSpec {
    let mut spec =
        ServiceSpec { name: name.into(), mode: Mode::Replicated(replicas), ..ServiceSpec::default() };
    spec.template.container.image = "app:1".into();
    spec
}
