//! Placements per second of processor time, with every result checked: `cargo run --release -p control --example placement_bench`.
//!
//! Two figures per size. *Decide* is the whole decision for a new service: slots looked at, nodes chosen, decisions built,
//! as a leader does it, without the state machine. *With apply* adds the application to the store and the notes of what
//! changed, which is what a manager's thread pays for a task from "wanted" to "assigned". Nothing is written to a disk.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use control::{Control, IdSource};
use model::{
    cluster::{Authority, ClusterSettings, Token},
    command::{Command, Entry},
    id::{ClusterId, MemberId, NodeId, ServiceId, TokenId},
    identity::{Identity, JoinRole},
    node::{Facts, Incarnation, NodeSpec},
    service::{Mode, ServiceSpec},
    time::ClusterTime,
};
use store::Store;

const TOKEN: TokenId = TokenId(1);
const CPU: u64 = 64_000;
const MEMORY: u64 = 256 << 30;

/// What is placed.
struct Load {
    name: &'static str,
    nodes: u64,
    services: u64,
    replicas: u32,
    reserve: bool,
    constrained: bool,
    spread: bool,
}

struct Ids(u64);

impl IdSource for Ids {
    fn next(&mut self) -> u64 {
        // Spread over the whole range, as random ids are.
        self.0 += 1;
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

struct Bench {
    store: Store,
    control: Control,
    index: u64,
    deciding: Duration,
    applying: Duration,
}

/// Adds the processor time that the work took: on a shared machine the time that we were kept waiting says nothing.
fn timed<T>(sum: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = processor_time();
    let result = work();
    *sum += processor_time().saturating_sub(start);
    result
}

/// This thread's time on a processor so far.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with schedstat");
    let nanos = text.split_whitespace().next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanos.expect("a number"))
}

impl Bench {
    fn new(nodes: u64) -> Self {
        let (deciding, applying) = (Duration::ZERO, Duration::ZERO);
        let mut bench = Self { store: Store::new(), control: Control::new(), index: 0, deciding, applying };
        bench.apply(Command::Bootstrap {
            cluster: ClusterId(1),
            settings: ClusterSettings::default(),
            authority: Authority::default(),
            name: "m".into(),
            address: "127.0.0.1:1".into(),
            data_key: None,
        });
        bench.apply(Command::CreateToken(Token {
            id: TOKEN,
            role: JoinRole::Agent,
            expires: ClusterTime(u64::MAX),
            uses_left: u32::MAX,
            created: ClusterTime(0),
            node_spec: NodeSpec::default(),
        }));
        (1..=nodes).for_each(|number| bench.join(number));
        bench
    }

    fn join(&mut self, number: u64) {
        let id = NodeId(number);
        let facts = Facts {
            hostname: format!("n{number}"),
            cpu_millis: CPU,
            memory: MEMORY,
            engine_ok: true,
            ..Facts::default()
        };
        let serial = self.store.cluster().expect("bootstrapped").last_serial + 1;
        self.apply(Command::JoinNode { id, token: TOKEN, facts: facts.clone(), serial, key: None });
        let labels = [("rack", number % 40), ("half", number % 2)];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_string())).into();
        let spec = NodeSpec { labels, ..NodeSpec::default() };
        self.apply(Command::UpdateNode { id, expected: None, spec });
        self.apply(Command::NodeUp { id, incarnation: Incarnation(1), facts });
    }

    fn apply(&mut self, command: Command) {
        self.index += 1;
        let actor = Identity::Manager(MemberId(1));
        let entry =
            Entry { at: ClusterTime(self.index), request: None, actor, command, origin: Default::default() };
        let applied = self.store.apply(self.index, &entry);
        applied.outcome.expect("accepted");
        assert!(applied.rejected.is_empty(), "no decision is refused");
        applied.changes.iter().for_each(|change| self.control.mark(change));
    }

    fn run(&mut self, ids: &mut Ids) {
        loop {
            let (mut deciding, mut applying) = (Duration::ZERO, Duration::ZERO);
            let (store, control) = (&self.store, &mut self.control);
            let plan = timed(&mut deciding, || control.decide(store, ClusterTime(self.index), ids));
            self.deciding += deciding;
            if plan.decisions.is_empty() {
                return;
            }
            timed(&mut applying, || self.apply(Command::Decide(plan.decisions)));
            self.applying += applying;
        }
    }
}

fn spec(load: &Load, number: u64) -> ServiceSpec {
    let mut spec = ServiceSpec { name: format!("s{number}"), ..ServiceSpec::default() };
    spec.mode = Mode::Replicated(load.replicas);
    if load.reserve {
        spec.template.container.resources.cpu_reserve_millis = 500;
        spec.template.container.resources.memory_reserve = 1 << 30;
    }
    if load.constrained {
        spec.template.placement.constraints.push("node.labels.half==0".parse().expect("a constraint"));
    }
    if load.spread {
        spec.template.placement.spread.push("node.labels.rack".parse().expect("an attribute"));
    }
    spec
}

/// Every task placed once; reservations kept; constraints held; each service spread within one.
fn verify(bench: &Bench, load: &Load) {
    let eligible = |number: u64| !load.constrained || number.is_multiple_of(2);
    let candidates = (1..=load.nodes).filter(|number| eligible(*number)).count() as u64;
    for node in bench.store.nodes() {
        let (cpu, memory) = bench.store.reserved_on(node.id);
        assert!(cpu <= CPU && memory <= MEMORY, "over-committed");
    }
    for service in bench.store.services() {
        let mut counts: BTreeMap<NodeId, u64> = BTreeMap::new();
        for task in bench.store.tasks_of_service(service.id) {
            let node = task.node.expect("placed");
            assert!(eligible(node.0), "constraint broken");
            *counts.entry(node).or_default() += 1;
        }
        let total: u64 = counts.values().sum();
        assert_eq!(total, u64::from(load.replicas), "every replica is placed");
        let (low, high) = (total / candidates, total.div_ceil(candidates));
        let least =
            if counts.len() as u64 == candidates { counts.values().min().copied().unwrap_or(0) } else { 0 };
        assert!(least >= low && counts.values().all(|count| *count <= high), "spread within one");
    }
}

fn main() {
    println!("{:<44} {:>10} {:>14} {:>14}", "load", "tasks", "decide /s", "with apply /s");
    for nodes in [1_000, 10_000] {
        let plain = Load {
            name: "one service",
            nodes,
            services: 1,
            replicas: 100_000,
            reserve: false,
            constrained: false,
            spread: false,
        };
        let loads = [
            Load { name: "one service", ..plain },
            Load { name: "reservations", replicas: 50_000, reserve: true, ..plain },
            Load {
                name: "constraint and reservations",
                replicas: 30_000,
                reserve: true,
                constrained: true,
                ..plain
            },
            Load { name: "spread over 40 racks", spread: true, ..plain },
            Load { name: "1,000 services of 100", services: 1_000, replicas: 100, ..plain },
            Load { name: "20,000 services of 1", services: 20_000, replicas: 1, reserve: true, ..plain },
        ];
        for load in loads {
            let mut bench = Bench::new(load.nodes);
            let mut ids = Ids(0);
            bench.run(&mut ids);
            (bench.deciding, bench.applying) = (Duration::ZERO, Duration::ZERO);
            for number in 1..=load.services {
                let id = ServiceId(number);
                bench.apply(Command::CreateService { id, spec: Arc::new(spec(&load, number)) });
            }
            bench.run(&mut ids);
            verify(&bench, &load);
            let tasks = load.services * u64::from(load.replicas);
            let per_second = |time: Duration| (tasks as f64 / time.as_secs_f64()).round();
            println!(
                "{:<44} {tasks:>10} {:>14} {:>14}",
                format!("{} on {} nodes", load.name, load.nodes),
                per_second(bench.deciding),
                per_second(bench.deciding + bench.applying),
            );
        }
    }
}
