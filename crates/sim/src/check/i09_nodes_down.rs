//! I9 and I17: a node is taken for lost only after it was silent for as long as its class allows, counted anew by each
//! leader.

use std::collections::{BTreeMap, VecDeque};

use model::node::NodeState;
use store::Store;

use crate::{
    knobs::Weather,
    queue::{SEC, Time},
    world::World,
};

/// Words of a node that are remembered.
const KEPT: usize = 256;
/// A decision takes less than this from its leader to its commit, or the leader is another one by then.
const WITHIN: Time = 20 * SEC;

/// When each node was heard by a leader, and when leaders began.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    heard: BTreeMap<usize, VecDeque<Time>>,
    begun: VecDeque<Time>,
}

impl Silence {
    pub(crate) fn heard(&mut self, node: usize, now: Time) {
        let times = self.heard.entry(node).or_default();
        times.push_back(now);
        if times.len() > KEPT {
            times.pop_front();
        }
    }

    pub(crate) fn leader_began(&mut self, now: Time) {
        self.begun.push_back(now);
        if self.begun.len() > KEPT {
            self.begun.pop_front();
        }
    }

    /// The longest silence of a node that a leader of late can have seen.
    fn longest(&self, node: usize, now: Time) -> Time {
        // What the leader before the present one decided may be committed by this one.
        let since = self.begun.iter().rev().nth(1).copied().unwrap_or(0).max(now.saturating_sub(WITHIN));
        let heard = self.heard.get(&node).into_iter().flatten();
        let mut times: Vec<Time> =
            heard.chain(&self.begun).copied().filter(|at| *at >= since).chain([since, now]).collect();
        times.sort_unstable();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }
}

impl World {
    /// A leader hears a node: from here its patience counts anew.
    pub(crate) fn node_heard(&mut self, manager: usize, node: usize) {
        let now = self.now();
        // One that stood still may believe that it leads, and decides nothing any more.
        if self.checks.leaders.newest() == Some(manager) {
            self.checks.silence.heard(node, now);
        }
    }

    /// Nodes that are taken for lost.
    pub(crate) fn check_nodes_down(&mut self, before: &Store, store: &Store) {
        let now = self.now();
        for number in 0..self.nodes.len() {
            let node = self.nodes[number].node;
            let state = |store: &Store| store.node(node).map(|node| node.state);
            if state(before) != Some(NodeState::Ready) || state(store) != Some(NodeState::Down) {
                continue;
            }
            self.checks.count("nodes down");
            let silence = self.checks.silence.longest(number, now);
            // Clocks drift apart by less than a thousandth.
            let patience = self.knobs.patience.server.as_nanos() as Time / 1_000 * 999;
            if silence < patience || self.knobs.weather == Weather::Calm {
                let invariant = if self.knobs.weather == Weather::Calm { "I17" } else { "I9" };
                let what = format!(
                    "n{number} is taken for lost after a silence of {} ms",
                    silence / crate::queue::MS
                );
                return self.violate(invariant, what, vec![format!("n{number}"), "leader".to_owned()]);
            }
        }
    }
}
