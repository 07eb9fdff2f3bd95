//! Images before stops: a rollout that stops a replica before its successor starts has the new image fetched first, so that the
//! pull is no downtime, and an image that cannot be had fails the release while everything still runs.
//!
//! What is wanted follows from the rollout and the tasks, level by level: the image on every node whose healthy replica this
//! rollout will stop. Who has it is the leader's own knowledge ([`Fetches`]): a new leader asks again, and the nodes answer at
//! once. Nobody waits beyond the patience, so a node that cannot pull holds no rollout up for ever; a refusal that will not
//! change is waited for by nobody.
//!
//! Not here: start-first, whose successors fetch while the old ones serve; replicas that are not healthy, or leave their node:
//! to wait would not help them. The successor may be placed on another node than the one that fetched; it mostly is not.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use model::{
    container::PullPolicy,
    id::{NodeId, ServiceId},
    node::NodeState,
    service::{FailureAction, Rollout, RolloutState, Service, TemplateVersion},
    time::ClusterTime,
};
use planted::Bug;
use store::Store;

use super::{cursor::Next, is_under_way, standing::Standing};
use crate::{
    explain,
    pass::{Key, Pass},
};

/// Begins the message of a rollout that waits for nodes to fetch.
const FETCHES: &str = "fetches ";

/// One image on one node, for one start of one rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fetch {
    /// Whose image.
    pub service: ServiceId,
    /// Which.
    pub template: TemplateVersion,
    /// When the rollout began or was last resumed: what was refused before is tried again.
    pub begun: ClusterTime,
    /// Where.
    pub node: NodeId,
}

/// What is wanted and what is known of it.
#[derive(Debug, Default)]
pub struct Fetches {
    /// Somebody carries fetches out; otherwise nothing waits for them.
    on: bool,
    /// Each with when it was first wanted.
    wanted: BTreeMap<Fetch, ClusterTime>,
    /// It is there, or why it never will be.
    known: BTreeMap<Fetch, Result<(), String>>,
}

impl Fetches {
    /// Fetches that are carried out.
    pub fn carried_out() -> Self {
        Self { on: true, ..Self::default() }
    }

    /// What is wanted and not settled, of rollouts that are under way.
    pub fn open(&mut self, store: &Store) -> Vec<Fetch> {
        self.wanted.retain(|fetch, _| {
            let rollout = store.service(fetch.service).filter(|service| is_under_way(service));
            let rollout = rollout.and_then(|service| service.rollout.as_ref());
            rollout.is_some_and(|rollout| (rollout.target, rollout.begun()) == (fetch.template, fetch.begun))
        });
        self.known.retain(|fetch, _| self.wanted.contains_key(fetch));
        self.wanted.keys().filter(|fetch| !self.known.contains_key(fetch)).copied().collect()
    }

    /// Notes what became of one; to be followed by a look at its service.
    pub fn settled(&mut self, fetch: Fetch, outcome: Result<(), String>) {
        if self.wanted.contains_key(&fetch) {
            self.known.insert(fetch, outcome);
        }
    }

    fn want(&mut self, service: ServiceId, fetches: &BTreeSet<Fetch>, now: ClusterTime) {
        self.wanted.retain(|fetch, _| fetch.service != service || fetches.contains(fetch));
        for fetch in fetches {
            self.wanted.entry(*fetch).or_insert(now);
        }
    }
}

/// How long a rollout waits for nodes to fetch: half of what a replica has to become healthy, so that its own deadline leaves the
/// other half. Who has a slow line raises that.
fn patience(service: &Service) -> Duration {
    service.spec.update.progress_deadline / 2
}

/// Notes what this rollout needs where, and fails the slots whose node was refused it.
pub(super) fn judge(pass: &mut Pass<'_>, service: &Service, standings: &mut [Standing<'_>]) {
    if !pass.fetches.on {
        return;
    }
    let wanted = |standing: &Standing<'_>| wanted(pass, service, standing);
    let fetches: BTreeSet<Fetch> = standings.iter().filter_map(wanted).collect();
    for standing in &mut *standings {
        let refused = wanted_refusal(pass, service, standing);
        if let Some((node, why)) = refused {
            let name = explain::node_name(pass.store, node);
            let image = &service.spec.template.container.image;
            standing.failure = Some(format!("node {name} cannot fetch {image}: {why}"));
            if service.spec.update.failure_action == FailureAction::Continue {
                standing.give_up();
            }
        }
    }
    let now = pass.now;
    pass.fetches.want(service.id, &fetches, now);
}

fn wanted_refusal(pass: &Pass<'_>, service: &Service, standing: &Standing<'_>) -> Option<(NodeId, String)> {
    let fetch = wanted(pass, service, standing)?;
    let refusal = pass.fetches.known.get(&fetch)?.as_ref().err()?;
    Some((fetch.node, refusal.clone()))
}

/// The image that has to be on the node of a slot's healthy replica before that is stopped.
fn wanted(pass: &Pass<'_>, service: &Service, standing: &Standing<'_>) -> Option<Fetch> {
    let rollout = service.rollout.as_ref().filter(|_| is_under_way(service))?;
    // Slots that wait for the hook or the canaries too: their turn comes, and what is refused there is known before.
    let left = standing.excluded || standing.leaves || standing.frozen.is_some();
    let old = standing.goes.or(standing.stays).filter(|_| standing.healthy && !left)?;
    let node = pass.store.node(old.node?).filter(|node| node.state == NodeState::Ready)?.id;
    let new = &service.template_of(rollout.target)?.container;
    let image = |template: TemplateVersion| {
        let name = service.template_of(template).map(|template| &template.container.image);
        (name, service.pins.get(&template))
    };
    let same = image(old.template) == image(rollout.target);
    let needed = !same && new.pull != PullPolicy::Never && !service.spec.order().start_first;
    let (template, begun) = (rollout.target, rollout.begun());
    needed.then_some(Fetch { service: service.id, template, begun, node })
}

/// Replacements may begin, but for what is being fetched.
pub(super) fn next(pass: &mut Pass<'_>, service: &Service) -> Next {
    let Some(rollout) = service.rollout.as_ref().filter(|_| is_under_way(service)) else { return Next::Go };
    let patience = patience(service);
    let own = |(fetch, since): (&Fetch, &ClusterTime)| {
        let open = fetch.service == service.id && !pass.fetches.known.contains_key(fetch);
        (open && *since + patience > pass.now).then_some((fetch.node, *since + patience))
    };
    let open: BTreeMap<NodeId, ClusterTime> = pass.fetches.wanted.iter().filter_map(own).collect();
    let until = open.values().min().copied().filter(|_| !planted::is(Bug::StopsBeforeFetch));
    // The message of a rollback says why it goes back.
    let told = rollout.message.starts_with(FETCHES);
    let shows = rollout.state == RolloutState::Updating && (told || rollout.message.is_empty());
    let message = match until {
        Some(_) if shows => sentence(pass.store, service, open.keys()),
        None if told => String::new(),
        _ => rollout.message.clone(),
    };
    if rollout.message != message {
        return Next::Change(Rollout { message, ..rollout.clone() });
    }
    let Some(until) = until else { return Next::Go };
    pass.wake(until, Key::Service(service.id));
    Next::Wait(Some(until))
}

/// What a rollout waits for, if it is for nodes that fetch.
pub(crate) fn waits_for(rollout: &Rollout) -> Option<&str> {
    Some(rollout.message.as_str()).filter(|message| message.starts_with(FETCHES))
}

/// Which nodes are named; of more only the number is told.
const NAMED: usize = 5;

fn sentence<'a>(
    store: &Store,
    service: &Service,
    nodes: impl ExactSizeIterator<Item = &'a NodeId>,
) -> String {
    let more = nodes.len().saturating_sub(NAMED);
    let names: Vec<String> = nodes.take(NAMED).map(|node| explain::node_name(store, *node)).collect();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{FETCHES}{} on {}{more}", service.spec.template.container.image, names.join(", "))
}
