//! What needs containers: where a secret lies on a node that runs what mounts it, and where not.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Outcome;
use super::canaries::{self, Canaries, Search};
use super::site::search_managers;
use crate::cluster::{Cluster, Container};
use crate::command;
use crate::image::MIMIC_1;
use crate::wait;

/// A loaded machine starts containers at two a second.
const PATIENCE: Duration = Duration::from_secs(90);

/// On a fresh cluster with nodes, the mimic loaded.
///
/// # Errors
/// The cluster does not come along.
pub fn run(cluster: &Cluster) -> Result<Outcome> {
    let mut canaries = Canaries::default();
    let (secret, config, control) = (canaries::fresh()?, canaries::fresh()?, canaries::fresh()?);
    canaries.plant("secret in a container", secret.as_bytes());
    canaries.plant("config in a container", config.as_bytes());
    canaries.plant_text(canaries::CONTROL, &control);
    let ctl = cluster.ctl();
    let put = |args: &[&str], value: &str| {
        let said = ctl.say_to(args, value);
        ensure!(said.code == 0, "{args:?}: {said:?}");
        Ok(())
    };
    put(&["secret", "create", "db", "-"], &secret)?;
    put(&["config", "create", "--template", "app.conf", "-"], &format!("{config} {{{{ secret \"db\" }}}}"))?;
    let label = format!("control={control}");
    let create = ["service", "create", "--name", "web", "--label", &label, "--replicas", "1", "--quiet"];
    ctl.ok(
        &[&create[..], &["--secret", "db", "--config", "app.conf,target=/etc/app.conf", MIMIC_1]].concat()
    )?;
    cluster.wait_one_per_slot("web", 1, PATIENCE)?;
    let running =
        cluster.containers("web").into_iter().find(|container| container.running).context("a container")?;

    let mut outcome = Outcome::default();
    ensure!(read(cluster, &running, "/run/secrets/db")? == secret, "the container reads its secret");
    ensure!(read(cluster, &running, "/etc/app.conf")? == format!("{config} {secret}"), "and its config");
    let kept = kept(cluster)?;
    let mut memory = Search::default();
    for home in &kept {
        canaries.look_below(&mut memory, home, &|_| false)?;
    }
    ensure!(
        memory.leaks().next().is_some(),
        "the values are in the memory of the node, where they have to be"
    );
    println!(
        "trust: in the node's memory, where they have to be: {} values in {} files",
        memory.finds.len(),
        memory.files
    );

    let mut search = Search::default();
    search_managers(cluster, &canaries, &mut search)?;
    for node in cluster.nodes() {
        canaries.look_below(&mut search, node.agent().dir(), &|_| false)?;
        canaries.look(&mut search, &format!("log of {}", node.name()), node.agent().log_text().as_bytes());
    }
    let (node, _) = cluster.locate(&running)?;
    canaries.look(&mut search, "docker inspect", node.engine().docker(&["inspect", &running.id])?.as_bytes());
    for words in [
        &["events", "--after", "0.0", "--json"][..],
        &["service", "inspect", "--json", "web"],
        &["service", "history", "web"],
        &["secret", "inspect", "--json", "db"],
        &["why", "web"],
        &["logs", "--tail", "100", "web"],
        &["audit", "ls", "--limit", "0", "--json"],
    ] {
        canaries.look(&mut search, &words.join(" "), ctl.say(words).all().as_bytes());
    }
    outcome.searched(&search, canaries.count());

    ctl.ok(&["service", "rm", "web"])?;
    let wiped = wait::until_true("the values to be wiped", PATIENCE, || {
        let mut memory = Search::default();
        kept.iter()
            .filter(|home| home.exists())
            .for_each(|home| drop(canaries.look_below(&mut memory, home, &|_| false)));
        memory.finds.is_empty()
    });
    if wiped.is_err() {
        outcome.wrong.push("canary: the node's memory holds values of a service that is gone".to_owned());
    }
    Ok(outcome)
}

/// A file as the container's processes see it; the engine counts processes as its host does.
fn read(cluster: &Cluster, container: &Container, path: &str) -> Result<String> {
    let (node, _) = cluster.locate(container)?;
    let host = cluster.nodes().iter().position(|other| other.name() == node.name()).context("its host")?;
    let pid = node.engine().inspect(&container.id, "{{.State.Pid}}")?;
    command::run(cluster.lab().host(host).command("cat").arg(format!("/proc/{pid}/root{path}")))
}

/// Where the nodes keep values: in memory.
fn kept(cluster: &Cluster) -> Result<Vec<PathBuf>> {
    let nodes = cluster.ctl().json(&["node", "ls"])?;
    let ids = nodes.as_array().into_iter().flatten().filter_map(|view| view["node"]["id"].as_str());
    let places = ["/run/orch-agent", "/dev/shm/orch-agent"].map(PathBuf::from);
    Ok(ids
        .flat_map(|id| places.iter().map(move |place| place.join(id)))
        .filter(|home| home.exists())
        .collect())
}
