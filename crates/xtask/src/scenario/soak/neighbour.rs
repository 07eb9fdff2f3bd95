//! The neighbour of services that crash all the time: how long does a start of its take, beside what the engine needs?

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ::tests::{cluster::Cluster, image::MIMIC_1, wait};
use anyhow::Result;
use model::{
    container::ContainerSpec,
    event::{Event, EventKind},
    placement::Placement,
    request::Request,
    service::{Mode, ServiceSpec, Slot, TaskTemplate},
    task::TaskState,
};

use crate::{
    client::{Client, block_on},
    raw_engine::Raw,
    times::Times,
};

const SERVICE: &str = "neighbour";
/// Replicas that stay; the probed one is the next.
const REPLICAS: u32 = 1;
const PATIENCE: Duration = Duration::from_secs(60);
/// Starts may take so much longer than the engine's own at the end than they did at the beginning: a share of the engine's time,
/// which both wait for, and an amount that a shared machine's unrest explains.
const SHARE: f64 = 0.25;
const AMOUNT: Duration = Duration::from_millis(50);

/// One start.
#[derive(Debug, Clone, Copy)]
struct Start {
    /// Of the engine by itself.
    floor: Duration,
    ours: Duration,
}

/// All starts, in order.
#[derive(Debug, Default)]
pub struct Starts(Vec<Start>);

/// Declares the neighbour on the first node and starts a replica of it again and again until `stop`.
///
/// # Errors
/// A replica does not come up or go.
pub fn probe(cluster: &Cluster, pause: Duration, stop: &AtomicBool) -> Result<Starts> {
    let client = Client::of(cluster.ctl().config(), &cluster.address(0))?;
    let node = cluster.node(0);
    let engine = Raw::of(node.engine());
    block_on(client.call(&Request::CreateService(Arc::new(spec(node.name())?)), PATIENCE))?;
    cluster.wait_healthy(SERVICE, REPLICAS as usize, PATIENCE)?;
    let mut starts = Starts::default();
    while !stop.load(Ordering::Relaxed) {
        let name = format!("orch-soak-{}", starts.0.len());
        let floor = engine.create_and_start(&name)?;
        engine.remove(&name)?;
        let ours = block_on(start(&client))?;
        starts.0.push(Start { floor, ours });
        drop(wait::until_true("the next start", pause, || stop.load(Ordering::Relaxed)));
    }
    Ok(starts)
}

fn spec(node: &str) -> Result<ServiceSpec> {
    let container = ContainerSpec { image: MIMIC_1.to_owned(), ..ContainerSpec::default() };
    let constraints = vec![format!("node.hostname=={node}").parse()?];
    let placement = Placement { constraints, ..Placement::default() };
    Ok(ServiceSpec {
        name: SERVICE.to_owned(),
        mode: Mode::Replicated(REPLICAS),
        template: TaskTemplate { container, placement, ..TaskTemplate::default() },
        ..ServiceSpec::default()
    })
}

/// Scales up by one, and down again when it runs.
async fn start(client: &Client) -> Result<Duration> {
    let mut events = client.watch().await?;
    let begun = Instant::now();
    scale(client, REPLICAS + 1).await?;
    events.until(|event| becomes(event, |state| state == TaskState::Running)).await?;
    let took = begun.elapsed();
    scale(client, REPLICAS).await?;
    events.until(|event| becomes(event, TaskState::is_terminal)).await?;
    Ok(took)
}

async fn scale(client: &Client, replicas: u32) -> Result<()> {
    client.call(&Request::ScaleServices(vec![(SERVICE.to_owned(), replicas)]), PATIENCE).await.map(drop)
}

fn becomes(event: &Event, is: impl Fn(TaskState) -> bool) -> Option<()> {
    let EventKind::Task { name, slot: Slot::Replica(number), state, .. } = &event.kind else { return None };
    (name == SERVICE && *number == REPLICAS + 1 && is(*state)).then_some(())
}

impl Starts {
    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The first and the last quarter, each beside the engine's own.
    pub fn lines(&self) -> String {
        let line = |name: &str, starts: &[Start]| {
            let (ours, floor) = times(starts);
            format!("{name}: {}; the engine's own create + start {}", ours.said(), floor.said())
        };
        let (first, last) = self.quarters();
        format!("{}\n{}", line("starts, first quarter", first), line("starts, last quarter ", last))
    }

    /// Whether they take longer in the end than they did in the beginning, the engine's own time apart.
    pub fn slowed(&self) -> bool {
        let above = |starts: &[Start]| {
            let (ours, floor) = times(starts);
            (ours.p50().as_secs_f64() - floor.p50().as_secs_f64(), floor.p50().as_secs_f64())
        };
        let (first, last) = self.quarters();
        let ((before, _), (after, floor)) = (above(first), above(last));
        after > before.max(0.0) + floor * SHARE + AMOUNT.as_secs_f64()
    }

    fn quarters(&self) -> (&[Start], &[Start]) {
        let quarter = (self.0.len() / 4).max(1);
        (&self.0[..quarter], &self.0[self.0.len() - quarter..])
    }
}

fn times(starts: &[Start]) -> (Times, Times) {
    let of = |time: fn(&Start) -> Duration| Times::new(starts.iter().map(time).collect());
    (of(|start| start.ours), of(|start| start.floor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slowed(start: impl Fn(u64) -> (u64, u64)) -> bool {
        let start = |number| {
            let (floor, ours) = start(number);
            Start { floor: Duration::from_millis(floor), ours: Duration::from_millis(ours) }
        };
        Starts((0..40).map(start).collect()).slowed()
    }

    #[test]
    fn starts_that_wait_ever_longer_are_seen_and_a_slower_engine_is_not() {
        assert!(!slowed(|_| (200, 220)));
        assert!(slowed(|number| (200, 220 + number * 10)));
        assert!(!slowed(|number| (200 + number * 10, 220 + number * 10)));
    }
}
