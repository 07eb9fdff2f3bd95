//! Which disks may fill up or decay, and how they decay. A decay is bounded: of everything acknowledged a good copy remains.

use std::collections::BTreeSet;

use model::id::MemberId;
use wal::Disk as _;

use crate::{faults::Fault, manager::ManagerHost, world::World};

impl World {
    /// A fault of a manager's disk, where this world has them.
    pub(crate) fn disk_fault(&mut self) -> Option<Fault> {
        self.look_at_voters();
        let managers = self.managers.len();
        let (chance, segment) = (self.knobs.disk_faults, self.knobs.segment_bytes);
        let dice = &mut self.faults.special_dice;
        if !dice.permille(chance) {
            return None;
        }
        let (manager, kind) = (dice.below(managers), dice.range(0, 9));
        let room = dice.range(0, 2 * segment);
        let fault = match kind {
            0..5 => Fault::FillDisk(manager, room),
            5..8 => Fault::RotDisk(manager),
            _ if managers == 1 => Fault::RotDisk(manager),
            _ => Fault::LoseLog(manager),
        };
        let spoils = !matches!(fault, Fault::FillDisk(..));
        Some(if spoils && !self.may_spoil(manager) { Fault::FillDisk(manager, room) } else { fault })
    }

    /// Looks whether all managers vote, by what each of them knows.
    pub(crate) fn look_at_voters(&mut self) {
        let members: BTreeSet<MemberId> = self.managers.iter().map(|host| host.member).collect();
        let votes = |host: &ManagerHost| {
            let status = host.process.as_ref().map(|process| process.core.status());
            status.filter(|status| status.membership.voters == members && !status.membership.is_joint())
        };
        let standings: Option<Vec<_>> = self.managers.iter().map(votes).collect();
        let newest = standings.and_then(|all| all.iter().map(|status| status.committed).max());
        match (newest, &self.faults.settled) {
            (None, _) => self.faults.settled = None,
            (Some(_), Some((known, _))) if *known == members => {}
            (Some(newest), _) => self.faults.settled = Some((members, newest)),
        }
    }

    /// Whether the others still are a majority with whole disks, all of them voters, when this one's is spoiled: what was
    /// acknowledged has a good copy then. (A cluster of one has its backup.)
    ///
    /// All must know so from their own disks: to one that comes back in the middle of a change of members, a voter that
    /// was replaced counts still, and with another one lost nobody could lead.
    fn may_spoil(&self, manager: usize) -> bool {
        let all = self.managers.len();
        let spoiled = self.faults.rotten_disks.iter().filter(|other| **other != manager).count() + 1;
        let bounded = if all == 1 { spoiled == 1 } else { spoiled <= (all - 1) / 2 };
        let settled = self.faults.settled.as_ref();
        let known = |since: u64| self.managers.iter().all(|host| host.commits[2] >= since);
        bounded && settled.is_some_and(|(_, since)| known(*since))
    }

    /// Flips some bits where something was written.
    pub(crate) fn rot_disk(&mut self, manager: usize) {
        self.crash_manager(manager, "and its disk decays");
        let host = &mut self.managers[manager];
        self.faults.rotten_disks.insert(manager);
        if self.knobs.managers == 1 {
            host.backup = Some(host.disk.fork());
        }
        let names = host.disk.list().unwrap_or_default();
        let names: Vec<String> = names.into_iter().filter(|name| name != wal::RESERVE_FILE).collect();
        let dice = &mut self.faults.special_dice;
        let Some(name) = dice.pick(&names) else { return };
        let written = host.disk.contents(name).unwrap_or_default();
        let Some(last) = written.iter().rposition(|byte| *byte != 0) else { return };
        for _ in 0..dice.range(1, 3) {
            host.disk.flip_bit(name, dice.range(0, 8 * last as u64 + 7));
        }
    }
}
