//! What a leader does besides answering: decides, registers nodes and their silence, moves the membership on.
//!
//! Everything in [`Lead`] is soft: a new leader starts with none of it, marks everything and reaches the same commands.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use control::{Control, IdSource, Liveness};
use model::{
    command::{Command, Decision, Rejection},
    id::{MemberId, NodeId, ServiceId},
    node::NodeState,
    service::TemplateVersion,
    time::{ClusterTime, Instant},
};
use planted::Rare;
use rand_chacha::{ChaCha8Rng, rand_core::Rng as _};
use store::{Change, Store};

use crate::{
    Manager, SpaceState, dispatch::Shared, fetches, hashes::Report, joiners::Joiners, logins::Logins,
    pins::Pins, proposal::Purpose, pulls::Pulls, registries::Registries, routes::Routes, seen::Sights,
};

/// A leader's own memory.
pub(crate) struct Lead {
    pub(crate) term: u64,
    pub(crate) control: Control,
    pub(crate) liveness: Liveness,
    /// Nodes whose set may have changed.
    pub(crate) dirty: BTreeSet<NodeId>,
    pub(crate) pins: Pins,
    pub(crate) registries: Registries,
    pub(crate) logins: Logins,
    pub(crate) pulls: Pulls,
    pub(crate) fetches: fetches::Told,
    pub(crate) routes: Routes,
    pub(crate) sights: Sights,
    /// Containers of templates, shared by all assignments that carry them.
    pub(crate) containers: BTreeMap<(ServiceId, TemplateVersion), Shared>,
    /// Counts the sessions of this term; part of every fence.
    pub(crate) session: u64,
    /// A batch of decisions is on its way.
    deciding: bool,
    /// Something changed since the last decision.
    stale: bool,
    decide_at: Option<Instant>,
    /// Nodes whose silence is being recorded.
    downing: BTreeSet<NodeId>,
    /// Members whose address or version is being recorded.
    pub(crate) about: BTreeSet<MemberId>,
    pub(crate) reported_hashes: BTreeMap<u64, BTreeMap<MemberId, Report>>,
    /// Look at the membership again although nothing changed here: a learner catches up in silence.
    pub(crate) membership_at: Instant,
    /// A step of the data keys is on its way.
    pub(crate) keying: bool,
    pub(crate) joiners: Joiners,
}

impl Lead {
    pub(crate) fn note(&mut self, change: &Change, store: &Store) {
        self.control.mark(change);
        self.routes.note(change, store);
        self.stale = true;
        match change {
            Change::Task(id) => {
                self.dirty.extend(store.task(*id).and_then(|task| task.node));
            }
            Change::TaskGone { node, .. } => self.dirty.extend(*node),
            Change::Node(id) => {
                self.dirty.insert(*id);
            }
            Change::Service(id) => {
                self.dirty.extend(store.tasks_of_service(*id).filter_map(|task| task.node));
                self.pins.forget_gone(*id, store);
                let service = store.service(*id);
                self.containers.retain(|(of, template), _| {
                    of != id || service.is_some_and(|service| service.template_of(*template).is_some())
                });
            }
            Change::Cluster => self.registries.declared_anew(),
            Change::Member(_) | Change::Token(_) | Change::Network(_) | Change::Cron(_) | Change::Items => {}
        }
    }

    /// When something falls due. While the disk is full nothing is decided, and so nobody is woken for it: the room that
    /// comes back is an event.
    pub(crate) fn next_deadline(&self, space: SpaceState) -> Option<Instant> {
        let decide = self.decide_at.filter(|_| !self.deciding && space != SpaceState::Exhausted);
        let mine = [
            decide,
            self.liveness.next_deadline(),
            self.pins.next_deadline(),
            self.registries.next_deadline(),
            self.logins.next_deadline(),
            self.pulls.next_deadline(),
            Some(self.membership_at),
        ];
        mine.into_iter().flatten().min()
    }
}

/// How often the leader looks whether a learner has caught up.
pub(crate) const MEMBERSHIP_EVERY: Duration = Duration::from_millis(100);

/// The pause after a batch that was rejected as a whole.
const AFTER_REJECTION: Duration = Duration::from_millis(100);

/// Ids of new tasks come from the member's seeded generator.
struct Ids<'a>(&'a mut ChaCha8Rng);

impl IdSource for Ids<'_> {
    fn next(&mut self) -> u64 {
        self.0.next_u64().max(1)
    }
}

impl Manager {
    pub(crate) fn begin_lead(&mut self) {
        self.stamps = self.stamps.begin(self.store.time(), self.now);
        self.lead = Some(Lead {
            term: self.node.term(),
            control: Control::with_fetches(),
            liveness: Liveness::new_leader(&self.store, self.now.mono),
            dirty: BTreeSet::new(),
            pins: Pins::default(),
            registries: Registries::default(),
            logins: Logins::default(),
            pulls: Pulls::default(),
            fetches: fetches::Told::default(),
            routes: Routes::default(),
            sights: Sights::default(),
            containers: BTreeMap::new(),
            session: 0,
            deciding: false,
            stale: true,
            decide_at: None,
            downing: BTreeSet::new(),
            about: BTreeSet::new(),
            reported_hashes: BTreeMap::new(),
            membership_at: Instant::ZERO,
            keying: false,
            joiners: Joiners::default(),
        });
        self.found_cluster();
        self.admit_waiting_sessions();
        self.take_parked();
    }

    pub(crate) fn end_lead(&mut self) {
        self.end_registries();
        self.end_logins();
        self.lead = None;
        self.proposals_lost();
        self.end_making();
        self.end_issuing();
        self.end_refusals();
        self.end_sessions();
        self.end_reads();
        self.end_held();
    }

    /// The first entry of a cluster, unless it is there already.
    fn found_cluster(&mut self) {
        let Some(bootstrap) = self.config.bootstrap.clone() else { return };
        if self.store.cluster().is_some() {
            return;
        }
        let command = self.founding(bootstrap);
        self.propose_own(command, Purpose::Nobody);
        self.propose_own(Command::BeginAudit, Purpose::BeginAudit);
    }

    pub(crate) fn work_as_leader(&mut self) {
        if self.store.cluster().is_none() {
            return;
        }
        self.record_own_address();
        self.begin_audit();
        self.expire_nodes();
        self.propose_reports();
        self.expire_registries();
        self.expire_logins();
        self.expire_pins();
        self.decide();
        self.move_membership();
        self.move_keys();
        self.next_issue();
        self.note_refusals();
        self.begin_read_round();
        self.tell_managers();
        self.grant_pulls();
        self.dispatch_fetches();
        self.dispatch_dirty();
        self.dispatch_routes();
    }

    fn expire_nodes(&mut self) {
        let Some(lead) = &mut self.lead else { return };
        if lead.liveness.next_deadline().is_none_or(|at| at > self.now.mono) {
            return;
        }
        for (id, message) in lead.liveness.expired(&self.store, self.now.mono) {
            let Some(expected) = self.store.node(id).map(|node| node.generation) else { continue };
            let Some(lead) = &mut self.lead else { return };
            if lead.downing.insert(id) {
                self.close_silent(id, &message);
                self.propose_own(Command::NodeDown { id, expected, message }, Purpose::Down { node: id });
            }
        }
    }

    pub(crate) fn on_down(&mut self, node: NodeId) {
        if let Some(lead) = &mut self.lead {
            lead.downing.remove(&node);
        }
        self.register_if_down(node);
    }

    /// A node that is connected although the state says otherwise (it came back while its silence was being recorded)
    /// registers once more.
    fn register_if_down(&mut self, node: NodeId) {
        let down = self.store.node(node).is_some_and(|node| node.state == NodeState::Down);
        if down {
            self.register_again(node);
        }
    }

    /// One batch at a time, as soon as the one before is applied and something has changed or fallen due.
    fn decide(&mut self) {
        let now = self.stamps.peek(self.now);
        let mono = self.now.mono;
        let Some(lead) = &mut self.lead else { return };
        let due = lead.stale || lead.decide_at.is_some_and(|at| at <= mono);
        let busy = lead.deciding && !planted::rarely(Rare::DecideTwice);
        if busy || !due || self.space == SpaceState::Exhausted {
            return;
        }
        let plan = lead.control.decide(&self.store, now, &mut Ids(&mut self.rng));
        lead.stale = false;
        lead.decide_at = plan.wake_at.map(|at| mono + until(now, at));
        if plan.decisions.is_empty() {
            return;
        }
        lead.deciding = true;
        self.propose_own(Command::Decide(plan.decisions), Purpose::Decide);
    }

    pub(crate) fn on_decided(&mut self, command: &Command, rejected: &[(usize, Rejection)]) {
        let Some(lead) = &mut self.lead else { return };
        (lead.deciding, lead.stale) = (false, true);
        let Command::Decide(decisions) = command else { return };
        if rejected.len() == decisions.len() {
            // Nothing moved: the same look would give the same batch at once.
            (lead.stale, lead.decide_at) = (false, Some(self.now.mono + AFTER_REJECTION));
        }
        for (position, _) in rejected {
            if let Some(decision) = decisions.get(*position) {
                lead.control.mark(&subject(decision));
            }
        }
    }
}

/// How long until a cluster time; a little longer, so that it has come when the timer fires.
fn until(now: ClusterTime, at: ClusterTime) -> Duration {
    at.since(now) + Duration::from_millis(1)
}

/// What a rejected decision was about: to be looked at again.
fn subject(decision: &Decision) -> Change {
    match decision {
        Decision::CreateTask { service, .. }
        | Decision::SetRollout { service, .. }
        | Decision::RollBack { service, .. }
        | Decision::EndJob { service, .. }
        | Decision::RemoveJob { service, .. }
        | Decision::DropService { service, .. } => Change::Service(*service),
        Decision::AssignTask { id, .. }
        | Decision::ExplainPending { id, .. }
        | Decision::StopTask { id, .. }
        | Decision::LoseTask { id, .. }
        | Decision::ReapTask { id, .. } => Change::Task(*id),
        Decision::RunCron { cron, .. } => Change::Cron(*cron),
        Decision::DropToken { id } => Change::Token(*id),
    }
}
