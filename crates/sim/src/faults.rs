//! What goes wrong: crashes, pauses, cuts, disks that are slow, fail, fill up or decay, engines that restart or hang, clocks
//! that jump; each ends again.

use std::collections::{BTreeMap, BTreeSet};

use model::id::MemberId;

use crate::{
    dice::Dice,
    engine::Power,
    knobs::Weather,
    network::HostId,
    queue::{MS, SEC, Time},
    skip::Item,
    world::{AgentInput, Event, Phase, World},
};

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    CrashManager(usize),
    CrashManagerMidStep(usize),
    CrashAllManagers,
    PauseManager(usize),
    StopClock(usize),
    FailSync(usize),
    SlowDisk(usize),
    /// No more room than this many bytes beyond what is there.
    FillDisk(usize, u64),
    /// The manager ends; when it starts again, some bits of its log or snapshot have changed.
    RotDisk(usize),
    /// The manager ends; when it starts again, its log is gone.
    LoseLog(usize),
    CrashAgent(usize),
    CrashAgentMidStep(usize),
    PauseAgent(usize),
    RestartAgent(usize),
    LoseLedger(usize),
    Reboot(usize),
    RestartEngine(usize),
    HangEngine(usize),
    BreakStream(usize),
    CrashContainer(usize),
    ReplayToAgent(usize),
    StopRegistry,
    /// Cut off from every other host.
    Isolate(HostId),
    /// One direction only.
    CutOneWay(HostId, HostId),
    /// Everything outside this set from everything in it.
    Split(Vec<HostId>),
    SlowLink(HostId, HostId),
    JumpClock(HostId),
}

/// What was drawn for a fault beside its kind and its victim.
struct Details {
    lasts: Time,
    number: u64,
    leap: i64,
    container: Option<String>,
}

/// What the faults remember.
pub(crate) struct Faults {
    dice: Dice,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    pub(crate) until: Time,
    pub(crate) healed_at: Option<Time>,
    /// The last fault that touched managers or their links.
    pub(crate) managers_disturbed: Time,
    slow_disks: BTreeMap<usize, Time>,
    failing_disks: BTreeSet<usize>,
    full_disks: BTreeSet<usize>,
    /// Disks on which something is wrong that no copy of it may share.
    pub(crate) rotten_disks: BTreeSet<usize>,
    /// Faults so far, those left out included.
    pub(crate) drawn: u32,
    /// Who the members were when all of them last were known to vote, and how far the log was committed at the first such
    /// look.
    pub(crate) settled: Option<(BTreeSet<MemberId>, u64)>,
    /// For the faults that only some worlds have; a stream of its own, so that the others take the course that they
    /// always took.
    pub(crate) special_dice: Dice,
}

impl Faults {
    pub(crate) fn new(dice: Dice, special_dice: Dice) -> Self {
        Self {
            dice,
            special_dice,
            settled: None,
            drawn: 0,
            counts: BTreeMap::new(),
            until: 0,
            healed_at: None,
            managers_disturbed: 0,
            slow_disks: BTreeMap::new(),
            failing_disks: BTreeSet::new(),
            full_disks: BTreeSet::new(),
            rotten_disks: BTreeSet::new(),
        }
    }

    fn choose(&mut self, managers: usize, nodes: usize) -> Fault {
        let dice = &mut self.dice;
        let (manager, node) = (dice.below(managers), dice.below(nodes));
        let (host, other) = (dice.below(managers + nodes), dice.below(managers + nodes));
        match dice.range(0, 99) {
            0..9 => Fault::CrashManager(manager),
            9..15 => Fault::CrashManagerMidStep(manager),
            15..18 => Fault::CrashAllManagers,
            18..22 => Fault::PauseManager(manager),
            22..24 => Fault::StopClock(manager),
            24..26 => Fault::FailSync(manager),
            26..29 => Fault::SlowDisk(manager),
            29..36 => Fault::CrashAgent(node),
            36..42 => Fault::CrashAgentMidStep(node),
            42..46 => Fault::PauseAgent(node),
            46..49 => Fault::RestartAgent(node),
            49..51 => Fault::LoseLedger(node),
            51..55 => Fault::Reboot(node),
            55..61 => Fault::RestartEngine(node),
            61..64 => Fault::HangEngine(node),
            64..67 => Fault::BreakStream(node),
            67..76 => Fault::CrashContainer(node),
            76..78 => Fault::StopRegistry,
            78..84 => Fault::Isolate(host),
            84..89 => Fault::CutOneWay(host, other),
            89..93 => Fault::Split((0..managers + nodes).filter(|_| dice.permille(400)).collect()),
            93..96 => Fault::SlowLink(host, other),
            96..98 => Fault::ReplayToAgent(node),
            _ => Fault::JumpClock(host),
        }
    }

    /// How much slower a manager's disk is now.
    pub(crate) fn slow_disk(&mut self, manager: usize, now: Time) -> Time {
        match self.slow_disks.get(&manager) {
            Some(until) if *until > now => self.dice.millis(50, 900),
            _ => 0,
        }
    }

    /// Whether a failure of this disk was put there by a fault.
    pub(crate) fn take_disk_fault(&mut self, manager: usize) -> bool {
        self.failing_disks.remove(&manager)
    }

    /// The disk has, or lately had, no more room.
    pub(crate) fn is_full(&self, manager: usize) -> bool {
        self.full_disks.contains(&manager)
    }

    /// Something on this disk has decayed.
    pub(crate) fn is_rotten(&self, manager: usize) -> bool {
        self.rotten_disks.contains(&manager)
    }

    /// The host has another disk now.
    pub(crate) fn forget_disk(&mut self, manager: usize) {
        self.rotten_disks.remove(&manager);
        self.full_disks.remove(&manager);
    }
}

/// By how much a wall clock leaps, in microseconds: seconds or days, either way.
fn leap(dice: &mut Dice) -> i64 {
    match dice.range(0, 3) {
        0 => dice.range(0, 10_000_000) as i64,
        1 => -(dice.range(0, 10_000_000) as i64),
        2 => dice.range(0, 172_800_000_000) as i64,
        _ => -(dice.range(0, 172_800_000_000) as i64),
    }
}

fn kind(fault: &Fault) -> &'static str {
    match fault {
        Fault::CrashManager(_) => "manager crashed",
        Fault::CrashManagerMidStep(_) => "manager crashed mid-step",
        Fault::CrashAllManagers => "all managers crashed",
        Fault::PauseManager(_) => "manager paused",
        Fault::StopClock(_) => "clock stood still, cut off",
        Fault::FailSync(_) => "sync failed",
        Fault::SlowDisk(_) => "disk slow",
        Fault::FillDisk(..) => "disk full",
        Fault::RotDisk(_) => "log decayed",
        Fault::LoseLog(_) => "log lost",
        Fault::CrashAgent(_) => "agent crashed",
        Fault::CrashAgentMidStep(_) => "agent crashed mid-step",
        Fault::PauseAgent(_) => "agent paused",
        Fault::RestartAgent(_) => "agent restarted",
        Fault::LoseLedger(_) => "ledger lost",
        Fault::Reboot(_) => "node rebooted",
        Fault::RestartEngine(_) => "engine restarted",
        Fault::HangEngine(_) => "engine hung",
        Fault::BreakStream(_) => "event stream broken",
        Fault::CrashContainer(_) => "container crashed",
        Fault::ReplayToAgent(_) => "old message replayed",
        Fault::StopRegistry => "registry stopped",
        Fault::Isolate(_) => "host isolated",
        Fault::CutOneWay(..) => "link cut one way",
        Fault::Split(_) => "network split",
        Fault::SlowLink(..) => "link slow",
        Fault::JumpClock(_) => "wall clock jumped",
    }
}

impl World {
    /// Time for another fault.
    pub(crate) fn next_fault(&mut self) {
        if self.phase != Phase::Storm {
            return;
        }
        let pause = self.faults.dice.millis(1, 2 * self.knobs.fault_every_ms);
        self.queue.after(pause, Event::NextFault);
        let hosts = (self.managers.len(), self.nodes.len());
        let fault = match self.knobs.weather {
            Weather::Rough => {
                let special = self.disk_fault().or_else(|| self.lone_leader());
                special.unwrap_or_else(|| self.faults.choose(hosts.0, hosts.1))
            }
            Weather::Calm => Fault::JumpClock(self.faults.dice.below(hosts.0 + hosts.1)),
        };
        let details = self.details(&fault);
        self.faults.drawn += 1;
        if !self.knobs.skip.contains(Item::Fault(self.faults.drawn)) {
            self.inject(fault, details);
        }
    }

    /// Whoever leads is cut off from the others and does not notice, while clients go on to ask it.
    fn lone_leader(&mut self) -> Option<Fault> {
        let chosen = self.faults.special_dice.permille(self.knobs.lone_leaders);
        self.checks.newest_leader().filter(|_| chosen).map(Fault::StopClock)
    }

    /// Draws what else there is to choose. A fault that is left out draws it too, so that those after it stay the same.
    fn details(&mut self, fault: &Fault) -> Details {
        let now_live = match fault {
            Fault::CrashContainer(node) => self.own_containers(*node),
            _ => Vec::new(),
        };
        let dice = &mut self.faults.dice;
        let lasts = dice.millis(200, 6_000);
        let number = match fault {
            Fault::CrashManagerMidStep(_) => dice.range(0, 12),
            Fault::CrashAgent(_) => u64::from(dice.permille(500)),
            Fault::CrashAgentMidStep(_) => dice.range(0, 8),
            Fault::ReplayToAgent(_) => dice.below(1 << 16) as u64,
            Fault::SlowLink(..) => dice.millis(20, 800),
            _ => 0,
        };
        let leap = if matches!(fault, Fault::JumpClock(_)) { leap(dice) } else { 0 };
        let container = dice.pick(&now_live).cloned();
        Details { lasts, number, leap, container }
    }

    fn inject(&mut self, fault: Fault, details: Details) {
        let Details { lasts, number, leap, container } = details;
        let now = self.now();
        self.trace.fault(now, || format!("{fault:?}"));
        *self.faults.counts.entry(kind(&fault)).or_default() += 1;
        self.disturb(&fault);
        match &fault {
            Fault::CrashManager(manager) => self.crash_manager(*manager, "by a fault"),
            Fault::CrashManagerMidStep(manager) => {
                self.managers[*manager].crash_in = Some(number as u32);
            }
            Fault::CrashAllManagers => {
                (0..self.managers.len()).for_each(|manager| self.crash_manager(manager, "by a fault"));
            }
            Fault::PauseManager(manager) => {
                let host = &mut self.managers[*manager];
                if host.process.is_some() && host.paused.is_none() {
                    host.paused = Some(Vec::new());
                }
            }
            Fault::StopClock(manager) => {
                // Cut off from its peers and without timers it goes on to believe that it leads; clients still reach it.
                self.managers[*manager].clock.stop(true, now);
                self.cut(&[*manager], true);
            }
            Fault::FailSync(manager) => {
                self.managers[*manager].disk.fail_next_sync();
                self.faults.failing_disks.insert(*manager);
            }
            Fault::SlowDisk(manager) => {
                self.faults.slow_disks.insert(*manager, now + lasts);
            }
            Fault::FillDisk(manager, room) => {
                let disk = &self.managers[*manager].disk;
                disk.set_capacity(Some(disk.used_bytes() + room));
                self.faults.full_disks.insert(*manager);
            }
            Fault::RotDisk(manager) => self.rot_disk(*manager),
            Fault::LoseLog(manager) => {
                self.crash_manager(*manager, "and its log is gone");
                self.managers[*manager].disk = wal::MemDisk::new();
                self.faults.rotten_disks.insert(*manager);
            }
            Fault::CrashAgent(node) => {
                self.crash_agent(*node, "by a fault", number == 1);
            }
            Fault::CrashAgentMidStep(node) => {
                self.nodes[*node].crash_in = Some(number as u32);
            }
            Fault::PauseAgent(node) => {
                let host = &mut self.nodes[*node];
                if host.process.is_some() && host.paused.is_none() {
                    host.paused = Some(Vec::new());
                }
            }
            Fault::RestartAgent(node) => {
                if self.nodes[*node].is_awake() {
                    let hold = std::time::Duration::from_secs(10);
                    self.tell_agent(*node, agent_core::event::Event::ShutdownRequested { hold });
                }
            }
            Fault::LoseLedger(node) => {
                self.crash_agent(*node, "and loses its ledger", true);
                self.nodes[*node].ledger = agent_core::stored::Stored::default();
                self.nodes[*node].promised = None;
                self.checks.ledger_lost(*node);
            }
            Fault::Reboot(node) => {
                self.crash_agent(*node, "with its machine", false);
                self.nodes[*node].files.clear();
                self.crash_router(*node);
                self.engine_down(*node, false);
            }
            Fault::RestartEngine(node) => self.engine_down(*node, self.knobs.live_restore),
            Fault::HangEngine(node) => {
                let engine = &mut self.nodes[*node].engine;
                if engine.power == Power::Up {
                    engine.power = Power::Hung;
                }
            }
            Fault::BreakStream(node) => self.break_stream(*node, "the stream broke"),
            Fault::CrashContainer(node) => {
                container.into_iter().for_each(|id| self.crash_container(*node, &id));
            }
            Fault::ReplayToAgent(node) => self.replay(*node, number as usize),
            Fault::StopRegistry => self.nodes.iter_mut().for_each(|host| host.engine.registry_up = false),
            Fault::Isolate(host) => self.cut(&[*host], true),
            Fault::Split(hosts) => self.cut(hosts, true),
            Fault::CutOneWay(from, to) => self.network.cut(*from, *to, true),
            Fault::SlowLink(from, to) => {
                self.network.slow(*from, *to, number);
            }
            Fault::JumpClock(host) => self.jump_clock(*host, leap),
        }
        self.queue.after(lasts, Event::Undo(fault));
    }

    fn own_containers(&self, node: usize) -> Vec<String> {
        let live = self.nodes[node].engine.live().filter(|container| container.labels.is_some());
        live.map(|container| container.id.clone()).collect()
    }

    fn crash_container(&mut self, node: usize, id: &str) {
        let now = self.now();
        if self.nodes[node].engine.power == Power::Up {
            self.nodes[node].engine.die(id, 139, false, "killed by a fault", now);
            self.after_engine(node);
        }
    }

    fn jump_clock(&mut self, host: HostId, by: i64) {
        match host.checked_sub(self.managers.len()) {
            None => self.managers[host].clock.jump(by),
            Some(node) => self.nodes[node].clock.jump(by),
        }
    }

    /// Cuts these hosts off from all others, or joins them again.
    fn cut(&mut self, inside: &[HostId], cut: bool) {
        for from in 0..self.managers.len() + self.nodes.len() {
            for to in 0..self.managers.len() + self.nodes.len() {
                if inside.contains(&from) != inside.contains(&to) {
                    self.network.cut(from, to, cut);
                }
            }
        }
    }

    /// A fault ends.
    pub(crate) fn undo(&mut self, fault: &Fault) {
        if self.phase != Phase::Storm {
            // Whatever was to end has been healed; only a manager whose start failed is still to come.
            if let Fault::CrashManager(manager) = fault {
                self.start_manager(*manager);
            }
            return;
        }
        let now = self.now();
        self.disturb(fault);
        self.trace.fault(now, || format!("over: {fault:?}"));
        match fault {
            Fault::FillDisk(manager, _) => self.managers[*manager].disk.set_capacity(None),
            Fault::CrashManager(manager)
            | Fault::CrashManagerMidStep(manager)
            | Fault::FailSync(manager)
            | Fault::RotDisk(manager)
            | Fault::LoseLog(manager) => {
                self.managers[*manager].crash_in = None;
                self.start_manager(*manager);
            }
            Fault::CrashAllManagers => {
                (0..self.managers.len()).for_each(|manager| self.start_manager(manager))
            }
            Fault::PauseManager(manager) => self.resume_manager(*manager),
            Fault::StopClock(manager) => {
                self.managers[*manager].clock.stop(false, now);
                self.cut(&[*manager], false);
                self.arm_manager(*manager);
            }
            Fault::CrashAgent(node)
            | Fault::CrashAgentMidStep(node)
            | Fault::RestartAgent(node)
            | Fault::LoseLedger(node) => {
                self.nodes[*node].crash_in = None;
                self.start_agent(*node);
            }
            Fault::PauseAgent(node) => self.resume_agent(*node),
            Fault::Reboot(node) => {
                self.engine_back(*node);
                self.start_agent(*node);
            }
            Fault::RestartEngine(node) => self.engine_back(*node),
            Fault::HangEngine(node) => {
                let engine = &mut self.nodes[*node].engine;
                if engine.power == Power::Hung {
                    engine.power = Power::Up;
                }
            }
            Fault::StopRegistry => self.nodes.iter_mut().for_each(|host| host.engine.registry_up = true),
            Fault::Isolate(host) => self.cut(&[*host], false),
            Fault::Split(hosts) => self.cut(hosts, false),
            Fault::CutOneWay(from, to) => self.network.cut(*from, *to, false),
            Fault::SlowLink(from, to) => self.network.slow(*from, *to, 0),
            Fault::SlowDisk(_)
            | Fault::ReplayToAgent(_)
            | Fault::BreakStream(_)
            | Fault::CrashContainer(_)
            | Fault::JumpClock(_) => {}
        }
    }

    fn resume_manager(&mut self, manager: usize) {
        for event in self.managers[manager].paused.take().into_iter().flatten() {
            self.queue.after(0, event);
        }
    }

    fn resume_agent(&mut self, node: usize) {
        for event in self.nodes[node].paused.take().into_iter().flatten() {
            self.queue.after(0, event);
        }
    }

    /// Remembers whom a fault touched.
    fn disturb(&mut self, fault: &Fault) {
        let now = self.now();
        let managers = self.managers.len();
        let mut hosts: Vec<HostId> = Vec::new();
        match fault {
            Fault::CrashManager(manager)
            | Fault::CrashManagerMidStep(manager)
            | Fault::PauseManager(manager)
            | Fault::StopClock(manager)
            | Fault::FailSync(manager)
            | Fault::SlowDisk(manager)
            | Fault::FillDisk(manager, _)
            | Fault::RotDisk(manager)
            | Fault::LoseLog(manager) => hosts.push(*manager),
            Fault::CrashAllManagers => hosts.push(0),
            Fault::CrashAgent(node)
            | Fault::CrashAgentMidStep(node)
            | Fault::PauseAgent(node)
            | Fault::RestartAgent(node)
            | Fault::LoseLedger(node)
            | Fault::Reboot(node)
            | Fault::RestartEngine(node)
            | Fault::HangEngine(node)
            | Fault::BreakStream(node)
            | Fault::ReplayToAgent(node)
            | Fault::CrashContainer(node) => hosts.push(managers + node),
            Fault::Isolate(host) => hosts.push(*host),
            Fault::CutOneWay(from, to) | Fault::SlowLink(from, to) => hosts.extend([*from, *to]),
            Fault::Split(_) => hosts.extend(0..managers + self.nodes.len()),
            Fault::StopRegistry => hosts.extend(managers..managers + self.nodes.len()),
            Fault::JumpClock(_) => {}
        }
        for host in hosts {
            match host.checked_sub(managers) {
                None => self.faults.managers_disturbed = now,
                Some(node) => self.nodes[node].disturbed = now,
            }
        }
    }

    /// The second phase: every fault ends, and the work with it.
    pub(crate) fn heal(&mut self) {
        let now = self.now();
        self.trace.fault(now, || "everything is healed".to_owned());
        self.phase = Phase::Calm(now);
        self.clients.working = false;
        self.faults.healed_at = Some(now);
        self.faults.slow_disks.clear();
        self.network.heal();
        for manager in 0..self.managers.len() {
            self.managers[manager].crash_in = None;
            self.managers[manager].clock.stop(false, now);
            self.managers[manager].disk.set_capacity(None);
            self.arm_manager(manager);
            self.resume_manager(manager);
            self.start_manager(manager);
        }
        for node in 0..self.nodes.len() {
            self.nodes[node].crash_in = None;
            self.nodes[node].engine.registry_up = true;
            self.nodes[node].disturbed = self.nodes[node].disturbed.max(now);
            self.engine_back(node);
            self.resume_agent(node);
            self.start_agent(node);
            self.later_agent(node, MS, AgentInput::Subscribe);
        }
        self.faults.managers_disturbed = now;
    }

    /// No fault touched this node or the managers for so long.
    pub(crate) fn is_undisturbed(&self, node: usize, span: Time) -> bool {
        let last = self.nodes[node].disturbed.max(self.faults.managers_disturbed);
        self.now() >= last + span && self.now() >= self.checks.began() + span.min(5 * SEC)
    }
}
