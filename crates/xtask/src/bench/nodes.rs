//! Lost nodes: from the instant that a host loses its power or its cable until its replicas run elsewhere.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use model::{
    container::ContainerSpec,
    event::EventKind,
    id::NodeId,
    request::Request,
    service::{Mode, ServiceSpec, TaskTemplate},
    task::TaskState,
};
use tests::{
    cluster::{Cluster, Place, Plan},
    image::MIMIC_1,
    require,
};

use super::table::Table;
use crate::{
    client::{Client, block_on},
    times::Times,
};

const SERVICE: &str = "bench";
const REPLICAS: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(60);

/// Adds the rows.
///
/// # Errors
/// The replicas do not come up elsewhere.
pub fn measure(table: &mut Table, rounds: usize) -> Result<()> {
    if !require::is_root() {
        println!("NOT RUN: lost nodes: hosts in network namespaces need root");
        return Ok(());
    }
    let place = Place::Lab { uplink: true };
    let cluster = Cluster::start(Plan { managers: 1, nodes: 3, place, release: true })?;
    cluster.load_mimic()?;
    let client = Client::of(cluster.ctl().config(), &cluster.address(0))?;
    block_on(async { client.call(&Request::CreateService(Arc::new(spec())), PATIENCE).await })?;
    cluster.wait_healthy(SERVICE, REPLICAS as usize, PATIENCE)?;
    let floor = "patience 1.5 s + one start".to_owned();
    for (what, fault) in [("node killed", Fault::Power), ("link cut", Fault::Cable)] {
        let times = times(&cluster, &client, rounds, fault)?;
        let what = format!("{what} -> its replica runs elsewhere");
        table.row(&what, times.said(), floor.clone(), "-".into(), "<= 3 s + start");
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Fault {
    Power,
    Cable,
}

fn spec() -> ServiceSpec {
    let container = ContainerSpec { image: MIMIC_1.to_owned(), ..ContainerSpec::default() };
    ServiceSpec {
        name: SERVICE.to_owned(),
        mode: Mode::Replicated(REPLICAS),
        template: TaskTemplate { container, ..TaskTemplate::default() },
        ..ServiceSpec::default()
    }
}

fn times(cluster: &Cluster, client: &Client, rounds: usize, fault: Fault) -> Result<Times> {
    let mut times = Vec::new();
    for _ in 0..rounds {
        let tasks = cluster.wait_healthy(SERVICE, REPLICAS as usize, PATIENCE)?;
        let lost = cluster.index_of(&tasks.first().context("a task")?.node)?;
        times.push(block_on(lose(cluster, client, lost, fault))?);
        let host = cluster.node(lost).agent().seat().host().context("a host")?;
        match fault {
            Fault::Power => {
                host.power_on()?;
                host.engine().start()?;
                cluster.node(lost).agent().start()?;
            }
            Fault::Cable => host.restore()?,
        }
        cluster.wait_node(cluster.node(lost).name(), "ready", PATIENCE)?;
    }
    Ok(Times::new(times))
}

async fn lose(cluster: &Cluster, client: &Client, lost: usize, fault: Fault) -> Result<Duration> {
    let mut events = client.watch().await?;
    let node = cluster.node(lost);
    let id = node_id(cluster, node.name())?;
    let replicas = cluster.tasks(SERVICE)?.iter().filter(|task| task.node == node.name()).count();
    let host = node.agent().seat().host().context("a host")?;
    let begun = Instant::now();
    match fault {
        Fault::Power => host.power_off()?,
        Fault::Cable => host.unplug()?,
    }
    let mut running = 0;
    events
        .until(|event| {
            if let EventKind::Task { state: TaskState::Running, node: Some(at), .. } = &event.kind {
                running += usize::from(*at != id);
            }
            (running >= replicas).then_some(())
        })
        .await
        .with_context(|| {
            let tasks = cluster.history(SERVICE);
            format!("{} lost with {replicas} replicas\n{tasks:#?}\n{}", node.name(), cluster.last_words())
        })?;
    Ok(begun.elapsed())
}

fn node_id(cluster: &Cluster, name: &str) -> Result<NodeId> {
    let rows = cluster.ctl().json(&["node", "ls"])?;
    let rows = rows.as_array().context("a list")?;
    let row = rows.iter().find(|row| row["node"]["facts"]["hostname"] == name).context("the node")?;
    Ok(row["node"]["id"].as_str().context("an id")?.parse()?)
}
