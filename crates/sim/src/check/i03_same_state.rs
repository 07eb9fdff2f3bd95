//! I3: an equal applied index means an equal state on all managers.

use std::collections::BTreeMap;

use store::Store;

use crate::world::World;

/// Indices kept; a member that is further behind is compared when it has caught up.
const KEPT: usize = 4_096;
/// The whole state is checked every so many indices.
const CHECK_EVERY: u64 = 32;

/// The hashes seen.
#[derive(Debug, Default)]
pub(crate) struct Hashes {
    by_index: BTreeMap<u64, (u64, usize)>,
    seen: BTreeMap<usize, u64>,
}

impl Hashes {
    /// Whether the manager has applied something since it was last looked at.
    pub(crate) fn is_news(&mut self, manager: usize, applied: u64) -> bool {
        self.seen.insert(manager, applied) != Some(applied)
    }

    pub(crate) fn forget(&mut self, manager: usize) {
        self.seen.remove(&manager);
    }
}

impl World {
    pub(crate) fn check_same_state(&mut self, manager: usize, store: &Store) {
        let (applied, hash) = (store.applied(), store.hash());
        let hashes = &mut self.checks.hashes.by_index;
        let (first, other) = *hashes.entry(applied).or_insert((hash, manager));
        if hashes.len() > KEPT {
            hashes.pop_first();
        }
        if other != manager {
            self.checks.count("states compared");
        }
        if first != hash {
            let what = format!("m{other} and m{manager} differ at index {applied}");
            self.violate("I3", what, vec![format!("m{other}"), format!("m{manager}")]);
        }
        if applied.is_multiple_of(CHECK_EVERY)
            && let Err(error) = store.check()
        {
            self.violate("I3", format!("m{manager} at {applied}: {error}"), vec![format!("m{manager}")]);
        }
    }
}
