//! A whole cluster on one thread: the real manager and agent cores on simulated hosts, disks, engines and networks.
//!
//! In: a seed. Out: a [`Report`], the same for the same seed to the last bit. A [`World`] lives through two phases: faults
//! of every kind while operators work, then everything is healed and the cluster must converge. After every step, and at
//! the end, `check` looks for a broken invariant. Not here: sockets, real files, real time; the daemons' shells.
//!
//! Read in this order: [`World`] in `world.rs`, `knobs`, `queue`, `dice`, `clock`, `network`; the hosts `manager`, `disk`,
//! `agent`, `engine`; what they do, `manager_side`, `disk_side`, `agent_side`, `engine_side`; the people, `workload`, `client`,
//! `client_side`, `history`; `setup`, `faults`, `disk_faults`; then `check` and its invariants. `case` is one world to live through, `fleet`
//! many, `gate` those with a planted bug; `main.rs` is the command line.

mod agent;
mod agent_side;
mod case;
mod check;
mod client;
mod client_side;
mod clock;
mod dice;
mod disk;
mod disk_faults;
mod disk_side;
mod engine;
mod engine_side;
mod faults;
mod fleet;
#[cfg(feature = "bugs")]
mod gate;
mod history;
mod knobs;
mod manager;
mod manager_side;
mod network;
mod queue;
mod report;
mod setup;
mod trace;
mod workload;
mod world;

pub use case::Case;
pub use fleet::{Fleet, Sum};
#[cfg(feature = "bugs")]
pub use gate::{Caught, Gate, Table};
pub use knobs::{Knobs, Weather};
pub use report::{Outcome, Report, Violation};
pub use world::World;

/// What a person types to live through a seed's world again.
pub fn replay_command(seed: u64) -> String {
    format!("cargo xtask sim --seed {seed} --trace")
}

/// Lives through the world of a seed. When an invariant breaks, lives through it again with a trace in words.
pub fn check_seed(seed: u64) -> Report {
    let case = Case::of_seed(seed);
    let report = case.live();
    if report.violation().is_none() {
        return report;
    }
    let (traced, _) = case.live_with_trace();
    assert_eq!(report.trace_hash, traced.trace_hash, "seed {seed} took another course the second time");
    traced
}
