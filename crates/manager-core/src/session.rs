//! Agents' sessions: greeting, registration, welcome, farewell.
//!
//! Only a serving leader has sessions; everywhere else an agent is redirected. A session's fence holds the term and the
//! leader's count of sessions, so that whatever an older connection or a deposed leader still sends is refused by the
//! agent. A node is registered in the log before it is welcomed, because its incarnation is part of the fence.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::{
    command::{Answer, Command, Rejection},
    id::{NodeId, TaskId},
    identity::Identity,
    node::{Facts, Incarnation, Node, NodeState},
    session::{AgentMessage, Fence, ManagerAddress, ManagerMessage, PROTOCOL, TaskReport},
    task::Observed,
    time::Instant,
};

use crate::{Action, Manager, dispatch::Sent, proposal::Purpose, routes};

/// Agents connected to one leader: the size that it is measured for, twice over.
const MAX_SESSIONS: usize = 10_000;
/// An agent that says nothing for so long after it connected is cut off.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// What an agent said of itself first.
#[derive(Debug, Clone)]
pub(crate) struct Hello {
    protocol: u32,
    facts: Facts,
    fence: Option<Fence>,
    pub(crate) hash: u64,
    incarnation: Option<Incarnation>,
    reports: Vec<TaskReport>,
}

/// A session in which assignments flow.
#[derive(Debug, Clone)]
pub(crate) struct Open {
    pub(crate) fence: Fence,
    pub(crate) sent: BTreeMap<TaskId, Sent>,
    /// The hash that the agent offered: if it is that of the whole set, nothing needs to be sent.
    pub(crate) offered: Option<u64>,
    /// The next set is a whole one.
    pub(crate) whole: bool,
    /// The version of the conversation that both speak.
    pub(crate) protocol: u32,
    pub(crate) routes: routes::Sent,
}

pub(crate) enum State {
    /// No hello yet.
    Opening,
    /// This member leads but does not serve yet.
    Waiting(Box<Hello>),
    /// The node's registration is on its way through the log.
    Registering(Box<Hello>, Incarnation),
    /// Welcome.
    Open(Box<Open>),
}

/// One connection of one agent.
pub(crate) struct Session {
    pub(crate) node: NodeId,
    pub(crate) state: State,
    /// Tasks that the agent itself has spoken of: it knows how they ended.
    pub(crate) known: BTreeSet<TaskId>,
    /// Transitions that are not in the log yet, folded per task.
    pub(crate) reports: BTreeMap<TaskId, Observed>,
    pub(crate) observing: bool,
    pub(crate) facts: Option<Facts>,
    pub(crate) recording: bool,
    last_facts: Facts,
    again: bool,
}

impl Session {
    /// What the node registers with when it has to register again.
    pub(crate) fn set_facts(&mut self, facts: Facts) {
        self.last_facts = facts;
    }
}

/// All connections of agents.
#[derive(Default)]
pub(crate) struct Sessions {
    pub(crate) by_connection: BTreeMap<u64, Session>,
    pub(crate) by_node: BTreeMap<NodeId, u64>,
    /// Connections with something to record.
    pub(crate) reporting: BTreeSet<u64>,
    silent_until: BTreeSet<(Instant, u64)>,
    /// The list of managers changed: agents are told.
    pub(crate) managers_changed: bool,
}

impl Sessions {
    pub(crate) fn len(&self) -> usize {
        self.by_connection.len()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.silent_until.first().map(|(at, _)| *at)
    }

    /// The current connection of a node.
    pub(crate) fn of_node(&mut self, node: NodeId) -> Option<(u64, &mut Session)> {
        let connection = *self.by_node.get(&node)?;
        self.by_connection.get_mut(&connection).map(|session| (connection, session))
    }

    fn remove(&mut self, connection: u64) -> Option<Session> {
        let session = self.by_connection.remove(&connection)?;
        self.reporting.remove(&connection);
        self.silent_until.retain(|(_, silent)| *silent != connection);
        if self.by_node.get(&session.node) == Some(&connection) {
            self.by_node.remove(&session.node);
        }
        Some(session)
    }
}

impl Manager {
    pub(crate) fn on_agent_opened(&mut self, connection: u64, identity: Identity) {
        let Identity::Node(node) = identity else {
            return self.close_agent(connection, "only agents open sessions");
        };
        if self.sessions.len() >= MAX_SESSIONS {
            return self.close_agent(connection, "too many agents are connected to this manager");
        }
        self.sessions.silent_until.insert((self.now.mono + HELLO_WITHIN, connection));
        let session = Session {
            node,
            state: State::Opening,
            known: BTreeSet::new(),
            reports: BTreeMap::new(),
            observing: false,
            facts: None,
            recording: false,
            last_facts: Facts::default(),
            again: false,
        };
        self.sessions.by_connection.insert(connection, session);
    }

    pub(crate) fn on_agent_closed(&mut self, connection: u64) {
        let Some(session) = self.sessions.remove(connection) else { return };
        self.forget_pins_asked_of(connection);
        // One that was not welcome yet has wished for nothing, and there may be another one that has.
        if let (State::Open(_), Some(lead)) = (&session.state, &mut self.lead) {
            lead.pulls.forget_node(session.node);
        }
        if !self.sessions.by_node.contains_key(&session.node)
            && let Some(lead) = &mut self.lead
        {
            lead.liveness.closed(session.node);
        }
    }

    pub(crate) fn on_agent_message(&mut self, connection: u64, message: AgentMessage) {
        let Some(session) = self.sessions.by_connection.get(&connection) else { return };
        let node = session.node;
        match (&session.state, message) {
            (State::Opening, AgentMessage::Hello { protocol, facts, fence, hash, incarnation, reports }) => {
                self.sessions.silent_until.retain(|(_, silent)| *silent != connection);
                let hello = Hello { protocol, facts, fence, hash, incarnation, reports };
                self.on_hello(connection, Box::new(hello));
            }
            (State::Opening, _) => self.drop_session(connection, "an agent says hello first"),
            (_, AgentMessage::Hello { .. }) => self.drop_session(connection, "a second hello"),
            (State::Waiting(_) | State::Registering(..), _) => {}
            (State::Open(_), message) => self.on_session_message(connection, node, message),
        }
    }

    fn on_hello(&mut self, connection: u64, hello: Box<Hello>) {
        if self.node.role() != consensus::Role::Leader {
            return self.redirect(connection);
        }
        if self.is_serving() && self.lead.is_some() && self.store.cluster().is_some() {
            return self.admit_session(connection, hello);
        }
        if let Some(session) = self.sessions.by_connection.get_mut(&connection) {
            session.state = State::Waiting(hello);
        }
    }

    /// The lead began: those that wait are admitted.
    pub(crate) fn admit_waiting_sessions(&mut self) {
        let waiting = |(connection, session): (&u64, &Session)| {
            matches!(session.state, State::Waiting(_)).then_some(*connection)
        };
        let connections: Vec<u64> = self.sessions.by_connection.iter().filter_map(waiting).collect();
        for connection in connections {
            let Some(session) = self.sessions.by_connection.get_mut(&connection) else { continue };
            if let State::Waiting(hello) = std::mem::replace(&mut session.state, State::Opening) {
                self.on_hello(connection, hello);
            }
        }
    }

    fn admit_session(&mut self, connection: u64, hello: Box<Hello>) {
        let Some(id) = self.sessions.by_connection.get(&connection).map(|session| session.node) else {
            return;
        };
        let Some(node) = self.store.node(id) else {
            let message =
                format!("node {id} is not (or no longer) of this cluster; remove its data and join again");
            return self.turn_away(connection, message);
        };
        let problems = model::validate::validate_facts(&hello.facts);
        if let Some(problem) = problems.first() {
            return self.turn_away(connection, format!("the facts of the node are not valid: {problem}"));
        }
        let incarnation = self.incarnation(node, &hello);
        let registered = node.state == NodeState::Ready && node.incarnation == incarnation;
        // A registration on its way may be that of the last connection, with older facts: these come after it.
        let overtaken = self.proposals.any(|of| matches!(of, Purpose::Register { node } if *node == id));
        let settled = registered && node.facts == hello.facts && !overtaken;
        if let Some(old) = self.sessions.by_node.insert(id, connection).filter(|old| *old != connection) {
            self.drop_session(old, "the agent has connected anew");
        }
        let Some(session) = self.sessions.by_connection.get_mut(&connection) else { return };
        session.last_facts = hello.facts.clone();
        if settled {
            return self.welcome(connection, &hello, incarnation);
        }
        let facts = hello.facts.clone();
        session.state = State::Registering(hello, incarnation);
        self.propose_own(Command::NodeUp { id, incarnation, facts }, Purpose::Register { node: id });
    }

    /// Under which registration a node goes on: its own while it remembers it and our fences are ahead of what it has
    /// stored; a new one after a loss of its memory, and after a recovery that took this cluster back in time.
    fn incarnation(&self, node: &Node, hello: &Hello) -> Incarnation {
        let stored = node.incarnation;
        let next = |incarnation: Incarnation| Incarnation(incarnation.0 + 1);
        let own = match hello.incarnation {
            Some(held) if held >= stored && held.0 > 0 => held,
            Some(_) | None => next(stored),
        };
        let cluster = self.config.cluster;
        let behind = hello.fence.filter(|fence| {
            fence.cluster == cluster && (fence.incarnation, fence.term) > (own, self.node.term())
        });
        behind.map_or(own, |fence| next(fence.incarnation))
    }

    pub(crate) fn on_registered(&mut self, node: NodeId, outcome: Result<Answer, Rejection>) {
        let current = self.store.node(node).map(|node| (node.state, node.incarnation));
        let Some((connection, session)) = self.sessions.of_node(node) else { return };
        session.again = false;
        let State::Registering(_, wanted) = &session.state else { return };
        let wanted = *wanted;
        if current == Some((NodeState::Ready, wanted)) {
            if let State::Registering(hello, _) = std::mem::replace(&mut session.state, State::Opening) {
                self.welcome(connection, &hello, wanted);
            }
            return;
        }
        match outcome {
            Err(Rejection::Missing { .. }) => self.turn_away(connection, "the node was removed".into()),
            Ok(_) | Err(_) => self.drop_session(connection, "the registration was overtaken; connect again"),
        }
    }

    /// A connected node that the state has as down: recorded as up once more.
    pub(crate) fn register_again(&mut self, node: NodeId) {
        let Some((_, session)) = self.sessions.of_node(node) else { return };
        let State::Open(open) = &session.state else { return };
        if std::mem::replace(&mut session.again, true) {
            return;
        }
        let (incarnation, facts) = (open.fence.incarnation, session.last_facts.clone());
        self.propose_own(Command::NodeUp { id: node, incarnation, facts }, Purpose::Register { node });
    }

    fn welcome(&mut self, connection: u64, hello: &Hello, incarnation: Incarnation) {
        let now = self.now.mono;
        let managers = self.managers();
        let heartbeat = self.config.knobs.agent_heartbeat;
        let Some(lead) = &mut self.lead else { return };
        let Some(session) = self.sessions.by_connection.get_mut(&connection) else { return };
        let node = session.node;
        lead.session += 1;
        lead.liveness.beat(&self.store, node, now);
        lead.dirty.insert(node);
        let fence = Fence {
            cluster: self.config.cluster,
            incarnation,
            term: lead.term,
            session: lead.session,
            sequence: 0,
        };
        session.known.extend(hello.reports.iter().map(|report| report.task));
        // What the agent said in its last session may still be on its way into the log: what it says now comes after it, and
        // is compared with what is known then.
        session.observing =
            self.proposals.any(|purpose| matches!(purpose, Purpose::Observe { node: of } if *of == node));
        session.recording =
            self.proposals.any(|purpose| matches!(purpose, Purpose::Facts { node: of } if *of == node));
        session.facts = session.recording.then(|| hello.facts.clone());
        let protocol = hello.protocol.min(PROTOCOL);
        session.state = State::Open(Box::new(Open {
            fence,
            sent: BTreeMap::new(),
            offered: Some(hello.hash),
            whole: true,
            protocol,
            routes: routes::Sent::default(),
        }));
        lead.routes.greet(node);
        let message = ManagerMessage::Welcome { protocol, fence, heartbeat, managers };
        self.act(Action::SendAgent { connection, message });
        self.tell_agent_of_authority(connection);
        self.take_reports(connection, hello.reports.clone());
    }

    /// Told to all when a manager came, went or moved.
    pub(crate) fn tell_managers(&mut self) {
        if !std::mem::take(&mut self.sessions.managers_changed) {
            return;
        }
        let managers = self.managers();
        let open = |(connection, session): (&u64, &Session)| {
            matches!(session.state, State::Open(_)).then_some(*connection)
        };
        let connections: Vec<u64> = self.sessions.by_connection.iter().filter_map(open).collect();
        for connection in connections {
            let message = ManagerMessage::Managers(managers.clone());
            self.act(Action::SendAgent { connection, message });
        }
    }

    fn redirect(&mut self, connection: u64) {
        let leader = self.node.leader().filter(|leader| *leader != self.config.member);
        let leader = leader.and_then(|id| self.store.member(id));
        let leader = leader.map(|member| ManagerAddress { id: member.id, address: member.address.clone() });
        let message = ManagerMessage::Redirect { leader, managers: self.managers() };
        self.act(Action::SendAgent { connection, message });
        self.drop_session(connection, "this manager does not lead");
    }

    fn turn_away(&mut self, connection: u64, message: String) {
        self.act(Action::SendAgent { connection, message: ManagerMessage::Refused { message } });
        self.drop_session(connection, "refused");
    }

    /// This member does not lead: those that waited for it to begin go elsewhere.
    pub(crate) fn redirect_waiting(&mut self) {
        let greeted = |(connection, session): (&u64, &Session)| {
            (!matches!(session.state, State::Opening)).then_some(*connection)
        };
        let connections: Vec<u64> = self.sessions.by_connection.iter().filter_map(greeted).collect();
        for connection in connections {
            self.redirect(connection);
        }
    }

    /// The lead ended: every agent is sent to the next one.
    pub(crate) fn end_sessions(&mut self) {
        let connections: Vec<u64> = self.sessions.by_connection.keys().copied().collect();
        for connection in connections {
            self.redirect(connection);
        }
    }

    pub(crate) fn on_node_removed(&mut self, node: NodeId) {
        if let Some((connection, _)) = self.sessions.of_node(node) {
            self.turn_away(connection, "the node was removed from the cluster".into());
        }
        self.act(Action::Revoked(vec![Identity::Node(node)]));
    }

    pub(crate) fn close_silent(&mut self, node: NodeId, message: &str) {
        if let Some((connection, _)) = self.sessions.of_node(node) {
            self.drop_session(connection, message);
        }
    }

    pub(crate) fn expire_sessions(&mut self) {
        while let Some((_, connection)) =
            self.sessions.silent_until.first().copied().filter(|(at, _)| *at <= self.now.mono)
        {
            self.drop_session(connection, "no hello");
        }
    }

    /// Ends a connection from our side: no `AgentClosed` is needed.
    pub(crate) fn drop_session(&mut self, connection: u64, reason: &str) {
        self.on_agent_closed(connection);
        self.close_agent(connection, reason);
    }

    fn close_agent(&mut self, connection: u64, reason: &str) {
        self.act(Action::CloseAgent { connection, reason: reason.to_owned() });
    }
}
