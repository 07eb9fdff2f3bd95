//! Tells nodes which images rollouts want there, and takes what became of it to the control loop.
//!
//! A node gets its whole list whenever that changes. The name of a fetch follows from what it is, so that a new leader's wish is
//! the old one's, and a pull under way goes on.

use std::collections::{BTreeMap, BTreeSet};

use control::Fetch;
use model::{
    hash::Fnv,
    id::{NodeId, TaskId},
    session::{FetchWish, ManagerMessage},
};
use store::Change;

use crate::{Action, Manager, pins::PinState, session::State};

/// The version of the conversation that knows fetches.
const PROTOCOL: u32 = 3;

/// What nodes were told.
#[derive(Default)]
pub(crate) struct Told {
    /// By node: on which connection, and the fetches.
    nodes: BTreeMap<NodeId, (u64, BTreeMap<TaskId, Fetch>)>,
}

impl Manager {
    /// Sends every node that is to fetch something else than it was told its list.
    pub(crate) fn dispatch_fetches(&mut self) {
        let Some(lead) = &mut self.lead else { return };
        let open = lead.control.fetches().open(&self.store);
        if open.is_empty() && lead.fetches.nodes.is_empty() {
            return;
        }
        let mut wanted: BTreeMap<NodeId, BTreeMap<TaskId, Fetch>> = BTreeMap::new();
        for fetch in open {
            wanted.entry(fetch.node).or_default().insert(name(&fetch), fetch);
        }
        let told: Vec<NodeId> = lead.fetches.nodes.keys().copied().collect();
        for node in wanted.keys().copied().chain(told).collect::<BTreeSet<_>>() {
            self.tell_fetches(node, wanted.remove(&node).unwrap_or_default());
        }
    }

    fn tell_fetches(&mut self, node: NodeId, mut wanted: BTreeMap<TaskId, Fetch>) {
        let Some((connection, session)) = self.sessions.of_node(node) else {
            // It is told in its next session, if the rollout still waits for it.
            self.lead.iter_mut().for_each(|lead| drop(lead.fetches.nodes.remove(&node)));
            return;
        };
        let State::Open(open) = &session.state else { return };
        if open.protocol < PROTOCOL {
            // An older agent fetches with the task.
            return wanted.into_values().for_each(|fetch| self.fetch_settled(fetch, Ok(())));
        }
        let mut wishes = Vec::new();
        for (name, fetch) in wanted.clone() {
            match self.fetch_wish(name, &fetch, connection) {
                Some(wish) => wishes.push(wish),
                None => drop(wanted.remove(&name)),
            }
        }
        let Some(lead) = &mut self.lead else { return };
        if lead.fetches.nodes.get(&node).is_some_and(|told| *told == (connection, wanted.clone())) {
            return;
        }
        let knew = lead.fetches.nodes.remove(&node).is_some_and(|(on, _)| on == connection);
        if !wanted.is_empty() {
            lead.fetches.nodes.insert(node, (connection, wanted));
        } else if !knew {
            return;
        }
        self.act(Action::SendAgent { connection, message: ManagerMessage::Fetch(wishes) });
    }

    /// `None` while it is not known what its tag means.
    fn fetch_wish(&mut self, name: TaskId, fetch: &Fetch, connection: u64) -> Option<FetchWish> {
        let PinState::Known(pin) = self.pin_of((fetch.service, fetch.template), connection, false) else {
            return None;
        };
        let container = &self.store.service(fetch.service)?.template_of(fetch.template)?.container;
        let (image, pull) = (container.image.clone(), container.pull);
        Some(FetchWish { fetch: name, service: fetch.service, image, pull, pin })
    }

    pub(crate) fn on_fetched(&mut self, node: NodeId, fetch: TaskId, outcome: Result<(), String>) {
        let Some(lead) = &self.lead else { return };
        let told = lead.fetches.nodes.get(&node).and_then(|(_, fetches)| fetches.get(&fetch).copied());
        if let Some(fetch) = told {
            self.fetch_settled(fetch, outcome);
        }
    }

    fn fetch_settled(&mut self, fetch: Fetch, outcome: Result<(), String>) {
        if let Some(lead) = &mut self.lead {
            lead.control.fetches().settled(fetch, outcome);
            lead.note(&Change::Service(fetch.service), &self.store);
        }
    }

    /// The image that a node was told to fetch under this name.
    pub(crate) fn fetched_image(&self, node: NodeId, fetch: TaskId) -> Option<&str> {
        let (_, fetches) = self.lead.as_ref()?.fetches.nodes.get(&node)?;
        let fetch = fetches.get(&fetch)?;
        let template = self.store.service(fetch.service)?.template_of(fetch.template)?;
        Some(&template.container.image)
    }
}

fn name(fetch: &Fetch) -> TaskId {
    let mut hash = Fnv::new();
    [fetch.service.0, fetch.template.0, fetch.begun.0, fetch.node.0]
        .into_iter()
        .for_each(|n| hash.write_u64(n));
    TaskId(hash.finish_mixed())
}
