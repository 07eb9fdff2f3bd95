//! The story: create, scale, crash a replica, lose a node, lose the leader, get everything back.
//!
//! Every time is counted from the instant of the fault or of the command, and ends with what the cluster or an engine
//! answers, not with an estimate.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::cluster::containers::{self, Container};
use tests::cluster::view::Task;
use tests::cluster::{Cluster, Node};
use tests::image::MIMIC_CHECKED;
use tests::wait;

use super::stage::Stage;

const SERVICE: &str = "ispyb";
/// Between two looks; each costs a process of some 10 ms.
const LOOK: Duration = Duration::from_millis(5);
/// A loaded machine starts containers at two a second.
const PATIENCE: Duration = Duration::from_secs(120);

/// Tells it.
///
/// # Errors
/// The cluster does not do in two minutes what the story says.
pub fn tell(stage: &mut Stage, cluster: &Cluster) -> Result<()> {
    let story = Story { cluster };
    story.create(stage)?;
    story.scale(stage)?;
    story.crash(stage)?;
    let lost = story.lose_node(stage)?;
    let leader = story.lose_leader(stage)?;
    story.return_all(stage, lost, leader)?;
    stage.summary();
    Ok(())
}

struct Story<'a> {
    cluster: &'a Cluster,
}

impl Story<'_> {
    fn create(&self, stage: &mut Stage) -> Result<()> {
        stage.scene("A service of three replicas");
        let begun = Instant::now();
        self.type_in(
            stage,
            &["service", "create", "--name", SERVICE, "--replicas", "3", "--detach", MIMIC_CHECKED],
        )?;
        stage.mark("three replicas run", self.until_running(begun, 3)?);
        stage.mark("  and pass their health checks (first one after 1 s)", self.until_healthy(begun, 3)?);
        self.show(stage)
    }

    fn scale(&self, stage: &mut Stage) -> Result<()> {
        stage.scene("Five are better");
        let begun = Instant::now();
        self.type_in(stage, &["scale", &format!("{SERVICE}=5"), "--detach"])?;
        stage.mark("scale 3 -> 5: all run", self.until_running(begun, 5)?);
        stage.time("  and are healthy", self.until_healthy(begun, 5)?);
        self.show(stage)
    }

    fn crash(&self, stage: &mut Stage) -> Result<()> {
        stage.scene("A replica crashes");
        let victim = self.containers().into_iter().find(|c| c.running).context("no replica runs")?;
        stage.command(&format!("curl http://{SERVICE}.{}:8080/crash?code=42", victim.slot));
        let (node, address) = self.cluster.locate(&victim)?;
        let begun = Instant::now();
        // It dies before it can answer.
        drop(node.get(address, "/crash?code=42"));
        let took = self.took(begun, "the crashed replica to run again", || {
            let again = |c: &Container| c.running && c.slot == victim.slot && c.id != victim.id;
            containers::on(node.engine(), SERVICE).is_ok_and(|found| found.iter().any(again))
        })?;
        stage.mark("crashed replica runs again, same node, no manager asked", took);
        stage.time("  and is healthy", self.until_healthy(begun, 5)?);
        self.show(stage)
    }

    fn lose_node(&self, stage: &mut Stage) -> Result<usize> {
        stage.scene("A node dies");
        let tasks = self.cluster.tasks(SERVICE)?;
        // Not the first: the most loaded of the others makes the better story.
        let load = |node: &Node| tasks.iter().filter(|task| task.node == node.name()).count();
        let lost = (1..self.cluster.nodes().len())
            .max_by_key(|index| load(self.cluster.node(*index)))
            .context("three nodes")?;
        let node = self.cluster.node(lost);
        let replicas = load(node);
        let begun = Instant::now();
        match node.agent().seat().host() {
            Some(host) => {
                host.power_off()?;
                stage.say(&format!(
                    "{} loses its power, with its engine and {replicas} replicas",
                    node.name()
                ));
            }
            None => {
                node.agent().kill()?;
                stage.say(&format!(
                    "the agent of {} is killed (with one engine a node cannot lose its power: its {replicas} \
                     containers go on until it is back)",
                    node.name()
                ));
            }
        }
        let name = node.name().to_owned();
        let down = self.took(begun, "the node to be down", || {
            self.cluster.node_state(&name).is_ok_and(|s| s == "down")
        })?;
        stage.time("it is known to be down", down);
        let elsewhere = |tasks: &[Task]| running(tasks).filter(|task| task.node != name).count() == 5;
        stage.mark(
            "node killed: five replicas run elsewhere",
            self.until(begun, "five elsewhere", elsewhere)?,
        );
        stage.time("  and are healthy", self.until_healthy(begun, 5)?);
        self.show(stage)?;
        Ok(lost)
    }

    fn lose_leader(&self, stage: &mut Stage) -> Result<usize> {
        stage.scene("The leading manager is killed");
        let leader = self.cluster.leader()?;
        let name = self.cluster.manager(leader).name().to_owned();
        stage.say(&format!("kill -9 {name}, which leads"));
        let begun = Instant::now();
        self.cluster.manager(leader).kill()?;
        self.type_in(stage, &["scale", &format!("{SERVICE}=6"), "--detach"])?;
        stage.mark("leader killed: next change accepted", begun.elapsed());
        stage.time("  and all six run", self.until_running(begun, 6)?);
        let next = self.cluster.leader()?;
        stage.say(&format!(
            "{} leads now; no container was restarted for it",
            self.cluster.manager(next).name()
        ));
        Ok(leader)
    }

    fn return_all(&self, stage: &mut Stage, lost: usize, leader: usize) -> Result<()> {
        stage.scene("Everything comes back");
        let node = self.cluster.node(lost);
        let begun = Instant::now();
        self.cluster.manager(leader).start()?;
        if let Some(host) = node.agent().seat().host() {
            host.power_on()?;
            host.engine().start()?;
        }
        let booted = Instant::now();
        node.agent().start()?;
        let ready = self.took(booted, "the node to be ready", || {
            self.cluster.node_state(node.name()).is_ok_and(|state| state == "ready")
        })?;
        stage.mark("returned node is ready, from its agent's start", ready);
        let voters = self.took(begun, "three managers to be there", || {
            let members = self.cluster.members().unwrap_or_default();
            members.iter().filter(|member| member.voter && member.reachable).count() == 3
        })?;
        stage.time("three managers vote again", voters);
        self.until_healthy(begun, 6)?;
        self.cluster.wait_one_per_slot(SERVICE, 6, PATIENCE)?;
        stage.say("counted at the engines themselves: six containers, one for each slot, none twice");
        self.show(stage)?;
        self.status(stage)
    }

    fn status(&self, stage: &Stage) -> Result<()> {
        self.type_in(stage, &["status"]).map(|text| stage.quote(&text))
    }

    /// Prints a command, runs it, and returns what it printed.
    fn type_in(&self, stage: &Stage, args: &[&str]) -> Result<String> {
        stage.command(&format!("orchctl {}", args.join(" ")));
        self.cluster.ctl().ok(args)
    }

    fn show(&self, stage: &Stage) -> Result<()> {
        stage.quote(&self.cluster.ctl().ok(&["ps", "--service", SERVICE])?);
        Ok(())
    }

    fn containers(&self) -> Vec<Container> {
        self.cluster.containers(SERVICE)
    }

    fn until_running(&self, begun: Instant, count: usize) -> Result<Duration> {
        self.until(begun, &format!("{count} replicas to run"), |tasks| running(tasks).count() == count)
    }

    fn until_healthy(&self, begun: Instant, count: usize) -> Result<Duration> {
        self.until(begun, &format!("{count} healthy replicas"), |tasks| {
            running(tasks).filter(|task| task.is_healthy()).count() == count
        })
    }

    fn until(&self, begun: Instant, what: &str, condition: impl Fn(&[Task]) -> bool) -> Result<Duration> {
        self.took(begun, what, || self.cluster.tasks(SERVICE).is_ok_and(|tasks| condition(&tasks)))
    }

    fn took(&self, begun: Instant, what: &str, mut condition: impl FnMut() -> bool) -> Result<Duration> {
        let told =
            || format!("{}\n{}", self.cluster.ctl().say(&["ps", "--all"]).all(), self.cluster.last_words());
        let took = wait::until_every(LOOK, what, PATIENCE, || condition().then(|| begun.elapsed()));
        let took = took.with_context(told)?;
        ensure!(took < PATIENCE, "{what}: {took:?}");
        Ok(took)
    }
}

fn running(tasks: &[Task]) -> impl Iterator<Item = &Task> {
    tasks.iter().filter(|task| task.desired == "running" && task.state == "running")
}
