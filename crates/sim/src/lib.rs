//! A whole cluster on one thread: the real manager and agent cores on simulated hosts, disks, engines and networks.
//!
//! In: a seed. Out: a [`Report`], the same for the same seed to the last bit. A [`World`] lives through two phases: faults
//! of every kind while operators work, then everything is healed and the cluster must converge. After every step, and at
//! the end, `check` looks for a broken invariant. Not here: sockets, real files, real time; the daemons' shells.
//!
//! Read in this order: [`World`] in `world.rs`, `knobs`, `queue`, `dice`, `clock`, `network`; the hosts `manager`, `disk`,
//! `agent`, `engine`, `router`; what they do, `manager_side`, `disk_side`, `agent_side`, `engine_side`, `router_side`; the people, `workload`, `deployers`, `guests`, `pipelines`, `exchanges`, `logins`, `jobs`, `client`,
//! `client_side`, `history`; `setup`, `faults`, `disk_faults`; then `check` and its invariants. `case` is one world to live through, `fleet`
//! many, `gate` those with a planted bug; `shrink` makes a broken one small by what it `skip`s; `main.rs` is the command line.

mod agent;
mod agent_side;
mod case;
mod check;
mod client;
mod client_side;
mod clock;
mod deployers;
mod dice;
mod disk;
mod disk_faults;
mod disk_side;
mod engine;
mod engine_side;
mod exchanges;
mod faults;
mod fleet;
#[cfg(feature = "bugs")]
mod gate;
mod guests;
mod history;
mod jobs;
mod knobs;
mod logins;
mod manager;
mod manager_side;
mod network;
mod pipelines;
mod policies;
mod queue;
mod report;
mod rotations;
mod router;
mod router_side;
mod secrets;
mod setup;
mod shrink;
mod skip;
mod trace;
mod versions;
mod workload;
mod world;

pub use case::Case;
pub use fleet::{Fleet, Sum};
#[cfg(feature = "bugs")]
pub use gate::{Caught, Gate, Table};
pub use knobs::{Knobs, Weather};
pub use report::{Outcome, Report, Violation};
pub use shrink::{Shrunk, Size, shrink};
pub use skip::{Drawn, Item, Skip};
pub use world::World;

/// What a person types to live through a world again.
pub fn replay_command(case: &Case) -> String {
    let (seed, knobs) = (case.seed, &case.knobs);
    let command = case.bug.map_or("sim".to_owned(), |bug| format!("planted-bugs --bug {bug}"));
    let nodes = match knobs.nodes {
        nodes if nodes == Knobs::of_seed(seed).nodes => String::new(),
        nodes => format!(" --nodes {nodes}"),
    };
    let skip = if knobs.skip.is_empty() { String::new() } else { format!(" --skip {}", knobs.skip) };
    format!("cargo xtask {command} --seed {seed}{nodes}{skip} --trace")
}

/// Lives through the world of a seed. When an invariant breaks, lives through it again with a trace in words.
pub fn check_seed(seed: u64) -> Report {
    check_case(&Case::of_seed(seed))
}

/// As [`check_seed`], through any world.
pub fn check_case(case: &Case) -> Report {
    let seed = case.seed;
    let report = case.live();
    if report.violation().is_none() {
        return report;
    }
    let (traced, _) = case.live_with_trace();
    assert_eq!(report.trace_hash, traced.trace_hash, "seed {seed} took another course the second time");
    traced
}
