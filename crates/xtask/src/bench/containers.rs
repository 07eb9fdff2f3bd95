//! Scale and crash against the engine's own create and start, taken in turns.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use model::{
    container::ContainerSpec,
    event::{Event, EventKind},
    request::Request,
    service::{Mode, ServiceSpec, Slot, TaskTemplate},
    task::TaskState,
};
use tests::{cluster::Cluster, image::MIMIC_1};

use super::table::Table;
use crate::{
    client::{Client, block_on},
    raw_engine::Raw,
    times::{Times, above},
};

const SERVICE: &str = "bench";
const PATIENCE: Duration = Duration::from_secs(60);

/// Adds the rows.
///
/// # Errors
/// A replica does not come up.
pub fn measure(table: &mut Table, cluster: &Cluster, rounds: usize) -> Result<()> {
    let client = Client::of(cluster.ctl().config(), &cluster.address(0))?;
    let engine = Raw::of(cluster.node(0).engine());
    let figures = block_on(figures(&client, &engine, rounds))?;
    let floor = format!("engine create + start {}", figures.start.said());
    let scale = above(&figures.scale, &figures.start);
    table.row("scale n -> n + 1 to running", figures.scale.said(), floor, scale, "+ 20 ms p50");
    let floor = format!("engine kill + create + start {}", figures.replace.said());
    let crash = above(&figures.crash, &figures.replace);
    table.row("container killed -> next attempt running", figures.crash.said(), floor, crash, "+ 50 ms p50");
    Ok(())
}

struct Figures {
    scale: Times,
    crash: Times,
    /// The engine's create and start.
    start: Times,
    /// The engine's kill of one container, and create and start of the next.
    replace: Times,
}

async fn figures(client: &Client, engine: &Raw, rounds: usize) -> Result<Figures> {
    client.call(&Request::CreateService(Arc::new(spec())), PATIENCE).await?;
    let mut events = client.watch().await?;
    let (mut scale, mut crash, mut start, mut replace) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 1..=u32::try_from(rounds)? {
        start.push(engine.create_and_start(&name(round, "a"))?);
        let begun = Instant::now();
        client.call(&Request::ScaleServices(vec![(SERVICE.to_owned(), round)]), PATIENCE).await?;
        events.until(|event| runs(event, round)).await?;
        scale.push(begun.elapsed());
        replace.push(engine.replace(&name(round, "a"), &name(round, "b"))?);
        let victim = engine.container_of(SERVICE, round)?;
        let begun = Instant::now();
        engine.kill(&victim)?;
        events.until(|event| runs(event, round)).await?;
        crash.push(begun.elapsed());
        engine.remove(&name(round, "a"))?;
        engine.remove(&name(round, "b"))?;
    }
    client.call(&Request::RemoveService(SERVICE.to_owned()), PATIENCE).await?;
    let [scale, crash, start, replace] = [scale, crash, start, replace].map(Times::new);
    Ok(Figures { scale, crash, start, replace })
}

/// Of a container of the floor.
fn name(round: u32, which: &str) -> String {
    format!("orch-bench-{}-{round}{which}", std::process::id())
}

fn spec() -> ServiceSpec {
    let container = ContainerSpec { image: MIMIC_1.to_owned(), ..ContainerSpec::default() };
    ServiceSpec {
        name: SERVICE.to_owned(),
        mode: Mode::Replicated(0),
        template: TaskTemplate { container, ..TaskTemplate::default() },
        ..ServiceSpec::default()
    }
}

fn runs(event: &Event, replica: u32) -> Option<()> {
    let is = matches!(
        &event.kind,
        EventKind::Task { slot: Slot::Replica(number), state: TaskState::Running, .. } if *number == replica
    );
    is.then_some(())
}
