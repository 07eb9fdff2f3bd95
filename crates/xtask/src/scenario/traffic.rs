//! `scenario traffic`: clients at a fixed rate, in front of everything that happens to replicas, nodes, agents and managers; what
//! each case cost, in requests.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use tests::cluster::{Cluster, PATIENCE, Plan};
use tests::image::MIMIC_1;
use tests::load::{Load, Outcome, Plan as Clients};
use tests::wait;

/// What clients ask.
const PORT: u16 = 80;
const SERVICE: &str = "ispyb";
const NODES: usize = 3;

/// Options of `scenario traffic`.
#[derive(Args, Debug)]
pub struct Options {
    /// Requests in each case, at least
    #[arg(long, default_value_t = 10_000)]
    requests: usize,
    /// Requests a second
    #[arg(long, default_value_t = 400)]
    rate: u32,
}

/// One thing that happens while clients ask.
struct Case {
    name: &'static str,
    act: fn(&Cluster, &Load) -> Result<()>,
}

const CASES: [Case; 9] = [
    Case { name: "nothing happens", act: |_, _| Ok(()) },
    Case { name: "scaled 1 to 5 to 2", act: scaled },
    Case { name: "updated, the new one first", act: updated },
    Case { name: "replicas killed with -9, five times", act: killed },
    Case { name: "every agent killed and started again", act: agents_killed },
    Case { name: "every mesh process replaced", act: meshes_replaced },
    Case { name: "the manager away for a while", act: manager_away },
    Case { name: "a node drained", act: drained },
    Case { name: "a node cut off and back", act: cut_off },
];

/// Runs every case and prints what it cost.
///
/// # Errors
/// It cannot be set up, or something does not come back.
pub fn run(options: &Options) -> Result<ExitCode> {
    let cluster = Cluster::start(Plan { release: true, ..Plan::lab(1, NODES) })?;
    cluster.load_mimic()?;
    let http = format!("published={PORT},target=8080,http,sticky,try-timeout=500ms");
    let create = ["service", "create", "--name", SERVICE, "--replicas", "3", "--update-order", "start-first"];
    let more = ["--restart-delay", "0s", "--drain", "5s", "--publish", &http, "--quiet", MIMIC_1];
    cluster.ctl().ok(&[&create[..], &more].concat())?;
    settle(&cluster)?;
    println!(
        "{} requests a second from outside the cluster, by all {NODES} nodes; 3 s patience, no second try",
        options.rate
    );
    println!("{:<40} {:>9} {:>7} {:>11}", "case", "requests", "failed", "slowest");
    let mut failed = 0;
    for case in &CASES {
        let outcome = live_through(&cluster, case, options).with_context(|| case.name)?;
        println!(
            "{:<40} {:>9} {:>7} {:>8} ms",
            case.name,
            outcome.asked,
            outcome.failed(),
            outcome.slowest.as_millis()
        );
        for (at, what) in outcome.failures.iter().take(5) {
            println!("    at {:.3} s: {what}", at.as_secs_f64());
        }
        failed += outcome.failed();
    }
    println!("{failed} requests failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn live_through(cluster: &Cluster, case: &Case, options: &Options) -> Result<Outcome> {
    // Every client waits for its answers, so that there are enough for a slow moment.
    let clients = 40u32;
    let load = Load::start(Clients {
        namespace: cluster.lab().switch().namespace().to_owned(),
        targets: targets(cluster, case.name),
        method: "GET",
        path: "/version".to_owned(),
        clients: clients as usize,
        every: Duration::from_secs(1) * clients / options.rate.max(1),
        keep_alive: true,
    });
    load.wait_for(options.requests / 10)?;
    (case.act)(cluster, &load)?;
    let rest = options.requests.saturating_sub(load.asked());
    load.wait_for(rest.max(options.requests / 10))?;
    let outcome = load.finish();
    settle(cluster)?;
    Ok(outcome)
}

/// Where clients ask: a node that is cut off is no place to ask.
fn targets(cluster: &Cluster, case: &str) -> Vec<std::net::SocketAddr> {
    let nodes = if case.contains("cut off") { NODES - 1 } else { NODES };
    (0..nodes).map(|index| (cluster.lab().host(index).address(), PORT).into()).collect()
}

/// Three replicas, and every node answers.
fn settle(cluster: &Cluster) -> Result<()> {
    cluster.ctl().ok(&["scale", &format!("{SERVICE}=3")])?;
    cluster.wait_healthy(SERVICE, 3, PATIENCE)?;
    for index in 0..NODES {
        let host = cluster.lab().host(index);
        wait::until_true(&format!("{} to answer", host.name()), PATIENCE, || {
            host.get((host.address(), PORT), "/version").is_ok_and(|answer| answer.status == 200)
        })?;
    }
    Ok(())
}

fn scaled(cluster: &Cluster, load: &Load) -> Result<()> {
    for count in [1, 5, 2] {
        cluster.ctl().ok(&["scale", &format!("{SERVICE}={count}")])?;
        load.wait_for(500)?;
    }
    Ok(())
}

fn updated(cluster: &Cluster, _: &Load) -> Result<()> {
    cluster.ctl().ok(&["service", "update", SERVICE, "--force", "--quiet"]).map(drop)
}

fn killed(cluster: &Cluster, load: &Load) -> Result<()> {
    for round in 0..5 {
        // One that was just killed may still be listed.
        cluster.ask("a replica to kill", PATIENCE, || {
            let running = cluster.containers(SERVICE).into_iter().filter(|container| container.running);
            let running: Vec<_> = running.collect();
            let container = running.get(round % running.len().max(1))?;
            let (node, _) = cluster.locate(container).ok()?;
            node.engine().docker(&["kill", "--signal", "KILL", &container.id]).ok()
        })?;
        load.wait_for(800)?;
    }
    Ok(())
}

fn agents_killed(cluster: &Cluster, load: &Load) -> Result<()> {
    for node in cluster.nodes() {
        node.agent().kill()?;
        load.wait_for(400)?;
        node.agent().start()?;
        load.wait_for(400)?;
    }
    Ok(())
}

/// As an upgrade does it: a new process asks the old one for its ports.
fn meshes_replaced(cluster: &Cluster, load: &Load) -> Result<()> {
    for (index, node) in cluster.nodes().iter().enumerate() {
        let host = cluster.lab().host(index);
        let mut command = host.command(node.agent().program());
        command.arg("mesh").arg("--dir").arg(node.agent().dir());
        let newcomer = host.spawn("newcomer", command)?;
        newcomer.wait_for_line("the mesh serves", PATIENCE)?;
        // It stays, as the old one did: it is nobody's child here.
        std::mem::forget(newcomer);
        load.wait_for(600)?;
    }
    Ok(())
}

fn manager_away(cluster: &Cluster, load: &Load) -> Result<()> {
    cluster.manager(0).kill()?;
    load.wait_for(2_000)?;
    cluster.manager(0).start()?;
    for node in cluster.nodes() {
        cluster.wait_node(node.name(), "ready", PATIENCE)?;
    }
    Ok(())
}

fn drained(cluster: &Cluster, load: &Load) -> Result<()> {
    let name = cluster.node(1).name();
    cluster.ctl().ok(&["node", "drain", name])?;
    load.wait_for(500)?;
    cluster.ctl().ok(&["node", "activate", name]).map(drop)
}

fn cut_off(cluster: &Cluster, load: &Load) -> Result<()> {
    let host = cluster.lab().host(NODES - 1);
    host.cut()?;
    load.wait_for(2_000)?;
    host.restore()?;
    cluster.wait_node(cluster.node(NODES - 1).name(), "ready", PATIENCE)
}
