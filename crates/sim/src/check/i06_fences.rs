//! I6: a stale assignment is refused: an agent's fence never goes back, and what comes under a lower one changes nothing.

use std::collections::BTreeSet;

use model::{
    id::TaskId,
    session::{Fence, ManagerMessage},
};

use crate::world::World;

/// The agent before a message.
pub(crate) struct Before {
    fence: Option<Fence>,
    tasks: BTreeSet<TaskId>,
    stale: bool,
}

impl World {
    pub(crate) fn before_message(&mut self, node: usize, message: &ManagerMessage) -> Option<Before> {
        let agent = &self.nodes[node].process.as_ref()?.core;
        let fence = agent.fence();
        let offered = match message {
            ManagerMessage::Welcome { fence, .. } => *fence,
            ManagerMessage::Assign(set) => set.fence,
            _ => return None,
        };
        let stale = fence.is_some_and(|held| offered < held);
        if stale {
            self.checks.count("stale sets offered");
        }
        let agent = &self.nodes[node].process.as_ref()?.core;
        Some(Before { fence, tasks: agent.tasks().map(|(task, _)| task).collect(), stale })
    }

    /// An agent that begins again knows every fence that it has had time to write down.
    pub(crate) fn check_remembered_fence(&mut self, node: usize) {
        let host = &self.nodes[node];
        let fence = host.process.as_ref().and_then(|process| process.core.fence());
        if fence < host.promised {
            let what = format!("n{node} begins again at fence {fence:?}, it had written {:?}", host.promised);
            self.violate("I6", what, vec![format!("n{node}")]);
        }
    }

    pub(crate) fn after_message(&mut self, node: usize, before: Option<Before>) {
        let Some(before) = before else { return };
        let Some(process) = &self.nodes[node].process else { return };
        let fence = process.core.fence();
        let tasks: BTreeSet<TaskId> = process.core.tasks().map(|(task, _)| task).collect();
        let about = vec![format!("n{node}")];
        if fence < before.fence {
            let what = format!("the fence of n{node} went back from {:?} to {fence:?}", before.fence);
            self.violate("I6", what, about);
        } else if before.stale && (tasks != before.tasks || fence != before.fence) {
            self.violate("I6", format!("n{node} followed a set below its fence {fence:?}"), about);
        }
    }
}
