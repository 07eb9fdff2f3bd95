//! A manager's disk that fails, fills up or decays, and what the host does about it: what the daemon does, by the same rules
//! where they are a choice ([`wal::OpenError::is_loss`], [`manager_core::replace`]).

use manager_core::{
    Event as Input, SpaceState,
    replace::{Successor, may_pass},
};
use model::{
    identity::Identity,
    request::{ApiError, ErrorCode, Reply, Request, Response},
};

use crate::{
    client::Purpose,
    disk::DiskError,
    faults::Fault,
    queue::{MS, SEC},
    rotations::Holder,
    workload::Wish,
    world::{Event, ManagerInput, World},
};

/// How often a disk that was full is looked at; the daemon's pause.
const LOOK_FOR_ROOM: u64 = SEC;
/// Of a thousand answers to a manager that lost its log so many are lost with the process, before they are on its disk.
const ANSWER_LOST: u32 = 300;

impl World {
    /// The log cannot go on: the process must end. After a fault of the disk that is right; otherwise it is a defect.
    pub(crate) fn disk_failed(&mut self, manager: usize, error: &DiskError) {
        let full = matches!(error, DiskError::Full(_)) && self.faults.is_full(manager);
        if full {
            self.checks.count("managers ended by a full disk");
        } else if !self.faults.take_disk_fault(manager) {
            let what = format!("m{manager} cannot write its log: {error:?}");
            self.violate("disk", what, vec![format!("m{manager}")]);
        }
        self.crash_manager(manager, "its disk failed");
        let pause = self.dice.millis(500, 2_000);
        self.queue.after(pause, Event::Undo(Fault::CrashManager(manager)));
    }

    /// The log could not be opened.
    pub(crate) fn not_started(&mut self, manager: usize, error: &DiskError) {
        let at = self.now();
        self.trace.fault(at, || format!("m{manager} does not start: {error:?}"));
        self.managers[manager].disk.kill();
        match error {
            DiskError::Lost(_) if self.faults.is_rotten(manager) => {
                self.checks.count("damaged logs refused");
                self.log_lost(manager);
            }
            DiskError::Full(_) if self.faults.is_full(manager) => self.start_later(manager),
            // The disk failed while the log was opened; its supervisor tries again.
            _ if self.faults.take_disk_fault(manager) => self.start_later(manager),
            _ => {
                let what = format!("m{manager} does not start: {error:?}");
                self.violate("I1", what, vec![format!("m{manager}")]);
            }
        }
    }

    fn start_later(&mut self, manager: usize) {
        self.queue.after(500 * MS, Event::Undo(Fault::CrashManager(manager)));
    }

    /// The only manager is restored from a backup, which nothing was written behind; any other asks its peers for a new id.
    fn log_lost(&mut self, manager: usize) {
        if let Some(backup) = self.managers[manager].backup.take() {
            self.managers[manager].disk = backup;
            self.faults.forget_disk(manager);
            return self.start_later(manager);
        }
        self.managers[manager].replacing = true;
        self.ask_for_successor(manager);
    }

    fn ask_for_successor(&mut self, manager: usize) {
        let host = &self.managers[manager];
        let identity = Identity::Manager(host.member);
        let csr = crate::setup::CSR.to_owned();
        let request = Request::ReplaceMember { address: host.address.clone(), csr };
        self.submit(Purpose::ReplaceManager(manager), identity, Wish { request, on: None });
    }

    /// Nobody admitted it: it ends, and its supervisor has it ask again, unless a person took it out.
    pub(crate) fn not_replaced(&mut self, manager: usize, error: &ApiError) {
        if may_pass(error) || error.code == ErrorCode::Conflict {
            let pause = self.dice.millis(500, 2_000);
            self.queue.after(pause, Event::AskAgain { manager });
            return;
        }
        self.managers[manager].replacing = false;
        self.manager_removed(manager);
    }

    /// It asks again, as after its restart.
    pub(crate) fn ask_again(&mut self, manager: usize) {
        if self.managers[manager].replacing {
            self.ask_for_successor(manager);
        }
    }

    /// The answer of the leader: it is another member from now on.
    pub(crate) fn replaced(&mut self, manager: usize, answer: Response) {
        if self.dice.permille(ANSWER_LOST) {
            self.queue.after(500 * MS, Event::AskAgain { manager });
            return;
        }
        self.joined(Holder::Manager(manager), &answer);
        let former = self.managers[manager].member;
        let Some(successor) = Successor::from_answer(former, answer) else {
            let what = format!("m{manager} was answered something else than a new id");
            return self.violate("disk", what, vec![format!("m{manager}")]);
        };
        self.checks.count("managers replaced");
        self.managers[manager].begin_anew(successor.member, successor.seeds);
        self.faults.forget_disk(manager);
        self.start_manager(manager);
    }

    /// After a write, and again and again while there is little room: is there more, or less?
    pub(crate) fn look_at_space(&mut self, manager: usize) {
        let Some(process) = self.managers[manager].process.as_mut() else { return };
        let changed = process.writer.look_at_space();
        let enough = process.writer.space() == SpaceState::Enough;
        if enough {
            process.while_full.clear();
        } else if !std::mem::replace(&mut process.looks_for_room, true) {
            self.later_manager(manager, LOOK_FOR_ROOM, ManagerInput::LookForRoom);
        }
        if let Some(space) = changed {
            self.checks.count(if enough { "disks with room again" } else { "disks with little room" });
            self.tell_manager(manager, Input::Space(space));
        }
    }

    pub(crate) fn look_for_room(&mut self, manager: usize) {
        let Some(process) = self.managers[manager].process.as_mut() else { return };
        process.looks_for_room = false;
        match process.writer.look_for_room() {
            Ok(()) => self.look_at_space(manager),
            Err(error) => self.disk_failed(manager, &error),
        }
    }

    /// A change reaches a manager that knows that its disk is full.
    pub(crate) fn note_change_on_full_disk(&mut self, manager: usize, request: &Request) {
        let Some(process) = self.managers[manager].process.as_mut() else { return };
        let change = !request.is_read() && !matches!(request, Request::TransferLeader { .. });
        if change && process.writer.space() != SpaceState::Enough {
            process.while_full.insert(process.next_handle + 1);
        }
    }

    /// On a full disk reads are answered, and changes are not made.
    pub(crate) fn check_reply_on_full_disk(
        &mut self,
        manager: usize,
        handle: u64,
        result: &Result<Reply, ApiError>,
    ) {
        let Some(process) = self.managers[manager].process.as_mut() else { return };
        if process.writer.space() == SpaceState::Enough {
            return;
        }
        match (process.while_full.remove(&handle), result) {
            (true, Ok(_)) => {
                let what = format!("m{manager} made a change although it knew that its disk is full");
                self.violate("disk", what, vec![format!("m{manager}")]);
            }
            (true, Err(error)) if error.code == ErrorCode::Exhausted => {
                self.checks.count("changes refused on a full disk");
            }
            (false, Ok(_)) => self.checks.count("answers on a full disk"),
            (_, Err(_)) => {}
        }
    }
}
