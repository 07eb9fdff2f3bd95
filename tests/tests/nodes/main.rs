//! The lane of one node: a manager, an agent and a real Docker Engine, each hurt in turn. What counts is what the
//! engine says: which containers run, under which ids, and how often they were started.

mod absence;
mod agent;
mod authority;
mod cases;
mod dev;
mod engine;
mod failures;
mod images;
mod jobs;
mod logs;
mod policy;
mod probes;
mod reenrol;
mod releases;
mod secrets;
mod services;

use std::time::Duration;

use tests::cluster::containers::Container;
use tests::cluster::{Cluster, Node, Plan};
use tests::hosts::Host;
use tests::image::MIMIC_PORT;
use tests::require::{LAB, can_run};
use tests::wait;

/// A loaded machine starts containers at two a second.
const PATIENCE: Duration = Duration::from_secs(90);
/// For what must not happen: longer than any reaction that would be wrong.
const CALM: Duration = Duration::from_secs(3);

/// One manager, one node, the mimic on its engine.
struct Site {
    cluster: Cluster,
}

impl Site {
    /// `None` where the test cannot run.
    fn start(test: &str) -> Option<Site> {
        if !can_run(&format!("nodes: {test}"), &LAB) {
            return None;
        }
        let cluster = Cluster::start(Plan::lab(1, 1)).expect("a manager and a node");
        cluster.load_mimic().expect("the mimic's images");
        Some(Site { cluster })
    }

    /// The site with a service `web` that runs.
    fn with_web(test: &str, replicas: usize, flags: &[&str]) -> Option<Site> {
        let site = Site::start(test)?;
        site.create("web", replicas, flags);
        Some(site)
    }

    fn create(&self, name: &str, replicas: usize, flags: &[&str]) {
        let count = replicas.to_string();
        let mut args = vec!["service", "create", "--name", name, "--replicas", &count, "--quiet"];
        args.extend(flags);
        if !flags.iter().any(|flag| flag.starts_with("orch/")) {
            args.push(tests::image::MIMIC_1);
        }
        self.cluster.ctl().ok(&args).expect("created and running");
        self.cluster.wait_one_per_slot(name, replicas, PATIENCE).expect("running");
    }

    /// Declares a service and waits for nothing. `rest` ends in its image.
    fn declare(&self, name: &str, rest: &[&str]) {
        let args = ["service", "create", "--name", name, "--detach"];
        self.ok(&[&args[..], rest].concat());
    }

    fn ok(&self, args: &[&str]) -> String {
        self.cluster.ctl().ok(args).expect("orchctl")
    }

    fn node(&self) -> &Node {
        self.cluster.node(0)
    }

    fn host(&self) -> &Host {
        self.cluster.lab().host(0)
    }

    /// The service's running containers, by slot.
    fn running(&self, service: &str) -> Vec<Container> {
        let mut all = self.cluster.containers(service);
        all.retain(|container| container.running);
        all.sort_by(|a, b| a.slot.cmp(&b.slot));
        all
    }

    fn ids(&self, service: &str) -> Vec<String> {
        self.running(service).into_iter().map(|container| container.id).collect()
    }

    /// The only running container of the service, once it answers.
    fn only(&self, service: &str) -> Container {
        let mut running = self.running(service);
        assert_eq!(running.len(), 1, "{running:?}");
        let only = running.remove(0);
        wait::until_true("an answer", PATIENCE, || self.get(&only, "/version").is_ok()).expect("it answers");
        only
    }

    fn get(&self, container: &Container, path: &str) -> anyhow::Result<tests::http::Answer> {
        let address = self.node().engine().address(&container.id)?;
        self.host().get((address, MIMIC_PORT), path)
    }

    /// Waits until another container runs in the slot of `old`.
    fn wait_successor(&self, service: &str, old: &Container) -> Container {
        wait::until_every(tests::cluster::ASK, "a successor", PATIENCE, || {
            self.running(service).into_iter().find(|c| c.slot == old.slot && c.id != old.id)
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", self.cluster.last_words()))
    }

    /// Checks that the same containers keep running for a while.
    fn stays(&self, service: &str, ids: &[String]) {
        wait::steadily("the same containers", CALM, || self.ids(service) == ids).unwrap_or_else(|error| {
            panic!("{error}\nbefore {ids:?}\n{:#?}", self.cluster.containers(service))
        });
    }
}
