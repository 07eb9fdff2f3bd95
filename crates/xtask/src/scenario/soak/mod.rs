//! `scenario soak`: for hours a service crashes on every node, hundreds of agents report, services are scaled and updated; does any
//! daemon grow, and does anybody else wait?
//!
//! Three managers, three nodes with engines on hosts of a laboratory, and simulated agents beside them. Read in this order: this file,
//! [`load`] (what goes on), [`hollow`] (the simulated agents), [`sample`] (what daemons hold), [`neighbour`] (who must not wait).

mod hollow;
mod load;
mod neighbour;
mod sample;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::ScopedJoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::Args;
use model::{
    identity::JoinRole,
    node::{NodeClass, NodeSpec, NodeState},
    request::{Request, Response},
};
use signal_hook::consts::{SIGINT, SIGTERM};
use tests::{
    cluster::{Cluster, PATIENCE, Plan},
    meanwhile, wait,
};
use tokio::sync::watch;

use crate::client::{Client, block_on};
use hollow::{Fleet, Tally};
use neighbour::Starts;
use sample::Samples;

const MANAGERS: usize = 3;
const NODES: usize = 3;
/// As often in a run, and not more often than the first nor more rarely than the second says.
const SAMPLES: f64 = 80.0;
const EVERY: (f64, f64) = (1.0, 15.0);

/// Options of `scenario soak`.
#[derive(Args, Debug)]
pub struct Options {
    /// How long; 0.02 for a minute
    #[arg(long, default_value_t = 1.0)]
    hours: f64,
    /// Simulated agents
    #[arg(long, default_value_t = 300)]
    agents: usize,
    /// With programs that are not optimised, as the test suite has them
    #[arg(long)]
    debug: bool,
}

/// Lives through it, and prints what grew.
///
/// # Errors
/// It cannot be set up, a daemon ends, or a change is refused.
pub fn run(options: &Options) -> Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let cluster = Cluster::start(Plan { release: !options.debug, ..Plan::lab(MANAGERS, NODES) })?;
    cluster.load_mimic()?;
    let outcome =
        cluster.lab().switch().within(|| Soak { cluster: &cluster, options, stop: &stop }.live())?;
    match outcome {
        Ok(outcome) => Ok(outcome.print(options)),
        Err(error) => {
            println!("the daemons' logs: {}", cluster.lab().keep_logs()?.display());
            Err(error)
        }
    }
}

struct Soak<'a> {
    cluster: &'a Cluster,
    options: &'a Options,
    stop: &'a AtomicBool,
}

/// What came of it.
struct Outcome {
    took: Duration,
    samples: Samples,
    starts: Starts,
    changes: usize,
    crashes: u64,
    restarts: u64,
    sessions_lost: u64,
    /// Nodes that were not there at the end.
    missing: Vec<String>,
}

impl Soak<'_> {
    fn live(&self) -> Result<Outcome> {
        let client = Client::of(self.cluster.ctl().config(), &self.cluster.address(0))?;
        let tally = Arc::new(Tally::default());
        let fleet = Fleet {
            count: self.options.agents,
            managers: (0..MANAGERS).map(|index| self.cluster.address(index)).collect(),
            token: self.token(&client)?,
            tally: tally.clone(),
        };
        let (end, ended) = watch::channel(false);
        std::thread::scope(|scope| {
            let agents = scope.spawn(|| fleet.live(ended));
            let lived = self.with_agents(&client, &tally, &agents);
            end.send_replace(true);
            let agents = joined(agents);
            let outcome = lived?;
            agents.map(|()| outcome)
        })
    }

    /// Workstations: their silence means something only after half a minute.
    fn token(&self, client: &Client) -> Result<String> {
        let request = Request::CreateToken {
            role: JoinRole::Agent,
            ttl: Duration::from_secs(3600),
            uses: u32::try_from(self.options.agents.max(1))?,
            node_spec: NodeSpec { class: NodeClass::Workstation, ..NodeSpec::default() },
        };
        match block_on(client.call(&request, PATIENCE))?.response {
            Response::Token { text, .. } => Ok(text),
            other => anyhow::bail!("no token: {other:?}"),
        }
    }

    fn with_agents(
        &self,
        client: &Client,
        tally: &Tally,
        agents: &ScopedJoinHandle<'_, Result<()>>,
    ) -> Result<Outcome> {
        self.cluster.ask("every simulated agent to be ready", 2 * PATIENCE, || {
            (agents.is_finished() || missing(client).is_ok_and(|missing| missing.is_empty())).then_some(())
        })?;
        ensure!(!agents.is_finished(), "the simulated agents have ended");
        load::declare(self.cluster, self.options.agents)?;
        println!(
            "{MANAGERS} managers, {NODES} nodes with engines and {} simulated agents are up",
            self.options.agents
        );
        let begun = Instant::now();
        // On its way to the leader an agent leaves followers.
        let left = tally.sessions_lost.load(Ordering::Relaxed);
        let over = AtomicBool::new(false);
        let (samples, starts, changes) = std::thread::scope(|scope| {
            let starts = scope.spawn(|| neighbour::probe(self.cluster, self.pause(), &over));
            let changes = scope.spawn(|| load::change(self.cluster, self.options.agents, &over));
            let workers = || starts.is_finished() || changes.is_finished() || agents.is_finished();
            let samples = meanwhile::work(&over, || self.sample(begun, workers));
            let (starts, changes) = (joined(starts), joined(changes));
            anyhow::Ok((samples?, starts?, changes?))
        })?;
        Ok(Outcome {
            took: begun.elapsed(),
            samples,
            starts,
            changes,
            crashes: tally.crashes.load(Ordering::Relaxed),
            restarts: self.restarts()?,
            sessions_lost: tally.sessions_lost.load(Ordering::Relaxed) - left,
            missing: missing(client)?,
        })
    }

    fn span(&self) -> Duration {
        Duration::from_secs_f64(self.options.hours.max(0.0) * 3600.0)
    }

    fn pause(&self) -> Duration {
        Duration::from_secs_f64((self.span().as_secs_f64() / SAMPLES).clamp(EVERY.0, EVERY.1))
    }

    /// Samples until the time is over or somebody asks for the end; ends early when a worker did.
    fn sample(&self, begun: Instant, a_worker_ended: impl Fn() -> bool) -> Result<Samples> {
        let mut samples = Samples::new(self.cluster);
        let over = || a_worker_ended() || self.stop.load(Ordering::Relaxed);
        while begun.elapsed() < self.span() && !over() {
            samples.take(self.cluster)?;
            drop(wait::until_true("the next sample", self.pause(), over));
        }
        Ok(samples)
    }

    /// Restarts that the crashing service's tasks on nodes with engines count.
    fn restarts(&self) -> Result<u64> {
        let names: Vec<&str> = self.cluster.nodes().iter().map(tests::cluster::Node::name).collect();
        let rows = self.cluster.ctl().json(&["ps", "--service", load::CRASHING])?;
        let tasks = rows.as_array().into_iter().flatten();
        let here = tasks.filter(|row| row["node"].as_str().is_some_and(|node| names.contains(&node)));
        Ok(here.filter_map(|row| row["task"]["observed"]["restarts"].as_u64()).sum())
    }
}

fn joined<T>(worker: ScopedJoinHandle<'_, T>) -> T {
    worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Nodes that are not ready.
fn missing(client: &Client) -> Result<Vec<String>> {
    match block_on(client.call(&Request::ListNodes, PATIENCE))?.response {
        Response::Nodes(views) => {
            let nodes = views.into_iter().map(|view| view.node);
            Ok(nodes.filter(|node| node.state != NodeState::Ready).map(|node| node.facts.hostname).collect())
        }
        other => anyhow::bail!("no nodes: {other:?}"),
    }
}

impl Outcome {
    fn print(&self, options: &Options) -> ExitCode {
        println!("{}\n{}", self.samples.table(), self.starts.lines());
        let mut wrong: Vec<String> =
            self.samples.grown().into_iter().map(|row| format!("grew: {row}")).collect();
        wrong.extend(
            self.starts.slowed().then(|| "the neighbour's starts take longer than they did".to_owned()),
        );
        wrong.extend(self.missing.iter().map(|node| format!("{node} is not ready")));
        wrong.iter().for_each(|what| println!("{what}"));
        println!(
            "soak: {:.2} h, {MANAGERS} managers, {NODES} nodes with engines, {} simulated agents, {} samples, {} crashes \
             ({} in engines), {} changes, {} starts of the neighbour, {} sessions lost, {}",
            self.took.as_secs_f64() / 3600.0,
            options.agents,
            self.samples.rounds(),
            self.crashes + self.restarts,
            self.restarts,
            self.changes,
            self.starts.count(),
            self.sessions_lost,
            if wrong.is_empty() { "flat".to_owned() } else { format!("{} found", wrong.len()) },
        );
        if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
