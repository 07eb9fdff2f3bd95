//! From what people write to the object that they mean: a name, an id, or the beginning of an id.

use std::ops::RangeInclusive;

use model::{
    access::User,
    command::Rejection,
    id::{NetworkId, NodeId, ServiceId, TaskId, UserId},
    network::Network,
    node::Node,
    service::{Service, Slot},
    task::Task,
};

use crate::Store;

/// Fewer letters than this name nothing: one mistyped letter would too often find something.
const MIN_PREFIX: usize = 4;
/// Letters of a whole id.
const ID_LEN: usize = 13;

impl Store {
    /// The service of this name, id, or unambiguous beginning of an id.
    ///
    /// # Errors
    /// [`Rejection::Missing`], or [`Rejection::Conflict`] when several fit.
    pub fn resolve_service(&self, reference: &str) -> Result<&Service, Rejection> {
        if let Some(service) = self.service_by_name(reference) {
            return Ok(service);
        }
        let ids = id_range(reference).into_iter().flat_map(|ids| {
            self.services
                .range(ServiceId(*ids.start())..=ServiceId(*ids.end()))
                .map(|(_, service)| &**service)
        });
        only("service", reference, ids, |service| format!("{} ({})", service.spec.name, service.id))
    }

    /// The network of this name, id, or unambiguous beginning of an id.
    ///
    /// # Errors
    /// [`Rejection::Missing`], or [`Rejection::Conflict`] when several fit.
    pub fn resolve_network(&self, reference: &str) -> Result<&Network, Rejection> {
        if let Some(network) = self.network_by_name(reference) {
            return Ok(network);
        }
        let ids = id_range(reference).into_iter().flat_map(|ids| {
            self.networks
                .range(NetworkId(*ids.start())..=NetworkId(*ids.end()))
                .map(|(_, network)| &**network)
        });
        only("network", reference, ids, |network| format!("{} ({})", network.spec.name, network.id))
    }

    /// The node of this host name, id, or unambiguous beginning of an id.
    ///
    /// # Errors
    /// [`Rejection::Missing`], or [`Rejection::Conflict`] when several fit.
    pub fn resolve_node(&self, reference: &str) -> Result<&Node, Rejection> {
        let describe = |node: &&Node| format!("{} ({})", node.facts.hostname, node.id);
        let mut named = self.nodes_by_name(reference).peekable();
        if named.peek().is_some() {
            return only("node", reference, named, describe);
        }
        let ids = id_range(reference).into_iter().flat_map(|ids| {
            self.nodes.range(NodeId(*ids.start())..=NodeId(*ids.end())).map(|(_, node)| &**node)
        });
        only("node", reference, ids, describe)
    }

    /// The user of this name or whole id.
    ///
    /// # Errors
    /// [`Rejection::Missing`].
    pub fn resolve_user(&self, reference: &str) -> Result<&User, Rejection> {
        let id = reference.parse::<UserId>().ok();
        let named = self.users().iter().find(|user| user.spec.name == reference);
        named.or_else(|| self.user(id?)).ok_or_else(|| missing("user", reference))
    }

    /// The task of this id or unambiguous beginning of an id, or the newest one of `SERVICE.SLOT`, where a global
    /// service's slot is its node's name or id, and `hook` that of the pre-deploy hook. An active task goes before an ended one.
    ///
    /// # Errors
    /// [`Rejection::Missing`], or [`Rejection::Conflict`] when several fit.
    pub fn resolve_task(&self, reference: &str) -> Result<&Task, Rejection> {
        if let Some((service, slot)) = reference.rsplit_once('.')
            && let Some(service) = self.service_by_name(service)
            && let Some(slot) = self.slot_named(slot)
        {
            let tasks = self.tasks_of_slot(service.id, slot);
            let newest = tasks.max_by_key(|task| (task.is_active(), task.created, task.id));
            return newest.ok_or_else(|| missing("task", reference));
        }
        let ids = id_range(reference).into_iter().flat_map(|ids| {
            self.tasks.range(TaskId(*ids.start())..=TaskId(*ids.end())).map(|(_, task)| &**task)
        });
        only("task", reference, ids, |task| task.id.to_string())
    }

    fn slot_named(&self, text: &str) -> Option<Slot> {
        match text.parse() {
            Ok(number) => Some(Slot::Replica(number)),
            Err(_) if text == Slot::HOOK_NAME => Some(Slot::HOOK),
            Err(_) => self.resolve_node(text).ok().map(|node| Slot::Node(node.id)),
        }
    }
}

/// The ids that begin with a text. Ids are compared like their texts: the alphabet is in order, the first letter counts most.
fn id_range(prefix: &str) -> Option<RangeInclusive<u64>> {
    if !(MIN_PREFIX..=ID_LEN).contains(&prefix.len()) || !prefix.is_ascii() {
        return None;
    }
    let fill = |with: char| {
        let mut text = prefix.to_ascii_lowercase();
        text.extend(std::iter::repeat_n(with, ID_LEN - prefix.len()));
        text.parse::<TaskId>().ok().map(|id| id.0)
    };
    Some(fill('0')?..=fill('z')?)
}

fn only<T>(
    kind: &str,
    reference: &str,
    mut found: impl Iterator<Item = T>,
    describe: impl Fn(&T) -> String,
) -> Result<T, Rejection> {
    let first = found.next().ok_or_else(|| missing(kind, reference))?;
    let Some(second) = found.next() else { return Ok(first) };
    let (one, other) = (describe(&first), describe(&second));
    let more = match found.count() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    Err(Rejection::Conflict(format!(
        "{kind} \"{reference}\" is ambiguous: {one}, {other}{more}; write the whole id"
    )))
}

pub(crate) fn missing(kind: &str, name: impl ToString) -> Rejection {
    Rejection::Missing { kind: kind.to_owned(), name: name.to_string() }
}
