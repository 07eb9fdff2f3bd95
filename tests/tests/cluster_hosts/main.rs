//! The lane of a whole cluster on hosts: three nodes with engines, three managers, one switch. Hosts lose their power,
//! links are cut one way and both ways, managers die; the engines are asked what runs where.

mod links;
mod managers;
mod placement;
mod power;

use std::collections::BTreeMap;
use std::time::Duration;

use tests::cluster::view::Task;
use tests::cluster::{Cluster, Node, Plan};
use tests::hosts::Host;
use tests::image::MIMIC_1;
use tests::require::{LAB, can_run};

/// A loaded machine starts containers at two a second.
const PATIENCE: Duration = Duration::from_secs(120);
/// For what must not happen: several times the patience with a silent node.
const CALM: Duration = Duration::from_secs(4);

/// Three managers, three nodes, the mimic on every engine.
struct Site {
    cluster: Cluster,
}

impl Site {
    /// `None` where the test cannot run.
    fn start(test: &str) -> Option<Site> {
        if !can_run(&format!("hosts: {test}"), &LAB) {
            return None;
        }
        let cluster = Cluster::start(Plan::lab(3, 3)).expect("three managers and three nodes");
        cluster.load_mimic().expect("the mimic's images");
        Some(Site { cluster })
    }

    /// Creates a service and waits until it runs.
    fn create(&self, name: &str, replicas: usize, flags: &[&str]) {
        let count = replicas.to_string();
        let mut args = vec!["service", "create", "--name", name, "--replicas", &count, "--quiet"];
        args.extend(flags);
        args.push(MIMIC_1);
        self.ok(&args);
        self.whole(name, replicas);
    }

    fn ok(&self, args: &[&str]) -> String {
        self.cluster.ctl().ok(args).expect("orchctl")
    }

    /// Waits until the cluster and the engines agree: every slot healthy, one container for each.
    fn whole(&self, service: &str, slots: usize) -> Vec<Task> {
        let tasks = self.cluster.wait_healthy(service, slots, PATIENCE).expect("healthy");
        self.cluster.wait_one_per_slot(service, slots, PATIENCE).expect("one container for each slot");
        tasks
    }

    /// How many healthy tasks each node has.
    fn by_node(&self, service: &str) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for task in
            self.cluster.tasks(service).expect("tasks").iter().filter(|task| task.desired == "running")
        {
            *counts.entry(task.node.clone()).or_default() += 1;
        }
        counts
    }

    fn node(&self, index: usize) -> &Node {
        self.cluster.node(index)
    }

    fn host(&self, index: usize) -> &Host {
        self.cluster.lab().host(index)
    }

    /// The host that manager `index` runs on.
    fn manager_host(&self, index: usize) -> &Host {
        self.cluster.lab().host(self.cluster.nodes().len() + index)
    }

    /// Waits until `slots` replicas are healthy on other nodes than `node`.
    fn moved_off(&self, service: &str, slots: usize, node: &str) {
        self.cluster
            .wait_tasks(&format!("{slots} replicas elsewhere than on {node}"), service, PATIENCE, |tasks| {
                tasks.iter().filter(|task| task.node != node && task.is_healthy()).count() == slots
            })
            .expect("moved");
    }

    /// Waits for a node to be in a state.
    fn becomes(&self, index: usize, state: &str) {
        self.cluster.wait_node(self.node(index).name(), state, PATIENCE).expect(state);
    }

    /// Ids of all running containers of the service, sorted.
    fn ids(&self, service: &str) -> Vec<String> {
        let running = self.cluster.containers(service).into_iter().filter(|container| container.running);
        let mut ids: Vec<String> = running.map(|container| container.id).collect();
        ids.sort();
        ids
    }

    /// Checks that the same containers keep running for a while.
    fn stays(&self, service: &str) {
        let before = self.ids(service);
        tests::wait::steadily("the same containers", CALM, || self.ids(service) == before)
            .unwrap_or_else(|error| panic!("{error}\n{:#?}", self.cluster.containers(service)));
    }
}
