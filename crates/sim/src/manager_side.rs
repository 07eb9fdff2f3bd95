//! What a manager's process takes in, and what the world does for it.

use manager_core::{Action, Event as Input, SpaceState};
use model::{
    audit::Origin,
    id::MemberId,
    identity::Identity,
    request::{ApiError, ErrorCode, Reply, Request},
};

use crate::{
    logins,
    manager::Caller,
    network::Frame,
    queue::{MS, Time},
    rotations,
    world::{Event, ManagerInput, World},
};

impl World {
    pub(crate) fn manager_now(&self, manager: usize) -> model::time::Now {
        self.managers[manager].clock.read(self.queue.now())
    }

    pub(crate) fn manager_event(&mut self, manager: usize, life: u64, input: ManagerInput) {
        let host = &mut self.managers[manager];
        let Some(process) = host.process.as_mut().filter(|process| process.life == life) else { return };
        if let Some(deferred) = &mut host.paused {
            deferred.push(Event::Manager { manager, life, input });
            return;
        }
        match input {
            ManagerInput::Timer => {
                process.armed = None;
                let now = host.clock.read(self.queue.now());
                if process.core.poll_timeout().is_some_and(|due| due <= now.mono) {
                    process.core.handle_timeout(now);
                    self.trace.mark(self.queue.now(), 1, manager as u64);
                }
                self.drain_manager(manager);
            }
            ManagerInput::Core(event) => self.tell_manager(manager, event),
            ManagerInput::Written => self.written(manager),
            ManagerInput::LookForRoom => self.look_for_room(manager),
            ManagerInput::Kept { sequence, keyring } => {
                self.managers[manager].keyring = *keyring;
                self.tell_manager(manager, Input::KeysKept { sequence });
            }
        }
    }

    /// Hands an input to a manager that is awake.
    pub(crate) fn tell_manager(&mut self, manager: usize, event: Input) {
        let now = self.manager_now(manager);
        let at = self.queue.now();
        let Some(process) = self.managers[manager].process.as_mut() else { return };
        self.trace.mark(at, 2, manager as u64);
        if let Input::Peer { bytes, .. } = &event {
            self.trace.mark(at, 3, bytes.len() as u64);
        }
        process.core.handle_event(event, now);
        self.drain_manager(manager);
    }

    /// Does what a manager wants done, looks at what it has applied, and sets its timer.
    pub(crate) fn drain_manager(&mut self, manager: usize) {
        while let Some(action) =
            self.managers[manager].process.as_mut().and_then(|process| process.core.poll_action())
        {
            if self.dies_here(manager) {
                return;
            }
            self.manager_action(manager, action);
            if self.managers[manager].process.is_none() {
                return;
            }
        }
        self.observe_manager(manager);
        self.arm_manager(manager);
    }

    /// A crash that was put on the agenda for the middle of a step.
    fn dies_here(&mut self, manager: usize) -> bool {
        let Some(left) = self.managers[manager].crash_in else { return false };
        self.managers[manager].crash_in = left.checked_sub(1);
        if left > 0 {
            return false;
        }
        self.crash_manager(manager, "in the middle of a step");
        true
    }

    pub(crate) fn arm_manager(&mut self, manager: usize) {
        let host = &mut self.managers[manager];
        // No timer goes off before the clock goes again.
        let Some(process) = host.process.as_mut().filter(|_| !host.clock.is_stopped()) else { return };
        let Some(due) = process.core.poll_timeout() else { return };
        let due = host.clock.when(due).max(self.queue.now());
        if process.armed.is_none_or(|armed| due < armed) {
            process.armed = Some(due);
            let life = process.life;
            self.queue.at(due, Event::Manager { manager, life, input: ManagerInput::Timer });
        }
    }

    pub(crate) fn later_manager(&mut self, manager: usize, after: Time, input: ManagerInput) {
        if let Some(process) = &self.managers[manager].process {
            let life = process.life;
            self.queue.after(after, Event::Manager { manager, life, input });
        }
    }

    fn manager_action(&mut self, manager: usize, action: Action) {
        let at = self.now();
        self.trace.mark(at, 10 + kind(&action), manager as u64);
        match action {
            Action::Persist(step) => {
                if let Some(blob) = &step.snapshot {
                    self.trace.line(at, || {
                        format!("m{manager} stores snapshot {}, reset={}", blob.index, step.reset_log)
                    });
                }
                self.note_vote(manager, step.hard_state.as_ref());
                let process = self.managers[manager].process.as_mut().expect("it just acted");
                if process.writer.push(step) {
                    self.begin_write(manager);
                }
            }
            Action::Compact { index } => {
                let process = self.managers[manager].process.as_mut().expect("it just acted");
                process.writer.compact(index);
            }
            Action::EncodeSnapshot { index, state, .. } => {
                let bytes = proto::codec::encode(&state);
                let after = self.dice.millis(1, 80);
                self.later_manager(
                    manager,
                    after,
                    ManagerInput::Core(Input::SnapshotEncoded { index, bytes }),
                );
            }
            Action::SendPeer { to, bytes } => self.send_peer(manager, to, bytes),
            Action::Revoked(identities) => {
                self.managers[manager].process.as_mut().expect("it just acted").revoked.extend(identities);
            }
            Action::Peers(_) => {}
            Action::Authority { bundle, renew } => self.manager_follows(manager, &bundle, renew),
            Action::Reply { handle, result, more } => self.reply(manager, handle, result, more),
            Action::SendAgent { connection, message } => self.send_to_agent(manager, connection, message),
            Action::CloseAgent { connection, reason } => {
                self.trace.line(at, || format!("m{manager} closes connection {connection}: {reason}"));
                self.close_from_manager(manager, connection);
            }
            Action::Sign { job, csr, identity, .. } => {
                let after = self.dice.millis(1, 5);
                let certificate = Ok(match identity {
                    Identity::Manager(_) | Identity::Node(_) if self.rotations.is_some() => {
                        let process = self.managers[manager].process.as_ref().expect("it just acted");
                        let cluster = process.core.store().cluster().expect("it issues");
                        rotations::certificate(&cluster.authority.certificate, &csr)
                    }
                    _ => logins::certificate(&identity),
                });
                self.later_manager(manager, after, ManagerInput::Core(Input::Signed { job, certificate }));
            }
            // No registry is declared in this world.
            Action::AskRegistry { job, .. } => {
                let why = "there is no network to registries".to_owned();
                let answer = Err(manager_core::RegistryRefusal::Unreachable(why));
                let input = ManagerInput::Core(Input::RegistryAnswered { job, answer });
                let after = self.dice.millis(1, 5);
                self.later_manager(manager, after, input);
            }
            Action::AskLogin { job, question } => {
                // Where there are no logins there is no method that could be asked about.
                let Some(logins) = &mut self.workload.logins else { return };
                let (after, answer) = logins.judged(&question);
                let input = ManagerInput::Core(Input::LoginAnswered { job, answer });
                self.later_manager(manager, after, input);
            }
            Action::KeepKeys { sequence, keyring } => {
                let latency = self.dice.range(60, self.knobs.fsync_us) * 1_000;
                let keyring = Box::new(keyring);
                self.later_manager(manager, latency, ManagerInput::Kept { sequence, keyring });
            }
            Action::Leader { is_leader, term, leader } => {
                self.trace.line(at, || format!("m{manager} leader={is_leader} term={term} knows={leader:?}"));
                if is_leader {
                    self.leads(manager, term);
                }
            }
            Action::Notice(notice) => self.trace.line(at, || format!("m{manager} notice: {}", notice.text)),
            Action::Retire { reason } => {
                self.trace.line(at, || format!("m{manager} retires: {reason}"));
                self.manager_removed(manager);
            }
            Action::Halt { reason } => {
                self.trace.fault(at, || format!("m{manager} halts: {reason}"));
                self.managers[manager].halted = true;
                self.violate("I3", format!("m{manager} halts: {reason}"), vec![format!("m{manager}")]);
            }
        }
    }

    pub(crate) fn begin_write(&mut self, manager: usize) {
        let [given, writing, _] = &mut self.managers[manager].commits;
        *writing = *given;
        let slow = self.faults.slow_disk(manager, self.queue.now());
        let latency = self.dice.range(60, self.knobs.fsync_us) * 1_000 + slow;
        self.later_manager(manager, latency, ManagerInput::Written);
    }

    fn written(&mut self, manager: usize) {
        let host = &mut self.managers[manager];
        let Some(process) = host.process.as_mut() else { return };
        host.syncs += 1;
        match process.writer.finish() {
            Ok(sequence) => {
                host.commits[2] = host.commits[1];
                if process.writer.begin() {
                    self.begin_write(manager);
                }
                self.tell_manager(manager, Input::Persisted { sequence });
                self.look_at_space(manager);
            }
            Err(error) => self.disk_failed(manager, &error),
        }
    }

    fn send_peer(&mut self, manager: usize, to: MemberId, bytes: bytes::Bytes) {
        let Some(target) = self.managers.iter().position(|host| host.member == to) else { return };
        let from = self.managers[manager].member;
        if self.refuses_manager(target, manager) {
            return;
        }
        let copies = self.network.datagram(manager, target);
        if copies.is_empty() {
            if self.dice.permille(100) {
                let input = ManagerInput::Core(Input::PeerUnreachable { member: to });
                self.later_manager(manager, 5 * MS, input);
            }
            return;
        }
        let Some(process) = &self.managers[target].process else { return };
        let life = process.life;
        if process.revoked.contains(&Identity::Manager(from)) {
            let after = 2 * copies[0];
            return self.later_manager(manager, after, ManagerInput::Core(Input::Disowned { by: to }));
        }
        for delay in copies {
            let input = ManagerInput::Core(Input::Peer { from, bytes: bytes.clone() });
            self.queue.after(delay, Event::Manager { manager: target, life, input });
        }
    }

    fn reply(&mut self, manager: usize, handle: u64, result: Result<Reply, ApiError>, more: bool) {
        self.check_reply_on_full_disk(manager, handle, &result);
        let process = self.managers[manager].process.as_mut().expect("it just acted");
        let caller =
            if more { process.callers.get(&handle).copied() } else { process.callers.remove(&handle) };
        let Some(caller) = caller else { return };
        self.answer_later(caller, manager, result);
    }

    fn answer_later(&mut self, caller: Caller, manager: usize, result: Result<Reply, ApiError>) {
        let result = Box::new(result);
        match caller {
            Caller::Operation { operation, attempt } => {
                let delay = self.clients.delay();
                self.queue.after(delay, Event::Answer { operation, attempt, manager, result });
            }
            Caller::Watch { watcher, session } => {
                // A stream keeps its order.
                let at = self.clients.stream_delay(watcher, self.queue.now());
                self.queue.at(at, Event::Watched { watcher, session, manager, result });
            }
        }
    }

    fn send_to_agent(&mut self, manager: usize, connection: u64, message: model::session::ManagerMessage) {
        let Some(open) = self.network.connections.get(&connection) else { return };
        let node = open.node;
        self.watch_message(manager, node, &message);
        self.push_frame(connection, false, Frame::ToAgent(message));
    }

    pub(crate) fn push_frame(&mut self, connection: u64, up: bool, frame: Frame) {
        let Some(open) = self.network.connections.get(&connection) else { return };
        let (manager, node) = (open.manager, self.node_host(open.node));
        let hosts = if up { (node, manager) } else { (manager, node) };
        let now = self.queue.now();
        if let Some(at) = self.network.send(connection, up, frame, hosts, now) {
            self.queue.at(at, Event::Frame { connection, up });
        }
    }

    fn close_from_manager(&mut self, manager: usize, connection: u64) {
        let Some(open) = self.network.connections.get_mut(&connection) else { return };
        debug_assert_eq!(open.manager, manager);
        open.manager_open = false;
        self.push_frame(connection, false, Frame::Closed);
    }

    /// A manager's process ends without a word. What it had written and not synced is lost or torn.
    pub(crate) fn crash_manager(&mut self, manager: usize, how: &str) {
        let at = self.now();
        // What it had applied was committed, and it may have told somebody.
        self.observe_manager(manager);
        let host = &mut self.managers[manager];
        let Some(mut process) = host.process.take() else { return };
        self.trace.fault(at, || format!("m{manager} crashes {how}"));
        host.paused = None;
        host.crash_in = None;
        let power = self.dice.permille(500);
        if self.dice.permille(500) {
            let changes = self.dice.range(0, 4);
            process.writer.break_off(&host.disk, changes);
        }
        drop(process.writer);
        if power {
            host.disk.crash(self.dice.any());
        } else {
            host.disk.kill();
        }
        let lost = ApiError::new(ErrorCode::Unavailable, "the connection to the manager was lost");
        for caller in process.callers.into_values() {
            self.answer_later(caller, manager, Err(lost.clone()));
        }
        let open: Vec<u64> = self
            .network
            .connections
            .iter()
            .filter(|(_, c)| c.manager == manager)
            .map(|(id, _)| *id)
            .collect();
        for connection in open {
            if let Some(open) = self.network.connections.get_mut(&connection) {
                open.manager_open = false;
            }
            // A host without power says nothing; the kernel of one that has it closes what the process held.
            if !power {
                self.push_frame(connection, false, Frame::Closed);
            }
        }
        let life = self.managers[manager].lives;
        self.checks.manager_ended(manager, life);
    }

    /// Starts a manager's process again.
    pub(crate) fn start_manager(&mut self, manager: usize) {
        let host = &self.managers[manager];
        if host.process.is_some() || host.halted || host.removed || host.replacing {
            return;
        }
        let at = self.now();
        self.trace.fault(at, || format!("m{manager} starts"));
        let seed = self.dice.any();
        let now = self.manager_now(manager);
        self.managers[manager].version = self.upgraded(self.managers[manager].version);
        let (knobs, segment) = (self.knobs.manager.clone(), self.knobs.segment_bytes);
        match self.managers[manager].start(self.cluster, &knobs, segment, seed, now) {
            Ok(()) => {
                self.tell_manager(manager, Input::Space(SpaceState::Enough));
                self.later_manager(manager, 20 * MS, ManagerInput::LookForRoom);
            }
            Err(error) => self.not_started(manager, &error),
        }
    }

    /// A manager that was removed is switched off, but not before its vote went too: the removal is not complete until then.
    pub(crate) fn retire(&mut self, manager: usize, member: MemberId) {
        let host = &self.managers[manager];
        if host.member != member || host.replacing || host.removed {
            return;
        }
        let others = self.managers.iter().filter(|host| host.member != member);
        let statuses = others.filter_map(|host| host.process.as_ref().map(|process| process.core.status()));
        let newest = statuses.max_by_key(|status| status.committed);
        match newest.is_some_and(|status| !status.membership.members().contains(&member)) {
            true => self.manager_removed(manager),
            false => self.queue.after(500 * MS, Event::Retire { manager, member }),
        }
    }

    /// A manager is no member any more: its process ends, and after a while the host joins anew, with an empty disk.
    pub(crate) fn manager_removed(&mut self, manager: usize) {
        if self.managers[manager].removed {
            return;
        }
        self.checks.count("managers removed");
        self.managers[manager].removed = true;
        self.crash_manager(manager, "because it was removed");
        let pause = self.dice.millis(500, 8_000);
        self.queue.after(pause, Event::Rejoin { manager });
    }

    /// A request reaches a manager.
    pub(crate) fn ask(&mut self, operation: usize, attempt: u32, manager: usize) {
        let caller = Caller::Operation { operation, attempt };
        let Some((identity, request_id, request)) = self.clients.wire(operation) else { return };
        if self.refuses_asker(manager, operation) {
            let refused =
                ApiError::new(ErrorCode::Unauthenticated, "its certificate is of a former authority");
            return self.answer_later(caller, manager, Err(refused));
        }
        let origin = Origin::new(Some("10.0.0.7".to_owned()), None);
        let about = model::audit::about::about(&request);
        let (identity, request) = match self.verified(manager, &identity, request) {
            Ok(verified) => verified,
            Err(error) => {
                return self.request(manager, caller, move |handle| Input::Refused {
                    handle,
                    identity,
                    request_id,
                    origin,
                    about,
                    error,
                });
            }
        };
        self.note_change_on_full_disk(manager, &request);
        let consistency = model::request::Consistency::Linearizable;
        self.request(manager, caller, move |handle| Input::Request {
            handle,
            identity,
            request_id,
            consistency,
            deadline: Some(std::time::Duration::from_secs(3)),
            request,
            origin,
        });
    }

    /// What the shell does with a deploy token or an ID token: where its manager leads it verifies it, elsewhere the core refers to the
    /// leader.
    fn verified(
        &self,
        manager: usize,
        identity: &Identity,
        request: Request,
    ) -> Result<(Identity, Request), ApiError> {
        let leads = self.managers[manager].process.as_ref().filter(|process| process.core.status().serving);
        let Some(process) = leads else { return Ok((identity.clone(), request)) };
        let identity = match identity {
            Identity::Bearer(id) => process.core.proven(*id, |_| true).ok_or_else(|| {
                ApiError::new(ErrorCode::Unauthenticated, "the deploy token is not accepted")
            })?,
            other => other.clone(),
        };
        let (identity, request) = match self.rotations {
            Some(_) => {
                let (proven, request) = rotations::verified(process.core.store(), manager, request)?;
                (proven.unwrap_or(identity), request)
            }
            None => (identity, request),
        };
        let request = match (request, &self.workload.exchanges) {
            (Request::Exchange(exchange), Some(exchanges)) => {
                let (issuers, now) = (process.core.store().issuers(), process.core.cluster_time());
                Request::Exchange(Box::new(exchanges.verified(*exchange, issuers, now)?))
            }
            (other, _) => other,
        };
        Ok((identity, request))
    }

    /// Hands a request to a manager, or says that it is not reached.
    pub(crate) fn request(&mut self, manager: usize, caller: Caller, input: impl FnOnce(u64) -> Input) {
        let host = &mut self.managers[manager];
        let Some(process) = host.process.as_mut() else {
            let lost = ApiError::new(ErrorCode::Unavailable, "the manager is not reached");
            self.answer_later(caller, manager, Err(lost));
            return;
        };
        process.next_handle += 1;
        let handle = process.next_handle;
        process.callers.insert(handle, caller);
        let life = process.life;
        self.manager_event(manager, life, ManagerInput::Core(input(handle)));
    }

    /// The identity of an operator.
    pub(crate) fn operator() -> Identity {
        Identity::Operator { name: "ann".into(), role: model::identity::Role::Admin }
    }
}

fn kind(action: &Action) -> u64 {
    match action {
        Action::Persist(_) => 0,
        Action::Compact { .. } => 1,
        Action::EncodeSnapshot { .. } => 2,
        Action::SendPeer { .. } => 3,
        Action::Peers(_) => 4,
        Action::Reply { .. } => 5,
        Action::SendAgent { .. } => 6,
        Action::CloseAgent { .. } => 7,
        Action::Sign { .. } => 8,
        Action::Revoked(_) => 9,
        Action::Leader { .. } => 10,
        Action::Notice(_) => 11,
        Action::Halt { .. } => 12,
        Action::Retire { .. } => 13,
        Action::AskRegistry { .. } => 14,
        Action::KeepKeys { .. } => 15,
        Action::AskLogin { .. } => 16,
        Action::Authority { .. } => 17,
    }
}
