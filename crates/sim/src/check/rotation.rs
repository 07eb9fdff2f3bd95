//! T1 and T2: what leaves rotation stays out, and what is fit gets back into it.
//!
//! T1: a node says that a task is drained when no request is with it, and none is sent to it after that; and none is let through to a container that its
//! agent has asked to stop because it is not wanted any more, once the agent has configured the mesh process. Neither may depend on
//! the routes of other nodes, which may be as old as the last fault.
//!
//! T2: some time after the last fault, every ingress node goes by what the state says, and would send a request to every replica
//! that it names: none is left out for what happened long ago.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::engine::EngineCall;
use control::routes;
use model::{
    id::TaskId,
    task::{Health, Task},
};

use crate::{
    engine::Happening,
    queue::{MS, Time},
    router::UnderWay,
    world::World,
};

/// A configuration that was on its way when the container was asked to stop has arrived by then.
const ON_ITS_WAY: Time = 100 * MS;

/// What has left.
#[derive(Default)]
pub(super) struct Rotation {
    /// Said to be drained, by node.
    withdrawn: BTreeSet<(usize, TaskId)>,
    /// Containers that were asked to stop, since when.
    stopping: BTreeMap<(usize, String), Time>,
}

impl super::Checks {
    /// What a mesh process has said ends with it.
    pub(crate) fn router_gone(&mut self, node: usize) {
        self.rotation.withdrawn.retain(|(of, _)| *of != node);
    }
}

impl World {
    /// A node's mesh says that nothing of a task is under way.
    pub(crate) fn check_drained(&mut self, node: usize, task: TaskId) {
        self.checks.rotation.withdrawn.insert((node, task));
        let life = self.nodes[node].router.life;
        let is_there = |request: &&UnderWay| {
            let passed = request.passed.as_ref();
            request.task == task && passed.is_some_and(|passed| (passed.node, passed.life) == (node, life))
        };
        if let Some(request) = self.traffic.under_way.values().find(is_there) {
            let what = format!(
                "n{node} says that task {task} is drained, and a request of n{} is with it",
                request.router.0
            );
            self.violate("T1", what, vec![task.to_string(), format!("n{node}")]);
        }
    }

    /// A request reaches a container.
    pub(crate) fn check_rotation(&mut self, request: &UnderWay) {
        let Some(passed) = &request.passed else { return };
        if self.checks.rotation.withdrawn.contains(&(passed.node, request.task)) {
            let what = format!(
                "a request of n{} is sent to task {}, which n{} has said to be drained",
                request.router.0, request.task, passed.node
            );
            self.violate("T1", what, vec![request.task.to_string(), format!("n{}", passed.node)]);
        }
    }

    /// A request is let through to a container.
    pub(crate) fn check_passage(&mut self, node: usize, container: &str, task: TaskId) {
        let now = self.now();
        let since = self.checks.rotation.stopping.get(&(node, container.to_owned()));
        if since.is_some_and(|since| since + ON_ITS_WAY < now) && self.nodes[node].router.is_configured {
            let what =
                format!("n{node} opens task {task} although its agent has asked the container to stop");
            self.violate("T1", what, vec![task.to_string(), format!("n{node}")]);
        }
    }

    /// An agent asks a container to stop: one that is sound only because it is not wanted.
    pub(crate) fn note_stop(&mut self, node: usize, call: &EngineCall) {
        let EngineCall::Stop { container, .. } = call else { return };
        let now = self.now();
        let host = &self.nodes[node];
        let Some(found) = host.engine.containers.get(container) else { return };
        let Some(labels) = found.labels else { return };
        let told_unhealthy = host.told_health.get(container) == Some(&Health::Unhealthy);
        let wanted =
            self.checks.frontier().and_then(|store| store.task(labels.task)).is_some_and(Task::is_active);
        if found.is_live() && found.is_healthy() && !told_unhealthy && !wanted {
            self.checks.rotation.stopping.insert((node, container.clone()), now);
        }
    }

    /// A container begins to run: what was said of its task's last one is no more.
    pub(super) fn note_start(&mut self, node: usize, happening: &Happening) {
        if let Some(labels) = happening.labels {
            self.checks.rotation.withdrawn.remove(&(node, labels.task));
        }
    }

    /// What is missing for all replicas to be used by all ingress nodes; `None`: nothing. Programs of before know no routes.
    pub(crate) fn not_in_rotation(&self) -> Option<(String, Vec<String>)> {
        let store =
            self.checks.frontier().filter(|_| self.knobs.traffic_ms.is_some() && !self.knobs.mixed)?;
        for (number, host) in self.nodes.iter().enumerate() {
            let ingress = store.node(host.node).is_some_and(routes::is_ingress);
            for service in store.services().filter(|service| ingress && !service.spec.ports.is_empty()) {
                let name = &service.spec.name;
                let about = |task: Option<TaskId>| {
                    let task = task.map(|task| task.to_string());
                    [format!("n{number}"), name.clone()].into_iter().chain(task).collect()
                };
                let wanted: Vec<TaskId> = routes::service_route(store, service)
                    .map(|route| route.endpoints.iter().map(|endpoint| endpoint.task).collect())
                    .unwrap_or_default();
                let known: Vec<TaskId> = service
                    .spec
                    .ports
                    .first()
                    .and_then(|port| host.router.service(port.published))
                    .map(|service| service.endpoints.iter().map(|replica| replica.task).collect())
                    .unwrap_or_default();
                if wanted != known || !host.router.is_up && !wanted.is_empty() {
                    return Some((
                        format!("n{number} goes by {known:?} for {name}, the state says {wanted:?}"),
                        about(None),
                    ));
                }
                let now = host.clock.read(self.now()).mono;
                let excluded = host
                    .router
                    .balancer
                    .stats(now)
                    .into_iter()
                    .find(|stats| stats.ejected && wanted.contains(&stats.task));
                if let Some(stats) = excluded {
                    let what = format!("n{number} leaves task {} of {name} out", stats.task);
                    return Some((what, about(Some(stats.task))));
                }
                let closed = wanted.iter().find(|task| !self.is_open(store, **task));
                if let Some(task) = closed {
                    return Some((
                        format!("task {task} of {name} is in rotation and its node does not open it"),
                        about(Some(*task)),
                    ));
                }
            }
        }
        None
    }

    /// A task's own node would let a request through.
    fn is_open(&self, store: &store::Store, task: TaskId) -> bool {
        let node = store.task(task).and_then(|task| task.node);
        let host = self.nodes.iter().find(|host| Some(host.node) == node);
        host.is_some_and(|host| {
            let router = &host.router;
            router.is_up && router.table.local(task).is_some() && !router.gates.is_draining(task)
        })
    }
}
