//! What a round does, drawn from its seed before anything happens.

use std::fmt;
use std::time::Duration;

use ::tests::hosts::switch::Direction;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Managers, and nodes, of the cluster under test.
pub const MANAGERS: usize = 3;
pub const NODES: usize = 3;
/// The manager on a disk of its own, with room for log, reserve and snapshots and little beside.
pub const SMALL_DISK: usize = 2;

/// A way to hurt something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    ManagerKill,
    ManagersKill,
    ManagerFreeze,
    ManagerPower,
    ManagerCut,
    ManagerOneWay,
    Resets,
    SlowLink,
    SyncFailure,
    DiskFull,
    ManagerClock,
    LogDamage,
    AgentKill,
    AgentFreeze,
    AgentClock,
    EngineKill,
    EngineFreeze,
    ContainerdKill,
    ContainerdFreeze,
    NodePower,
    NodeCut,
    NodeOneWay,
    ReplicaCrash,
    ReplicaHang,
}

/// Every kind, in the order of the table.
pub const KINDS: [(Kind, &str); 24] = [
    (Kind::ManagerKill, "kill -9 of a manager"),
    (Kind::ManagersKill, "kill -9 of all managers"),
    (Kind::ManagerFreeze, "SIGSTOP of a manager"),
    (Kind::ManagerPower, "power of a manager's host"),
    (Kind::ManagerCut, "link of a manager cut"),
    (Kind::ManagerOneWay, "link of a manager cut one way"),
    (Kind::Resets, "connections of a manager reset"),
    (Kind::SlowLink, "slow link to a manager"),
    (Kind::SyncFailure, "fsync fails"),
    (Kind::DiskFull, "disk full"),
    (Kind::ManagerClock, "a manager's clock jumps"),
    (Kind::LogDamage, "a manager's log decays"),
    (Kind::AgentKill, "kill -9 of an agent"),
    (Kind::AgentFreeze, "SIGSTOP of an agent"),
    (Kind::AgentClock, "an agent's clock jumps"),
    (Kind::EngineKill, "kill -9 of dockerd"),
    (Kind::EngineFreeze, "SIGSTOP of dockerd"),
    (Kind::ContainerdKill, "kill -9 of containerd"),
    (Kind::ContainerdFreeze, "SIGSTOP of containerd"),
    (Kind::NodePower, "power of a node"),
    (Kind::NodeCut, "link of a node cut"),
    (Kind::NodeOneWay, "link of a node cut one way"),
    (Kind::ReplicaCrash, "a replica crashes"),
    (Kind::ReplicaHang, "a replica hangs"),
];

/// What a kind is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Manager,
    Managers,
    Node,
    Replica,
}

impl Kind {
    /// What it is done to.
    pub fn target(self) -> Target {
        match self {
            Kind::ManagerKill
            | Kind::ManagerFreeze
            | Kind::ManagerPower
            | Kind::ManagerCut
            | Kind::ManagerOneWay
            | Kind::Resets
            | Kind::SlowLink
            | Kind::SyncFailure
            | Kind::DiskFull
            | Kind::ManagerClock
            | Kind::LogDamage => Target::Manager,
            Kind::ManagersKill => Target::Managers,
            Kind::AgentKill
            | Kind::AgentFreeze
            | Kind::AgentClock
            | Kind::EngineKill
            | Kind::EngineFreeze
            | Kind::ContainerdKill
            | Kind::ContainerdFreeze
            | Kind::NodePower
            | Kind::NodeCut
            | Kind::NodeOneWay => Target::Node,
            Kind::ReplicaCrash | Kind::ReplicaHang => Target::Replica,
        }
    }

    /// Whether a manager that it hits ends by itself, as it must, and a supervisor starts it again.
    pub fn ends_its_manager(self) -> bool {
        matches!(self, Kind::SyncFailure | Kind::DiskFull)
    }

    /// Whether the cluster takes writes although the leader is hit: a full disk makes a leader refuse them.
    pub fn lets_writes_flow(self) -> bool {
        !matches!(self, Kind::DiskFull | Kind::ManagersKill)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = KINDS.iter().find(|(kind, _)| kind == self);
        f.write_str(named.map_or("?", |(_, name)| name))
    }
}

/// One fault of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    /// Which manager or node; a manager that leads may take its place.
    pub victim: usize,
    /// The manager that leads when it happens, whichever that is.
    pub leader: bool,
    /// For cuts.
    pub way: Direction,
    /// For clocks, in seconds.
    pub leap_s: i64,
    /// For slow links.
    pub delay: Duration,
    /// After the round's begin.
    pub at: Duration,
    /// Healed so long after it was done; `None`: with the others, at the end of the round's first part.
    pub lasts: Option<Duration>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { kind, victim, leader, .. } = self;
        match kind.target() {
            Target::Manager if *leader => write!(f, "{kind} (the leader)"),
            Target::Manager => write!(f, "{kind} (m{})", victim + 1),
            Target::Node => write!(f, "{kind} (h{})", victim + 1),
            Target::Managers | Target::Replica => write!(f, "{kind}"),
        }
    }
}

/// A round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    pub faults: Vec<Fault>,
    /// How long until everything is healed.
    pub hurt: Duration,
    /// How many replicas the service that changes has in the end.
    pub replicas: u32,
    /// For whoever needs more choices.
    pub seed: u64,
}

/// Which rounds are drawn.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manner {
    /// Short ones, for a lane of the test suite.
    pub short: bool,
    /// Of these kinds only, one after the other and each healed at once: many in little time.
    pub only: Option<Vec<Kind>>,
}

/// The kinds whose names have this in them, such as `kill`.
pub fn kinds_like(text: &str) -> Vec<Kind> {
    KINDS.iter().filter(|(_, name)| name.contains(text)).map(|(kind, _)| *kind).collect()
}

/// Between two faults of a round of chosen kinds, in milliseconds.
const GAP_MS: std::ops::RangeInclusive<u64> = 300..=1_200;

impl Round {
    /// The round of a seed.
    pub fn draw(seed: u64, manner: &Manner) -> Round {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        match &manner.only {
            Some(kinds) => Self::draw_of(kinds, manner.short, &mut rng),
            None => Self::draw_any(manner.short, &mut rng),
        }
    }

    /// One fault after the other, each healed soon.
    fn draw_of(kinds: &[Kind], short: bool, rng: &mut ChaCha8Rng) -> Round {
        let hurt_ms = if short { rng.random_range(4_000..=6_000) } else { rng.random_range(14_000..=18_000) };
        let mut faults = Vec::new();
        let mut at_ms = 0;
        while at_ms < hurt_ms - 1_000 {
            let kind = kinds[rng.random_range(0..kinds.len())];
            let at = Duration::from_millis(at_ms);
            let lasts = Some(Duration::from_millis(rng.random_range(200..=1_500)));
            faults.push(Fault { at, lasts, ..draw_fault(kind, 0, rng) });
            at_ms += rng.random_range(GAP_MS);
        }
        let hurt = Duration::from_millis(hurt_ms);
        Round { faults, hurt, replicas: rng.random_range(2..=5), seed: rng.random() }
    }

    fn draw_any(short: bool, rng: &mut ChaCha8Rng) -> Round {
        let hurt_ms = if short { rng.random_range(3_000..=6_000) } else { rng.random_range(7_000..=18_000) };
        let count = rng.random_range(1..=2);
        let mut faults: Vec<Fault> = Vec::new();
        while faults.len() < count {
            let (kind, _) = KINDS[rng.random_range(0..KINDS.len())];
            let fault = draw_fault(kind, hurt_ms / 2, rng);
            if faults.iter().all(|other| other.kind != fault.kind && !collide(other, &fault)) {
                faults.push(fault);
            }
        }
        faults.sort_by_key(|fault| fault.at);
        Round {
            faults,
            hurt: Duration::from_millis(hurt_ms),
            replicas: rng.random_range(2..=5),
            seed: rng.random(),
        }
    }
}

fn draw_fault(kind: Kind, until_ms: u64, rng: &mut ChaCha8Rng) -> Fault {
    let leaps: &[i64] = if kind == Kind::AgentClock { &[-240, 10_800, 10 * 86_400] } else { &[-240, 10_800] };
    Fault {
        kind,
        victim: match kind {
            Kind::DiskFull => SMALL_DISK,
            _ => rng.random_range(0..if kind.target() == Target::Node { NODES } else { MANAGERS }),
        },
        leader: kind != Kind::DiskFull && rng.random_bool(0.5),
        way: if rng.random_bool(0.5) { Direction::ToHost } else { Direction::FromHost },
        leap_s: leaps[rng.random_range(0..leaps.len())],
        delay: Duration::from_millis(rng.random_range(5..=60)),
        at: Duration::from_millis(rng.random_range(0..=until_ms)),
        lasts: None,
    }
}

/// Two faults of one round hit different things, so that each can be healed by itself.
fn collide(one: &Fault, other: &Fault) -> bool {
    let kinds = (one.kind.target(), other.kind.target());
    match kinds {
        (Target::Manager, Target::Manager) => one.leader == other.leader && one.victim == other.victim,
        (Target::Node, Target::Node) => one.victim == other.victim,
        (Target::Managers, Target::Manager | Target::Managers) | (Target::Manager, Target::Managers) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_drawn_and_a_seed_gives_the_same_round_again() {
        let any = Manner::default();
        let rounds: Vec<Round> = (0..300).map(|seed| Round::draw(seed, &any)).collect();
        for (kind, name) in KINDS {
            assert!(rounds.iter().any(|r| r.faults.iter().any(|fault| fault.kind == kind)), "{name}");
        }
        assert_eq!(rounds[7], Round::draw(7, &any));
        assert!(rounds.iter().all(|round| round.faults.iter().all(|fault| fault.at < round.hurt)));
    }
    #[test]
    fn rounds_of_chosen_kinds_have_many_of_them_and_no_other() {
        let kills = kinds_like("kill");
        assert_eq!(kills.len(), 5, "manager, managers, agent, dockerd, containerd");
        let round = Round::draw(3, &Manner { short: false, only: Some(kills.clone()) });
        assert!(round.faults.len() > 8 && round.faults.iter().all(|fault| kills.contains(&fault.kind)));
        assert!(round.faults.iter().all(|fault| fault.lasts.is_some() && fault.at < round.hurt));
    }
}
