//! Versions of the software side by side: in some worlds everything begins with an older one, and whatever starts again may be a
//! newer one by then.
//!
//! An older program is the present one without what it did not have: it speaks the agents' conversation up to version 1, so that
//! nobody may say anything of version 2 to it or expect it of it; and a newer manager's state has a field that an older one
//! does not know, so that their hashes differ at every entry. Not modelled: entries of the log that an older program cannot read, because
//! no operator of these worlds uses what is new.

use model::session::{AgentMessage, ManagerMessage, PROTOCOL};

use crate::{
    dice::Dice,
    world::{Phase, World},
};

/// In worlds of one version.
pub(crate) const USUAL: &str = "sim";
const OLDER: &str = "sim-1";
const NEWER: &str = "sim-2";
/// Of a thousand starts of an older program so many are upgrades.
const UPGRADES: u32 = 400;

/// Who is upgraded when.
pub(crate) struct Versions {
    mixed: bool,
    dice: Dice,
}

impl Versions {
    pub(crate) fn new(mixed: bool, dice: Dice) -> Self {
        Self { mixed, dice }
    }
}

/// The newest version of the agents' conversation that a program speaks.
fn protocol(version: &str) -> u32 {
    if version == OLDER { 1 } else { PROTOCOL }
}

/// Whether a program keeps secrets for containers.
pub(crate) fn keeps_files(version: &str) -> bool {
    protocol(version) >= 4
}

impl World {
    /// The program of a process that starts, where the last one was of `version`.
    pub(crate) fn upgraded(&mut self, version: &'static str) -> &'static str {
        if !self.versions.mixed {
            return USUAL;
        }
        if self.phase == Phase::Setup {
            return OLDER;
        }
        if version == OLDER && self.versions.dice.permille(UPGRADES) {
            self.checks.count("programs upgraded");
            return NEWER;
        }
        version
    }

    /// An older program, at either end, offers no more than it knows.
    pub(crate) fn as_offered(&self, node: usize, manager: usize, message: &mut AgentMessage) {
        if let AgentMessage::Hello { protocol, .. } = message {
            *protocol = (*protocol).min(self.protocol_between(node, manager));
        }
    }

    /// A manager says nothing that the agent, or it itself, does not know.
    pub(crate) fn check_protocol(&mut self, node: usize, manager: usize, message: &ManagerMessage) {
        let between = self.protocol_between(node, manager);
        if matches!(message, ManagerMessage::Routes(_)) && between < 2 {
            let what = format!("m{manager} tells n{node} of routes, which one of them does not know");
            self.violate("protocol", what, vec![format!("n{node}")]);
        }
        let of_pulls = matches!(
            message,
            ManagerMessage::PullGranted { .. } | ManagerMessage::PullQueued { .. } | ManagerMessage::Fetch(_)
        );
        if matches!(message, ManagerMessage::Authority { .. }) && between < 6 {
            let what = format!("m{manager} tells n{node} of the authority, which one of them does not know");
            self.violate("protocol", what, vec![format!("n{node}")]);
        }
        if matches!(message, ManagerMessage::Files { .. }) && between < 4 {
            let what = format!("m{manager} tells n{node} of secrets, which one of them does not know");
            self.violate("protocol", what, vec![format!("n{node}")]);
        }
        if of_pulls && between < 3 {
            let what = format!("m{manager} tells n{node} of pulls, which one of them does not know");
            self.violate("protocol", what, vec![format!("n{node}")]);
        }
    }

    fn protocol_between(&self, node: usize, manager: usize) -> u32 {
        protocol(self.nodes[node].version).min(protocol(self.managers[manager].version))
    }
}
