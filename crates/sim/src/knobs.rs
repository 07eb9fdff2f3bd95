//! What differs from seed to seed: sizes, timing, which faults there are and how often.

use std::time::Duration;

use model::node::Patience;

use crate::{dice::Dice, skip::Skip};

/// The most replicas in a world of usual size.
const REPLICAS: u32 = 5;

/// A storm that crons live through lasts so many seconds longer.
const MINUTES: u64 = 85;

/// How hard a world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weather {
    /// No fault at all, but wall clocks that jump: what an update, a drain or a clock does is then due to it alone.
    Calm,
    /// Faults of processes, networks, engines and disks.
    Rough,
}

/// The choices of one world.
#[derive(Debug, Clone)]
pub struct Knobs {
    /// Managers.
    pub managers: usize,
    /// Nodes.
    pub nodes: usize,
    /// Clients that change things.
    pub operators: usize,
    /// Whether there are faults.
    pub weather: Weather,
    /// How long the first phase lasts, in seconds.
    pub fault_secs: u64,
    /// How soon the cluster must have converged after the last fault was healed, in seconds.
    pub converge_secs: u64,
    /// The mean pause between two faults, in milliseconds.
    pub fault_every_ms: u64,
    /// The mean pause between two requests of one operator, in milliseconds.
    pub think_ms: u64,
    /// The managers' own knobs.
    pub manager: manager_core::Knobs,
    /// How long a silent node is waited for.
    pub patience: Patience,
    /// Managers and nodes begin with an older version of the software, and some are upgraded whenever they start again.
    pub mixed: bool,
    /// What of its schedule is left out.
    pub skip: Skip,
    /// The most replicas that an operator asks for.
    pub replicas: u32,
    /// Of a thousand steps of operators so many drain nodes or take them in again, besides those that do so anyway.
    pub drains: u32,
    /// Of a thousand faults so many leave the leader alone with its clients.
    pub lone_leaders: u32,
    /// Of a thousand faults so many are full or decaying disks.
    pub disk_faults: u32,
    /// Events that the state keeps, in builds that can bound them.
    pub ring: usize,
    /// Of a thousand chances so many force a rare path, in builds that have them.
    pub rare: u32,
    /// Bytes of one segment of the log.
    pub segment_bytes: u64,
    /// The greatest latency of a sync, in microseconds.
    pub fsync_us: u64,
    /// The greatest one-way delay of the network, in microseconds.
    pub delay_us: u64,
    /// Of a thousand datagrams between managers so many are lost.
    pub loss: u32,
    /// Of a thousand so many arrive twice.
    pub duplication: u32,
    /// The engine is so many tenths as slow as usual.
    pub engine_tenths: u64,
    /// Containers survive their engine (Docker's live-restore).
    pub live_restore: bool,
    /// Services have probes.
    pub probes: bool,
    /// Two services are deployed, steered and returned to older releases.
    pub releases: bool,
    /// Pipelines with deploy tokens deploy these two, and try what they may not.
    pub tokens: bool,
    /// Pipelines exchange ID tokens for sessions, and deploy these two with them.
    pub exchanges: bool,
    /// People log in by methods that come and go.
    pub logins: bool,
    /// The authority is replaced.
    pub rotations: bool,
    /// There are jobs and crons, and some minutes for them.
    pub jobs: bool,
    /// Users come, ask and are removed.
    pub guests: bool,
    /// Policies come and go.
    pub policies: bool,
    /// There are secrets, services that mount them, and changes of the key that seals them.
    pub secrets: bool,
    /// Services have published ports, and clients ask for something so often, in milliseconds; `None`: nobody does.
    pub traffic_ms: Option<u64>,
}

impl Knobs {
    /// With so many nodes, and services to match.
    pub fn with_nodes(self, nodes: usize) -> Self {
        let replicas = REPLICAS.max(nodes as u32 / 8);
        // One replica after the other is updated, each within its own deadline.
        let converge_secs = self.converge_secs + 15 * u64::from(replicas - REPLICAS);
        Self { nodes, replicas, converge_secs, ..self }
    }

    /// The knobs of a seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "knobs");
        let weather = if dice.permille(200) { Weather::Calm } else { Weather::Rough };
        let rough = weather == Weather::Rough;
        let usual = manager_core::Knobs::default();
        let pace = Pace::of_seed(seed, weather);
        let manager = manager_core::Knobs {
            election_ticks: pace.ticks(dice.range(12, 30)),
            election_spread: pace.ticks(dice.range(12, 30)),
            heartbeat_ticks: pace.ticks(dice.range(3, 5)),
            snapshot_entries: *dice.pick(&[5, 20, 60, 200, 1_000]).expect("not empty"),
            keep_entries: *dice.pick(&[0, 3, 20, 100]).expect("not empty"),
            hash_every: *dice.pick(&[10, 50, 1_000]).expect("not empty"),
            agent_heartbeat: pace.span(Duration::from_millis(dice.range(300, 500))),
            pin_patience: pace.span(usual.pin_patience),
            // A few assignments: sets in parts are the rule here.
            assignment_part: 2 << 10,
            ..usual
        };
        let server = pace.span(Patience::default().server);
        let mut disks = Dice::new(seed, "disk knobs");
        let mut leaders = Dice::new(seed, "leader knobs");
        let lone_leaders = if rough && leaders.permille(150) { 150 } else { 0 };
        let mut upkeep = Dice::new(seed, "upkeep knobs");
        let mut versions = Dice::new(seed, "version knobs");
        let jobs = Dice::new(seed, "job knobs").permille(200);
        let releases = Dice::new(seed, "release knobs").permille(350);
        let mixed = rough && versions.permille(250);
        Self {
            mixed,
            // Where nothing else happens to nodes, floors are watched.
            drains: if weather == Weather::Calm && upkeep.permille(500) { 400 } else { 0 },
            skip: Skip::default(),
            replicas: REPLICAS,
            patience: Patience { server, ..Patience::default() },
            disk_faults: if disks.permille(400) { disks.range(20, 200) as u32 } else { 0 },
            managers: [3, 3, 3, 3, 3, 3, 3, 1, 5][dice.below(9)],
            nodes: dice.range(2, 6) as usize,
            operators: dice.range(1, 4) as usize,
            weather,
            fault_secs: dice.range(15, 35) + if jobs { MINUTES } else { 0 },
            converge_secs: 120,
            fault_every_ms: dice.range(300, 3_000),
            think_ms: if dice.permille(150) || lone_leaders > 0 {
                dice.range(30, 150)
            } else {
                dice.range(200, 2_500)
            },
            lone_leaders,
            manager,
            ring: *dice.pick(&[10, 40, 4_096]).expect("not empty"),
            rare: *dice.pick(&[0, 5, 100]).expect("not empty"),
            segment_bytes: *dice.pick(&[256 << 10, 512 << 10, 1 << 20]).expect("not empty"),
            fsync_us: *dice.pick(&[300, 2_000, 20_000]).expect("not empty"),
            delay_us: *dice.pick(&[200, 1_000, 8_000]).expect("not empty"),
            loss: if rough { dice.range(0, 50) as u32 } else { 0 },
            duplication: if rough { dice.range(0, 50) as u32 } else { 0 },
            engine_tenths: dice.range(3, 20),
            live_restore: dice.permille(500),
            probes: Dice::new(seed, "probe knobs").permille(350),
            releases,
            tokens: releases && Dice::new(seed, "token knobs").permille(500),
            // Neither while a program is there that knows nothing of them.
            exchanges: releases && !mixed && Dice::new(seed, "exchange knobs").permille(500),
            // Nor in calm weather: whoever was left behind is away for a while.
            rotations: rough && !mixed && Dice::new(seed, "rotation knobs").permille(200),
            logins: !mixed && Dice::new(seed, "login knobs").permille(150),
            jobs,
            guests: Dice::new(seed, "guest knobs").permille(200),
            policies: Dice::new(seed, "policy knobs").permille(250),
            // Nobody has any while a program is there that knows nothing of them.
            secrets: !mixed && Dice::new(seed, "secret knobs").permille(350),
            traffic_ms: {
                let mut traffic = Dice::new(seed, "traffic knobs");
                traffic.permille(250).then(|| *traffic.pick(&[40, 80, 150]).expect("not empty"))
            },
        }
    }
}

/// How much longer than usual all patience is, in this world alike: elections, heartbeats, leases.
struct Pace {
    percent: u64,
}

impl Pace {
    /// From half to twice as long; in calm weather, where nobody may lose patience, not shorter than usual.
    fn of_seed(seed: u64, weather: Weather) -> Self {
        let mut dice = Dice::new(seed, "pace");
        let shortest = if weather == Weather::Calm { 100 } else { 50 };
        Self { percent: if dice.permille(500) { dice.range(shortest, 200) } else { 100 } }
    }

    fn ticks(&self, usual: u64) -> u32 {
        (usual * self.percent / 100).max(1) as u32
    }

    fn span(&self, usual: Duration) -> Duration {
        usual * self.percent as u32 / 100
    }
}
