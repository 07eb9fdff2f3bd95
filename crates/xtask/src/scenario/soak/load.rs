//! What goes on all the time: services that crash on every node, and an operator who scales and updates others.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tests::{
    cluster::Cluster,
    image::{MIMIC_1, MIMIC_2},
    wait,
};

use super::hollow;

/// On every node; its initialisation fails after half a second, and its pauses grow to a few seconds only.
pub const CRASHING: &str = "crashing";
/// On the simulated nodes.
const FLEET: &str = "fleet";
/// On the nodes with engines.
const BUSY: &str = "busy";
/// Between two changes.
const REST: Duration = Duration::from_secs(3);

/// Declares the services.
///
/// # Errors
/// They are refused.
pub fn declare(cluster: &Cluster, simulated: usize) -> Result<()> {
    let create = |name: &str, more: &[&str]| {
        let args = [&["service", "create", "--detach", "--quiet", "--name", name], more].concat();
        cluster.ctl().ok(&args).map(drop)
    };
    let crash = ["--env", "MIMIC_FAIL_INIT=1", "--env", "MIMIC_START_MS=500", "--restart-max-delay", "20s"];
    create(CRASHING, &[&["--mode", "global"], &crash[..], &[MIMIC_1]].concat())?;
    let [on, off] = ["==", "!="].map(|is| format!("engine.labels.{}{is}yes", hollow::LABEL));
    let replicas = simulated.to_string();
    let many = ["--constraint", &on, "--replicas", &replicas, "--update-parallelism", "20"];
    create(FLEET, &[&many[..], &["--update-monitor", "1s", MIMIC_1]].concat())?;
    create(BUSY, &["--constraint", &off, "--replicas", "2", "--restart-delay", "0s", MIMIC_1])
}

/// Scales and updates until `stop`; says how many changes were accepted.
///
/// # Errors
/// One was refused, although nothing is broken.
pub fn change(cluster: &Cluster, simulated: usize, stop: &AtomicBool) -> Result<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut accepted = 0;
    while !stop.load(Ordering::Relaxed) {
        let fleet = simulated.max(2);
        let wish = match rng.random_bool(0.5) {
            true => format!("{FLEET}={}", rng.random_range(fleet / 2..=fleet)),
            false => format!("{BUSY}={}", rng.random_range(1..=4)),
        };
        let image = if rng.random_bool(0.5) { MIMIC_1 } else { MIMIC_2 };
        let which = if rng.random_bool(0.3) { FLEET } else { BUSY };
        if rng.random_bool(0.8) {
            cluster.ctl().ok(&["scale", &wish, "--detach"])?;
        } else {
            cluster.ctl().ok(&["service", "update", "--image", image, which, "--detach"])?;
        }
        accepted += 1;
        drop(wait::until_true("the next change", REST, || stop.load(Ordering::Relaxed)));
    }
    Ok(accepted)
}
