//! `scenario traffic`: clients at a fixed rate, in front of everything that happens to replicas, nodes, agents and managers; what
//! each case cost, in requests.

mod jvm;
mod uploads;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use tests::cluster::{Cluster, Container, PATIENCE, Plan};
use tests::image::MIMIC_1;
use tests::load::{Load, Outcome, Plan as Clients};
use tests::wait;

/// What clients ask.
const PORT: u16 = 80;
const SERVICE: &str = "ispyb";
/// Where clients in containers find it by its name.
const NETWORK: &str = "beamline";
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
    /// Only the cases whose name has this in it
    #[arg(long)]
    only: Option<String>,
    /// With programs that are not optimised, as the test suite has them
    #[arg(long)]
    debug: bool,
}

/// One thing that happens while clients ask.
struct Case {
    name: &'static str,
    act: fn(&Cluster, &Load) -> Result<Beside>,
}

/// What other clients got than those of the load.
#[derive(Debug, Default)]
struct Beside {
    what: &'static str,
    asked: usize,
    failures: Vec<String>,
}

/// Only the load is there.
fn alone(acted: Result<()>) -> Result<Beside> {
    acted.map(|()| Beside::default())
}

const CASES: [Case; 13] = [
    Case { name: "nothing happens", act: |_, _| Ok(Beside::default()) },
    Case { name: "scaled 1 to 5 to 2", act: |cluster, load| alone(scaled(cluster, load)) },
    Case { name: "updated, the new one first", act: |cluster, _| alone(updated(cluster)) },
    Case { name: "replicas killed with -9, five times", act: |cluster, load| alone(killed(cluster, load)) },
    Case {
        name: "every agent killed and started again",
        act: |cluster, load| alone(agents_killed(cluster, load)),
    },
    Case { name: "every mesh process replaced", act: |cluster, load| alone(meshes_replaced(cluster, load)) },
    Case { name: "the manager away for a while", act: |cluster, load| alone(manager_away(cluster, load)) },
    Case { name: "a node drained", act: |cluster, load| alone(drained(cluster, load)) },
    Case {
        name: "replicas out of memory, three times",
        act: |cluster, load| alone(out_of_memory(cluster, load)),
    },
    Case { name: "a replica that hangs with its port open", act: hung },
    Case { name: "slow uploads, scaled and updated", act: uploaded },
    Case { name: "a JVM that keeps a name for ever", act: kept_by_a_jvm },
    Case { name: "a node cut off and back", act: |cluster, load| alone(cut_off(cluster, load)) },
];

/// Runs every case and prints what it cost.
///
/// # Errors
/// It cannot be set up, or something does not come back.
pub fn run(options: &Options) -> Result<ExitCode> {
    let cluster = Cluster::start(Plan { release: !options.debug, ..Plan::lab(1, NODES) })?;
    cluster.load_mimic()?;
    cluster.ctl().ok(&["network", "create", NETWORK])?;
    let http = format!("published={PORT},target=8080,http,sticky,try-timeout=500ms");
    let create = ["service", "create", "--name", SERVICE, "--replicas", "3", "--update-order", "start-first"];
    let more = ["--restart-delay", "0s", "--drain", "5s", "--publish", &http, "--quiet"];
    let place = ["--network", NETWORK, "--limit-memory", "64m", MIMIC_1];
    cluster.ctl().ok(&[&create[..], &more, &place].concat())?;
    settle(&cluster)?;
    println!(
        "{} requests a second from outside the cluster, by all {NODES} nodes; 3 s patience, no second try",
        options.rate
    );
    println!("{:<40} {:>9} {:>7} {:>11}", "case", "requests", "failed", "slowest");
    let mut failed = 0;
    let wanted = |case: &&Case| options.only.as_ref().is_none_or(|only| case.name.contains(only));
    for case in CASES.iter().filter(wanted) {
        if case.name.contains("JVM") && !jvm::can_be_made() {
            println!("{:<40} not run: this machine has no JDK (javac, jlink)", case.name);
            continue;
        }
        let (outcome, beside) = live_through(&cluster, case, options).with_context(|| case.name)?;
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
        if beside.asked > 0 {
            println!("    beside: {} {}, {} failed", beside.asked, beside.what, beside.failures.len());
        }
        for what in beside.failures.iter().take(5) {
            println!("    {what}");
        }
        failed += outcome.failed() + beside.failures.len();
    }
    println!("{failed} requests failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn live_through(cluster: &Cluster, case: &Case, options: &Options) -> Result<(Outcome, Beside)> {
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
    let beside = (case.act)(cluster, &load)?;
    let rest = options.requests.saturating_sub(load.asked());
    load.wait_for(rest.max(options.requests / 10))?;
    let outcome = load.finish();
    settle(cluster)?;
    Ok((outcome, beside))
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

fn updated(cluster: &Cluster) -> Result<()> {
    cluster.ctl().ok(&["service", "update", SERVICE, "--force", "--quiet"]).map(drop)
}

fn killed(cluster: &Cluster, load: &Load) -> Result<()> {
    for round in 0..5 {
        hit(cluster, round, |container| {
            let (node, _) = cluster.locate(container).ok()?;
            node.engine().docker(&["kill", "--signal", "KILL", &container.id]).ok()
        })?;
        load.wait_for(800)?;
    }
    Ok(())
}

/// The kernel kills it in the middle of whatever it does; the answer to the request that made it so never comes.
fn out_of_memory(cluster: &Cluster, load: &Load) -> Result<()> {
    for round in 0..3 {
        hit(cluster, round, |container| {
            drop(cluster.get(container, "/leak?mb=200"));
            Some(String::new())
        })?;
        load.wait_for(1_000)?;
    }
    Ok(())
}

/// It takes connections and says nothing: two answers that do not come take it out, and one request at a time looks whether it is back.
fn hung(cluster: &Cluster, load: &Load) -> Result<Beside> {
    let one = || {
        let running = cluster.containers(SERVICE).into_iter().find(|container| container.running)?;
        cluster.get(&running, "/hang").ok().map(|_| running)
    };
    let victim = cluster.ask("a replica to hang", PATIENCE, one)?;
    load.wait_for(3_000)?;
    let (node, _) = cluster.locate(&victim)?;
    let lines = node.engine().lines(&["logs", &victim.id])?;
    let met = lines.iter().filter(|line| line.contains("GET /version hangs")).count();
    node.engine().docker(&["kill", "--signal", "KILL", &victim.id])?;
    load.wait_for(500)?;
    Ok(Beside { what: "requests met the hung replica", asked: met, failures: Vec::new() })
}

/// Does something to a replica; one that was just hit may still be listed.
fn hit(cluster: &Cluster, round: usize, act: impl Fn(&Container) -> Option<String>) -> Result<()> {
    let one = || {
        let running = cluster.containers(SERVICE).into_iter().filter(|container| container.running);
        let running: Vec<_> = running.collect();
        act(running.get(round % running.len().max(1))?)
    };
    cluster.ask("a replica to hit", PATIENCE, one).map(drop)
}

fn uploaded(cluster: &Cluster, load: &Load) -> Result<Beside> {
    let namespace = cluster.lab().switch().namespace();
    uploads::meanwhile(namespace, &targets(cluster, ""), || {
        load.wait_for(1_000)?;
        scaled(cluster, load)?;
        updated(cluster)?;
        load.wait_for(1_000)
    })
}

fn kept_by_a_jvm(cluster: &Cluster, load: &Load) -> Result<Beside> {
    let jvm = jvm::Jvm::start(cluster)?;
    scaled(cluster, load)?;
    updated(cluster)?;
    load.wait_for(1_000)?;
    jvm.end()
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
