//! Who may pull: a bounded number of nodes at once, each with the login for the image of a task that it has, and for no other
//! (invariant I20).
//!
//! What is granted is the leader's own memory. A new leader begins with nothing: for a while more may pull than should.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use model::{
    id::{NodeId, TaskId},
    registry::{ImageName, Login},
    session::ManagerMessage,
    time::Instant,
};
use seal::SealError;

use crate::{Action, Manager};

/// After so long a pull counts no more, whatever became of it: an engine's own limit.
const LONGEST: Duration = Duration::from_secs(3_600);
/// Pulls that one node may wish for at once: as many as an agent begins.
const MAX_PER_NODE: usize = 3;

type Pull = (NodeId, TaskId);

/// What is granted, and who waits, with the image wished for.
#[derive(Default)]
pub(crate) struct Pulls {
    granted: BTreeMap<Pull, Instant>,
    waiting: VecDeque<(Pull, String)>,
}

impl Pulls {
    /// A node's session ended: it asks again in the next one, for what it still wants.
    pub(crate) fn forget_node(&mut self, node: NodeId) {
        self.granted.retain(|(of, _), _| *of != node);
        self.waiting.retain(|((of, _), _)| *of != node);
    }

    fn of_node(&self, node: NodeId) -> usize {
        let granted = self.granted.range((node, TaskId(0))..=(node, TaskId(u64::MAX))).count();
        granted + self.waiting.iter().filter(|((of, _), _)| *of == node).count()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.granted.values().min().copied().filter(|_| !self.waiting.is_empty())
    }
}

impl Manager {
    pub(crate) fn on_pull_wish(&mut self, connection: u64, node: NodeId, pull: TaskId, image: String) {
        // No answer: the agent pulls with what it has, and what comes of that is no verdict on an image.
        if !self.is_for(node, pull) {
            return;
        }
        let bound = self.pull_bound();
        let Some(lead) = &mut self.lead else { return };
        let key = (node, pull);
        if lead.pulls.waiting.iter().any(|(waiting, _)| *waiting == key) {
            return;
        }
        let granted = lead.pulls.granted.contains_key(&key);
        if !granted && lead.pulls.of_node(node) >= MAX_PER_NODE {
            return;
        }
        if (granted || lead.pulls.granted.len() < bound) && self.grant_pull(key, &image) {
            return;
        }
        let Some(lead) = &mut self.lead else { return };
        lead.pulls.waiting.push_back((key, image));
        self.act(Action::SendAgent { connection, message: ManagerMessage::PullQueued { pull } });
    }

    pub(crate) fn on_pull_ended(&mut self, node: NodeId, pull: TaskId) {
        let Some(lead) = &mut self.lead else { return };
        lead.pulls.granted.remove(&(node, pull));
        lead.pulls.waiting.retain(|(waiting, _)| *waiting != (node, pull));
    }

    /// Gives free turns to those that wait, in order.
    pub(crate) fn grant_pulls(&mut self) {
        let (now, bound) = (self.now.mono, self.pull_bound());
        let Some(lead) = &mut self.lead else { return };
        if lead.pulls.waiting.is_empty() {
            return;
        }
        lead.pulls.granted.retain(|_, until| *until > now);
        let free = bound.saturating_sub(lead.pulls.granted.len()).min(lead.pulls.waiting.len());
        let next: Vec<_> = lead.pulls.waiting.drain(..free).collect();
        let sealed: Vec<_> = next.into_iter().filter(|(key, image)| !self.grant_pull(*key, image)).collect();
        if let Some(lead) = &mut self.lead {
            lead.pulls.waiting.extend(sealed);
        }
    }

    /// Whether a pull need not wait: a login that cannot be opened here yet is waited for, or the node would try without and be refused.
    fn grant_pull(&mut self, (node, pull): Pull, image: &str) -> bool {
        let login = match self.login_for(node, pull, image) {
            Ok(login) => login,
            Err(SealError::NoKey(_)) => return false,
            Err(error) => {
                self.notice(format!(
                    "the login for {image} cannot be used: {error}; declare the registry again"
                ));
                None
            }
        };
        let until = self.now.mono + LONGEST;
        let Some((connection, _)) = self.sessions.of_node(node) else { return true };
        let Some(lead) = &mut self.lead else { return true };
        lead.pulls.granted.insert((node, pull), until);
        self.act(Action::SendAgent { connection, message: ManagerMessage::PullGranted { pull, login } });
        true
    }

    /// Whether a pull is for a task of this node, or for a release on its way there.
    fn is_for(&self, node: NodeId, pull: TaskId) -> bool {
        self.store.task(pull).is_some_and(|task| task.node == Some(node))
            || self.fetched_image(node, pull).is_some()
    }

    /// The login for an image that a task of this node is made from, or that it was told to fetch.
    fn login_for(&self, node: NodeId, pull: TaskId, image: &str) -> Result<Option<Login>, SealError> {
        let host = |image| ImageName::parse(image).map(|name| name.host.to_owned());
        let declared = self.declared_image(node, pull);
        let registry = declared
            .filter(|declared| host(declared) == host(image))
            .and_then(|_| self.store.registry_of(image));
        registry.map_or(Ok(None), |registry| self.login(&registry.spec))
    }

    fn declared_image(&self, node: NodeId, pull: TaskId) -> Option<&str> {
        match self.store.task(pull).filter(|task| task.node == Some(node)) {
            Some(task) => {
                let service = self.store.service(task.service).filter(|_| task.may_have_container())?;
                Some(&service.template_of(task.template)?.container.image)
            }
            None => self.fetched_image(node, pull),
        }
    }

    fn pull_bound(&self) -> usize {
        self.store.cluster().map_or(1, |cluster| cluster.settings.pulls.0 as usize)
    }
}
