//! What agents report: heartbeats stay with the leader, transitions go into the log once, folded per task.

use model::{
    command::Command,
    id::NodeId,
    node::Facts,
    session::{AgentMessage, ManagerMessage, TaskReport},
};

use crate::{Action, Manager, SpaceState, proposal::Purpose, session::State};

impl Manager {
    /// A message of a welcome agent.
    pub(crate) fn on_session_message(&mut self, connection: u64, node: NodeId, message: AgentMessage) {
        let now = self.now.mono;
        let Some(lead) = &mut self.lead else { return };
        match message {
            AgentMessage::Goodbye { hold } => return lead.liveness.goodbye(&self.store, node, hold, now),
            _ => lead.liveness.beat(&self.store, node, now),
        }
        match message {
            AgentMessage::Heartbeat { number, .. } => {
                self.act(Action::SendAgent { connection, message: ManagerMessage::HeartbeatAck { number } });
            }
            AgentMessage::Report(reports) => self.take_reports(connection, reports),
            AgentMessage::Facts(facts) => self.take_facts(connection, facts),
            AgentMessage::NeedFullSet => {
                lead.dirty.insert(node);
                if let Some((_, session)) = self.sessions.of_node(node)
                    && let State::Open(open) = &mut session.state
                {
                    (open.whole, open.offered) = (true, None);
                }
            }
            AgentMessage::Seen(seen) => self.on_seen(node, seen),
            AgentMessage::Routed(version) => self.on_routed(connection, version),
            AgentMessage::ImageResolved { image, outcome } => {
                self.on_image_resolved(Some(connection), &image, outcome)
            }
            AgentMessage::PullWish { pull, image } => self.on_pull_wish(connection, node, pull, image),
            AgentMessage::Fetched { fetch, outcome } => self.on_fetched(node, fetch, outcome),
            AgentMessage::PullEnded { pull } => self.on_pull_ended(node, pull),
            AgentMessage::Goodbye { .. } | AgentMessage::Hello { .. } => {}
            AgentMessage::FileWish { task } => self.on_file_wish(connection, node, task),
        }
    }

    /// Keeps what is new of a node's own tasks.
    pub(crate) fn take_reports(&mut self, connection: u64, reports: Vec<TaskReport>) {
        let Some(session) = self.sessions.by_connection.get_mut(&connection) else { return };
        for TaskReport { task: id, observed } in reports {
            let Some(task) = self.store.task(id).filter(|task| task.node == Some(session.node)) else {
                continue;
            };
            session.known.insert(id);
            if task.observed.state.is_terminal() {
                continue;
            }
            if task.observed == observed && !session.observing {
                session.reports.remove(&id);
            } else {
                session.reports.insert(id, observed);
            }
        }
        if !session.reports.is_empty() {
            self.sessions.reporting.insert(connection);
        }
    }

    fn take_facts(&mut self, connection: u64, facts: Facts) {
        if !model::validate::validate_facts(&facts).is_empty() {
            return;
        }
        let Some(session) = self.sessions.by_connection.get_mut(&connection) else { return };
        session.facts = Some(facts);
        self.sessions.reporting.insert(connection);
    }

    /// One entry per node is on its way at a time; what comes meanwhile is folded into the next.
    pub(crate) fn propose_reports(&mut self) {
        if self.sessions.reporting.is_empty() || self.space == SpaceState::Exhausted {
            return;
        }
        let connections = std::mem::take(&mut self.sessions.reporting);
        for connection in connections {
            for (command, purpose) in self.reports_of(connection) {
                self.propose_own(command, purpose);
            }
        }
    }

    fn reports_of(&mut self, connection: u64) -> Vec<(Command, Purpose)> {
        let mut commands = Vec::new();
        let Some(session) = self.sessions.by_connection.get_mut(&connection) else { return commands };
        let State::Open(open) = &session.state else { return commands };
        let (node, incarnation) = (session.node, open.fence.incarnation);
        if !session.observing {
            let reports = std::mem::take(&mut session.reports).into_iter();
            let news = reports
                .filter(|(id, observed)| self.store.task(*id).is_some_and(|task| task.observed != *observed));
            let reports: Vec<TaskReport> =
                news.map(|(task, observed)| TaskReport { task, observed }).collect();
            if !reports.is_empty() {
                session.observing = true;
                commands.push((Command::Observe { node, incarnation, reports }, Purpose::Observe { node }));
            }
        }
        let known = self.store.node(node).map(|node| &node.facts);
        if !session.recording
            && let Some(facts) = session.facts.take().filter(|facts| known != Some(facts))
        {
            session.recording = true;
            session.set_facts(facts.clone());
            commands.push((Command::NodeFacts { id: node, incarnation, facts }, Purpose::Facts { node }));
        }
        commands
    }

    pub(crate) fn on_observed(&mut self, node: NodeId) {
        if let Some((connection, session)) = self.sessions.of_node(node) {
            session.observing = false;
            if !session.reports.is_empty() {
                self.sessions.reporting.insert(connection);
            }
        }
    }

    pub(crate) fn on_facts_recorded(&mut self, node: NodeId) {
        if let Some((connection, session)) = self.sessions.of_node(node) {
            session.recording = false;
            if session.facts.is_some() {
                self.sessions.reporting.insert(connection);
            }
        }
    }
}
