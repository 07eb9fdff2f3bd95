//! How a cluster comes to be, along the real way: the first manager founds it, the others and the nodes join with tokens.

use std::{sync::Arc, time::Duration};

use agent_core::stored::Stored;
use manager_core::Bootstrap;
use model::{
    cluster::{Authority, ClusterSettings},
    container::ContainerSpec,
    id::{MemberId, NodeId},
    identity::{Identity, JoinRole},
    node::{Facts, NodeSpec},
    request::{ApiError, JoinRequest, Reply, Request, Response},
    sealed::KeyId,
};
use wal::MemDisk;

use crate::{
    agent::NodeHost,
    client::Purpose,
    clock::HostClock,
    dice::Dice,
    engine::{Container, Engine},
    knobs::{Knobs, Weather},
    manager::ManagerHost,
    queue::{MS, SEC, Time},
    rotations::{FIRST, Holder, Paper, Rotations},
    secrets::CANARY,
    workload::Wish,
    world::{Event, Phase, World},
};

/// The set-up takes less than this, or it is broken.
const SETUP_LIMIT: Time = 60 * SEC;
/// And so much more for each node: they join one after the other.
const SETUP_OF_NODE: Time = 200 * MS;

/// As often as a token may be used; more nodes need another one.
const TOKEN_USES: u32 = 1_000;
/// The name of that one, until it takes the first one's place.
const MORE_AGENTS: &str = "more agents";

/// What a certificate is asked for with.
pub(crate) const CSR: &str =
    "-----BEGIN CERTIFICATE REQUEST-----\nsimulated\n-----END CERTIFICATE REQUEST-----\n";

/// A container on every node that belongs to somebody else.
pub(crate) const FOREIGN: &str = "foreign-database";

pub(crate) fn manager(number: usize, dice: &mut Dice) -> ManagerHost {
    ManagerHost {
        member: MemberId(if number == 0 { 1 } else { 1_000 + number as u64 }),
        name: format!("m{number}"),
        address: format!("m{number}:7000"),
        keyring: seal::Keyring::default(),
        disk: MemDisk::new(),
        clock: clock(dice),
        process: None,
        lives: 0,
        paused: None,
        crash_in: None,
        vote: (0, 0),
        commits: [0; 3],
        has_state: false,
        fresh: true,
        replacing: false,
        backup: None,
        removed: false,
        halted: false,
        seeds: Vec::new(),
        bootstrap: None,
        version: crate::versions::USUAL,
        syncs: 0,
        paper: if number == 0 { Paper::first() } else { Paper::default() },
    }
}

pub(crate) fn node(seed: u64, number: usize, knobs: &Knobs, dice: &mut Dice) -> NodeHost {
    let mut engine = Engine::new(knobs.engine_tenths, Dice::new(seed, &format!("engine {number}")));
    let spec = Arc::new(ContainerSpec::default());
    engine.containers.insert(FOREIGN.to_owned(), Container::foreign(FOREIGN.to_owned(), spec));
    NodeHost {
        node: NodeId(0),
        name: format!("n{number}"),
        clock: clock(dice),
        process: None,
        lives: 0,
        paused: None,
        crash_in: None,
        ledger: Stored::default(),
        files: std::collections::BTreeMap::new(),
        engine,
        subscription: None,
        promised: None,
        told: std::collections::VecDeque::new(),
        version: crate::versions::USUAL,
        told_health: std::collections::BTreeMap::new(),
        router: crate::router::Router::default(),
        disturbed: 0,
        left: false,
        paper: Paper::default(),
    }
}

fn clock(dice: &mut Dice) -> HostClock {
    let drift = dice.range(0, 600) as i64 - 300;
    let wrong = dice.range(0, 4_000_000) as i64 - 2_000_000;
    HostClock::new(dice.range(1, 1 << 40), drift, wrong)
}

impl World {
    /// The first manager founds the cluster.
    pub(crate) fn begin(&mut self) {
        // As `init` does it, or as versions before 0.2 did: then the key lies in clear until there is a data key.
        let mut dice = Dice::new(self.seed, "founding");
        let sealed = dice.permille(700);
        if sealed {
            let key = seal::DataKey::new(std::array::from_fn(|_| dice.range(0, 255) as u8));
            self.managers[0].keyring.insert(KeyId(1), key);
        }
        let key = if sealed { format!("{CANARY} authority") } else { "key".to_owned() };
        self.managers[0].bootstrap = Some(Bootstrap {
            authority: Authority { certificate: FIRST.into(), key, sealed: None, former: Vec::new() },
            settings: ClusterSettings { patience: self.knobs.patience.clone(), ..ClusterSettings::default() },
        });
        self.start_manager(0);
        self.queue.after(500 * MS, Event::Probe);
        self.make_token("agent", JoinRole::Agent);
    }

    fn make_token(&mut self, name: &'static str, role: JoinRole) {
        let request = Request::CreateToken {
            role,
            ttl: Duration::from_secs(86_400),
            uses: TOKEN_USES,
            node_spec: NodeSpec::default(),
        };
        self.submit(Purpose::Token(name), Self::operator(), Wish { request, on: None });
    }

    /// The answer to one step of the set-up; the next follows.
    pub(crate) fn set_up(&mut self, step: Purpose, result: Result<Reply, ApiError>) {
        let response = match result {
            Ok(reply) => reply.response,
            Err(error) => {
                // A join that came too early is tried again.
                match step {
                    Purpose::JoinManager(manager) if self.phase != Phase::Setup => {
                        // The token may have expired: wall clocks leap by days here.
                        self.make_token("manager", JoinRole::Manager);
                        self.queue.after(2 * SEC, Event::Rejoin { manager });
                    }
                    Purpose::JoinManager(number) => self.join_manager(number),
                    Purpose::JoinNode(number) => self.join_node(number),
                    Purpose::ReplaceManager(number) => self.not_replaced(number, &error),
                    Purpose::Members => {}
                    Purpose::Token(_) if self.phase != Phase::Setup => {}
                    _ => self.violate("setup", format!("{step:?}: {error}"), Vec::new()),
                }
                return;
            }
        };
        match (step, response) {
            (
                Purpose::Token(name),
                Response::Changed { answer: model::command::Answer::Token { id, .. }, .. },
            ) => {
                self.tokens.insert(if name == MORE_AGENTS { "agent" } else { name }, id);
                if self.phase != Phase::Setup {
                    return;
                }
                match name {
                    "agent" if self.managers.len() > 1 => self.make_token("manager", JoinRole::Manager),
                    "agent" => self.join_node(0),
                    MORE_AGENTS => {
                        let next = self.nodes.iter().position(|host| host.node == NodeId(0));
                        next.into_iter().for_each(|number| self.join_node(number));
                    }
                    _ => self.join_manager(1),
                }
            }
            (
                Purpose::JoinManager(number),
                ref answer @ Response::Joined { member: Some(member), ref managers, .. },
            ) => {
                self.joined(Holder::Manager(number), answer);
                let managers = managers.clone();
                let seeds = managers.into_iter().map(|manager| (manager.id, manager.address)).collect();
                self.managers[number].begin_anew(member, seeds);
                self.faults.forget_disk(number);
                self.start_manager(number);
                if self.phase != Phase::Setup {
                    return;
                }
                if number + 1 < self.managers.len() {
                    self.join_manager(number + 1);
                } else {
                    self.join_node(0);
                }
            }
            (Purpose::ReplaceManager(number), answer) => self.replaced(number, answer),
            (Purpose::JoinNode(number), ref answer @ Response::Joined { node: Some(node), .. }) => {
                self.joined(Holder::Node(number), answer);
                self.nodes[number].node = node;
                self.start_agent(number);
                let next = number + 1;
                if next < self.nodes.len() && next.is_multiple_of(TOKEN_USES as usize) {
                    self.make_token(MORE_AGENTS, JoinRole::Agent);
                } else if next < self.nodes.len() {
                    self.join_node(next);
                }
            }
            (Purpose::Members, Response::Members(members)) => {
                let all = members.len() == self.managers.len() && members.iter().all(|member| member.voter);
                if all && self.all_nodes_ready() {
                    self.storm();
                }
            }
            (step, response) => {
                self.violate("setup", format!("{step:?} was answered {response:?}"), Vec::new());
            }
        }
    }

    pub(crate) fn join_manager(&mut self, number: usize) {
        let address = self.managers[number].address.clone();
        self.join(
            Purpose::JoinManager(number),
            "manager",
            JoinRole::Manager,
            self.managers[number].name.clone(),
            address,
        );
    }

    fn join_node(&mut self, number: usize) {
        self.join(
            Purpose::JoinNode(number),
            "agent",
            JoinRole::Agent,
            self.nodes[number].name.clone(),
            String::new(),
        );
    }

    fn join(&mut self, purpose: Purpose, token: &str, role: JoinRole, hostname: String, address: String) {
        let Some(token) = self.tokens.get(token).copied() else { return };
        let facts = Facts { hostname, os: "linux".into(), arch: "x86_64".into(), ..Facts::default() };
        let request = Request::Join(Box::new(JoinRequest {
            role,
            token,
            secret: Vec::new(),
            csr: self.rotations.as_mut().map_or_else(|| CSR.to_owned(), Rotations::fresh_csr),
            facts,
            address,
            key: None,
        }));
        self.submit(purpose, Identity::Joiner(token), Wish { request, on: None });
    }

    fn all_nodes_ready(&self) -> bool {
        let Some(store) = self.checks.frontier() else { return false };
        let ready = store.nodes().filter(|node| node.state == model::node::NodeState::Ready).count();
        ready == self.nodes.len()
    }

    /// During the set-up: asks whether it is complete.
    pub(crate) fn setup_probe(&mut self) {
        if self.now() > SETUP_LIMIT + SETUP_OF_NODE * self.nodes.len() as u64 {
            self.violate("setup", "the cluster was not set up in time".to_owned(), Vec::new());
        } else if self.all_nodes_ready() {
            self.submit(Purpose::Members, Self::operator(), Wish { request: Request::ListMembers, on: None });
        }
    }

    /// The work and the faults begin.
    fn storm(&mut self) {
        if self.phase != Phase::Setup {
            return;
        }
        let now = self.now();
        self.trace.fault(now, || "the set-up is complete".to_owned());
        self.phase = Phase::Storm;
        self.faults.until = now + self.knobs.fault_secs * SEC;
        let revision = self.checks.frontier().map(store::Store::revision).unwrap_or_default();
        self.checks.storm_begins(now);
        self.start_watches(revision);
        for operator in 0..self.knobs.operators {
            self.queue.after(self.knobs.think_ms * MS * operator as u64 / 4, Event::Think { operator });
        }
        self.queue.after(SEC, Event::NextFault);
        if self.knobs.traffic_ms.is_some() {
            self.queue.after(SEC, Event::ClientAsks);
        }
        if self.knobs.weather == Weather::Calm {
            self.network.heal();
        }
    }
}
