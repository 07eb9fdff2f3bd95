//! Freezes: times in which nodes are left alone, such as beam time.
//!
//! While a window of a freeze is open, no voluntary change touches its nodes: a rollout leaves their replicas as they are until the window
//! ends, a deployment and a drain are refused, unless somebody says why not. Crashes are healed all the same.
//!
//! Windows are points in the cluster's time. Whoever declares "every Monday at eight, in Grenoble" has that spelt out by `orchctl`, so that
//! no manager needs to know time zones, and all of them decide alike.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{identity::Identity, node::Node, time::ClusterTime};

/// Freezes of a cluster at most.
pub const MAX_FREEZES: usize = 64;
/// Windows of one freeze at most: a year of weeks, and some.
pub const MAX_WINDOWS: usize = 200;

/// One window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Window {
    /// Its first moment.
    pub from: ClusterTime,
    /// The first moment after it.
    pub until: ClusterTime,
}

impl Window {
    /// Whether it is open.
    pub fn is_open(&self, now: ClusterTime) -> bool {
        self.from <= now && now < self.until
    }
}

/// What a user declares.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FreezeSpec {
    /// Unique in the cluster: a DNS label.
    pub name: String,
    /// Nodes that have all these labels; every node when there is none.
    pub nodes: BTreeMap<String, String>,
    /// When, in order. They may overlap.
    pub windows: Vec<Window>,
    /// Why, for whoever is refused.
    pub reason: String,
}

/// A freeze as the cluster keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// The declaration.
    pub spec: FreezeSpec,
    /// Who declared it.
    pub by: Identity,
    /// When.
    pub set: ClusterTime,
}

impl Freeze {
    /// Whether it is about a node.
    pub fn covers(&self, node: &Node) -> bool {
        self.spec.nodes.iter().all(|(key, value)| node.spec.labels.get(key) == Some(value))
    }

    /// When the window that is open now ends; one that begins before it ends goes on.
    pub fn open_until(&self, now: ClusterTime) -> Option<ClusterTime> {
        let open = |at: ClusterTime| {
            let windows = self.spec.windows.iter().filter(|window| window.is_open(at));
            windows.map(|window| window.until).max()
        };
        let mut end = open(now)?;
        while let Some(later) = open(end) {
            end = later;
        }
        Some(end)
    }

    /// The next window that is not open yet.
    pub fn next(&self, now: ClusterTime) -> Option<Window> {
        self.spec.windows.iter().filter(|window| window.from > now).min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freeze(windows: &[(u64, u64)]) -> Freeze {
        let window =
            |(from, until): &(u64, u64)| Window { from: ClusterTime(*from), until: ClusterTime(*until) };
        let spec = FreezeSpec { windows: windows.iter().map(window).collect(), ..FreezeSpec::default() };
        Freeze { spec, by: Identity::Anonymous, set: ClusterTime(0) }
    }

    #[test]
    fn windows_that_touch_or_overlap_are_one() {
        let freeze = freeze(&[(10, 20), (20, 30), (25, 40), (50, 60)]);
        let until = |now| freeze.open_until(ClusterTime(now)).map(|at| at.0);
        assert_eq!(
            [9, 10, 19, 20, 39, 40, 55, 60].map(until),
            [None, Some(40), Some(40), Some(40), Some(40), None, Some(60), None]
        );
        assert_eq!(freeze.next(ClusterTime(15)).map(|window| window.from.0), Some(20));
        assert_eq!(freeze.next(ClusterTime(50)), None);
    }
}
