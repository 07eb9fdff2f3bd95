//! An operator who scales and updates the busy service all the time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tests::image::{MIMIC_CHECKED, MIMIC_CHECKED_2};
use tests::{meanwhile, wait};

use super::site::{BUSY, Site};

/// Between two changes.
const REST: Duration = Duration::from_secs(3);
/// The last change of a round has to be accepted within this time after everything was healed.
const LAST: Duration = Duration::from_secs(60);

/// What it does.
pub struct Operator<'a> {
    site: &'a Site,
    seed: u64,
    stop: AtomicBool,
    accepted: AtomicUsize,
}

impl<'a> Operator<'a> {
    /// One that has done nothing yet.
    pub fn new(site: &'a Site, seed: u64) -> Operator<'a> {
        Operator { site, seed, stop: AtomicBool::new(false), accepted: AtomicUsize::new(0) }
    }

    /// Changes the service while `work` runs.
    pub fn while_running<T>(&self, work: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            scope.spawn(|| self.work());
            meanwhile::work(&self.stop, work)
        })
    }

    /// How many of its changes were accepted.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Declares what the round ends with, again and again until it is accepted.
    ///
    /// # Errors
    /// Nobody accepts it although everything is healed.
    pub fn settle(&self, replicas: u32) -> Result<()> {
        let wish = format!("{BUSY}={replicas}");
        let args = ["scale", &wish, "--detach"];
        self.site.cluster.ask("the last change to be accepted", LAST, || {
            (self.site.cluster.ctl().say(&args).code == 0).then_some(())
        })
    }

    fn work(&self) {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        while !self.stop.load(Ordering::Relaxed) {
            let replicas = format!("{BUSY}={}", rng.random_range(1..=5));
            let image = if rng.random_bool(0.5) { MIMIC_CHECKED } else { MIMIC_CHECKED_2 };
            let scale = ["scale", &replicas, "--detach", "--timeout", "5s"];
            let update = ["service", "update", "--image", image, BUSY, "--detach", "--timeout", "5s"];
            let args: &[&str] = if rng.random_bool(0.7) { &scale } else { &update };
            if self.site.cluster.ctl().say(args).code == 0 {
                self.accepted.fetch_add(1, Ordering::Relaxed);
            }
            drop(wait::until_true("the end", REST, || self.stop.load(Ordering::Relaxed)));
        }
    }
}
