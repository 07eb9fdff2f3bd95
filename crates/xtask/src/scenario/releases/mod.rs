//! `scenario releases`: the pipelines of deploy/gitlab release one service again and again, good images and bad ones, from a real
//! registry, while others use it; what each release cost them.

mod office;
mod pipeline;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Child, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use tests::cluster::ctl::Said;
use tests::cluster::{Cluster, PATIENCE, Plan};
use tests::image::MIMIC_1;
use tests::load::{Load, Outcome, Plan as Clients};
use tests::registry::{self, Registry};

use office::{Database, Office, PEOPLE, Shift};
use pipeline::Project;

const PORT: u16 = 80;
const SERVICE: &str = "ispyb";
const NODES: usize = 3;
const REPLICAS: u32 = 3;
const LOGIN: (&str, &str) = ("ci", "a secret of the project");
const STATUS: &str = "http:8080/ispyb/ispyb-ws/rest/schema/status,body-not=Exception";
/// What a new replica may take to start; a bad release is gone within this and [`SLACK`].
const START: Duration = Duration::from_secs(10);
const SLACK: Duration = Duration::from_secs(30);

/// Options of `scenario releases`.
#[derive(Args, Debug)]
pub struct Options {
    /// Requests while a good release comes, at least
    #[arg(long, default_value_t = 10_000)]
    requests: usize,
    /// Requests a second, beside the writer and the people
    #[arg(long, default_value_t = 300)]
    rate: u32,
    /// Only the cases whose name has this in it
    #[arg(long)]
    only: Option<String>,
    /// With programs that are not optimised, as the test suite has them
    #[arg(long)]
    debug: bool,
}

/// A release and what becomes of it.
struct Case {
    name: &'static str,
    /// Requests that must be sent meanwhile, as a part of `--requests`, in hundredths.
    share: usize,
    act: fn(&Stage<'_>) -> Result<()>,
}

const CASES: [Case; 14] = [
    Case { name: "a good image", share: 100, act: |stage| stage.lands("ENV MIMIC_VERSION=2") },
    Case { name: "another one, after a migration", share: 20, act: migrated },
    Case { name: "a migration that fails", share: 10, act: not_migrated },
    Case {
        name: "an image that fails its start",
        share: 10,
        act: |stage| stage.is_refused("ENV MIMIC_FAIL_INIT=3", "initialisation failed"),
    },
    Case {
        name: "one that answers 200 with an exception",
        share: 10,
        act: |stage| stage.is_refused("ENV MIMIC_BROKEN=1", "the body matches Exception"),
    },
    Case {
        name: "one that never gets ready",
        share: 10,
        act: |stage| stage.is_refused("ENV MIMIC_START_MS=3600000", ""),
    },
    Case {
        name: "one that fails while it is watched",
        share: 10,
        act: |stage| stage.is_refused("ENV MIMIC_BREAK_AFTER_MS=1500", "Exception"),
    },
    Case { name: "a canary first", share: 20, act: canary },
    Case { name: "an old digest again", share: 20, act: again },
    Case { name: "two pipelines at once", share: 20, act: two },
    Case { name: "the runner killed half-way", share: 20, act: killed },
    Case { name: "the registry down", share: 20, act: without_registry },
    Case { name: "inside beam time", share: 10, act: in_beam_time },
    Case { name: "back from the environments page", share: 20, act: back },
];

/// Everything that a case needs.
struct Stage<'a> {
    cluster: &'a Cluster,
    registry: &'a Registry,
    project: Project<'a>,
}

/// Runs every case and prints what it cost.
///
/// # Errors
/// It cannot be set up, a pipeline ends otherwise than it should, or something does not come back.
pub fn run(options: &Options) -> Result<ExitCode> {
    let cluster = Cluster::start(Plan { release: !options.debug, ..Plan::lab(1, NODES) })?;
    let plan = registry::Plan { login: Some(LOGIN), ..registry::Plan::default() };
    let registry = Registry::start(cluster.lab(), &plan)?;
    let first = publish(&cluster, &registry)?;
    log_in(&cluster, &registry)?;
    let database = Database::start(&cluster)?;
    create(&cluster, &first, &database)?;
    let project = Project::new(&cluster, &registry, LOGIN, SERVICE)?;
    let stage = Stage { cluster: &cluster, registry: &registry, project };
    println!(
        "{} requests a second, a writer of rows and {PEOPLE} people with sessions, by all {NODES} nodes; 3 s patience, no second try",
        options.rate
    );
    println!(
        "{:<40} {:>8} {:>6} {:>6} {:>7} {:>11}",
        "case", "requests", "rows", "looks", "failed", "slowest"
    );
    let mut total = Totals::default();
    let wanted = |case: &&Case| options.only.as_ref().is_none_or(|only| case.name.contains(only));
    for case in CASES.iter().filter(wanted) {
        let began = Instant::now();
        let (outcome, office) = live_through(&stage, &database, case, options).with_context(|| case.name)?;
        total.add(case, &outcome, &office, began.elapsed());
    }
    println!(
        "{} releases and ways back, {} requests, {} rows, {} looks ({} sessions moved): {} failed, {} rows lost or twice",
        total.cases, total.requests, total.rows, total.looks, total.moved, total.failed, total.wrong
    );
    Ok(if total.failed + total.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Default)]
struct Totals {
    cases: usize,
    requests: usize,
    rows: usize,
    looks: usize,
    moved: usize,
    failed: usize,
    wrong: usize,
}

impl Totals {
    fn add(&mut self, case: &Case, outcome: &Outcome, office: &Office, took: Duration) {
        let failed = outcome.failed() + office.failed;
        println!(
            "{:<40} {:>8} {:>6} {:>6} {:>7} {:>8} ms   ({:.0} s)",
            case.name,
            outcome.asked,
            office.rows,
            office.looks,
            failed,
            outcome.slowest.as_millis(),
            took.as_secs_f64()
        );
        for (at, what) in outcome.failures.iter().take(5) {
            println!("    at {:.3} s: {what}", at.as_secs_f64());
        }
        office.failures.iter().take(5).for_each(|what| println!("    {what}"));
        if office.wrong > 0 {
            println!("    {} rows were acknowledged and lost, or stored twice", office.wrong);
        }
        self.cases += 1;
        self.requests += outcome.asked;
        self.rows += office.rows;
        self.looks += office.looks;
        self.moved += office.moved;
        self.failed += failed;
        self.wrong += office.wrong;
    }
}

/// The base image and the first release, into the registry by its back door.
fn publish(cluster: &Cluster, registry: &Registry) -> Result<String> {
    let engine = cluster.node(0).engine();
    engine.load(&tests::image::mimic_archive()?)?;
    registry.push(engine, MIMIC_1, "base/mimic:1")?;
    let digest = registry.push(engine, MIMIC_1, "mx/ispyb:1")?;
    Ok(format!("{}@{digest}", registry.image("mx/ispyb")))
}

/// The cluster's own login there; no node has one.
fn log_in(cluster: &Cluster, registry: &Registry) -> Result<()> {
    let host = registry.address();
    let args = ["registry", "set", &host, "--username", LOGIN.0, "--password-stdin", "--plain-http"];
    let mut command = cluster.ctl().command(&args);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    child.stdin.take().context("its input")?.write_all(LOGIN.1.as_bytes())?;
    ensure!(child.wait()?.success(), "orchctl registry set failed");
    Ok(())
}

fn create(cluster: &Cluster, image: &str, database: &Database) -> Result<()> {
    let http = format!("published={PORT},target=8080,http,sticky,try-timeout=500ms");
    let replicas = REPLICAS.to_string();
    let database = format!("MIMIC_DATABASE={}", database.address());
    let start = format!("{STATUS},interval=200ms,deadline={}s", START.as_secs());
    let ready = format!("{STATUS},interval=300ms,failures=2");
    let args = [
        ["service", "create", "--name", SERVICE, "--replicas", &replicas, "--publish", &http],
        ["--env", &database, "--probe-startup", &start, "--probe-readiness", &ready, "--drain", "5s"],
        [
            "--update-failure-action",
            "rollback",
            "--update-monitor",
            "2s",
            "--restart-delay",
            "1s",
            "--quiet",
            image,
        ],
    ];
    cluster.ctl().ok(&args.concat())?;
    cluster.wait_healthy(SERVICE, REPLICAS as usize, PATIENCE).map(drop)
}

fn live_through(
    stage: &Stage<'_>,
    database: &Database,
    case: &Case,
    options: &Options,
) -> Result<(Outcome, Office)> {
    let targets: Vec<_> =
        (0..NODES).map(|index| (stage.cluster.lab().host(index).address(), PORT).into()).collect();
    // Every client waits for its answers, so that there are enough for a slow moment.
    let clients = 40u32;
    let load = Load::start(Clients {
        namespace: stage.cluster.lab().switch().namespace().to_owned(),
        targets: targets.clone(),
        method: "GET",
        path: "/version".to_owned(),
        clients: clients as usize,
        every: Duration::from_secs(1) * clients / options.rate.max(1),
        keep_alive: true,
    });
    let shift = Shift::begin(stage.cluster, database, &targets);
    let wanted = options.requests * case.share / 100;
    load.wait_for(wanted / 10)?;
    (case.act)(stage)?;
    let rest = wanted.saturating_sub(load.asked());
    load.wait_for(rest.max(wanted / 10))?;
    let (outcome, office) = (load.finish(), shift.end());
    stage.is_one_digest()?;
    Ok((outcome, office))
}

impl Stage<'_> {
    fn deploy(&self, image: &str) -> Result<Said> {
        self.project.run("orch:deploy", image, &[])
    }

    /// A release that lands.
    fn lands(&self, dockerfile: &str) -> Result<()> {
        let image = self.project.build(dockerfile)?;
        expect(&self.deploy(&image)?, 0, "is done")
    }

    /// A release that is rolled back, in time, with the reason.
    fn is_refused(&self, dockerfile: &str, why: &str) -> Result<()> {
        let image = self.project.build(dockerfile)?;
        let before = self.ids();
        let began = Instant::now();
        expect(&self.deploy(&image)?, 3, why)?;
        let took = began.elapsed();
        ensure!(took <= START + SLACK, "it took {} s to go back", took.as_secs());
        ensure!(self.ids() == before, "a replica of the release before was touched");
        Ok(())
    }

    /// The containers of the replicas.
    fn ids(&self) -> BTreeSet<String> {
        let running = self.cluster.containers(SERVICE).into_iter().filter(|container| container.running);
        running.map(|container| container.id).collect()
    }

    fn ctl(&self, args: &[&str]) -> Result<String> {
        self.cluster.ctl().ok(args)
    }

    fn image(&self) -> Result<String> {
        let service = self.cluster.service(SERVICE)?;
        let image = service["service"]["spec"]["template"]["container"]["image"].as_str();
        image.map(str::to_owned).context("a service with an image")
    }

    /// Every replica runs what is declared: there is never a mixture after a release.
    fn is_one_digest(&self) -> Result<()> {
        self.cluster.wait_healthy(SERVICE, REPLICAS as usize, PATIENCE)?;
        let image = self.image()?;
        for node in self.cluster.nodes() {
            let label = format!("label=orch.service={SERVICE}");
            let ours = ["ps", "--filter", &label, "--format", "{{.Image}}", "--no-trunc"];
            let mut images = node.engine().lines(&ours)?;
            images.retain(|other| *other != image);
            ensure!(images.is_empty(), "{} has {images:?} beside {image}", node.name());
        }
        Ok(())
    }
}

fn expect(said: &Said, code: i32, text: &str) -> Result<()> {
    ensure!(
        said.code == code && said.all().contains(text),
        "exit {}, not {code} with {text:?}: {}",
        said.code,
        said.all()
    );
    Ok(())
}

fn migrated(stage: &Stage<'_>) -> Result<()> {
    stage.ctl(&["service", "update", SERVICE, "--pre-deploy", "/mimic help", "--pre-deploy-migration"])?;
    stage.lands("ENV MIMIC_VERSION=3")?;
    let said = stage.ctl(&["logs", &format!("{SERVICE}.hook")])?;
    ensure!(said.contains("usage: mimic"), "the migration did not run: {said}");
    Ok(())
}

fn not_migrated(stage: &Stage<'_>) -> Result<()> {
    stage.ctl(&["service", "update", SERVICE, "--pre-deploy", "/mimic check"])?;
    stage.is_refused("ENV MIMIC_VERSION=4", "the pre-deploy hook failed")?;
    stage.ctl(&["service", "update", SERVICE, "--pre-deploy", ""]).map(drop)
}

fn canary(stage: &Stage<'_>) -> Result<()> {
    let image = stage.project.build("ENV MIMIC_VERSION=5")?;
    // The template's own watches it for ten minutes.
    let args = ["deploy", SERVICE, "--image", &image, "--canary", "1", "--soak", "5s", "--wait"];
    expect(&stage.cluster.ctl().say(&args), 0, "is done")
}

fn again(stage: &Stage<'_>) -> Result<()> {
    let old = stage.image()?;
    stage.lands("ENV MIMIC_VERSION=6")?;
    expect(&stage.deploy(&old)?, 0, "is done")?;
    expect(&stage.deploy(&old)?, 0, "already")
}

fn two(stage: &Stage<'_>) -> Result<()> {
    let (one, other) =
        (stage.project.build("ENV MIMIC_VERSION=7")?, stage.project.build("ENV MIMIC_VERSION=8")?);
    let first = stage.project.begin("orch:deploy", &one)?;
    under_way(stage, &one)?;
    expect(&stage.deploy(&other)?, 5, "is busy")?;
    expect(&ended(first)?, 0, "is done")?;
    expect(&stage.project.run("orch:deploy", &other, &[("ORCH_WAIT_BUSY", "1m")])?, 0, "is done")
}

fn killed(stage: &Stage<'_>) -> Result<()> {
    let image = stage.project.build("ENV MIMIC_VERSION=9")?;
    let mut runner = stage.project.begin("orch:deploy", &image)?;
    under_way(stage, &image)?;
    runner.kill()?;
    runner.wait()?;
    // Whoever looks again follows the same one.
    expect(&stage.deploy(&image)?, 0, "")
}

/// The way back and another replica need no registry; a new image does, and replicas stay as they are.
fn without_registry(stage: &Stage<'_>) -> Result<()> {
    stage.lands("ENV MIMIC_VERSION=20")?;
    let image = stage.project.build("ENV MIMIC_VERSION=10")?;
    stage.registry.stop()?;
    let back = stage.project.run("orch:rollback", "", &[])?;
    let scaled = stage.ctl(&["scale", &format!("{SERVICE}={}", REPLICAS + 1)]);
    let shrunk = stage.ctl(&["scale", &format!("{SERVICE}={REPLICAS}")]);
    let deployed = stage.deploy(&image);
    stage.registry.restart()?;
    expect(&back, 0, "")?;
    scaled.and(shrunk)?;
    expect(&deployed?, 3, &image)?;
    expect(&stage.deploy(&image)?, 0, "is done")
}

fn in_beam_time(stage: &Stage<'_>) -> Result<()> {
    let image = stage.project.build("ENV MIMIC_VERSION=11")?;
    stage.ctl(&["freeze", "set", "beam", "--for", "1h", "--reason", "MX-2345"])?;
    let before = stage.ids();
    expect(&stage.deploy(&image)?, 6, "MX-2345")?;
    ensure!(stage.ids() == before, "a replica was touched in beam time");
    let args = ["deploy", SERVICE, "--image", &image, "--at-next-window"];
    expect(&stage.cluster.ctl().say(&args), 0, "follow when their freeze ends")?;
    ensure!(stage.ids() == before, "a replica was touched in beam time");
    stage.ctl(&["freeze", "rm", "beam"])?;
    expect(&stage.deploy(&image)?, 0, "")
}

fn back(stage: &Stage<'_>) -> Result<()> {
    let before = stage.image()?;
    stage.lands("ENV MIMIC_VERSION=12")?;
    expect(&stage.project.run("orch:rollback", "", &[])?, 0, "")?;
    ensure!(stage.image()? == before, "{before} is not back");
    Ok(())
}

/// Waits until the release of this image is under way.
fn under_way(stage: &Stage<'_>, image: &str) -> Result<()> {
    let begun = || {
        let status = stage.cluster.ctl().json(&["deploy", "status", SERVICE]).ok()?;
        let ours = status["release"]["spec"]["template"]["container"]["image"] == image;
        (ours && status["rollout"]["state"] == "updating").then_some(())
    };
    stage.cluster.ask("the release to be under way", PATIENCE, begun)
}

fn ended(child: Child) -> Result<Said> {
    Ok(child.wait_with_output()?.into())
}
