//! I17: a leap of a wall clock moves no deadline: what the leader stamps entries with goes on at the pace of time.

use store::Store;

use crate::{
    queue::{SEC, Time},
    world::World,
};

/// Beyond a tenth more than the time that passed: the first entry seen may have waited so long for its commit.
const SLACK: Time = 15 * SEC;

/// Where the stamps of the present lead began.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    /// The newest stamp of the leads before, once something was seen in this one.
    before: Option<u64>,
    /// The first stamp of this lead, and when it was seen.
    first: Option<(Time, u64)>,
}

impl Stamps {
    /// A new leader may begin at its own wall clock.
    pub(crate) fn leader_began(&mut self) {
        *self = Self::default();
    }
}

impl World {
    pub(crate) fn check_stamps(&mut self, store: &Store) {
        let (now, stamp) = (self.now(), store.time().0);
        let stamps = &mut self.checks.stamps;
        if *stamps.before.get_or_insert(stamp) == stamp {
            return;
        }
        let (since, first) = *stamps.first.get_or_insert((now, stamp));
        let passed = now - since;
        let most = (passed + passed / 10 + SLACK) / 1_000;
        if stamp > first + most {
            let what = format!(
                "the cluster's time went on by {} ms in {} ms",
                (stamp - first) / 1_000,
                passed / crate::queue::MS
            );
            self.violate("I17", what, vec!["leader".to_owned(), "JumpClock".to_owned()]);
        }
    }
}
