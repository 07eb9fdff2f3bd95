//! What an agent's process takes in, and what the world does for it: connections, its ledger, its shell's view of the
//! engine.

use agent_core::{
    action::Action,
    event::{EngineFacts, Event as Input},
};
use manager_core::Event as ManagerEvent;
use model::{
    identity::Identity,
    session::{AgentMessage, ManagerMessage},
};

use crate::{
    agent::{Subscription, Write},
    check::note_health,
    engine::Power,
    network::{Connection, Frame, Pipe},
    queue::{MS, Time},
    router::Said,
    world::{AgentInput, Event, ManagerInput, World},
};

/// Messages of managers that may come again.
const TOLD_KEPT: usize = 40;

impl World {
    pub(crate) fn agent_event(&mut self, node: usize, life: u64, input: AgentInput) {
        let at = self.queue.now();
        let host = &mut self.nodes[node];
        let Some(process) = host.process.as_mut().filter(|process| process.life == life) else { return };
        if let Some(deferred) = &mut host.paused {
            deferred.push(Event::Agent { node, life, input });
            return;
        }
        match input {
            AgentInput::Timer => {
                process.armed = None;
                let now = host.clock.read(at);
                if process.core.poll_timeout().is_some_and(|due| due <= now.mono) {
                    process.core.handle_timeout(now.mono);
                    self.trace.mark(at, 30, node as u64);
                }
                self.drain_agent(node);
            }
            AgentInput::Core(event) => self.tell_agent(node, event),
            AgentInput::Stored => {
                let Some(write) = process.writes.pop_front() else { return };
                let sequence = write.sequence;
                host.write_down(write);
                self.tell_agent(node, Input::Stored { sequence });
            }
            AgentInput::Subscribe => self.subscribe(node),
            AgentInput::List => self.list(node),
        }
    }

    /// Hands an input to an agent that is awake.
    pub(crate) fn tell_agent(&mut self, node: usize, event: Input) {
        let at = self.queue.now();
        let host = &mut self.nodes[node];
        let Some(process) = host.process.as_mut() else { return };
        self.trace.mark(at, 31, node as u64);
        note_health(&mut host.told_health, &event);
        process.core.handle_event(event, host.clock.read(at).mono);
        self.drain_agent(node);
    }

    pub(crate) fn drain_agent(&mut self, node: usize) {
        while let Some(action) =
            self.nodes[node].process.as_mut().and_then(|process| process.core.poll_action())
        {
            if let Some(left) = self.nodes[node].crash_in {
                self.nodes[node].crash_in = left.checked_sub(1);
                if left == 0 {
                    self.crash_agent(node, "in the middle of a step", true);
                    return;
                }
            }
            self.agent_action(node, action);
            if self.nodes[node].process.is_none() {
                return;
            }
        }
        let host = &mut self.nodes[node];
        let Some(process) = host.process.as_mut() else { return };
        let Some(due) = process.core.poll_timeout() else { return };
        let due = host.clock.when(due).max(self.queue.now());
        if process.armed.is_none_or(|armed| due < armed) {
            process.armed = Some(due);
            let life = process.life;
            self.queue.at(due, Event::Agent { node, life, input: AgentInput::Timer });
        }
    }

    pub(crate) fn later_agent(&mut self, node: usize, after: Time, input: AgentInput) {
        if let Some(process) = &self.nodes[node].process {
            let life = process.life;
            self.queue.after(after, Event::Agent { node, life, input });
        }
    }

    fn agent_action(&mut self, node: usize, action: Action) {
        let at = self.now();
        self.watch_agent_files(node, &action);
        match action {
            Action::Connect { connection, address } => {
                self.trace.mark(at, 32, node as u64);
                let manager = self.managers.iter().position(|host| host.address == address);
                let life = self.nodes[node].life();
                match manager {
                    Some(manager) => {
                        let delay = self.network.delay(self.node_host(node), manager);
                        self.queue.after(delay, Event::Dialled { node, life, local: connection, manager });
                    }
                    None => self.not_reached(node, connection, 5 * MS),
                }
            }
            Action::Disconnect { connection, reason } => {
                self.trace.line(at, || format!("n{node} leaves its manager: {reason}"));
                self.disconnect(node, connection);
            }
            Action::Send { connection, message } => {
                self.trace.mark(at, 33, node as u64);
                let process = self.nodes[node].process.as_ref().expect("it just acted");
                if let Some(connection) = process.connections.get(&connection).copied() {
                    self.push_frame(connection, true, Frame::ToManager(message));
                }
            }
            Action::Engine { op, call } => self.call(node, op, call),
            Action::CancelEngine { op } => {
                let life = self.nodes[node].life();
                self.nodes[node].engine.cancel(life, op);
            }
            Action::Store { sequence, write } => {
                self.trace.mark(at, 34, sequence);
                let host = &mut self.nodes[node];
                let process = host.process.as_mut().expect("it just acted");
                let fence = process.core.fence();
                process.writes.push_back(Write { sequence, contents: *write, fence });
                let latency = self.dice.range(100, self.knobs.fsync_us.max(200)) * 1_000;
                self.later_agent(node, latency, AgentInput::Stored);
            }
            Action::Probe { probe, request } => {
                let calm = self.faults.healed_at.is_some();
                let (after, answer) = self.nodes[node].engine.probe(&request, calm, at);
                self.later_agent(node, after, AgentInput::Core(Input::Probed { probe, answer }));
            }
            Action::Mesh(config) => self.tell_router(node, Said::Configure(config)),
            Action::DrainTask { task } => self.tell_router(node, Said::Drain(task)),
            Action::OpenLogs { .. } => {}
            Action::Authority { bundle, renew } => self.node_follows(node, bundle, renew),
            Action::KeepFiles { task, files } => {
                self.nodes[node].files.insert(task, files);
                let after = self.dice.millis(1, 20);
                let kept = Input::FilesKept { task, outcome: Ok(()) };
                self.later_agent(node, after, AgentInput::Core(kept));
            }
            Action::WipeFiles { task } => drop(self.nodes[node].files.remove(&task)),
            Action::Status(status) => self.trace.line(at, || format!("n{node} status: {status}")),
            Action::Exit => {
                self.trace.fault(at, || format!("n{node} agent ends as asked"));
                self.nodes[node].left = true;
                self.end_agent(node, false);
            }
        }
    }

    fn not_reached(&mut self, node: usize, local: u64, after: Time) {
        let input = Input::ManagerClosed { connection: local, reason: "not reached".to_owned() };
        self.later_agent(node, after, AgentInput::Core(input));
    }

    /// A dialled manager is reached, if it is there.
    pub(crate) fn dialled(&mut self, node: usize, life: u64, local: u64, manager: usize) {
        if self.nodes[node].life() != life || self.nodes[node].process.is_none() {
            return;
        }
        let host = self.node_host(node);
        if self.network.is_cut(host, manager) || self.network.is_cut(manager, host) {
            // Packets vanish: the dial ends by the agent's own deadline.
            return;
        }
        let Some(process) = &self.managers[manager].process else {
            return self.not_reached(node, local, MS);
        };
        let lives = (life, process.life);
        self.network.next_connection += 1;
        let connection = self.network.next_connection;
        if self.refuses_node(manager, node, connection) {
            return self.not_reached(node, local, MS);
        }
        let (up, down) = (Pipe::default(), Pipe::default());
        let made = Connection { node, manager, local, lives, up, down, agent_open: true, manager_open: true };
        self.network.connections.insert(connection, made);
        let agent = self.nodes[node].process.as_mut().expect("looked at above");
        agent.connections.insert(local, connection);
        let identity = Identity::Node(self.nodes[node].node);
        let opened = ManagerInput::Core(ManagerEvent::AgentOpened { connection, identity });
        let life = lives.1;
        self.queue.after(0, Event::Manager { manager, life, input: opened });
        let delay = self.network.delay(manager, host);
        self.later_agent(node, delay, AgentInput::Core(Input::ManagerConnected { connection: local }));
    }

    fn disconnect(&mut self, node: usize, local: u64) {
        let Some(process) = self.nodes[node].process.as_mut() else { return };
        let Some(connection) = process.connections.remove(&local) else { return };
        if let Some(open) = self.network.connections.get_mut(&connection) {
            open.agent_open = false;
            self.push_frame(connection, true, Frame::Closed);
        }
    }

    /// The next frame of a pipe arrives, or waits for the link.
    pub(crate) fn frame(&mut self, connection: u64, up: bool) {
        let Some(open) = self.network.connections.get(&connection) else { return };
        let (node, manager, lives) = (open.node, open.manager, open.lives);
        let host = self.node_host(node);
        let (from, to) = if up { (host, manager) } else { (manager, host) };
        // A pipe needs both directions: without acknowledgements nothing goes on.
        if self.network.is_cut(from, to) || self.network.is_cut(to, from) {
            let wait = self.network.retransmission();
            self.queue.after(wait, Event::Frame { connection, up });
            return;
        }
        let paused = if up { &mut self.managers[manager].paused } else { &mut self.nodes[node].paused };
        if let Some(deferred) = paused {
            deferred.push(Event::Frame { connection, up });
            return;
        }
        let open = self.network.connections.get_mut(&connection).expect("looked at above");
        let pipe = if up { &mut open.up } else { &mut open.down };
        let Some(frame) = pipe.frames.pop_front() else { return };
        let alive = if up {
            open.manager_open && self.managers[manager].process.as_ref().is_some_and(|p| p.life == lives.1)
        } else {
            open.agent_open && self.nodes[node].process.as_ref().is_some_and(|p| p.life == lives.0)
        };
        if !alive {
            // Nobody is there: the sender is told, unless it was told or does not care.
            let other_open = if up { open.agent_open } else { open.manager_open };
            if other_open && !matches!(frame, Frame::Closed) {
                self.push_frame(connection, !up, Frame::Closed);
            }
            self.forget_connection(connection);
            return;
        }
        match frame {
            Frame::ToManager(mut message) => {
                self.as_offered(node, manager, &mut message);
                let at = self.queue.now();
                self.trace.line(at, || format!("m{manager} hears n{node}: {}", said(&message)));
                if !matches!(*message, AgentMessage::Hello { .. }) {
                    self.node_heard(manager, node);
                }
                self.tell_manager(manager, ManagerEvent::AgentMessage { connection, message: *message });
            }
            Frame::ToAgent(message) => self.deliver_to_agent(node, connection, message),
            Frame::Closed => self.end_reached(connection, up),
        }
    }

    fn deliver_to_agent(&mut self, node: usize, connection: u64, message: ManagerMessage) {
        let Some(open) = self.network.connections.get(&connection) else { return };
        let (local, manager) = (open.local, open.manager);
        let at = self.queue.now();
        self.trace.line(at, || format!("n{node} hears m{manager}: {}", told(&message)));
        self.check_protocol(node, manager, &message);
        if matches!(message, ManagerMessage::Welcome { .. } | ManagerMessage::Assign(_)) {
            let told = &mut self.nodes[node].told;
            told.push_back(message.clone());
            if told.len() > TOLD_KEPT {
                told.pop_front();
            }
        }
        let before = self.before_message(node, &message);
        self.tell_agent(node, Input::ManagerMessage { connection: local, message: Box::new(message) });
        self.after_message(node, before);
    }

    /// Something that a manager said long ago arrives once more, on whatever connection there is.
    pub(crate) fn replay(&mut self, node: usize, choice: usize) {
        let host = &self.nodes[node];
        let open =
            host.process.as_ref().and_then(|process| process.connections.values().next_back()).copied();
        let (Some(connection), false) = (open.filter(|_| host.is_awake()), host.told.is_empty()) else {
            return;
        };
        let message = host.told[choice % host.told.len()].clone();
        self.deliver_to_agent(node, connection, message);
    }

    fn end_reached(&mut self, connection: u64, up: bool) {
        let open = self.network.connections.get_mut(&connection).expect("the caller has seen it");
        let (node, manager, local) = (open.node, open.manager, open.local);
        if up {
            open.manager_open = false;
        } else {
            open.agent_open = false;
        }
        self.forget_connection(connection);
        if up {
            self.tell_manager(manager, ManagerEvent::AgentClosed { connection });
        } else {
            if let Some(process) = self.nodes[node].process.as_mut() {
                process.connections.remove(&local);
            }
            let reason = "the manager closed it".to_owned();
            self.tell_agent(node, Input::ManagerClosed { connection: local, reason });
        }
    }

    /// A connection that both ends have left is forgotten.
    fn forget_connection(&mut self, connection: u64) {
        let gone = self.network.connections.get(&connection).is_some_and(|open| {
            !open.agent_open && !open.manager_open && open.up.frames.is_empty() && open.down.frames.is_empty()
        });
        if gone {
            self.network.connections.remove(&connection);
        }
    }

    /// An agent's process ends without a word. Writes under way may have reached the disk, in order.
    pub(crate) fn crash_agent(&mut self, node: usize, how: &str, tells: bool) {
        let at = self.now();
        if self.nodes[node].process.is_none() {
            return;
        }
        self.trace.fault(at, || format!("n{node} agent crashes {how}"));
        self.end_agent(node, !tells);
    }

    fn end_agent(&mut self, node: usize, silently: bool) {
        let kept = self.dice.range(0, 3) as usize;
        let host = &mut self.nodes[node];
        let Some(process) = host.process.take() else { return };
        let kept = if host.left { usize::MAX } else { kept };
        for write in process.writes.into_iter().take(kept) {
            host.write_down(write);
        }
        host.paused = None;
        host.crash_in = None;
        host.subscription = None;
        host.engine.calls.values_mut().for_each(|pending| pending.abandoned = true);
        let open: Vec<u64> = self
            .network
            .connections
            .iter()
            .filter(|(_, c)| c.node == node && c.agent_open)
            .map(|(id, _)| *id)
            .collect();
        for connection in open {
            if let Some(open) = self.network.connections.get_mut(&connection) {
                open.agent_open = false;
            }
            if !silently {
                self.push_frame(connection, true, Frame::Closed);
            }
        }
    }

    /// Starts an agent again.
    pub(crate) fn start_agent(&mut self, node: usize) {
        if self.nodes[node].process.is_some() {
            return;
        }
        let at = self.now();
        self.trace.fault(at, || format!("n{node} agent starts"));
        let managers = self.managers.iter().map(|host| host.address.clone()).collect();
        let seed = self.dice.any();
        self.nodes[node].version = self.upgraded(self.nodes[node].version);
        let now = self.nodes[node].clock.read(at).mono;
        self.nodes[node].start(self.cluster, managers, seed, now);
        self.check_remembered_fence(node);
        self.later_agent(node, MS, AgentInput::Subscribe);
        self.greet_agent(node);
        self.drain_agent(node);
    }

    /// The agent's shell tries to reach the engine and to read its events.
    fn subscribe(&mut self, node: usize) {
        if self.nodes[node].subscription.is_some() {
            return;
        }
        if self.nodes[node].engine.power != Power::Up {
            let again = self.dice.millis(100, 500);
            self.later_agent(node, again, AgentInput::Subscribe);
            return;
        }
        self.nodes[node].subscription = Some(Subscription::default());
        let after = self.dice.millis(2, 20);
        self.later_agent(node, after, AgentInput::List);
    }

    /// The shell lists the containers: what happened since it subscribed is told after the list.
    fn list(&mut self, node: usize) {
        let now = self.queue.now();
        let cluster = self.cluster;
        let host = &mut self.nodes[node];
        let Some(subscription) = host.subscription.as_mut().filter(|s| !s.listed) else { return };
        match host.engine.power {
            Power::Down => return,
            Power::Hung => return self.later_agent(node, 50 * MS, AgentInput::List),
            Power::Up => {}
        }
        subscription.listed = true;
        let containers = host.engine.list(cluster, host.node, now);
        let held = std::mem::take(&mut subscription.held);
        let facts =
            EngineFacts { version: "28.0".into(), api: "1.44".into(), cpu_millis: 4_000, memory: 8 << 30 };
        self.tell_in_order(node, Input::EngineUp(facts));
        self.tell_in_order(node, Input::EngineListed { containers });
        for change in held {
            self.tell_in_order(node, Input::EngineChanged(change));
        }
    }

    /// Tells an agent something about its engine, after everything that was told before.
    pub(crate) fn tell_in_order(&mut self, node: usize, event: Input) {
        let delay = self.dice.millis(0, 4);
        let now = self.queue.now();
        let host = &mut self.nodes[node];
        let Some(subscription) = &mut host.subscription else { return };
        subscription.last = subscription.last.max(now + delay);
        let at = subscription.last;
        let life = host.life();
        self.queue.at(at, Event::Agent { node, life, input: AgentInput::Core(event) });
    }

    /// The event stream breaks; the shell begins anew.
    pub(crate) fn break_stream(&mut self, node: usize, reason: &str) {
        let Some(subscription) = self.nodes[node].subscription.take() else {
            return;
        };
        let now = self.queue.now();
        let reason = reason.to_owned();
        let life = self.nodes[node].life();
        // Not before what is on its way already.
        let at = subscription.last.max(now) + MS;
        let input = AgentInput::Core(Input::EngineDown { reason });
        self.queue.at(at, Event::Agent { node, life, input });
        let again = at + self.dice.millis(5, 200);
        self.queue.at(again, Event::Agent { node, life, input: AgentInput::Subscribe });
    }
}

/// An agent's message, in few words.
fn said(message: &model::session::AgentMessage) -> String {
    use model::session::AgentMessage;
    match message {
        AgentMessage::Hello { fence, hash, reports, facts, .. } => {
            let reports: Vec<_> = reports.iter().map(|report| (report.task, report.observed.state)).collect();
            format!(
                "hello, engine {}, fence {} hash {hash:x}, {reports:?}",
                facts.engine_ok,
                fence_text(fence.as_ref())
            )
        }
        AgentMessage::Report(reports) => {
            let reports: Vec<_> = reports.iter().map(|report| (report.task, report.observed.state)).collect();
            format!("report {reports:?}")
        }
        AgentMessage::Heartbeat { number, .. } => format!("beat {number}"),
        AgentMessage::Facts(facts) => format!("facts, engine {}", facts.engine_ok),
        other => format!("{other:?}").chars().take(120).collect(),
    }
}

/// A manager's message, in few words.
fn told(message: &model::session::ManagerMessage) -> String {
    use model::session::ManagerMessage;
    match message {
        ManagerMessage::Welcome { fence, .. } => format!("welcome {}", fence_text(Some(fence))),
        ManagerMessage::Assign(set) => {
            let upsert: Vec<_> = set.upsert.iter().map(|a| (a.task, a.desired)).collect();
            let (base, remove) = (set.base, &set.remove);
            format!("assign {} base {base:?}: {upsert:?}, remove {remove:?}", fence_text(Some(&set.fence)))
        }
        ManagerMessage::HeartbeatAck { number } => format!("ack {number}"),
        other => format!("{other:?}").chars().take(120).collect(),
    }
}

fn fence_text(fence: Option<&model::session::Fence>) -> String {
    fence
        .map_or("none".to_owned(), |f| format!("{}.{}.{}.{}", f.incarnation.0, f.term, f.session, f.sequence))
}
