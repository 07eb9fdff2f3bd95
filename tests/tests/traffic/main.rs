//! The lane of traffic: three nodes with engines, a manager, and clients outside the cluster that ask at a fixed rate while
//! replicas come, go and die.

mod ingress;
mod networks;
mod sessions;

use std::net::SocketAddr;
use std::time::Duration;

use tests::cluster::{Cluster, Plan};
use tests::hosts::Host;
use tests::image::MIMIC_1;
use tests::load::{Load, Outcome, Plan as Clients};
use tests::require::{LAB, can_run};
use tests::wait;

/// A loaded machine starts containers at two a second.
const PATIENCE: Duration = Duration::from_secs(120);

/// One manager and some nodes, the mimic on every engine.
struct Site {
    cluster: Cluster,
}

impl Site {
    /// `None` where the test cannot run.
    fn start(test: &str, nodes: usize) -> Option<Site> {
        if !can_run(&format!("traffic: {test}"), &LAB) {
            return None;
        }
        let cluster = Cluster::start(Plan::lab(1, nodes)).expect("a manager and its nodes");
        cluster.load_mimic().expect("the mimic's images");
        Some(Site { cluster })
    }

    fn ok(&self, args: &[&str]) -> String {
        self.cluster.ctl().ok(args).expect("orchctl")
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

    /// Waits until the cluster and the engines agree.
    fn whole(&self, service: &str, slots: usize) {
        self.cluster.wait_healthy(service, slots, PATIENCE).expect("healthy");
        self.cluster.wait_one_per_slot(service, slots, PATIENCE).expect("one container for each slot");
    }

    fn host(&self, index: usize) -> &Host {
        self.cluster.lab().host(index)
    }

    fn nodes(&self) -> usize {
        self.cluster.nodes().len()
    }

    /// Where every node answers for a published port.
    fn everywhere(&self, port: u16) -> Vec<SocketAddr> {
        (0..self.nodes()).map(|index| SocketAddr::from((self.host(index).address(), port))).collect()
    }

    /// Waits until every node answers with 200.
    fn served(&self, port: u16, path: &str) {
        for target in self.everywhere(port) {
            wait::until_true(&format!("{target} to answer"), PATIENCE, || {
                self.host(0).get(target, path).is_ok_and(|answer| answer.status == 200)
            })
            .unwrap_or_else(|error| panic!("{error:#}\n{}", self.cluster.last_words()));
        }
    }

    /// Clients outside the cluster.
    fn clients(&self, port: u16) -> Clients {
        Clients {
            namespace: self.cluster.lab().switch().namespace().to_owned(),
            targets: self.everywhere(port),
            method: "GET",
            path: "/version".to_owned(),
            clients: 8,
            every: Duration::from_millis(100),
            keep_alive: false,
        }
    }
}

/// Every request was answered.
fn whole(outcome: &Outcome, what: &str) {
    assert_eq!(
        outcome.failed(),
        0,
        "{what}: {} of {} failed: {:#?}",
        outcome.failed(),
        outcome.asked,
        outcome.failures
    );
}
