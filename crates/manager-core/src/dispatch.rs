//! Who is told what to run: for each node whose set may have changed, the difference to what was sent.

use std::{collections::BTreeMap, sync::Arc};

use model::{
    container::ContainerSpec,
    hook::Hook,
    id::{NodeId, TaskId},
    service::{ImagePin, Slot, TemplateVersion},
    session::{Assignment, AssignmentSet, ManagerMessage, set_hash},
    task::{DesiredState, Task},
};

use planted::Bug;

use crate::{Action, Manager, files, parts, pins::PinState, session::State, signatures};

/// All of an assignment that can change: a template's contents never do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    desired: DesiredState,
    template: TemplateVersion,
    pin: Option<ImagePin>,
    node_name: String,
}

impl Sent {
    fn of(assignment: &Assignment) -> Self {
        Self {
            desired: assignment.desired,
            template: assignment.template,
            pin: assignment.pin.clone(),
            node_name: assignment.node_name.clone(),
        }
    }
}

/// A template's container, shared by all assignments that carry it.
pub(crate) struct Shared {
    spec: Arc<ContainerSpec>,
    /// Encoded, in bytes.
    size: usize,
}

impl Shared {
    fn new(spec: ContainerSpec) -> Self {
        Self { size: proto::codec::encode(&spec).len(), spec: Arc::new(spec) }
    }
}

impl Manager {
    pub(crate) fn dispatch_dirty(&mut self) {
        let Some(lead) = &mut self.lead else { return };
        for node in std::mem::take(&mut lead.dirty) {
            self.dispatch(node);
        }
    }

    fn dispatch(&mut self, node: NodeId) {
        let Some((connection, session)) = self.sessions.of_node(node) else { return };
        if !matches!(session.state, State::Open(_)) {
            return;
        }
        let (set, complete) = self.assignments(node, connection);
        let Some((_, session)) = self.sessions.of_node(node) else { return };
        let State::Open(open) = &mut session.state else { return };
        // What a whole set leaves out reads as not wanted: the agent would stop a container that it has forgotten, and that
        // only waits for its image's meaning here.
        if open.whole && !complete {
            return;
        }
        let hash = set_hash(set.values());
        let now: BTreeMap<TaskId, Sent> =
            set.iter().map(|(id, assignment)| (*id, Sent::of(assignment))).collect();
        // Sequence 0 of a session is what the agent came with: if that is the whole set, the difference is empty.
        let unchanged = open.whole && open.offered == Some(hash);
        let (base, upsert, remove) = if unchanged {
            (Some(open.fence.sequence), Vec::new(), Vec::new())
        } else if open.whole {
            (None, set.into_values().collect(), Vec::new())
        } else {
            let remove: Vec<TaskId> = open.sent.keys().filter(|id| !now.contains_key(id)).copied().collect();
            let changed = set.into_iter().filter(|(id, _)| open.sent.get(id) != now.get(id));
            let upsert: Vec<Assignment> = changed.map(|(_, assignment)| assignment).collect();
            if upsert.is_empty() && remove.is_empty() {
                return;
            }
            (Some(open.fence.sequence), upsert, remove)
        };
        (open.whole, open.offered, open.sent) = (false, None, now);
        open.fence.sequence += 1;
        let set = AssignmentSet { fence: open.fence, base, upsert, remove, hash, part: 0, more: false };
        self.send_set(connection, set);
    }

    fn send_set(&mut self, connection: u64, set: AssignmentSet) {
        let Some(lead) = &self.lead else { return };
        let size = |assignment: &Assignment| {
            let shared = lead.containers.get(&(assignment.service, assignment.template));
            shared.map_or(0, |shared| shared.size) + parts::size_beside_container(assignment)
        };
        for part in parts::split(set, self.config.knobs.assignment_part, size) {
            self.act(Action::SendAgent { connection, message: ManagerMessage::Assign(part) });
        }
    }

    /// Everything that a node is to have. A task that ended stays only while the agent itself knows how: told to one that
    /// does not, it would run again. Also whether it is everything: a task whose image's meaning was asked for waits.
    fn assignments(&mut self, node: NodeId, connection: u64) -> (BTreeMap<TaskId, Assignment>, bool) {
        // A clone costs nothing and can be read while `self` is changed.
        let store = self.store.clone();
        let mut set = BTreeMap::new();
        let mut complete = true;
        let theirs = |task: &&Task| planted::is(Bug::NeighboursTasks) && task.node != Some(node);
        let neighbours = store.tasks().filter(theirs).take(1);
        for task in store.tasks_on_node(node).chain(neighbours) {
            let Some((_, session)) = self.sessions.of_node(node) else { break };
            let known = session.known.contains(&task.id);
            let sent = matches!(&session.state, State::Open(open) if open.sent.contains_key(&task.id));
            let kept = !task.observed.state.is_terminal() || (known && task.desired == DesiredState::Running);
            if !kept {
                continue;
            }
            let fresh = !known && !sent && task.desired == DesiredState::Running;
            // What it has, or is to stop, it is told by any manager: that starts nothing.
            if fresh && self.is_beyond(task, node) {
                continue;
            }
            let pin = match self.pin_for(task, connection, fresh) {
                PinState::Known(pin) => pin,
                PinState::Asked => {
                    complete = false;
                    continue;
                }
            };
            if let Some(assignment) = self.assignment(task, node, pin) {
                set.insert(task.id, assignment);
            }
        }
        (set, complete)
    }

    /// Whether a task has secrets, configs, a word on its security or a signed image, and its agent's program knows nothing of such: it
    /// must not start without them, or unverified.
    fn is_beyond(&mut self, task: &Task, node: NodeId) -> bool {
        let Some((_, session)) = self.sessions.of_node(node) else { return false };
        let State::Open(open) = &session.state else { return false };
        let protocol = open.protocol;
        let service = self.store.service(task.service);
        let template = service.and_then(|service| service.template_of(task.template));
        template.is_some_and(|template| {
            let container = &template.container;
            (protocol < files::PROTOCOL && (container.has_files() || !container.security.is_default()))
                || (protocol < signatures::PROTOCOL && !container.signatures.is_empty())
        })
    }

    fn assignment(&mut self, task: &Task, node: NodeId, pin: Option<ImagePin>) -> Option<Assignment> {
        let service = self.store.service(task.service)?;
        let template = service.template_of(task.template)?;
        let containers = &mut self.lead.as_mut()?.containers;
        let shared = containers.entry((task.service, task.template));
        let shared = shared.or_insert_with(|| Shared::new(template.container.clone()));
        let hook = service.hook_of(task.template).filter(|_| task.slot == Slot::HOOK);
        let (container, restart) = match hook {
            Some(hook) => (Arc::new(hook.container(&template.container)), hook.restart()),
            // Its release is forgotten: it must not become a replica on its way out.
            None if task.slot == Slot::HOOK => {
                let hook = Hook::default();
                (Arc::new(hook.container(&template.container)), hook.restart())
            }
            None => (shared.spec.clone(), template.restart.clone()),
        };
        Some(Assignment {
            task: task.id,
            service: service.id,
            service_name: service.spec.name.clone(),
            slot: task.slot,
            template: task.template,
            desired: task.desired,
            container,
            restart,
            pin,
            node,
            node_name: self.store.node(node)?.facts.hostname.clone(),
        })
    }
}
